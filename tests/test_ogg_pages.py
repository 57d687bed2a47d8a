"""The last page but one of an Ogg file, by its bytes, and what makes its granule no answer."""

import io
import struct

import numpy as np
import pytest
import soundfile
from conftest import music, write_audio

from hf_musiclf import audio_readers
from hf_musiclf.audio import read_audio
from hf_musiclf.ogg_pages import LARGEST_PAGE_BYTES, frames_before_last_page

BEGINS, ENDS = 2, 4


def page(granule, flags=0, serial=7, body=b"x" * 300, version=0):
    lengths = [255] * (len(body) // 255) + [len(body) % 255]
    header = struct.pack("<4sBBqIIIB", b"OggS", version, flags, granule, serial, 0, 0, len(lengths))
    return header + bytes(lengths) + body


def answer(*pages, frames=5000):
    return frames_before_last_page(io.BytesIO(b"".join(pages)), frames)


def test_it_is_the_granule_of_the_page_before_the_last():
    assert answer(page(0, BEGINS), page(2000), page(4000), page(5000, ENDS)) == 4000


def test_a_capture_pattern_within_a_packet_is_no_page():
    assert answer(page(4000), page(5000, ENDS, body=b"OggS" + b"y" * 900 + page(1)[:40])) == 4000


def test_pages_of_the_largest_size_are_found():
    body = b"z" * (255 * 254 + 254)
    assert len(page(0, body=body)) == LARGEST_PAGE_BYTES - 1
    assert answer(page(1, BEGINS), page(4000, body=body), page(5000, ENDS, body=body)) == 4000


@pytest.mark.parametrize(
    "pages",
    [
        [],
        [page(5000, BEGINS | ENDS)],
        [page(4000), page(5000)],
        [page(4000), page(5000, ENDS)[:-1]],
        [page(4000), page(5000, ENDS) + b"tag"],
        [page(4000), page(5001, ENDS)],
        [page(-1), page(5000, ENDS)],
        [page(5001), page(5000, ENDS)],
        [page(4000, serial=8), page(5000, ENDS)],
        [page(4000, ENDS), page(5000, BEGINS | ENDS)],
        [page(4000, version=1), page(5000, ENDS)],
        [page(4000), b"junk", page(5000, ENDS)],
    ],
    ids=[
        "empty",
        "one page",
        "no end of stream",
        "cut short",
        "something behind it",
        "another length",
        "no packet ends on it",
        "behind the end",
        "another stream",
        "chained",
        "another version",
        "junk between",
    ],
)
def test_no_answer_where_the_tail_is_not_that_of_one_sound_stream(pages):
    assert answer(*pages) is None


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rate,channels", [(8000, 1), (22050, 1), (44100, 2), (48000, 2)])
def test_it_is_less_than_a_page_before_the_end_of_what_libsndfile_writes(tmp_path, rate, channels, level):
    path = write_audio(tmp_path / "a.ogg", music(rate, 8.0, channels), rate, "OGG", "VORBIS", compression_level=level)
    with open(path, "rb") as file:
        frames = frames_before_last_page(file, 8 * rate)
    assert 0 < 8 * rate - frames < audio_readers.LAST_VORBIS_PAGE_FRAMES
    with pytest.MonkeyPatch.context() as patch:  # as if decoded from the begin on
        patch.setattr(audio_readers, "frames_before_last_page", lambda file, frames: None)
        whole = read_audio(path)
        safe = [read_audio(path, start_seconds=start) for start in np.linspace(0, 7.99, 40)]
    np.testing.assert_array_equal(whole, soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1))
    for start, expected in zip(np.linspace(0, 7.99, 40), safe, strict=True):
        np.testing.assert_array_equal(read_audio(path, start_seconds=start), expected)


def test_a_stretch_near_the_end_is_not_decoded_from_the_begin(tmp_path, monkeypatch):
    rate, entries = 22050, []
    path = write_audio(tmp_path / "a.ogg", music(rate, 20.0, 1), rate, "OGG", "VORBIS")
    read = soundfile.SoundFile.read

    def counted(self, frames, **kwargs):
        entries.append(frames)
        return read(self, frames, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    read_audio(path, start_seconds=15.0, duration_seconds=1.0)
    assert len(entries) == 1 and entries[0] <= rate + audio_readers.WARM_UP_FRAMES["VORBIS"] + 1
