"""Cross-validation: a recipe's run for each fold, and one report in which every track is predicted once, held out."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from hf_musiclf.errors import UserError
from hf_musiclf.files import write_json, write_whole
from hf_musiclf.metrics import score_windows
from hf_musiclf.plots import plot_confusion_matrix, plot_per_class
from hf_musiclf.report import name_classes, with_interval
from hf_musiclf.runs import REPORT_FILE, finished_report

FOLD_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc")
CONFIDENCE = 0.95
# Arguments that differ between folds; and what a combined report takes over from them, in which it is the same.
OF_A_FOLD = ("fold", "output_dir")
SHARED = ("recipe", "seed", "versions", "split_seed", "model", "sampling_rate", "window_seconds")


def run_folds(
    main: Callable[[Sequence[str]], dict[str, Any]],
    about: Callable[[Sequence[str]], tuple[dict[str, Any], Callable[[], str]]],
    flags: Sequence[str],
    folds: int,
    output_dir: Path,
) -> list[dict[str, Any]]:
    """The reports of all folds; finished ones are read, the others run, or resumed, in `output_dir/fold_N`.

    main: the recipe's. about: flags -> all fields of its arguments, and what makes the digest of the tracks in their
    splits. Raises UserError where a fold was finished with other arguments or other tracks.
    """
    reports = []
    for fold in range(folds):
        folder = output_dir / f"fold_{fold + 1}"
        words = [*flags, f"--folds={folds}", f"--fold={fold}", f"--output_dir={folder}"]
        report = finished_report(folder, *about(words))
        if report is None:
            print(f"fold {fold + 1} of {folds}", flush=True)
            report = main(words)
        reports.append(report)
    return reports


def combine_folds(reports: Sequence[Mapping[str, Any]], output_dir: Path, command: str) -> dict[str, Any]:
    """One report of all folds, written with its pictures and predictions into `output_dir`.

    Scores are of all tracks together, each predicted by the model that had not heard it, with bootstrap intervals over
    groups; "folds" holds the scores of each fold, their mean, and the interval of that mean by Student's t.
    """
    labels = reports[0]["data"]["labels"]
    rows = [
        {"fold": str(number), **row}
        for number in range(1, len(reports) + 1)
        for row in _test_predictions(output_dir / f"fold_{number}")
    ]
    tracks = [row["track"] for row in rows]
    assert len(set(tracks)) == len(tracks), "a track is tested in two folds"
    probabilities = np.array([[float(row[label]) for label in labels] for row in rows])
    probabilities /= probabilities.sum(1, keepdims=True)  # they were written with six digits
    groups = [row["group"] or None for row in rows]
    resamples = reports[0]["arguments"]["bootstrap_resamples"]
    label_ids = [labels.index(row["label"]) for row in rows]
    scores = score_windows(probabilities, label_ids, groups=groups, n_resamples=resamples)
    name_classes(scores, labels)
    majority = max(np.bincount(label_ids)) / len(label_ids)
    report = {
        **{key: reports[0][key] for key in SHARED},
        "command": command,
        "split_scheme": reports[0]["split_scheme"].partition(",")[0],
        "data": {key: value for key, value in reports[0]["data"].items() if key != "splits"},
        "test": {"track": scores},
        "majority_class_accuracy": float(majority),
        "folds": _over_folds([fold["test"]["track"] for fold in reports]),
        "seconds": sum(fold["training"]["seconds_since_start_or_resume"] for fold in reports),
        "arguments": {key: value for key, value in reports[0]["arguments"].items() if key not in OF_A_FOLD},
    }
    _write(report, rows, output_dir)
    return report


def _test_predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == "test"]


def _over_folds(scores: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each metric: the value of every fold, their mean, and its interval."""
    found = {}
    for name in FOLD_METRICS:
        values = np.array([fold[name] for fold in scores if fold[name] is not None])
        spread = None
        if len(values) > 1:
            half = stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
            spread = [float(values.mean() - half), float(values.mean() + half)]
        found[name] = {"values": values.tolist(), "mean": float(values.mean()), "mean_interval": spread}
    return found


def _write(report: Mapping[str, Any], rows: Sequence[Mapping[str, str]], folder: Path) -> None:
    def write_rows(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    labels, scores = report["data"]["labels"], report["test"]["track"]
    about = f"{report['recipe']}, {report['data']['source']}, {report['split_scheme']}, all folds, tracks held out"
    write_whole(folder / "predictions.csv", write_rows)
    (folder / "report").mkdir(exist_ok=True)
    plot_confusion_matrix(scores["confusion"], labels, folder / "report" / "confusion_matrix.png", about)
    plot_per_class(scores["per_class"], labels, folder / "report" / "per_class.png", about)
    text = describe_folds(report)
    write_whole(folder / "README.md", lambda beside: beside.write_text(f"```\n{text}\n```\n", encoding="utf-8"))
    write_json(folder / REPORT_FILE, report)  # last: it marks the whole as finished


def describe_folds(report: Mapping[str, Any]) -> str:
    """The result in a few lines."""
    scores, folds = report["test"]["track"], report["folds"]
    lines = [
        f"{report['recipe']} on {report['data']['source']}, {report['model']['class']} {report['model']['start']}",
        f"{len(folds['accuracy']['values'])} folds by {report['split_scheme']} (seed {report['split_seed']}), "
        f"{report['seconds'] / 60:.1f} minutes of training",
        f"{scores['n']} whole tracks, each predicted once, held out, 95 % intervals over {report['data']['group']}s:",
        f"  accuracy {with_interval(scores, 'accuracy')}, macro F1 {with_interval(scores, 'macro_f1')}"
        f" (the majority class alone: {report['majority_class_accuracy']:.3f})",
        "over the folds, mean and its 95 % interval:",
    ]
    for name in ("accuracy", "macro_f1"):
        values, low_high = folds[name]["values"], folds[name]["mean_interval"]
        interval = f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""
        each = ", ".join(f"{value:.3f}" for value in values)
        lines.append(f"  {name.replace('_', ' ')} {folds[name]['mean']:.3f}{interval} of {each}")
    return "\n".join(lines)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which something else stands. Raises UserError."""
    if folder.is_dir() and any(not path.name.startswith("fold_") for path in folder.iterdir()):
        if not (folder / "fold_1").is_dir():
            raise UserError(f"output_dir={folder} holds something else than folds; name another folder")
