"""Scores of a music classifier, each accuracy with its interval.

Probabilities are `(n, classes)`, a row an item (a window or a whole track); labels are ids in `0..classes-1`.
`MusicClassification` offers the scores of windows and of tracks to the `evaluate` library.
"""

from collections.abc import Sequence

import numpy as np

from hf_musiclf.intervals import bootstrap_intervals
from hf_musiclf.probabilities import checked, checked_ids, in_top, log_losses, mean_by_track


def classification_metrics(probabilities, labels) -> dict:
    """Point estimates for `(n, classes)` probabilities and `(n,)` int labels, as plain JSON types.

    The predicted class is the most probable one, the lower id on a tie.

    - accuracy; balanced_accuracy: mean recall over the labels with support; top_3_accuracy: the label is among the
      min(3, classes) most probable; log_loss: mean negative log-likelihood in nats, clipped at the float64 epsilon.
    - macro_precision, macro_recall, macro_f1: scikit-learn's `average="macro", zero_division=0` with its default
      labels, so the mean runs over the classes that occur among labels or predictions. (macro_recall therefore counts
      a predicted class without support as 0, where balanced_accuracy leaves it out.)
    - roc_auc: one class against the rest, mean over the classes that have items on both sides; None if there is none.
    - per_class: by class id, precision, recall, f1, support and roc_auc (or None); 0 where the denominator is 0.
    - confusion: `(classes, classes)` counts, row = label, column = prediction. n: number of items.

    Raises ValueError if there are no items, the shapes differ, a label is out of range, or rows are not probabilities.
    """
    from sklearn import metrics as sk  # half a second, which a run's start need not wait for

    probabilities, labels = checked(probabilities, labels)
    class_ids = range(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    confusion = sk.confusion_matrix(labels, predicted, labels=class_ids)
    table = sk.precision_recall_fscore_support(labels, predicted, labels=class_ids, zero_division=0)
    macro = sk.precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    auc = [_one_class_auc(labels == class_id, probabilities[:, class_id]) for class_id in class_ids]
    defined = [value for value in auc if value is not None]
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "balanced_accuracy": float(table[1][table[3] > 0].mean()),
        "macro_f1": float(macro[2]),
        "macro_precision": float(macro[0]),
        "macro_recall": float(macro[1]),
        "top_3_accuracy": float(np.mean(in_top(probabilities, labels, 3))),
        "roc_auc": float(np.mean(defined)) if defined else None,
        "log_loss": float(log_losses(probabilities, labels).mean()),
        "per_class": _per_class(*(column.tolist() for column in table), auc),
        "confusion": confusion.tolist(),
        "n": len(labels),
    }


def choice_metrics(probabilities, labels) -> dict[str, float]:
    """Of `classification_metrics` those by which a model is chosen while it trains: accuracy, macro_f1 and log_loss.

    In a tenth of the time, as the others want a pass for every class. Raises ValueError as that does.
    """
    from sklearn.metrics import f1_score

    probabilities, labels = checked(probabilities, labels)
    predicted = probabilities.argmax(axis=1)
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "log_loss": float(log_losses(probabilities, labels).mean()),
    }


def score_windows(
    probabilities, labels, groups: Sequence | None = None, tracks: Sequence | None = None, **bootstrap
) -> dict:
    """`classification_metrics` and, as NAME_interval, `bootstrap_intervals`: of windows, and of tracks if given.

    probabilities: `(windows, classes)`. labels: `(windows,)` int. groups, tracks: `(windows,)` ids, or None. bootstrap:
    n_resamples, confidence, seed. A window without a group belongs to the group of its track, or is its own if tracks
    is None. Returns {"window": {...}, "track": {...}} if tracks are given, else one flat dict, of plain JSON types.
    Raises ValueError as those two do, and if the windows of a track disagree about its label or its group.
    """
    probabilities, labels = checked(probabilities, labels)
    groups = checked_ids([None] * len(labels) if groups is None else groups, len(labels), "groups")
    if tracks is None:
        return _with_intervals(probabilities, labels, groups, bootstrap)
    track_ids, track_probabilities = mean_by_track(probabilities, tracks)
    tracks = checked_ids(tracks, len(labels), "tracks")
    track_labels = _one_per_track(tracks, labels.tolist(), "labels")
    track_groups = _one_per_track(tracks, groups, "groups")
    # Windows of one track stay together even if its group is unknown; pairs, lest a track id equal some group's id.
    groups = [("track", t) if group is None else ("group", group) for t, group in zip(tracks, groups, strict=True)]
    per_track = track_probabilities, [track_labels[t] for t in track_ids], [track_groups[t] for t in track_ids]
    return {
        "window": _with_intervals(probabilities, labels, groups, bootstrap),
        "track": _with_intervals(*per_track, bootstrap),
    }


def macro_roc(probabilities, labels) -> tuple[np.ndarray, np.ndarray] | None:
    """The mean of the ROC curves of each class against the rest: false positive rate, mean true positive rate.

    The mean is taken at each false positive rate, on both sides of a step, so that the area under the curve is the
    mean of the classes' areas, roc_auc of `classification_metrics`. None if no class has items on both sides.
    """
    from sklearn import metrics as sk

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


def __getattr__(name: str):
    # `import evaluate` pulls in torch and transformers, seconds that scoring can do without: made when first asked for.
    if name != "MusicClassification":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, _music_classification())


def _music_classification() -> type:
    import datasets
    import evaluate

    class MusicClassification(evaluate.Metric):
        """`score_windows` as a metric of the `evaluate` library; made directly, without the network.

        `MusicClassification(keep_in_memory=True).compute(predictions=probabilities, references=labels, groups=...,
        tracks=...)`, with n_resamples, confidence and seed if wanted. groups and tracks go to `compute` only, not to
        `add` or `add_batch`: they may be missing, ints or strings, which the columns of `evaluate` may not.
        """

        __qualname__ = "MusicClassification"

        def _info(self) -> evaluate.MetricInfo:
            row = {"predictions": datasets.Sequence(datasets.Value("float64")), "references": datasets.Value("int64")}
            return evaluate.MetricInfo(
                description=_DESCRIPTION,
                citation=_CITATION,
                inputs_description=_INPUTS,
                features=datasets.Features(row),
            )

        def _compute(self, predictions, references, groups=None, tracks=None, **bootstrap) -> dict:
            return score_windows(predictions, references, groups, tracks, **bootstrap)

    return MusicClassification


_DESCRIPTION = (
    "Accuracy and its relatives of a music classifier, of windows and of whole tracks, with group bootstrap intervals."
)
_INPUTS = """
Args:
    predictions: (windows, classes) probabilities; softmax logits first.
    references: (windows,) class ids.
    groups: (windows,) ids of what must not be taken for independent (an artist), or None.
    tracks: (windows,) track ids, or None; with them the result is {"window": {...}, "track": {...}}.
    n_resamples, confidence, seed: of the bootstrap; 2000, 0.95 and 0.
Returns:
    a dict of accuracy, macro_f1, ... and accuracy_interval, macro_f1_interval, ...: [low, high] or None.
"""
_CITATION = """
@article{field2007bootstrapping, author={Field, C. A. and Welsh, A. H.}, title={Bootstrapping clustered data},
  journal={Journal of the Royal Statistical Society: Series B}, volume={69}, number={3}, pages={369--390}, year={2007}}
"""


def _with_intervals(probabilities, labels, groups, bootstrap: dict) -> dict:
    intervals = bootstrap_intervals(probabilities, labels, groups, **bootstrap)
    scores = classification_metrics(probabilities, labels)
    return scores | {f"{name}_interval": interval for name, interval in intervals.items()}


def _per_class(*columns: list) -> list[dict]:
    names = ("precision", "recall", "f1", "support", "roc_auc")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _one_class_auc(positive: np.ndarray, scores: np.ndarray) -> float | None:
    from sklearn import metrics as sk

    return float(sk.roc_auc_score(positive, scores)) if 0 < positive.sum() < len(positive) else None


def _one_per_track(tracks: list, values: list, what: str) -> dict:
    found: dict = {}
    for track, value in zip(tracks, values, strict=True):
        if found.setdefault(track, value) != value:
            raise ValueError(f"{what} of track {track!r} differ between its windows: {found[track]!r} and {value!r}")
    return found
