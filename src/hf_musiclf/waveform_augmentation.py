"""Augmentation of training windows as they are read, in the dataloader's workers, by audiomentations.

It is imported where it is asked for: it takes a second.
"""

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import soxr
import torch

from hf_musiclf.arguments.augmentation import require_audiomentations
from hf_musiclf.data.window_dataset import EvaluationWindows, RandomWindows
from hf_musiclf.errors import UserError

# Of the equalizer's peaking filters, in Hz: where one lies above half the sampling rate, it is unstable.
HIGHEST_PEAK = 4404
# Sets the draws of augmentation apart from those of where windows start.
SPAWN_KEY = 1


class WaveformAugmentation:
    """Changes that a window goes through, each with its probability.

    wanted: as `parse_waveform_augmentation` returns it. sampling_rate: Hz. Raises UserError where audiomentations is
    not installed, and for an equalizer at a rate too low for its bands.
    """

    def __init__(self, wanted: Mapping[str, tuple[float, ...]], sampling_rate: int):
        require_audiomentations()
        if "equalizer" in wanted and sampling_rate <= 2 * HIGHEST_PEAK:
            raise UserError(
                f"waveform_augmentation: equalizer needs a sampling rate above {2 * HIGHEST_PEAK} Hz, this model's is "
                f"{sampling_rate}; leave it out"
            )
        self.sampling_rate = sampling_rate
        self.wanted = {name: numbers for name, numbers in wanted.items() if numbers[0] > 0}
        self._speed = self.wanted.get("speed")
        made = {name: _make(name, *numbers) for name, numbers in self.wanted.items() if name != "speed"}
        self._stretch, self._others = made.pop("time_stretch", None), list(made.values())

    def reach(self, window: int) -> int:
        """How many samples to read for a window: where music may run faster, a window holds more of it."""
        fastest = [self.wanted[name][2] for name in ("speed", "time_stretch") if name in self.wanted]
        return math.ceil(window * math.prod(max(1.0, factor) for factor in fastest))

    def __call__(self, waveform: np.ndarray, offset: int, window: int, seed: np.random.SeedSequence) -> np.ndarray:
        """`(time,)` float32 of the length of `waveform[offset:][:window]`, the window as it is without augmentation.

        waveform: `(time,)` float32, `reach(window)` samples around the window or what the track has of them; faster or
        slower, the window begins with its first sample, and where a short track ends before it, zeros follow. seed: all
        that is drawn follows from it. Above full scale nothing is clipped: the features take levels as they are.
        """
        changed = plain = waveform[offset:][:window]
        with seeded(seed):
            moved = self._move(waveform)
            if moved is not None:
                changed = np.zeros_like(plain)
                changed[: len(moved)] = moved[: len(plain)]
            for transform in self._others:
                changed = transform(changed, self.sampling_rate)
        return changed.astype(np.float32, copy=False)

    def _move(self, waveform: np.ndarray) -> np.ndarray | None:
        """All of the waveform at another speed or tempo; None where neither is drawn."""
        moved = None
        if self._speed and random.random() < self._speed[0]:
            moved = soxr.resample(waveform, self.sampling_rate * random.uniform(*self._speed[1:]), self.sampling_rate)
        if self._stretch:
            stretched = self._stretch(waveform if moved is None else moved, self.sampling_rate)
            if self._stretch.parameters["should_apply"]:
                moved = stretched
        return moved


class AugmentedWindows(torch.utils.data.Dataset):
    """Windows of a training split through augmentation: items as those of `windows`, of the same lengths.

    What a window goes through follows from the seed, the epoch and its index alone: it is the same for any number of
    workers and processes, and after a resume.
    """

    def __init__(self, windows: RandomWindows | EvaluationWindows, augmentation: WaveformAugmentation, seed: int):
        self.windows, self.augmentation, self.seed = windows, augmentation, seed
        # In shared memory, so that workers that live across epochs see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)
        if isinstance(self.windows, RandomWindows):
            self.windows.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        windows = self.windows
        track, start = windows.place(index)
        reach = self.augmentation.reach(windows.window)
        # At the end of a track what is missing is taken from before the window.
        first = max(0, min(start, int(windows.samples_of_track[track]) - reach))
        item = windows.read(track, first, reach)
        seed = np.random.SeedSequence([self.seed, int(self._epoch), index], spawn_key=(SPAWN_KEY,))
        item["waveform"] = self.augmentation(item["waveform"], start - first, windows.window, seed)
        return item


@contextmanager
def seeded(seed: np.random.SeedSequence) -> Iterator[None]:
    """The global generators of Python and NumPy, which audiomentations draws from, seeded; after it as before it."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    for_python, for_numpy = seed.generate_state(2)
    random.seed(int(for_python))
    np.random.seed(int(for_numpy))
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _make(name: str, probability: float, lowest: float = 0.0, highest: float = 0.0):
    """The transform of audiomentations. Signalsmith's stretch and not librosa's phase vocoder: as fast once that is
    compiled, which takes each new worker seconds, and it does not smear attacks.
    """
    import audiomentations

    method = "signalsmith_stretch"
    if name == "time_stretch":
        return audiomentations.TimeStretch(lowest, highest, False, method, p=probability)
    if name == "pitch_shift":
        return audiomentations.PitchShift(lowest, highest, method, p=probability)
    if name == "equalizer":
        return audiomentations.SevenBandParametricEQ(lowest, highest, p=probability)
    if name == "gain":
        return audiomentations.Gain(lowest, highest, p=probability)
    if name == "polarity_inversion":
        return audiomentations.PolarityInversion(p=probability)
    assert name == "noise", name
    return audiomentations.AddGaussianSNR(lowest, highest, p=probability)
