"""Confidence intervals of a music classifier's scores: of one run by the bootstrap, of several by Student's t.

Windows of one track, and tracks of one artist, are not independent, so the bootstrap resamples whole groups.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from hf_musiclf.probabilities import checked, checked_ids, id_codes, in_top, log_losses

BOOTSTRAPPED = (
    "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "top_3_accuracy", "roc_auc",
    "log_loss",
)  # fmt: skip
_PROPORTIONS = ("accuracy", "balanced_accuracy", "top_3_accuracy")
# Scores whose resamples lie no farther apart than this differ by rounding alone.
_SAME = 1e-12


class Resampled(NamedTuple):
    """Scores of all items, and of resamples of their groups: name in BOOTSTRAPPED -> number, and -> `(n_resamples,)`.

    NaN where a score is not defined.
    """

    point: dict[str, float]
    drawn: dict[str, np.ndarray]
    n_groups: int


def resample(probabilities, labels, groups: Sequence[Hashable], n_resamples: int = 2000, seed: int = 0) -> Resampled:
    """Score items anew by resampling whole groups with replacement, as many as there are: the bootstrap's draws.

    probabilities: `(n, classes)`. labels: `(n,)` int. groups: `(n,)` hashable ids; an item whose id is None (or NaN)
    is its own group. The same groups and seed are the same draws, whatever the probabilities.

    A class may be absent from a resample. Balanced accuracy is then the mean over the classes with support in that
    resample, macro precision, recall and F1 over those with support or predictions, ROC AUC over those with items on
    both sides, NaN without any. Raises ValueError as `classification_metrics` does, for groups of another length, or
    n_resamples < 1.
    """
    probabilities, labels = checked(probabilities, labels)
    codes = id_codes(checked_ids(groups, len(labels), "groups"))
    if n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples} must be at least 1")
    sums = _group_sums(probabilities, labels, codes)
    rng, n_groups = np.random.default_rng(seed), len(sums.support)
    point = {name: score.item() for name, score in _scores_of_resamples(np.ones((1, n_groups)), sums).items()}
    rows = max(1, 4_000_000 // len(labels))  # a table of (rows, items) float64 stays under 32 MB
    sizes = [min(rows, n_resamples - start) for start in range(0, n_resamples, rows)]
    uniform = np.full(n_groups, 1 / n_groups)
    chunks = [_scores_of_resamples(rng.multinomial(n_groups, uniform, size=size), sums) for size in sizes]
    return Resampled(point, {name: np.concatenate([c[name] for c in chunks]) for name in BOOTSTRAPPED}, n_groups)


def percentiles(values: np.ndarray, confidence: float = 0.95) -> list[float] | None:
    """[low, high] of a score, or of a difference of scores, over resamples `(n_resamples,)`.

    A resample without a value, NaN, is left out. None where no two resamples differ, as with fewer than two groups:
    one point would claim that no other tracks could tell more. Raises ValueError for a confidence outside (0, 1).

    >>> percentiles(np.array([0.5, 0.5, 0.5])) is None
    True
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie between 0 and 1, for example 0.95")
    values, tail = values[~np.isnan(values)], (1 - confidence) / 2
    return np.quantile(values, [tail, 1 - tail]).tolist() if len(values) and np.ptp(values) > _SAME else None


def bootstrap_intervals(
    probabilities, labels, groups: Sequence[Hashable], n_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> dict:
    """Percentile intervals by resampling whole groups with replacement: name in BOOTSTRAPPED -> [low, high] or None.

    Percentile bootstrap: Efron & Tibshirani 1993, ch. 13; Davison & Hinkley 1997, ch. 5. Groups as the unit: Field &
    Welsh 2007, "Bootstrapping clustered data". Ten windows of one track stay together and count as one witness.

    Arguments, and resamples without some class: see `resample`. Where no two resamples differ, the percentiles collapse
    to one point, which claims too much: None. But

    - where every item is right (or every one wrong), the three accuracies get the bound of Clopper & Pearson 1934 with
      n = the number of groups, two or more, a group being one trial that is right if all of it is. For accuracies over
      groups of one size it holds with at least the stated confidence; for balanced accuracy it is an approximation.
    - Top-3 accuracy over at most three classes is 1 by definition, and so is its interval.

    Raises ValueError as `resample` does, or for a confidence outside (0, 1).
    """
    found = resample(probabilities, labels, groups, n_resamples, seed)
    intervals = {name: percentiles(found.drawn[name], confidence) for name in BOOTSTRAPPED}
    if found.n_groups < 2:
        return intervals
    bound = ((1 - confidence) / 2) ** (1 / found.n_groups)  # of n of n; none of n mirrors it
    for name in _PROPORTIONS:
        if found.point[name] in (0.0, 1.0):
            intervals[name] = [bound, 1.0] if found.point[name] == 1.0 else [0.0, 1.0 - bound]
    return intervals | ({"top_3_accuracy": [1.0, 1.0]} if np.shape(probabilities)[1] <= 3 else {})


def student_interval(values: Sequence[float], confidence: float = 0.95) -> list[float] | None:
    """Interval of the mean of independent values, as of runs by several seeds: [low, high], None of fewer than two.

    mean -+ t * s / sqrt(n), with s of n - 1 degrees of freedom (Student 1908). Of differences between two methods seed
    by seed it is the paired interval. It supposes values that are about normal: near 0 or 1 an accuracy's is not, and
    the interval may reach beyond.

    >>> [round(end, 3) for end in student_interval([0.5, 0.6, 0.7])]
    [0.352, 0.848]
    """
    from scipy import stats  # half a second, which a recipe does not need

    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return None
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [float(values.mean() - half), float(values.mean() + half)]


class _GroupSums(NamedTuple):
    """What a resample needs to know of each group: `(groups, classes)` tables, and `auc`, two sparse tables a class."""

    hits: np.ndarray
    support: np.ndarray
    predicted: np.ndarray
    in_top_3: np.ndarray  # (groups,)
    losses: np.ndarray  # (groups,) negative log-likelihoods in nats
    auc: list


def _group_sums(probabilities: np.ndarray, labels: np.ndarray, codes: np.ndarray) -> _GroupSums:
    n_groups, n_classes = codes.max() + 1, probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)

    def table(class_ids, weights=None):
        cells = np.bincount(codes * n_classes + class_ids, weights, minlength=n_groups * n_classes)
        return cells.reshape(n_groups, n_classes).astype(np.float64)

    return _GroupSums(
        hits=table(labels, predicted == labels),
        support=table(labels),
        predicted=table(predicted),
        in_top_3=np.bincount(codes, in_top(probabilities, labels, 3)),
        losses=np.bincount(codes, log_losses(probabilities, labels)),
        auc=[_auc_tables(labels == class_id, probabilities[:, class_id], codes) for class_id in range(n_classes)],
    )


def _auc_tables(
    positive: np.ndarray, scores: np.ndarray, codes: np.ndarray
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Tables of the positives `(levels, groups)` and negatives `(levels + 1, groups)`, a level being a positive score.

    AUC = sum over positives of (negatives below + half the tied ones) / pairs, the midrank form of Hanley & McNeil
    1982. Half of each negative enters at the first level >= its score and half at the first level > its score: the
    running sum over levels is just that bracket, whatever the items weigh, and no resample needs sorting.
    """
    levels, level = np.unique(scores[positive], return_inverse=True)
    n_groups = codes.max() + 1
    positives = sparse.coo_array((np.ones(len(level)), (level, codes[positive])), shape=(len(levels), n_groups))
    negative, owner = scores[~positive], codes[~positive]
    entry = np.concatenate([np.searchsorted(levels, negative, side) for side in ("left", "right")])
    halves = (np.full(len(entry), 0.5), (entry, np.tile(owner, 2)))
    return positives.tocsr(), sparse.coo_array(halves, shape=(len(levels) + 1, n_groups)).tocsr()


def _scores_of_resamples(counts: np.ndarray, sums: _GroupSums) -> dict[str, np.ndarray]:
    """BOOTSTRAPPED scores `(resamples,)`, group g occurring `counts[r, g]` times in resample r; NaN where undefined."""
    counts = counts.astype(np.float64)
    hits, support, predicted = (counts @ table for table in (sums.hits, sums.support, sums.predicted))
    items, either = support.sum(axis=1), support + predicted
    ordered, pairs = _auc_fractions(counts, support, sums.auc)
    return {
        "accuracy": hits.sum(axis=1) / items,
        "balanced_accuracy": _mean(hits, support, over=support),
        "macro_precision": _mean(hits, predicted, over=either),
        "macro_recall": _mean(hits, support, over=either),
        "macro_f1": _mean(2 * hits, either, over=either),
        "top_3_accuracy": counts @ sums.in_top_3 / items,
        "roc_auc": _mean(ordered, pairs, over=pairs),
        "log_loss": counts @ sums.losses / items,
    }


def _auc_fractions(counts: np.ndarray, support: np.ndarray, tables: list) -> tuple[np.ndarray, np.ndarray]:
    """Pairs in the right order and all pairs, each `(resamples, classes)`."""
    columns = np.ascontiguousarray(counts.T)  # a sparse product runs along the resamples, contiguous here
    ordered = [((pos @ columns) * np.cumsum(neg @ columns, axis=0)[:-1]).sum(axis=0) for pos, neg in tables]
    return np.stack(ordered, axis=1), support * (support.sum(axis=1, keepdims=True) - support)


def _mean(numerators: np.ndarray, denominators: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Mean of numerator / denominator, 0 where that is 0 / 0, over the classes where `over` is not 0; NaN without any.

    All are `(resamples, classes)`.
    """
    ratios = np.divide(numerators, denominators, out=np.zeros_like(numerators), where=denominators > 0)
    number = (over > 0).sum(axis=1)
    return np.divide(ratios.sum(axis=1), number, out=np.full(len(ratios), np.nan), where=number > 0)
