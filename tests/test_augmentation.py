import pytest
import torch

from hf_musiclf.augmentation import Targets, mask_spectrograms, mixup


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(64, 50, 20), (64, 4, 50, 20)])
def test_a_mask_is_one_span_of_bands_and_one_of_frames_filled_with_the_means_of_the_bands(shape):
    spectrograms = torch.randn(shape)
    means = spectrograms.mean(tuple(range(len(shape) - 1))).expand(shape[1:])
    masked = mask_spectrograms(spectrograms, max_bands=6, max_frames=15, generator=seeded())
    widths = []
    for before, after in zip(spectrograms, masked, strict=True):
        changed = (before != after).flatten(0, -3).any(0) if before.ndim > 2 else before != after
        bands, frames = changed.all(0), changed.all(1)
        assert torch.equal(changed, bands[None] | frames[:, None])
        for axis in (bands, frames):
            assert (axis.int().diff() != 0).sum() <= 2  # one span
        widths.append((int(bands.sum()), int(frames.sum())))
        torch.testing.assert_close(after[before != after], means[before != after])
    bands, frames = zip(*widths, strict=True)
    assert (min(bands), max(bands)) == (0, 6) and max(frames) == 15


def test_without_masks_nothing_changes():
    spectrograms = torch.randn(3, 5, 4)
    assert torch.equal(mask_spectrograms(spectrograms, 0, 0), spectrograms)


def test_masks_hide_half_of_the_bands_and_frames_at_most():
    spectrograms = torch.randn(200, 9, 12)
    changed = mask_spectrograms(spectrograms, 50, 50, seeded()) != spectrograms
    assert changed.all(1).sum(1).max() == 6 and changed.all(2).sum(1).max() == 4
    tiny = torch.randn(200, 1, 1)
    assert torch.equal(mask_spectrograms(tiny, 50, 50, seeded()), tiny)


def test_a_mask_is_near_zero_once_bands_are_standardised_whatever_their_units():
    """Decibels beside chroma: one mean over both would lie dozens of deviations off."""
    decibels, chroma = 10 * torch.randn(32, 40, 20) - 30, torch.rand(32, 40, 12)
    stack = torch.cat([decibels, chroma], -1)
    masked = mask_spectrograms(stack, 32, 20, seeded())
    standardised = (masked - stack.mean((0, 1))) / stack.std((0, 1))
    hidden = masked != stack
    assert hidden[..., :20].any() and hidden[..., 20:].any()
    assert standardised[hidden].abs().max() < 0.01


def test_every_mask_of_the_batch_is_its_own():
    masked = mask_spectrograms(torch.arange(800.0).view(1, 40, 20).expand(8, 40, 20), 10, 20, seeded())
    assert len({tuple(item.flatten().tolist()) for item in masked}) > 4


def test_mixup_is_the_sum_of_two_items_of_which_the_own_is_the_larger():
    inputs = torch.randn(500, 7, 3)
    mixed, partner, share = mixup(inputs, alpha=0.3, generator=seeded())
    assert sorted(partner.tolist()) == list(range(500)) and share.min() >= 0.5 and share.max() <= 1
    expected = share[:, None, None] * inputs + (1 - share)[:, None, None] * inputs[partner]
    torch.testing.assert_close(mixed, expected)
    # The mean of max(x, 1 - x) over Beta(0.3, 0.3) is 0.866, of two million draws with numpy.
    assert share.mean() == pytest.approx(0.866, abs=0.02)


def test_the_mixed_loss_is_cross_entropy_against_the_mixed_labels():
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    partner, share = torch.tensor([1, 0, 3, 2, 5, 4]), torch.rand(6) / 2 + 0.5
    one_hot = torch.nn.functional.one_hot(labels, 4).float()
    soft = share[:, None] * one_hot + (1 - share)[:, None] * one_hot[partner]
    expected = torch.nn.functional.cross_entropy(logits, soft)

    def loss_of(target):
        return torch.nn.functional.cross_entropy(logits, target, reduction="none")

    torch.testing.assert_close(Targets(labels, partner, share).mean_loss(loss_of), expected)
    plain = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(Targets(labels, partner, torch.ones(6)).mean_loss(loss_of), plain)
    torch.testing.assert_close(Targets(labels).mean_loss(loss_of), plain)


def test_the_same_generator_gives_the_same_batch():
    inputs = torch.randn(8, 5, 4)
    for augment in (lambda g: mixup(inputs, 0.3, g)[0], lambda g: mask_spectrograms(inputs, 2, 3, g)):
        assert torch.equal(augment(seeded(1)), augment(seeded(1)))
        assert not torch.equal(augment(seeded(1)), augment(seeded(2)))
