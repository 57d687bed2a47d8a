"""Truths of reading audio: a stretch is a slice of the whole, a sine stays a sine, and a broken file says so."""

import math
import subprocess
import sys
import types

import numpy as np
import pytest
import soundfile
import soxr

from hf_musiclf.audio import (
    BLOCK_FRAMES,
    WARM_UP_FRAMES,
    AudioError,
    AudioInfo,
    audio_fingerprint,
    audio_info,
    read_audio,
)

# name -> container, encoding, a rate that the encoding knows
FORMATS = {
    "wav": ("WAV", "PCM_16", 44100),
    "au": ("AU", "PCM_16", 22050),
    "flac": ("FLAC", "PCM_16", 44100),
    "vorbis": ("OGG", "VORBIS", 44100),
    "opus": ("OGG", "OPUS", 48000),
    "mp3": ("MP3", "MPEG_LAYER_III", 44100),
    "mp3_low_rate": ("MP3", "MPEG_LAYER_III", 22050),
}
RATE_PAIRS = [
    (22050, 16000),
    (44100, 16000),
    (48000, 16000),
    (44100, 22050),
    (16000, 48000),
    (16000, 16000),
    (11127, 16000),
]
STRETCHES = [(0.0, 1.0), (0.37, 2.0), (3.123, 0.5), (5.5, 3.3), (10.9, 1.0), (11.7, 5.0), (11.99, 1.0)]


def music(rate, seconds=12.0, channels=2):
    """`(time, channels)` float32: rising tones, noise, bursts and a silence, so that no two moments are alike."""
    rng = np.random.default_rng(rate)
    times = np.arange(round(rate * seconds)) / rate
    noise = rng.standard_normal((len(times), channels))
    burst = np.exp(-(times % 0.31) * 40)[:, None]
    tones = np.sin(2 * np.pi * np.outer(100 * times + 30 * times**2, np.arange(1, channels + 1)))
    loud = (np.abs(times / seconds - 0.6) > 0.05)[:, None]
    return np.clip(0.3 * tones * loud + (0.02 + 0.2 * burst) * noise * loud, -0.99, 0.99).astype(np.float32)


def write(path, samples, rate, container="WAV", encoding="PCM_16", **options):
    # In pieces: libsndfile's Vorbis encoder overflows its stack on long arrays.
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(path, "w", rate, channels, format=container, subtype=encoding, **options) as file:
        for start in range(0, len(samples), 16384):
            file.write(samples[start : start + 16384])
    return path


def slice_of_whole(path, sampling_rate, start_seconds, duration_seconds):
    """The truth: decode everything with soundfile, average, resample at once with soxr, cut."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    whole = soxr.resample(samples.mean(axis=1), rate, sampling_rate, quality="HQ")
    first = round(start_seconds * sampling_rate)
    return whole[first : first + round(duration_seconds * sampling_rate)]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """The same music in every format: name -> path."""
    folder = tmp_path_factory.mktemp("encoded")
    return {
        name: write(folder / f"{name}.{container.lower()}", music(rate), rate, container, encoding)
        for name, (container, encoding, rate) in FORMATS.items()
    }


@pytest.fixture
def frames_read(monkeypatch):
    """A list that gathers how many frames each call of SoundFile.read decodes."""
    counts = []
    read = soundfile.SoundFile.read

    def counting_read(self, *args, **kwargs):
        block = read(self, *args, **kwargs)
        counts.append(len(block))
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counting_read)
    return counts


@pytest.fixture
def no_torchcodec(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)


def test_importing_audio_imports_no_heavy_library():
    heavy = ["torch", "transformers", "datasets", "torchcodec"]
    code = f"import sys, hf_musiclf.audio; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("sampling_rate", [None, 16000])
def test_a_stretch_is_a_slice_of_the_whole_in_every_format(encoded, name, sampling_rate):
    rate = sampling_rate or FORMATS[name][2]
    for start, duration in STRETCHES:
        expected = slice_of_whole(encoded[name], rate, start, duration)
        stretch = read_audio(encoded[name], sampling_rate, start, duration)
        assert stretch.dtype == np.float32
        assert stretch.shape == expected.shape
        np.testing.assert_allclose(stretch, expected, atol=1e-4)


@pytest.mark.parametrize("rate,sampling_rate", RATE_PAIRS)
def test_a_stretch_is_a_slice_of_the_whole_at_every_pair_of_rates(tmp_path, rate, sampling_rate):
    path = write(tmp_path / "music.wav", music(rate), rate)
    for start, duration in STRETCHES:
        expected = slice_of_whole(path, sampling_rate, start, duration)
        np.testing.assert_allclose(read_audio(path, sampling_rate, start, duration), expected, atol=1e-4)


def test_stretches_laid_end_to_end_are_the_whole(encoded):
    whole = read_audio(encoded["flac"], 16000)
    stretches = [read_audio(encoded["flac"], 16000, start, 1.5) for start in np.arange(0, 12, 1.5)]
    np.testing.assert_allclose(np.concatenate(stretches), whole, atol=1e-4)


@pytest.mark.parametrize(
    "name,begin,end",
    # MP3 of a low rate: within the silence, at whose end frames borrow the most from those before.
    [("mp3", 0.5, 11.9), ("mp3_low_rate", 6.6, 7.8), ("vorbis", 0.5, 11.9), ("opus", 0.5, 11.9), ("flac", 0.5, 11.9)],
)
def test_seeking_is_exact_where_decoders_find_it_hard(encoded, name, begin, end):
    rate = FORMATS[name][2]
    whole = soundfile.read(encoded[name], dtype="float32")[0].mean(axis=1)
    for start in np.linspace(begin, end, 25):
        stretch = read_audio(encoded[name], start_seconds=start, duration_seconds=1.5)
        np.testing.assert_allclose(stretch, whole[round(start * rate) :][: len(stretch)], atol=1e-5)


def test_the_last_page_of_a_vorbis_file_is_exact(tmp_path):
    # At a low bit rate a page, and so libsndfile's error, is longer than a second.
    path = write(tmp_path / "low.ogg", music(44100, 12.0, 1), 44100, "OGG", "VORBIS", compression_level=1.0)
    whole = soundfile.read(path, dtype="float32")[0]
    for start in np.linspace(10.5, 11.99, 25):
        stretch = read_audio(path, start_seconds=start)
        np.testing.assert_allclose(stretch, whole[round(start * 44100) :], atol=1e-5)


@pytest.mark.parametrize("rate,sampling_rate", RATE_PAIRS)
def test_a_sine_keeps_its_frequency_and_amplitude(tmp_path, rate, sampling_rate):
    times = np.arange(rate * 3) / rate
    path = write(tmp_path / "sine.wav", 0.5 * np.sin(2 * np.pi * 1000 * times), rate)
    stretch = read_audio(path, sampling_rate, 1.0, 1.0)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(sampling_rate) / sampling_rate)
    np.testing.assert_allclose(stretch, expected, atol=1e-3)


def test_what_the_new_rate_cannot_hold_is_removed(tmp_path):
    times = np.arange(44100 * 2) / 44100
    path = write(tmp_path / "high.wav", 0.5 * np.sin(2 * np.pi * 10_000 * times), 44100)
    assert np.abs(read_audio(path, 16000, 0.5, 1.0)).max() < 1e-4


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_channels_are_averaged(tmp_path, channels):
    samples = music(8000, 1.0, channels)
    path = write(tmp_path / "music.wav", samples, 8000, encoding="FLOAT")
    np.testing.assert_allclose(read_audio(path), samples.mean(axis=1), atol=1e-6)


def test_opposite_channels_cancel(tmp_path):
    left = music(8000, 1.0, 1)
    path = write(tmp_path / "music.wav", np.concatenate([left, -left], axis=1), 8000, encoding="FLOAT")
    assert not read_audio(path).any()


@pytest.mark.parametrize("name", FORMATS)
def test_path_bytes_and_struct_are_the_same_audio(encoded, name):
    path = encoded[name]
    data = path.read_bytes()
    expected = read_audio(path, 16000, 3.3, 1.0)
    structs = [{"path": str(path), "bytes": None}, {"path": "elsewhere.wav", "bytes": data}, {"bytes": data}]
    for source in [str(path), data, bytearray(data), *structs]:
        np.testing.assert_array_equal(read_audio(source, 16000, 3.3, 1.0), expected)
        assert audio_info(source) == audio_info(path)


@pytest.mark.parametrize("name", FORMATS)
def test_info_tells_what_was_written(encoded, name):
    container, _, rate = FORMATS[name]
    assert audio_info(encoded[name]) == AudioInfo(12.0, rate, 2, container)


def test_length_is_rounded_and_ends_with_the_file(tmp_path):
    path = write(tmp_path / "music.wav", music(44100, 2.0), 44100)
    assert len(read_audio(path, 16000, 0.0, 1.00004)) == 16001
    assert len(read_audio(path, 16000, 1.75, 1.0)) == 4000
    assert len(read_audio(path, 16000, 1.75)) == 4000
    assert len(read_audio(path, 16000, 1.9999, 10.0)) == 2
    assert len(read_audio(path)) == 88200


@pytest.mark.parametrize("start", [2.0, 2.5, 1e6])
def test_a_start_beyond_the_end_names_both_numbers(tmp_path, start):
    path = write(tmp_path / "music.wav", music(8000, 2.0), 8000)
    with pytest.raises(AudioError, match=rf"music\.wav: start_seconds={start} is at or beyond the end.*2\.000 s"):
        read_audio(path, 16000, start, 1.0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"sampling_rate": 0},
        {"sampling_rate": 16000.5},
        {"start_seconds": -1.0},
        {"start_seconds": math.nan},
        {"duration_seconds": 0.0},
        {"duration_seconds": math.inf},
    ],
)
def test_impossible_stretches_are_refused_by_name(encoded, arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name}={value} must"):
        read_audio(encoded["wav"], **arguments)


@pytest.mark.parametrize("container,encoding", [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III")])
def test_reading_ten_seconds_of_a_long_file_decodes_little_more(tmp_path, frames_read, container, encoding):
    path = write(tmp_path / "long", np.tile(music(8000, 30.0, 1), (20, 1)), 8000, container, encoding)
    assert len(read_audio(path, 16000, 400.0, 10.0)) == 160_000
    # 128 frames of context at either side.
    assert sum(frames_read) == 80_256 + WARM_UP_FRAMES.get(encoding, 0)


def test_reading_a_long_file_whole_goes_block_by_block(tmp_path, frames_read):
    path = write(tmp_path / "long.wav", np.tile(music(8000, 60.0, 2), (5, 1)), 8000)
    assert len(read_audio(path, 4000)) == 300 * 4000
    assert len(frames_read) == math.ceil(300 * 8000 / BLOCK_FRAMES) == 3
    frames_read.clear()
    audio_fingerprint(path)
    assert sum(frames_read) == 300 * 8000
    assert max(frames_read) <= BLOCK_FRAMES


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_join_without_a_seam(encoded, name, monkeypatch):
    whole = soundfile.read(encoded[name], dtype="float32")[0].mean(axis=1)
    monkeypatch.setattr("hf_musiclf.audio.BLOCK_FRAMES", 65_536)
    np.testing.assert_allclose(read_audio(encoded[name]), whole, atol=1e-5)


def test_fingerprint_names_the_samples_not_the_container(tmp_path):
    samples = (music(16000, 5.0) * 32767).astype(np.int16)
    wav = write(tmp_path / "a.wav", samples, 16000)
    info, digest = audio_fingerprint(wav)
    assert info == AudioInfo(5.0, 16000, 2, "WAV")
    assert len(digest) == 64
    assert audio_fingerprint(write(tmp_path / "a.flac", samples, 16000, "FLAC"))[1] == digest
    assert audio_fingerprint(write(tmp_path / "a.au", samples, 16000, "AU"))[1] == digest
    assert audio_fingerprint(wav.read_bytes())[1] == digest
    exact = soundfile.read(wav, dtype="float32")[0]
    exact = np.where(exact == 0, np.float32(-0.0), exact)
    assert audio_fingerprint(write(tmp_path / "b.wav", exact, 16000, "WAV", "FLOAT"))[1] == digest


def test_fingerprint_changes_with_samples_rate_and_channels(tmp_path):
    samples = music(16000, 1.0)
    changed = samples.copy()
    changed[8000, 0] += 0.001
    variants = [(samples, 16000), (changed, 16000), (samples, 8000), (samples[:-1], 16000), (samples.ravel(), 16000)]
    digests = {audio_fingerprint(write(tmp_path / f"{i}.wav", *variant))[1] for i, variant in enumerate(variants)}
    assert len(digests) == len(variants)


@pytest.mark.parametrize("name", FORMATS)
def test_fingerprint_duration_is_the_decoded_one(encoded, name):
    assert audio_fingerprint(encoded[name])[0].duration_seconds == 12.0


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
    path = write(tmp_path / "piped.wav", music(8000, 1.0), 8000)
    data = path.read_bytes()
    assert data[36:40] == b"data"
    piped = data[:40] + size.to_bytes(4, "little") + data[44:]
    assert audio_fingerprint(piped) == audio_fingerprint(path)


def test_a_flac_with_no_length_in_its_header_is_refused(tmp_path):
    data = bytearray(write(tmp_path / "a.flac", music(8000, 1.0), 8000, "FLAC").read_bytes())
    data[21] &= 0xF0  # the 36 bits of the sample count in STREAMINFO (RFC 9639, 8.2)
    data[22:26] = bytes(4)
    with pytest.raises(AudioError, match="bytes of audio: does not say how long it is"):
        read_audio(bytes(data), 16000, 0.0, 0.5)


@pytest.mark.parametrize("read", [audio_info, read_audio, audio_fingerprint])
def test_what_is_no_audio_file_is_refused(tmp_path, no_torchcodec, read):
    (tmp_path / "text.wav").write_text("These are words.\n" * 100)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "untold.raw").write_bytes(bytes(1000))
    write(tmp_path / "silent.wav", np.zeros(0), 8000)
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
    path = write(tmp_path / "bad.wav", samples, 8000, encoding="FLOAT")
    assert np.isfinite(read_audio(path, 16000, 0.0, 1.0)).all()
    with pytest.raises(AudioError, match=r"bad\.wav: holds samples that are NaN or infinite"):
        read_audio(path, 16000, 1.5, 1.0)
    with pytest.raises(AudioError, match=r"bad\.wav: holds samples that are NaN or infinite"):
        audio_fingerprint(path)


M4A = b"\0\0\0\x20ftypM4A " + bytes(500)


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
    wav = write(tmp_path / "song.wav", samples, 44100, encoding="FLOAT")
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
