"""Anyone's folder of labelled music: `LABEL/file`, `SPLIT/LABEL/file`, or any files with a `metadata.csv`.

`datasets` reads such a folder too, but not without torchcodec, since it encodes what it lists.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import datasets

from hf_musiclf.data.folder_files import SUFFIXES, LabelledFile, audio_files, files_in, label_by_folder
from hf_musiclf.data.folder_metadata import label_by_metadata, metadata_files
from hf_musiclf.data.labelled import labelled_table
from hf_musiclf.data.tracks import Source, TrackTable
from hf_musiclf.errors import UserError

# What only `datasets` reads; CSV and JSON may lie beside audio without being its table.
TABLE_SUFFIXES = {".parquet", ".arrow"}
LAYOUTS = "audio as LABEL/file.wav, or a metadata.csv with the columns file_name and label"


def is_audio_folder(folder: Path) -> bool:
    """Whether `load_folder` is the one to read `folder`: it holds audio or metadata, and not a table in their place."""
    if not folder.is_dir():
        return False
    suffixes = {file.suffix.lower() for file in files_in(folder)}
    has_audio, has_metadata = bool(suffixes & set(SUFFIXES)), bool(metadata_files(folder))
    if suffixes & TABLE_SUFFIXES:
        return has_audio and has_metadata
    return has_audio or has_metadata


def load_folder(
    data_dir: str | None,
    cache_dir: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
) -> TrackTable:
    """The table of a folder's tracks; every file is decoded once, and again when it, or any other, has changed.

    data_dir: a folder of `LABEL/file`, of `SPLIT/LABEL/file`, with splits train, validation (valid, val, dev) and test,
    or with a `metadata.csv` or `metadata.jsonl`, at its top or in each split's folder: file_name (relative to it),
    label (or genre, labels, label_column), and where known group (or artist, group_column), split, artist, title. A
    track is named by its path without the suffix. What is missing, undecodable, too short or without a label is in
    `skipped`. Schemes: `group` or `artist`, where known; `given`, where all three splits are; `random`.

    Raises UserError where the folder cannot be had, or a label, a file or a split is not clear.
    """
    if not data_dir:
        raise UserError(f"data_dir is not set; pass --data_dir with a folder that holds {LAYOUTS}")
    folder = Path(data_dir).expanduser().resolve()
    if not folder.is_dir():
        what = "is a file; unpack it, and pass the folder" if folder.exists() else "does not exist; pass a folder"
        raise UserError(f"data_dir={data_dir} {what} that holds {LAYOUTS}")
    audio, metadata = audio_files(folder), metadata_files(folder)
    if metadata:
        files, group_column = label_by_metadata(folder, metadata, audio, label_column, group_column)
    else:
        _check_layout(folder, audio, label_column, group_column)
        files = label_by_folder(folder, audio)
    unlabelled = set(audio) - {item.file for item in files}
    table = _table(folder, sorted(files, key=lambda item: item.file), group_column, cache_dir)
    if unlabelled:
        reason = "not named by the metadata" if metadata else "in no label's folder"
        entry = {"track": f"{len(unlabelled)} audio files", "reason": reason, "count": len(unlabelled)}
        table = replace(table, skipped=(entry, *table.skipped))
    return table


def _check_layout(folder: Path, audio: Sequence, label_column: str | None, group_column: str | None) -> None:
    """Refuse a folder without metadata that holds no audio, or for which a column is named."""
    for column, flag in ((label_column, "label_column"), (group_column, "group_column")):
        if column:
            raise UserError(f"{flag}={column!r}: {folder} has no metadata.csv and so no columns; leave --{flag} away")
    if not audio:
        is_table = any(file.suffix.lower() in TABLE_SUFFIXES for file in files_in(folder))
        instead = f"; its tables are read by --dataset_name {folder}" if is_table else f"; put in {LAYOUTS}"
        raise UserError(f"{folder} holds no audio file ({' '.join(SUFFIXES)}){instead}")


def _table(folder: Path, files: Sequence[LabelledFile], group_column: str | None, cache_dir: str | None) -> TrackTable:
    labels = sorted({item.label for item in files})
    audio = datasets.Dataset.from_generator(
        _audio_rows,
        features=datasets.Features({"audio": datasets.Value("string")}),
        cache_dir=cache_dir,
        gen_kwargs={"known": [_known(folder / item.file) for item in files]},
    ).cast_column("audio", datasets.Audio(decode=False))
    # A path of this machine is nobody else's business: the name is enough.
    source = Source(
        folder.name,
        "label",
        group_column or "group",
        "that of its recordings; none is stated",
        f"folder {folder.name}",
        own=True,
    )
    text = {name: [getattr(item, name) for item in files] for name in ("track", "artist", "title")}
    label_ids = [labels.index(item.label) for item in files]
    groups, splits = [item.group for item in files], [item.split for item in files]
    return labelled_table(source, audio, labels, label_ids, text, group_column, groups, splits)


def _known(file: Path) -> tuple[str, int | None, int | None]:
    """Path, size in bytes and time of change in ns: the cache knows a list of files again by these."""
    try:
        status = file.stat()
    except OSError:  # not there: decoding will say so
        return str(file), None, None
    return str(file), status.st_size, status.st_mtime_ns


def _audio_rows(known: Sequence[tuple]) -> Iterator[dict]:
    for path, _, _ in known:
        yield {"audio": path}
