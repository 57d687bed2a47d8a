"""What several saved models say of a track as one, each by its own sampling rate and windows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hf_musiclf.audio import audio_info, read_audio
from hf_musiclf.audio_readers import AudioError
from hf_musiclf.data.tracks import Tracks
from hf_musiclf.ensembles.folders import ENSEMBLE_FILE, find_ensemble
from hf_musiclf.errors import UserError
from hf_musiclf.inference import TrackClassifier, TrackScores
from hf_musiclf.mixtures import checked_weights, mix
from hf_musiclf.models.music_pipeline import here
from hf_musiclf.predictions import Predictions, label_order

# A track that several models hear is decoded once for each sampling rate if it is no longer: 10 minutes of float32 at
# 48 kHz are 115 MB. A longer one is read by seeking, window by window, as one model does.
DECODED_SECONDS = 600.0


class ReadOnce:
    """`read_audio` of one source: at each rate it is decoded once, unless it is longer than DECODED_SECONDS."""

    def __init__(self, source):
        self.short = audio_info(source).duration_seconds <= DECODED_SECONDS
        self.whole: dict[int, np.ndarray] = {}

    def __call__(self, source, rate: int, start_seconds: float, duration_seconds: float) -> np.ndarray:
        if self.short and rate not in self.whole:
            self.whole[rate] = read_audio(source, rate)
        first = round(start_seconds * rate)
        if not self.short or first >= len(self.whole[rate]):  # which is told there
            return read_audio(source, rate, start_seconds, duration_seconds)
        return self.whole[rate][first : first + max(1, round(duration_seconds * rate))]


@dataclass(frozen=True)
class EnsembleScores:
    """What an ensemble says of a track: probabilities `(labels,)`, and what each member that has a weight said.

    weights: of these members, of sum 1.
    """

    labels: tuple[str, ...]
    probabilities: np.ndarray
    members: tuple[TrackScores, ...]
    weights: np.ndarray | None = None

    top = TrackScores.top

    @property
    def n_windows(self) -> int:
        return sum(scores.n_windows for scores in self.members)

    @property
    def duration_seconds(self) -> float:
        return self.members[0].duration_seconds

    def over_time(self, times_seconds: np.ndarray) -> np.ndarray:
        """`(times, labels)`: the weighted mean of the members' `TrackScores.over_time`."""
        orders = [label_order(said.labels, self.labels, ("the ensemble", "a member")) for said in self.members]
        said = [scores.over_time(times_seconds)[:, order] for scores, order in zip(self.members, orders, strict=True)]
        return mix(said, self.weights)


class Ensemble:
    """The weighted mean of what several models say of a track, each of which hears all of it by its own windows.

    weights: one a member, scaled to sum 1; None: equal. A member of weight 0 is not asked. labels: their order; None:
    that of the first. Raises UserError where the members' labels are not the same names, and for wrong weights.
    """

    def __init__(
        self,
        members: Sequence[TrackClassifier],
        weights: Sequence[float] | None = None,
        labels: Sequence[str] | None = None,
    ):
        if not members:
            raise UserError("an ensemble of no models says nothing; name one or more")
        self.weights = checked_weights(weights, len(members))
        self.members = tuple(members)
        self.labels = tuple(labels or members[0].labels)
        self.orders = [
            label_order(member.labels, self.labels, ("the ensemble", f"model {number}"))
            for number, member in enumerate(members, 1)
        ]

    def __call__(self, source: Any, hop_seconds: float | None = None) -> EnsembleScores:
        """As `TrackClassifier.__call__`; hop_seconds: of every member, None: each its own."""
        asked = [index for index, weight in enumerate(self.weights) if weight > 0]
        with here(source, AudioError) as found:
            read = ReadOnce(found) if isinstance(found, (str, Path, bytes)) else None
            scores = [self.members[index](found, hop_seconds, read) for index in asked]
        of_members = [said.probabilities[self.orders[index]] for index, said in zip(asked, scores, strict=True)]
        weights = self.weights[asked]
        return EnsembleScores(self.labels, mix(of_members, weights), tuple(scores), weights)


def open_classifier(model: str, *args, **kwargs) -> TrackClassifier | Ensemble:
    """A saved model, or the ensemble of a folder or Hub id; the other arguments are those of TrackClassifier.

    Raises UserError where it is neither, where a linked member is gone, and for an ensemble.json that is damaged.
    """
    folder = find_ensemble(model)
    if folder is None:
        return TrackClassifier(model, *args, **kwargs)
    try:
        content = json.loads((folder / ENSEMBLE_FILE).read_text(encoding="utf-8"))
        labels, weights = content["labels"], [member["weight"] for member in content["members"]]
        names = [member.get("hub_id") or str(folder / member["folder"]) for member in content["members"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / ENSEMBLE_FILE} is damaged; make the ensemble again") from error
    return Ensemble([TrackClassifier(name, *args, **kwargs) for name in names], weights, labels)


def hear(names: Sequence[str], models: Sequence[TrackClassifier], tracks: Tracks) -> list[dict[str, Predictions]]:
    """What each model says of validation and test, by its own windows, as `TrackClassifier` scores files."""
    track_names, label_ids = tracks.table.column("track"), tracks.table.column("label")
    orders = [
        label_order(model.labels, tracks.labels, ("the data", name)) for name, model in zip(names, models, strict=True)
    ]
    heard: list[dict[str, Predictions]] = [{} for _ in models]
    for split in ("validation", "test"):
        items = [int(item) for item in tracks.splits[split]]
        said: list[list[np.ndarray]] = [[] for _ in models]
        for item in tqdm(items, desc=f"Hearing {split}", unit="track"):
            audio = tracks.table.rows[item]["audio"]
            read = ReadOnce(audio)
            for model, order, of_model in zip(models, orders, said, strict=True):
                of_model.append(model(audio, read=read).probabilities[order])
        for found, of_model in zip(heard, said, strict=True) if items else ():
            found[split] = Predictions(
                tracks.labels,
                tuple(track_names[item] for item in items),
                tuple(tracks.table.groups[item] for item in items),
                np.array([label_ids[item] for item in items]),
                np.array(of_model),
            )
    return heard
