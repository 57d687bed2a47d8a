"""A planted shortcut: a steady tone whose pitch gives the label away in training, and not in every test.

What a classifier has learnt of the music shows on a test without the tone, what it has learnt of the tone on a test
where it misleads. Marks of training as in coloured MNIST (Arjovsky, Bottou, Gulrajani, Lopez-Paz 2019, "Invariant Risk
Minimization"), on tracks instead of digits; the anti-biased test as in He, Zha, Wang, DeepLo 2019. See
`scripts/planted_shortcut.py`.

A mark is an int in `0..n_marks-1`, and that of label k is k; `NO_MARK` stands for none.

    >>> mark_frequencies(3, sampling_rate=16000).round().tolist()
    [2000.0, 3860.0, 7000.0]
"""

from collections.abc import Sequence

import numpy as np

NO_MARK = -1
MODES = ("biased", "none", "misleading", "random")
# From 2 kHz, above the fundamentals of music, to 7/16 of the sampling rate: 7 kHz of 16 kHz, inside every mel
# filterbank. Ten marks lie 131 mel apart there: three bands of 64 that reach to 8 kHz, one and a half of 32.
LOWEST_HZ, HIGHEST_SHARE_OF_RATE = 2000.0, 7 / 16


def mark_frequencies(n_marks: int, sampling_rate: int) -> np.ndarray:
    """`(n_marks,)` Hz, equally spaced in mel (O'Shaughnessy 1987), so that a mel spectrogram tells all apart alike.

    n_marks: 2 or more. sampling_rate: Hz, at least 4000. Raises ValueError for less.
    """
    if n_marks < 2 or sampling_rate < 4000:
        raise ValueError(f"n_marks={n_marks}, sampling_rate={sampling_rate}: needs at least 2 marks and 4000 Hz")
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (LOWEST_HZ, HIGHEST_SHARE_OF_RATE * sampling_rate))
    return 700 * (10 ** (np.linspace(low, high, n_marks) / 2595) - 1)


def add_telltale(
    waveform: np.ndarray, sampling_rate: int, mark: int, n_marks: int, level_db: float = -8.0
) -> np.ndarray:
    """The track with the steady tone of a mark in it: `(time,)` float32 in [-1, 1].

    waveform: `(time,)` float in [-1, 1]. sampling_rate: Hz. mark: `NO_MARK` returns the waveform as it is. level_db:
    RMS of the tone in dB relative to the RMS of the track; a sum that would clip is scaled down as a whole. Raises
    ValueError for a mark that there is not.
    """
    if mark == NO_MARK:
        return waveform
    if not 0 <= mark < n_marks:
        raise ValueError(f"mark={mark} must lie in 0..{n_marks - 1}, or be {NO_MARK} for none")
    hertz = mark_frequencies(n_marks, sampling_rate)[mark]
    rms = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))
    amplitude = np.sqrt(2) * rms * 10 ** (level_db / 20)  # a sine's peak is the root of two times its RMS
    marked = waveform + amplitude * np.sin(2 * np.pi * hertz / sampling_rate * np.arange(len(waveform)))
    return (marked / max(1.0, np.abs(marked).max(initial=0.0))).astype(np.float32)


def marks(
    labels: Sequence[int], rows: Sequence[int], n_marks: int, rate: float = 0.95, seed: int = 0, mode: str = "biased"
) -> np.ndarray:
    """`(n,)` mark of each track, drawn from the seed, the mode and the track's row alone.

    labels, rows: `(n,)` label id, in `0..n_marks-1`, and row of each track. mode: one of `MODES`. biased: the label's
    own mark with probability `rate`, else one of the others, each as likely. none: `NO_MARK`. misleading: always one of
    the others. random: any, whatever the label. Raises ValueError for another mode or rate, a label without a mark, and
    labels and rows of different number.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not known; choose {', '.join(MODES)}")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate={rate} must lie in [0, 1]")
    labels = np.asarray(labels, dtype=np.int64)
    if len(labels) and not (0 <= labels.min() and labels.max() < n_marks):
        raise ValueError(f"labels lie in {labels.min()}..{labels.max()}, marks in 0..{n_marks - 1}; raise n_marks")
    if mode == "none":
        return np.full(len(labels), NO_MARK)
    found = labels.copy()
    for item, (label, row) in enumerate(zip(labels, rows, strict=True)):
        rng = np.random.default_rng((seed, MODES.index(mode), int(row)))
        keeps, shift = rng.random() < rate, rng.integers(1, n_marks)
        if mode == "random":
            found[item] = rng.integers(n_marks)
        elif mode == "misleading" or not keeps:
            found[item] = (label + shift) % n_marks
    return found
