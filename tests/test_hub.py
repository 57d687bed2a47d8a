import errno

import datasets
import pytest
import soundfile
from labelled_audio import ARTISTS, GENRES, LABELS, TEXT, class_labels, encoded, loading_in, text_labels, write_dataset

from hf_musiclf.arguments import DataArguments
from hf_musiclf.audio import audio_fingerprint
from hf_musiclf.data import tracks
from hf_musiclf.data.hub import load_hub_dataset
from hf_musiclf.data.loading import load_tracks
from hf_musiclf.errors import UserError


@pytest.fixture
def load(tmp_path):
    return loading_in(tmp_path)


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


# Data that are wanting


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
    folder = write_dataset(tmp_path / "dataset", style=class_labels(), band=(TEXT, ARTISTS))
    cache = str(tmp_path / "cache")
    common = {"dataset_name": folder, "label_column": "style", "group_column": "band", "cache_dir": cache}
    loaded = load_tracks(DataArguments(**common, split_scheme="group"))
    assert loaded.labels == tuple(GENRES) and loaded.split_scheme == "group"
    assert "72 tracks, 3 labels" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"split_scheme='artist' is not known for .*; choose from given, group, random"):
        load_tracks(DataArguments(**common, split_scheme="artist"))
