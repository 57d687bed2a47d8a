"""Models compared on the same tracks: paired differences, McNemar's test, Holm's correction, mean ROC curves.

`labels` and `predicted` are `(tracks,)` ids in `0..classes-1`, probabilities `(tracks, classes)`, a row a track.
"""

from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np
from scipy import sparse, stats
from sklearn import metrics as sk

from hf_musiclf.probabilities import checked_ids, id_codes

PAIRED = ("accuracy", "macro_f1")
# Beside those that every report has from `intervals.bootstrap_intervals`.
RESAMPLED = ("macro_precision", "macro_recall", "log_loss")
CONFIDENCE = 0.95


def resample_groups(groups: Sequence[Hashable], n_resamples: int = 2000, seed: int = 0) -> tuple[np.ndarray, ...]:
    """The bootstrap's draws of whole groups, to be used for every model alike.

    groups: `(tracks,)` ids; a track whose id is None is its own group. Returns codes `(tracks,)` of the groups and how
    often each occurs, `(n_resamples, groups)`: the draws of `intervals.bootstrap_intervals` for the same seed.
    """
    codes = id_codes(checked_ids(groups, len(groups), "groups"))
    n_groups = codes.max() + 1
    drawn = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)
    return codes, drawn


def resampled_scores(counts, codes, labels, predicted, n_classes: int, losses=None) -> dict[str, np.ndarray]:
    """Scores `(resamples,)` where group g occurs `counts[r, g]` times in resample r.

    counts: `(resamples, groups)`. codes: `(tracks,)` of groups. losses: `(tracks,)` negative log-likelihoods, or None.
    The scores are those of `metrics.classification_metrics`: a macro mean runs over the classes that occur among the
    resample's labels or predictions.
    """
    n = len(labels)
    in_group = sparse.csr_array((np.ones(n), (codes, np.arange(n))), shape=(counts.shape[1], n))
    told, said = np.eye(n_classes)[labels], np.eye(n_classes)[predicted]
    hits, support, answers = (counts @ (in_group @ rows) for rows in (told * said, told, said))
    occurs = support + answers > 0

    def macro(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
        ratios = np.divide(numerators, denominators, out=np.zeros_like(numerators), where=denominators > 0)
        return ratios.sum(axis=1) / occurs.sum(axis=1)

    items = support.sum(axis=1)
    found = {
        "accuracy": hits.sum(axis=1) / items,
        "macro_precision": macro(hits, answers),
        "macro_recall": macro(hits, support),
        "macro_f1": macro(2 * hits, support + answers),
    }
    return found if losses is None else {**found, "log_loss": counts @ (in_group @ losses) / items}


def missing_intervals(
    labels, predicted, losses, groups: Sequence[Hashable], n_classes: int, n_resamples: int = 2000
) -> dict[str, list[float] | None]:
    """Group-bootstrap intervals of RESAMPLED, as NAME_interval: what a report does not hold.

    losses: `(tracks,)` nats. None for fewer than two groups, and for a precision or recall of 0 or 1, where every
    resample says the same and the interval would claim too much.
    """
    codes, counts = resample_groups(groups, n_resamples)
    everything = np.ones((1, counts.shape[1]))
    point, drawn = (resampled_scores(c, codes, labels, predicted, n_classes, losses) for c in (everything, counts))
    found = {f"{name}_interval": _interval(drawn[name], counts.shape[1]) for name in RESAMPLED}
    for name in ("macro_precision", "macro_recall"):
        if point[name][0] in (0.0, 1.0):
            found[f"{name}_interval"] = None
    return found


def compare_pairs(
    labels,
    predictions: Sequence[np.ndarray],
    groups: Sequence[Hashable],
    n_classes: int,
    pairs: Sequence[tuple[int, int]],
    n_resamples: int = 2000,
) -> list[dict]:
    """For each pair of models (first, second), how much better the second is, on the same tracks.

    predictions: by model, `(tracks,)` ids. Returns dicts with "pair"; "accuracy" and "macro_f1", each a "difference"
    (second minus first) and its 95 % "interval" by resampling whole groups, the same ones for both models (percentile
    bootstrap of paired differences: Efron & Tibshirani 1993, ch. 13), None for fewer than two groups; "mcnemar" (see
    `mcnemar`); and "p_holm", its p among those of all these pairs.
    """
    codes, counts = resample_groups(groups, n_resamples)
    everything = np.ones((1, counts.shape[1]))
    point, drawn = (
        [resampled_scores(c, codes, labels, predicted, n_classes) for predicted in predictions]
        for c in (everything, counts)
    )
    found = []
    for first, second in pairs:
        row = {"pair": (first, second)}
        for name in PAIRED:
            row[name] = {
                "difference": float(point[second][name][0] - point[first][name][0]),
                "interval": _interval(drawn[second][name] - drawn[first][name], counts.shape[1]),
            }
        row["mcnemar"] = mcnemar(predictions[first] == labels, predictions[second] == labels)
        found.append(row)
    for row, p in zip(found, holm([row["mcnemar"]["p"] for row in found]), strict=True):
        row["p_holm"] = p
    return found


def mcnemar(first_right, second_right) -> dict:
    """McNemar's exact test (McNemar 1947; two-sided binomial): are both models as often right where one alone is?

    first_right, second_right: `(tracks,)` bool. Returns the tracks on which the first or the second alone is right,
    and p. It takes the tracks for independent, which several tracks of one artist are not: p is then too small.

    >>> mcnemar([True, False, False, False], [True, True, True, True])
    {'only_first': 0, 'only_second': 3, 'p': 0.25}
    """
    first_right, second_right = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    only_first, only_second = (
        int(np.sum(x & ~y)) for x, y in ((first_right, second_right), (second_right, first_right))
    )
    differ = only_first + only_second
    p = float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0
    return {"only_first": only_first, "only_second": only_second, "p": p}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjustment: below alpha where the test stands with the chance of any error under alpha.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    adjusted = np.empty_like(values)
    adjusted[order] = stepped
    return adjusted.tolist()


def disagreement(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """How far the models are apart on each track: the mean total variation of their pairs, `(tracks,)` in [0, 1].

    probabilities: by model, two or more of `(tracks, classes)`.
    """
    apart = [np.abs(first - second).sum(axis=1) / 2 for first, second in combinations(probabilities, 2)]
    return np.mean(apart, axis=0)


def macro_roc(probabilities, labels) -> tuple[np.ndarray, np.ndarray] | None:
    """The mean of the ROC curves of each class against the rest: false positive rate, mean true positive rate.

    The mean is taken at each false positive rate, on both sides of a step, so that the area under the curve is the
    mean of the classes' areas, roc_auc of `classification_metrics`. None if no class has items on both sides.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    curves = [
        sk.roc_curve(labels == class_id, probabilities[:, class_id])[:2]
        for class_id in range(probabilities.shape[1])
        if 0 < (labels == class_id).sum() < len(labels)
    ]
    if not curves:
        return None
    grid = np.unique(np.concatenate([false_rate for false_rate, _ in curves]))
    sides = np.mean([_step_sides(grid, *curve) for curve in curves], axis=0)
    return np.repeat(grid, 2), sides.T.ravel()


def _step_sides(grid: np.ndarray, false_rate: np.ndarray, true_rate: np.ndarray) -> np.ndarray:
    """A curve's value left and right of each point of the grid, `(2, points)`; they differ at an upright step."""
    places, first = np.unique(false_rate, return_index=True)
    last = np.append(first[1:], len(false_rate)) - 1
    before, after = true_rate[first], true_rate[last]
    here = np.searchsorted(places, grid, "right") - 1
    there = np.minimum(here + 1, len(places) - 1)
    width = places[there] - places[here]
    share = np.divide(grid - places[here], width, out=np.zeros(len(grid)), where=width > 0)
    between = after[here] + share * (before[there] - after[here])
    at = places[here] == grid
    return np.stack([np.where(at, before[here], between), np.where(at, after[here], between)])


def _interval(values: np.ndarray, n_groups: int) -> list[float] | None:
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(values, [tail, 1 - tail]).tolist() if n_groups > 1 else None
