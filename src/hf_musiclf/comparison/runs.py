"""Finished runs, cross-validations and ensembles, read to be compared: refused where that would not be fair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import metrics as sk

from hf_musiclf.crossvalidation import fold_folders
from hf_musiclf.errors import UserError
from hf_musiclf.files import read_json
from hf_musiclf.predictions import PREDICTIONS_FILE, Predictions, in_order_of, read_predictions
from hf_musiclf.runs import REPORT_FILE, RUN_FILE, how_to_go_on


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, a whole cross-validation or an ensemble, and what it said of every test track.

    report: as in report.json. parts: the report itself, or those of the folds that are there. digests: of the tracks
    in their splits, from the run.json of every part.
    """

    name: str
    report: Mapping[str, Any]
    parts: tuple[Mapping[str, Any], ...]
    digests: tuple[str, ...]
    tested: Predictions

    @property
    def scores(self) -> Mapping[str, Any]:
        """Of whole test tracks, as `metrics.score_windows` made them."""
        return self.report["test"]["track"]

    @property
    def trainings(self) -> list[Mapping[str, Any]]:
        """Reports of the trainings behind it: one, or one a fold; none of an ensemble."""
        return [part for part in self.parts if "training" in part]

    @property
    def confusion(self) -> np.ndarray:
        """`(labels, labels)` counts, row = label, column = prediction."""
        label_ids = range(len(self.tested.labels))
        return sk.confusion_matrix(self.tested.label_ids, self.tested.predicted, labels=label_ids)


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
    runs = [read_run(folder, name) for folder, name in zip(folders, called, strict=True)]
    first = runs[0]
    return [replace(run, tested=in_order_of(first.tested, run.tested, (first.name, run.name))) for run in runs]


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
    """What a finished run, cross-validation or ensemble left. Raises UserError where it is not finished, or damaged."""
    report = read_json(folder / REPORT_FILE)
    if report is None:
        raise UserError(f"{folder} {_why_unfinished(folder)}")
    if "labels" not in report.get("data", {}) or "track" not in report.get("test", {}):
        raise UserError(
            f"{folder}: its {REPORT_FILE} is not of a run, a cross-validation or an ensemble; name a folder of one"
        )
    folders, parts = [folder], [report]
    if "folds" in report:
        folders = fold_folders(folder)[: len(report["folds"]["accuracy"]["values"])]
        parts = [found for fold in folders if (found := read_json(fold / REPORT_FILE))]
    digests = [found.get("tracks", "") for fold in folders if (found := read_json(fold / RUN_FILE))]
    run = FinishedRun(name, report, tuple(parts), tuple(digests), read_predictions(folder)["test"])
    if list(run.tested.labels) != report["data"]["labels"] or run.confusion.tolist() != run.scores["confusion"]:
        raise UserError(
            f"{folder} is damaged: its {PREDICTIONS_FILE} and {REPORT_FILE} are not of one run; run it again"
        )
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
    return f"holds no finished run: its {REPORT_FILE} is missing; name the output_dir of a recipe"


def warnings(runs: Sequence[FinishedRun]) -> list[str]:
    """What to know before the figures are believed: other training tracks than the first run's, and leaks."""
    first, found = runs[0], []
    for other in runs[1:]:
        facts = zip(_facts(other), _facts(first), strict=True)
        apart = [f"{what} {its!r}, not {firsts!r}" for (what, its), (_, firsts) in facts if its != firsts]
        if other.digests and first.digests and other.digests != first.digests:
            apart.append("by their run.json the tracks of training or validation, or the audio of some, are others")
        if apart:
            found.append(
                f"{other.name} was not trained as {first.name} was ({'; '.join(apart)}): "
                "what differs may be the training tracks, not the model."
            )
    leaking: dict[int, list[str]] = {}
    for run in runs:
        leaks = [part["leakage"]["train/test"]["group"]["items"] for part in run.parts if "leakage" in part]
        of_members = [member["shared_groups"]["items"] for member in run.report.get("members", ())]
        leaking.setdefault(max([sum(leaks), *of_members]), []).append(run.name)
    leaking.pop(0, None)
    word = first.report["data"]["group"]
    for count, names in leaking.items():
        who = "every run" if len(names) == len(runs) else ", ".join(names)
        found.append(f"{who}: {count} of {len(first.tested.tracks)} test tracks share their {word} with training.")
    return found


def _facts(run: FinishedRun) -> list[tuple[str, Any]]:
    """What two runs must share for their training tracks to be the same."""
    report = run.report
    return [("data", report["data"]["source"]), ("split", report["split_scheme"]), ("split seed", report["split_seed"])]
