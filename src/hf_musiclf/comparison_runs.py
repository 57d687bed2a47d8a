"""Finished runs and cross-validations, read to be compared: refused where that would not be fair."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_musiclf.errors import UserError
from hf_musiclf.runs import REPORT_FILE, RUN_FILE, how_to_go_on

NAMED = 3  # tracks or labels that a message names


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, a whole cross-validation or an ensemble, and what it said of every test track.

    report: as in report.json. parts: the report itself, or those of the folds that are there. digests: of the tracks
    in their splits, from the run.json of every part. labels: names, in the order of columns and ids. tracks: names.
    groups: `(tracks,)`, None where unknown. label_ids, predicted: `(tracks,)`. probabilities: `(tracks, labels)`.
    """

    name: str
    report: Mapping[str, Any]
    parts: tuple[Mapping[str, Any], ...]
    digests: tuple[str, ...]
    labels: tuple[str, ...]
    tracks: tuple[str, ...]
    groups: tuple[str | None, ...]
    label_ids: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray

    @property
    def scores(self) -> Mapping[str, Any]:
        """Of whole test tracks, as `metrics.score_windows` made them."""
        return self.report["test"]["track"]

    @property
    def trainings(self) -> list[Mapping[str, Any]]:
        """Reports of the trainings behind it: one, or one a fold; none of an ensemble."""
        return [part for part in self.parts if "training" in part]

    @property
    def losses(self) -> np.ndarray:
        """Negative log-likelihood of each track in nats, `(tracks,)`, clipped as the report's log_loss is."""
        likelihood = np.take_along_axis(self.probabilities, self.label_ids[:, None], axis=1)[:, 0]
        return -np.log(likelihood.clip(np.finfo(np.float64).eps, 1))

    @property
    def confusion(self) -> np.ndarray:
        """`(labels, labels)` counts, row = label, column = prediction."""
        found = np.zeros((len(self.labels), len(self.labels)), dtype=int)
        np.add.at(found, (self.label_ids, self.predicted), 1)
        return found


def read_runs(folders: Sequence[Path], names: Sequence[str] | None = None) -> list[FinishedRun]:
    """The runs in these folders, their tracks and labels in the order of the first one's.

    names: what to call them, None for their folders' names. Raises UserError for fewer than two folders, one without a
    finished or with a damaged run, and runs of other labels, other test tracks, or other groups of these.
    """
    if len(folders) < 2:
        raise UserError(f"{len(folders)} run to compare; name two finished runs or more")
    if names is not None and len(names) != len(folders):
        raise UserError(f"names has {len(names)} entries for {len(folders)} runs; give one for each")
    called = distinct_names(folders, names)
    first, *others = (read_run(folder, name) for folder, name in zip(folders, called, strict=True))
    return [first, *(_in_order_of(first, other) for other in others)]


def distinct_names(folders: Sequence[Path], names: Sequence[str] | None = None) -> list[str]:
    """Names by folder: as few last parts of the path as tell them apart, and a number for what still is the same.

    >>> distinct_names([Path("runs/a/ast"), Path("runs/b/ast"), Path("runs/b/ast")])
    ['a/ast', 'b/ast', 'b/ast (2)']
    """
    if names is None:
        paths = [folder.resolve() for folder in folders]
        depths = range(1, max(len(path.parts) for path in paths) + 1)
        tails = ([Path(*path.parts[-depth:]).as_posix() for path in paths] for depth in depths)
        names = next(names for names in tails if len(set(names)) == len(set(paths)))
    taken: set[str] = set()
    distinct = []
    for name in names:
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name} ({number})"
        taken.add(free)
        distinct.append(free)
    return distinct


def read_run(folder: Path, name: str) -> FinishedRun:
    """What a finished run or cross-validation left. Raises UserError where it is not finished, or damaged."""
    if not (folder / REPORT_FILE).is_file():
        raise UserError(f"{folder} {_why_unfinished(folder)}")
    report = _read_json(folder / REPORT_FILE)
    if "labels" not in report.get("data", {}) or "track" not in report.get("test", {}):
        raise UserError(f"{folder}: its {REPORT_FILE} is not of a recipe's run or of scripts/cross_validate.py")
    if "folds" in report:
        count = len(report["folds"]["accuracy"]["values"])
        folders = [folder / f"fold_{number}" for number in range(1, count + 1)]
        parts = tuple(_read_json(fold / REPORT_FILE) for fold in folders if (fold / REPORT_FILE).is_file())
    else:
        folders, parts = [folder], (report,)
    digests = tuple(_read_json(fold / RUN_FILE).get("tracks", "") for fold in folders if (fold / RUN_FILE).is_file())
    run = FinishedRun(name, report, parts, digests, *_read_predictions(folder, tuple(report["data"]["labels"])))
    if run.confusion.tolist() != report["test"]["track"]["confusion"]:
        raise UserError(f"{folder} is damaged: its predictions.csv and {REPORT_FILE} are not of one run; run it again")
    return run


def _why_unfinished(folder: Path) -> str:
    if not folder.is_dir():
        return "is no folder; name the output_dir of a finished run"
    if (folder / RUN_FILE).is_file():
        return f"holds an unfinished run; {how_to_go_on(folder)}"
    if any(folder.glob("fold_*")):
        return (
            "holds an unfinished cross-validation; run the same command again: it goes on at the fold where it stopped"
        )
    return f"holds no finished run: its {REPORT_FILE} is missing; name the output_dir of a recipe or a cross-validation"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read; run it again") from error
    return found if isinstance(found, dict) else {}


def _read_predictions(folder: Path, labels: tuple[str, ...]) -> tuple:
    """Tracks, groups, ids of labels and of predictions, probabilities of the test rows, and the labels before them."""
    path = folder / "predictions.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        # By place, not by name: a label may be called "track".
        split, track, group, label, answer = map(head.index, ("split", "track", "group", "label", "predicted"))
        rows = [row for row in rows if row[split] == "test"]
        places = [answer + 1 + head[answer + 1 :].index(name) for name in labels]
        label_ids, predicted = (np.array([labels.index(row[place]) for row in rows]) for place in (label, answer))
        probabilities = np.array([[float(row[place]) for place in places] for row in rows])
        # Written with six digits.
        probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    except (OSError, ValueError, IndexError, csv.Error) as error:
        fault = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise UserError(f"{folder} is damaged: its predictions.csv {fault}; run it again") from error
    tracks = tuple(row[track] for row in rows)
    if not tracks or len(set(tracks)) < len(tracks):
        raise UserError(f"{folder} is damaged: its predictions.csv does not hold every test track once; run it again")
    return labels, tracks, tuple(row[group] or None for row in rows), label_ids, predicted, probabilities


def _in_order_of(first: FinishedRun, other: FinishedRun) -> FinishedRun:
    """The other run with its tracks and labels in the order of the first. Raises UserError where they differ."""
    if set(first.labels) != set(other.labels):
        apart = _only(first.name, first.labels, other.labels) + _only(other.name, other.labels, first.labels)
        raise UserError(f"the labels of {first.name} and {other.name} differ: {'; '.join(apart)}")
    if set(first.tracks) != set(other.tracks):
        shared = len(set(first.tracks) & set(other.tracks))
        apart = _only(first.name, first.tracks, other.tracks) + _only(other.name, other.tracks, first.tracks)
        counts = f"{len(first.tracks)} and {len(other.tracks)} with {shared} in common"
        raise UserError(
            f"{first.name} and {other.name} were tested on different tracks, {counts} ({'; '.join(apart)}); "
            "compare runs of one --split_scheme, --split_seed and --fold"
        )
    rows = [other.tracks.index(track) for track in first.tracks] if first.tracks != other.tracks else slice(None)
    columns = [other.labels.index(label) for label in first.labels]
    new_id = np.array([first.labels.index(label) for label in other.labels])
    moved = replace(
        other,
        labels=first.labels,
        tracks=first.tracks,
        groups=tuple(np.array(other.groups, dtype=object)[rows]),
        label_ids=new_id[other.label_ids[rows]],
        predicted=new_id[other.predicted[rows]],
        probabilities=other.probabilities[rows][:, columns],
    )
    for what, one, two in (("label", first.label_ids, moved.label_ids), ("group", first.groups, moved.groups)):
        apart = [track for track, a, b in zip(first.tracks, one, two, strict=True) if a != b]
        if apart:
            raise UserError(
                f"{first.name} and {other.name} know another {what} of {len(apart)} test tracks "
                f"({_some(apart)}); run one of them again, on the data of the other"
            )
    return moved


def _only(name: str, these: Sequence[str], those: Sequence[str]) -> list[str]:
    alone = [item for item in these if item not in set(those)]
    return [f"only {name} has {_some(alone)}"] if alone else []


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:NAMED]) + (f" and {len(items) - NAMED} more" if len(items) > NAMED else "")


def warnings(runs: Sequence[FinishedRun]) -> list[str]:
    """What to know before the figures are believed: other training tracks than the first run's, and leaks."""
    first, found = runs[0], []
    for other in runs[1:]:
        apart = [
            f"{what} {_told(other, key)}, not {_told(first, key)}"
            for key, what in (("split_scheme", "split"), ("split_seed", "split seed"))
            if other.report[key] != first.report[key]
        ]
        if other.digests and first.digests and other.digests != first.digests:
            apart.append("by their run.json the tracks of training or validation, or their audio, are others")
        if apart:
            found.append(
                f"{other.name} was not trained as {first.name} was ({'; '.join(apart)}): "
                "what differs may be the training tracks, not the model."
            )
    leaking: dict[int, list[str]] = {}
    for run in runs:
        leaks = [part["leakage"]["train/test"]["group"] for part in run.parts if "leakage" in part]
        leaking.setdefault(sum(leak["items"] for leak in leaks), []).append(run.name)
    leaking.pop(0, None)
    word = first.report["data"]["group"]
    for count, names in leaking.items():
        who = "every run" if len(names) == len(runs) else ", ".join(names)
        found.append(f"{who}: {count} of {len(first.tracks)} test tracks share their {word} with training.")
    return found


def _told(run: FinishedRun, key: str) -> str:
    return f"{run.report[key]!r}" if isinstance(run.report[key], str) else str(run.report[key])
