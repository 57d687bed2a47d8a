"""Whole tracks with a saved model: windows, batches, the mean of their probabilities, as evaluation does it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig

from hf_musiclf.audio import audio_info, read_audio
from hf_musiclf.audio_readers import AudioError, name_and_data
from hf_musiclf.data.tracks import MIN_TRACK_SECONDS
from hf_musiclf.data.window_dataset import collate_windows
from hf_musiclf.errors import UserError
from hf_musiclf.models.families import encoders
from hf_musiclf.models.loading import FAMILIES, first_line, quiet_transformers
from hf_musiclf.probabilities import softmax
from hf_musiclf.reach import only_local, why_not_here
from hf_musiclf.windows import seconds_to_samples, window_starts


@dataclass(frozen=True)
class TrackScores:
    """What a model says of a track.

    starts_seconds: `(windows,)`. window_probabilities: `(windows, labels)`; probabilities: `(labels,)`, their mean.
    """

    labels: tuple[str, ...]
    starts_seconds: np.ndarray
    window_probabilities: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        return self.window_probabilities.mean(0)

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k most probable labels, most probable first."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.labels[index], float(self.probabilities[index])) for index in order]

    @property
    def n_windows(self) -> int:
        return len(self.starts_seconds)


class TrackClassifier:
    """A saved model that scores whole tracks of any length, format and rate.

    model: folder or Hub id of a model that a recipe saved. trust_remote_code: run the code that an encoder of another
    library brings along; our own classes are known without it. Raises UserError where it is none.
    """

    def __init__(
        self,
        model: str,
        device: str | torch.device = "cpu",
        batch_size: int = 16,
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
                self.model, found = family.model_class.from_pretrained(
                    model, dtype=torch.float32, output_loading_info=True, **local
                )
            if found["missing_keys"]:
                raise UserError(
                    f"model={model!r} has no classification head of its own; fine-tune it first, see recipes/"
                )
            self.features = family.make_features(family.extractor_class.from_pretrained(model, **local))
        except (OSError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            reason = why_not_here(model) or first_line(error)
            if "trust_remote_code" in str(error):
                reason = "it runs code of its own; read it, and if you trust it pass --trust_remote_code"
            raise UserError(f"model={model!r} cannot be loaded: {reason}") from error
        self.model.to(device).eval()
        self.labels = tuple(self.model.config.id2label[index] for index in range(self.model.config.num_labels))
        self.batch_size = batch_size

    def __call__(
        self,
        source: str | Path | bytes,
        hop_seconds: float | None = None,
        read: Callable[..., np.ndarray] = read_audio,
    ) -> TrackScores:
        """Scores of a file or of its bytes.

        hop_seconds: between window starts; None: that of the model's own evaluation. read: `read_audio`, or what gives
        the same. Memory does not grow with the length. Raises AudioError for what cannot be read, UserError for a hop
        that leaves samples out.
        """
        rate = self.features.sampling_rate
        if hop_seconds is None:
            hop_seconds = getattr(self.model.config, "hop_seconds", None) or self.features.window_seconds
        if not 1 / rate <= hop_seconds <= self.features.window_seconds:
            raise UserError(f"hop_seconds={hop_seconds} must lie in (0, {self.features.window_seconds}], the window")
        window = seconds_to_samples(self.features.window_seconds, rate)
        hop = seconds_to_samples(hop_seconds, rate)
        seconds = audio_info(source).duration_seconds
        if seconds < MIN_TRACK_SECONDS:
            name, _ = name_and_data(source)
            raise AudioError(f"{name}: lasts {seconds:.3f} s; {MIN_TRACK_SECONDS} s are the least to classify")
        starts = window_starts(max(1, seconds_to_samples(seconds, rate)), window, hop)
        logits = [self._logits(waveforms) for waveforms in self._batches(source, starts, window, read)]
        return TrackScores(self.labels, np.array(starts) / rate, softmax(np.concatenate(logits)))

    def _batches(self, source, starts: list[int], window: int, read) -> Iterator[list[np.ndarray]]:
        rate = self.features.sampling_rate
        for first in range(0, len(starts), self.batch_size):
            batch = starts[first : first + self.batch_size]
            yield [read(source, rate, start / rate, window / rate) for start in batch]

    @torch.no_grad()
    def _logits(self, waveforms: list[np.ndarray]) -> np.ndarray:
        batch = collate_windows([{"waveform": waveform, "labels": 0, "row": 0} for waveform in waveforms])
        inputs = self.features(batch["waveforms"].to(self.model.device), batch["lengths"])
        return self.model(**inputs).logits.float().cpu().numpy()
