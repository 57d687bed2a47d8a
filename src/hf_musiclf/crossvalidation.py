"""Cross-validation: a recipe's run for each fold, and one report in which every track tested is held out once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import release_memory

from hf_musiclf.data.loading import load_tracks
from hf_musiclf.data.tracks import Tracks, split_tracks
from hf_musiclf.errors import UserError
from hf_musiclf.files import write_json, write_whole
from hf_musiclf.intervals import student_interval
from hf_musiclf.plots import plot_confusion_matrix, plot_per_class
from hf_musiclf.predictions import PREDICTIONS_FILE, Predictions, joined, read_predictions, write_predictions
from hf_musiclf.report import score_tracks, with_interval
from hf_musiclf.runs import REPORT_FILE, all_arguments, finished_report

FOLD_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc")
WAY_OUT = "delete that folder, and the same command runs the fold again"
# Arguments that differ between folds; and what a combined report takes over from them, in which it is the same.
OF_A_FOLD = ("fold", "output_dir")
SHARED = ("recipe", "seed", "versions", "split_seed", "model", "sampling_rate", "window_seconds")


@dataclass(frozen=True)
class Fold:
    """A fold before it runs.

    number: from 1. words: the recipe's command line. tracks: in the fold's splits. report: of its run, where that is
    finished.
    """

    number: int
    folder: Path
    words: tuple[str, ...]
    tracks: Tracks
    report: dict[str, Any] | None


def plan_folds(
    parse: Callable[[Sequence[str]], tuple], flags: Sequence[str], folds: int, output_dir: Path
) -> list[Fold]:
    """Draw every fold and look at `output_dir/fold_N`, so that what cannot be done is refused before any training.

    parse: command line -> the three argument objects of the recipe. Raises UserError for a fold that cannot be drawn,
    and where one was finished with other arguments or other tracks, or is damaged.
    """
    first = None
    plan = []
    for number in range(1, folds + 1):
        folder = output_dir / f"fold_{number}"
        words = (*flags, f"--folds={folds}", f"--fold={number - 1}", f"--output_dir={folder}")
        arguments = parse(words)
        first = first or load_tracks(arguments[0], verbose=False)  # the table is read once
        scheme = first.split_scheme.partition(",")[0]
        tracks = split_tracks(first.table, scheme, first.split_seed, folds, number - 1)
        plan.append(Fold(number, folder, words, tracks, _finished(folder, all_arguments(*arguments), tracks)))
    for fold in plan:
        if fold.report is not None:
            read_tested(fold, fold.report)
    return plan


def _finished(folder: Path, arguments: Mapping[str, Any], tracks: Tracks) -> dict[str, Any] | None:
    """See `runs.finished_report`; a file that cannot be read is told in one line."""
    try:
        return finished_report(folder, arguments, tracks.digest)
    except UserError:
        raise
    except (OSError, KeyError, ValueError) as error:
        raise _damaged(folder, "run.json or report.json cannot be read") from error


def run_folds(
    main: Callable[[Sequence[str]], dict[str, Any]], plan: Sequence[Fold], verbose: bool = True
) -> list[dict[str, Any]]:
    """The reports of all folds: finished ones are taken as they are, the others run, or go on where they stopped.

    main: the recipe's. verbose: False on all processes but the first.
    """
    reports = []
    for fold in plan:
        if fold.report is None and verbose:
            print(f"fold {fold.number} of {len(plan)}", flush=True)
        reports.append(fold.report or main(fold.words))
        release_memory()  # a trainer stands in cycles, and a model and an optimizer with it
    return reports


def combine_folds(
    plan: Sequence[Fold], reports: Sequence[Mapping[str, Any]], output_dir: Path, command: str
) -> dict[str, Any]:
    """One report of all folds, written with its pictures and predictions into `output_dir`.

    Scores are of all tracks together, each predicted by the model that had not heard it, with bootstrap intervals over
    groups; "folds" holds the scores of each fold, their mean, and the interval of that mean; "trained_on_only" counts
    the tracks of unknown group. "seconds" are of training, "seconds_since_start_or_resume" of everything. Raises
    UserError where a fold did not leave one prediction for each track that it tests.
    """
    first = reports[0]
    tested = [read_tested(fold, report) for fold, report in zip(plan, reports, strict=True)]
    whole = joined(tested)
    report = {
        **{key: first[key] for key in SHARED},
        "command": command,
        "split_scheme": first["split_scheme"].partition(",")[0],
        "data": {key: value for key, value in first["data"].items() if key != "splits"},
        "trained_on_only": _count_never_tested(plan),
        "test": {"track": score_tracks(whole, first["arguments"]["bootstrap_resamples"])},
        "majority_class_accuracy": float(max(np.bincount(whole.label_ids)) / len(whole.label_ids)),
        "folds": over_folds([fold["test"]["track"] for fold in reports]),
        "seconds": round(sum(fold["training"]["seconds_since_start_or_resume"] for fold in reports), 1),
        "seconds_since_start_or_resume": round(sum(map(_seconds_with_everything, reports)), 1),
        "arguments": {key: value for key, value in first["arguments"].items() if key not in OF_A_FOLD},
    }
    _write(report, tested, output_dir)
    return report


def read_tested(fold: Fold, report: Mapping[str, Any]) -> Predictions:
    """What a finished fold says of the tracks that it tests.

    report: the fold's. Raises UserError where these are not the tracks that the fold tests, each once and with its
    label, or where the report is of other labels.
    """
    table, labels = fold.tracks.table, fold.tracks.labels
    names, label_ids = table.column("track"), table.column("label")
    tested = read_predictions(fold.folder, WAY_OUT)["test"]
    for file, found in ((REPORT_FILE, report["data"]["labels"]), (PREDICTIONS_FILE, tested.labels)):
        if tuple(found) != tuple(labels):
            raise _damaged(fold.folder, f"{file} has other labels than {', '.join(labels)}")
    expected = sorted((names[item], label_ids[item]) for item in fold.tracks.splits["test"])
    if sorted(zip(tested.tracks, tested.label_ids, strict=True)) != expected:
        fault = f"{PREDICTIONS_FILE} does not hold the {len(expected)} tracks that are tested, each once with its label"
        raise _damaged(fold.folder, fault)
    return tested


def _damaged(folder: Path, fault: str) -> UserError:
    return UserError(f"{folder} is damaged: its {fault}; {WAY_OUT}")


def fold_folders(folder: Path) -> list[Path]:
    """The runs of a cross-validation, in the order of their folds."""
    found = [path for path in folder.glob("fold_*") if path.name.rpartition("_")[2].isdecimal()]
    return sorted(found, key=lambda path: int(path.name.rpartition("_")[2]))


def _count_never_tested(plan: Sequence[Fold]) -> int:
    """The tracks that are in training in every fold; all others are tested once."""
    tested = np.concatenate([fold.tracks.splits["test"] for fold in plan])
    trained_on = set.intersection(*(set(fold.tracks.splits["train"].tolist()) for fold in plan))
    assert len(set(tested.tolist())) == len(tested), "a track is tested in two folds"
    assert len(tested) + len(trained_on) == len(plan[0].tracks.table), "a track is neither tested nor trained on always"
    return len(trained_on)


def _seconds_with_everything(report: Mapping[str, Any]) -> float:
    """Of a fold's run; older reports tell those of training alone."""
    return report.get("seconds_since_start_or_resume", report["training"]["seconds_since_start_or_resume"])


def over_folds(scores: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each metric: the value of every fold, None where it is not defined; the mean of the others; its interval.

    The interval is Student's t, cut to [0, 1], which no metric here leaves; None for fewer than two values. Folds share
    most of their training tracks, so that it tends to be too narrow (Bengio and Grandvalet, JMLR 2004).
    """
    found = {}
    for name in FOLD_METRICS:
        values = [fold[name] for fold in scores]
        defined = np.array([value for value in values if value is not None])
        mean, spread = float(defined.mean()) if len(defined) else None, None
        if len(defined) > 1:
            low, high = student_interval(defined)
            spread = [max(0.0, low), min(1.0, high)]
        found[name] = {"values": values, "mean": mean, "mean_interval": spread}
    return found


def _write(report: Mapping[str, Any], tested: Sequence[Predictions], folder: Path) -> None:
    labels, scores = report["data"]["labels"], report["test"]["track"]
    about = f"{report['recipe']}, {report['data']['source']}, {report['split_scheme']}, all folds, tracks held out"
    write_predictions(folder / PREDICTIONS_FILE, [{"test": of_fold} for of_fold in tested])
    (folder / "report").mkdir(exist_ok=True)
    plot_confusion_matrix(scores["confusion"], labels, folder / "report" / "confusion_matrix.png", about)
    plot_per_class(scores["per_class"], labels, folder / "report" / "per_class.png", about)
    text = describe_folds(report)
    write_whole(folder / "README.md", lambda beside: beside.write_text(f"```\n{text}\n```\n", encoding="utf-8"))
    write_json(folder / REPORT_FILE, report)  # last: it marks the whole as finished


def describe_folds(report: Mapping[str, Any]) -> str:
    """The result in a few lines."""
    scores, folds = report["test"]["track"], report["folds"]
    count = report["trained_on_only"]
    tracks, are = ("track", "is") if count == 1 else ("tracks", "are")
    never_tested = f"{count} {tracks} of unknown {report['data']['group']} {are} trained on and never tested"
    lines = [
        f"{report['recipe']} on {report['data']['source']}, {report['model']['class']} {report['model']['start']}",
        f"{len(folds['accuracy']['values'])} folds by {report['split_scheme']} (seed {report['split_seed']}), "
        f"{report['seconds'] / 60:.1f} minutes of training, {report['seconds_since_start_or_resume'] / 60:.1f} minutes "
        "with everything, on these runs since start or resume",
        f"{scores['n']} whole tracks, each predicted once, held out, 95 % intervals over {report['data']['group']}s:",
        f"  accuracy {with_interval(scores, 'accuracy')}, macro F1 {with_interval(scores, 'macro_f1')}"
        f" (the majority class alone: {report['majority_class_accuracy']:.3f})",
        *([never_tested] if count else []),
        "over the folds, which share training tracks, mean and its 95 % interval (too narrow rather than too wide):",
    ]
    for name in ("accuracy", "macro_f1"):
        values, low_high = folds[name]["values"], folds[name]["mean_interval"]
        interval = f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""
        each = ", ".join(f"{value:.3f}" for value in values)
        lines.append(f"  {name.replace('_', ' ')} {folds[name]['mean']:.3f}{interval} of {each}")
    return "\n".join(lines)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which something else stands. Raises UserError."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if names and not any(name.startswith("fold_") for name in names):
        raise UserError(f"output_dir={folder} holds something else than folds; name another folder")
