"""Networks that standardise their inputs themselves: mean and variance of each bin before anything is learnt."""

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from hf_musiclf.data.window_dataset import EvaluationWindows, RandomWindows, collate_windows

WINDOWS = 256  # of 5 s every 16 ms 80,000 frames: the error of a mean is far below its deviation
BATCH = 16


@torch.no_grad()
def set_standardisation(
    model: PreTrainedModel, features: Any, windows: EvaluationWindows | RandomWindows, seed: int
) -> str | None:
    """Mean and variance of each bin of training windows, where the model has not seen a batch yet.

    A backbone that is frozen never learns them, one that is not misjudges its inputs until its running statistics have
    caught up. model: on the CPU. windows: of which up to WINDOWS are read, drawn from the seed: the same on every
    process. Returns what was done; None for a model that has no `standardisation` or whose own is learnt.
    """
    norm = getattr(model.base_model, "standardisation", None)
    if norm is None or norm.num_batches_tracked > 0:
        return None
    drawn = np.random.default_rng(seed).permutation(len(windows))[:WINDOWS].tolist()
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, len(drawn), BATCH):
        batch = collate_windows([windows[index] for index in drawn[start : start + BATCH]])
        values = features(batch["waveforms"], batch["lengths"])[model.main_input_name].flatten(0, 1).double()
        count, total, squares = count + len(values), total + values.sum(0), squares + values.square().sum(0)
    mean = total / count
    norm.running_mean.copy_(mean)
    norm.running_var.copy_((squares / count - mean.square()).clamp_min(0))
    norm.num_batches_tracked.fill_(1)
    return f"inputs are standardised by {len(drawn)} training windows before anything is learnt"
