"""MAESTRO's table and audio in an unzipped folder, or in its zip archive, which is read in place."""

import csv
import hashlib
import io
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hf_musiclf.data.tracks import FILE_HASH
from hf_musiclf.errors import UserError
from hf_musiclf.zip_members import member_path, members, open_member

TABLE_NAME = re.compile(r"maestro-v(\d+)\.(\d+)\.(\d+)\.(csv|json)")
COLUMNS = ("canonical_composer", "canonical_title", "audio_filename", "duration")
# Enough for the headers and, of 16-bit stereo at 44.1 kHz, a third of a second at either end: no two takes agree in it.
FINGERPRINT_BYTES = 1 << 16
WAYS_TO_DATA = (
    "three ways to data: --data_dir with the unzipped folder that holds maestro-v3.0.0.csv, --data_dir with "
    "maestro-v3.0.0.zip, which is read in place, or --download True, which fetches its 101 GB"
)


@dataclass(frozen=True)
class Performance:
    """A row of the table. track: audio_filename without its suffix; split: "" where the table has no such column."""

    track: str
    composer: str
    title: str
    split: str
    audio_filename: str
    duration_seconds: float


@dataclass(frozen=True)
class MaestroTable:
    """performances: what could be read, by track; skipped: as in `TrackTable`, of the rest; files: where audio is."""

    name: str
    performances: tuple[Performance, ...]
    skipped: tuple[dict[str, Any], ...]
    has_splits: bool
    files: "Folder | Archive"


@dataclass(frozen=True)
class Folder:
    """Files of a folder by their names within it, in POSIX form."""

    root: Path

    def top_names(self) -> list[str]:
        """Files at the top and one folder down."""
        found = [*self.root.glob("*"), *self.root.glob("*/maestro-v*")]
        return [path.relative_to(self.root).as_posix() for path in found if path.is_file()]

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def locate(self, name: str) -> str | None:
        return str(self.root / name) if (self.root / name).is_file() else None

    def fingerprint(self, name: str) -> str:
        """Of size and both ends: tells an exact copy of a file, reading 128 KiB of it."""
        with (self.root / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(b"%d " % size + file.read(FINGERPRINT_BYTES))
            file.seek(max(0, size - FINGERPRINT_BYTES))
            digest.update(file.read(FINGERPRINT_BYTES))
        return FILE_HASH + digest.hexdigest()


@dataclass(frozen=True)
class Archive:
    """As `Folder`, of a zip archive's members."""

    root: Path

    def top_names(self) -> list[str]:
        return [name for name in members(self.root) if len(PurePosixPath(name).parts) <= 2]

    def read(self, name: str) -> bytes:
        with open_member(member_path(self.root, name)) as file:
            return file.read()

    def locate(self, name: str) -> str | None:
        return member_path(self.root, name) if name in members(self.root) else None

    def fingerprint(self, name: str) -> str:
        """Of all its bytes, as the archive's directory has it: nothing is read."""
        info = members(self.root)[name]
        return f"{FILE_HASH}crc-{info.CRC:08x}-{info.file_size}"


def read_table(path: Path) -> MaestroTable:
    """The table of a folder or a zip archive: at its top or one folder down, the newest version, CSV before JSON.

    Raises UserError where the path is missing or no archive, and where the table is missing, damaged, not the only one
    of its version, or lacks a column.
    """
    if not path.exists():
        raise UserError(f"data_dir={path} does not exist; {WAYS_TO_DATA}")
    if path.is_file() and path.suffix in (".csv", ".json"):
        raise UserError(f"data_dir={path} is a file; pass its folder")
    files = Folder(path) if path.is_dir() else Archive(path)
    name, skipped = _choose_table(files, path)
    rows = _rows(files, name)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise UserError(f"{name} has no column {missing[0]!r}; it has {columns}: is it MAESTRO's own table?")
    performances = {}
    for number, row in enumerate(rows, 1):
        performance = _performance(row, str(PurePosixPath(name).parent))
        if isinstance(performance, Performance) and performance.track in performances:
            performance = f"{performance.audio_filename} stands in an earlier row"
        if isinstance(performance, Performance):
            performances[performance.track] = performance
        else:
            skipped.append({"track": f"row {number}", "reason": performance})
    found = tuple(performances[track] for track in sorted(performances))
    return MaestroTable(PurePosixPath(name).name, found, tuple(skipped), "split" in columns, files)


def _choose_table(files: Folder | Archive, path: Path) -> tuple[str, list[dict[str, Any]]]:
    """Name of the table to read, and notes of the older ones, which leave nothing out. path: as the user gave it."""
    names = [name for name in files.top_names() if TABLE_NAME.fullmatch(PurePosixPath(name).name)]
    names = sorted((name for name in names if not name.startswith("__MACOSX")), key=_preference)
    if not names:
        inside = ", ".join(sorted(files.top_names())[:5]) or "nothing"
        raise UserError(
            f"data_dir={path} holds no table such as maestro-v3.0.0.csv (it holds {inside}); {WAYS_TO_DATA}"
        )
    same = [other for other in names if _preference(other)[:2] == _preference(names[0])[:2]]
    if len(same) > 1:
        raise UserError(f"data_dir={path} holds several tables of one version: {', '.join(same)}; keep one of them")
    note = {"reason": f"an older table than {names[0]}, which is read", "count": 0}
    older = [other for other in names if _preference(other)[0] != _preference(names[0])[0]]
    return names[0], [{"track": other, **note} for other in older]


def _preference(name: str) -> tuple:
    *version, suffix = TABLE_NAME.fullmatch(PurePosixPath(name).name).groups()
    return [-int(part) for part in version], suffix, name


def _rows(files: Folder | Archive, name: str) -> list[Mapping[str, Any]]:
    """Rows of a CSV, of a JSON list of records, or of JSON by column: `{column: {"0": value}}`, or lists."""
    try:
        text = files.read(name).decode("utf-8-sig")
        if name.endswith(".csv"):
            rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        else:
            content = json.loads(text)
            rows = list(_records(content)) if isinstance(content, dict) else content
        if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
            raise ValueError("it holds no rows")
        return rows
    except (ValueError, OSError, csv.Error) as error:
        if isinstance(error, UserError):  # of an archive's member, which says what is wrong
            raise
        told = " ".join(str(error).split())[:100]
        raise UserError(f"{name} cannot be read ({type(error).__name__}: {told}); fetch it again") from error


def _records(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    columns = {name: dict(enumerate(found)) if isinstance(found, list) else found for name, found in columns.items()}
    if not all(isinstance(values, dict) for values in columns.values()):
        raise ValueError("its columns hold no rows")
    for key in dict.fromkeys(key for column in columns.values() for key in column):
        yield {column: values.get(key) for column, values in columns.items()}


def _performance(row: Mapping[str, Any], folder: str) -> Performance | str:
    """The row with names relative to the corpus, or what is wrong with it. folder: of the table, within the corpus."""
    texts = {column: unicodedata.normalize("NFC", str(row.get(column) or "")).strip() for column in (*COLUMNS, "split")}
    empty = [column for column in COLUMNS if not texts[column]]
    if empty:
        return f"{empty[0]} is empty"
    try:
        duration_seconds = float(texts["duration"])
    except ValueError:
        duration_seconds = 0.0
    if not 0 < duration_seconds < float("inf"):
        return f"duration={texts['duration']!r} is no number of seconds above 0"
    audio = PurePosixPath(texts["audio_filename"].replace("\\", "/"))
    if not audio.name:
        return f"audio_filename={texts['audio_filename']!r} names no file"
    if audio.is_absolute() or ".." in audio.parts:
        return f"audio_filename={str(audio)!r} points outside the corpus"
    track, where = str(audio.with_suffix("")), str(PurePosixPath(folder) / audio)
    composer, title = texts["canonical_composer"], texts["canonical_title"]
    return Performance(track, composer, title, texts["split"], where, duration_seconds)
