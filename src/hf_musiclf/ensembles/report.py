"""What an ensemble is worth on held-out tracks, beside each of its members, and the folder that keeps it."""

import csv
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_musiclf.ensembles.cards import card
from hf_musiclf.ensembles.folders import save_ensemble
from hf_musiclf.ensembles.predictions import Mixture, Row
from hf_musiclf.ensembles.runs import Gathered
from hf_musiclf.errors import UserError
from hf_musiclf.files import write_json, write_whole
from hf_musiclf.intervals import student_interval
from hf_musiclf.metrics import classification_metrics, score_windows
from hf_musiclf.mixtures import paired_differences
from hf_musiclf.plots import plot_confusion_matrix, plot_per_class, plot_roc_curves
from hf_musiclf.report import name_classes
from hf_musiclf.runs import REPORT_FILE

OVER_FOLDS = ("accuracy", "macro_f1")


def evaluate(
    mixtures: Sequence[Mixture],
    parts: Sequence[Gathered],
    names: Sequence[str],
    weights_by: str,
    command: str,
    n_resamples: int = 2000,
) -> dict[str, Any]:
    """The report: scores of the test tracks of all mixtures together, one or one a fold, with bootstrap intervals.

    parts: what the mixtures are of. names: of the members, or of their cross-validations. "members" holds each member's
    own scores on the same tracks and what the ensemble has more, with the paired interval; "best_member" is the best of
    them on these very tracks, chosen in hindsight, which favours it. Raises UserError where folds have other labels or
    a track in common.
    """
    labels, first = list(mixtures[0].labels), parts[0]
    tracks = [row.track for mixture in mixtures for row in mixture.test.rows]
    if any(list(mixture.labels) != labels for mixture in mixtures) or len(set(tracks)) < len(tracks):
        raise UserError("the folds have other labels or test a track twice; they are not of one cross-validation")
    mixed, _, label_ids, groups = _all_together(mixtures, "test")
    members = _of_members(mixtures, parts, names, n_resamples)
    best = max(members, key=lambda member: (member["test"]["track"]["accuracy"], -member["test"]["track"]["log_loss"]))
    report = {
        "recipe": "ensemble",
        "command": command,
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "data": {**first.data, "labels": labels},
        "split_scheme": first.split_scheme,
        "split_seed": first.split_seed,
        "weights_by": weights_by,
        "members": members,
        "best_member": best["name"],
        "difference_to_best_member": best["difference"],
        "test": {"track": _score(mixed, label_ids, groups, labels, n_resamples)},
        "majority_class_accuracy": float(max(np.bincount(label_ids)) / len(label_ids)),
    }
    if len(mixtures) > 1:
        return {**report, "folds": _over_folds(mixtures)}
    if mixtures[0].validation:
        mixed, _, label_ids, groups = _all_together(mixtures, "validation")
        report["validation"] = {"track": _score(mixed, label_ids, groups, labels, n_resamples)}
    return report


def _score(
    probabilities: np.ndarray, label_ids, groups: list, labels: Sequence[str], n_resamples: int
) -> dict[str, Any]:
    scores = score_windows(probabilities, label_ids, groups=groups, n_resamples=n_resamples)
    name_classes(scores, labels)
    return scores


def _of_members(
    mixtures: Sequence[Mixture], parts: Sequence[Gathered], names: Sequence[str], n_resamples: int
) -> list[dict[str, Any]]:
    """What the report tells of each member. A cross-validation has a weight for each fold, in a list."""
    labels = mixtures[0].labels
    mixed, of_members, label_ids, groups = _all_together(mixtures, "test")
    members = []
    for index, (name, probabilities) in enumerate(zip(names, of_members, strict=True)):
        weights = [float(mixture.weights[index]) for mixture in mixtures]
        shared = [part.facts[index]["shared_groups"] for part in parts]
        members.append(
            {
                **parts[0].facts[index],
                "name": name,
                "weight": weights[0] if len(mixtures) == 1 else weights,
                "shared_groups": {key: sum(fold[key] for fold in shared) for key in ("items", "known")},
                "test": {"track": _score(probabilities, label_ids, groups, labels, n_resamples)},
                "difference": paired_differences(mixed, probabilities, label_ids, groups, n_resamples),
            }
        )
    return members


def _all_together(mixtures: Sequence[Mixture], split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list]:
    """Mixed `(tracks, labels)`, of the members `(members, tracks, labels)`, label ids and groups of all mixtures."""
    every = [getattr(mixture, split) for mixture in mixtures]
    return (
        np.concatenate([mixture.mixed(split) for mixture in mixtures]),
        np.concatenate([part.probabilities for part in every], axis=1),
        np.concatenate([part.label_ids for part in every]),
        [row.group for part in every for row in part.rows],
    )


def _over_folds(mixtures: Sequence[Mixture]) -> dict[str, dict[str, Any]]:
    """Of each fold, their mean and its interval, cut to [0, 1], as the report of a cross-validation has them."""
    scores = [classification_metrics(mixture.mixed("test"), mixture.test.label_ids) for mixture in mixtures]
    found = {}
    for name in OVER_FOLDS:
        values = [fold[name] for fold in scores]
        low, high = student_interval(values)
        found[name] = {
            "values": values,
            "mean": float(np.mean(values)),
            "mean_interval": [max(0.0, low), min(1.0, high)],
        }
    return found


def write_ensemble(
    folder: Path, report: Mapping[str, Any], mixtures: Sequence[Mixture], parts: Sequence[Gathered], link: bool = False
) -> int:
    """Make `folder`, whole or not at all: models, ensemble.json, predictions, pictures, card, report.

    Of folds no model is kept. link: see `save_ensemble`. Returns the bytes of the models copied.
    """
    copied = 0

    def write(beside: Path) -> None:
        nonlocal copied
        beside.mkdir()
        if len(mixtures) == 1:
            mixture, members = mixtures[0], parts[0].members
            copied = save_ensemble(beside, folder, members, mixture.weights, mixture.labels, link)
        _write_predictions(beside / "predictions.csv", mixtures)
        _draw(beside / "report", report, mixtures)
        (beside / "README.md").write_text(card(report, folder.name), encoding="utf-8")
        write_json(beside / REPORT_FILE, dict(report))

    write_whole(folder, write)
    return copied


def _write_predictions(path: Path, mixtures: Sequence[Mixture]) -> None:
    """As a run writes them; of folds the test tracks, with the fold first."""
    labels, folds = mixtures[0].labels, len(mixtures) > 1
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(["fold"] if folds else []), "split", "track", "group", "label", "predicted", *labels])
        for number, mixture in enumerate(mixtures, 1):
            for split in ("test",) if folds or not mixture.validation else ("validation", "test"):
                rows: list[Row] = getattr(mixture, split).rows
                for row, of_row in zip(rows, mixture.mixed(split), strict=True):
                    about = [split, row.track, row.group or "", row.label, labels[of_row.argmax()]]
                    values = (f"{value:.6f}" for value in of_row)
                    writer.writerow([*([number] if folds else []), *about, *values])


def _draw(folder: Path, report: Mapping[str, Any], mixtures: Sequence[Mixture]) -> None:
    labels, scores = report["data"]["labels"], report["test"]["track"]
    mixed, _, label_ids, _ = _all_together(mixtures, "test")
    held_out = "all folds, tracks held out" if len(mixtures) > 1 else "test tracks"
    about = f"ensemble of {len(report['members'])}, {report['data']['source']}, {report['split_scheme']}, {held_out}"
    folder.mkdir()
    plot_confusion_matrix(scores["confusion"], labels, folder / "confusion_matrix.png", about)
    plot_roc_curves(mixed, label_ids, labels, folder / "roc_curves.png", about)
    plot_per_class(scores["per_class"], labels, folder / "per_class.png", about)
