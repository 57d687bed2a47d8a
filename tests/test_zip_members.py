"""Audio in a zip is the same audio: any stretch, stored or deflated; and a damaged archive says so in one line."""

import hashlib
import io
import multiprocessing
import re
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import FORMATS, music, write_audio

from hf_musiclf.audio import audio_fingerprint, audio_info, read_audio
from hf_musiclf.audio_readers import AudioError, name_and_data, open_reader
from hf_musiclf.errors import UserError
from hf_musiclf.zip_members import is_member_path, member_path, members, open_member, split_member_path
from hf_musiclf.zip_streams import MAX_STATES, READ_BYTES, DeflatedMember, MemberFile, StoredMember

METHODS = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}
STRETCHES = [(0.0, 1.0), (0.37, 2.0), (3.123, 0.5), (5.5, 3.3), (11.7, 5.0), (11.99, 1.0)]


def write_zip(path, files, method=zipfile.ZIP_DEFLATED, compresslevel=None):
    """An archive of `{name in it: file, or its bytes}`."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("2018/", b"")
        for name, file in files.items():
            archive.writestr(name, file if isinstance(file, bytes) else file.read_bytes(), method, compresslevel)
    return path


def data_offset(archive, name):
    info = members(archive)[name]
    header = archive.read_bytes()[info.header_offset :][:30]
    return info.header_offset + 30 + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))


def damaged(archive, name, offset, length=1):
    """A copy of the archive in which the member's bytes from `offset` on (negative: in its header) are turned over."""
    data = bytearray(archive.read_bytes())
    begin = data_offset(archive, name) + offset
    data[begin : begin + length] = bytes(byte ^ 0xFF for byte in data[begin : begin + length])
    path = archive.with_name(f"damaged_{offset}_{archive.name}")
    path.write_bytes(data)
    return member_path(path, name)


@pytest.fixture(scope="session")
def archives(encoded, tmp_path_factory):
    """Every format in one archive: method -> its path."""
    folder = tmp_path_factory.mktemp("zips")
    files = {f"maestro/2018/{file.name}": file for file in encoded.values()}
    return {name: write_zip(folder / f"{name}.zip", files, method) for name, method in METHODS.items()}


@pytest.fixture(params=METHODS)
def zipped(request, encoded, archives):
    """Format -> path of its member, once stored and once deflated."""
    archive = archives[request.param]
    return {name: member_path(archive, f"maestro/2018/{file.name}") for name, file in encoded.items()}


@pytest.fixture
def bytes_had(monkeypatch):
    """A list of how many bytes of members each reading gave: what was read, or inflated."""
    counts = []
    add = MemberFile._add_to_sum

    def counting_add(self, position, data):
        counts.append(len(data))
        add(self, position, data)

    monkeypatch.setattr(MemberFile, "_add_to_sum", counting_add)
    return counts


def test_a_path_holds_member_and_archive():
    path = member_path(Path("folder") / "maestro.zip", "2018/a b.wav")
    assert path == "zip://2018/a b.wav::folder/maestro.zip"
    assert split_member_path(path) == ("2018/a b.wav", "folder/maestro.zip")
    assert is_member_path(path)
    assert not any(is_member_path(other) for other in ("a.wav", "zip://a.wav", "a::b", b"zip://a::b", Path("a"), None))
    with pytest.raises(UserError, match=r"'a::b\.wav' holds '::', which separates"):
        member_path("maestro.zip", "a::b.wav")


@pytest.mark.parametrize("method", METHODS)
def test_fsspec_finds_the_same_bytes_at_the_path(encoded, archives, method):
    import fsspec

    path = member_path(archives[method], "maestro/2018/flac.flac")
    with fsspec.open(path) as file, open_member(path) as member:
        assert file.read() == member.read() == encoded["flac"].read_bytes()


def test_members_are_the_files_in_the_order_of_the_archive(archives, encoded):
    found = members(archives["stored"])
    assert list(found) == [f"maestro/2018/{file.name}" for file in encoded.values()]
    assert members(str(archives["stored"])) is found  # read once


def test_an_archive_that_changes_is_read_anew(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a.wav": b"1"})
    assert list(members(archive)) == ["a.wav"]
    write_zip(archive, {"a.wav": b"1", "b.wav": b"2"})
    assert list(members(archive)) == ["a.wav", "b.wav"]


@pytest.mark.parametrize("name", FORMATS)
def test_any_stretch_equals_that_of_the_unzipped_file(encoded, zipped, name):
    assert audio_info(zipped[name]) == audio_info(encoded[name])
    assert audio_fingerprint(zipped[name]) == audio_fingerprint(encoded[name])
    for start, duration in STRETCHES:
        expected = read_audio(encoded[name], 16000, start, duration)
        np.testing.assert_array_equal(read_audio(zipped[name], 16000, start, duration), expected)
    struct = {"path": zipped[name], "bytes": None}
    np.testing.assert_array_equal(read_audio(struct), read_audio(encoded[name]))
    assert name_and_data(struct) == (f"2018/{encoded[name].name}", zipped[name])


def test_seeks_and_reads_in_any_order_are_those_of_the_plain_file(tmp_path):
    rng = np.random.default_rng(0)
    content = rng.integers(0, 60, 5_000_000, np.uint8).tobytes()
    archive = write_zip(tmp_path / "a.zip", {"a.bin": content})
    plain = io.BytesIO(content)
    with open_member(member_path(archive, "a.bin")) as member:
        for position, size in zip(rng.integers(0, 5_100_000, 60), rng.integers(1, 200_000, 60), strict=True):
            assert member.seek(position) == plain.seek(position)
            piece = member.read(size)  # may give less, as any unbuffered file
            assert piece == plain.read(size)[: len(piece)]
            assert bool(piece) == (position < len(content))
            assert member.tell() == position + len(piece)


@pytest.mark.parametrize("name", ["wav", "au", "flac"])
def test_opening_reads_little_more_than_the_header(zipped, bytes_had, name):
    with open_member(zipped[name]) as member:
        assert member.seek(0, io.SEEK_END) == member.size > 12 * READ_BYTES
        member.seek(0)
    assert sum(bytes_had) == 0
    audio_info(zipped[name])
    assert sum(bytes_had) <= 3 * READ_BYTES


def test_a_stored_stretch_reads_little_more_than_itself(archives, bytes_had):
    read_audio(member_path(archives["stored"], "maestro/2018/wav.wav"), None, 8.0, 1.0)
    assert sum(bytes_had) <= 44100 * 4 + 5 * READ_BYTES


def test_going_back_inflates_little_anew_in_little_memory(tmp_path, bytes_had):
    size = 16 << 20
    content = np.random.default_rng(0).integers(0, 4, size, np.uint8).tobytes()
    archive = write_zip(tmp_path / "a.zip", {"a.bin": content})
    del content
    with open_member(member_path(archive, "a.bin")) as member:
        tracemalloc.start()
        while member.read(READ_BYTES):
            pass
        assert sum(bytes_had) == size
        bytes_had.clear()
        for position in range(size - READ_BYTES, 0, -size // 50):
            member.seek(position)
            member.read(1000)
            assert sum(bytes_had) <= max(1 << 20, size // MAX_STATES) + 2 * READ_BYTES
            bytes_had.clear()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 << 20


def test_a_long_track_is_decoded_in_flat_memory(tmp_path, bytes_had):
    path = write_audio(tmp_path / "long.wav", np.tile(music(44100, 10.0), (30, 1)), 44100)
    zipped = member_path(write_zip(tmp_path / "long.zip", {"long.wav": path}), "long.wav")
    assert audio_fingerprint(zipped) == audio_fingerprint(path)
    assert sum(bytes_had) <= path.stat().st_size + 5 * READ_BYTES


def test_a_closed_reader_leaves_no_file_open(zipped):
    reader = open_reader(zipped["flac"])
    archive = reader.member.raw._file
    assert not archive.closed
    reader.close()
    assert archive.closed


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_member_is_noticed_by_who_decodes_all_of_it(archives, encoded, capfd, method, name):
    member = f"maestro/2018/{encoded[name].name}"
    info = members(archives[method])[member]
    for share in (0.3, 0.7, 0.99):
        path = damaged(archives[method], member, int(info.compress_size * share))
        with pytest.raises(AudioError, match=rf"2018/{encoded[name].name}.*; fetch (it|the archive) again") as caught:
            audio_fingerprint(path)
        assert "\n" not in str(caught.value)
    # The MP3 decoder writes notes of its own there.
    assert not re.search("Traceback|cffi|Error", capfd.readouterr().err)


def test_a_wrong_sum_alone_is_told_as_such(archives, capfd):
    path = damaged(archives["stored"], "maestro/2018/wav.wav", 44 + 1000)
    said = r"2018/wav\.wav in damaged_1044_stored\.zip: is damaged \(its CRC-32 is not .*\); fetch the archive again"
    with pytest.raises(AudioError, match=said):
        audio_fingerprint(path)
    with pytest.raises(AudioError, match=said):
        read_audio(path)
    assert len(read_audio(path, 16000, 5.0, 1.0)) == 16000  # elsewhere it is sound
    assert capfd.readouterr().err == ""


def test_the_sum_covers_what_stands_after_the_samples(tmp_path, encoded):
    data = encoded["wav"].read_bytes() + b"LIST" + (400_000).to_bytes(4, "little") + bytes(400_000)
    data = data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]
    archive = write_zip(tmp_path / "a.zip", {"a.wav": data}, zipfile.ZIP_STORED)
    assert audio_fingerprint(member_path(archive, "a.wav"))[1] == audio_fingerprint(encoded["wav"])[1]
    with pytest.raises(AudioError, match="CRC-32"):
        audio_fingerprint(damaged(archive, "a.wav", len(data) - 200_000))


def test_garbage_in_the_deflated_bytes_stops_the_reading(tmp_path, encoded, capfd):
    # At level 0 a block of at most 65,535 bytes begins with its type, which turned over is one that does not exist.
    archive = write_zip(tmp_path / "a.zip", {"x/a.wav": encoded["wav"]}, compresslevel=0)
    path = damaged(archive, "x/a.wav", 800_000, length=70_000)
    assert np.array_equal(read_audio(path, 16000, 1.0, 1.0), read_audio(encoded["wav"], 16000, 1.0, 1.0))
    said = r"x/a\.wav in .*: is damaged \(.*invalid.*\); fetch the archive again"
    with pytest.raises(AudioError, match=said):
        audio_fingerprint(path)
    with pytest.raises(AudioError, match=said):
        read_audio(path, 16000, 8.0, 1.0)
    with pytest.raises(AudioError, match=said):
        audio_info(damaged(archive, "x/a.wav", 0))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "offset,said", [(-len("maestro/2018/wav.wav") - 30, "header is not where"), (-3, "another name")]
)
def test_a_damaged_header_is_refused(archives, method, offset, said):
    with pytest.raises(AudioError, match=rf"2018/wav\.wav in .*: is damaged \(its .*{said}.*; fetch the archive again"):
        audio_info(damaged(archives[method], "maestro/2018/wav.wav", offset))


def test_an_archive_cut_short_is_told_from_what_is_no_zip(archives, tmp_path):
    (tmp_path / "cut.zip").write_bytes(archives["stored"].read_bytes()[:-100_000])
    with pytest.raises(
        UserError, match=r"^cut\.zip: is cut short, or its directory is damaged; fetch the archive again$"
    ):
        members(tmp_path / "cut.zip")
    (tmp_path / "text.zip").write_text("words " * 100)
    with pytest.raises(AudioError, match=r"^text\.zip: is no zip archive; check the path$"):
        audio_info(member_path(tmp_path / "text.zip", "a.wav"))
    with pytest.raises(
        AudioError, match=r"^none\.zip: cannot be opened \(No such file or directory\); check the path$"
    ):
        audio_info(member_path(tmp_path / "none.zip", "a.wav"))


def test_a_member_that_is_cut_off_is_refused(archives):
    archive = archives["stored"]
    info = members(archive)["maestro/2018/wav.wav"]
    cut = archive.with_name("shrunk.zip")
    cut.write_bytes(archive.read_bytes()[: info.header_offset + 500_000])
    said = r"is damaged \(it ends after 4\d{5} of \d+ bytes\)"
    with StoredMember("wav.wav", str(cut), info) as member, pytest.raises(UserError, match=said):
        member.check_rest()


def test_what_cannot_be_read_in_place_is_refused(encoded, tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"x/y/a.wav": encoded["wav"], "empty.wav": b""}, zipfile.ZIP_BZIP2)
    with pytest.raises(
        AudioError, match=r"y/a\.wav in a\.zip: is compressed by method 12; only 0 .*; unpack the archive"
    ):
        audio_info(member_path(archive, "x/y/a.wav"))
    with pytest.raises(AudioError, match=r"y/b\.wav: no such member in a\.zip; check the path"):
        audio_info(member_path(archive, "x/y/b.wav"))
    with pytest.raises(AudioError, match=r"2018: no such member in a\.zip"):
        audio_info(member_path(archive, "2018/"))
    with pytest.raises(AudioError, match=r"empty\.wav: is empty, 0 bytes"):
        audio_info(member_path(archive, "empty.wav"))
    archive = write_zip(tmp_path / "b.zip", {"a.wav": encoded["wav"]})
    data = bytearray(archive.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # the flag in the directory
    archive.write_bytes(data)
    with pytest.raises(AudioError, match=r"a\.wav in b\.zip: is encrypted; unpack the archive"):
        audio_info(member_path(archive, "a.wav"))


def test_what_libsndfile_cannot_open_goes_to_torchcodec_as_bytes(tmp_path, monkeypatch):
    content = b"\0\0\0\x20ftypM4A " + bytes(200_000)
    asked = []
    monkeypatch.setattr(
        "hf_musiclf.audio_readers._TorchcodecReader", lambda *arguments: asked.append(arguments) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        audio_info(member_path(write_zip(tmp_path / "a.zip", {"x/song.m4a": content}), "x/song.m4a"))
    assert asked == [("x/song.m4a", content)]


def digest_of_stretches(path):
    return hashlib.sha256(b"".join(read_audio(path, 16000, start, 1.0).tobytes() for start in range(10))).hexdigest()


@pytest.mark.parametrize("method", METHODS)
def test_threads_and_forked_workers_do_not_meet(archives, encoded, method):
    names = ["wav", "flac", "vorbis", "mp3"]
    paths = [member_path(archives[method], f"maestro/2018/{encoded[name].name}") for name in names]
    expected = [digest_of_stretches(encoded[name]) for name in names]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(digest_of_stretches, paths * 2)) == expected * 2
    with multiprocessing.get_context("fork").Pool(2) as pool:  # the directory was read before the fork
        assert pool.map(digest_of_stretches, paths * 2, chunksize=1) == expected * 2


def test_the_members_of_these_tests_really_are_deflated(archives):
    info = members(archives["deflated"])["maestro/2018/wav.wav"]
    assert info.compress_size < 0.95 * info.file_size
    with open_member(member_path(archives["deflated"], "maestro/2018/wav.wav")) as member:
        assert isinstance(member, DeflatedMember)
        assert soundfile.info(io.BytesIO(member.read())).frames == 12 * 44100


def test_an_archive_of_more_than_four_gigabytes_is_read(encoded, tmp_path):
    archive = tmp_path / "big.zip"
    with archive.open("wb") as file:
        file.seek(5 << 30)  # a hole, which takes no room on the disk
        with zipfile.ZipFile(file, "w") as big, big.open("a.wav", "w", force_zip64=True) as member:
            member.write(encoded["wav"].read_bytes())
    assert members(archive)["a.wav"].header_offset >= 5 << 30
    assert audio_fingerprint(member_path(archive, "a.wav")) == audio_fingerprint(encoded["wav"])
