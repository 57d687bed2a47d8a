"""From names of runs to members with what they say of held-out tracks, and what the report tells of both."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_musiclf.arguments import DataArguments
from hf_musiclf.data.loading import load_tracks
from hf_musiclf.data.tracks import Tracks
from hf_musiclf.ensembles.folders import Member, find_member
from hf_musiclf.ensembles.predictions import Predictions, hear, read_predictions
from hf_musiclf.errors import UserError
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.runs import REPORT_FILE, RUN_FILE


def parse_weights(text: str) -> str | list[float]:
    """equal, fit, or numbers with commas. Raises UserError for anything else.

    >>> parse_weights("2,1")
    [2.0, 1.0]
    """
    if text in ("equal", "fit"):
        return text
    try:
        return [float(value) for value in text.split(",")]
    except ValueError as error:
        raise UserError(f"weights={text!r} is not known; pass equal, fit, or numbers as 2,1,1") from error


def find_runs(names: Sequence[str]) -> list[list[Member]]:
    """The members: `[[all of them]]`, or of cross-validations those of each fold. Raises UserError for a mixture."""
    folds = {name: _folds_of(name) for name in names}
    if not any(folds.values()):
        return [[find_member(name) for name in names]]
    counts = [len(folds[name]) for name in names]
    if len(set(counts)) > 1:
        told = ", ".join(f"{name} {count or 'none'}" for name, count in zip(names, counts, strict=True))
        raise UserError(f"cross-validations of the same folds make an ensemble, and these have other numbers: {told}")
    return [
        [find_member(str(folder)) for folder in fold] for fold in zip(*(folds[name] for name in names), strict=True)
    ]


def _folds_of(name: str) -> list[Path]:
    found = [path for path in Path(name).glob("fold_*") if path.name.rpartition("_")[2].isdecimal()]
    return sorted(found, key=lambda path: int(path.name.rpartition("_")[2]))


def load_as_asked(args: DataArguments) -> Tracks:
    """The tracks of the data flags. Raises UserError where there is none of these."""
    if args == DataArguments():
        raise UserError(
            "a model left no predictions.csv, so that its tracks must be heard: pass the data flags of its recipe "
            "(--dataset, --data_dir, --split_scheme, ...)"
        )
    return load_tracks(args)


def read_record(member: Member) -> tuple[dict[str, Any] | None, str | None]:
    """The report of the run that left the model, and the digest of its tracks; None for what is not there."""
    found = []
    for file in (REPORT_FILE, RUN_FILE):
        try:
            found.append(json.loads((member.folder / file).read_text(encoding="utf-8")))
        except FileNotFoundError:
            found.append(None)
        except (OSError, ValueError) as error:
            raise UserError(f"{member.name} is damaged: its {file} cannot be read") from error
    report, run = found
    return report, run and run.get("tracks")


@dataclass(frozen=True)
class Gathered:
    """Members with what they say. facts: of each, for the report; data and the rest: of what they heard."""

    members: list[Member]
    predictions: list[Predictions]
    facts: list[dict[str, Any]]
    data: dict[str, Any]
    split_scheme: str
    split_seed: int


def gather(
    members: Sequence[Member], load: Callable[[], Tracks], open_model: Callable[[str], TrackClassifier]
) -> Gathered:
    """Read what the members' runs predicted; members that left no predictions hear the tracks that `load` gives.

    Raises UserError where a run was on another source, or on other splits than those of `load`.
    """
    records, predictions = [read_record(member) for member in members], [read_predictions(member) for member in members]
    for member, (report, _), said in zip(members, records, predictions, strict=True):
        if said and not report:
            raise UserError(f"{member.name} holds no report.json: its run is not finished; run its command again")
    silent = [index for index, said in enumerate(predictions) if said is None]
    tracks = load() if silent else None
    for member, (_, digest) in zip(members, records, strict=True):
        if tracks and digest and digest != tracks.digest():
            raise UserError(
                f"{member.name} was trained on other splits than these data flags draw; pass those of its run"
            )
    if silent:
        models = [open_model(str(members[index].folder)) for index in silent]
        heard = hear([members[index].name for index in silent], models, tracks)
        for index, said in zip(silent, heard, strict=True):
            predictions[index] = said
    data, scheme, seed = _data_facts([report for report, _ in records if report], tracks)
    facts = [
        {
            "name": member.name,
            "probabilities_from": "audio" if index in silent else "predictions.csv",
            "tracks": digest,
            **{key: (report or {}).get(key) for key in ("recipe", "model", "sampling_rate", "window_seconds")},
            "shared_groups": report["leakage"]["train/test"]["group"] if report else {"items": 0, "known": 0},
        }
        for index, (member, (report, digest)) in enumerate(zip(members, records, strict=True))
    ]
    return Gathered(list(members), predictions, facts, data, scheme, seed)


def _data_facts(reports: Sequence[dict[str, Any]], tracks: Tracks | None) -> tuple[dict[str, Any], str, int]:
    """Data, split scheme and split seed: of the first report, or of the tracks where there is no report."""
    sources = {report["data"]["source"] for report in reports} | ({tracks.table.source.name} if tracks else set())
    if len(sources) > 1:
        raise UserError(f"the models are of {' and '.join(sorted(sources))}; an ensemble is of one source of tracks")
    if reports:
        first = reports[0]
        data = {key: value for key, value in first["data"].items() if key != "splits"}
        return data, first["split_scheme"].partition(",")[0], first["split_seed"]
    source = tracks.table.source
    data = {"source": source.name, "dataset_id": source.hub_id, "task": source.task, "group": source.group_word}
    data |= {"licence": source.licence, "citation": source.citation, "labels": list(tracks.labels)}
    return data, tracks.split_scheme.partition(",")[0], tracks.split_seed
