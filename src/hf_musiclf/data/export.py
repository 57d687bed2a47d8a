"""Splits of tracks as files that `datasets.load_dataset(folder)` reads: Parquet with the audio, or CSV without."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from hf_musiclf.data.tracks import Tracks
from hf_musiclf.errors import UserError
from hf_musiclf.zip_members import is_member_path, open_member

# The Hub recommends files of a few hundred megabytes; a row group is what a reader holds in memory.
MAX_FILE_BYTES = 400_000_000
MAX_GROUP_BYTES = 64_000_000
MAX_GROUP_ROWS = 32
# `datasets` (5.2, `ArrowWriter.write_row`) collects row groups of one row until it has 100, in one array, and Arrow
# counts an array's bytes in 32 bits with a sign: 27 tracks of 80 MB are too many. It passes groups of two on at once.
MIN_GROUP_ROWS = 2
# So that two tracks stay below 2^31 bytes.
MAX_TRACK_BYTES = 1_000_000_000


def export_features(tracks: Tracks) -> datasets.Features:
    """Columns of the exported splits; who loads them with torchcodec gets decoded audio."""
    return datasets.Features(
        {
            "track": datasets.Value("string"),
            "audio": datasets.Audio(),
            "label": datasets.ClassLabel(names=list(tracks.labels)),
            "group": datasets.Value("string"),
            "artist": datasets.Value("string"),
            "title": datasets.Value("string"),
            "duration": datasets.Value("float64"),
            "audio_hash": datasets.Value("string"),
        }
    )


def write_parquet(tracks: Tracks, folder: Path) -> dict[str, list[Path]]:
    """Write `folder/data/SPLIT-00000-of-0000N.parquet` with the files' bytes inside, unchanged.

    A row group holds at most 32 tracks and 64 MB, a file 400 MB, or two tracks that are larger; memory holds one row
    group and a track. Returns split name -> files. Raises UserError for a track over 1 GB.
    """
    features = export_features(tracks)
    (folder / "data").mkdir(parents=True)
    return {
        split: _write_split(tracks, split, items, folder / "data", features) for split, items in tracks.splits.items()
    }


def write_tables(tracks: Tracks, folder: Path) -> dict[str, list[Path]]:
    """Write `folder/data/SPLIT.csv`: which track stands in which split, and what is known of it, without its audio.

    Whoever has the recordings finds them by `track` and `audio_hash`. Returns split name -> files.
    """
    columns = ["track", "label", "group", "artist", "title", "duration", "audio_hash", "split"]
    (folder / "data").mkdir(parents=True)
    files = {split: [folder / "data" / f"{split}.csv"] for split in tracks.splits}
    rows = tracks.table.rows.remove_columns("audio")
    for split, items in tracks.splits.items():
        with files[split][0].open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            for item in items:
                row = rows[int(item)]
                group, label = tracks.table.groups[item], tracks.labels[row["label"]]
                writer.writerow({**row, "label": label, "group": group, "split": split})
    return files


def _write_split(
    tracks: Tracks, split: str, items: np.ndarray, folder: Path, features: datasets.Features
) -> list[Path]:
    # The feature types travel in the schema's metadata, where `datasets` looks for them.
    schema = features.arrow_schema
    parts = [folder / f"{split}-00000.parquet"]
    writer, written = _writer(parts[0], schema), 0
    rows = (_exported(tracks, int(item)) for item in tqdm(items, desc=split, unit="track"))
    try:
        for group, size in _row_groups(rows):
            if written and written + size > MAX_FILE_BYTES:
                writer.close()
                parts.append(folder / f"{split}-{len(parts):05d}.parquet")
                writer, written = _writer(parts[-1], schema), 0
            writer.write_table(_arrow(group, schema), row_group_size=len(group))
            written += size
    finally:
        writer.close()
    return [
        part.rename(part.with_name(f"{split}-{index:05d}-of-{len(parts):05d}.parquet"))
        for index, part in enumerate(parts)
    ]


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Audio neither repeats nor shrinks, so dictionary and compression would only cost memory; and a page is finished as
    # soon as it is full, not after Arrow's 1,024 rows.
    return pq.ParquetWriter(path, schema, use_dictionary=False, compression="none", write_batch_size=1)


def _arrow(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.table({name: [row[name] for row in rows] for name in schema.names}, schema=schema)


def _row_groups(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """The rows in groups within the limits, each with its bytes of audio."""
    group, size = [], 0
    for row in rows:
        length = len(row["audio"]["bytes"])
        full = len(group) == MAX_GROUP_ROWS or size + length > MAX_GROUP_BYTES
        if len(group) >= MIN_GROUP_ROWS and full:
            yield group, size
            group, size = [], 0
        group.append(row)
        size += length
    if group:
        yield group, size


def _exported(tracks: Tracks, item: int) -> dict[str, Any]:
    row = tracks.table.rows[item]
    path, content = row["audio"]["path"] or "", row["audio"]["bytes"]
    if content is None:
        with io.BufferedReader(open_member(path)) if is_member_path(path) else open(path, "rb") as file:
            content = file.read(MAX_TRACK_BYTES + 1)
    if len(content) > MAX_TRACK_BYTES:
        raise UserError(
            f"{row['track']} has more than {MAX_TRACK_BYTES} bytes of audio, the most that two tracks in one "
            "Parquet row group can have each; convert it to FLAC, or leave it out"
        )
    # A name says more than a path of the machine that built the dataset.
    suffix = Path(path.split("::")[0] if is_member_path(path) else path).suffix
    return {**row, "audio": {"path": f"{row['track']}{suffix}", "bytes": content}, "group": tracks.table.groups[item]}
