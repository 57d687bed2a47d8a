"""Splits of tracks as Parquet files that `datasets.load_dataset(folder)` reads: audio, labels and what is known."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from hf_musiclf.data.tracks import Tracks

# The Hub recommends files of a few hundred megabytes; a row group is what a reader holds in memory.
MAX_FILE_BYTES = 400_000_000
ROWS_A_GROUP = 32


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

    Memory holds one row group at a time. Returns split name -> files.
    """
    features = export_features(tracks)
    # The feature types travel in the schema's metadata, where `datasets` looks for them.
    schema = features.arrow_schema
    written = {}
    (folder / "data").mkdir(parents=True)
    for split, items in tracks.splits.items():
        parts = []
        writer, size = None, 0
        for rows in tqdm(_row_groups(tracks, items), desc=split, unit="group", total=-(-len(items) // ROWS_A_GROUP)):
            if writer is None or size > MAX_FILE_BYTES:
                if writer is not None:
                    writer.close()
                parts.append(folder / "data" / f"{split}-{len(parts):05d}.parquet")
                writer, size = pq.ParquetWriter(parts[-1], schema), 0
            columns = {name: [row[name] for row in rows] for name in features}
            writer.write_table(pa.table(columns, schema=schema), row_group_size=ROWS_A_GROUP)
            size += sum(len(row["audio"]["bytes"]) for row in rows)
        writer.close()
        written[split] = [
            part.rename(part.with_name(f"{split}-{index:05d}-of-{len(parts):05d}.parquet"))
            for index, part in enumerate(parts)
        ]
    return written


def _row_groups(tracks: Tracks, items: np.ndarray) -> Iterator[list[dict[str, Any]]]:
    for first in range(0, len(items), ROWS_A_GROUP):
        yield [_exported(tracks, int(item)) for item in items[first : first + ROWS_A_GROUP]]


def _exported(tracks: Tracks, item: int) -> dict[str, Any]:
    row = tracks.table.rows[item]
    path, content = row["audio"]["path"], row["audio"]["bytes"]
    if content is None:
        content = Path(path).read_bytes()
    # A name says more than a path of the machine that built the dataset.
    name = f"{row['track']}{Path(path or '').suffix}"
    return {**row, "audio": {"path": name, "bytes": content}, "group": tracks.table.groups[item]}
