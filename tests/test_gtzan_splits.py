"""GTZAN's index and split schemes: no artist and no duplicate on two sides, and how much the random scheme leaks."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from hf_musiclf.arguments import DataArguments
from hf_musiclf.data.artists import artist_groups, normalised_artist
from hf_musiclf.data.gtzan import load_gtzan, read_index
from hf_musiclf.data.gtzan_files import GENRES
from hf_musiclf.data.loading import load_tracks
from hf_musiclf.data.tracks import split_tracks
from hf_musiclf.errors import UserError
from hf_musiclf.splits import SPLITS


def members_of(tracks, column="track"):
    """Split -> set of the column's known values."""
    values = tracks.table.column(column)
    return {split: {values[item] for item in items} - {None} for split, items in tracks.splits.items()}


def disjoint(sets):
    train, validation, test = (sets[split] for split in SPLITS)
    return not (train & validation or train & test or validation & test)


def test_the_index_holds_what_its_sources_say():
    index = read_index()
    assert Counter(track.split(".")[0] for track in index) == dict.fromkeys(GENRES, 100)
    # Kereliuk, Sturm and Larsen 2015: 443 to train on, 197 for validation, 290 to test; 70 are faulty.
    fault_filtered = Counter(facts["fault_filtered"] for facts in index.values())
    assert fault_filtered == {"train": 443, "validation": 197, "test": 290, None: 70}
    artists = [facts["artist"] for facts in index.values()]
    assert artists.count(None) == 81
    # 244 spellings of 242 names, of which joint credits put twelve into five groups.
    assert len(set(artists) - {None}) == 244
    assert len({normalised_artist(artist) for artist in artists if artist}) == 242
    groups = artist_groups(artists)
    assert len(set(groups) - {None}) == 235 and groups.count(None) == 81
    for genre in ("blues", "jazz"):
        of_genre = {group for track, group in zip(index, groups, strict=True) if track.startswith(genre)}
        assert len(of_genre - {None}) == 9


@pytest.mark.parametrize("seed", range(4))
def test_the_artist_scheme_on_all_of_gtzan(full_gtzan, seed):
    split = split_tracks(full_gtzan, "artist", seed)
    assert sorted(np.concatenate(list(split.splits.values()))) == list(range(999))
    groups = {name: {full_gtzan.groups[item] for item in items} for name, items in split.splits.items()}
    assert disjoint({name: known - {None} for name, known in groups.items()})
    assert disjoint(members_of(split, "artist"))
    assert None in groups["train"] and None not in groups["validation"] | groups["test"]
    for name, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert abs(len(split.splits[name]) / 999 - share) <= 0.02
        counts = split.counts()[name]
        assert min(counts["labels"].values()) > 0 and sum(counts["labels"].values()) == counts["tracks"]
    assert all(found["group"]["items"] == 0 for found in split.leakage.values())


def test_the_random_scheme_leaks_artists_and_says_so(full_gtzan):
    leak = split_tracks(full_gtzan, "random", 0).leakage["train/test"]["group"]
    assert leak == {"shared": 50, "items": 75, "known": 91, "share": 0.8242}
    shares = [split_tracks(full_gtzan, "random", seed).leakage["train/test"]["group"]["share"] for seed in range(8)]
    # 0.84 over many seeds; of 91 tracks a share varies by 0.04 from seed to seed, the mean of eight by 0.013.
    assert abs(np.mean(shares) - 0.84) < 0.04


def test_the_random_scheme_is_stratified_and_follows_the_seed(full_gtzan):
    first = split_tracks(full_gtzan, "random", 1)
    assert first.counts()["test"]["labels"] == dict.fromkeys(GENRES, 10)
    assert members_of(first) == members_of(split_tracks(full_gtzan, "random", 1))
    assert members_of(first) != members_of(split_tracks(full_gtzan, "random", 2))


def test_the_fault_filtered_scheme_is_the_published_split(full_gtzan):
    split = split_tracks(full_gtzan, "fault_filtered", 0)
    # jazz.00054, which cannot be decoded, is one of the 443.
    assert {name: len(items) for name, items in split.splits.items()} == {"train": 442, "validation": 197, "test": 290}
    index = read_index()
    for name, members in members_of(split).items():
        assert {index[track]["fault_filtered"] for track in members} == {name}
    assert members_of(split_tracks(full_gtzan, "fault_filtered", 7)) == members_of(split)
    # It keeps artists apart by name, but not who sang together: Lauryn Hill's duets with Bob Marley.
    assert disjoint(members_of(split, "artist"))
    assert {pair: found["group"]["items"] for pair, found in split.leakage.items()} == {
        "train/validation": 5,
        "train/test": 3,
        "validation/test": 0,
    }


def test_exact_duplicates_of_two_artists_never_straddle_a_split(tiny_gtzan, artist_index, tmp_path):
    folder = tiny_gtzan()
    original, rate = soundfile.read(folder / "blues" / "blues.00000.wav", dtype="int16")
    (folder / "jazz" / "jazz.00003.wav").unlink()
    soundfile.write(folder / "jazz" / "jazz.00003.flac", original, rate)
    table = load_gtzan(str(folder), str(tmp_path / "cache"), artist_index)
    first, second = (table.column("track").index(track) for track in ("blues.00000", "jazz.00003"))
    hashes = table.column("audio_hash")
    assert hashes[first] == hashes[second] and len(set(hashes)) == 39
    assert table.column("artist")[first] != table.column("artist")[second]

    def apart(split):
        return not any({first, second} <= set(items) for items in split.splits.values())

    for scheme in ("artist", "random"):
        for seed in range(8):
            split = split_tracks(table, scheme, seed)
            assert not apart(split)
            assert all(found["audio"]["items"] == 0 for found in split.leakage.values())


def test_few_artists_are_refused_with_the_way_out(gtzan_folder, tmp_path):
    arguments = DataArguments(data_dir=str(gtzan_folder), cache_dir=str(tmp_path), split_scheme="artist")
    with pytest.raises(
        UserError, match=r"leaves no 'blues' for .*4 'blues' tracks by 1 known artist; use --split_scheme ra"
    ):
        load_tracks(arguments)


def test_a_part_of_gtzan_cannot_be_split_as_published(gtzan_folder, tmp_path):
    arguments = DataArguments(data_dir=str(gtzan_folder), cache_dir=str(tmp_path), split_scheme="fault_filtered")
    held = "15 of 443 train, 19 of 197 validation, 4 of 290 test tracks"
    with pytest.raises(UserError, match=f"split_scheme=fault_filtered: the data hold {held}; .*needs all of GTZAN"):
        load_tracks(arguments)


def test_one_track_of_the_published_split_may_be_missing_and_no_more(full_gtzan):
    tracks = full_gtzan.column("track")
    published = [row for row, track in enumerate(tracks) if read_index()[track]["fault_filtered"]]
    assert len(published) == 929  # without jazz.00054
    faulty = [row for row in range(len(tracks)) if row not in published]

    def without(row):
        return replace(full_gtzan, rows=full_gtzan.rows.select([other for other in range(len(tracks)) if other != row]))

    # A faulty track is in no part of the split.
    assert len(without(faulty[0]).schemes["fault_filtered"](without(faulty[0]), 0)["train"]) == 442
    table = without(published[0])
    with pytest.raises(UserError, match=r"the data hold .*; the published split needs all of GTZAN"):
        table.schemes["fault_filtered"](table, 0)


def test_an_index_without_the_published_split_has_no_such_scheme(gtzan_folder, artist_index, tmp_path):
    assert list(load_gtzan(str(gtzan_folder), str(tmp_path), artist_index).schemes) == ["artist", "random"]


def test_two_tracks_a_genre_cannot_be_split(tiny_gtzan, tmp_path):
    folder = tiny_gtzan(tracks_per_genre=2)
    arguments = DataArguments(data_dir=str(folder), cache_dir=str(tmp_path / "cache"), split_scheme="random")
    with pytest.raises(UserError, match=r"split_scheme=random leaves no 'blues' .*three tracks a label are the least"):
        load_tracks(arguments)


def test_unknown_schemes_and_sources_name_the_known_ones(gtzan_folder, tmp_path):
    arguments = DataArguments(data_dir=str(gtzan_folder), cache_dir=str(tmp_path), split_scheme="composition")
    said = "split_scheme='composition' is not known for GTZAN; choose from artist, random, fault_filtered"
    with pytest.raises(UserError, match=said):
        load_tracks(arguments)
    with pytest.raises(UserError, match=r"dataset='gtzam' is not known; did you mean gtzan\?"):
        load_tracks(DataArguments(dataset="gtzam"))
    with pytest.raises(UserError, match="dataset='xyz' is not known; choose from gtzan, maestro, folder, synthetic"):
        load_tracks(DataArguments(dataset="xyz"))


def test_the_report_tells_counts_and_leaks(gtzan_folder, tmp_path, capsys):
    arguments = DataArguments(data_dir=str(gtzan_folder), cache_dir=str(tmp_path), split_scheme="random", split_seed=5)
    loaded = load_tracks(arguments)
    told = capsys.readouterr().out
    assert "GTZAN: 40 tracks, 10 labels\n" in told and "split scheme random, seed 5:\n" in told
    for split, items in loaded.splits.items():
        assert f"  {split}: {len(items)} tracks, " in told
    leak = loaded.leakage["train/test"]["group"]
    assert f"{leak['items']} of {leak['known']} test tracks share their artist with train" in told
    load_tracks(arguments, verbose=False)
    assert capsys.readouterr().out == ""
