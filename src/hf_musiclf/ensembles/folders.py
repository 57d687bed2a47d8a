"""The models of an ensemble: where they are found, and the folder that keeps them."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HTTPError

from hf_musiclf.errors import UserError, first_line
from hf_musiclf.files import write_json
from hf_musiclf.launching import without_path
from hf_musiclf.reach import only_local, why_not_here

ENSEMBLE_FILE = "ensemble.json"  # the models of a folder's ensemble, their weights, its labels
# What of a run's folder is its model: config, extractor, weights, the code of a class that is not Transformers' own.
MODEL_SUFFIXES = (".json", ".py", ".safetensors", ".bin", ".txt", ".model")
NOT_THE_MODEL = ("run.json", "report.json", ENSEMBLE_FILE)


@dataclass(frozen=True)
class Member:
    """A saved model that an ensemble is made of. name: as the user named it. hub_id: None of a folder of one's own.

    The name may tell where things lie here: it is for messages, and what is written down has `without_path`.
    """

    name: str
    folder: Path
    hub_id: str | None = None


def find_member(name: str) -> Member:
    """The model of a folder or, fetched into the Hub's cache, of a Hub id. Raises UserError where there is none."""
    folder = Path(name)
    if (folder / ENSEMBLE_FILE).is_file():
        raise UserError(f"{name} is an ensemble; name its members instead")
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(
                f"{name} holds no config.json: it is no saved model, or its run is not finished; name another, "
                "or run its command again"
            )
        return Member(name, folder)
    patterns = [f"*{suffix}" for suffix in MODEL_SUFFIXES] + ["predictions.csv"]
    try:
        found = snapshot_download(name, allow_patterns=patterns, local_files_only=only_local(name))
    except (OSError, ValueError, HTTPError) as error:
        raise UserError(f"{name} cannot be had: {why_not_here(name) or first_line(error)}") from error
    if (Path(found) / ENSEMBLE_FILE).is_file():
        raise UserError(f"{name} is an ensemble; name its members instead")
    return Member(name, Path(found), name)


def find_ensemble(name: str) -> Path | None:
    """The folder of an ensemble, or where one of the Hub was fetched to; None for whatever is none.

    Raises UserError where the Hub breaks off.
    """
    if Path(name).is_dir():
        return Path(name) if (Path(name) / ENSEMBLE_FILE).is_file() else None
    local = only_local(name)
    try:
        hf_hub_download(name, ENSEMBLE_FILE, local_files_only=local)
    except (
        OSError,
        ValueError,
        HTTPError,
    ):  # no such file, repository or name: whoever loads a model of it tells which
        return None
    patterns = [ENSEMBLE_FILE, *(f"members/*{suffix}" for suffix in MODEL_SUFFIXES)]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=local))
    except (OSError, ValueError, HTTPError) as error:
        raise UserError(f"{name} cannot be had: {why_not_here(name) or first_line(error)}") from error


def save_ensemble(
    folder: Path,
    place: Path,
    members: Sequence[Member],
    weights: Sequence[float],
    labels: Sequence[str],
    link: bool = False,
) -> int:
    """Write ensemble.json and the models of the members, in members/1, members/2, ...; returns the bytes of these.

    place: where `folder` will stand when it is whole. link: copy nothing; ensemble.json then names Hub ids, and folders
    as seen from `place`: with it they may be moved together.
    """
    entries, copied = [], 0
    for number, (member, weight) in enumerate(zip(members, weights, strict=True), 1):
        entry = {"name": without_path(member.name), "weight": float(weight), "hub_id": member.hub_id if link else None}
        if not link:
            entry["folder"] = f"members/{number}"
            copied += copy_model(member.folder, folder / entry["folder"])
        elif not member.hub_id:
            entry["folder"] = Path(os.path.relpath(member.folder.resolve(), place.resolve())).as_posix()
        entries.append(entry)
    write_json(folder / ENSEMBLE_FILE, {"labels": list(labels), "members": entries})
    return copied


def copy_model(source: Path, target: Path) -> int:
    """Copy what of a run's folder is its model, with the code of a class of its own; returns the bytes copied."""
    files = [path for path in sorted(source.iterdir()) if path.is_file() and path.suffix in MODEL_SUFFIXES]
    if any(path.suffix == ".safetensors" for path in files):  # the same weights once
        files = [path for path in files if path.suffix != ".bin"]
    target.mkdir(parents=True)
    copied = 0
    for path in files:
        if path.name not in NOT_THE_MODEL:
            copied += shutil.copyfile(path, target / path.name).stat().st_size
    return copied
