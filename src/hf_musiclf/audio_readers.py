"""What opens and decodes an audio file: blocks of `(frames, channels)` float32 from any frame on.

WAV, AU, FLAC, Ogg Vorbis, Opus and MP3 are read by libsndfile, which needs nothing from the system; other formats
(m4a, AAC, WMA) go through torchcodec and FFmpeg where these are installed. A path may lead into a zip archive, see
`zip_members.py`.
"""

import io
import os
import re
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from hf_musiclf.errors import UserError
from hf_musiclf.ogg_pages import frames_before_last_page
from hf_musiclf.zip_members import MemberStream, is_member_path, member_info, open_member, short_name

# Frames decoded at once, so that the memory for a long file stays flat: half a megabyte in stereo, since larger blocks
# may be fresh memory of the system's each time (1.7 against 4.8 ms for ten seconds at 48 kHz).
BLOCK_FRAMES = 1 << 16
# Where the warm-up below is to be decoded after a seek: few and large, as soundfile seeks after every read.
WARM_UP_BLOCK_FRAMES = 1 << 20

# Frames to decode and throw away after a seek, until the decoder's state is that of one that came from the start.
# MP3: a frame may borrow from the 255 bytes before it (511 in MPEG-1). A stereo frame of 576 samples at 24 kHz and
# 8 kbit/s, which is silence, adds 24 bytes less 21 of header: 85 frames, and some for the overlap; MPEG-1 needs less.
# Vorbis: its largest block, since libsndfile may get the first one wrong (github.com/libsndfile/libsndfile/issues/885).
# Opus: half a second; measured exact at usual bit rates, and within 0.01 at 6 kbit/s, where its state decays slowly.
WARM_UP_FRAMES = {"MPEG_LAYER_III": 90 * 576, "MPEG_LAYER_II": 90 * 576, "VORBIS": 8192, "OPUS": 24_000}

# libsndfile's seek into the last page of a Vorbis file is off by what this page drops at the end: enter before it.
# Where `ogg_pages.py` cannot say where it begins: it holds at most 255 packets (RFC 3533) of at most 4096 new samples
# (Vorbis I specification, 4.2.2).
LAST_VORBIS_PAGE_FRAMES = 255 * 4096

# Some Xing headers count their own frame, some do not: only more than two missing MP3 frames are a truncation.
MP3_SLACK_FRAMES = 2 * 1152

# Programs that write to a pipe do not know the size and put 0x7ffff000 (sox) or 0xffffffff (FFmpeg) into the header.
UNKNOWN_SIZE_BYTES = 0x7FFFF000


class AudioError(UserError):
    """One line: which file, or how many bytes of audio; what is wrong with it; the way out."""


@dataclass(frozen=True)
class AudioInfo:
    """Length in seconds, rate in Hz, number of channels, and container ("WAV", "FLAC", "OGG", "MP3", ...)."""

    duration_seconds: float
    sampling_rate: int
    channels: int
    format: str


def open_reader(source):
    """A reader of `source` (see `audio.audio_info`), whose header is sound; to be closed. Raises AudioError."""
    name, data = name_and_data(source)
    try:
        reader = _SoundfileReader(name, data)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: of a file.raw, soundfile wants to be told more
        if is_member_path(data):
            with _told_as_audio_error(), closing(open_member(data)) as member:
                data = member.read()
        reader = _open_with_torchcodec(name, data, getattr(error, "error_string", str(error)).strip(" ."))
    fault = reader.fault()
    if fault:
        reader.close()
        raise AudioError(f"{name}: {fault}")
    return reader


def _open_with_torchcodec(name, data, reason):
    way_out = "`pip install torchcodec` and install FFmpeg, or convert it to WAV or FLAC"
    try:
        return _TorchcodecReader(name, data)
    except ImportError as error:
        message = f"{name}: libsndfile cannot open it ({reason}); if it is m4a, AAC or the like, {way_out}"
        raise AudioError(message) from error
    except (RuntimeError, ValueError, OSError) as error:  # what torchcodec raises without FFmpeg, and on no audio
        message = f"{name}: neither libsndfile ({reason}) nor torchcodec ({_first_line(error)}) can open it; {way_out}"
        raise AudioError(message) from error


def name_and_data(source):
    """What to call the source in an error; its bytes, or its path as a string. Raises AudioError."""
    if isinstance(source, dict):
        source = source.get("path") if source.get("bytes") is None else source["bytes"]
    if isinstance(source, (bytes, bytearray)):
        if not source:
            raise AudioError("0 bytes of audio: nothing to decode; leave it out")
        return f"{len(source)} bytes of audio", bytes(source)
    if not isinstance(source, (str, os.PathLike)):
        raise AudioError(f"cannot read audio from {source!r:.60}; pass a path, bytes, or a dict with one of them")
    if is_member_path(source):
        name = short_name(source)
        with _told_as_audio_error():
            if not member_info(source).file_size:
                raise UserError(f"{name}: is empty, 0 bytes; leave it out")
        return name, source
    path = Path(source)
    # The folder is often the label, and tells one 1.wav from another; all of the path would put homes into reports.
    name = "/".join(path.parts[-2:])
    if not path.exists():
        raise AudioError(f"{name}: no such file; check the path")
    if path.is_dir():
        raise AudioError(f"{name}: is a folder; pass a file in it")
    if not path.stat().st_size:
        raise AudioError(f"{name}: is empty, 0 bytes; fetch it again")
    return name, str(path)


@contextmanager
def _told_as_audio_error():
    """What is wrong with an archive is wrong with the track in it."""
    try:
        yield
    except UserError as error:
        raise AudioError(str(error)) from error


class _SoundfileReader:
    """A file that libsndfile opens. info: of its header. frames: samples per channel."""

    def __init__(self, name, data):
        self.name, self.data, self.file, self.member = name, data, None, None
        if is_member_path(data):
            with _told_as_audio_error():
                self.member = MemberStream(data)
        try:
            self.file = soundfile.SoundFile(io.BytesIO(data) if isinstance(data, bytes) else self.member or data)
            self._check_member()
        except Exception:
            self.close()
            self._check_member()  # tells more than libsndfile, to which the member just ended
            raise
        self.frames, rate = self.file.frames, self.file.samplerate
        self.info = AudioInfo(self.frames / rate, rate, self.file.channels, self.file.format)

    def close(self):
        for file in (self.file, self.member):
            if file is not None:
                file.close()

    def _check_member(self, to_the_end=False):
        if self.member is not None:
            with _told_as_audio_error():
                self.member.check(to_the_end)

    def fault(self):
        """What is wrong by the header, as libsndfile reports it, or None."""
        if self.frames >= 2**62:
            return "does not say how long it is; encode it again"
        log = self.file.extra_info
        size = re.search(r"^\s*(?:data|Data Size|SSND)\s*: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
        if size and int(size[1]) < UNKNOWN_SIZE_BYTES:
            promised, held = int(size[1]), int(size[2])
            # Less than one sample of every channel is padding, which some writers count.
            if promised - held >= max(1, held // max(1, self.frames)):
                return f"is cut short, holds {held} of {promised} bytes of samples; fetch it again"
        if "Last page lacks an end-of-stream bit" in log and "Junk after the last page" in log:
            return "is cut short, stops within an Ogg page; fetch it again"
        return None if self.frames else "holds no samples; leave it out"

    @cached_property
    def _last_vorbis_page(self):
        """A frame before which the last page does not begin."""
        with _told_as_audio_error(), self._open_again() as file:
            frames = frames_before_last_page(file, self.frames)
        return self.frames - LAST_VORBIS_PAGE_FRAMES if frames is None else frames

    def _open_again(self):
        if isinstance(self.data, bytes):
            return io.BytesIO(self.data)
        return open_member(self.data) if is_member_path(self.data) else open(self.data, "rb")

    def _entry(self, start):
        """The frame to seek to so that the decoder has settled at frame `start`."""
        if self.file.subtype == "VORBIS" and start > self.frames - LAST_VORBIS_PAGE_FRAMES:
            start = min(start, self._last_vorbis_page)
        return max(0, start - WARM_UP_FRAMES.get(self.file.subtype, 0))

    def blocks(self, start, stop):
        """Yield frames `[start, stop)` in blocks of `(frames, channels)` float32. Raises AudioError."""
        rate, slack = self.info.sampling_rate, MP3_SLACK_FRAMES if self.info.format == "MP3" else 0
        all_of_it = start == 0 and stop == self.frames
        try:
            while start < stop:
                entry = self._entry(start)
                if entry != self.file.tell():
                    self.file.seek(entry)
                most = WARM_UP_BLOCK_FRAMES if self.file.subtype in WARM_UP_FRAMES else BLOCK_FRAMES
                frames = min(most, stop - start)
                block = self.file.read(start - entry + frames, dtype="float32", always_2d=True)[start - entry :]
                self._check_member()
                start += len(block)
                if len(block) < frames and start < stop - slack:
                    told = f"is cut short, ends after {start / rate:.2f} of {self.info.duration_seconds:.2f} s"
                    raise AudioError(f"{self.name}: {told}; fetch it again")
                yield _finite(block, self.name)
                if len(block) < frames:
                    break
            self._check_member(to_the_end=all_of_it)
        except soundfile.SoundFileError as error:
            self._check_member()
            told = f"cannot be decoded after {start / rate:.2f} s ({str(error).strip(' .')})"
            raise AudioError(f"{self.name}: {told}; fetch it again") from error


class _TorchcodecReader:
    """As `_SoundfileReader`, through FFmpeg. Exact to the sample, but a stretch costs all that comes before it."""

    def __init__(self, name, data):
        from torchcodec.decoders import AudioDecoder

        self.name, self.decoder = name, AudioDecoder(data)
        header = self.decoder.metadata
        # Times count from the container's zero, which is not always where its first sample stands.
        self.begin_seconds = header.begin_stream_seconds_from_header or 0.0
        self.frames = round((header.duration_seconds_from_header or 0.0) * header.sample_rate)
        duration_seconds = self.frames / header.sample_rate
        self.info = AudioInfo(duration_seconds, header.sample_rate, header.num_channels, str(header.codec).upper())

    def close(self):
        self.decoder = None

    def fault(self):
        return None if self.frames else "does not say how long it is; convert it to WAV or FLAC"

    def blocks(self, start, stop):
        """As in `_SoundfileReader`, in one block; may end early, since containers round their length."""
        seconds = [self.begin_seconds + frame / self.info.sampling_rate for frame in (start, stop)]
        try:
            samples = self.decoder.get_samples_played_in_range(start_seconds=seconds[0], stop_seconds=seconds[1])
        except (RuntimeError, ValueError) as error:
            message = f"{self.name}: FFmpeg cannot decode it ({_first_line(error)}); convert it to WAV or FLAC"
            raise AudioError(message) from error
        yield _finite(samples.data.numpy().T, self.name)


def _finite(block, name):
    if not np.isfinite(block).all():
        raise AudioError(f"{name}: holds samples that are NaN or infinite; export it again as 16-bit WAV or FLAC")
    return block


def _first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]
