import zipfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from labelled_audio import encoded, write_files

from hf_musiclf.data import export
from hf_musiclf.data.export import write_parquet
from hf_musiclf.data.folder import load_folder
from hf_musiclf.data.hub import load_hub_dataset
from hf_musiclf.data.tracks import Tracks, split_tracks
from hf_musiclf.errors import UserError

SIZES = {"train": 5, "validation": 2, "test": 3}
WAV_BYTES = len(encoded(0))


@pytest.fixture
def tracks(tmp_path):
    """Ten tracks of two labels with groups, artists and titles, split 5, 2 and 3; of 0.1 s, and the first of 1 s."""
    files = [f"{split}/{index}.wav" for split, size in SIZES.items() for index in range(size)]
    folder = write_files(tmp_path / "music", *files)
    (folder / "train" / "0.wav").write_bytes(encoded(7, seconds=1.0))
    rows = [
        f"{file},{'ab'[n % 2]},g{n // 2},Artist {n},{'' if n else 'Title'},{file.split('/')[0]}"
        for n, file in enumerate(files)
    ]
    text = "\n".join(["file_name,label,group,artist,title,split", *rows])
    (folder / "metadata.csv").write_text(text, encoding="utf-8")
    return split_tracks(load_folder(str(folder), str(tmp_path / "cache")), "given", 0)


def expected(tracks, split):
    """What stands in the files of a split: name -> values."""
    table, items = tracks.table, tracks.splits[split]
    columns = ("track", "label", "artist", "title", "duration", "audio_hash")
    values = {name: [table.column(name)[item] for item in items] for name in columns}
    content = [Path(table.rows[int(item)]["audio"]["path"]).read_bytes() for item in items]
    audio = [{"bytes": data, "path": f"{name}.wav"} for data, name in zip(content, values["track"], strict=True)]
    return values | {"audio": audio, "group": [table.groups[item] for item in items]}


def row_groups(path):
    metadata = pq.ParquetFile(path).metadata
    return [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]


def test_splits_of_all_sizes_come_back_equal(tracks, tmp_path):
    files = write_parquet(tracks, tmp_path / "out")
    assert {split: [path.name for path in paths] for split, paths in files.items()} == {
        split: [f"{split}-00000-of-00001.parquet"] for split in SIZES
    }
    parts = datasets.load_dataset(
        "parquet",
        data_files={split: [str(path) for path in paths] for split, paths in files.items()},
        cache_dir=str(tmp_path / "cache"),
    )
    for split, size in SIZES.items():
        part = parts[split].cast_column("audio", datasets.Audio(decode=False))
        assert len(part) == size and part.to_dict() == expected(tracks, split)
        assert part.features["label"].names == ["a", "b"]


def test_the_exported_folder_gives_the_same_table_and_split(tracks, tmp_path):
    write_parquet(tracks, tmp_path / "out")
    table = load_hub_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    again = split_tracks(table, "given", 0)
    assert again.digest() == tracks.digest() and set(table.schemes) == {"random", "group", "given"}
    for split, items in again.splits.items():
        old = tracks.splits[split]
        assert [table.groups[item] for item in items] == [tracks.table.groups[item] for item in old]
        assert [table.column("title")[item] for item in items] == [tracks.table.column("title")[item] for item in old]
    first = table.rows[int(again.splits["train"][0])]["audio"]
    assert first == {"bytes": encoded(7, seconds=1.0), "path": "train/0.wav"}


def test_what_save_to_disk_wrote_is_read_too(tracks, tmp_path):
    files = write_parquet(tracks, tmp_path / "out")
    paths = {split: [str(path) for path in paths] for split, paths in files.items()}
    parts = datasets.load_dataset("parquet", data_files=paths, cache_dir=str(tmp_path / "cache"))
    parts = parts.cast_column("audio", datasets.Audio(decode=False))
    parts.save_to_disk(tmp_path / "saved")
    assert split_tracks(load_hub_dataset(str(tmp_path / "saved")), "given", 0).digest() == tracks.digest()


@pytest.mark.parametrize(
    "max_rows,max_bytes,groups", [(2, 10**9, [2, 2, 1]), (32, 3 * WAV_BYTES, [2, 3]), (32, 0, [2, 2, 1])]
)
def test_row_groups_stay_within_rows_and_bytes(tracks, tmp_path, monkeypatch, max_rows, max_bytes, groups):
    monkeypatch.setattr(export, "MAX_GROUP_ROWS", max_rows)
    monkeypatch.setattr(export, "MAX_GROUP_BYTES", max_bytes)
    files = write_parquet(tracks, tmp_path / "out")
    # The first track of training is larger than a whole group may be, and yet it does not stand alone.
    assert row_groups(files["train"][0]) == groups


def test_files_stay_within_their_size(tracks, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MAX_GROUP_BYTES", WAV_BYTES)
    monkeypatch.setattr(export, "MAX_FILE_BYTES", 3 * WAV_BYTES)
    files = write_parquet(tracks, tmp_path / "out")
    assert [row_groups(path) for path in files["train"]] == [[2], [2, 1]]
    assert [path.name for path in files["train"]] == [f"train-{part:05d}-of-00002.parquet" for part in range(2)]
    assert [row_groups(path) for path in files["test"]] == [[2, 1]]
    assert sorted(path.name for path in (tmp_path / "out" / "data").iterdir()) == sorted(
        path.name for paths in files.values() for path in paths
    )
    digest = split_tracks(load_hub_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "c")), "given", 0).digest()
    assert digest == tracks.digest()


def test_no_more_is_in_memory_than_a_row_group_and_a_track(monkeypatch):
    monkeypatch.setattr(export, "MAX_GROUP_ROWS", 3)
    read = []
    rows = ({"audio": {"bytes": read.append(n) or b"abc"}} for n in range(8))
    for written, (group, size) in enumerate(export._row_groups(rows)):
        assert len(read) <= 3 * (written + 1) + 1 and size == 3 * len(group)
    assert len(read) == 8


def test_no_row_group_but_the_last_has_one_row(monkeypatch):
    monkeypatch.setattr(export, "MAX_GROUP_BYTES", 100)
    lengths = [101, 1, 99, 99, 99, 1, 1, 101, 101, 101, 101, 101]
    groups = [group for group, _ in export._row_groups({"audio": {"bytes": bytes(length)}} for length in lengths)]
    assert [[len(row["audio"]["bytes"]) for row in group] for group in groups] == [
        [101, 1],
        [99, 99],
        [99, 1],
        [1, 101],
        [101, 101],
        [101, 101],
    ]


def test_a_track_too_large_for_parquet_is_refused(tracks, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MAX_TRACK_BYTES", WAV_BYTES)
    with pytest.raises(UserError, match=rf"train/0 has more than {WAV_BYTES} bytes of audio, .*; convert it to FLAC"):
        write_parquet(tracks, tmp_path / "out")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_audio_in_an_archive_is_written_as_from_a_file(tracks, tmp_path, compression):
    archive = tmp_path / "music.zip"
    with zipfile.ZipFile(archive, "w", compression) as file:
        for path in sorted((tmp_path / "music").rglob("*.wav")):
            file.write(path, f"deep/{path.relative_to(tmp_path / 'music')}")

    def into_archive(row):
        inside = Path(row["audio"]["path"]).relative_to(tmp_path / "music")
        return {"audio": {"path": f"zip://deep/{inside}::{archive}", "bytes": None}}

    rows = tracks.table.rows.map(into_archive, features=tracks.table.rows.features)
    table = type(tracks.table)(**{**vars(tracks.table), "rows": rows})
    zipped = Tracks(table, tracks.splits, tracks.split_scheme, tracks.split_seed, tracks.leakage)
    for split, paths in write_parquet(zipped, tmp_path / "out").items():
        assert pq.read_table(paths[0]).to_pydict() == expected(tracks, split)


def test_every_track_is_counted_in_the_progress(tracks, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(export, "tqdm", lambda items, **how: shown.append((how["desc"], len(items))) or items)
    write_parquet(tracks, tmp_path / "out")
    assert dict(shown) == SIZES and all(isinstance(items, np.ndarray) for items in tracks.splits.values())
