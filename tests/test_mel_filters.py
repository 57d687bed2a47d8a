"""Filters by groups give what one product gives."""

import pytest
import torch

from hf_musiclf.features.ast import AstFeatures
from hf_musiclf.features.mel_filters import MelFilters


def bank(bins, mels):
    """Triangles of growing width, the first bin and the last without a filter."""
    edges = torch.linspace(1, (bins - 2) ** 0.5, mels + 2).square()
    bins = torch.arange(bins)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp_min(0)


@pytest.mark.parametrize("bins,mels", [(257, 128), (513, 64), (33, 3), (33, 1), (65, 6)])
@pytest.mark.parametrize("shape", [(), (7,), (2, 5), (0,)])
def test_it_is_the_product_with_the_whole_bank(bins, mels, shape):
    filters, power = bank(bins, mels), torch.rand(*shape, bins)
    torch.testing.assert_close(MelFilters(filters)(power), power @ filters)


def test_filters_of_zeros_alone_give_zeros():
    assert not MelFilters(torch.zeros(33, 8))(torch.rand(4, 33)).any()


def test_a_filter_sees_every_bin_of_its_band_and_none_beside():
    filters = bank(257, 128)
    lit = torch.stack([MelFilters(filters)(row) for row in torch.eye(257)])
    torch.testing.assert_close(lit, filters)


def test_most_of_the_product_is_left_out():
    """What makes it fast, told without a clock."""
    filters = bank(257, 128)
    factors = sum(group.numel() for _, group in MelFilters(filters).groups)
    assert factors < filters.numel() / 2.5


def test_features_do_not_change_the_waveforms_that_they_are_given():
    from transformers import ASTFeatureExtractor

    waveforms = torch.randn(3, 16_000)
    before = waveforms.clone()
    AstFeatures(ASTFeatureExtractor(max_length=90))(waveforms, torch.tensor([16_000, 900, 8_000]))
    assert torch.equal(waveforms, before)
