"""MAESTRO's table and audio in a folder or an archive: every layout, and what is wanting or damaged."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_maestro import as_csv, laid_out, packed

from hf_musiclf.data.maestro.files import Folder, read_table
from hf_musiclf.data.maestro.titles import normalise_title
from hf_musiclf.errors import UserError

COLUMNS = ["canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename", "duration"]
REAL_TABLES = Path(__file__).parents[1] / "../shared/data/maestro-metadata"


def record(number, **changed):
    name = f"20{number:02d}/take_{number}.wav"
    row = ["Frédéric Chopin", f"Étude Op. 10 No. {number}", "train", f"20{number:02d}", name + ".midi", name, "1.5"]
    return {**dict(zip(COLUMNS, row, strict=True)), **changed}


RECORDS = [record(number) for number in (4, 6, 11)]


def by_column(records):
    return {column: {str(index): row[column] for index, row in enumerate(records)} for column in records[0]}


forms = pytest.mark.parametrize("form", ["folder", "ZIP_STORED", "ZIP_DEFLATED"])


# The table


@forms
@pytest.mark.parametrize("prefix", ["", "maestro-v3.0.0/"])
@pytest.mark.parametrize(
    "suffix,content",
    [
        ("csv", as_csv(RECORDS)),
        ("csv", as_csv([{**row, "remark": "one, two"} for row in RECORDS], "utf-8")),
        ("json", json.dumps(by_column(RECORDS)).encode()),
        ("json", json.dumps([{**row, "duration": 1.5, "year": 2004} for row in RECORDS]).encode()),
        ("json", json.dumps({column: [row[column] for row in RECORDS] for column in COLUMNS}).encode()),
    ],
    ids=["csv with BOM", "csv with another column", "json by column", "json of records", "json of lists"],
)
def test_every_layout_is_read(tmp_path, form, prefix, suffix, content):
    table = read_table(laid_out(tmp_path / "maestro", {f"{prefix}maestro-v3.0.0.{suffix}": content}, form))
    assert table.name == f"maestro-v3.0.0.{suffix}" and table.skipped == () and table.has_splits
    assert [found.track for found in table.performances] == ["2004/take_4", "2006/take_6", "2011/take_11"]
    first = table.performances[0]
    assert (first.composer, first.title, first.split) == ("Frédéric Chopin", "Étude Op. 10 No. 4", "train")
    assert (first.duration_seconds, first.audio_filename) == (1.5, f"{prefix}2004/take_4.wav")


@forms
def test_the_newest_table_is_read_csv_before_json_and_the_others_are_named(tmp_path, form):
    contents = {
        "maestro-v2.0.0.csv": as_csv(RECORDS[:1]),
        "maestro-v10.0.0.json": b"not read",
        "maestro-v10.0.0.csv": as_csv(RECORDS),
        "._maestro-v11.0.0.csv": b"of macOS",
        "__MACOSX/maestro-v11.0.0.csv": b"of macOS",
    }
    table = read_table(laid_out(tmp_path / "maestro", contents, form))
    assert table.name == "maestro-v10.0.0.csv" and len(table.performances) == 3
    reason = "an older table than maestro-v10.0.0.csv, which is read"
    assert table.skipped == ({"track": "maestro-v2.0.0.csv", "reason": reason, "count": 0},)


@forms
def test_two_tables_of_one_version_are_refused_and_named(tmp_path, form):
    contents = {f"{name}maestro-v3.0.0.csv": as_csv(RECORDS) for name in ("", "copy/", "maestro-v3.0.0/")}
    named = "copy/maestro-v3.0.0.csv, maestro-v3.0.0.csv, maestro-v3.0.0/maestro-v3.0.0.csv; keep one of them"
    with pytest.raises(UserError, match=rf"holds several tables of one version: {named}"):
        read_table(laid_out(tmp_path / "maestro", contents, form))


def test_a_table_without_splits_says_so(tmp_path):
    rows = [{column: row[column] for column in COLUMNS if column not in ("split", "year")} for row in RECORDS]
    table = read_table(laid_out(tmp_path, {"maestro-v1.0.0.csv": as_csv(rows)}, "folder"))
    assert not table.has_splits and {found.split for found in table.performances} == {""}


@pytest.mark.parametrize(
    "changed,reason",
    [
        ({"canonical_title": " "}, "canonical_title is empty"),
        ({"canonical_composer": ""}, "canonical_composer is empty"),
        ({"audio_filename": ""}, "audio_filename is empty"),
        ({"duration": "long"}, "duration='long' is no number of seconds above 0"),
        ({"duration": "nan"}, "duration='nan' is no number of seconds above 0"),
        ({"duration": "-1"}, "duration='-1' is no number of seconds above 0"),
        ({"audio_filename": "../a.wav"}, "audio_filename='../a.wav' points outside the corpus"),
        ({"audio_filename": "/a.wav"}, "audio_filename='/a.wav' points outside the corpus"),
        ({"audio_filename": "."}, "audio_filename='.' names no file"),
        ({"audio_filename": RECORDS[0]["audio_filename"]}, "2004/take_4.wav stands in an earlier row"),
    ],
)
def test_a_row_that_cannot_be_used_is_skipped_with_its_number(tmp_path, changed, reason):
    content = as_csv([*RECORDS, record(13, **changed)])
    table = read_table(laid_out(tmp_path, {"maestro-v3.0.0.csv": content}, "folder"))
    assert len(table.performances) == 3 and table.skipped == ({"track": "row 4", "reason": reason},)


@pytest.mark.parametrize(
    "name,content,said",
    [
        ("maestro-v3.0.0.csv", b"\xff\xfe\x00 no text", r"cannot be read \(UnicodeDecodeError: .*\); fetch it again"),
        ("maestro-v3.0.0.csv", b"", r"cannot be read \(ValueError: it holds no rows\)"),
        ("maestro-v3.0.0.csv", as_csv(RECORDS).split(b"\r\n")[0], r"cannot be read \(ValueError: it holds no rows\)"),
        ("maestro-v3.0.0.json", b'{"canonical_composer": {"0": "Fr', r"cannot be read \(JSONDecodeError: .*\)"),
        ("maestro-v3.0.0.json", b'{"canonical_composer": 3}', r"cannot be read \(ValueError: its columns hold no"),
        ("maestro-v3.0.0.json", b"[1, 2]", r"cannot be read \(ValueError: it holds no rows\)"),
        ("maestro-v3.0.0.csv", b"title,duration\na,1\n", r"has no column 'canonical_composer'; it has \['title', 'dur"),
    ],
)
@forms
def test_a_damaged_table_is_refused(tmp_path, form, name, content, said):
    with pytest.raises(UserError, match=rf"^{name} {said}"):
        read_table(laid_out(tmp_path / "maestro", {name: content}, form))


def test_no_data_names_the_ways_to_data(tmp_path):
    with pytest.raises(UserError, match=r"data_dir=\S+nowhere does not exist; three ways to data: .* in place"):
        read_table(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no table such as maestro-v3\.0\.0\.csv \(it holds nothing\); three"):
        read_table(tmp_path)
    archive = packed(tmp_path / "other.zip", {"genres/blues.wav": b""})
    with pytest.raises(UserError, match=r"holds no table .* \(it holds genres/blues\.wav\); three ways to data"):
        read_table(archive)


def test_what_is_no_whole_archive_is_refused(tmp_path):
    (tmp_path / "words.zip").write_text("These are words.")
    with pytest.raises(UserError, match=r"words\.zip: is no zip archive"):
        read_table(tmp_path / "words.zip")
    whole = packed(tmp_path / "maestro.zip", {"maestro-v3.0.0.csv": as_csv(RECORDS)})
    (tmp_path / "cut.zip").write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"cut\.zip: is cut short"):
        read_table(tmp_path / "cut.zip")
    damaged = whole.read_bytes().replace(b"Chopin", b"Shopin")
    (tmp_path / "damaged.zip").write_bytes(damaged)
    with pytest.raises(UserError, match=r"maestro-v3\.0\.0\.csv in damaged\.zip: is damaged"):
        read_table(tmp_path / "damaged.zip")


@pytest.mark.skipif(not REAL_TABLES.exists(), reason="the tables of MAESTRO are not beside the repository")
def test_both_tables_of_maestro_say_the_same(tmp_path):
    from_csv = read_table(REAL_TABLES)
    assert from_csv.name == "maestro-v3.0.0.csv" and len(from_csv.performances) == 1276 and from_csv.skipped == ()
    (tmp_path / "maestro-v3.0.0.json").write_bytes((REAL_TABLES / "maestro-v3.0.0.json").read_bytes())
    from_json = read_table(tmp_path)
    assert from_json.name == "maestro-v3.0.0.json"
    # The JSON has lost the quotation marks around "La Campanella" and the like.
    for one, other in zip(from_json.performances, from_csv.performances, strict=True):
        assert replace(one, title="") == replace(other, title="")
        assert normalise_title(one.title) == normalise_title(other.title)
    assert sum(found.duration_seconds for found in from_csv.performances) / 3600 == pytest.approx(198.7, abs=0.05)


def test_an_encrypted_table_tells_the_way_out(tmp_path):
    whole = packed(tmp_path / "maestro.zip", {"maestro-v3.0.0.csv": as_csv(RECORDS)}).read_bytes()
    directory = whole.index(b"PK\1\2")
    # The flag stands 8 bytes into an entry of the directory (APPNOTE.TXT 6.3.10, 4.3.12); its bit 0: encrypted.
    (tmp_path / "locked.zip").write_bytes(whole[: directory + 8] + b"\1" + whole[directory + 9 :])
    with pytest.raises(UserError, match=r"maestro-v3\.0\.0\.csv in locked\.zip: is encrypted; unpack the archive"):
        read_table(tmp_path / "locked.zip")


def test_a_table_that_cannot_be_opened_is_told(tmp_path, monkeypatch):
    def denied(files, name):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Folder, "read", denied)
    path = laid_out(tmp_path, {"maestro-v3.0.0.csv": as_csv(RECORDS)}, "folder")
    with pytest.raises(UserError, match=r"maestro-v3\.0\.0\.csv cannot be read \(PermissionError: .*Permission denied"):
        read_table(path)


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_the_table_itself_for_its_folder_is_refused(tmp_path, suffix):
    laid_out(tmp_path, {f"maestro-v3.0.0.{suffix}": as_csv(RECORDS)}, "folder")
    with pytest.raises(UserError, match=rf"data_dir=.*maestro-v3\.0\.0\.{suffix} is a file; pass its folder"):
        read_table(tmp_path / f"maestro-v3.0.0.{suffix}")
