import os
from pathlib import Path, PurePosixPath

import pytest

from hf_musiclf.data.folder import is_audio_folder
from hf_musiclf.data.folder_files import audio_files, label_by_folder
from hf_musiclf.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """A function that makes empty files in a folder and returns it: to tell labels apart, nothing is opened."""

    def make(*files):
        for file in files:
            (tmp_path / "music" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "music" / file).touch()
        return tmp_path / "music"

    return make


def read(folder):
    """Track -> (split, label)."""
    return {item.track: (item.split, item.label) for item in label_by_folder(folder, audio_files(folder))}


def test_the_first_folder_is_the_label(folder):
    found = read(folder("jazz/1.wav", "jazz/album one/1.WAV", "jazz/album one/2.Mp3", "rock/1.flac"))
    jazz = dict.fromkeys(["jazz/1", "jazz/album one/1", "jazz/album one/2"], (None, "jazz"))
    assert found == jazz | {"rock/1": (None, "rock")}


@pytest.mark.parametrize("validation", ["validation", "valid", "val", "dev", "Val"])
def test_split_folders_are_splits(folder, validation):
    found = read(folder("train/jazz/1.wav", "train/rock/a/1.wav", f"{validation}/jazz/1.wav", "test/rock/1.wav"))
    assert found == {
        "train/jazz/1": ("train", "jazz"),
        "train/rock/a/1": ("train", "rock"),
        f"{validation}/jazz/1": ("validation", "jazz"),
        "test/rock/1": ("test", "rock"),
    }


@pytest.mark.parametrize(
    "files,labels",
    [
        (("train/1.wav", "test/1.wav"), {"train", "test"}),
        (("train/1.wav", "train/steam/1.wav", "test/1.wav"), {"train", "test"}),
        (("train/steam/1.wav", "plane/jet/1.wav"), {"train", "plane"}),
        (("train/jazz/1.wav", "train/rock/1.wav"), {"jazz", "rock"}),
    ],
)
def test_folders_named_as_splits_may_be_labels(folder, files, labels):
    assert {label for _, label in read(folder(*files)).values()} == labels


def test_what_may_be_splits_or_labels_is_asked(folder):
    with pytest.raises(UserError, match=r"folders test, train, which share no label folder, .* add a metadata\.csv"):
        read(folder("train/steam/1.wav", "train/diesel/1.wav", "test/tone/1.wav"))


@pytest.mark.parametrize("astray", ["train/2.wav", "extra/jazz/1.wav"])
def test_audio_beside_the_labels_of_splits_is_refused(folder, astray):
    with pytest.raises(UserError, match=f"but {astray} is in none; put it into SPLIT/LABEL/"):
        read(folder("train/jazz/1.wav", "train/rock/1.wav", "test/jazz/1.wav", astray))


@pytest.mark.parametrize("files,said", [((), "in 0 label folders"), (("jazz/1.wav",), "in 1 label folder")])
def test_fewer_than_two_label_folders_are_refused(folder, files, said):
    with pytest.raises(UserError, match=rf"holds audio {said}; a classifier needs two: .* music/LABEL/file\.wav"):
        read(folder("loose.wav", *files))


def test_a_folder_around_the_label_folders_is_seen(folder):
    with pytest.raises(UserError, match=r"in 1 label folder; .*, or pass \S+/music/genres_original$"):
        read(folder("genres_original/jazz/1.wav", "genres_original/rock/1.wav"))


def test_a_track_in_two_formats_is_refused(folder):
    with pytest.raises(UserError, match="holds jazz/2 twice, in two formats; keep one"):
        read(folder("jazz/2.wav", "jazz/2.flac", "rock/2.wav"))


def test_what_is_no_track_is_left_out(folder):
    hidden = ["jazz/._1.wav", ".git/1.wav", "__MACOSX/jazz/1.wav", "jazz/.cache/1.wav"]
    place = folder("jazz/1.wav", "rock/1.wav", "jazz/cover.png", "features.csv", "jazz/notes.json", *hidden)
    assert audio_files(place) == [PurePosixPath("jazz/1.wav"), PurePosixPath("rock/1.wav")]


def test_names_of_any_language_and_with_points_and_spaces(folder):
    found = read(folder("Música/São Paulo no. 1.wav", "Fre\u0301de\u0301ric/a.b.wav", "日本/曲.ogg"))
    assert found == {
        "Música/São Paulo no. 1": (None, "Música"),
        "Fre\u0301de\u0301ric/a.b": (None, "Frédéric"),
        "日本/曲": (None, "日本"),
    }


def test_links_are_followed_but_not_in_circles(folder, tmp_path):
    place = folder("jazz/1.wav")
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "1.wav").touch()
    (place / "rock").symlink_to(tmp_path / "elsewhere")
    (place / "jazz" / "2.wav").symlink_to(tmp_path / "elsewhere" / "deep" / "1.wav")
    (place / "jazz" / "lost.wav").symlink_to(tmp_path / "nowhere.wav")
    (place / "jazz" / "circle").symlink_to(place)
    assert list(read(place)) == ["jazz/1", "jazz/2", "jazz/lost", "rock/deep/1"]


def test_a_name_that_is_not_utf8_is_refused(folder):
    place = folder("jazz/1.wav")
    try:
        Path(os.fsdecode(os.fsencode(place / "jazz") + b"/\xff.wav")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(UserError, match="is not UTF-8; rename the file"):
        audio_files(place)


@pytest.mark.parametrize(
    "files,ours",
    [
        (["jazz/1.wav"], True),
        (["1.wav"], True),
        (["a/b/c/1.wav"], True),
        (["jazz/1.wav", "features.csv", "info.json"], True),
        (["metadata.csv"], True),
        (["test/metadata.jsonl"], True),
        (["1.wav", "metadata.csv", "features.parquet"], True),
        (["metadata.csv", "data/train.parquet"], False),
        (["jazz/1.wav", "data/train.parquet"], False),
        (["data/train.arrow"], False),
        (["train.csv", "test.csv"], False),
        (["train.json"], False),
        (["README.md"], False),
    ],
)
def test_audio_folders_are_told_from_tables(folder, files, ours):
    assert is_audio_folder(folder(*files)) is ours


def test_a_file_or_nothing_is_no_audio_folder(folder):
    assert not is_audio_folder(folder("jazz/1.wav") / "jazz" / "1.wav")
    assert not is_audio_folder(folder() / "missing")
