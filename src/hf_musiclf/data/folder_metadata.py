"""A folder's `metadata.csv` or `metadata.jsonl`, as Hugging Face's AudioFolder has it: which file has which label."""

import csv
import difflib
import io
import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from hf_musiclf.data.folder_files import LabelledFile, check_tracks, plain_text
from hf_musiclf.data.labelled import GROUP_COLUMNS, LABEL_COLUMNS, SPLIT_NAMES
from hf_musiclf.errors import UserError

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
FILE_COLUMN, SPLIT_COLUMN = "file_name", "split"
KNOWN_COLUMNS = {FILE_COLUMN, SPLIT_COLUMN, "artist", "title", *LABEL_COLUMNS, *GROUP_COLUMNS}


def metadata_files(folder: Path) -> dict[Path, str | None]:
    """Metadata file -> None for the one at the top, or the split for those in `train/`, `validation/` and `test/`.

    Raises UserError where two of them would describe the same files.
    """
    found = {}
    for place in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        split = None if place == folder else SPLIT_NAMES.get(place.name.casefold())
        if place == folder or split:
            found |= {place / name: split for name in METADATA_NAMES if (place / name).is_file()}
    places = [path.parent for path in found]
    if len(set(places)) < len(places) or (folder in places and len(places) > 1):
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise UserError(f"{folder} holds {names}, which may contradict each other; keep one, or one in each split")
    return found


def label_by_metadata(
    folder: Path,
    metadata: Mapping[Path, str | None],
    audio: Iterable[PurePosixPath],
    label_column: str | None = None,
    group_column: str | None = None,
) -> tuple[list[LabelledFile], str | None]:
    """The files that the metadata name, in their order, and the name of the group column, None where there is none.

    metadata: see `metadata_files`. audio: the files that are there, relative to the folder. A name that differs in how
    accents are composed, or is written with backslashes, finds its file; a file that is not there is named all the
    same. Raises UserError, with file and line, for what cannot be used.
    """
    on_disk = {plain_text(str(file)): file for file in audio}
    found, group_columns = [], {}
    for path, split in metadata.items():
        columns, rows = _read(path)
        label, group = _columns(path, columns, label_column, group_column)
        group_columns[path] = group
        splits = dict.fromkeys((line for line, _ in rows), split) if split else _splits(path, columns, rows)
        for line, row in rows:
            if not row.get(label):
                raise UserError(f"{path}, line {line}: {label} is empty; fill it in, or remove the row")
            file = _file(path, line, row.get(FILE_COLUMN), folder, on_disk)
            facts = (row.get(name) for name in (group, "artist", "title"))
            found.append(LabelledFile(file, row[label], splits[line], *facts))
    if len(set(group_columns.values())) > 1:
        told = ", ".join(f"{path.relative_to(folder)} {column}" for path, column in group_columns.items())
        raise UserError(f"{folder}: the group columns of its splits differ ({told}); give every split the same")
    _check(folder, found)
    found = _splits_by_folder(found)
    return found, next(iter(group_columns.values()))


def _splits_by_folder(found: list[LabelledFile]) -> list[LabelledFile]:
    """The splits of the folders `train/`, `test/` and so on, where the metadata tell none and all files lie there."""
    tops = [SPLIT_NAMES.get(item.file.parts[0].casefold()) if len(item.file.parts) > 1 else None for item in found]
    if any(item.split for item in found) or not all(tops):
        return found
    return [replace(item, split=split) for item, split in zip(found, tops, strict=True)]


def _check(folder: Path, found: Sequence[LabelledFile]) -> None:
    twice = [file for file, count in Counter(item.file for item in found).items() if count > 1]
    if twice:
        raise UserError(f"{folder}: the metadata name {twice[0]} twice; remove one of the rows")
    check_tracks(folder, found)
    labels = sorted({item.label for item in found})
    if len(labels) < 2:
        raise UserError(
            f"{folder}: the metadata hold {len(labels)} label{f' ({labels[0]})' if labels else 's'} in {len(found)} "
            "rows; a classifier needs two"
        )


def _columns(path: Path, columns: Sequence[str], label: str | None, group: str | None) -> tuple[str, str | None]:
    """The label and the group column."""
    for wanted, flag in ((FILE_COLUMN, ""), (label, ": pass --label_column"), (group, ": pass --group_column")):
        if wanted is not None and wanted not in columns:
            raise UserError(f"{path} has no column {wanted!r}; it has {list(columns)}{flag}")
    label = label or next((column for column in LABEL_COLUMNS if column in columns), None)
    if label is None:
        raise UserError(f"{path} has none of the columns {LABEL_COLUMNS}, it has {list(columns)}: pass --label_column")
    return label, group or next((column for column in GROUP_COLUMNS if column in columns), None)


def _splits(path: Path, columns: Sequence[str], rows: Sequence[tuple[int, dict]]) -> dict[int, str | None]:
    """Line -> split, None for all where the column is missing or empty."""
    given = {line: row.get(SPLIT_COLUMN) for line, row in rows}
    empty = [line for line, split in given.items() if not split]
    if empty and len(empty) < len(given):
        raise UserError(
            f"{path}: {SPLIT_COLUMN} is empty in {len(empty)} of {len(given)} rows, first in line {empty[0]}; fill it "
            "in everywhere, or nowhere"
        )
    for line, split in given.items():
        if split and split.casefold() not in SPLIT_NAMES:
            near = difflib.get_close_matches(split.casefold(), SPLIT_NAMES, n=1)
            hint = f"did you mean {near[0]}?" if near else "choose from train, validation, test"
            raise UserError(f"{path}, line {line}: {SPLIT_COLUMN}={split!r} is not known; {hint}")
    return {line: split and SPLIT_NAMES[split.casefold()] for line, split in given.items()}


def _file(path: Path, line: int, name: str | None, folder: Path, on_disk: Mapping[str, PurePosixPath]) -> PurePosixPath:
    """The file that a row names, relative to the folder."""
    if not name:
        raise UserError(f"{path}, line {line}: {FILE_COLUMN} is empty; fill it in, or remove the row")
    base = path.parent.relative_to(folder).as_posix()
    for written in (name, name.replace("\\", "/")):
        joined = posixpath.normpath(posixpath.join(base, written))
        if posixpath.isabs(joined) or joined.split("/")[0] == "..":
            raise UserError(
                f"{path}, line {line}: {FILE_COLUMN}={name!r} lies outside {path.parent}; name files in it by their "
                "relative path, and link or copy others into it"
            )
        if joined in on_disk:
            return on_disk[joined]
    return PurePosixPath(joined)


def _read(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str | None]]]]:
    """Columns and `(line, row)` of a metadata file, every value as text, None where it is empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (at byte {error.start}); save it as UTF-8") from error
    read = _csv_rows if path.suffix == ".csv" else _json_rows
    rows = [(line, {name: _text(value) for name, value in row.items()}) for line, row in read(path, text)]
    rows = [(line, row) for line, row in rows if any(row.values())]
    if not rows:
        raise UserError(f"{path} has no rows; give each audio file one, with {FILE_COLUMN} and label")
    return list(dict.fromkeys(name for _, row in rows for name in row)), rows


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    # Spreadsheets write semicolons where the comma is the decimal sign.
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [_column_name(name) for name in next(reader, [])]
    twice = [name for name, count in Counter(filter(None, header)).items() if count > 1]
    if twice:
        raise UserError(f"{path} has two columns {twice[0]!r}; remove one")
    for row in reader:
        if len(row) > len(header) and any(row[len(header) :]):
            raise UserError(
                f"{path}, line {reader.line_num}: {len(row)} values for {len(header)} columns; put a value that holds "
                f"a {delimiter!r} into double quotes"
            )
        yield reader.line_num, dict(zip(header, row + [""] * len(header), strict=False))


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, words in enumerate(text.split("\n"), start=1):
        if words.strip():
            try:
                row = json.loads(words)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {line}: not JSON ({error}); write one object a line") from error
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {line}: holds a {type(row).__name__}; write one object a line")
            lists = [name for name in LABEL_COLUMNS if isinstance(row.get(name), (list, dict))]
            if lists:
                raise UserError(f"{path}, line {line}: {lists[0]} holds {row[lists[0]]}; a label is one text or number")
            yield line, {_column_name(name): value for name, value in row.items()}


def _column_name(name: str) -> str:
    """In small letters where we know it, since spreadsheets like to write `File_Name`."""
    name, small = name.strip(), name.strip().casefold()
    return small if small in KNOWN_COLUMNS else name


def _text(value: Any) -> str | None:
    return None if value is None else plain_text(str(value)) or None
