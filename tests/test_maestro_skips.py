"""What is left out of MAESTRO, and why; and a user's mistakes."""

from pathlib import Path

import pytest
import soundfile
from conftest import noise
from tiny_maestro import SHORT, as_csv, reasons, row, three_composers, write_maestro

from hf_musiclf.data.maestro import load_maestro
from hf_musiclf.data.maestro.selection import match_composers
from hf_musiclf.errors import UserError


@pytest.fixture
def corpus(tmp_path):
    return write_maestro(tmp_path / "maestro", three_composers())


def test_files_that_are_missing_damaged_or_short_are_skipped_with_their_reason(corpus):
    folder = Path(corpus) / "2004"
    (folder / "Liszt_1a.wav").unlink()
    (folder / "Liszt_2a.wav").write_bytes((folder / "Liszt_2a.wav").read_bytes()[:500])
    (folder / "Liszt_3a.wav").write_text("These are words.")
    soundfile.write(folder / "Liszt_4a.wav", noise(0.05, 8000, 1), 8000)
    table = load_maestro(corpus, **SHORT)
    told = reasons(table)
    assert len(table) == 36
    assert told["2004/Liszt_1a"] == "its audio file 2004/Liszt_1a.wav is not there"
    assert "is cut short" in told["2004/Liszt_2a"] and "libsndfile" in told["2004/Liszt_3a"]
    assert not any("Liszt_2a" in told["2004/Liszt_2a"] or "Liszt_3a" in reason for reason in told.values())
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
        ({"min_track_seconds": 1.0}, r"none of its 42 audio files can be used: lasts 0\.50 s, less than min_track_sec"),
        ({"composers": ["Shopin"]}, r"'Shopin' is not among the data's composers; did you mean Frédéric Chopin\?"),
        (
            {"composers": ["chopin"]},
            r"^composers: chopin is one composer, and two are .* name another, or leave --compo",
        ),
        (
            {"min_pieces_per_composer": 11, **SHORT},
            r"=11 leaves fewer than the two composers .* of Frédéric Chopin, 10, and Franz Liszt, 10; lower it to 10",
        ),
        (
            {"min_pieces_per_composer": 3, "composers": ["liszt", "berg"], **SHORT},
            r"=3 leaves fewer than .* of Franz Liszt, 10, and Alban Berg, 2; lower it to 2 or less$",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(corpus, options, said):
    with pytest.raises(UserError, match=said) as caught:
        load_maestro(corpus, **options)
    assert "\n" not in str(caught.value)


def test_no_data_and_no_audio_name_the_ways_to_data(tmp_path):
    for nothing in (None, ""):
        with pytest.raises(UserError, match=r"^MAESTRO needs --data_dir; three ways to data: "):
            load_maestro(nothing)
    (tmp_path / "maestro-v3.0.0.csv").write_bytes(as_csv(three_composers()))
    with pytest.raises(UserError, match=r"none of its 42 audio files is there, such as 2004/Berg_a\.wav; three"):
        load_maestro(str(tmp_path))


def test_usable_performances_of_one_composer_alone_are_refused(tmp_path):
    rows = [row("Franz Liszt", f"Etude Op. 10 No. {number}", number) for number in range(3)]
    with pytest.raises(
        UserError, match=r"usable performances are of Franz Liszt alone, and two composers are the least"
    ):
        load_maestro(write_maestro(tmp_path / "maestro", rows), **SHORT)


def test_double_credits_are_counted_by_pair(tmp_path):
    pairs = ["Franz Schubert / Franz Liszt", "J. S. Bach / Ferruccio Busoni", "Richard Wagner / Franz Liszt"]
    rows = [*three_composers(), *(row(pair, "Paraphrase", f"paraphrase_{pair[0]}") for pair in pairs)]
    table = load_maestro(write_maestro(tmp_path / "maestro", rows), **SHORT)
    assert table.skipped[0]["count"] == 5
    assert table.skipped[0]["reason"].endswith(
        "'Franz Schubert / Franz Liszt', 3 different pairs; see --double_credits"
    )


def test_titles_that_name_no_single_work_are_left_out_and_counted(tmp_path):
    rows = [*three_composers(), *(row("Franz Liszt", "Two Etudes", f"two{take}") for take in "ab")]
    rows.append(row("Alban Berg", "Sonata", "c"))
    table = load_maestro(write_maestro(tmp_path / "maestro", rows), **SHORT)
    assert table.skipped[1] == {
        "track": "2 performances",
        "reason": "whose title names no single work, such as 'Two Etudes'",
        "count": 2,
    }


def test_composers_are_matched_by_surname_case_and_accents_aside():
    known = ["Johann Sebastian Bach", "Carl Philipp Emanuel Bach", "Ludwig van Beethoven", "Frédéric Chopin"]
    assert match_composers(["Frédéric Chopin", "Frederic Chopin"], [*known, "Frederic Chopin"]) == {
        "Frédéric Chopin",
        "Frederic Chopin",
    }
    assert match_composers(["FREDERIC CHOPIN", "van beethoven"], known) == {"Frédéric Chopin", "Ludwig van Beethoven"}
    with pytest.raises(UserError, match=r"'bach' may be Johann Sebastian Bach or Carl .* Bach; give the full name"):
        match_composers(["bach"], known)
    with pytest.raises(UserError, match=r"'Xenakis' is not among the data's composers; the data hold Johann Sebastian"):
        match_composers(["Xenakis"], known)


# The cap


def test_the_cap_counts_titles_whatever_their_case_and_punctuation(tmp_path):
    spellings = ["Ballade No. 1, Op. 23", "BALLADE NO. 1 (OP. 23)", "Ballade No.1 Op.23"]
    rows = [row("Frédéric Chopin", title, number) for number, title in enumerate(spellings)]
    # Movements of one composition are music of their own.
    rows += [row("Franz Liszt", f"Sonata No. 1, {movement}", movement) for movement in ("I", "II", "III", "IV")]
    rows += [row("Frédéric Chopin", "Berceuse", "b"), row("Franz Liszt", "Ballade No. 2", "b")]
    folder = write_maestro(tmp_path / "maestro", rows)
    table = load_maestro(folder, max_performances_per_piece=1, min_pieces_per_composer=2, **SHORT)
    assert len(table) == 1 + 4 + 2 and len(set(table.groups)) == 4
