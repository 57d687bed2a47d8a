"""GTZAN from an archive: the same tracks as from the folder; one that is damaged or not GTZAN's is refused."""

import gzip
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import write_archive

from hf_musiclf.data import gtzan_files
from hf_musiclf.data.gtzan import load_gtzan
from hf_musiclf.data.tracks import split_tracks
from hf_musiclf.errors import UserError
from hf_musiclf.splits import SPLITS


def everything_below(folder):
    return {path for path in folder.rglob("*")}


def member(name, kind=tarfile.REGTYPE, target="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


@pytest.mark.parametrize("mode", ["w:gz", "w", "w:bz2", "w:xz"])
def test_an_archive_gives_the_tracks_hashes_and_split_of_the_folder(gtzan_folder, artist_index, tmp_path, mode):
    extra = [
        member("genres", tarfile.DIRTYPE),
        member("genres/blues/._blues.00000.wav", size=9),
        member("a.csv", size=9),
    ]
    archive = write_archive(tmp_path / "genres.archive", gtzan_folder, extra, mode)
    from_folder = load_gtzan(str(gtzan_folder), str(tmp_path / "cache"), artist_index)
    from_archive = load_gtzan(str(archive), str(tmp_path / "cache"), artist_index)
    for column in ("track", "label", "audio_hash", "duration", "sampling_rate", "artist", "title"):
        assert from_archive.column(column) == from_folder.column(column)
    assert from_archive.groups == from_folder.groups
    for scheme in ("artist", "random"):
        first, second = (split_tracks(table, scheme, 3).splits for table in (from_folder, from_archive))
        for split in SPLITS:
            assert len(first[split]) and np.array_equal(first[split], second[split])


@pytest.mark.parametrize(
    "bad,said",
    [
        (member("../escaped.wav", size=9), "'../escaped.wav' points outside"),
        (member("genres/../../escaped.wav", size=9), "points outside"),
        (member("/escaped/blues/blues.00009.wav", size=9), "points outside"),
        (member("genres/blues/blues.00009.wav", tarfile.SYMTYPE, "/etc/hostname"), "is a link or a device"),
        (
            member("genres/blues/blues.00009.wav", tarfile.LNKTYPE, "genres/blues/blues.00000.wav"),
            "is a link or a device",
        ),
        (member("genres/blues/blues.00009.wav", tarfile.FIFOTYPE), "is a link or a device"),
        (member("genres/blues/blues.00009.wav", tarfile.CHRTYPE), "is a link or a device"),
        (member("genres/blues/blues.00009.wav", tarfile.BLKTYPE), "is a link or a device"),
    ],
)
def test_an_archive_that_reaches_outside_itself_is_refused_and_writes_nothing(gtzan_folder, tmp_path, bad, said):
    folder = tmp_path / "one" / "two"
    folder.mkdir(parents=True)
    archive = write_archive(folder / "genres.tar.gz", gtzan_folder, [bad])
    before = everything_below(tmp_path)
    with pytest.raises(UserError, match=rf"genres\.tar\.gz: member .*{said}.*; this is not GTZAN's archive"):
        load_gtzan(str(archive), str(tmp_path / "cache"))
    written = everything_below(tmp_path) - before
    assert all((tmp_path / "cache") in (path, *path.parents) for path in written)
    assert not [path for path in written if path.suffix in gtzan_files.AUDIO_SUFFIXES]
    assert not Path("/escaped").exists()


def test_an_archive_writes_only_into_the_cache(gtzan_folder, tmp_path):
    archive = write_archive(tmp_path / "genres.tar.gz", gtzan_folder)
    before = everything_below(tmp_path)
    load_gtzan(str(archive), str(tmp_path / "cache"))
    assert all((tmp_path / "cache") in (path, *path.parents) for path in everything_below(tmp_path) - before)


def test_a_member_too_large_for_an_excerpt_is_refused_unread(tmp_path):
    header = member("genres/blues/blues.00000.wav", size=gtzan_files.MAX_MEMBER_BYTES + 1).tobuf()
    (tmp_path / "huge.tar").write_bytes(header)
    with pytest.raises(UserError, match="has 130000001 bytes; no GTZAN excerpt has so many"):
        load_gtzan(str(tmp_path / "huge.tar"), str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory, gtzan_folder):
    """The bytes of a sound archive, plain and gzipped."""
    plain = write_archive(tmp_path_factory.mktemp("packed") / "genres.tar", gtzan_folder, mode="w").read_bytes()
    return {"tar": plain, "gz": gzip.compress(plain)}


def flipped(data, position):
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


# A member here: 512 bytes of header and 4,044 of a WAV, filled up to whole blocks.
MEMBER_BYTES = 512 + 8 * 512


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda packed: packed["gz"][: len(packed["gz"]) // 2], id="half of a gz"),
        pytest.param(lambda packed: packed["gz"][:-8], id="gz without its checksum"),
        pytest.param(lambda packed: flipped(packed["gz"], len(packed["gz"]) // 2), id="gz with a wrong byte"),
        pytest.param(lambda packed: packed["tar"][: 20 * MEMBER_BYTES + 1000], id="tar cut in a member"),
        pytest.param(lambda packed: packed["tar"][: 39 * MEMBER_BYTES], id="tar cut between members"),
        pytest.param(lambda packed: packed["tar"][: 39 * MEMBER_BYTES + 100], id="tar cut in a header"),
        pytest.param(lambda packed: flipped(packed["tar"], 39 * MEMBER_BYTES + 150), id="tar with a wrong header"),
        pytest.param(lambda packed: b"", id="empty"),
        pytest.param(lambda packed: b"These are words.\n" * 1000, id="text"),
        pytest.param(lambda packed: b"\x1f\x8b" + bytes(1000), id="gz in name only"),
        pytest.param(lambda packed: gzip.compress(b"These are words.\n" * 1000), id="gz of text"),
        pytest.param(lambda packed: b"PK\x03\x04" + bytes(1000), id="zip"),
    ],
)
def test_a_damaged_archive_is_refused_never_read_in_part(packed, tmp_path, damage):
    path = tmp_path / "genres.tar.gz"
    path.write_bytes(damage(packed))
    with pytest.raises(
        UserError, match=r"genres\.tar\.gz is not a whole tar archive \(.+\); download it again"
    ) as caught:
        load_gtzan(str(path), str(tmp_path / "cache"))
    assert "\n" not in str(caught.value)
    # And what was refused leaves no table behind that a second attempt would take for whole.
    with pytest.raises(UserError, match="is not a whole tar archive"):
        load_gtzan(str(path), str(tmp_path / "cache"))


def test_the_damaged_archives_were_whole_before(packed, tmp_path):
    assert packed["tar"][39 * MEMBER_BYTES :].startswith(b"genres/")
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
        assert len(load_gtzan(str(tmp_path / name), str(tmp_path / "cache"))) == 40
