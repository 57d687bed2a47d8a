"""Where windows start: seconds to samples, evaluation windows at a hop, one random window a track and epoch.

Everything is counted in samples at the model's sampling rate; no file and no model is touched here.
"""

import numpy as np


def seconds_to_samples(seconds: float, sampling_rate: int) -> int:
    """Nearest whole number of samples.

    >>> seconds_to_samples(10.24, 16_000)
    163840
    """
    return round(seconds * sampling_rate)


def window_starts(n_samples: int, window: int, hop: int) -> list[int]:
    """Starts of the windows that cover a track, `hop` samples apart.

    The last window is moved back to end with the track, so that every sample is covered and only a track shorter than
    one window is ever padded. n_samples, window, hop: samples, `0 < hop <= window` so that nothing is left out.
    Returns ascending, distinct starts. Raises ValueError for sizes outside these ranges.

    >>> window_starts(300, window=100, hop=100)
    [0, 100, 200]
    >>> window_starts(250, window=100, hop=100)
    [0, 100, 150]
    >>> window_starts(30, window=100, hop=100)
    [0]
    """
    if n_samples < 1 or window < 1:
        raise ValueError(f"n_samples={n_samples} and window={window} must be at least 1")
    if not 0 < hop <= window:
        raise ValueError(f"hop={hop} must lie in 1..{window} (the window), or samples between windows are never seen")
    if n_samples <= window:
        return [0]
    starts = list(range(0, n_samples - window, hop))
    return [*starts, n_samples - window]


def evenly_spread(n: int, at_most: int) -> list[int]:
    """Indices of at most so many of n things in a row: the middles of as many equal parts, all where there are no more.

    at_most: 1 or more.

    >>> evenly_spread(10, 2), evenly_spread(3, 4)
    ([2, 7], [0, 1, 2])
    """
    chosen = min(n, at_most)
    return [(2 * part + 1) * n // (2 * chosen) for part in range(chosen)]


def random_window_start(n_samples: int, window: int, seed: int, epoch: int, track: int) -> int:
    """Start of the window that a track shows in an epoch, uniform over all starts.

    A function of its arguments alone: it is the same for any number of workers and processes, and after a resume.
    n_samples, window: samples. track: the track's row.
    """
    if n_samples <= window:
        return 0
    return int(np.random.default_rng([seed, epoch, track]).integers(0, n_samples - window + 1))
