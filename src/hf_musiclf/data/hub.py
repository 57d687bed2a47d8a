"""Any script-free dataset with audio and label columns, on the Hub or local: what `datasets.load_dataset` reads."""

from collections.abc import Sequence
from pathlib import Path

import datasets
import pyarrow as pa

from hf_musiclf.data.folder import is_audio_folder, load_folder
from hf_musiclf.data.labelled import GROUP_COLUMNS, LABEL_COLUMNS, SPLIT_NAMES, labelled_table
from hf_musiclf.data.tracks import Source, TrackTable
from hf_musiclf.errors import UserError
from hf_musiclf.files import FULL_DISK_ERRNOS
from hf_musiclf.reach import hub_is_out_of_reach

LABEL_TYPES = (
    "string",
    "large_string",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)


def load_hub_dataset(
    name: str,
    audio_column: str = "audio",
    label_column: str | None = None,
    group_column: str | None = None,
    cache_dir: str | None = None,
) -> TrackTable:
    """The table of tracks of a dataset's splits taken together.

    name: Hub id, or a local folder: Parquet, what `save_to_disk` wrote, or audio, for which see `folder.load_folder`.
    The label column holds class labels or text; the group column is optional. Every file is decoded once. Its own
    train, validation and test make the split scheme `given`. Raises UserError where the dataset or a column cannot be
    had.
    """
    if is_audio_folder(Path(name)):
        return load_folder(name, cache_dir, label_column, group_column)
    parts = _load(name, cache_dir)
    whole = _together(name, parts)
    if audio_column not in whole.column_names:
        raise UserError(f"{name} has no column {audio_column!r}; it has {whole.column_names}: pass --audio_column")
    label_column = _column(name, whole, label_column, LABEL_COLUMNS, "--label_column")
    if label_column is None:
        raise UserError(f"{name} has none of the columns {LABEL_COLUMNS}, it has {whole.column_names}: --label_column")
    group_column = _column(name, whole, group_column, GROUP_COLUMNS, "--group_column")

    labels, ids = _labels(name, whole, label_column)
    text = {column: _text(whole, column) for column in ("track", "artist", "title")}
    text["track"] = [track or f"{index:06d}" for index, track in enumerate(text["track"])]
    groups = _text(whole, group_column) if group_column else None
    splits = [SPLIT_NAMES.get(split.casefold(), split) for split, part in parts.items() for _ in range(len(part))]
    known_as = Path(name).name if Path(name).exists() else name  # a path of this machine is nobody else's business
    licence, citation = "see the dataset's own card", f"dataset {known_as}"
    restriction = f"the licence of {known_as}, see its card"
    source = Source(known_as, "label", group_column or "group", licence, citation, None, restriction)
    audio = _undecoded(name, whole, audio_column)
    return labelled_table(source, audio, labels, ids, text, group_column, groups, splits)


def _load(name: str, cache_dir: str | None) -> dict[str, datasets.Dataset]:
    """Split name -> rows."""
    if not Path(name).exists() and hub_is_out_of_reach():
        datasets.config.HF_HUB_OFFLINE = True  # what it read from the environment: take the cache, or fail at once
    try:
        if any((Path(name) / saved).is_file() for saved in ("dataset_dict.json", "state.json")):  # by `save_to_disk`
            parts = datasets.load_from_disk(name)
        else:
            parts = datasets.load_dataset(name, cache_dir=cache_dir)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        cause = error.__cause__ or error
        if getattr(cause, "errno", None) in FULL_DISK_ERRNOS:
            raise cause from error
        raise UserError(f"dataset_name={name} cannot be loaded: {' '.join(str(cause).split())}") from error
    parts = {"train": parts} if isinstance(parts, datasets.Dataset) else parts
    return {str(split): part for split, part in parts.items()}


def _together(name: str, parts: dict[str, datasets.Dataset]) -> datasets.Dataset:
    """All splits as one; UserError where their columns differ."""
    try:
        return datasets.concatenate_datasets(list(parts.values()))
    except ValueError as error:
        raise UserError(
            f"{name}: the columns of its splits {', '.join(parts)} differ ({' '.join(str(error).split())}); give every "
            "split the same columns of the same types"
        ) from error


def _undecoded(name: str, whole: datasets.Dataset, audio_column: str) -> datasets.Dataset:
    """The audio column alone, as "audio"; UserError where it cannot hold audio."""
    kind = whole.features[audio_column]
    audio = whole.select_columns([audio_column])
    try:
        audio = audio.cast_column(audio_column, datasets.Audio(decode=False))
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{name}: column {audio_column!r} holds {kind}, not audio: pass --audio_column") from error
    return audio if audio_column == "audio" else audio.rename_column(audio_column, "audio")


def _column(name, rows, wanted, candidates, flag) -> str | None:
    if wanted is not None and wanted not in rows.column_names:
        raise UserError(f"{name} has no column {wanted!r}; it has {rows.column_names}: pass {flag}")
    return wanted or next((column for column in candidates if column in rows.column_names), None)


def _labels(name: str, rows: datasets.Dataset, column: str) -> tuple[Sequence[str], list[int]]:
    values, kind = rows[column][:], rows.features[column]
    if not isinstance(kind, datasets.ClassLabel) and getattr(kind, "dtype", "") not in LABEL_TYPES:
        raise UserError(f"{name}: column {column!r} holds {kind}; a label is one class, text or a whole number a track")
    # -1 is how `datasets` writes that a class label is not known.
    unknown = sum(value is None or (isinstance(kind, datasets.ClassLabel) and value < 0) for value in values)
    if unknown:
        raise UserError(
            f"{name}: column {column!r} has no label for {unknown} of {len(values)} tracks; remove these rows"
        )
    if isinstance(kind, datasets.ClassLabel):
        names = kind.names
        ids = values
    else:
        names = sorted({str(value) for value in values})
        ids = [names.index(str(value)) for value in values]
    if len(set(ids)) < 2:
        raise UserError(f"{name}: column {column!r} holds {len(set(ids))} label; a classifier needs two")
    return names, ids


def _text(rows: datasets.Dataset, column: str) -> list[str | None]:
    if column not in rows.column_names:
        return [None] * len(rows)
    return [None if value in (None, "") else str(value) for value in rows[column][:]]
