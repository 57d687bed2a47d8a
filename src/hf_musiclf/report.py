"""What a run leaves: model, report.json, pictures, predictions.csv."""

import datetime
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_musiclf.data.tracks import Tracks
from hf_musiclf.data.window_dataset import EvaluationWindows
from hf_musiclf.launching import without_path
from hf_musiclf.metrics import score_windows
from hf_musiclf.models.music_pipeline import write_beside
from hf_musiclf.predictions import PREDICTIONS_FILE, Predictions, write_predictions
from hf_musiclf.probabilities import mean_by_track, softmax
from hf_musiclf.runs import MODEL_PART, Run

if TYPE_CHECKING:
    from hf_musiclf.trainer import MusicTrainer

PACKAGES = (
    "hf-musiclf", "torch", "torchaudio", "transformers", "datasets", "evaluate", "accelerate", "huggingface_hub",
    "soundfile", "soxr", "audiomentations", "numpy", "scikit-learn",
)  # fmt: skip


def write_report(
    trainer: "MusicTrainer",
    run: Run,
    tracks: Tracks,
    logits: dict[str, np.ndarray],
    training: dict[str, Any],
    baselines: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Score the splits, save the model, draw and list; card and report.json are left to the caller.

    logits: split name -> `(windows, labels)`. training: facts of the fit. baselines: name -> logits of the test split
    by something else. Returns the report; other processes than the first take part in saving and return it too.
    """
    probabilities = {split: softmax(values) for split, values in logits.items()}

    def score(split: str, values: np.ndarray) -> dict[str, Any]:
        return score_split(trainer.windows[split], values, tracks.labels, run.bootstrap_resamples)

    scores = {split: score(split, values) for split, values in probabilities.items()}
    scores["baselines"] = {name: score("test", softmax(values)) for name, values in baselines.items()}
    report = build_report(trainer, run, tracks, training, scores)
    save_model(trainer, run.output_dir, is_main=run.is_main)
    if run.is_main:
        of_tracks = {
            split: track_predictions(trainer.windows[split], values, tracks.labels)
            for split, values in probabilities.items()
        }
        write_predictions(run.output_dir / PREDICTIONS_FILE, [of_tracks])
        draw_report(run.output_dir / "report", trainer.windows["test"], probabilities["test"], report)
    return report


def score_split(
    windows: EvaluationWindows, probabilities: np.ndarray, labels: tuple[str, ...], n_resamples: int
) -> dict[str, Any]:
    """`{"window": ..., "track": ...}` of `metrics.score_windows`, with the label's name in every per-class row.

    probabilities: `(windows, labels)`.
    """
    scores = score_windows(
        probabilities,
        windows.label_of_window,
        groups=windows.group_of_window,
        tracks=windows.track_of_window,
        n_resamples=n_resamples,
    )
    for level in scores.values():
        name_classes(level, labels)
    return scores


def score_tracks(predictions: Predictions, n_resamples: int) -> dict[str, Any]:
    """`metrics.score_windows` of whole tracks, with the label's name in every per-class row."""
    scores = score_windows(
        predictions.probabilities, predictions.label_ids, groups=predictions.groups, n_resamples=n_resamples
    )
    name_classes(scores, predictions.labels)
    return scores


def name_classes(scores: dict[str, Any], labels: Sequence[str]) -> None:
    """Put the label's name first in every per-class row of `metrics.classification_metrics`, in place."""
    scores["per_class"] = [{"label": label, **row} for label, row in zip(labels, scores["per_class"], strict=True)]


def build_report(
    trainer: "MusicTrainer", run: Run, tracks: Tracks, training: dict[str, Any], scores: dict[str, Any]
) -> dict[str, Any]:
    """Everything that report.json holds.

    scores: `{"validation", "test"}` as `score_split` returns them, and "baselines": name -> the same of the test split.
    """
    source = tracks.table.source
    counts = tracks.counts()
    for split, windows in trainer.windows.items():
        counts[split]["windows"] = len(windows)
    in_training, in_test = counts["train"]["labels"], counts["test"]["labels"]
    majority = max(in_training, key=in_training.get)
    return {
        "recipe": run.recipe,
        "command": run.command,
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seed": run.arguments["seed"],
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "data": {
            "source": source.name,
            "dataset_id": source.hub_id,
            "task": source.task,
            "group": source.group_word,
            "licence": source.licence,
            "citation": source.citation,
            "labels": list(tracks.labels),
            "tracks": len(tracks.table),
            "skipped": list(tracks.table.skipped),
            "splits": counts,
        },
        "split_scheme": tracks.split_scheme,
        "split_seed": tracks.split_seed,
        "leakage": tracks.leakage,
        "model": trainer.loaded.facts,
        "sampling_rate": trainer.features.sampling_rate,
        "window_seconds": run.arguments["window_seconds"],
        "chosen_on_validation": bool(trainer.args.load_best_model_at_end and trainer.state.best_global_step),
        "majority_class": majority,
        "majority_class_accuracy": in_test[majority] / sum(in_test.values()),
        "training": training,
        **scores,
        "arguments": {key: without_path(value) for key, value in run.arguments.items()},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def save_model(trainer: "MusicTrainer", folder: Path, is_main: bool) -> None:
    """Model, extractor and the pipeline for whole tracks into `folder`, each file whole or not there.

    All processes take part.
    """
    beside = folder / MODEL_PART
    trainer.save_whole(beside)
    if not is_main:
        return
    write_beside(beside)
    for path in sorted(beside.iterdir()):
        if path.name != "training_args.bin":  # a pickle; report.json tells the arguments
            path.replace(folder / path.name)
    shutil.rmtree(beside)


def track_predictions(windows: EvaluationWindows, probabilities: np.ndarray, labels: tuple[str, ...]) -> Predictions:
    """Of the whole tracks of a split. probabilities: `(windows, labels)`."""
    tracks, of_tracks = mean_by_track(probabilities, windows.track_of_window)
    return Predictions(
        labels,
        tuple(windows.track_names[track] for track in tracks),
        tuple(windows.group_of_track[track] for track in tracks),
        np.array([windows.label_of_track[track] for track in tracks]),
        of_tracks,
    )


def draw_report(folder: Path, windows: EvaluationWindows, probabilities: np.ndarray, report: dict[str, Any]) -> None:
    """The pictures of the test split, by track, and of training."""
    # Here: matplotlib is not needed before a run's end.
    from hf_musiclf.plots import plot_confusion_matrix, plot_per_class, plot_roc_curves, plot_validation

    labels = report["data"]["labels"]
    _, of_tracks = mean_by_track(probabilities, windows.track_of_window)
    scores = report["test"]["track"]
    about = f"{report['recipe']}, {report['data']['source']}, {report['split_scheme']} split, test tracks"
    plot_confusion_matrix(scores["confusion"], labels, folder / "confusion_matrix.png", about)
    plot_roc_curves(of_tracks, windows.label_of_track, labels, folder / "roc_curves.png", about)
    plot_per_class(scores["per_class"], labels, folder / "per_class.png", about)
    plot_validation(
        report["training"]["history"],
        folder / "validation.png",
        f"{report['recipe']}, {report['data']['source']}, validation",
        best_step=report["training"]["best_step"],
    )


def with_interval(scores: Mapping[str, Any], name: str, sign: str = "") -> str:
    """`0.740 [0.650, 0.830]`, the 95 % interval in brackets where there is one. sign: "+" for a difference.

    >>> with_interval({"accuracy": 0.74, "accuracy_interval": [0.65, 0.83]}, "accuracy")
    '0.740 [0.650, 0.830]'
    >>> with_interval({"accuracy": -0.0001}, "accuracy", "+")
    '+0.000'
    """
    if scores[name] is None:
        return "not defined"
    # Rounded first, and plus 0: what is shown as 0 has no minus.
    value, *ends = (f"{round(x, 3) + 0:{sign}.3f}" for x in (scores[name], *(scores.get(f"{name}_interval") or ())))
    return f"{value} [{', '.join(ends)}]" if ends else value


def describe_report(report: dict[str, Any], folder: Path) -> str:
    """The result in a few lines, and where the files are."""
    track, window = report["test"]["track"], report["test"]["window"]
    lines = [
        f"test, {track['n']} whole tracks, 95 % intervals over {report['data']['group']}s:",
        f"  accuracy {with_interval(track, 'accuracy')}, macro F1 {with_interval(track, 'macro_f1')}",
        f"  by window: accuracy {with_interval(window, 'accuracy')} of {window['n']} windows",
        f"  always answering {report['majority_class']!r}, the majority class of training, would score "
        f"{report['majority_class_accuracy']:.3f}",
        *(
            f"  {name}: accuracy {with_interval(scores['track'], 'accuracy')}, "
            f"macro F1 {with_interval(scores['track'], 'macro_f1')}"
            for name, scores in report["baselines"].items()
        ),
        f"model, report.json, predictions.csv and the model card: {folder}",
        f"pictures: {folder / 'report'}",
    ]
    return "\n".join(lines)
