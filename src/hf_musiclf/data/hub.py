"""Any script-free dataset with audio and label columns, on the Hub or local: what `datasets.load_dataset` reads."""

from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa

from hf_musiclf.data.artists import artist_groups
from hf_musiclf.data.folder import is_labelled_folder, list_labelled_folder
from hf_musiclf.data.tracks import (
    GroupScheme,
    Source,
    TrackTable,
    decoded_row,
    decoder_identity,
    groups_without_duplicates,
    random_scheme,
    readable_rows,
    track_features,
)
from hf_musiclf.errors import UserError
from hf_musiclf.files import FULL_DISK_ERRNOS
from hf_musiclf.reach import hub_is_out_of_reach
from hf_musiclf.splits import SPLITS

LABEL_COLUMNS = ("label", "genre", "labels")
GROUP_COLUMNS = ("group", "artist")
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

    name: Hub id, or a local folder (Parquet, or audio as LABEL/file). The label column holds class labels or text; the
    group column is optional. Every file is decoded once. Its own train, validation and test make the split scheme
    `given`. Raises UserError where the dataset or a column cannot be had.
    """
    parts = _load(name, cache_dir)
    whole = _together(name, parts)
    if audio_column not in whole.column_names:
        raise UserError(f"{name} has no column {audio_column!r}; it has {whole.column_names}: pass --audio_column")
    label_column = _column(name, whole, label_column, LABEL_COLUMNS, "--label_column")
    if label_column is None:
        raise UserError(f"{name} has none of the columns {LABEL_COLUMNS}, it has {whole.column_names}: --label_column")
    group_column = _column(name, whole, group_column, GROUP_COLUMNS, "--group_column")

    labels, ids = _labels(name, whole, label_column)
    all_rows = _decoded(name, whole, audio_column, labels, ids)
    rows, skipped = readable_rows(all_rows)
    if not len(rows):
        raise UserError(f"{name}: none of its {len(skipped)} tracks can be decoded: {skipped[0]['reason']}")
    readable = [index for index, error in enumerate(all_rows["error"][:]) if not error]
    group_values = _text(whole, group_column) if group_column else [None] * len(whole)
    if group_column == "artist":
        group_values = artist_groups(group_values)
    groups = groups_without_duplicates([group_values[index] for index in readable], rows)
    known_as = Path(name).name if Path(name).exists() else name  # a path of this machine is nobody else's business
    licence, citation = "see the dataset's own card", f"dataset {known_as}"
    source = Source(known_as, "label", group_column or "group", licence, citation, None)
    schemes = _schemes(parts, readable, group_column)
    return TrackTable(source, rows, tuple(labels), groups, skipped, schemes)


def _load(name: str, cache_dir: str | None) -> dict[str, datasets.Dataset]:
    if is_labelled_folder(Path(name)):
        return {"train": list_labelled_folder(Path(name), cache_dir)}
    if not Path(name).exists() and hub_is_out_of_reach():
        datasets.config.HF_HUB_OFFLINE = True  # what it read from the environment: take the cache, or fail at once
    try:
        parts = datasets.load_dataset(name, cache_dir=cache_dir)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        cause = error.__cause__ or error
        if getattr(cause, "errno", None) in FULL_DISK_ERRNOS:
            raise cause from error
        raise UserError(f"dataset_name={name} cannot be loaded: {' '.join(str(cause).split())}") from error
    return {"validation" if split == "valid" else str(split): part for split, part in parts.items()}


def _together(name: str, parts: dict[str, datasets.Dataset]) -> datasets.Dataset:
    """All splits as one; UserError where their columns differ."""
    try:
        return datasets.concatenate_datasets(list(parts.values()))
    except ValueError as error:
        raise UserError(
            f"{name}: the columns of its splits {', '.join(parts)} differ ({' '.join(str(error).split())}); give every "
            "split the same columns of the same types"
        ) from error


def _decoded(name, whole, audio_column, labels, ids) -> datasets.Dataset:
    """The table of tracks, each file decoded once; UserError where the column cannot hold audio."""
    text = {column: _text(whole, column) for column in ("track", "artist", "title")}
    kind = whole.features[audio_column]
    try:
        encoded = whole.select_columns([audio_column]).cast_column(audio_column, datasets.Audio(decode=False))
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{name}: column {audio_column!r} holds {kind}, not audio: pass --audio_column") from error
    return encoded.map(
        _table_row,
        with_indices=True,
        fn_kwargs={"audio_column": audio_column, "ids": ids, "text": text, "decoder": decoder_identity()},
        remove_columns=[audio_column],
        features=track_features(labels),
        desc="Decoding every track once",
    )


def _schemes(parts, readable: list[int], group_column: str | None) -> dict:
    schemes = {"random": random_scheme}
    if group_column:
        scheme = "artist" if group_column == "artist" else "group"
        schemes[scheme] = GroupScheme(scheme, group_column, "use --split_scheme random")
    if set(SPLITS) <= set(parts):
        given = np.concatenate([[split] * len(part) for split, part in parts.items()])
        schemes["given"] = _GivenSplit(given[readable])
    return schemes


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


def _table_row(row, index, audio_column, ids, text, decoder) -> dict:
    """decoder: only for the cache of `map`, which knows a table again by its arguments."""
    return decoded_row(
        {
            "track": text["track"][index] or f"{index:06d}",
            "audio": row[audio_column] or {"path": None, "bytes": None},
            "label": ids[index],
            "artist": text["artist"][index],
            "title": text["title"][index],
        }
    )


class _GivenSplit:
    """The dataset's own train, validation and test."""

    def __init__(self, split_of: np.ndarray):
        self.split_of = split_of

    def __call__(self, table: TrackTable, seed: int) -> dict[str, np.ndarray]:
        splits = {split: np.flatnonzero(self.split_of == split) for split in SPLITS}
        for split, items in splits.items():
            if not len(items):
                raise UserError(f"split_scheme=given: {table.source.name} has no readable track in {split}")
        return splits
