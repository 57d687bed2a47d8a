"""What benchmarks listen to: sound that costs what music costs, made on the spot, the same every time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

PIECE_SECONDS = 60  # made once and written as often as it takes


def make_windows(count: int, samples: int, rate: int, seed: int = 0) -> np.ndarray:
    """Tones that come and go over noise, some of it silence: `(count, samples)` float32 in [-1, 1]. rate: Hz."""
    rng = np.random.default_rng(seed)
    times = np.arange(samples) / rate
    tones = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 4000, (count, 1)) * times) * (np.sin(2 * np.pi * 2 * times) > 0)
    noise = 0.1 * rng.standard_normal((count, len(times))) * (np.sin(2 * np.pi * 0.5 * times) > 0.3)
    return np.clip(tones + noise, -1, 1).astype(np.float32)


def mono(samples: np.ndarray) -> np.ndarray:
    """`(frames, channels)` to `(frames,)` float32, column by column: many times as fast as `mean(axis=1)`."""
    return sum(samples.T[1:], start=samples.T[0]) / np.float32(samples.shape[1])


def write_recording(path: Path, seconds: float, rate: int = 48_000, channels: int = 2, seed: int = 0) -> None:
    """A minute again and again, a chord and a loudness a second; the format by the path's ending (WAV: 16-bit).

    channels: 1 or 2. Seconds differ, so that windows read from a wrong place do.
    """
    rng = np.random.default_rng(seed)
    frames, piece = round(seconds * rate), PIECE_SECONDS * rate
    times = np.arange(min(frames, piece)) / rate
    hertz, loudness = 55 * 2 ** rng.uniform(0, 5, (PIECE_SECONDS, channels)), rng.uniform(500, 15_000, PIECE_SECONDS)
    second = times.astype(int)
    tones = loudness[second, None] * np.sin(2 * np.pi * hertz[second] * times[:, None])
    minute = (tones + rng.normal(0, 1000, tones.shape)).astype(np.int16)
    with soundfile.SoundFile(path, "w", rate, channels) as file:  # 16-bit PCM is the default of WAV and FLAC
        for start in range(0, frames, rate):  # by seconds: libsndfile's Vorbis encoder crashes on a minute at once
            file.write(minute[start % piece :][: min(rate, frames - start)])


def write_labelled(folder: Path, labels: Sequence[str], count: int, seconds: float, **form) -> None:
    """`count` recordings as folder/LABEL/NUMBER.wav, the labels in turn; form: what else write_recording takes."""
    for number in range(count):
        path = folder / labels[number % len(labels)] / f"{number:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_recording(path, seconds, seed=number, **form)
