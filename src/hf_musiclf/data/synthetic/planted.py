"""Tracks of the synthetic corpus with a planted shortcut, split by artist; the tones are those of `shortcut`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile
from datasets import Dataset

from hf_musiclf.data.synthetic.shortcut import NO_MARK, add_telltale, marks
from hf_musiclf.data.tracks import Tracks, TrackTable, decoded_batches
from hf_musiclf.files import write_whole
from hf_musiclf.leakage import leakage_report
from hf_musiclf.splits import grouped_split

FRACTIONS = {"train": 0.8, "validation": 0.05, "test": 0.15}
# Every test holds the same tracks, of artists unheard in training; test -> mode of `shortcut.marks`. Without a bias is
# what does not depend on the label, as in Nam et al., "Learning from Failure", NeurIPS 2020.
TEST_MODES = {"test_biased": "biased", "test": "random", "test_silent": "none", "test_misleading": "misleading"}


def plant(table: TrackTable, cache: Path, seed: int, rate: float, level_db: float, shortcut: bool = True) -> Tracks:
    """Splits by artist: train and validation with biased marks, and the test in the versions of TEST_MODES.

    table: of the corpus without tones. cache: folder for the audio with tones, each file written once. seed: of the
    split and the marks. rate, level_db: as `marks` and `add_telltale` take them. shortcut: False leaves train and
    validation without tones. Raises ValueError for a rate outside [0, 1].
    """
    labels, n_marks = np.asarray(table.column("label")), len(table.labels)
    drawn = grouped_split(labels, table.groups, FRACTIONS, seed)
    leakage = leakage_report(drawn, table.groups, [None] * len(table), table.column("audio_hash"))
    rows, source_of_row, splits, found = table.rows.to_list(), [], {}, []
    of_training = "biased" if shortcut else "none"
    for split, mode in {"train": of_training, "validation": of_training, **TEST_MODES}.items():
        items = drawn["test" if split in TEST_MODES else split]
        splits[split] = np.arange(len(found), len(found) + len(items))
        for item, mark in zip(items, marks(labels[items], items, n_marks, rate, seed, mode), strict=True):
            row = rows[item]
            path = marked_file(Path(row["audio"]["path"]), int(mark), n_marks, level_db, cache)
            known = {name: row[name] for name in ("track", "label", "artist", "title")}
            found.append({**known, "audio": {"path": str(path), "bytes": None}})
            source_of_row.append(item)
    planted = TrackTable(
        source=table.source,
        rows=Dataset(pa.concat_tables(decoded_batches(found, table.rows.features))),
        labels=table.labels,
        groups=tuple(table.groups[item] for item in source_of_row),
        skipped=table.skipped,
        schemes=table.schemes,
    )
    return Tracks(planted, splits, "artist", seed, leakage)


def marked_file(path: Path, mark: int, n_marks: int, level_db: float, cache: Path) -> Path:
    """The track with a mark's tone, `cache/CORPUS_LEVELdB/TRACK.MARK.wav`, written once; itself for `NO_MARK`."""
    if mark == NO_MARK:
        return path
    marked = cache / f"{path.parents[2].name}_{level_db:g}dB" / f"{path.stem}.{mark}.wav"
    if not marked.is_file():
        waveform, rate = soundfile.read(path, dtype="float32")
        samples = add_telltale(waveform, rate, mark, n_marks, level_db)
        write_whole(marked, lambda beside: soundfile.write(beside, samples, rate, "PCM_16", format="WAV"))
    return marked
