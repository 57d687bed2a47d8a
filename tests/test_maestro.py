"""MAESTRO by composer: what is kept, what is left out and why, and what its splits share."""

import pickle
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import noise
from tiny_maestro import as_csv, row, write_maestro

from hf_musiclf.audio import read_audio
from hf_musiclf.data.maestro import BY_COMPOSITION, OfficialScheme, audio, load_maestro
from hf_musiclf.data.maestro.files import read_table
from hf_musiclf.data.maestro.selection import composition_of_tracks, credit, match_composers, select
from hf_musiclf.data.maestro.titles import Title, expanded, normalise_title
from hf_musiclf.data.tracks import split_tracks
from hf_musiclf.errors import UserError
from hf_musiclf.splits import FRACTIONS, SPLITS, grouped_split

SHARED = Path(__file__).parents[1] / "../shared/data"
REAL_TABLES, MINI = SHARED / "maestro-metadata", SHARED / "maestro-mini"
SHORT = {"min_track_seconds": 0.1}


def three_composers():
    """Ten studies each of Chopin and Liszt, two performances of each; two of Berg; and two of a double credit."""
    rows = [
        row(composer, f"Etude Op. 10 No. {number}", f"{number}{take}", SPLITS[number % 3])
        for composer in ("Frédéric Chopin", "Franz Liszt")
        for number in range(1, 11)
        for take in "ab"
    ]
    rows += [row("Alban Berg", "Sonata Op. 1", "a"), row("Alban Berg", "Four Songs, Op. 2", "b")]
    return rows + [row("Franz Schubert / Franz Liszt", "Erlkoenig", number) for number in range(2)]


@pytest.fixture
def corpus(tmp_path):
    return write_maestro(tmp_path / "maestro", three_composers())


def reasons(table):
    return {entry["track"]: entry["reason"] for entry in table.skipped}


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
            "reason": "double credits such as 'Franz Schubert / Franz Liszt', 1 in all; see --double_credits",
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


def test_only_headers_are_read_unless_asked(corpus, monkeypatch):
    decoded = []
    monkeypatch.setattr(audio, "decoded_batches", lambda *args: decoded.append(1) or iter(()))
    load_maestro(corpus, **SHORT)
    assert decoded == []


def test_checked_audio_is_decoded_and_finds_damage_within(corpus):
    path = Path(corpus) / "2004/Liszt_1a.flac"
    samples, rate = soundfile.read(path.with_suffix(".wav"), dtype="int16")
    path.with_suffix(".wav").unlink()
    soundfile.write(path, samples, rate)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)
    assert "2004/Liszt_1a" in load_maestro(corpus, **SHORT).column("track")
    table = load_maestro(corpus, check_audio=True, **SHORT)
    assert len(table) == 39 and "2004/Liszt_1a.flac" in reasons(table)["2004/Liszt_1a"]
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


# What is left out, and why


def test_files_that_are_missing_damaged_or_short_are_skipped_with_their_reason(corpus):
    folder = Path(corpus) / "2004"
    (folder / "Liszt_1a.wav").unlink()
    (folder / "Liszt_2a.wav").write_bytes((folder / "Liszt_2a.wav").read_bytes()[:500])
    (folder / "Liszt_3a.wav").write_text("These are words.")
    soundfile.write(folder / "Liszt_4a.wav", noise(0.05, 8000, 1), 8000)
    table = load_maestro(corpus, **SHORT)
    told = reasons(table)
    assert len(table) == 36
    assert told["2004/Liszt_1a"] == "2004/Liszt_1a.wav: no such file"
    assert "is cut short" in told["2004/Liszt_2a"] and "libsndfile" in told["2004/Liszt_3a"]
    assert told["2004/Liszt_4a"] == "lasts 0.05 s, less than min_track_seconds=0.1"


@pytest.mark.parametrize("promised,kept", [(1.45, True), (1.6, False)])
def test_audio_more_than_a_second_shorter_than_its_row_is_cut_short(tmp_path, promised, kept):
    rows = three_composers()
    rows[0]["duration"] = str(promised)
    table = load_maestro(write_maestro(tmp_path / "maestro", rows), **SHORT)
    expected = None if kept else f"is cut short, lasts 0.50 of {promised:.2f} s; fetch it again"
    assert reasons(table).get("2004/Chopin_1a") == expected


def test_double_credits_are_left_out_or_given_to_one(corpus):
    assert len(load_maestro(corpus, min_pieces_per_composer=1, **SHORT)) == 42
    second = load_maestro(corpus, double_credits="second", **SHORT)
    assert second.labels == ("Franz Liszt", "Frédéric Chopin") and len(second) == 42
    first = load_maestro(corpus, double_credits="first", min_pieces_per_composer=1, **SHORT)
    assert first.labels == ("Alban Berg", "Franz Liszt", "Franz Schubert", "Frédéric Chopin") and len(first) == 44


def test_performances_beyond_the_cap_are_left_out_whatever_the_order(tmp_path):
    rows = three_composers() + [row("Franz Liszt", "ETUDE, Op.10 no 1", f"1{take}") for take in "cdef"]
    table = load_maestro(write_maestro(tmp_path / "one", rows), **SHORT)
    again = load_maestro(write_maestro(tmp_path / "two", rows[::-1]), **SHORT)
    assert table.column("track") == again.column("track")
    assert table.skipped[-1] == {
        "track": "3 performances",
        "reason": "beyond max_performances_per_piece=3 of their piece",
        "count": 3,
    }
    assert len(load_maestro(str(tmp_path / "one"), max_performances_per_piece=None, **SHORT)) == 44
    assert len(load_maestro(str(tmp_path / "one"), max_performances_per_piece=1, **SHORT)) == 20


def test_the_cap_counts_what_can_be_read(tmp_path):
    rows = three_composers() + [row("Franz Liszt", "Etude Op. 10 No. 1", f"1{take}") for take in "cd"]
    folder = write_maestro(tmp_path / "maestro", rows)
    for take in "ac":
        (tmp_path / "maestro" / "2004" / f"Liszt_1{take}.wav").unlink()
    tracks = load_maestro(folder, max_performances_per_piece=2, **SHORT).column("track")
    assert {"2004/Liszt_1b", "2004/Liszt_1d"} <= set(tracks)


# Mistakes


@pytest.mark.parametrize(
    "options,said",
    [
        ({"double_credits": "both"}, r"double_credits='both' is not known; choose from leave_out, first, second"),
        ({"max_performances_per_piece": 0}, r"max_performances_per_piece=0 is below 1; pass 1 or more"),
        ({"min_pieces_per_composer": 0}, r"min_pieces_per_composer=0 is below 1; pass 1 or more"),
        ({"min_track_seconds": -1.0}, r"min_track_seconds=-1\.0 is below 0"),
        ({"min_track_seconds": 1.0}, r"none of its 42 audio files can be used: lasts 0\.50 s, less than min_track_sec"),
        ({"composers": ["Shopin"]}, r"'Shopin' is not among the data's composers; did you mean Frédéric Chopin\?"),
        (
            {"composers": ["chopin"], **SHORT},
            r"min_pieces_per_composer=3: of 1 in question, .* are Frédéric Chopin, and two",
        ),
        (
            {"min_pieces_per_composer": 11, **SHORT},
            r"=11: of 3 in question, composers with so many compositions are none, and two",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(corpus, options, said):
    with pytest.raises(UserError, match=said) as caught:
        load_maestro(corpus, **options)
    assert "\n" not in str(caught.value)


def test_no_data_and_no_audio_name_the_ways_to_data(tmp_path):
    with pytest.raises(UserError, match=r"^MAESTRO needs --data_dir; three ways to data: "):
        load_maestro(None)
    (tmp_path / "maestro-v3.0.0.csv").write_bytes(as_csv(three_composers()))
    with pytest.raises(UserError, match=r"none of its 42 audio files is there, such as 2004/Berg_a\.wav; three"):
        load_maestro(str(tmp_path))


def test_composers_are_matched_by_surname_case_and_accents_aside():
    known = ["Johann Sebastian Bach", "Carl Philipp Emanuel Bach", "Ludwig van Beethoven", "Frédéric Chopin"]
    assert match_composers(["FREDERIC CHOPIN", "van beethoven"], known) == {"Frédéric Chopin", "Ludwig van Beethoven"}
    with pytest.raises(UserError, match=r"'bach' may be Johann Sebastian Bach or Carl .* Bach; give the full name"):
        match_composers(["bach"], known)
    with pytest.raises(UserError, match=r"'Xenakis' is not among the data's composers; the data hold Johann Sebastian"):
        match_composers(["Xenakis"], known)


# Splits


def test_a_split_by_composition_shares_none_and_one_by_performance_tells_it(corpus):
    table = load_maestro(corpus, **SHORT)
    by_composition, by_performance = (split_tracks(table, scheme, 0) for scheme in ("composition", "performance"))
    assert all(found["group"]["items"] == found["title"]["items"] == 0 for found in by_composition.leakage.values())
    assert by_performance.leakage["train/test"]["group"]["items"] > 0


def test_the_official_split_is_the_tables_and_may_lack_a_composer(corpus):
    table = load_maestro(corpus, **SHORT)
    splits = split_tracks(table, "official", 7).splits
    assert {name: len(items) for name, items in splits.items()} == {"train": 12, "validation": 16, "test": 12}
    lacking = {track: "train" if "Liszt" in track else SPLITS[int(track[-2]) % 3] for track in table.column("track")}
    lacks_liszt = OfficialScheme(lacking)(table, 0)["test"]
    assert {table.labels[table.column("label")[item]] for item in lacks_liszt} == {"Frédéric Chopin"}
    only_train = dict.fromkeys(table.column("track"), "train")
    with pytest.raises(UserError, match=r"none of the 40 performances is in validation \(they are 40 'train'\); use"):
        OfficialScheme(only_train)(table, 0)


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


# The table of MAESTRO v3, whose audio is not here


@pytest.fixture(scope="module")
def selected():
    """Performances and composers under the defaults, their compositions, and what was left out."""
    if not REAL_TABLES.exists():
        pytest.skip("the table of MAESTRO is not beside the repository")
    credited, skipped = credit(read_table(REAL_TABLES).performances, "leave_out")
    group_of = composition_of_tracks(credited)
    kept, left_out = select(credited, group_of, 3, 3)
    return kept, [group_of[performance.track] for performance in kept], [*skipped, *left_out]


def label_ids(kept):
    return np.unique(list(kept.values()), return_inverse=True)[1]


def test_counts_of_maestro_under_the_defaults(selected):
    kept, groups, skipped = selected
    assert (len(kept), len(set(groups)), len(set(kept.values()))) == (994, 326, 18)
    assert len({(composer, normalise_title(found.title)) for found, composer in kept.items()}) == 680
    assert [entry["track"] for entry in skipped] == ["54 performances", "39 performances", "189 performances"]
    assert 994 + 54 + 39 + 189 == 1276
    assert min(Counter(kept.values()).values()) == 5


@pytest.mark.parametrize("seed", range(3))
def test_maestro_by_composition_shares_none_and_has_every_composer_in_every_split(selected, seed):
    kept, groups, _ = selected
    labels = label_ids(kept)
    splits = grouped_split(labels, groups, seed=seed)
    seen = [{groups[item] for item in items} for items in splits.values()]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    for split, items in splits.items():
        assert abs(len(items) / len(kept) - FRACTIONS[split]) < 0.02
        assert len(set(labels[items])) == 18
    assert BY_COMPOSITION.group_word == "composition"


def test_what_maestro_leaks_when_split_by_performance_or_by_title(selected):
    """The figures that the docstrings of works.py and maestro.py name."""
    kept, groups, _ = selected
    pieces = [f"{composer}: {normalise_title(found.title)}" for found, composer in kept.items()]

    def leaks(split_groups, shared):
        splits = grouped_split(label_ids(kept), split_groups, seed=0)
        seen = set().union(*(shared[item] for item in splits["train"]))
        return sum(bool(shared[item] & seen) for item in splits["test"]), len(splits["test"])

    compositions = [{group} for group in groups]
    assert leaks(None, compositions) == (89, 101)
    assert leaks(None, [{piece} for piece in pieces]) == (44, 101)
    assert leaks(pieces, compositions) == (73, 101)
    # Catalogue entries alone, which need none of the rules but their own.
    entries = [
        {
            (composer, entry, piece)
            for entry, own in Title.parse(expanded(found.title)).entries.items()
            for piece in own or {"whole"}
        }
        for found, composer in kept.items()
    ]
    assert leaks(pieces, entries) == (52, 101)
    assert leaks(groups, compositions)[0] == 0


# Real performances


@pytest.mark.skipif(not MINI.exists(), reason="the performances of MAESTRO are not beside the repository")
def test_real_performances_load_and_split():
    table = load_maestro(str(MINI))
    assert (len(table), len(set(table.groups)), len(table.labels)) == (395, 120, 9)
    assert set(table.column("sampling_rate")) == {22050}
    assert 10 <= min(table.column("duration")) and max(table.column("duration")) < 51
    assert sum("less than min_track_seconds=10.0" in reason for reason in reasons(table).values()) == 16
    split = split_tracks(table, "composition", 0)
    assert all(found["group"]["items"] == found["title"]["items"] == 0 for found in split.leakage.values())
    assert all(min(counts["labels"].values()) > 0 for counts in split.counts().values())
