"""Truths of reading audio: a stretch is a slice of the whole, a sine stays a sine."""

import math
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import FORMATS, music, slice_of_whole, write_audio

from hf_musiclf.audio import audio_fingerprint, audio_info, read_audio
from hf_musiclf.audio_readers import BLOCK_FRAMES, WARM_UP_FRAMES, AudioError, AudioInfo

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
    path = write_audio(tmp_path / "music.wav", music(rate), rate)
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
    path = write_audio(tmp_path / "low.ogg", music(44100, 12.0, 1), 44100, "OGG", "VORBIS", compression_level=1.0)
    whole = soundfile.read(path, dtype="float32")[0]
    for start in np.linspace(10.5, 11.99, 25):
        stretch = read_audio(path, start_seconds=start)
        np.testing.assert_allclose(stretch, whole[round(start * 44100) :], atol=1e-5)


@pytest.mark.parametrize("rate,sampling_rate", RATE_PAIRS)
def test_a_sine_keeps_its_frequency_and_amplitude(tmp_path, rate, sampling_rate):
    times = np.arange(rate * 3) / rate
    path = write_audio(tmp_path / "sine.wav", 0.5 * np.sin(2 * np.pi * 1000 * times), rate)
    stretch = read_audio(path, sampling_rate, 1.0, 1.0)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(sampling_rate) / sampling_rate)
    np.testing.assert_allclose(stretch, expected, atol=1e-3)


def test_what_the_new_rate_cannot_hold_is_removed(tmp_path):
    times = np.arange(44100 * 2) / 44100
    path = write_audio(tmp_path / "high.wav", 0.5 * np.sin(2 * np.pi * 10_000 * times), 44100)
    assert np.abs(read_audio(path, 16000, 0.5, 1.0)).max() < 1e-4


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_channels_are_averaged(tmp_path, channels):
    samples = music(8000, 1.0, channels)
    path = write_audio(tmp_path / "music.wav", samples, 8000, encoding="FLOAT")
    np.testing.assert_allclose(read_audio(path), samples.mean(axis=1), atol=1e-6)


def test_opposite_channels_cancel(tmp_path):
    left = music(8000, 1.0, 1)
    path = write_audio(tmp_path / "music.wav", np.concatenate([left, -left], axis=1), 8000, encoding="FLOAT")
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
    path = write_audio(tmp_path / "music.wav", music(44100, 2.0), 44100)
    assert len(read_audio(path, 16000, 0.0, 1.00004)) == 16001
    assert len(read_audio(path, 16000, 1.75, 1.0)) == 4000
    assert len(read_audio(path, 16000, 1.75)) == 4000
    assert len(read_audio(path, 16000, 1.9999, 10.0)) == 2
    assert len(read_audio(path)) == 88200


@pytest.mark.parametrize("start", [2.0, 2.5, 1e6])
def test_a_start_beyond_the_end_names_both_numbers(tmp_path, start):
    path = write_audio(tmp_path / "music.wav", music(8000, 2.0), 8000)
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
    path = write_audio(tmp_path / "long", np.tile(music(8000, 30.0, 1), (20, 1)), 8000, container, encoding)
    assert len(read_audio(path, 16000, 400.0, 10.0)) == 160_000
    # 128 frames of context at either side.
    assert sum(frames_read) == 80_256 + WARM_UP_FRAMES.get(encoding, 0)


def test_reading_a_long_file_whole_goes_block_by_block(tmp_path, frames_read):
    path = write_audio(tmp_path / "long.wav", np.tile(music(8000, 60.0, 2), (5, 1)), 8000)
    assert len(read_audio(path, 4000)) == 300 * 4000
    assert len(frames_read) == math.ceil(300 * 8000 / BLOCK_FRAMES) == 37
    frames_read.clear()
    audio_fingerprint(path)
    assert sum(frames_read) == 300 * 8000
    assert max(frames_read) <= BLOCK_FRAMES


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_join_without_a_seam(encoded, name, monkeypatch):
    whole = soundfile.read(encoded[name], dtype="float32")[0].mean(axis=1)
    for size in ("BLOCK_FRAMES", "WARM_UP_BLOCK_FRAMES"):
        monkeypatch.setattr(f"hf_musiclf.audio_readers.{size}", 65_536)
    np.testing.assert_allclose(read_audio(encoded[name]), whole, atol=1e-5)


def test_fingerprint_names_the_samples_not_the_container(tmp_path):
    samples = (music(16000, 5.0) * 32767).astype(np.int16)
    wav = write_audio(tmp_path / "a.wav", samples, 16000)
    info, digest = audio_fingerprint(wav)
    assert info == AudioInfo(5.0, 16000, 2, "WAV")
    assert len(digest) == 64
    assert audio_fingerprint(write_audio(tmp_path / "a.flac", samples, 16000, "FLAC"))[1] == digest
    assert audio_fingerprint(write_audio(tmp_path / "a.au", samples, 16000, "AU"))[1] == digest
    assert audio_fingerprint(wav.read_bytes())[1] == digest
    exact = soundfile.read(wav, dtype="float32")[0]
    exact = np.where(exact == 0, np.float32(-0.0), exact)
    assert audio_fingerprint(write_audio(tmp_path / "b.wav", exact, 16000, "WAV", "FLOAT"))[1] == digest


def test_fingerprint_changes_with_samples_rate_and_channels(tmp_path):
    samples = music(16000, 1.0)
    changed = samples.copy()
    changed[8000, 0] += 0.001
    variants = [(samples, 16000), (changed, 16000), (samples, 8000), (samples[:-1], 16000), (samples.ravel(), 16000)]
    digests = {audio_fingerprint(write_audio(tmp_path / f"{i}.wav", *variant))[1] for i, variant in enumerate(variants)}
    assert len(digests) == len(variants)


@pytest.mark.parametrize("name", FORMATS)
def test_fingerprint_duration_is_the_decoded_one(encoded, name):
    assert audio_fingerprint(encoded[name])[0].duration_seconds == 12.0
