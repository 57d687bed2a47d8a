"""Augmentation of model inputs, in batches on their device: mixup, and masks over bands and frames."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hf_musiclf.arguments import RecipeTrainingArguments
from hf_musiclf.errors import UserError


def mask_spectrograms(
    spectrograms: torch.Tensor, max_bands: int, max_frames: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """One mask over bands and one over frames of each spectrogram, filled with each band's mean.

    spectrograms: `(batch, ..., frames, bands)`. max_bands, max_frames: a mask is 0 to so many wide, uniformly, at most
    half of the bands or frames, and lies anywhere. generator: on the CPU. A band's mean is that of all frames of the
    batch: 0, about, for a network that standardises its bands, whatever their units (decibels beside chroma). Returns
    a new tensor of the same shape (SpecAugment without warping: Park et al., Interspeech 2019, with masks of its own
    for each item. EfficientAT's own training fills them with another value, 0 of the unscaled logarithm, and jitters
    the limits of the mel bands, which is left out here).
    """
    frames, bands = spectrograms.shape[-2:]
    hidden = torch.zeros(len(spectrograms), frames, bands, dtype=torch.bool)
    for size, asked, axis in ((bands, max_bands, 2), (frames, max_frames, 1)):
        longest = min(asked, size // 2)
        widths = torch.rand(len(hidden), generator=generator) * (longest + 1)
        widths = widths.long().clamp_max(longest)
        starts = (torch.rand(len(hidden), generator=generator) * (size - widths + 1)).long()
        place = torch.arange(size)
        span = (place >= starts[:, None]) & (place < (starts + widths)[:, None])
        hidden |= span[:, None] if axis == 2 else span[:, :, None]
    hidden = hidden.to(spectrograms.device).view(len(hidden), *[1] * (spectrograms.ndim - 3), frames, bands)
    means = spectrograms.mean(dim=tuple(range(spectrograms.ndim - 1)), keepdim=True)
    return torch.where(hidden, means, spectrograms)


def mixup(
    inputs: torch.Tensor, alpha: float, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each item mixed with another of the batch: inputs, partner of each `(batch,)`, and its own share `(batch,)`.

    inputs: `(batch, ...)`. alpha: of the Beta distribution of the shares, of which the larger half is taken, so that an
    item stays itself for the most part. generator: on the CPU. The loss is `share * loss(label) + (1 - share) *
    loss(label of partner)`, see `Targets` (Zhang et al., ICLR 2018; the larger half as in EfficientAT).
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


@dataclass(frozen=True)
class Targets:
    """What a batch is to be taken for. labels: `(batch,)`; where it was mixed, partner and share as `mixup` returns."""

    labels: torch.Tensor
    partner: torch.Tensor | None = None
    share: torch.Tensor | None = None

    def mean_loss(self, loss_of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Mean loss of the batch, the labels of both parts of a mixture weighed by their shares.

        loss_of: labels `(batch,)` -> losses `(batch,)`.
        """
        own = loss_of(self.labels)
        if self.partner is None:
            return own.mean()
        return (self.share * own + (1 - self.share) * loss_of(self.labels[self.partner])).mean()


class BatchAugmentation:
    """Masks and mixup for the batches of a training run: the same after a resume, others on every process."""

    def __init__(self, input_name: str, args: RecipeTrainingArguments):
        self.input_name, self.args = input_name, args
        self._last_draw = (-1, 0)

    def __call__(self, inputs: dict[str, torch.Tensor], step: int) -> tuple[dict[str, torch.Tensor], Targets]:
        """Inputs of the model without their labels, and what to take them for.

        inputs: with `input_name`, `(batch, ..., frames, bands)`, and labels `(batch,)`. step: of the optimizer.
        """
        args, draw = self.args, self._draw_of_this_batch(step)
        inputs = dict(inputs)
        spectrograms, labels = inputs[self.input_name], inputs.pop("labels")
        partner = share = None
        if args.mask_bands or args.mask_frames:
            spectrograms = mask_spectrograms(spectrograms, args.mask_bands, args.mask_frames, draw)
        if args.mixup_alpha:
            spectrograms, partner, share = mixup(spectrograms, args.mixup_alpha, draw)
        return {**inputs, self.input_name: spectrograms}, Targets(labels, partner, share)

    def _draw_of_this_batch(self, step: int) -> torch.Generator:
        """Of seed, step, batch within it, and process."""
        number = self._last_draw[1] + 1 if self._last_draw[0] == step else 0
        self._last_draw = (step, number)
        entropy = np.random.SeedSequence([self.args.seed, step, number, self.args.process_index])
        return torch.Generator().manual_seed(int(entropy.generate_state(1)[0]))


def check_augmentation(features: Any, args: RecipeTrainingArguments) -> None:
    """Raise UserError where batches are to be augmented in a way that these features do not go with."""
    if args.augments_batches and not getattr(features, "spectrograms", True):
        raise UserError(
            "mixup_alpha, mask_bands and mask_frames are for spectrograms of frames and bands, which this model does "
            "not take; leave them at 0 (it masks by itself: mask_time_prob of its config)"
        )
