import numpy as np
import pytest
from labelled_audio import encoded, write_files, write_label_folders

from hf_musiclf.audio import audio_fingerprint
from hf_musiclf.data import tracks
from hf_musiclf.data.folder import load_folder
from hf_musiclf.data.hub import load_hub_dataset
from hf_musiclf.data.tracks import split_tracks
from hf_musiclf.errors import UserError


@pytest.fixture
def load(tmp_path):
    """`load_folder` with a cache of the test's own."""

    def load_table(folder, **how):
        return load_folder(str(folder), cache_dir=str(tmp_path / "cache"), **how)

    return load_table


@pytest.fixture
def decoded(monkeypatch):
    """What is decoded, in order."""
    sources = []
    fingerprint = tracks.audio_fingerprint
    monkeypatch.setattr(tracks, "audio_fingerprint", lambda audio: sources.append(audio) or fingerprint(audio))
    return sources


def labels_of(table):
    return dict(zip(table.column("track"), (table.labels[label] for label in table.column("label")), strict=True))


def metadata(folder, rows, header="file_name,label"):
    (folder / "metadata.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder


def test_label_folders_make_a_table(load, tmp_path):
    folder = write_label_folders(tmp_path / "music")
    (folder / "features.csv").write_text("tempo,label\n120,jazz\n")
    (folder / "jazz" / "._0.wav").write_bytes(b"no audio")
    (folder / "rock" / "0.wav").rename(folder / "rock" / "0.WAV")
    table = load(folder)
    assert table.source.name == "music" and table.source.task == "label"
    assert table.labels == ("blues", "jazz", "rock")
    assert labels_of(table) == {f"{label}/{index}": label for label in table.labels for index in range(4)}
    assert set(table.groups) == {None} and table.skipped == () and list(table.schemes) == ["random"]
    assert table.rows[1]["audio"] == {"path": str(folder / "blues" / "1.wav"), "bytes": None}
    assert table.column("audio_hash")[1] == audio_fingerprint(encoded(5, 1))[1]
    assert table.column("sampling_rate") == [8000] * 12 and table.column("duration") == [0.1] * 12
    assert set(table.rows.column_names) == {*tracks.TRACK_COLUMNS, "label"}
    assert all(min(counts["labels"].values()) > 0 for counts in split_tracks(table, "random", 0).counts().values())


def test_the_name_of_a_dataset_may_be_such_a_folder(load, tmp_path):
    folder = write_label_folders(tmp_path / "music")
    (folder / "features.csv").write_text("tempo,label\n120,jazz\n")
    ours, named = load(folder), load_hub_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert named.rows.to_dict() == ours.rows.to_dict() and named.source == ours.source


def test_split_folders_give_the_given_scheme(load, tmp_path):
    places = [f"{split}/{label}" for split in ("train", "valid", "test") for label in ("jazz", "rock")]
    table = load(write_files(tmp_path / "music", *(f"{place}/{index}.wav" for place in places for index in range(3))))
    assert table.labels == ("jazz", "rock") and list(table.schemes) == ["given", "random"]
    names = np.array(table.column("track"))
    for split, items in split_tracks(table, "given", 0).splits.items():
        assert len(items) == 6
        assert all(name.startswith({"validation": "valid"}.get(split, split) + "/") for name in names[items])


def test_a_split_of_which_a_part_is_missing_is_not_the_default_and_says_so(load, tmp_path):
    table = load(write_files(tmp_path / "music", "train/a/1.wav", "train/b/1.wav", "test/a/1.wav", "test/b/1.wav"))
    assert list(table.schemes) == ["random", "given"] and table.labels == ("a", "b")
    with pytest.raises(UserError, match=r"given: music has no readable track in validation; use .* random"):
        split_tracks(table, "given", 0)


def test_a_label_that_training_lacks_is_refused_in_a_given_split(load, tmp_path):
    files = [f"{split}/{label}/1.wav" for split in ("train", "val", "test") for label in ("jazz", "rock")]
    table = load(write_files(tmp_path / "music", *files, "test/Jazz/2.wav"))
    with pytest.raises(UserError, match="music has 'Jazz' in test and not in train, so it cannot be learned; correct"):
        split_tracks(table, "given", 0)


def test_metadata_say_labels_groups_splits_and_titles(load, tmp_path):
    folder = write_files(tmp_path / "music", *(f"{index}.wav" for index in range(6)))
    rows = [f"{n}.wav,{'ab'[n % 2]},{g},t{n},{s}" for n, g, s in zip(range(6), "xyxyz ", ["train"] * 6, strict=True)]
    table = load(metadata(folder, rows, "file_name,genre,group,title,split"))
    assert labels_of(table) == {str(n): "ab"[n % 2] for n in range(6)}
    assert table.groups == ("x", "y", "x", "y", "z", None) and table.source.group_word == "group"
    assert table.column("title") == [f"t{n}" for n in range(6)] and list(table.schemes) == ["group", "random", "given"]


def test_artists_of_a_shared_credit_stay_together(load, tmp_path):
    folder = write_files(tmp_path / "music", *(f"{index}.wav" for index in range(5)))
    artists = ["The Ann", "Bob", "Ann & Bob", "Cid", ""]
    table = load(
        metadata(folder, [f"{n}.wav,{'ab'[n % 2]},{a}" for n, a in enumerate(artists)], "file_name,label,artist")
    )
    assert table.groups[0] == table.groups[1] == table.groups[2] and table.groups[3:] == ("cid", None)
    assert table.column("artist") == [*artists[:4], None] and list(table.schemes) == ["artist", "random"]


def test_missing_broken_and_short_files_are_counted(load, tmp_path):
    folder = write_files(tmp_path / "music", "a/1.wav", "b/1.wav")
    (folder / "b" / "words.m4a").write_bytes(b"These are words.")
    (folder / "b" / "short.wav").write_bytes(encoded(9, seconds=0.05))
    (folder / "b" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    by_folder = load(folder)
    names = ["a/1.wav", "b/1.wav", "b/words.m4a", "b/short.wav", "b/gone.wav"]
    by_metadata = load(metadata(folder, [f"{name},{name[0]}" for name in names]))
    for table in (by_folder, by_metadata):
        assert labels_of(table) == {"a/1": "a", "b/1": "b"}
        reasons = {entry["track"]: entry["reason"] for entry in table.skipped}
        assert list(reasons) == ["b/gone", "b/short", "b/words"]
        assert reasons["b/gone"] == "b/gone.wav: no such file; check the path"
        assert "less than 0.1 s" in reasons["b/short"] and "open it" in reasons["b/words"]


def test_nothing_that_can_be_decoded_is_refused(load, tmp_path):
    (tmp_path / "music").mkdir()
    with pytest.raises(UserError, match=r"music: none of its 2 tracks can be decoded: \S*1\.wav: no such file"):
        load(metadata(tmp_path / "music", ["1.wav,a", "2.wav,b"]))


def test_audio_without_a_label_is_told(load, tmp_path):
    folder = write_files(tmp_path / "music", "a/1.wav", "b/1.wav", "b/2.wav", "loose.wav")
    skipped = load(folder).skipped, load(metadata(folder, ["a/1.wav,a", "b/1.wav,b"])).skipped
    assert [[(entry["count"], entry["reason"]) for entry in entries] for entries in skipped] == [
        [(1, "in no label's folder")],
        [(2, "not named by the metadata")],
    ]


def test_a_folder_is_decoded_once_and_again_where_a_file_has_changed(load, tmp_path, decoded):
    folder = write_label_folders(tmp_path / "music")
    first = load(folder).column("audio_hash")
    assert load(folder).column("audio_hash") == first and len(decoded) == 12
    (folder / "rock" / "3.wav").write_bytes(encoded(99, seconds=0.2))
    changed = load(folder).column("audio_hash")
    assert changed[:-1] == first[:-1] and changed[-1] == audio_fingerprint(encoded(99, seconds=0.2))[1]


def test_a_missing_file_that_comes_back_is_found(load, tmp_path):
    folder = metadata(write_files(tmp_path / "music", "1.wav", "2.wav"), ["1.wav,a", "2.wav,b", "3.wav,b"])
    assert len(load(folder).skipped) == 1
    write_files(folder, "3.wav")
    assert load(folder).skipped == ()


def test_a_corrected_label_decodes_nothing(load, tmp_path, decoded):
    folder = metadata(write_files(tmp_path / "music", "1.wav", "2.wav", "3.wav"), ["1.wav,a", "2.wav,b", "3.wav,b"])
    load(folder)
    table = load(metadata(folder, ["3.wav,c,x", "1.wav,a,y", "2.wav,b,z"], "file_name,label,group"))
    assert labels_of(table) == {"1": "a", "2": "b", "3": "c"} and table.groups == ("y", "z", "x")
    assert len(decoded) == 3


@pytest.mark.parametrize(
    "files,how,said",
    [
        ([], {}, r"music holds no audio file \(\.wav .*\); put in audio as LABEL/file\.wav, or a metadata\.csv with"),
        (["data/train.parquet"], {}, "music holds no audio file .*; its tables are read by --dataset_name "),
        (
            ["a/1.wav"],
            {"label_column": "mood"},
            "label_column='mood': .* has no metadata.csv and so no columns; leave ",
        ),
        (
            ["a/1.wav"],
            {"group_column": "band"},
            "group_column='band': .* has no metadata.csv and so no columns; leave ",
        ),
    ],
)
def test_folders_that_cannot_be_used_are_refused(load, tmp_path, files, how, said):
    (tmp_path / "music").mkdir()
    with pytest.raises(UserError, match=said) as caught:
        load(write_files(tmp_path / "music", *files), **how)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name,said",
    [
        (None, "data_dir is not set; pass --data_dir with a folder"),
        ("missing", "data_dir=missing does not exist; pass a folder that holds audio as LABEL/file.wav, or"),
        (__file__, r"data_dir=\S+\.py is a file; unpack it, and pass the folder that holds"),
    ],
)
def test_what_is_no_folder_is_refused(name, said):
    with pytest.raises(UserError, match=said):
        load_folder(name)
