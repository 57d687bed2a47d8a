"""Labelled audio in folders, `LABEL/file` or `SPLIT/LABEL/file`: which file has which label. Nothing is opened."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hf_musiclf.data.gtzan_files import AUDIO_SUFFIXES
from hf_musiclf.data.labelled import SPLIT_NAMES
from hf_musiclf.errors import UserError

# The last three need FFmpeg: where there is none, they are counted as tracks that cannot be decoded.
SUFFIXES = (*AUDIO_SUFFIXES, ".aif", ".aiff", ".oga", ".m4a", ".aac", ".wma")


@dataclass(frozen=True)
class LabelledFile:
    """One track of a folder. file: relative to the folder; it may be missing. track: its name, unique in the folder."""

    file: PurePosixPath
    label: str
    split: str | None = None
    group: str | None = None
    artist: str | None = None
    title: str | None = None

    @property
    def track(self) -> str:
        return str(self.file.with_suffix("") if self.file.suffix.lower() in SUFFIXES else self.file)


def files_in(folder: Path) -> Iterator[PurePosixPath]:
    """Every file at any depth, relative to the folder, links followed; neither hidden ones nor macOS's `__MACOSX`.

    Raises UserError for a name that is not UTF-8.
    """
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place).resolve()
        folders[:] = [
            name
            for name in folders
            # A link to a folder that it stands in would lead in circles.
            if not _is_hidden(name) and not here.is_relative_to(Path(place, name).resolve())
        ]
        relative = PurePosixPath(Path(place).relative_to(folder).as_posix())
        for name in names:
            if not _is_hidden(name):
                try:
                    name.encode()
                except UnicodeEncodeError as error:
                    raise UserError(f"{folder}: the file name {name!r} is not UTF-8; rename the file") from error
                yield relative / name


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def audio_files(folder: Path) -> list[PurePosixPath]:
    """Those of `files_in` that are audio by their suffix, in upper or lower case, sorted."""
    return sorted(file for file in files_in(folder) if file.suffix.lower() in SUFFIXES)


def plain_text(value: str) -> str:
    """One spelling of a name: composed letters, as macOS stores "e" and its accent apart, and no spaces around.

    >>> plain_text(" Fre\\u0301de\\u0301ric ") == "Fr\\u00e9d\\u00e9ric"
    True
    """
    return unicodedata.normalize("NFC", value).strip()


def label_by_folder(folder: Path, files: Sequence[PurePosixPath]) -> list[LabelledFile]:
    """The files with the label and, in `SPLIT/LABEL/file`, the split that their folders name.

    Deeper folders, `LABEL/ALBUM/file`, change nothing. Files right in `folder` have no label and are left out. Raises
    UserError where there is no audio, one label, a track in two formats, or folders that can be read in two ways.
    """
    files = [file for file in files if len(file.parts) > 1]
    if _below_splits(folder, files):
        astray = [file for file in files if len(file.parts) < 3 or file.parts[0].casefold() not in SPLIT_NAMES]
        if astray:
            raise UserError(
                f"{folder} has label folders in its split folders, but {astray[0]} is in none; put it into SPLIT/LABEL/"
            )
        found = [LabelledFile(file, plain_text(file.parts[1]), SPLIT_NAMES[file.parts[0].casefold()]) for file in files]
    else:
        found = [LabelledFile(file, plain_text(file.parts[0])) for file in files]
    labels = {file.label for file in found}
    if len(labels) < 2:
        below = {file.parts[1] for file in files if len(file.parts) > 2}
        instead = f", or pass {folder / files[0].parts[0]}" if len(below) > 1 else ""
        raise UserError(
            f"{folder} holds audio in {len(labels)} label folder{'s' if len(labels) != 1 else ''}; a classifier needs "
            f"two: put each file into a folder named after its label, {folder.name}/LABEL/file.wav, or add a "
            f"metadata.csv with the columns file_name and label{instead}"
        )
    check_tracks(folder, found)
    return found


def _below_splits(folder: Path, files: Sequence[PurePosixPath]) -> bool:
    """Whether the first folders are splits and the second ones labels.

    `train` and `test` may be labels: they are splits where the same folders lie in both, as those of labels do.
    """
    tops = {file.parts[0] for file in files}
    below = {top: set() for top in sorted(tops) if top.casefold() in SPLIT_NAMES}
    for file in files:
        if file.parts[0] in below and len(file.parts) > 2:
            below[file.parts[0]].add(file.parts[1])
    times = Counter(name for names in below.values() for name in names)
    if any(count > 1 for count in times.values()):
        return True
    deeper_alone = len(below) == len(tops) and all(len(file.parts) > 2 for file in files)
    if len(tops) > 1 and deeper_alone:
        raise UserError(
            f"{folder} holds the folders {', '.join(below)}, which share no label folder, so that they may be splits "
            "or labels; add a metadata.csv with the columns file_name, label and, if they are splits, split"
        )
    return bool(below) and deeper_alone


def check_tracks(folder: Path, files: Sequence[LabelledFile]) -> None:
    """Refuse two files of one name."""
    twice = [track for track, count in Counter(file.track for file in files).items() if count > 1]
    if twice:
        raise UserError(f"{folder} holds {twice[0]} twice, in two formats; keep one")
