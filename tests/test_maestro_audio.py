"""MAESTRO's audio in a folder or an archive: found, told from headers, and named."""

import io

import pytest
import soundfile
from conftest import noise
from tiny_maestro import SHORT, laid_out, reasons, three_composers, write_maestro

from hf_musiclf.audio_readers import AudioError
from hf_musiclf.data.maestro import load_maestro
from hf_musiclf.data.maestro.audio import find_audio, header_and_fingerprint
from hf_musiclf.data.maestro.files import Archive, Folder

forms = pytest.mark.parametrize("form", ["folder", "ZIP_STORED", "ZIP_DEFLATED"])


def encoded(seconds=0.5, suffix="wav", key=0):
    content = io.BytesIO()
    soundfile.write(content, noise(seconds, 8000, key), 8000, format=suffix)
    return content.getvalue()


@forms
def test_the_named_file_is_found_or_the_same_in_another_format(tmp_path, form):
    contents = {"2004/a.wav": encoded(), "2004/a.flac": b"", "2004/b.ogg": b"", "2004/c.opus": b"", "2004/d.txt": b""}
    path = laid_out(tmp_path / "maestro", contents, form)
    files = Folder(path) if form == "folder" else Archive(path)
    found = [find_audio(files, f"2004/{stem}.wav") for stem in "abcd"]
    assert found == ["2004/a.wav", "2004/b.ogg", "2004/c.opus", None]


@forms
def test_a_header_is_read_without_decoding_and_a_copy_has_the_same_fingerprint(tmp_path, form):
    damaged = encoded()[:200]
    contents = {"a.wav": encoded(), "copy.wav": encoded(), "other.wav": encoded(key=1), "cut.wav": damaged}
    path = laid_out(tmp_path / "maestro", contents, form)
    files = Folder(path) if form == "folder" else Archive(path)
    (info, first), (_, copy), (_, other) = (header_and_fingerprint(files, name) for name in list(contents)[:3])
    assert (info.duration_seconds, info.sampling_rate) == (0.5, 8000)
    assert first == copy != other and first.startswith("file:" if form == "folder" else "file:crc-")
    with pytest.raises(AudioError, match=r"cut\.wav.* is cut short"):
        header_and_fingerprint(files, "cut.wav")


@pytest.mark.parametrize("size", [0, 100, 1 << 16, (1 << 16) + 1, 1 << 18])
def test_the_fingerprint_of_a_file_sees_its_size_and_both_ends(tmp_path, size):
    contents = [bytes(size), bytes(size + 1)]
    contents += [b"\1" + bytes(size - 1), bytes(size - 1) + b"\1"] if size else []
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    prints = [Folder(tmp_path).fingerprint(str(number)) for number in range(len(contents))]
    assert len(set(prints)) == len(contents)


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_compressed_file_that_is_cut_short_is_skipped(tmp_path, suffix, part):
    rows = [{**entry, "duration": "20"} for entry in three_composers()]
    folder = tmp_path / "maestro"
    write_maestro(folder, rows, seconds=20.0)
    name = rows[0]["audio_filename"]
    (folder / name).unlink()
    whole = encoded(20.0, suffix)
    (folder / name).with_suffix(f".{suffix}").write_bytes(whole)
    track = name.removesuffix(".wav")
    assert track in load_maestro(str(folder), **SHORT).column("track")
    (folder / name).with_suffix(f".{suffix}").write_bytes(whole[: int(part * len(whole))])
    table = load_maestro(str(folder), **SHORT)
    assert len(table) == 39 and "cut short" in reasons(table)[track] and track not in reasons(table)[track]


@pytest.mark.parametrize("form", ["folder", "ZIP_STORED"])
def test_the_end_of_a_flac_is_decoded_to_see_that_it_is_there(tmp_path, form):
    whole = encoded(5.0, "flac")
    path = laid_out(tmp_path / "maestro", {"2004/whole.flac": whole, "2004/cut.flac": whole[: len(whole) // 2]}, form)
    files = Folder(path) if form == "folder" else Archive(path)
    assert header_and_fingerprint(files, "2004/whole.flac")[0].duration_seconds == 5.0
    told = r"2004/cut\.flac: is cut short or damaged, the end of its 5\.00 s cannot be decoded"
    with pytest.raises(AudioError, match=told):
        header_and_fingerprint(files, "2004/cut.flac")
