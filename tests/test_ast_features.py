import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor

from hf_musiclf.features.ast import AstFeatures


def music(seconds, sampling_rate=16_000, seed=0):
    """Tones, noise bursts and silence: loud, quiet and empty frames."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    tone = 0.3 * np.sin(2 * np.pi * (220 + 40 * seed) * time) * (np.sin(2 * np.pi * 2 * time) > 0)
    burst = 0.1 * rng.standard_normal(len(time)) * (np.sin(2 * np.pi * 0.5 * time) > 0.3)
    return (tone + burst).astype(np.float32)


def by_extractor(extractor, waveforms):
    return extractor(waveforms, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_values"]


@pytest.mark.parametrize("max_length, mels", [(1024, 128), (512, 128), (300, 64)])
def test_a_batch_equals_the_stock_extractor(max_length, mels):
    extractor = ASTFeatureExtractor(max_length=max_length, num_mel_bins=mels)
    waveforms = [music(max_length / 100, seed=seed) for seed in range(3)]
    ours = AstFeatures(extractor)(torch.tensor(np.stack(waveforms)))["input_values"]
    expected = by_extractor(extractor, waveforms)
    assert ours.shape == expected.shape == (3, max_length, mels)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_short_windows_are_padded_as_the_stock_extractor_does():
    extractor = ASTFeatureExtractor()
    waveforms = [music(10.24), music(3.3, seed=1), music(0.025, seed=2)]
    batch = torch.zeros(3, 163_840)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.tensor(waveform)
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    ours = AstFeatures(extractor)(batch, lengths)["input_values"]
    torch.testing.assert_close(ours, by_extractor(extractor, waveforms), atol=1e-4, rtol=0)


def test_silence_and_full_scale_stay_finite_and_equal():
    extractor = ASTFeatureExtractor()
    waveforms = [np.zeros(163_840, np.float32), np.ones(163_840, np.float32), np.sign(music(10.24))]
    ours = AstFeatures(extractor)(torch.tensor(np.stack(waveforms)))["input_values"]
    assert torch.isfinite(ours).all()
    torch.testing.assert_close(ours, by_extractor(extractor, waveforms), atol=1e-4, rtol=0)


def test_features_stay_in_single_precision_under_autocast():
    features = AstFeatures(ASTFeatureExtractor(max_length=100))
    waveforms = torch.tensor(music(1.0))[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = features(waveforms)["input_values"]
    assert torch.equal(mixed, features(waveforms)["input_values"])


def test_without_normalisation_the_values_are_the_logarithm_of_the_filterbank():
    extractor = ASTFeatureExtractor(max_length=100, do_normalize=False)
    ours = AstFeatures(extractor)(torch.tensor(music(1.0))[None])["input_values"]
    torch.testing.assert_close(ours, by_extractor(extractor, [music(1.0)]), atol=1e-4, rtol=0)


def test_less_than_a_frame_is_refused():
    with pytest.raises(ValueError, match=r"399 samples is shorter than AST's frame of 400 samples \(25 ms\)"):
        AstFeatures(ASTFeatureExtractor())(torch.zeros(1, 399))
