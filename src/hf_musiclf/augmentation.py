"""Augmentation of model inputs, in batches on their device: mixup, and masks over bands and frames."""

import torch


def mask_spectrograms(
    spectrograms: torch.Tensor, max_bands: int, max_frames: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """One mask over bands and one over frames of each spectrogram, filled with its mean.

    spectrograms: `(batch, ..., frames, bands)`. max_bands, max_frames: a mask is 0 to so many wide, uniformly, and lies
    anywhere. generator: on the CPU. Returns a new tensor of the same shape (SpecAugment without warping: Park et al.,
    Interspeech 2019, with masks of its own for each item. EfficientAT's own training fills them with another value, 0
    of the unscaled logarithm, and jitters the limits of the mel bands, which is left out here).
    """
    frames, bands = spectrograms.shape[-2:]
    hidden = torch.zeros(len(spectrograms), frames, bands, dtype=torch.bool)
    for size, longest, axis in ((bands, max_bands, 2), (frames, max_frames, 1)):
        widths = torch.rand(len(hidden), generator=generator) * (min(longest, size) + 1)
        widths = widths.long().clamp_max(min(longest, size))
        starts = (torch.rand(len(hidden), generator=generator) * (size - widths + 1)).long()
        place = torch.arange(size)
        span = (place >= starts[:, None]) & (place < (starts + widths)[:, None])
        hidden |= span[:, None] if axis == 2 else span[:, :, None]
    hidden = hidden.to(spectrograms.device).view(len(hidden), *[1] * (spectrograms.ndim - 3), frames, bands)
    means = spectrograms.mean(dim=tuple(range(1, spectrograms.ndim)), keepdim=True)
    return torch.where(hidden, means, spectrograms)


def mixup(
    inputs: torch.Tensor, alpha: float, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each item mixed with another of the batch: inputs, partner of each `(batch,)`, and its own share `(batch,)`.

    inputs: `(batch, ...)`. alpha: of the Beta distribution of the shares, of which the larger half is taken, so that an
    item stays itself for the most part. generator: on the CPU. The loss is `share * loss(label) + (1 - share) *
    loss(label of partner)`, see `mixed_cross_entropy` (Zhang et al., ICLR 2018; the larger half as in EfficientAT).
    """
    partner = torch.randperm(len(inputs), generator=generator)
    # Two gamma variates make a beta one; torch's own Beta takes no generator.
    first, second = (
        torch._standard_gamma(torch.full((len(inputs),), alpha), generator=generator).clamp_min(1e-30) for _ in range(2)
    )
    share = first / (first + second)
    share = torch.maximum(share, 1 - share).to(inputs.device, inputs.dtype)
    partner = partner.to(inputs.device)
    weight = share.view(-1, *[1] * (inputs.ndim - 1))
    return weight * inputs + (1 - weight) * inputs[partner], partner, share


def mixed_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, partner: torch.Tensor, share: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Mean cross-entropy of a mixed batch. logits: `(batch, labels)`; labels, partner, share: `(batch,)`."""
    own, other = (
        torch.nn.functional.cross_entropy(logits.float(), target, reduction="none", label_smoothing=smoothing)
        for target in (labels, labels[partner])
    )
    return (share * own + (1 - share) * other).mean()
