"""The spectrogram: that of the original, in batches as one by one."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from transformers import AutoFeatureExtractor

from hf_musiclf.features.efficientat import EfficientAtFeatures
from hf_musiclf.models.efficientat import EfficientAtConfig, EfficientAtForAudioClassification
from hf_musiclf.models.families import efficientat
from hf_musiclf.models.feature_extraction_efficientat import EfficientAtFeatureExtractor, _filters

PUBLISHED = Path(__file__).parents[1] / "../shared/checkpoints/efficientat"
RATE = 32_000


def sound(samples, seed=0):
    rng = np.random.default_rng(seed)
    tones = 0.3 * np.sin(2 * np.pi * rng.uniform(50, 9_000) * np.arange(samples) / RATE)
    return (tones + 0.05 * rng.standard_normal(samples)).clip(-1, 1).astype(np.float32)


def batch_of(waveforms):
    batch = torch.zeros(len(waveforms), max(map(len, waveforms)))
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return batch, torch.tensor([len(waveform) for waveform in waveforms])


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published checkpoint is not beside the repository")
def test_the_spectrogram_is_that_of_the_original():
    golden = np.load(PUBLISHED / "golden.npz")
    waveforms = (golden["waveform_int16"] / 32767).astype(np.float32)
    extractor = EfficientAtFeatureExtractor()
    made = extractor(waveforms, sampling_rate=RATE, return_tensors="np")["input_values"]
    assert made.shape == (2, 1000, 128) and made.dtype == np.float32
    # Values up to 2 in float16 are 1e-3 apart, and rounded to the nearest.
    np.testing.assert_allclose(made.transpose(0, 2, 1), golden["mel"].astype(np.float32), atol=6e-4, rtol=0)
    batch = EfficientAtFeatures(extractor)(torch.from_numpy(waveforms))["input_values"]
    np.testing.assert_array_equal(batch.numpy(), made)


def test_a_frame_is_what_the_specification_says():
    """The tenth frame by hand, in float64."""
    extractor, samples = EfficientAtFeatureExtractor(window_seconds=1.0), sound(RATE)
    emphasised = samples[1:].astype(np.float64) - 0.97 * samples[:-1]
    start = 10 * 320 - 400  # centred: the first frame has its middle at the first sample
    power = np.abs(np.fft.rfft(emphasised[start : start + 800] * np.hanning(800), 1024)) ** 2
    banks, _ = torchaudio.compliance.kaldi.get_mel_banks(128, 1024, RATE, 0.0, 15_000.0, 100.0, -500.0, 1.0)
    expected = (np.log(banks.double().numpy() @ power[:512] + 1e-5) + 4.5) / 5
    made = extractor(samples, sampling_rate=RATE, return_tensors="np")["input_values"]
    assert made.shape == (1, 100, 128)
    np.testing.assert_allclose(made[0, 10], expected, atol=1e-4, rtol=0)


def test_the_filters_are_kaldis():
    banks, _ = torchaudio.compliance.kaldi.get_mel_banks(128, 1024, RATE, 0.0, 15_000.0, 100.0, -500.0, 1.0)
    ours = _filters(1024, 128, 0.0, 15_000.0, RATE, torch.device("cpu"))
    torch.testing.assert_close(ours, torch.nn.functional.pad(banks, (0, 1)).T, atol=2e-5, rtol=0)


@pytest.mark.parametrize("window_seconds", [0.5, 1.0, 1.28])
def test_batches_are_the_extractors_windows_one_by_one(window_seconds):
    extractor = EfficientAtFeatureExtractor(window_seconds=window_seconds)
    features = EfficientAtFeatures(extractor)
    assert features.window_seconds == window_seconds and features.sampling_rate == RATE
    waveforms = [sound(count, seed=count) for count in (1, 2, 319, 513, 9_000, 16_000, 32_000, 50_000)]
    singly = [extractor(w, sampling_rate=RATE, return_tensors="pt")["input_values"] for w in waveforms]
    together = extractor(waveforms, sampling_rate=RATE, return_tensors="pt")["input_values"]
    batch = features(*batch_of(waveforms))["input_values"]
    assert batch.shape == (8, 1 + (round(window_seconds * RATE) - 1) // 320, 128)
    assert torch.equal(batch, torch.cat(singly)) and torch.equal(batch, together)
    # On a GPU all are made at once.
    torch.testing.assert_close(extractor.log_mel(extractor.fit(batch_of(waveforms)[0])), batch, atol=1e-4, rtol=0)


def test_short_clips_end_in_silence_and_long_ones_are_cut():
    extractor = EfficientAtFeatureExtractor(window_seconds=1.0)
    short, long = sound(16_000), sound(48_000)
    silence = (np.log(1e-5) + 4.5) / 5
    made = extractor([short, long, long[:RATE]], return_tensors="np")["input_values"]
    np.testing.assert_allclose(made[0, 52:], silence, atol=1e-6)
    assert (made[0, :50].max(-1) > silence + 0.1).all()
    np.testing.assert_array_equal(made[1], made[2])


def test_arrays_lists_and_tensors_are_taken():
    extractor, samples = EfficientAtFeatureExtractor(window_seconds=0.1), sound(3_200)
    expected = extractor(samples, return_tensors="np")["input_values"]
    for speech in (samples.astype(np.float64), samples.tolist(), torch.from_numpy(samples), [samples], samples[None]):
        np.testing.assert_array_equal(extractor(speech, return_tensors="np")["input_values"], expected)
    plain = extractor(samples)["input_values"]
    assert isinstance(plain, list) and plain[0].shape == (10, 128)


def test_features_stay_in_single_precision_under_autocast():
    extractor, samples = EfficientAtFeatureExtractor(window_seconds=0.5), torch.from_numpy(sound(16_000))[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = EfficientAtFeatures(extractor)(samples)["input_values"]
    assert torch.equal(mixed, EfficientAtFeatures(extractor)(samples)["input_values"])


def test_settings_are_saved(tmp_path):
    EfficientAtFeatureExtractor(feature_size=64, window_seconds=5.5, frequency_max=8_000.0).save_pretrained(tmp_path)
    EfficientAtConfig().save_pretrained(tmp_path)
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(loaded) is EfficientAtFeatureExtractor and loaded.window_seconds == 5.5
    assert loaded(sound(8_000), return_tensors="np")["input_values"].shape == (1, 550, 64)
    assert (tmp_path / "feature_extraction_efficientat.py").exists()


def test_what_makes_no_spectrogram_is_refused():
    extractor = EfficientAtFeatureExtractor(window_seconds=0.5)
    with pytest.raises(ValueError, match="sampling_rate=44100 Hz: this EfficientAT takes 32000 Hz; resample"):
        extractor(sound(100), sampling_rate=44_100)
    with pytest.raises(ValueError, match="has no samples"):
        extractor(np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="has 2 axes; EfficientAT takes mono"):
        extractor(np.zeros((1, 2, 100), np.float32))
    with pytest.raises(ValueError, match="has no samples"):
        EfficientAtFeatures(extractor)(torch.zeros(2, 100), torch.tensor([100, 0]))
    with pytest.raises(ValueError, match=r"window_seconds=0.01 is 320 samples; .* needs 514, 0\.016 s"):
        EfficientAtFeatureExtractor(window_seconds=0.01)
    with pytest.raises(ValueError, match=r"frequency_max=15000.0 Hz must rise and stay within 8000 Hz"):
        EfficientAtFeatureExtractor(sampling_rate=16_000)
    with pytest.raises(ValueError, match="win_length=2000"):
        EfficientAtFeatureExtractor(win_length=2_000)


def test_the_shortest_window_goes_through_the_network():
    extractor = EfficientAtFeatureExtractor(window_seconds=514 / RATE)
    model = EfficientAtForAudioClassification(EfficientAtConfig(width_mult=0.1)).eval()
    made = efficientat.make_features(extractor)(torch.from_numpy(sound(514))[None])
    assert made["input_values"].shape == (1, 2, 128)
    assert torch.isfinite(model(**made).logits).all()
