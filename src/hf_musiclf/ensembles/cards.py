"""An ensemble's result in words: a few lines for the terminal, and the card of its folder."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from huggingface_hub import ModelCardData

from hf_musiclf.cards import evaluation_results
from hf_musiclf.report import with_interval


def describe(report: Mapping[str, Any]) -> str:
    """The result in a few lines."""
    scores, folds = report["test"]["track"], report.get("folds")
    split = f"{len(folds['accuracy']['values'])} folds by {report['split_scheme']}" if folds else "test"
    sources = sorted({member["probabilities_from"] for member in report["members"]})
    width = max(len(name) for name in ("ensemble", *(member["name"] for member in report["members"])))
    lines = [
        f"ensemble of {len(report['members'])} models, weights {report['weights_by']}, probabilities from "
        f"{' and '.join(sources)}",
        f"{split}, {scores['n']} whole tracks, 95 % intervals over {report['data']['group']}s:",
        f"  {'ensemble':{width}}         {_line(scores)}",
    ]
    for member in report["members"]:
        mean = float(np.mean(member["weight"]))
        lines.append(f"  {member['name']:{width}}  ({mean:.3f}) {_line(member['test']['track'])}")
    found = report["difference_to_best_member"]
    shown = {"accuracy": "accuracy", "macro_f1": "macro F1", "log_loss": "log loss"}
    more = ", ".join(f"{told} {with_interval(found, name, '+')}" for name, told in shown.items())
    lines.append(f"  more than {report['best_member']}, the best of them in hindsight: {more}")
    return "\n".join([*lines, *_warnings(report)])


def _line(scores: Mapping[str, Any]) -> str:
    shown = (f"accuracy {with_interval(scores, 'accuracy')}", f"macro F1 {with_interval(scores, 'macro_f1')}")
    return ", ".join([*shown, f"log loss {scores['log_loss']:.3f}"])


def _warnings(report: Mapping[str, Any]) -> list[str]:
    """What the scores cannot be trusted in."""
    lines = []
    if len({member["tracks"] for member in report["members"]} - {None}) > 1:
        lines.append(
            "warning: by their run.json the members' tracks of training or validation, or the audio of some, are others"
        )
    for member in report["members"]:
        if member["tracks"] is None and member["probabilities_from"] == "audio":
            lines.append(f"warning: nothing tells what {member['name']} was trained on; it may have heard these tracks")
        shared = member["shared_groups"]
        if shared["items"]:
            group = report["data"]["group"]
            lines.append(
                f"warning: {shared['items']} of {shared['known']} test tracks share their {group} with the training "
                f"of {member['name']}"
            )
    return lines


def card(report: Mapping[str, Any], name: str) -> str:
    """README.md: what it is, its scores, how to use it."""
    data = report["data"]
    metadata = ModelCardData(
        library_name="hf-musiclf",
        pipeline_tag="audio-classification",
        tags=["music", "audio", "hf-musiclf", "ensemble", f"music-{data['task']}-classification"],
        datasets=[data["dataset_id"]] if data.get("dataset_id") else None,
        metrics=["accuracy", "f1"],
        model_name=name,
        eval_results=evaluation_results(report),
    )
    use = (
        "No model is kept: each fold has an ensemble of its own."
        if "folds" in report
        else f"`python scripts/predict.py {name} song.mp3` of hf-musiclf scores whole tracks. It is no model of "
        "Transformers: `pipeline` opens its members one by one."
    )
    return (
        f"---\n{metadata}\n---\n\n# Ensemble of {len(report['members'])} music {data['task']} classifiers on "
        f"{data['source']}\n\nThe weighted mean of what the models say of a whole track, each by its own windows.\n\n"
        f"```\n{describe(report)}\n```\n\n{use}\n\nMade by `{report['command']}`. Split scheme "
        f"`{report['split_scheme']}` (seed {report['split_seed']}); labels: {', '.join(data['labels'])}.\n\n"
        f"{data['source']}: {data['citation']}. Licence of the recordings: {data['licence']}.\n"
    )
