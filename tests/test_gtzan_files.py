"""GTZAN from a folder: every layout people have on disk, the prepared table, and what is wanting or damaged."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import noise, write_archive

from hf_musiclf.arguments import DataArguments
from hf_musiclf.data import tracks
from hf_musiclf.data.gtzan import load_gtzan
from hf_musiclf.data.gtzan_files import GENRES
from hf_musiclf.data.loading import load_tracks
from hf_musiclf.errors import UserError

REAL_DATA = Path(__file__).parents[1] / "../shared/data/gtzan-mini"


def names(table):
    return table.column("track")


@pytest.fixture
def decoded(monkeypatch):
    """What was decoded, a list that grows."""
    calls = []
    fingerprint = tracks.audio_fingerprint

    def counting_fingerprint(source):
        calls.append(source)
        return fingerprint(source)

    monkeypatch.setattr(tracks, "audio_fingerprint", counting_fingerprint)
    return calls


# Layouts


@pytest.mark.parametrize("layout", ["genres", "genres_original", "."])
@pytest.mark.parametrize("suffix", ["wav", "au", "flac", "mp3", "ogg"])
def test_every_layout_and_format_is_read(tiny_gtzan, tmp_path, layout, suffix):
    folder = tiny_gtzan(layout, suffix=suffix, tracks_per_genre=2)
    table = load_gtzan(str(folder), str(tmp_path / "cache"))
    assert names(table) == [f"{genre}.{number:05d}" for genre in GENRES for number in range(2)]
    assert table.labels == GENRES and table.skipped == ()
    assert table.column("label") == [label for label in range(10) for _ in range(2)]
    assert table.column("sampling_rate") == [8000] * 20
    # An MP3 is as long as its whole number of frames where the header does not say how much of them is filling.
    np.testing.assert_allclose(table.column("duration"), 0.25, atol=3 * 576 / 8000 if suffix == "mp3" else 0)


def test_what_is_no_excerpt_is_passed_over(tiny_gtzan, tmp_path):
    folder = tiny_gtzan("genres_original", tracks_per_genre=2)
    (folder / "features_30_sec.csv").write_text("filename,length\n")
    (folder / "images_original" / "blues").mkdir(parents=True)
    (folder / "images_original" / "blues" / "blues00000.png").write_bytes(b"\x89PNG")
    for name in ("._blues.00000.wav", "blues.00000.mf", "blues00000.png", ".DS_Store"):
        (folder / "genres_original" / "blues" / name).write_bytes(b"no audio")
    (folder / "genres_original" / "salsa").mkdir()
    soundfile.write(folder / "genres_original" / "salsa" / "salsa.00000.wav", noise(0.1, 8000, 0), 8000)
    table = load_gtzan(str(folder), str(tmp_path / "cache"))
    assert len(table) == 20 and table.skipped == ()


def test_suffixes_in_capitals_are_suffixes(tiny_gtzan, tmp_path):
    folder = tiny_gtzan(tracks_per_genre=1)
    (folder / "blues" / "blues.00000.wav").rename(folder / "blues" / "blues.00000.WAV")
    assert "blues.00000" in names(load_gtzan(str(folder), str(tmp_path / "cache")))


# The prepared table


@pytest.mark.parametrize("packed", [False, True])
def test_a_second_load_decodes_nothing(gtzan_folder, tmp_path, decoded, packed):
    source = write_archive(tmp_path / "genres.tar.gz", gtzan_folder) if packed else gtzan_folder
    first = load_gtzan(str(source), str(tmp_path / "cache"))
    assert len(decoded) == 40
    second = load_gtzan(str(source), str(tmp_path / "cache"))
    assert len(decoded) == 40
    assert second.column("audio_hash") == first.column("audio_hash")


def test_a_changed_file_makes_a_new_table(tiny_gtzan, tmp_path, decoded):
    folder = tiny_gtzan(tracks_per_genre=2)
    before = load_gtzan(str(folder), str(tmp_path / "cache")).column("audio_hash")
    changed = folder / "blues" / "blues.00001.wav"
    # As long as before: only its time tells.
    soundfile.write(changed, noise(0.25, 8000, 99), 8000)
    os.utime(changed, ns=(0, changed.stat().st_mtime_ns + 1))
    after = load_gtzan(str(folder), str(tmp_path / "cache")).column("audio_hash")
    assert len(decoded) == 40
    assert [index for index in range(20) if before[index] != after[index]] == [1]


def test_another_decoder_decodes_anew(gtzan_folder, tmp_path, decoded, monkeypatch):
    load_gtzan(str(gtzan_folder), str(tmp_path))
    monkeypatch.setattr(tracks, "find_spec", lambda name: name == "torchcodec" and not find_spec(name))
    load_gtzan(str(gtzan_folder), str(tmp_path))
    assert len(decoded) == 80
    monkeypatch.setattr(soundfile, "__libsndfile_version__", "9.9.9")
    load_gtzan(str(gtzan_folder), str(tmp_path))
    assert len(decoded) == 120


def test_an_added_file_and_another_index_make_new_tables(tiny_gtzan, artist_index, tmp_path):
    folder = tiny_gtzan(tracks_per_genre=2)
    assert load_gtzan(str(folder), str(tmp_path / "cache")).column("artist")[0] == "John Lee Hooker"
    assert load_gtzan(str(folder), str(tmp_path / "cache"), artist_index).column("artist")[0] == "blues artist 0"
    soundfile.write(folder / "rock" / "rock.00002.wav", noise(0.1, 8000, 99), 8000)
    assert len(load_gtzan(str(folder), str(tmp_path / "cache"))) == 21


# Data that are wanting


def test_what_cannot_be_decoded_is_left_out_named_and_counted(tiny_gtzan, artist_index, tmp_path, capsys):
    folder = tiny_gtzan()
    (folder / "jazz" / "jazz.00054.wav").write_text("These are words.")
    table = load_gtzan(str(folder), str(tmp_path / "cache"))
    assert len(table) == 40 and "jazz.00054" not in names(table)
    ((skipped),) = table.skipped
    assert skipped["track"] == "jazz.00054" and "cannot open it" in skipped["reason"]
    load_tracks(DataArguments(data_dir=str(folder), cache_dir=str(tmp_path / "cache"), split_scheme="random"))
    told = capsys.readouterr().out
    assert f"warning: 1 track is left out:\n  jazz.00054: {skipped['reason']}\n" in told


def test_the_reasons_of_five_skipped_tracks_are_told_and_the_others_counted(tiny_gtzan, tmp_path, capsys):
    folder = tiny_gtzan(tracks_per_genre=5)
    for genre in GENRES:
        (folder / genre / f"{genre}.00002.wav").write_text("These are words.")
    (folder / "rock" / "rock.00003.wav").write_text("These are words.")
    arguments = DataArguments(data_dir=str(folder), cache_dir=str(tmp_path / "cache"), split_scheme="random")
    skipped = load_tracks(arguments).table.skipped
    told = capsys.readouterr().out.splitlines()
    first = told.index("warning: 11 tracks are left out:") + 1
    assert told[first : first + 5] == [f"  {entry['track']}: {entry['reason']}" for entry in skipped[:5]]
    assert told[first + 5] == "  ... and 6 more tracks, see report.json"


@pytest.mark.parametrize("frames,kept", [(799, False), (800, True)])
def test_a_track_under_a_tenth_of_a_second_is_left_out(tiny_gtzan, tmp_path, frames, kept):
    folder = tiny_gtzan(tracks_per_genre=2)
    soundfile.write(folder / "pop" / "pop.00001.wav", noise(0.1, 8000, 0)[:frames], 8000)
    table = load_gtzan(str(folder), str(tmp_path / "cache"))
    assert ("pop.00001" in names(table)) == kept
    reason = "lasts 0.09988 s, less than 0.1 s: too short to classify"
    assert table.skipped == (() if kept else ({"track": "pop.00001", "reason": reason},))


def test_an_undecodable_member_of_an_archive_is_left_out(tiny_gtzan, tmp_path):
    folder = tiny_gtzan()
    (folder / "jazz" / "jazz.00054.wav").write_text("These are words.")
    table = load_gtzan(str(write_archive(tmp_path / "genres.tar.gz", folder)), str(tmp_path / "cache"))
    assert len(table) == 40 and [entry["track"] for entry in table.skipped] == ["jazz.00054"]


def test_nothing_that_can_be_decoded_is_refused(tmp_path):
    for genre in GENRES:
        (tmp_path / "genres" / genre).mkdir(parents=True)
        (tmp_path / "genres" / genre / f"{genre}.00000.wav").write_text("These are words.")
    with pytest.raises(UserError, match=r"none of its 10 audio files can be decoded: blues/blues\.00000\.wav: "):
        load_gtzan(str(tmp_path), str(tmp_path / "cache"))


def test_missing_genres_are_named(tiny_gtzan, tmp_path):
    folder = tiny_gtzan()
    for genre in ("jazz", "rock"):
        for file in (folder / genre).iterdir():
            file.unlink()
    with pytest.raises(UserError, match=r"has audio of 8 of GTZAN's 10 genres; missing: jazz, rock$"):
        load_gtzan(str(folder), str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"has audio of 8 of GTZAN's 10 genres; missing: jazz, rock$"):
        load_gtzan(str(write_archive(tmp_path / "genres.tar", folder, mode="w")), str(tmp_path / "cache"))


def test_one_genre_is_not_enough(tmp_path):
    (tmp_path / "blues").mkdir()
    soundfile.write(tmp_path / "blues" / "blues.00000.wav", noise(0.1, 8000, 0), 8000)
    with pytest.raises(UserError, match=r"has audio of 1 of GTZAN's 10 genres; missing: classical, country, .*, rock$"):
        load_gtzan(str(tmp_path), str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "make,said",
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), r"holds no genre folder such as blues/ \(it holds nothing\)"),
        (lambda folder: (folder / "songs").mkdir(parents=True), r"holds no genre folder .* \(it holds songs\)"),
    ],
)
def test_no_data_names_the_three_ways_to_data(tmp_path, make, said):
    make(tmp_path / "data")
    ways = r"three ways to data: --data_dir with a folder .*, --data_dir with genres\.tar\.gz, or --dataset synthetic"
    with pytest.raises(UserError, match=rf"data_dir=\S+data {said}; {ways}"):
        load_gtzan(str(tmp_path / "data"), str(tmp_path / "cache"))


def test_a_track_in_two_formats_is_refused(tiny_gtzan, tmp_path):
    folder = tiny_gtzan()
    soundfile.write(folder / "pop" / "pop.00002.flac", noise(0.1, 8000, 0), 8000)
    with pytest.raises(UserError, match=r"holds pop\.00002 twice, in two formats or two genres; keep one"):
        load_gtzan(str(folder), str(tmp_path / "cache"))


def test_the_undecodable_track_of_gtzan_is_left_out(full_gtzan):
    assert len(full_gtzan) == 999
    assert [entry["track"] for entry in full_gtzan.skipped] == ["jazz.00054"]


# Real excerpts


@pytest.mark.skipif(not REAL_DATA.exists(), reason="the excerpts of GTZAN are not beside the repository")
def test_real_excerpts_load_and_their_blues_are_by_one_artist(tmp_path):
    arguments = DataArguments(data_dir=str(REAL_DATA), cache_dir=str(tmp_path), split_scheme="random")
    table = load_tracks(arguments).table
    assert len(table) == 70 and table.skipped == () and len(set(table.column("audio_hash"))) == 70
    assert set(table.column("sampling_rate")) == {22050}
    assert 15 <= min(table.column("duration")) and max(table.column("duration")) <= 20.01
    arguments = DataArguments(data_dir=str(REAL_DATA), cache_dir=str(tmp_path), split_scheme="artist")
    with pytest.raises(UserError, match=r"leaves no 'blues' .* 7 'blues' tracks by 1 known artist"):
        load_tracks(arguments)
