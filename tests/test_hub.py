import errno
import io
import pickle

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import noise

from hf_musiclf.arguments import DataArguments
from hf_musiclf.audio import audio_fingerprint
from hf_musiclf.data import tracks
from hf_musiclf.data.hub import load_hub_dataset
from hf_musiclf.data.loading import load_tracks
from hf_musiclf.data.tracks import split_tracks
from hf_musiclf.errors import UserError

GENRES = ["jazz", "blues", "rock"]
# Two tracks of each of four artists a genre, in each of three splits.
LABELS = [label for label in range(3) for _ in range(8)]
ARTISTS = [f"{GENRES[label]} {index % 4}" for index, label in enumerate(LABELS)]
TEXT = datasets.Value("string")


def encoded(*key, seconds=0.1, sampling_rate=8000, container="WAV"):
    """The bytes of a file of noise."""
    file = io.BytesIO()
    soundfile.write(file, noise(seconds, sampling_rate, *key), sampling_rate, format=container)
    return file.getvalue()


def write_parquet(folder, splits=("train", "validation", "test"), audio_column="audio", change=None, **columns):
    """A dataset as the Hub stores it: audio embedded, feature types in the schema's metadata.

    columns: name -> (feature, values), the same in every split. change: function of the split's number and its list of
    bytes.
    """
    features = datasets.Features(
        {audio_column: datasets.Audio(), **{name: feature for name, (feature, _) in columns.items()}}
    )
    length = len(next(iter(columns.values()))[1])
    (folder / "data").mkdir(parents=True)
    for number, split in enumerate(splits):
        audio = [encoded(number, index) for index in range(length)]
        if change:
            change(number, audio)
        table = {audio_column: [{"bytes": data, "path": None} for data in audio]}
        table |= {name: values for name, (_, values) in columns.items()}
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        pq.write_table(pa.table(table, schema=features.arrow_schema), path)
    return str(folder)


def class_labels(labels=LABELS, names=GENRES):
    return datasets.ClassLabel(names=names), labels


def text_labels(labels=LABELS, names=GENRES):
    return TEXT, [names[label] for label in labels]


@pytest.fixture
def load(tmp_path):
    """Load a dataset written with `write_parquet`'s arguments; those of `load_hub_dataset` go into `how`."""

    def load_table(how=None, **what):
        folder = write_parquet(tmp_path / "dataset", **what)
        return load_hub_dataset(folder, cache_dir=str(tmp_path / "cache"), **(how or {}))

    return load_table


def test_class_labels_keep_their_order_and_all_splits_make_one_table(load):
    table = load(label=class_labels())
    assert table.labels == ("jazz", "blues", "rock")
    assert table.column("label") == LABELS * 3
    assert table.column("sampling_rate") == [8000] * 72 and table.column("duration") == [0.1] * 72
    assert table.column("track")[:2] == ["000000", "000001"] and len(set(table.column("track"))) == 72
    assert table.column("audio_hash")[25] == audio_fingerprint(encoded(1, 1))[1]
    assert table.rows[25]["audio"]["bytes"] == encoded(1, 1)


def test_text_labels_are_ordered_by_the_alphabet(load):
    table = load(label=text_labels())
    assert table.labels == ("blues", "jazz", "rock")
    assert [table.labels[label] for label in table.column("label")] == [GENRES[label] for label in LABELS] * 3


@pytest.mark.parametrize("column", ["genre", "labels"])
def test_usual_label_columns_are_found(load, column):
    assert load(**{column: class_labels()}).labels == tuple(GENRES)


def test_columns_can_be_named(load):
    how = {"audio_column": "sound", "label_column": "style", "group_column": "band"}
    wrong = (TEXT, ["wrong", "label"] * 12)
    table = load(how, audio_column="sound", style=class_labels(), band=(TEXT, ARTISTS), label=wrong)
    assert table.labels == tuple(GENRES) and table.groups == tuple(ARTISTS * 3)
    assert set(table.schemes) == {"random", "group", "given"}


def test_known_facts_on_tracks_are_kept(load):
    names = [f"song-{index}" for index in range(24)]
    table = load(label=class_labels(), track=(TEXT, names), title=(TEXT, [None, *names[1:]]), artist=(TEXT, ARTISTS))
    assert table.column("track") == names * 3 and table.column("artist") == ARTISTS * 3
    assert table.column("title")[:2] == [None, "song-1"]


def test_a_second_load_decodes_nothing(load, tmp_path, monkeypatch):
    opened = []
    opening = soundfile.SoundFile.__init__

    def counting_opening(self, *args, **kwargs):
        opened.append(args)
        opening(self, *args, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, "__init__", counting_opening)
    first = load(label=class_labels(list(range(3)) * 2))
    assert len(opened) == 6 * 3 + 6 * 3  # once to write it here, once to decode it
    again = load_hub_dataset(str(tmp_path / "dataset"), cache_dir=str(tmp_path / "cache"))
    assert len(opened) == 6 * 3 + 6 * 3
    assert again.column("audio_hash") == first.column("audio_hash")


def test_another_decoder_decodes_anew(load, tmp_path, monkeypatch):
    decoded = []
    fingerprint = tracks.audio_fingerprint
    monkeypatch.setattr(tracks, "audio_fingerprint", lambda audio: decoded.append(audio) or fingerprint(audio))
    load(label=class_labels(list(range(3)) * 2))
    assert len(decoded) == 18
    for found in (False, True, True):
        monkeypatch.setattr(tracks, "find_spec", lambda name, found=found: found or None)
        load_hub_dataset(str(tmp_path / "dataset"), cache_dir=str(tmp_path / "cache"))
    # With torchcodec and without it, of which one is as it was.
    assert len(decoded) == 36


# A folder of labelled audio


def write_folder(folder, labels=GENRES, tracks_per_label=4):
    for label in labels:
        (folder / label).mkdir(parents=True)
        for index in range(tracks_per_label):
            (folder / label / f"{index}.wav").write_bytes(encoded(len(label), index))
    return folder


def test_a_folder_of_label_folders_is_a_dataset(tmp_path):
    folder = write_folder(tmp_path / "music")
    (folder / "README.md").write_text("Mine.")
    (folder / "jazz" / "._0.wav").write_bytes(b"no audio")
    (folder / "rock" / "0.wav").rename(folder / "rock" / "0.WAV")
    table = load_hub_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert table.source.name == "music" and table.labels == ("blues", "jazz", "rock")
    expected = [(f"{label}/{index}", label) for label in table.labels for index in range(4)]
    labels = [table.labels[label] for label in table.column("label")]
    assert list(zip(table.column("track"), labels, strict=True)) == expected
    assert set(table.groups) == {None} and table.skipped == ()
    assert list(table.schemes) == ["random"]
    assert table.rows[1]["audio"] == {"path": str(folder / "blues" / "1.wav"), "bytes": None}
    assert table.column("audio_hash")[1] == audio_fingerprint(encoded(5, 1))[1]
    assert all(min(counts["labels"].values()) > 0 for counts in split_tracks(table, "random", 0).counts().values())


def test_a_folder_is_decoded_once_and_again_where_a_file_has_changed(tmp_path, monkeypatch):
    folder, cache = write_folder(tmp_path / "music"), str(tmp_path / "cache")
    decoded = []
    fingerprint = tracks.audio_fingerprint
    monkeypatch.setattr(tracks, "audio_fingerprint", lambda audio: decoded.append(audio) or fingerprint(audio))
    first = load_hub_dataset(str(folder), cache_dir=cache).column("audio_hash")
    assert load_hub_dataset(str(folder), cache_dir=cache).column("audio_hash") == first and len(decoded) == 12
    (folder / "rock" / "3.wav").write_bytes(encoded(99, seconds=0.2))
    changed = load_hub_dataset(str(folder), cache_dir=cache).column("audio_hash")
    assert changed[:-1] == first[:-1] and changed[-1] == audio_fingerprint(encoded(99, seconds=0.2))[1]


@pytest.mark.parametrize("labels,said", [([], "in 0 label folders"), (["jazz"], "in 1 label folder")])
def test_fewer_than_two_label_folders_are_refused(tmp_path, labels, said):
    folder = write_folder(tmp_path / "music", labels)
    folder.mkdir(exist_ok=True)
    (folder / "loose.wav").write_bytes(encoded(0))
    with pytest.raises(UserError, match=rf"holds audio {said}; a classifier needs two: .* music/LABEL/file\.wav"):
        load_hub_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


def test_a_track_in_two_formats_is_refused(tmp_path):
    folder = write_folder(tmp_path / "music")
    (folder / "jazz" / "2.flac").write_bytes(encoded(0, container="FLAC"))
    with pytest.raises(UserError, match="holds jazz/2 twice, in two formats; keep one"):
        load_hub_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


# Split schemes


@pytest.mark.parametrize("validation", ["validation", "valid"])
def test_the_given_scheme_is_the_datasets_own_split(load, validation):
    table = load(splits=("train", validation, "test"), label=class_labels())
    split = split_tracks(table, "given", 0)
    hashes = table.column("audio_hash")
    for number, name in enumerate(("train", "validation", "test")):
        expected = {audio_fingerprint(encoded(number, index))[1] for index in range(24)}
        assert {hashes[item] for item in split.splits[name]} == expected
        assert split.counts()[name]["labels"] == dict.fromkeys(GENRES, 8)


def test_without_all_three_splits_there_is_no_given_scheme(load):
    table = load(splits=("train", "test"), label=class_labels())
    assert set(table.schemes) == {"random"}
    assert sorted(np.concatenate(list(split_tracks(table, "random", 0).splits.values()))) == list(range(48))


def test_the_given_split_shows_its_leaks(load):
    split = split_tracks(load(label=class_labels(), artist=(TEXT, ARTISTS)), "given", 0)
    assert split.leakage["train/test"]["group"] == {"shared": 12, "items": 24, "known": 24, "share": 1.0}


@pytest.mark.parametrize("column,scheme", [("artist", "artist"), ("group", "group")])
def test_the_grouped_scheme_shares_no_group(load, column, scheme):
    table = load(label=class_labels(), **{column: (TEXT, [*ARTISTS[:-1], ""])})
    assert table.groups[23] is None
    for seed in range(3):
        split = split_tracks(table, scheme, seed)
        assert all(found["group"]["items"] == 0 for found in split.leakage.values())
        assert all(min(counts["labels"].values()) > 0 for counts in split.counts().values())
        assert {23, 47, 71} <= set(split.splits["train"])


def test_the_random_scheme_is_stratified(load):
    split = split_tracks(load(label=class_labels()), "random", 0)
    assert {name: counts["labels"] for name, counts in split.counts().items()} == {
        "train": {"jazz": 20, "blues": 20, "rock": 20},
        "validation": {"jazz": 2, "blues": 2, "rock": 2},
        "test": {"jazz": 2, "blues": 2, "rock": 2},
    }


def test_exact_duplicates_under_two_artists_share_a_group(load):
    def duplicate(number, audio):
        if number == 0:
            samples, rate = soundfile.read(io.BytesIO(audio[0]), dtype="int16")
            flac = io.BytesIO()
            soundfile.write(flac, samples, rate, format="FLAC")
            audio[1] = flac.getvalue()

    table = load(label=class_labels(), artist=(TEXT, ARTISTS), change=duplicate)
    assert table.column("artist")[:2] == ["jazz 0", "jazz 1"]
    assert table.groups[0] == table.groups[1] != table.groups[2]


def test_too_few_groups_are_refused_by_the_schemes_own_name(load):
    table = load({"group_column": "composer"}, label=class_labels(), composer=text_labels())
    said = r"split_scheme=group leaves no 'jazz' .* 24 'jazz' tracks by 1 known composer; use --split_scheme random"
    with pytest.raises(UserError, match=said):
        split_tracks(table, "group", 0)


# Data that are wanting


def test_an_undecodable_row_is_left_out_named_and_counted(load):
    def spoil(number, audio):
        if number == 1:
            audio[5] = b"These are words."

    table = load(label=class_labels(), artist=(TEXT, ARTISTS), change=spoil)
    assert len(table) == 71 == len(table.groups)
    ((skipped),) = table.skipped
    assert skipped["track"] == "000029" and "cannot open it" in skipped["reason"]
    assert [table.column("artist")[row] for row in (28, 29)] == [ARTISTS[4], ARTISTS[6]]
    # The rows behind it are still those of their own split and group.
    splits = split_tracks(table, "given", 0).splits
    assert [len(items) for items in splits.values()] == [24, 23, 24]
    assert table.column("audio_hash")[splits["test"][0]] == audio_fingerprint(encoded(2, 0))[1]
    assert table.groups[splits["test"][0]] == ARTISTS[0]


def test_a_given_split_that_cannot_be_decoded_is_refused(load):
    def spoil(number, audio):
        if number == 2:
            audio[:] = [b"These are words."] * len(audio)

    with pytest.raises(UserError, match=r"split_scheme=given: \S+ has no readable track in test"):
        split_tracks(load(label=class_labels(), change=spoil), "given", 0)


def test_nothing_that_can_be_decoded_is_refused(load):
    def spoil(number, audio):
        audio[:] = [b"These are words."] * len(audio)

    with pytest.raises(UserError, match=r"none of its 72 tracks can be decoded: 16 bytes of audio: libsndfile"):
        load(label=class_labels(), change=spoil)


@pytest.mark.parametrize(
    "how,columns,said",
    [
        ({}, {"mood": class_labels()}, r"has none of the columns \('label', 'genre', 'labels'\), .*--label_column"),
        ({"label_column": "style"}, {"label": class_labels()}, "has no column 'style'; it has .*: pass --label_column"),
        ({"audio_column": "sound"}, {"label": class_labels()}, "has no column 'sound'; it has .*: pass --audio_column"),
        ({"group_column": "band"}, {"label": class_labels()}, "has no column 'band'; it has .*: pass --group_column"),
        ({}, {"label": (TEXT, ["jazz"] * 24)}, "column 'label' holds 1 label; a classifier needs two"),
        ({}, {"label": class_labels([*LABELS[:-1], -1])}, "column 'label' has no label for 3 of 72 "),
        ({}, {"label": (TEXT, ["jazz", "rock", None] * 8)}, "column 'label' has no label for 24 of 72 "),
    ],
)
def test_wanting_columns_and_labels_are_named(load, how, columns, said):
    with pytest.raises(UserError, match=said):
        load(how, **columns)


@pytest.mark.parametrize("kind,values", [("int64", list(range(24))), ("float64", [0.5] * 24), ("bool", [True] * 24)])
def test_a_column_that_holds_no_audio_is_named(load, kind, values):
    with pytest.raises(UserError, match=f"column 'tempo' holds .*{kind}.*, not audio: pass --audio_column"):
        load({"audio_column": "tempo"}, label=class_labels(), tempo=(datasets.Value(kind), values))


def test_splits_with_differing_columns_are_refused(tmp_path, monkeypatch):
    parts = {"train": {"label": [0, 1]}, "test": {"label": ["jazz", "rock"]}}
    parts = datasets.DatasetDict({split: datasets.Dataset.from_dict(columns) for split, columns in parts.items()})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, cache_dir: parts)
    with pytest.raises(UserError, match=r"the columns of its splits train, test differ \(.*label.*\); give every"):
        load_hub_dataset(str(tmp_path), cache_dir=str(tmp_path))


def test_a_full_disk_is_told_as_such(tmp_path, monkeypatch):
    def load_dataset(name, cache_dir):
        raise datasets.exceptions.DatasetGenerationError("failed") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(OSError, match="No space left") as caught:
        load_hub_dataset(str(tmp_path), cache_dir=str(tmp_path))
    assert caught.value.errno == errno.ENOSPC


def test_a_track_under_a_tenth_of_a_second_is_left_out(load):
    def shorten(number, audio):
        if number == 0:
            audio[2] = encoded(0, 2, seconds=0.05)

    table = load(label=class_labels(), change=shorten)
    reason = "lasts 0.05 s, less than 0.1 s: too short to classify"
    assert len(table) == 71 and table.skipped == ({"track": "000002", "reason": reason},)


@pytest.mark.parametrize("kept", ["artist", "random"])
def test_schemes_can_go_to_another_process(load, kept):
    table = load(label=class_labels(), artist=(TEXT, ARTISTS))
    again = pickle.loads(pickle.dumps(table.schemes))
    for split, items in table.schemes[kept](table, 0).items():
        np.testing.assert_array_equal(again[kept](table, 0)[split], items)


@pytest.mark.parametrize("name", ["nobody/no-such-dataset", "no_such_dataset"])
def test_a_name_that_does_not_exist_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(UserError, match=f"dataset_name={name} cannot be loaded: .*{name}") as caught:
        load_hub_dataset(name, cache_dir=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_without_data_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"dataset_name=\S+empty cannot be loaded: "):
        load_hub_dataset(str(tmp_path / "empty"), cache_dir=str(tmp_path / "cache"))


def test_arguments_lead_here(tmp_path, capsys):
    folder = write_parquet(tmp_path / "dataset", style=class_labels(), band=(TEXT, ARTISTS))
    cache = str(tmp_path / "cache")
    common = {"dataset_name": folder, "label_column": "style", "group_column": "band", "cache_dir": cache}
    loaded = load_tracks(DataArguments(**common, split_scheme="group"))
    assert loaded.labels == tuple(GENRES) and loaded.split_scheme == "group"
    assert "72 tracks, 3 labels" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"split_scheme='artist' is not known for .*; choose from random, group, given"):
        load_tracks(DataArguments(**common, split_scheme="artist"))
