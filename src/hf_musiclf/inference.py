"""Whole tracks with a saved model: windows, batches, the mean of their probabilities, as evaluation does it.

The cutting and scoring stand in `models/music_pipeline.py`, which is published with every model. Here it reads by
`audio_readers.py` and makes features in batches on the model's device.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from hf_musiclf.audio_readers import AudioError, open_reader
from hf_musiclf.errors import UserError, first_line
from hf_musiclf.models.families import encoders
from hf_musiclf.models.folding import fold_batch_norms
from hf_musiclf.models.loading import FAMILIES, quiet_transformers
from hf_musiclf.models.music_pipeline import TASK, MusicClassificationPipeline, open_source, usual_batch_size
from hf_musiclf.reach import only_local, why_not_here

# Read in one call of a reader: 90 s at 44.1 kHz. Where FFmpeg reads, a call decodes all that comes before it.
PIECE_FRAMES = 1 << 22


@dataclass(frozen=True)
class TrackScores:
    """What a model says of a track.

    starts_seconds: `(windows,)`. window_probabilities: `(windows, labels)`; probabilities: `(labels,)`, their mean.
    window_seconds: of the model; duration_seconds: of the track, which may end within its only window.
    """

    labels: tuple[str, ...]
    starts_seconds: np.ndarray
    window_probabilities: np.ndarray
    window_seconds: float = float("nan")
    duration_seconds: float = float("nan")

    @property
    def probabilities(self) -> np.ndarray:
        return self.window_probabilities.mean(0)

    @property
    def ends_seconds(self) -> np.ndarray:
        """`(windows,)`: where each window ends, within the track."""
        return np.minimum(self.starts_seconds + self.window_seconds, self.duration_seconds)

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k most probable labels, most probable first."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.labels[index], float(self.probabilities[index])) for index in order]

    @property
    def n_windows(self) -> int:
        return len(self.starts_seconds)

    def over_time(self, times_seconds: np.ndarray) -> np.ndarray:
        """`(times, labels)`: the mean of the windows that hold each time, which lies in [0, duration_seconds]."""
        times, ends = np.asarray(times_seconds), self.ends_seconds
        # Both ascend: those that hold a time are the ones begun by then less the ones over by then.
        begun = np.searchsorted(self.starts_seconds, times, side="right")
        over = np.minimum(np.searchsorted(ends, times, side="right"), begun - 1)
        sums = np.concatenate([np.zeros((1, len(self.labels))), np.cumsum(self.window_probabilities, axis=0)])
        return (sums[begun] - sums[over]) / (begun - over)[:, None]


class TrackPipeline(MusicClassificationPipeline):
    """`pipeline("music-classification", model=...)` where this package is installed.

    It reads whatever `audio_readers.py` reads, members of zip archives too, and makes features in batches on the
    model's device. features: of the model's family; None: found by its type, or else what the extractor makes.
    """

    mistake, unreadable = UserError, AudioError

    def __init__(self, *args, features: Any = None, **kwargs):
        super().__init__(*args, **kwargs)
        if self.device.type == "cpu":
            self.model = fold_batch_norms(self.model)
        family = FAMILIES.get(self.model.config.model_type)
        self.features = family.make_features(self.feature_extractor) if features is None and family else features
        if self.features:
            self.window_seconds = self.features.window_seconds

    def preprocess(self, inputs: Any, read: Callable[..., np.ndarray] | None = None, **kwargs) -> Iterator[dict]:
        """read: see `TrackClassifier.__call__`."""
        inputs = str(inputs) if isinstance(inputs, Path) else inputs
        return super().preprocess(inputs if read is None else _Elsewhere(inputs, read), **kwargs)

    def open_track(self, source: Any) -> Any:
        return source if isinstance(source, _Elsewhere) else open_track(source, self.sampling_rate)

    def cut(self, track: Any, starts: list[int], window: int) -> Iterator[np.ndarray]:
        if not isinstance(track, _Elsewhere):
            return super().cut(track, starts, window)
        rate = self.sampling_rate
        return (track.read(track.source, rate, start / rate, window / rate) for start in starts)

    def prepare(self, waveforms: list[np.ndarray]) -> dict[str, torch.Tensor]:
        return {"waveforms": torch.from_numpy(np.stack(waveforms))} if self.features else super().prepare(waveforms)

    def model_inputs(self, prepared: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.features:
            waveforms = prepared["waveforms"]
            prepared = self.features(waveforms, torch.full((len(waveforms),), waveforms.shape[1]))
        return super().model_inputs(prepared)


def open_track(source: Any, sampling_rate: int) -> Any:
    """What gives the frames, rate and blocks of anything but a URL; to be closed. Raises AudioError.

    sampling_rate: of a waveform that comes without.
    """
    has_samples = isinstance(source, dict) and any(source.get(name) is not None for name in ("array", "raw"))
    if has_samples or not isinstance(source, (str, Path, bytes, bytearray, dict)):
        return open_source(source, sampling_rate, AudioError)
    return _Decoded(source)


class _Decoded:
    """A file, or its bytes, as `audio_readers.py` decodes it from begin to end."""

    def __init__(self, source: Any):
        self.reader = open_reader(source)
        self.name, self.frames = self.reader.name, self.reader.frames
        self.sampling_rate = self.reader.info.sampling_rate

    def blocks(self) -> Iterator[np.ndarray]:
        if self.frames <= PIECE_FRAMES:  # then a checksum of an archive is checked too
            yield from self.reader.blocks(0, self.frames)
            return
        for start in range(0, self.frames, PIECE_FRAMES):
            yield from self.reader.blocks(start, min(start + PIECE_FRAMES, self.frames))

    def close(self) -> None:
        self.reader.close()


class _Elsewhere(_Decoded):
    """A file whose windows are had from `read`; here its header counts alone."""

    def __init__(self, source: Any, read: Callable[..., np.ndarray]):
        with closing(open_reader(source)) as reader:
            self.name, self.frames, self.sampling_rate = reader.name, reader.frames, reader.info.sampling_rate
        self.source, self.read = source, read

    def close(self) -> None:
        """Nothing is open."""


class TrackClassifier:
    """A saved model that scores whole tracks of any length, format and rate.

    model: folder or Hub id of a model that a recipe saved. batch_size: windows at once; None: see `usual_batch_size`.
    trust_remote_code: run the code that an encoder of another library brings along; our own classes are known without
    it. Raises UserError where it is none.
    """

    def __init__(
        self,
        model: str,
        device: str | torch.device = "cpu",
        batch_size: int | None = None,
        trust_remote_code: bool = False,
    ):
        try:
            local = {"local_files_only": only_local(model), "trust_remote_code": trust_remote_code}
            config = AutoConfig.from_pretrained(model, **local)
            family = FAMILIES.get(config.model_type, encoders if trust_remote_code else None)
            if family is None:
                known = ", ".join(FAMILIES)
                raise UserError(f"model={model!r} is of architecture {config.model_type!r}; known are {known}")
            with quiet_transformers():
                loaded, found = family.model_class.from_pretrained(
                    model, dtype=torch.float32, output_loading_info=True, **local
                )
            if found["missing_keys"]:
                raise UserError(
                    f"model={model!r} has no classification head of its own; fine-tune it first, see recipes/"
                )
            extractor = family.extractor_class.from_pretrained(model, **local)
            self.pipeline = TrackPipeline(
                model=loaded,
                feature_extractor=extractor,
                features=family.make_features(extractor),
                task=TASK,
                device=torch.device(device),
            )
        except (OSError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            reason = why_not_here(model) or first_line(error)
            if "trust_remote_code" in str(error):
                reason = "it runs code of its own; read it, and if you trust it pass --trust_remote_code"
            raise UserError(f"model={model!r} cannot be loaded: {reason}") from error
        self.model, self.features = loaded, self.pipeline.features
        self.labels = self.pipeline.labels
        self.batch_size = usual_batch_size(self.pipeline.device) if batch_size is None else batch_size

    def __call__(
        self,
        source: Any,
        hop_seconds: float | None = None,
        read: Callable[..., np.ndarray] | None = None,
    ) -> TrackScores:
        """Scores of a file, its bytes, a URL, a waveform: see MusicClassificationPipeline.

        hop_seconds: between window starts; None: that of the model's own evaluation. read: `audio.read_audio`, or what
        gives the same, by which each window of a file is read; None: the file is read once from begin to end. Memory
        does not grow with the length. Raises AudioError for what cannot be read, UserError for a hop that leaves
        samples out.
        """
        whole = {"hop_seconds": hop_seconds, "batch_size": self.batch_size, "read": read}
        outputs = [self.pipeline.forward(batch) for batch in self.pipeline.preprocess(source, **whole)]
        starts_seconds, probabilities, seconds = self.pipeline.of_windows(outputs)
        return TrackScores(self.labels, starts_seconds, probabilities, self.pipeline.window_seconds, seconds)
