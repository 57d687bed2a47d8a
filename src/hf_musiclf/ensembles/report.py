"""What an ensemble is worth on held-out tracks, beside each of its members, and the folder that keeps it."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_musiclf.crossvalidation import over_folds
from hf_musiclf.ensembles.cards import card
from hf_musiclf.ensembles.folders import save_ensemble
from hf_musiclf.ensembles.runs import Gathered
from hf_musiclf.errors import UserError
from hf_musiclf.files import write_json, write_whole
from hf_musiclf.metrics import classification_metrics
from hf_musiclf.mixtures import Mixture
from hf_musiclf.plots import plot_confusion_matrix, plot_per_class, plot_roc_curves
from hf_musiclf.predictions import PREDICTIONS_FILE, Predictions, joined, write_predictions
from hf_musiclf.report import score_tracks
from hf_musiclf.runs import REPORT_FILE
from hf_musiclf.significance import paired_differences


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
    own scores on the same tracks and what the ensemble has more, see `paired_differences`; "best_member" is the best of
    them on these very tracks, chosen in hindsight, which favours it. Raises UserError where folds have other labels or
    a track in common.
    """
    first, of_mixtures = parts[0], [mixture.mixed("test") for mixture in mixtures]
    labels = of_mixtures[0].labels
    tracks = [track for said in of_mixtures for track in said.tracks]
    if any(said.labels != labels for said in of_mixtures) or len(set(tracks)) < len(tracks):
        raise UserError(
            "the folds have other labels or test a track twice: they are not of one cross-validation; run it again "
            "into a new folder"
        )
    mixed = joined(of_mixtures)
    members = _of_members(mixed, mixtures, parts, names, n_resamples)
    best = max(members, key=lambda member: (member["test"]["track"]["accuracy"], -member["test"]["track"]["log_loss"]))
    report = {
        "recipe": "ensemble",
        "command": command,
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "data": {**first.data, "labels": list(labels)},
        "split_scheme": first.split_scheme,
        "split_seed": first.split_seed,
        "weights_by": weights_by,
        "members": members,
        "best_member": best["name"],
        "difference_to_best_member": best["difference"],
        "test": {"track": score_tracks(mixed, n_resamples)},
        "majority_class_accuracy": float(max(np.bincount(mixed.label_ids)) / len(mixed.label_ids)),
        "arguments": {"bootstrap_resamples": n_resamples},
    }
    if len(mixtures) > 1:
        scores = [classification_metrics(said.probabilities, said.label_ids) for said in of_mixtures]
        return {**report, "split_scheme": first.split_scheme.partition(",")[0], "folds": over_folds(scores)}
    if "validation" in mixtures[0].splits:
        report["validation"] = {"track": score_tracks(mixtures[0].mixed("validation"), n_resamples)}
    return report


def _of_members(
    mixed: Predictions,
    mixtures: Sequence[Mixture],
    parts: Sequence[Gathered],
    names: Sequence[str],
    n_resamples: int,
) -> list[dict[str, Any]]:
    """What the report tells of each member. A cross-validation has a weight for each fold, in a list."""
    members = []
    for index, name in enumerate(names):
        said = joined([mixture.splits["test"][index] for mixture in mixtures])
        weights = [float(mixture.weights[index]) for mixture in mixtures]
        shared = [part.facts[index]["shared_groups"] for part in parts]
        more = paired_differences(mixed.probabilities, said.probabilities, mixed.label_ids, mixed.groups, n_resamples)
        members.append(
            {
                **parts[0].facts[index],
                "name": name,
                "weight": weights[0] if len(mixtures) == 1 else weights,
                "shared_groups": {key: sum(fold[key] for fold in shared) for key in ("items", "known")},
                "test": {"track": score_tracks(said, n_resamples)},
                "difference": more,
            }
        )
    return members


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
            weights, labels = mixtures[0].weights, report["data"]["labels"]
            copied = save_ensemble(beside, folder, parts[0].members, weights, labels, link)
        # Of a fold its validation tracks are what another one tests.
        splits = ("test",) if len(mixtures) > 1 else mixtures[0].splits
        said = [{split: mixture.mixed(split) for split in splits} for mixture in mixtures]
        write_predictions(beside / PREDICTIONS_FILE, said)
        _draw(beside / "report", report, joined([of_fold["test"] for of_fold in said]))
        (beside / "README.md").write_text(card(report, folder.name), encoding="utf-8")
        write_json(beside / REPORT_FILE, dict(report))

    write_whole(folder, write)
    return copied


def _draw(folder: Path, report: Mapping[str, Any], tested: Predictions) -> None:
    labels, scores = report["data"]["labels"], report["test"]["track"]
    held_out = "all folds, tracks held out" if "folds" in report else "test tracks"
    about = f"ensemble of {len(report['members'])}, {report['data']['source']}, {report['split_scheme']}, {held_out}"
    folder.mkdir()
    plot_confusion_matrix(scores["confusion"], labels, folder / "confusion_matrix.png", about)
    plot_roc_curves(tested.probabilities, tested.label_ids, labels, folder / "roc_curves.png", about)
    plot_per_class(scores["per_class"], labels, folder / "per_class.png", about)
