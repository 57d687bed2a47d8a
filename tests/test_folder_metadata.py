import json

import pytest

from hf_musiclf.data.folder_files import LabelledFile, audio_files
from hf_musiclf.data.folder_metadata import label_by_metadata, metadata_files
from hf_musiclf.errors import UserError


@pytest.fixture
def read(tmp_path):
    """A function that writes texts into the files of a folder, and empty ones, and reads the metadata there."""

    def write_and_read(files, audio=(), **columns):
        for file, text in files.items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            content = text if isinstance(text, bytes) else text.encode()
            (tmp_path / file).write_bytes(content)
        for file in audio:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        return label_by_metadata(tmp_path, metadata_files(tmp_path), audio_files(tmp_path), **columns)

    return write_and_read


ROWS = [
    {"file_name": "b/1.wav", "label": "jazz", "group": "x", "artist": "Ann", "title": "One", "tempo": "120"},
    {"file_name": "2.wav", "label": "rock", "group": "", "artist": "", "title": "", "tempo": ""},
]


def as_csv(rows, delimiter=","):
    return "\r\n".join(delimiter.join(values) for values in [rows[0], *(row.values() for row in rows)]) + "\r\n"


def as_json_lines(rows):
    return "\n".join(json.dumps({name: value or None for name, value in row.items()}) for row in rows)


@pytest.mark.parametrize(
    "name,text",
    [
        ("metadata.csv", as_csv(ROWS)),
        ("metadata.csv", as_csv(ROWS, ";")),
        ("metadata.csv", as_csv(ROWS, "\t")),
        ("metadata.csv", "\ufeff" + as_csv(ROWS).replace("One", '"One"') + "\r\n,,,,,\r\n"),
        ("metadata.jsonl", as_json_lines(ROWS)),
    ],
    ids=["commas", "semicolons", "tabs", "as a spreadsheet saves it", "json lines"],
)
def test_every_way_to_write_it_gives_the_same(read, tmp_path, name, text):
    files, group_column = read({name: text}, ["b/1.wav", "2.wav"])
    assert group_column == "group"
    assert [(str(item.file), item.track, item.label) for item in files] == [
        ("b/1.wav", "b/1", "jazz"),
        ("2.wav", "2", "rock"),
    ]
    assert files[0] == LabelledFile(files[0].file, "jazz", None, "x", "Ann", "One")
    assert files[1] == LabelledFile(files[1].file, "rock")


def test_values_keep_commas_line_breaks_and_accents(read):
    text = 'file_name,label,title\n1.wav,Fre\u0301de\u0301ric,"Nocturnes, Op. 9\nNo. 2"\n2.wav, Liszt ,"a ""b"""\n'
    files, _ = read({"metadata.csv": text})
    assert [(item.label, item.title) for item in files] == [
        ("Frédéric", "Nocturnes, Op. 9\nNo. 2"),
        ("Liszt", 'a "b"'),
    ]


@pytest.mark.parametrize(
    "header,columns,found",
    [
        ("file_name,genre", {}, None),
        ("file_name,labels,artist", {}, "artist"),
        ("file_name,label,artist,group", {}, "group"),
        ("file_name,style,band", {"label_column": "style", "group_column": "band"}, "band"),
        ("file_name,style,label,group", {"label_column": "style", "group_column": "label"}, "label"),
    ],
)
def test_label_and_group_columns_are_found_or_named(read, header, columns, found):
    width = len(header.split(",")) - 2
    text = f"{header}\n1.wav,jazz{',z' * width}\n2.wav,rock{',z' * width}\n"
    files, group_column = read({"metadata.csv": text}, **columns)
    assert [item.label for item in files] == ["jazz", "rock"] and group_column == found
    assert [item.group for item in files] == (["z", "z"] if found else [None, None])


@pytest.mark.parametrize("validation", ["validation", "valid", "val", "DEV"])
def test_a_split_column_gives_splits(read, validation):
    text = f"file_name,label,split\n1.wav,jazz,train\n2.wav,rock,{validation}\n3.wav,rock,Test\n"
    assert [item.split for item in read({"metadata.csv": text})[0]] == ["train", "validation", "test"]


def test_each_split_may_have_its_metadata(read):
    text = "file_name,label,split\n1.wav,{},test\na/2.wav,jazz,\n"
    files, _ = read({f"{name}/metadata.csv": text.format(label) for name, label in (("train", "rock"), ("val", "pop"))})
    assert [(str(item.file), item.label, item.split) for item in files] == [
        ("train/1.wav", "rock", "train"),
        ("train/a/2.wav", "jazz", "train"),
        ("val/1.wav", "pop", "validation"),
        ("val/a/2.wav", "jazz", "validation"),
    ]


def test_a_name_written_otherwise_finds_its_file(read):
    audio = ["Fre\u0301de\u0301ric/1 a.wav", "b/2.wav", "c/3.wav"]
    text = "file_name,label\nFrédéric/1 a.wav,x\nb\\2.wav,y\n./b/../c/3.wav,y\n4.wav,y\n"
    files, _ = read({"metadata.csv": text}, audio)
    assert [str(item.file) for item in files] == [*audio, "4.wav"]


GOOD = "1.wav,jazz\n2.wav,rock\n"


@pytest.mark.parametrize(
    "text,said",
    [
        (f"name,label\n{GOOD}", r"csv has no column 'file_name'; it has \['name', 'label'\]$"),
        (
            f"file_name,mood\n{GOOD}",
            r"none of the columns \('label', 'genre', 'labels'\), .*'mood'\]: pass --label_col",
        ),
        (f"file_name,label\n{GOOD}3.wav,  \n", "csv, line 4: label is empty; fill it in"),
        (f"file_name,label\n{GOOD},rock\n", "csv, line 4: file_name is empty"),
        (f"file_name,label\n{GOOD}../3.wav,rock\n", r"line 4: file_name='\.\./3\.wav' lies outside"),
        (f"file_name,label\n{GOOD}a/../../3.wav,rock\n", "line 4: file_name='a/.*' lies outside"),
        (f"file_name,label\n{GOOD}..\\3.wav,rock\n", "line 4: file_name=.* lies outside"),
        (f"file_name,label\n{GOOD}/tmp/3.wav,rock\n", "line 4: file_name='/tmp/3.wav' lies outside"),
        (f"file_name,label\n{GOOD}./1.wav,rock\n", "metadata name 1.wav twice; remove one of the rows"),
        (f"file_name,label\n{GOOD}1.mp3,rock\n", "holds 1 twice, in two formats; keep one"),
        ("file_name,label\n1.wav,jazz\n2.wav,jazz\n", r"hold 1 label \(jazz\) in 2 rows; a classifier needs two"),
        ("file_name,label\n", "has no rows; give each audio file one"),
        ("", "has no rows"),
        (f"file_name,label\n{GOOD}3.wav,rock,pop\n", "line 4: 3 values for 2 columns; put .* into double quotes"),
        ("file_name,label,label\n1.wav,jazz,rock\n", "has two columns 'label'; remove one"),
        (
            "file_name,label,split\n1.wav,a,train\n2.wav,b,tets\n",
            "line 3: split='tets' is not known; did you mean test?",
        ),
        ("file_name,label,split\n1.wav,a,train\n2.wav,b,fold1\n", "split='fold1' is not known; choose from train, val"),
        ("file_name,label,split\n1.wav,a,train\n2.wav,b,\n", "split is empty in 1 of 2 rows, first in line 3; fill"),
        ("file_name,label\n1.wav,Frédéric\n".encode("latin-1"), r"csv is not UTF-8 \(at byte 24\); save it as UTF-8"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(read, text, said):
    with pytest.raises(UserError, match=said) as caught:
        read({"metadata.csv": text})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text,said",
    [
        ('{"file_name": "1.wav", "label": "a"}\n{"file_name"', "jsonl, line 2: not JSON .*; write one object a line"),
        ('[{"file_name": "1.wav", "label": "a"}]', "jsonl, line 1: holds a list; write one object a line"),
        ('{"file_name": "1.wav", "labels": ["a", "b"]}', r"line 1: labels holds \['a', 'b'\]; a label is one text"),
        ('{"file_name": "1.wav", "label": "a"}\n{"label": "b"}', "line 2: file_name is empty"),
    ],
)
def test_json_lines_that_cannot_be_read_are_named(read, text, said):
    with pytest.raises(UserError, match=said):
        read({"metadata.jsonl": text})


@pytest.mark.parametrize("columns,flag", [({"label_column": "mood"}, "label"), ({"group_column": "mood"}, "group")])
def test_a_named_column_that_is_missing_is_told_with_its_flag(read, columns, flag):
    with pytest.raises(UserError, match=f"has no column 'mood'; it has .*: pass --{flag}_column"):
        read({"metadata.csv": f"file_name,label\n{GOOD}"}, **columns)


@pytest.mark.parametrize(
    "names",
    [
        ["metadata.csv", "metadata.jsonl"],
        ["metadata.csv", "train/metadata.csv"],
        ["test/metadata.csv", "test/metadata.jsonl"],
    ],
)
def test_metadata_that_may_contradict_each_other_are_refused(read, names):
    with pytest.raises(UserError, match="which may contradict each other; keep one, or one in each split"):
        read(dict.fromkeys(names, f"file_name,label\n{GOOD}"))


def test_splits_with_differing_group_columns_are_refused(read):
    texts = {"train/metadata.csv": f"file_name,label\n{GOOD}", "test/metadata.csv": "file_name,label,artist\n1.wav,a,b"}
    with pytest.raises(UserError, match=r"differ \(test/metadata.csv artist, train/metadata.csv None\); give every"):
        read(texts)
