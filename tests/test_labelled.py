import io
import pickle

import numpy as np
import pytest
import soundfile
from labelled_audio import ARTISTS, GENRES, TEXT, class_labels, encoded, loading_in, text_labels

from hf_musiclf.audio import audio_fingerprint
from hf_musiclf.data.tracks import split_tracks
from hf_musiclf.errors import UserError


@pytest.fixture
def load(tmp_path):
    return loading_in(tmp_path)


@pytest.mark.parametrize("validation", ["validation", "valid"])
def test_the_given_scheme_is_the_datasets_own_split(load, validation):
    table = load(splits=("train", validation, "test"), label=class_labels())
    split = split_tracks(table, "given", 0)
    hashes = table.column("audio_hash")
    for number, name in enumerate(("train", "validation", "test")):
        expected = {audio_fingerprint(encoded(number, index))[1] for index in range(24)}
        assert {hashes[item] for item in split.splits[name]} == expected
        assert split.counts()[name]["labels"] == dict.fromkeys(GENRES, 8)


def test_without_all_three_splits_the_default_is_another_scheme(load):
    table = load(splits=("train", "test"), label=class_labels())
    assert list(table.schemes) == ["random", "given"]
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


@pytest.mark.parametrize("kept", ["artist", "random"])
def test_schemes_can_go_to_another_process(load, kept):
    table = load(label=class_labels(), artist=(TEXT, ARTISTS))
    again = pickle.loads(pickle.dumps(table.schemes))
    for split, items in table.schemes[kept](table, 0).items():
        np.testing.assert_array_equal(again[kept](table, 0)[split], items)


# Tracks that cannot be used


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


def test_a_track_under_a_tenth_of_a_second_is_left_out(load):
    def shorten(number, audio):
        if number == 0:
            audio[2] = encoded(0, 2, seconds=0.05)

    table = load(label=class_labels(), change=shorten)
    reason = "lasts 0.05 s, less than 0.1 s: too short to classify"
    assert len(table) == 71 and table.skipped == ({"track": "000002", "reason": reason},)
