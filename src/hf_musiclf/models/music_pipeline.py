"""Whole tracks with any audio classifier of Transformers; every saved run carries this file beside its weights.

    classify = pipeline("music-classification", model=..., trust_remote_code=True)
    classify("song.mp3")                        # [{"label": "jazz", "score": 0.81}, ...], the mean of all windows
    classify("song.mp3", timeline=True)         # and what each window says, with its start and end in seconds

This file imports torch, numpy and transformers; soundfile and soxr are asked for where a file is to be read or a rate
to be changed. A track is read once, block by block, so that an hour takes no more memory than a minute.
"""

import http.client
import io
import json
import math
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import torch
from transformers.pipelines.base import ChunkPipeline

TASK = "music-classification"
# What `custom_pipelines` of config.json says, by which `pipeline(..., trust_remote_code=True)` finds this file.
CUSTOM_PIPELINE = {
    "impl": "music_pipeline.MusicClassificationPipeline",
    "pt": ["AutoModelForAudioClassification"],
    "type": "audio",
}
MIN_TRACK_SECONDS = 0.1
USUAL_WINDOW_SECONDS = 10.0  # of an extractor that knows no window, a clip of AudioSet
AST_SHIFT_SECONDS = 0.01  # between the frames that ASTFeatureExtractor counts
BLOCK_FRAMES = 1 << 20  # decoded at once: 8 MB in stereo

# Frames that a decoder takes to settle after a seek, and soundfile seeks after every read; see audio_readers.py of
# hf-musiclf, where they are derived.
WARM_UP_FRAMES = {"MPEG_LAYER_III": 90 * 576, "MPEG_LAYER_II": 90 * 576, "VORBIS": 8192, "OPUS": 24_000}
LAST_VORBIS_PAGE_FRAMES = 255 * 4096

URL_TIMEOUT_SECONDS = 30
URL_CHARACTERS = "%:/?#[]@!$&'()*+,;=~"  # that stand for themselves, or for the begin of an escape (RFC 3986)
MAX_URL_BYTES = 2_000_000_000  # nearly two hours of 24-bit stereo at 48 kHz


class MusicClassificationPipeline(ChunkPipeline):
    """Scores of whole tracks: the mean of the probabilities of windows that cover all of it.

    Called with a path, an http(s) URL, the bytes of an audio file, a waveform `(time,)` at the model's rate, a dict
    with "array" or "raw" and "sampling_rate" or with "bytes" or "path", a torchcodec decoder, or with a list, generator
    or data set of them. A waveform may have channels as its shorter axis. WAV, FLAC, Ogg, Opus and MP3 need no ffmpeg.

    top_k: labels told, 5 unless said; None: all. timeline: give {"scores", "timeline", "duration"} instead of the list
    of scores; the timeline has {"start", "end", "scores"} for each window, in seconds. hop_seconds: between window
    starts, 0 < hop <= window; None: that of the model's evaluation. batch_size: windows at once; None: 4 on a CPU, 16
    elsewhere. Raises ValueError, one line, for what cannot be read or lasts less than 0.1 s, and for a wrong hop or
    top_k.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    mistake: type[ValueError] = ValueError  # of the caller
    unreadable: type[ValueError] = ValueError  # a track that cannot be scored; others may

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self._batch_size is None:
            self._batch_size = usual_batch_size(self.device)
        self.model.eval()
        self.sampling_rate = self.feature_extractor.sampling_rate
        self.window_seconds = window_seconds_of(self.feature_extractor)
        self.labels = tuple(self.model.config.id2label[index] for index in range(self.model.config.num_labels))

    def __call__(self, inputs: Any, **kwargs) -> Any:
        if isinstance(inputs, Sequence) and not isinstance(inputs, (str, bytes, bytearray)):
            return list(super().__call__((track for track in inputs), **kwargs))
        return super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Model, extractor, and this file."""
        super().save_pretrained(save_directory, **kwargs)
        write_beside(save_directory)

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        # A chunk is a batch of windows already: batches of chunks would mix tracks of other lengths.
        whole = {**preprocess_params, "batch_size": batch_size}
        return super().get_iterator(inputs, num_workers, 1, whole, forward_params, postprocess_params)

    def _sanitize_parameters(self, hop_seconds=None, timeline=None, **kwargs):
        after = {name: kwargs.pop(name) for name in ("top_k",) if name in kwargs}
        kwargs.pop("local_files_only", None)  # which `pipeline` hands on
        if kwargs:
            raise self.mistake(f"{', '.join(kwargs)} is not known; pass top_k, timeline, hop_seconds or batch_size")
        if after.get("top_k") is not None and after["top_k"] < 1:
            raise self.mistake(f"top_k={after['top_k']} must be 1 or more, or None for all labels")
        if timeline is not None:
            after["timeline"] = bool(timeline)
        return {} if hop_seconds is None else {"hop_seconds": hop_seconds}, {}, after

    def preprocess(self, inputs: Any, hop_seconds: float | None = None, batch_size: int = 4) -> Iterator[dict]:
        """Yield batches of windows, all of one length. See the class for what raises ValueError."""
        hop = self._hop_samples(hop_seconds)
        window = round(self.window_seconds * self.sampling_rate)
        with here(inputs, self.unreadable) as source:
            track = self.open_track(source)
            try:
                seconds = track.frames / track.sampling_rate
                if seconds < MIN_TRACK_SECONDS:
                    raise self.unreadable(
                        f"{track.name}: lasts {seconds:.3f} s; {MIN_TRACK_SECONDS} s are the least to classify"
                    )
                starts = window_starts(max(1, round(seconds * self.sampling_rate)), window, hop)
                about = {"seconds": seconds, "window_seconds": self.window_seconds}
                for first, batch in _batches(self.cut(track, starts, window), batch_size):
                    places = np.array(starts[first : first + len(batch)])
                    if not len(batch[-1]):
                        raise self.unreadable(f"{track.name}: ends before the {seconds:.3f} s that its header promises")
                    last = first + len(batch) == len(starts)
                    yield {"is_last": last, "inputs": self.prepare(batch), "starts": places, **about}
            finally:
                track.close()

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        logits = self.model(**self.model_inputs(model_inputs.pop("inputs"))).logits
        return {**model_inputs, "logits": logits.float()}

    def postprocess(self, model_outputs: list[dict], top_k: int | None = 5, timeline: bool = False) -> Any:
        starts_seconds, probabilities, seconds = self.of_windows(model_outputs)
        scores = self._ranked(probabilities.mean(0), top_k)
        if not timeline:
            return scores
        ends = np.minimum(starts_seconds + self.window_seconds, seconds)
        places = zip(starts_seconds.tolist(), ends.tolist(), probabilities, strict=True)
        told = [{"start": start, "end": end, "scores": self._ranked(said, top_k)} for start, end, said in places]
        return {"scores": scores, "timeline": told, "duration": seconds}

    def of_windows(self, outputs: list[dict]) -> tuple[np.ndarray, np.ndarray, float]:
        """Of a track's outputs: starts `(windows,)` and its length in seconds, probabilities `(windows, labels)`."""
        logits = torch.cat([output["logits"] for output in outputs]).numpy()
        starts = np.concatenate([output["starts"] for output in outputs])
        return starts / self.sampling_rate, _softmax(logits), outputs[0]["seconds"]

    def open_track(self, source: Any) -> "_File | _Array":
        """What gives the track's frames, rate and blocks."""
        return open_source(source, self.sampling_rate, self.unreadable)

    def cut(self, track: "_File | _Array", starts: list[int], window: int) -> Iterator[np.ndarray]:
        """The windows of an opened track at the model's rate, see `cut_windows`."""
        return cut_windows(track, self.sampling_rate, starts, window)

    def prepare(self, waveforms: list[np.ndarray]) -> dict[str, torch.Tensor]:
        """Of waveforms of one length, what `model_inputs` takes: here, what the extractor makes of them."""
        made = dict(self.feature_extractor(waveforms, sampling_rate=self.sampling_rate, return_tensors="pt"))
        if made.get("input_values", torch.empty(0)).ndim == 2:  # waveforms, which training pads to the window
            missing = max(0, round(self.window_seconds * self.sampling_rate) - made["input_values"].shape[1])
            values = {"input_values": self.feature_extractor.padding_value, "attention_mask": 0}
            for name in values.keys() & made.keys():
                made[name] = torch.nn.functional.pad(made[name], (0, missing), value=values[name])
        return made

    def model_inputs(self, prepared: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """On the model's device, in its precision."""
        return {name: one.to(self.model.dtype) if one.is_floating_point() else one for name, one in prepared.items()}

    def _hop_samples(self, hop_seconds: float | None) -> int:
        if hop_seconds is None:
            # The trainer's is a whole number of samples, and so may exceed the window by half of one.
            hop_seconds = min(getattr(self.model.config, "hop_seconds", None) or math.inf, self.window_seconds)
        if not 1 / self.sampling_rate <= hop_seconds <= self.window_seconds:
            raise self.mistake(f"hop_seconds={hop_seconds} must lie in (0, {self.window_seconds}], the window")
        return round(hop_seconds * self.sampling_rate)

    def _ranked(self, probabilities: np.ndarray, top_k: int | None) -> list[dict]:
        order = np.argsort(-probabilities, kind="stable")[:top_k]
        return [{"label": self.labels[index], "score": float(probabilities[index])} for index in order]


def write_beside(folder: str | os.PathLike) -> None:
    """Copy this file into the folder of a saved model and enter it into its config.json."""
    shutil.copyfile(__file__, os.path.join(folder, "music_pipeline.py"))
    path = os.path.join(folder, "config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    config["custom_pipelines"] = {**config.get("custom_pipelines", {}), TASK: CUSTOM_PIPELINE}
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        file.write(json.dumps(config, indent=2, sort_keys=True) + "\n")
    os.replace(f"{path}.part", path)


def window_seconds_of(extractor: Any) -> float:
    """The window that a model was trained for, as its extractor has it; of a stock one the longest that it takes."""
    if getattr(extractor, "window_seconds", None):
        return float(extractor.window_seconds)
    if hasattr(extractor, "chunk_length"):  # Whisper
        return float(extractor.chunk_length)
    if hasattr(extractor, "max_length_s"):  # CLAP
        return float(extractor.max_length_s)
    if isinstance(getattr(extractor, "max_length", None), int):  # AST
        return extractor.max_length * AST_SHIFT_SECONDS
    return USUAL_WINDOW_SECONDS


def usual_batch_size(device: torch.device) -> int:
    """Windows at once, where none else is asked for.

    On a CPU four. The feature maps of more outgrow the blocks that the C library keeps for the next layer (32 MB in
    glibc), and a convolutional network waits for fresh memory in each; others are as fast by few as by many.
    """
    return 4 if device.type == "cpu" else 16


def window_starts(n_samples: int, window: int, hop: int) -> list[int]:
    """Starts of the windows that cover a track; the last one is moved back to end with it."""
    return [*range(0, n_samples - window, hop), n_samples - window] if n_samples > window else [0]


def cut_windows(track: "_File | _Array", rate: int, starts: list[int], window: int) -> Iterator[np.ndarray]:
    """The windows of a track at a rate: `(window,)` float32 each, shorter only where the track ends.

    track: read once from its begin; no more than a block and a window of it is held.
    """
    blocks = _resampled((_mono(block) for block in track.blocks()), track.sampling_rate, rate)
    end = math.ceil(track.frames * rate / track.sampling_rate)
    held, first = np.empty(0, np.float32), 0  # `first`: place of held[0] in the track
    for start in starts:
        held, first = held[start - first :], start
        size = min(window, end - start)
        while len(held) < size and (block := next(blocks, None)) is not None:
            held = np.concatenate([held, block])
        yield held[:size].copy()


def open_source(source: Any, rate: int, unreadable: type[ValueError] = ValueError) -> "_File | _Array":
    """What the class docstring lists, but URLs, as a file or a waveform. rate: of a waveform that comes without."""
    if hasattr(source, "get_all_samples"):  # torchcodec's decoder, as datasets hands it out
        samples = source.get_all_samples()
        return _Array(samples.data.T, samples.sample_rate, unreadable=unreadable)
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return _Array(source, rate, unreadable=unreadable)
    if isinstance(source, dict):
        array = source.get("array") if source.get("raw") is None else source["raw"]
        if array is not None:
            if not source.get("sampling_rate"):
                raise unreadable("a waveform in a dict needs its sampling_rate in Hz beside it; add it")
            return _Array(array, source["sampling_rate"], source.get("path"), unreadable)
        source = source.get("path") if source.get("bytes") is None else source["bytes"]
    return _File(source, unreadable)


def is_url(source: Any) -> bool:
    return isinstance(source, str) and source.startswith(("http://", "https://"))


@contextmanager
def here(source: Any, unreadable: type[ValueError] = ValueError) -> Iterator[Any]:
    """The source as it is, or for the while of a `with` the file that a URL was streamed to."""
    if not is_url(source):
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        yield _fetch(source, folder, unreadable)


class _Array:
    """A waveform, `(time,)` or with channels, of floats in [-1, 1] or of integers at full scale."""

    def __init__(self, array: Any, sampling_rate: int, name: str | None = None, unreadable=ValueError):
        array = array.cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
        if array.ndim == 2 and array.shape[0] < array.shape[1]:
            array = array.T
        self.name = name or f"a waveform of shape {array.shape}"
        if array.ndim not in (1, 2) or not array.size or array.dtype.kind not in "fi":
            raise unreadable(f"{self.name} of {array.dtype} is no sound; pass (time,) or (channels, time) of floats")
        if not int(sampling_rate) == sampling_rate > 0:
            raise unreadable(f"sampling_rate={sampling_rate} must be a whole number of Hz")
        scale = 1.0 if array.dtype.kind == "f" else -float(np.iinfo(array.dtype).min)
        self.samples, self.scale = array.reshape(len(array), -1), np.float32(scale)
        self.frames, self.sampling_rate, self.unreadable = len(array), int(sampling_rate), unreadable

    def blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, self.frames, BLOCK_FRAMES):
            block = self.samples[start : start + BLOCK_FRAMES].astype(np.float32) / self.scale
            yield _finite(block, self.name, self.unreadable)

    def close(self) -> None:
        """Nothing is open."""


class _File:
    """A file, or its bytes, that libsndfile reads."""

    def __init__(self, source: Any, unreadable: type[ValueError] = ValueError):
        soundfile, self.unreadable = _imported("soundfile"), unreadable
        held = isinstance(source, (bytes, bytearray))
        if not held and not isinstance(source, (str, os.PathLike)):
            raise unreadable(f"cannot read audio from {source!r:.60}; pass a path, a URL, bytes, an array or a dict")
        self.name = f"{len(source)} bytes of audio" if held else os.path.basename(source)
        if not held and not os.path.isfile(source):
            raise unreadable(f"{self.name}: no such file; check the path")
        self.error = soundfile.SoundFileError
        try:
            self.file = soundfile.SoundFile(io.BytesIO(source) if held else source)
        except (soundfile.SoundFileError, TypeError) as error:
            raise unreadable(f"{self.name}: libsndfile cannot open it; convert it to WAV, FLAC or MP3") from error
        self.frames, self.sampling_rate = self.file.frames, self.file.samplerate

    def blocks(self) -> Iterator[np.ndarray]:
        """All of it, `(frames, channels)` float32; a block is entered before its begin, and what settles is dropped."""
        subtype = self.file.subtype
        try:
            for start in range(0, self.frames, BLOCK_FRAMES):
                entry = min(start, self.frames - LAST_VORBIS_PAGE_FRAMES) if subtype == "VORBIS" else start
                entry = max(0, entry - WARM_UP_FRAMES.get(subtype, 0))
                if entry != self.file.tell():
                    self.file.seek(entry)
                wanted = min(BLOCK_FRAMES, self.frames - start) + start - entry
                block = self.file.read(wanted, dtype="float32", always_2d=True)[start - entry :]
                yield _finite(block, self.name, self.unreadable)
        except self.error as error:
            raise self.unreadable(f"{self.name}: cannot be decoded to its end; fetch it again") from error

    def close(self) -> None:
        self.file.close()


def _fetch(url: str, folder: str, unreadable: type[ValueError]) -> str:
    """Stream a URL into a folder; returns the file's path."""
    shown = url.partition("?")[0]  # behind it there may be a secret
    path = os.path.join(folder, os.path.basename(unquote(urlsplit(url).path)) or "audio")
    # What browsers take, too: spaces and letters beyond ASCII.
    request = urllib.request.Request(quote(url, safe=URL_CHARACTERS), headers={"User-Agent": "hf-musiclf"})
    had = 0
    try:
        with urllib.request.urlopen(request, timeout=URL_TIMEOUT_SECONDS) as answer, open(path, "wb") as file:
            promised = int(answer.headers.get("Content-Length") or 0)
            while max(promised, had) <= MAX_URL_BYTES and (block := answer.read(1 << 20)):
                had += file.write(block)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", "") or error or type(error).__name__).splitlines()[0]
        raise unreadable(f"{shown} cannot be fetched ({reason}); check it, or fetch the file and pass that") from error
    if max(promised, had) > MAX_URL_BYTES:
        raise unreadable(f"{shown} has more than {MAX_URL_BYTES / 1e9:g} GB; fetch the file and pass that")
    if had < promised:
        raise unreadable(f"{shown} broke off after {had} of {promised} bytes; try again")
    return path


def _batches(windows: Iterable[np.ndarray], size: int) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Batches with the number of their first window; where the length changes a new one begins."""
    batch, first = [], 0
    for number, window in enumerate(windows):
        if batch and (len(batch) == size or len(window) != len(batch[0])):
            yield first, batch
            batch, first = [], number
        batch.append(window)
    yield first, batch


def _mono(block: np.ndarray) -> np.ndarray:
    """`(frames, channels)` to `(frames,)`, the mean."""
    return sum(block.T[1:], start=block.T[0]) / np.float32(block.shape[1])


def _resampled(blocks: Iterable[np.ndarray], rate_in: int, rate_out: int) -> Iterator[np.ndarray]:
    """The blocks at `rate_out`: bit for bit what soxr gives for all the samples at once."""
    if rate_in == rate_out:
        yield from blocks
        return
    stream = _imported("soxr").ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def _finite(block: np.ndarray, name: str, unreadable: type[ValueError]) -> np.ndarray:
    if not np.isfinite(block).all():
        raise unreadable(f"{name}: holds samples that are NaN or infinite; export it again as 16-bit WAV or FLAC")
    return block


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def _imported(name: str) -> Any:
    """soundfile or soxr, which Transformers itself does without."""
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(
            f"{name} is needed to read files and change their rate: pip install soundfile soxr"
        ) from error
