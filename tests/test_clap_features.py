import numpy as np
import pytest
import torch
from tiny_clap import MAX_SAMPLES, RATE, extractor_of, sound, stock_of

from hf_musiclf.features.clap import ClapFeatures
from hf_musiclf.models.feature_extraction_clap import ClapWindowFeatureExtractor

# dB; ours is a float64 transform and float32 mels, the reference float64 rounded to complex64.
TOLERANCE = 1e-4


def by_extractor(extractor, waveforms, key="input_features"):
    """`(batch, channels, frames, mels)` of the extractor, one window at a time."""
    made = [extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt") for waveform in waveforms]
    return torch.cat([one[key] for one in made])


def batch_of(waveforms):
    batch = torch.zeros(len(waveforms), max(map(len, waveforms)))
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return batch, torch.tensor([len(waveform) for waveform in waveforms])


def assert_equal(ours, expected):
    torch.testing.assert_close(ours, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("truncation, channels", [("rand_trunc", 1), ("fusion", 4)])
def test_whole_windows_are_those_of_the_extractor(truncation, channels):
    extractor = extractor_of(truncation)
    waveforms = [sound(MAX_SAMPLES, seed) for seed in range(3)]
    made = ClapFeatures(extractor)(torch.tensor(np.stack(waveforms)))
    assert made["input_features"].shape == (3, channels, 201, 64)
    assert made["input_features"].dtype == torch.float32
    assert made["is_longer"].shape == (3, 1) and not made["is_longer"].any()
    assert_equal(made["input_features"], by_extractor(extractor, waveforms))


def test_the_published_settings_at_48_khz():
    extractor = ClapWindowFeatureExtractor(truncation="rand_trunc")
    waveform = sound(480_000)
    features = ClapFeatures(extractor)
    made = features(torch.from_numpy(waveform)[None])["input_features"]
    assert made.shape == (1, 1, 1001, 64) and features.window_seconds == 10
    assert_equal(made, by_extractor(extractor, [waveform]))


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
def test_silence_tones_clicks_and_full_scale(truncation):
    """Beside a pure tone the spectrum is near the floor, where a transform in float32 would be off by 0.04 dB."""
    extractor, times = extractor_of(truncation), np.arange(MAX_SAMPLES) / RATE
    click = np.zeros(MAX_SAMPLES)
    click[5_000] = 1.0
    waveforms = [np.zeros(MAX_SAMPLES), np.sin(2 * np.pi * 1_000 * times), click, np.ones(MAX_SAMPLES)]
    waveforms = [waveform.astype(np.float32) for waveform in waveforms]
    ours = ClapFeatures(extractor)(torch.tensor(np.stack(waveforms)))["input_features"]
    assert (ours[0] == -100).all()
    assert_equal(ours, by_extractor(extractor, waveforms))


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
def test_short_windows_are_repeated_and_padded(truncation, padding):
    extractor = extractor_of(truncation, padding=padding)
    samples = [1, 7, 127, 1_000, 5_333, MAX_SAMPLES // 2, MAX_SAMPLES // 2 + 1, MAX_SAMPLES - 1, MAX_SAMPLES]
    waveforms = [sound(count, seed=count) for count in samples]
    expected = by_extractor(extractor, waveforms)
    assert_equal(ClapFeatures(extractor)(*batch_of(waveforms))["input_features"], expected)
    assert_equal(ClapFeatures(extractor)(*batch_of(waveforms[:5]))["input_features"], expected[:5])
    alone = ClapFeatures(extractor)(torch.from_numpy(waveforms[4])[None])["input_features"]
    assert_equal(alone, expected[4:5])


@pytest.mark.parametrize("more", [1, 79, 80, 81, 160, 240, 5_000, 3 * MAX_SAMPLES])
def test_long_windows_are_fused(more):
    extractor = extractor_of("fusion", window_seconds=8.0)
    lengths = [MAX_SAMPLES + more, 3_000, MAX_SAMPLES + more // 2, MAX_SAMPLES + more]
    waveforms = [sound(length, seed) for seed, length in enumerate(lengths)]
    made = ClapFeatures(extractor)(*batch_of(waveforms))
    assert_equal(made["input_features"], by_extractor(extractor, waveforms))
    assert torch.equal(made["is_longer"], by_extractor(extractor, waveforms, "is_longer"))
    # Less than a hop too long makes no frame more, so that there is nothing to fuse.
    assert made["is_longer"].tolist() == [[more >= 80], [False], [more // 2 >= 80], [more >= 80]]


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize("window_seconds", [0.7, 2.0, 3.5, None])
def test_the_first_window_is_heard(truncation, window_seconds):
    extractor = extractor_of(truncation, window_seconds=window_seconds)
    features, waveform = ClapFeatures(extractor), sound(5 * MAX_SAMPLES)
    seconds = window_seconds or 2.0
    heard = round((seconds if truncation == "fusion" else min(seconds, 2)) * RATE)
    batch, lengths = batch_of([waveform, waveform[:1_000]])
    for make in (
        lambda sounds: by_extractor(extractor, sounds),
        lambda sounds: features(*batch_of(sounds))["input_features"],
    ):
        assert torch.equal(make([waveform, waveform[:1_000]]), make([waveform[:heard], waveform[:1_000]]))
    assert_equal(features(batch, lengths)["input_features"], by_extractor(extractor, [waveform, waveform[:1_000]]))


def test_nothing_is_drawn():
    for truncation in ("rand_trunc", "fusion"):
        extractor = extractor_of(truncation, window_seconds=5.0)
        waveforms = [sound(3 * MAX_SAMPLES), sound(3 * MAX_SAMPLES, seed=1), sound(1_000)]
        for sounds in (waveforms, waveforms[2:]):
            made = [extractor(sounds, sampling_rate=RATE, return_tensors="pt") for _ in range(2)]
            assert all(torch.equal(made[0][key], made[1][key]) for key in ("input_features", "is_longer"))
            ours = [ClapFeatures(extractor)(*batch_of(sounds)) for _ in range(2)]
            assert all(torch.equal(ours[0][key], ours[1][key]) for key in ours[0])


def test_a_batch_is_its_windows_one_by_one():
    for truncation in ("rand_trunc", "fusion"):
        features = ClapFeatures(extractor_of(truncation))
        batch, lengths = batch_of([sound(count, seed=count) for count in (MAX_SAMPLES, 9_000, 500)])
        whole = features(batch, lengths)["input_features"]
        for row, (waveform, length) in enumerate(zip(batch, lengths, strict=True)):
            assert torch.equal(whole[row], features(waveform[None, :length])["input_features"][0])


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize(
    "settings",
    [
        dict(fft_window_size=400, hop_length=100),
        dict(fft_window_size=255, hop_length=77),
        dict(feature_size=20),
        dict(feature_size=40, frequency_min=100, frequency_max=2_500),
        dict(max_length_s=1),
        dict(feature_size=20, max_length_s=1, window_seconds=2),
        dict(top_db=20, padding_value=0.5),  # of no effect in the stock extractor either
    ],
)
def test_other_settings_are_obeyed(truncation, settings):
    extractor = extractor_of(truncation, **settings)
    features = ClapFeatures(extractor)
    waveforms = [sound(round(features.window_seconds * RATE)), sound(3_000, seed=1)]
    assert_equal(features(*batch_of(waveforms))["input_features"], by_extractor(extractor, waveforms))


def test_features_stay_in_single_precision_under_autocast():
    features, waveforms = ClapFeatures(extractor_of()), torch.from_numpy(sound(MAX_SAMPLES))[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = features(waveforms)["input_features"]
    assert torch.equal(mixed, features(waveforms)["input_features"])


def test_the_window_that_a_model_was_fitted_to_is_saved(tmp_path):
    extractor_of("fusion", window_seconds=5.5).save_pretrained(tmp_path)
    loaded = ClapFeatures(ClapWindowFeatureExtractor.from_pretrained(tmp_path))
    assert loaded.window_seconds == loaded.extractor.window_seconds == 5.5
    assert loaded.max_samples == MAX_SAMPLES and loaded.fused


def test_of_a_stock_extractor_the_window_is_its_max_length():
    stock = stock_of(extractor_of("fusion"))
    features, waveform = ClapFeatures(stock), sound(2 * MAX_SAMPLES)
    assert features.window_seconds == 2
    made = features(torch.from_numpy(waveform)[None])["input_features"]
    assert_equal(made, by_extractor(stock, [waveform[:MAX_SAMPLES]]))


def test_what_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="has no samples"):
        ClapFeatures(extractor_of())(torch.zeros(2, 100), torch.tensor([100, 0]))
    with pytest.raises(ValueError, match=r"max_length_s=1e-05 makes 0\.08 samples"):
        ClapFeatures(extractor_of(max_length_s=0.00001))
    with pytest.raises(ValueError, match="truncation='middle' of the extractor is none of rand_trunc, fusion"):
        ClapFeatures(extractor_of("middle"))
