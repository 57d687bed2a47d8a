"""MAESTRO by composer: what its table holds and what its splits share."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import noise
from tiny_maestro import SHORT, reasons, three_composers, write_maestro

from hf_musiclf.audio import read_audio
from hf_musiclf.audio_readers import _SoundfileReader
from hf_musiclf.data.maestro import load_maestro
from hf_musiclf.data.tracks import split_tracks
from hf_musiclf.errors import UserError
from hf_musiclf.splits import SPLITS


@pytest.fixture
def corpus(tmp_path):
    return write_maestro(tmp_path / "maestro", three_composers())


# What a table holds


def test_composers_are_labels_and_compositions_are_groups(corpus):
    table = load_maestro(corpus, **SHORT)
    assert table.labels == ("Franz Liszt", "Frédéric Chopin") and len(table) == 40 and len(set(table.groups)) == 20
    assert table.column("track") == sorted(table.column("track"))
    first = table.rows[0]
    assert (first["track"], first["artist"], first["title"]) == (
        "2004/Chopin_10a",
        "Frédéric Chopin",
        "Etude Op. 10 No. 10",
    )
    assert (first["duration"], first["sampling_rate"], first["error"]) == (0.5, 8000, None)
    assert table.groups[0] == "Frédéric Chopin: etude op 10 no 10" and table.labels[first["label"]] == first["artist"]
    assert table.skipped == (
        {
            "track": "2 performances",
            "reason": "double credits such as 'Franz Schubert / Franz Liszt', 1 pair; see --double_credits",
            "count": 2,
        },
        {
            "track": "2 performances",
            "reason": "of composers with fewer than min_pieces_per_composer=3 compositions: Alban Berg 2",
            "count": 2,
        },
    )


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_the_same_table_read_in_place(corpus, tmp_path, compression):
    archive = tmp_path / "maestro-v3.0.0.zip"
    with zipfile.ZipFile(archive, "w", compression) as file:
        for path in sorted(Path(corpus).rglob("*.*"), reverse=True):
            file.write(path, f"maestro-v3.0.0/{path.relative_to(corpus)}")
    unpacked, packed = load_maestro(corpus, **SHORT), load_maestro(str(archive), **SHORT)
    for column in ("track", "label", "title", "duration", "sampling_rate"):
        assert packed.column(column) == unpacked.column(column)
    assert packed.groups == unpacked.groups and packed.skipped == unpacked.skipped
    np.testing.assert_array_equal(read_audio(packed.rows[3]["audio"]), read_audio(unpacked.rows[3]["audio"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maestro", "maestro-v3.0.0.zip"]


def test_a_recoded_corpus_is_the_same_table(corpus):
    expected = load_maestro(corpus, **SHORT)
    for path in Path(corpus).rglob("*.wav"):
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path.with_suffix(".flac"), samples, rate)
        path.unlink()
    table = load_maestro(corpus, **SHORT)
    assert table.column("track") == expected.column("track") and table.column("duration") == expected.column("duration")


@pytest.mark.parametrize("suffix,frames", [("wav", 0), ("ogg", 0), ("flac", 800), ("mp3", 800)])
def test_only_headers_are_read_and_a_tenth_of_a_second_where_they_promise(corpus, monkeypatch, suffix, frames):
    for path in Path(corpus).rglob("*.wav"):
        samples, rate = soundfile.read(path, dtype="int16")
        path.unlink()
        soundfile.write(path.with_suffix(f".{suffix}"), samples, rate)
    blocks, decoded = _SoundfileReader.blocks, []

    def counted(reader, start, stop):
        decoded.append(stop - start)
        return blocks(reader, start, stop)

    monkeypatch.setattr(_SoundfileReader, "blocks", counted)
    assert len(load_maestro(corpus, **SHORT)) == 40
    assert decoded == [frames] * 42 * (frames > 0)


def test_checked_audio_is_decoded_and_finds_damage_within(corpus):
    path = Path(corpus) / "2004/Liszt_1a.flac"
    path.with_suffix(".wav").unlink()
    soundfile.write(path, noise(5.0, 8000, 1), 8000)
    content = bytearray(path.read_bytes())
    content[len(content) // 4 : len(content) // 4 + 200] = bytes(200)
    path.write_bytes(content)
    assert "2004/Liszt_1a" in load_maestro(corpus, **SHORT).column("track")
    table = load_maestro(corpus, check_audio=True, **SHORT)
    assert len(table) == 39 and "be decoded" in reasons(table)["2004/Liszt_1a"]
    assert "Liszt" not in reasons(table)["2004/Liszt_1a"]
    assert len(table.column("audio_hash")[0]) == 64


def test_exact_copies_of_a_file_stand_in_one_group(corpus):
    folder = Path(corpus) / "2004"
    (folder / "Liszt_2a.wav").write_bytes((folder / "Liszt_7b.wav").read_bytes())
    table = load_maestro(corpus, **SHORT)
    group_of = dict(zip(table.column("track"), table.groups, strict=True))
    assert len(set(table.groups)) == 19 and group_of["2004/Liszt_2b"] == group_of["2004/Liszt_7a"]


def test_a_table_survives_pickling_with_its_schemes(corpus):
    table = pickle.loads(pickle.dumps(load_maestro(corpus, **SHORT)))
    for scheme in ("composition", "performance", "official"):
        assert set(split_tracks(table, scheme, 0).splits) == set(SPLITS)


def test_a_composer_is_one_label_however_the_name_is_spelt(tmp_path):
    rows = three_composers()
    rows[0]["canonical_composer"] = "Frederic Chopin"
    table = load_maestro(write_maestro(tmp_path / "maestro", rows), composers=["Frédéric Chopin", "Liszt"], **SHORT)
    assert table.labels == ("Franz Liszt", "Frédéric Chopin") and len(table) == 40
    assert set(table.column("artist")) == set(table.labels)


# Splits


def test_a_split_by_composition_shares_none_and_one_by_performance_tells_it(corpus):
    table = load_maestro(corpus, **SHORT)
    by_composition, by_performance = (split_tracks(table, scheme, 0) for scheme in ("composition", "performance"))
    assert all(found["group"]["items"] == found["title"]["items"] == 0 for found in by_composition.leakage.values())
    assert by_performance.leakage["train/test"]["group"]["items"] > 0


def test_the_official_split_is_the_tables_whatever_the_seed(corpus):
    table = load_maestro(corpus, **SHORT)
    splits = split_tracks(table, "official", 7).splits
    assert {name: len(items) for name, items in splits.items()} == {"train": 12, "validation": 16, "test": 12}


@pytest.mark.parametrize(
    "split_of,said",
    [
        (
            lambda name, split: "test" if name == "Liszt" else split,
            r"has 'Franz Liszt' in test and not in train, so it",
        ),
        (lambda name, split: "train", r"^split_scheme=official: MAESTRO has no readable track in validation; use"),
    ],
)
def test_an_official_split_that_cannot_be_learned_is_refused(tmp_path, split_of, said):
    rows = [
        {**entry, "split": split_of(entry["canonical_composer"].split()[-1], entry["split"])}
        for entry in three_composers()
    ]
    table = load_maestro(write_maestro(tmp_path / "maestro", rows), **SHORT)
    with pytest.raises(UserError, match=said):
        split_tracks(table, "official", 0)


def test_no_official_split_without_its_column(tmp_path):
    rows = [{name: value for name, value in entry.items() if name != "split"} for entry in three_composers()]
    assert set(load_maestro(write_maestro(tmp_path / "maestro", rows), **SHORT).schemes) == {
        "composition",
        "title",
        "performance",
    }


def test_too_few_compositions_for_three_splits_name_the_way_out(corpus):
    table = load_maestro(corpus, min_pieces_per_composer=2, **SHORT)
    with pytest.raises(UserError, match=r"no 'Alban Berg' for .* by 2 known compositions; raise --min_pieces_per_comp"):
        split_tracks(table, "composition", 0)
