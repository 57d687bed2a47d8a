"""From names of runs to members with what they say of held-out tracks, and what the report tells of both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_musiclf.arguments import DataArguments
from hf_musiclf.comparison.runs import distinct_names
from hf_musiclf.crossvalidation import fold_folders
from hf_musiclf.data.loading import load_tracks
from hf_musiclf.data.tracks import Tracks
from hf_musiclf.ensembles.folders import Member, find_member
from hf_musiclf.ensembles.scoring import hear
from hf_musiclf.errors import UserError
from hf_musiclf.files import read_json
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.launching import without_paths
from hf_musiclf.predictions import PREDICTIONS_FILE, Predictions, read_predictions
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
    """The members: `[[all of them]]`, or of cross-validations those of each fold.

    Raises UserError for fewer than two names, a cross-validation that is not finished, and runs beside one.
    """
    if len(names) < 2:
        raise UserError(f"{len(names)} model to average; name two or more")
    folds = {name: fold_folders(Path(name)) for name in names}
    if not any(folds.values()):
        return [[find_member(name) for name in names]]
    gone = [name for name in names if not Path(name).is_dir()]
    if gone:
        raise UserError(
            f"{gone[0]} is no folder; name the output_dir of a finished cross-validation, as the others are"
        )
    counts = [len(folds[name]) for name in names]
    if len(set(counts)) > 1:
        told = ", ".join(f"{name} {count or 'none'}" for name, count in zip(names, counts, strict=True))
        raise UserError(f"cross-validations of the same folds make an ensemble, and these have other numbers: {told}")
    for name in names:
        _check_all_folds(name, folds[name])
    return [
        [find_member(str(folder)) for folder in fold] for fold in zip(*(folds[name] for name in names), strict=True)
    ]


def _check_all_folds(name: str, folders: Sequence[Path]) -> None:
    report = read_json(Path(name) / REPORT_FILE)
    if report is None:
        raise UserError(f"{name} holds no {REPORT_FILE}: its cross-validation is not finished; run its command again")
    wanted = [f"fold_{number + 1}" for number in range(len(report["folds"]["accuracy"]["values"]))]
    found = [folder.name for folder in folders]
    if found != wanted:
        told = f"{', '.join(found)} instead of {', '.join(wanted)}"
        raise UserError(f"{name} holds {told}: a fold is missing, or one is of another run; run its command again")


def names_to_tell(names: Sequence[str]) -> list[str]:
    """The names without where things lie here; with as much of their folders as tells them apart.

    >>> names_to_tell(["/data/a/ast", "runs/cnn"]), names_to_tell(["/data/a/ast", "/data/b/ast"])
    (['ast', 'runs/cnn'], ['a/ast', 'b/ast'])
    """
    told = without_paths(names)
    return told if len(set(told)) == len(told) else distinct_names([Path(name) for name in names])


def load_as_asked(args: DataArguments) -> Tracks:
    """The tracks of the data flags. Raises UserError where there is none of these."""
    if args == DataArguments():
        raise UserError(
            "a model left no predictions.csv, so that its tracks must be heard: pass the data flags of its recipe "
            "(--dataset, --data_dir, --split_scheme, ...)"
        )
    return load_tracks(args)


@dataclass(frozen=True)
class Gathered:
    """Members with what they say of each split. facts: of each, for the report; data and the rest: of the tracks."""

    members: list[Member]
    predictions: list[dict[str, Predictions]]
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
    reports = [read_json(member.folder / REPORT_FILE) for member in members]
    digests = [(read_json(member.folder / RUN_FILE) or {}).get("tracks") for member in members]
    silent = [member for member in members if not (member.folder / PREDICTIONS_FILE).is_file()]
    for member, report in zip(members, reports, strict=True):
        if member not in silent and not report:
            raise UserError(f"{member.name} holds no {REPORT_FILE}: its run is not finished; run its command again")
    tracks = load() if silent else None
    for member, digest in zip(members, digests, strict=True):
        if tracks and digest and digest != tracks.digest():
            raise UserError(
                f"{member.name} was trained on other splits than these data flags draw; pass those of its run"
            )
    models = [open_model(str(member.folder)) for member in silent]
    heard = iter(hear([member.name for member in silent], models, tracks) if silent else ())
    predictions = [next(heard) if member in silent else read_predictions(member.folder) for member in members]
    data, scheme, seed = _data_facts([report for report in reports if report], tracks)
    facts = [
        {
            "probabilities_from": "audio" if member in silent else PREDICTIONS_FILE,
            "tracks": digest,
            **{key: (report or {}).get(key) for key in ("recipe", "model", "sampling_rate", "window_seconds")},
            "shared_groups": report["leakage"]["train/test"]["group"] if report else {"items": 0, "known": 0},
        }
        for member, report, digest in zip(members, reports, digests, strict=True)
    ]
    return Gathered(list(members), predictions, facts, data, scheme, seed)


def _data_facts(reports: Sequence[dict[str, Any]], tracks: Tracks | None) -> tuple[dict[str, Any], str, int]:
    """Data, split scheme and split seed: of the first report, or of the tracks where there is no report."""
    sources = {report["data"]["source"] for report in reports} | ({tracks.table.source.name} if tracks else set())
    if len(sources) > 1:
        raise UserError(
            f"the models are of {' and '.join(sorted(sources))}; an ensemble is tested on one source: take runs of one"
        )
    if reports:
        first = reports[0]
        data = {key: value for key, value in first["data"].items() if key != "splits"}
        return data, first["split_scheme"], first["split_seed"]
    source = tracks.table.source
    data = {"source": source.name, "dataset_id": source.hub_id, "task": source.task, "group": source.group_word}
    data |= {"licence": source.licence, "citation": source.citation, "labels": list(tracks.labels)}
    return data, tracks.split_scheme, tracks.split_seed
