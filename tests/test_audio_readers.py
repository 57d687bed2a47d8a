"""A broken file says so in one line with the way out; what libsndfile does not know goes through torchcodec."""

import sys
import types

import numpy as np
import pytest
from conftest import FORMATS, music, slice_of_whole, write_audio

from hf_musiclf.audio import audio_fingerprint, audio_info, read_audio
from hf_musiclf.audio_readers import AudioError, AudioInfo

M4A = b"\0\0\0\x20ftypM4A " + bytes(500)


@pytest.fixture
def no_torchcodec(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_in_the_middle_is_refused(encoded, tmp_path, name):
    data = encoded[name].read_bytes()
    path = tmp_path / encoded[name].name
    path.write_bytes(data[: len(data) // 2])
    said = rf"{path.name}: (is cut short|cannot be decoded after).*; fetch it again"
    with pytest.raises(AudioError, match=said):
        audio_fingerprint(path)
    with pytest.raises(AudioError, match=said):
        read_audio(path, 16000, 8.0, 1.0)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_from_a_pipe_with_no_size_in_its_header_is_read(tmp_path, size):
    path = write_audio(tmp_path / "piped.wav", music(8000, 1.0), 8000)
    data = path.read_bytes()
    assert data[36:40] == b"data"
    piped = data[:40] + size.to_bytes(4, "little") + data[44:]
    assert audio_fingerprint(piped) == audio_fingerprint(path)


def test_a_flac_with_no_length_in_its_header_is_refused(tmp_path):
    data = bytearray(write_audio(tmp_path / "a.flac", music(8000, 1.0), 8000, "FLAC").read_bytes())
    data[21] &= 0xF0  # the 36 bits of the sample count in STREAMINFO (RFC 9639, 8.2)
    data[22:26] = bytes(4)
    with pytest.raises(AudioError, match="bytes of audio: does not say how long it is"):
        read_audio(bytes(data), 16000, 0.0, 0.5)


@pytest.mark.parametrize("read", [audio_info, read_audio, audio_fingerprint])
def test_what_is_no_audio_file_is_refused(tmp_path, no_torchcodec, read):
    (tmp_path / "text.wav").write_text("These are words.\n" * 100)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "untold.raw").write_bytes(bytes(1000))
    write_audio(tmp_path / "silent.wav", np.zeros(0), 8000)
    for name, said in [
        ("missing.wav", "no such file"),
        ("empty.wav", "is empty, 0 bytes"),
        ("text.wav", "libsndfile cannot open it"),
        ("untold.raw", "libsndfile cannot open it"),
        ("silent.wav", "holds no samples"),
    ]:
        with pytest.raises(AudioError, match=f"{name}: {said}") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path.parent) not in str(caught.value)
    with pytest.raises(AudioError, match=f"{tmp_path.name}: is a folder"):
        read(tmp_path)
    with pytest.raises(AudioError, match="0 bytes of audio: nothing to decode"):
        read(b"")
    with pytest.raises(AudioError, match="1700 bytes of audio: libsndfile cannot open it"):
        read((tmp_path / "text.wav").read_bytes())
    with pytest.raises(AudioError, match="cannot read audio from None; pass a path"):
        read({"path": None, "bytes": None})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_stretch_with_nan_or_infinity_is_refused(tmp_path, bad):
    samples = music(8000, 4.0)
    samples[16000, 1] = bad
    path = write_audio(tmp_path / "bad.wav", samples, 8000, encoding="FLOAT")
    assert np.isfinite(read_audio(path, 16000, 0.0, 1.0)).all()
    with pytest.raises(AudioError, match=r"bad\.wav: holds samples that are NaN or infinite"):
        read_audio(path, 16000, 1.5, 1.0)
    with pytest.raises(AudioError, match=r"bad\.wav: holds samples that are NaN or infinite"):
        audio_fingerprint(path)


def test_other_formats_without_torchcodec_say_what_to_install(tmp_path, no_torchcodec):
    (tmp_path / "song.m4a").write_bytes(M4A)
    said = r"song\.m4a: .*`pip install torchcodec` and install FFmpeg, or convert it to WAV or FLAC"
    with pytest.raises(AudioError, match=said):
        read_audio(tmp_path / "song.m4a")


def fake_torchcodec(samples, rate, begin_seconds=0.0, opening_error=None):
    """The `torchcodec.decoders` of `samples` `(time, channels)`, with the documented calls of AudioDecoder."""

    class AudioDecoder:
        def __init__(self, source, *, stream_index=None, sample_rate=None, num_channels=None):
            assert isinstance(source, (str, bytes))
            if opening_error:
                raise opening_error
            self.metadata = types.SimpleNamespace(
                duration_seconds_from_header=len(samples) / rate,
                begin_stream_seconds_from_header=begin_seconds,
                sample_rate=rate,
                num_channels=samples.shape[1],
                codec="aac",
            )

        def get_samples_played_in_range(self, start_seconds=0.0, stop_seconds=None):
            first, last = (round((seconds - begin_seconds) * rate) for seconds in (start_seconds, stop_seconds))
            if first >= len(samples):
                raise RuntimeError("No audio frames were decoded.")
            channels_first = samples[max(0, first) : last].T
            data = types.SimpleNamespace(numpy=lambda: channels_first)  # stands for the tensor
            return types.SimpleNamespace(data=data, pts_seconds=start_seconds, sample_rate=rate)

    module = types.ModuleType("torchcodec.decoders")
    module.AudioDecoder = AudioDecoder
    return module


@pytest.mark.parametrize("begin_seconds", [0.0, 0.025])
def test_other_formats_go_through_torchcodec(tmp_path, monkeypatch, begin_seconds):
    samples = music(44100, 6.0)
    monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", fake_torchcodec(samples, 44100, begin_seconds))
    (tmp_path / "song.m4a").write_bytes(M4A)
    wav = write_audio(tmp_path / "song.wav", samples, 44100, encoding="FLOAT")
    assert audio_info(M4A) == AudioInfo(6.0, 44100, 2, "AAC")
    for start, duration in [(0.0, 1.0), (2.345, 1.5), (5.5, 2.0)]:
        expected = slice_of_whole(wav, 16000, start, duration)
        np.testing.assert_allclose(read_audio(tmp_path / "song.m4a", 16000, start, duration), expected, atol=1e-4)
    assert audio_fingerprint(M4A)[1] == audio_fingerprint(wav)[1]


def test_what_torchcodec_cannot_open_is_refused_in_one_line(monkeypatch):
    broken = fake_torchcodec(music(8000, 1.0), 8000, opening_error=RuntimeError("Could not open input.\nDetails."))
    monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", broken)
    said = r"neither libsndfile .* nor torchcodec \(RuntimeError: Could not open input\.\) can open it"
    with pytest.raises(AudioError, match=said):
        audio_info(M4A)
