"""Probabilities of windows and tracks, and the checks that every score makes of them.

Probabilities are `(n, classes)`, a row an item (a window or a whole track); labels are ids in `0..classes-1`.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import sparse


def softmax(logits) -> np.ndarray:
    """Probabilities over the last axis: `(..., classes)` -> `(..., classes)` float64 in [0, 1], each row of sum 1.

    The largest logit of a row is subtracted first, so that no exponential overflows. NaN stays NaN.

    >>> softmax([1000.0, 1000.0])
    array([0.5, 0.5])
    """
    logits = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def mean_by_track(probabilities, track_ids: Sequence) -> tuple[list, np.ndarray]:
    """Score whole tracks: the mean of their windows' probabilities, which does not depend on the order of the windows.

    probabilities: `(windows, classes)` in [0, 1]. track_ids: `(windows,)` ints or strings. Returns the track ids in
    order of first appearance and `(tracks, classes)` float64. Raises ValueError for no windows, other lengths, NaN, or
    a missing track id.

    >>> mean_by_track([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], ["b", "a", "b"])
    (['b', 'a'], array([[0.75, 0.25],
           [0.  , 1.  ]]))
    """
    probabilities = _checked_probabilities(probabilities)
    ids = checked_ids(track_ids, len(probabilities), "track_ids")
    if None in ids:
        raise ValueError(f"track_ids[{ids.index(None)}] is missing; every window must name its track")
    codes = id_codes(ids)
    _, first, sizes = np.unique(codes, return_index=True, return_counts=True)
    membership = sparse.csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    return [ids[index] for index in first], membership @ probabilities / sizes[:, None]


def in_top(probabilities: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether each label is among the k most probable; ties to the lower id, as argmax (and unlike sklearn's top-k).

    probabilities: `(n, classes)`. labels: `(n,)` int. Returns `(n,)` bool.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return (order == labels[:, None]).any(axis=1)


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each label in nats, clipped at the float64 epsilon so that none is infinite.

    probabilities: `(n, classes)`. labels: `(n,)` int. Returns `(n,)`.
    """
    likelihoods = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    return -np.log(likelihoods.clip(np.finfo(np.float64).eps, 1))


def checked(probabilities, labels) -> tuple[np.ndarray, np.ndarray]:
    """`(n, classes)` float64 probabilities and `(n,)` int64 labels.

    Raises ValueError if there are no items or fewer than two classes, the shapes differ, labels are not ints or are
    outside 0..classes-1, or rows are not probabilities.
    """
    probabilities, labels = _checked_probabilities(probabilities), np.asarray(labels)
    n, n_classes = probabilities.shape
    if labels.shape != (n,):
        raise ValueError(
            f"labels has shape {labels.shape} for probabilities of shape {(n, n_classes)}; give one per row"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype}, not ints; give class ids from 0 to {n_classes - 1}")
    outside = (labels < 0) | (labels >= n_classes)
    if outside.any():
        raise ValueError(f"label {labels[outside][0]} is outside 0..{n_classes - 1}, the columns of probabilities")
    return probabilities, labels.astype(np.int64)


def checked_ids(ids: Sequence, n: int, what: str) -> list:
    """The ids as a list, None where one is None or NaN; ValueError, which calls them `what`, if they are not n."""
    ids = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    if len(ids) != n:
        raise ValueError(f"{what} has {len(ids)} entries for {n} rows of probabilities; give one per row")
    return [None if isinstance(name, float) and math.isnan(name) else name for name in ids]


def id_codes(ids: list) -> np.ndarray:
    """`(n,)` ints 0, 1, ... in order of first appearance, equal for equal ids; each None gets a code of its own."""
    seen: dict = {}
    keys = (("alone", index) if name is None else ("named", name) for index, name in enumerate(ids))
    return np.array([seen.setdefault(key, len(seen)) for key in keys])


def _checked_probabilities(probabilities) -> np.ndarray:
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.size == 0:
        raise ValueError(f"probabilities is empty, of shape {probabilities.shape}; there is nothing to score")
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise ValueError(f"probabilities has shape {probabilities.shape}; give (n, classes) with two classes or more")
    sums = probabilities.sum(axis=1)
    # 0.01 lets float16 rounding of sixty classes pass and still catches logits.
    wrong = ~((probabilities >= 0).all(axis=1) & (np.abs(sums - 1) <= 0.01))
    if np.isnan(sums).any():
        row = int(np.isnan(sums).argmax())
        raise ValueError(f"probabilities[{row}] contains NaN: {probabilities[row].tolist()[:10]}")
    if wrong.any():
        row = int(wrong.argmax())
        low, total = probabilities[row].min(), sums[row]
        raise ValueError(f"probabilities[{row}] has minimum {low:g} and sum {total:g}; apply softmax to logits first")
    return probabilities
