"""What wav2vec 2.0, Whisper and w2v-BERT hear is what their stock extractors make of each window."""

import numpy as np
import pytest
import torch
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from hf_musiclf.features.w2v_bert import W2vBertFeatures, least_samples, stacked_frames
from hf_musiclf.features.waveforms import WaveformFeatures
from hf_musiclf.features.whisper import WhisperFeatures

RATE = 16_000
SHORT = [RATE, 9_999, 5_360, 5_361, 720, 560]  # samples: odd and even numbers of frames, down to two


def music(samples, seed=0):
    """Tones, noise bursts and silence, off centre."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    tone = 0.3 * np.sin(2 * np.pi * (220 + 40 * seed) * time) * (np.sin(2 * np.pi * 4 * time) > -0.2)
    burst = 0.1 * rng.standard_normal(samples) * (np.sin(2 * np.pi * 3 * time) > 0.3)
    return (tone + burst + 0.05 * seed).astype(np.float32)


def batch_of(waveforms):
    """With something behind the short ones, which nobody is to hear."""
    batch = torch.full((len(waveforms), max(map(len, waveforms))), 0.7)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return batch, torch.tensor([len(waveform) for waveform in waveforms])


def alone(extractor, waveform):
    return extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt")


def assert_close(ours, expected, tolerance=1e-5):
    torch.testing.assert_close(ours, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("settings", [{}, dict(do_normalize=False), dict(padding_value=-1.0)])
def test_each_waveform_is_that_of_the_stock_extractor_with_padding_behind(mask, settings):
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=mask, **settings)
    waveforms = [music(samples, seed) for seed, samples in enumerate(SHORT)]
    made = WaveformFeatures(extractor)(*batch_of(waveforms))
    assert set(made) == ({"input_values", "attention_mask"} if mask else {"input_values"})
    for row, waveform in enumerate(waveforms):
        values = made["input_values"][row]
        assert_close(values[: len(waveform)], alone(extractor, waveform)["input_values"][0])
        assert (values[len(waveform) :] == extractor.padding_value).all()
    if mask:  # with a mask the stock extractor pads a batch in the same way
        stock = extractor(waveforms, sampling_rate=RATE, padding=True, return_tensors="pt")
        assert_close(made["input_values"], stock["input_values"])
        assert torch.equal(made["attention_mask"], stock["attention_mask"])


def test_a_waveform_has_zero_mean_and_unit_variance_over_its_own_samples():
    batch, lengths = batch_of([music(RATE, 1), music(4_000, 2)])
    values = WaveformFeatures(Wav2Vec2FeatureExtractor())(batch, lengths)["input_values"]
    for row, length in zip(values, lengths, strict=True):
        assert abs(row[:length].mean()) < 1e-5 and abs(row[:length].var(correction=0) - 1) < 1e-4


@pytest.mark.parametrize("chunk, mels", [(30, 80), (5, 128)])
def test_whisper_hears_what_the_stock_extractor_makes(chunk, mels):
    extractor = WhisperFeatureExtractor(feature_size=mels, chunk_length=chunk)
    waveforms = [music(samples, seed) for seed, samples in enumerate([5 * RATE, 9_999, 1])]
    made = WhisperFeatures(extractor)(*batch_of(waveforms))["input_features"]
    assert made.shape == (3, mels, 100 * chunk)
    assert_close(made, torch.cat([alone(extractor, waveform)["input_features"] for waveform in waveforms]))


def test_whisper_hears_nothing_behind_its_30_seconds():
    extractor = WhisperFeatureExtractor(chunk_length=1)
    waveform = music(3 * RATE)
    made = WhisperFeatures(extractor)(torch.from_numpy(waveform)[None])["input_features"]
    assert_close(made, alone(extractor, waveform)["input_features"])
    with pytest.raises(ValueError, match=r"dither=0\.1 draws noise"):
        WhisperFeatures(WhisperFeatureExtractor(dither=0.1))


@pytest.mark.parametrize("settings", [{}, dict(padding_value=1.0), dict(num_mel_bins=40, feature_size=40, stride=3)])
def test_w2v_bert_hears_what_the_stock_extractor_makes(settings):
    extractor = SeamlessM4TFeatureExtractor(**settings)
    samples = [count for count in SHORT if count >= least_samples(extractor.stride)]
    waveforms = [music(count, seed) for seed, count in enumerate(samples)]
    made = W2vBertFeatures(extractor)(*batch_of(waveforms))
    for row, waveform in enumerate(waveforms):
        whole = stacked_frames(len(waveform), extractor.stride)
        assert made["attention_mask"][row].sum() == whole
        stock = alone(extractor, waveform)["input_features"][0, :whole]
        # The stock transform is rounded to float32, which the variance of a quiet bin magnifies.
        assert_close(made["input_features"][row, :whole], stock, 2e-3)
    if extractor.stride == 2:  # it pads batches as well, but by an even number of frames alone
        stock = extractor(waveforms, sampling_rate=RATE, return_tensors="pt")
        assert torch.equal(made["attention_mask"], stock["attention_mask"].int())
        assert_close(made["input_features"], stock["input_features"], 2e-3)


@pytest.mark.parametrize(
    "features",
    [
        WaveformFeatures(Wav2Vec2FeatureExtractor(return_attention_mask=True)),
        WhisperFeatures(WhisperFeatureExtractor(chunk_length=1)),
        W2vBertFeatures(SeamlessM4TFeatureExtractor()),
    ],
    ids=lambda features: type(features).__name__,
)
def test_a_window_does_not_depend_on_the_others_of_its_batch(features):
    features.extractor.window_seconds = 1.0
    batch, lengths = batch_of([music(RATE), music(9_999, 1), music(720, 2)])
    together = features(batch, lengths)
    for row, length in enumerate(lengths):
        one = features(batch[row : row + 1, :length])
        for name, value in together.items():
            assert value[row].shape == one[name][0].shape
            assert_close(value[row], one[name][0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(value, together[name]) for name, value in features(batch, lengths).items())


def test_silence_stays_finite():
    silence = torch.zeros(2, RATE)
    for features in (
        WaveformFeatures(Wav2Vec2FeatureExtractor()),
        WhisperFeatures(WhisperFeatureExtractor(chunk_length=1)),
        W2vBertFeatures(SeamlessM4TFeatureExtractor()),
    ):
        assert all(torch.isfinite(value).all() for value in features(silence).values())


def test_what_makes_no_frame_is_refused_with_the_least_length():
    with pytest.raises(ValueError, match="559 samples is shorter than the 560 that this encoder needs"):
        W2vBertFeatures(SeamlessM4TFeatureExtractor())(torch.zeros(2, RATE), torch.tensor([RATE, 559]))
    extractor = Wav2Vec2FeatureExtractor(least_samples=400)
    with pytest.raises(ValueError, match="399 samples is shorter than the 400"):
        WaveformFeatures(extractor)(torch.zeros(1, 399))
    with pytest.raises(ValueError, match="0 samples is shorter than the 1"):
        WhisperFeatures(WhisperFeatureExtractor(chunk_length=1))(torch.zeros(1, 0))
