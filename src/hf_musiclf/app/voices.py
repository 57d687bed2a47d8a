"""The models of the page: loaded once, by the names it gives them, with what their own reports say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HTTPError

from hf_musiclf.ensembles import Ensemble, open_classifier
from hf_musiclf.errors import UserError
from hf_musiclf.files import read_json
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.reach import only_local
from hf_musiclf.report import with_interval
from hf_musiclf.runs import REPORT_FILE


@dataclass(frozen=True)
class Voice:
    """A model of the page. tested: what its own report says of it, in a sentence; empty where there is none."""

    name: str
    classify: TrackClassifier | Ensemble
    tested: str

    @property
    def labels(self) -> tuple[str, ...]:
        return self.classify.labels


def open_voices(models: Sequence[str], device: str, trust_remote_code: bool = False) -> dict[str, Voice]:
    """Every model, loaded once, by the name that the page gives it. Raises UserError for one that cannot be loaded."""
    if not models:
        raise UserError("no model is named; pass --model runs/demo, or set HF_MUSICLF_MODEL")
    voices = {}
    for name, model in short_names(models).items():
        classify = open_classifier(model, device, trust_remote_code=trust_remote_code)
        voices[name] = Voice(name, classify, held_out(report_of(model)))
    return voices


def report_of(model: str) -> dict[str, Any] | None:
    """The report that stands beside a model, in its folder or on the Hub; None where there is none."""
    folder = Path(model)
    if folder.is_dir():
        return read_json(folder / REPORT_FILE)
    try:
        return read_json(Path(hf_hub_download(model, REPORT_FILE, local_files_only=only_local(model))))
    except (OSError, ValueError, HTTPError):  # no such file, or no connection: the model itself is there already
        return None


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Short name -> model: the last part of its path, or all of what was typed where that tells them not apart.

    >>> short_names(["runs/ast", "me/music/", "me/music/", "you/music"])
    {'ast': 'runs/ast', 'me/music/': 'me/music/', 'you/music': 'you/music'}
    """
    models = list(dict.fromkeys(models))
    lasts = [Path(model).resolve().name for model in models]
    return {last if lasts.count(last) == 1 else model: model for last, model in zip(lasts, models, strict=True)}


def held_out(report: dict[str, Any] | None) -> str:
    """The score of a report.json on its held-out tracks, and what they share with training; empty where there is none.

    >>> track = {"accuracy": 0.9, "accuracy_interval": [0.81, 0.97], "n": 70}
    >>> held_out({"test": {"track": track}, "split_scheme": "artist", "data": {"source": "GTZAN", "group": "artist"}})
    'Held-out accuracy 0.900 [0.810, 0.970] of 70 tracks of GTZAN, artist split.'
    """
    try:
        scores, data = report["test"]["track"], report["data"]
        accuracy = with_interval(scores, "accuracy")
        told = (
            f"Held-out accuracy {accuracy} of {scores['n']} tracks of {data['source']}, {report['split_scheme']} split"
        )
    except (KeyError, TypeError):
        return ""
    shared = report.get("leakage", {}).get("train/test", {}).get("group", {}).get("items", 0)
    return f"{told}; {shared} of them share their {data['group']} with training." if shared else f"{told}."
