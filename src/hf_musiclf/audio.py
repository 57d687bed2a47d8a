"""Any stretch of an audio file, as `(time,)` float32 mono at a rate in Hz.

A stretch is read by seeking, and equals the same slice of the whole file. What formats can be read stands in
`audio_readers.py`.
"""

import hashlib
import math
from contextlib import closing
from dataclasses import replace

import numpy as np
import soxr

from hf_musiclf.audio_readers import AudioError, AudioInfo, open_reader

# soxr's HQ filter reaches 95 periods of the lower rate before what it misses falls under 1e-6 (measured on white noise
# for 13 pairs of rates from 8 to 192 kHz); 128 leaves some room.
CONTEXT_SAMPLES = 128


def audio_info(source) -> AudioInfo:
    """Length, rate, channels and format from the header alone; nothing is decoded.

    source: a path, the bytes of an audio file, or the struct of `datasets.Audio(decode=False)`,
    {"path": ..., "bytes": ...}, whose bytes win when there are any. Raises AudioError if it is missing, empty, a
    folder, no audio, or cut short (as far as the header tells).
    """
    with closing(open_reader(source)) as reader:
        return reader.info


def read_audio(source, sampling_rate=None, start_seconds=0.0, duration_seconds=None) -> np.ndarray:
    """A stretch of `source` (see `audio_info`): `(time,)` float32, the mean of the channels, full scale at [-1, 1].

    sampling_rate: Hz of the result; None: the file's own. duration_seconds: None reads to the end. Returns
    `round(duration_seconds * sampling_rate)` samples, fewer only where the file ends; they equal the slice from
    `round(start_seconds * sampling_rate)` of the whole file resampled at once. Time and memory follow the stretch.

    Raises ValueError for a rate, start or duration that cannot be; AudioError as `audio_info` does, if the stretch
    begins beyond the end, cannot be decoded, or holds NaN or infinity.
    """
    _check_stretch(sampling_rate, start_seconds, duration_seconds)
    with closing(open_reader(source)) as reader:
        rate_in = reader.info.sampling_rate
        rate = rate_in if sampling_rate is None else int(sampling_rate)
        first = round(start_seconds * rate)
        size = math.ceil(reader.frames * rate / rate_in) - first
        if duration_seconds is not None:
            size = min(size, max(1, round(duration_seconds * rate)))
        if size > 0:
            start, stop, skip = _frames_for(first, first + size, rate_in, rate)
            blocks = (_mono(block) for block in reader.blocks(start, min(stop, reader.frames)))
            waveform = _collect(_resampled(blocks, rate_in, rate), skip, size)
            if len(waveform):
                return waveform
    lasts = f"the file lasts {reader.info.duration_seconds:.3f} s"
    raise AudioError(f"{reader.name}: start_seconds={start_seconds} is at or beyond the end, {lasts}; start earlier")


def audio_fingerprint(source) -> tuple[AudioInfo, str]:
    """Decode all of `source` (see `audio_info`) once, block by block, and name what it holds.

    Returns its info with the duration that was really decoded, and a SHA-256 hex digest over rate, channels and
    samples (float32, little-endian, all channels): the same for a WAV and a FLAC of the same PCM. Lossy formats repeat
    it with the same decoder only. Memory stays flat, except for formats that go through torchcodec, which are decoded
    in one go. Raises AudioError as `audio_info` does, if a part cannot be decoded, if less comes than the header
    promises, and for NaN or infinity.
    """
    with closing(open_reader(source)) as reader:
        info = reader.info
        digest = hashlib.sha256(f"{info.sampling_rate} Hz, {info.channels} channels".encode())
        frames = 0
        for block in reader.blocks(0, reader.frames):
            # Adding 0.0 turns -0.0, which only float files can hold, into the 0.0 of integer files.
            digest.update(np.ascontiguousarray(block + np.float32(0.0), dtype="<f4"))
            frames += len(block)
    return replace(info, duration_seconds=frames / info.sampling_rate), digest.hexdigest()


def _check_stretch(sampling_rate, start_seconds, duration_seconds):
    if sampling_rate is not None and not (sampling_rate >= 1 and sampling_rate == int(sampling_rate)):
        raise ValueError(f"sampling_rate={sampling_rate} must be a whole number of Hz, or None for the file's own")
    if not (math.isfinite(start_seconds) and start_seconds >= 0):
        raise ValueError(f"start_seconds={start_seconds} must be 0 or more")
    if duration_seconds is not None and not (math.isfinite(duration_seconds) and duration_seconds > 0):
        raise ValueError(f"duration_seconds={duration_seconds} must exceed 0, or be None to read to the end")


def _frames_for(first, last, rate_in, rate_out):
    """Input frames `[start, stop)` for output samples `[first, last)`, and how many output samples to skip."""
    if rate_in == rate_out:
        return first, last, 0
    # Output sample k lies at input frame k * step_in / step_out: the grid of a stretch is that of the whole file only
    # if the stretch starts at a multiple of step_in.
    common = math.gcd(rate_in, rate_out)
    step_in, step_out = rate_in // common, rate_out // common
    context = math.ceil(CONTEXT_SAMPLES * max(1.0, rate_in / rate_out))
    steps = max(0, first * step_in // step_out - context) // step_in
    return steps * step_in, math.ceil(last * step_in / step_out) + context, first - steps * step_out


def _mono(block):
    """`(frames, channels)` to `(frames,)`; column by column, 20 times as fast as `mean(axis=1)` over two values."""
    return sum(block.T[1:], start=block.T[0]) / np.float32(block.shape[1])


def _resampled(blocks, rate_in, rate_out):
    """The blocks at `rate_out`: the stream gives, bit for bit, what soxr gives for all the samples at once."""
    if rate_in == rate_out:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def _collect(blocks, skip, size):
    """At most `size` samples of the blocks after the first `skip`: `(time,)`."""
    waveform, filled = np.empty(size, np.float32), 0
    for block in blocks:
        kept = block[skip:][: size - filled]
        skip = max(0, skip - len(block))
        waveform[filled : filled + len(kept)] = kept
        filled += len(kept)
    return waveform[:filled]
