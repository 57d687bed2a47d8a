"""What benchmarks listen to: sound that costs what music costs, made on the spot, the same every time."""

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


def write_recording(path: Path, seconds: float, rate: int = 48_000, channels: int = 2, seed: int = 0) -> None:
    """The same noisy minute again and again, the format by the path's ending (WAV: 16-bit). channels: 1 or 2."""
    rng = np.random.default_rng(seed)
    frames, piece = round(seconds * rate), PIECE_SECONDS * rate
    times = np.arange(min(frames, piece)) / rate
    tones = np.stack([np.sin(2 * np.pi * hertz * times) for hertz in (220.0, 331.0)[:channels]], axis=1)
    minute = (8000 * tones + rng.normal(0, 1000, tones.shape)).astype(np.int16)
    with soundfile.SoundFile(path, "w", rate, channels) as file:  # 16-bit PCM is the default of WAV and FLAC
        for start in range(0, frames, rate):  # by seconds: libsndfile's Vorbis encoder crashes on a minute at once
            file.write(minute[start % piece :][: min(rate, frames - start)])
