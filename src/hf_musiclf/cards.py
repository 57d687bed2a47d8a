"""From a run's report to its model card, and from splits of tracks to their dataset card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData

from hf_musiclf.data.tracks import Tracks
from hf_musiclf.files import write_whole
from hf_musiclf.leakage import format_leakage
from hf_musiclf.report import with_interval

MODEL_TEMPLATE, DATASET_TEMPLATE = "model_card.md.jinja", "dataset_card.md.jinja"
SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc")
METRIC_TYPES = {"accuracy": "accuracy", "macro_f1": "f1"}


def write_card(folder: Path, report: dict[str, Any]) -> None:
    """Write README.md into the run's folder."""
    text = str(model_card(report, folder.name))
    write_whole(folder / "README.md", lambda beside: beside.write_text(text, encoding="utf-8"))


def model_card(report: dict[str, Any], model_name: str) -> ModelCard:
    """The card of a finished run. report: as in report.json. model_name: what a reader types to load it."""
    data, model = report["data"], report["model"]
    return ModelCard.from_template(
        _card_data(report, model_name),
        template_str=_template(MODEL_TEMPLATE),
        title=f"Music {data['task']} classifier: {model['class']} on {data['source']}",
        model_name=model_name,
        model_class=model["class"],
        own_code=model["own_code"],
        base_model=model["base_model"],
        start=model["start"],
        chosen=report["chosen_on_validation"],
        parameters=model["parameters"],
        trainable=model["trainable"],
        majority=report["majority_class_accuracy"],
        majority_class=report["majority_class"],
        leakage=format_leakage(report["leakage"], data["group"]),
        track=report["test"]["track"],
        window=report["test"]["window"],
        shown={level: _shown(report["test"][level]) for level in ("track", "window")},
        baselines={name: _shown(scores["track"]) for name, scores in report["baselines"].items()},
        sampling_rate=report["sampling_rate"],
        **{key: report[key] for key in ("recipe", "command", "seed", "split_scheme", "split_seed", "training")},
        **{key: data[key] for key in ("source", "task", "group", "licence", "citation", "labels", "skipped", "splits")},
        window_seconds=report["window_seconds"],
        debiasing=report["training"].get("debiasing"),
    )


def _shown(scores: dict[str, Any]) -> dict[str, str]:
    return {name: with_interval(scores, name) for name in SHOWN}


def dataset_card(
    tracks: Tracks, name: str, command: str, files: dict[str, list[str]], audio: bool = True
) -> DatasetCard:
    """The card of exported splits.

    files: split name -> paths inside the dataset's folder. command: what made them. audio: they hold the recordings.
    """
    source = tracks.table.source
    return DatasetCard.from_template(
        DatasetCardData(
            task_categories=["audio-classification"],
            tags=["music", "hf-musiclf"],
            license=source.licence_id,
            pretty_name=f"{source.name}, split by {tracks.split_scheme}",
            configs=[
                {
                    "config_name": "default",
                    "data_files": [{"split": split, "path": paths} for split, paths in files.items()],
                }
            ],
        ),
        template_str=_template(DATASET_TEMPLATE),
        title=f"{source.name}, split by {tracks.split_scheme}",
        name=name,
        audio=audio,
        restriction=source.restriction,
        command=command,
        source=source.name,
        group=source.group_word,
        licence=source.licence,
        citation=source.citation,
        labels=tracks.labels,
        split_scheme=tracks.split_scheme,
        split_seed=tracks.split_seed,
        splits=tracks.counts(),
        skipped=tracks.table.skipped,
        leakage=format_leakage(tracks.leakage, source.group_word),
    )


def _template(name: str) -> str:
    """From the package, where a wheel puts it, or from the clone that the package is installed from in place."""
    places = (Path(__file__).parent / "model_cards" / name, Path(__file__).parents[2] / "model_cards" / name)
    return next(place for place in places if place.is_file()).read_text(encoding="utf-8")


def evaluation_results(report: Mapping[str, Any]) -> list[EvalResult]:
    """What `model-index` of a card says: accuracy and macro F1 of whole test tracks, with their intervals."""
    data = report["data"]
    return [
        EvalResult(
            task_type="audio-classification",
            task_name=f"Music {data['task']} classification",
            dataset_type=data.get("dataset_id") or data["source"].lower().replace(" ", "-"),
            dataset_name=f"{data['source']} ({report['split_scheme']} split)",
            dataset_split="test",
            metric_type=METRIC_TYPES[name],
            metric_name=f"{name.replace('_', ' ')} of whole tracks, 95 % interval {_interval(report, name)}",
            metric_value=round(report["test"]["track"][name], 4),
        )
        for name in METRIC_TYPES
    ]


def _card_data(report: dict[str, Any], model_name: str) -> ModelCardData:
    data = report["data"]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["music", "audio", "hf-musiclf", f"music-{data['task']}-classification"],
        base_model=report["model"]["base_model"],
        datasets=[data["dataset_id"]] if data["dataset_id"] else None,
        metrics=["accuracy", "f1"],
        model_name=model_name,
        eval_results=evaluation_results(report),
    )


def _interval(report: Mapping[str, Any], name: str) -> str:
    interval = report["test"]["track"][f"{name}_interval"]
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "not defined"
