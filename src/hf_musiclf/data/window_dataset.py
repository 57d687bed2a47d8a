"""Windows as rows: datasets of waveforms read by seeking, a window at a time. Workers only read and resample."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hf_musiclf.audio import read_audio
from hf_musiclf.data.tracks import TrackTable
from hf_musiclf.errors import UserError
from hf_musiclf.windows import evenly_spread, random_window_start, seconds_to_samples, window_starts


class _Windows(torch.utils.data.Dataset):
    """What both kinds of windows share: items are `{"waveform": (time,) float32, "labels": int, "row": int}`.

    row: of the table of tracks. A waveform of a track shorter than the window keeps its length: the features pad it as
    the model's extractor does.
    """

    def __init__(self, table: TrackTable, rows: Sequence[int], sampling_rate: int, window: int):
        self.audio = table.rows.select_columns(["audio"])
        self.sampling_rate = sampling_rate
        self.window = window
        self.rows = np.asarray(rows)
        labels, durations, names, hashes = (table.column(name) for name in ("label", "duration", "track", "audio_hash"))
        self.label_of_track = np.array([labels[row] for row in self.rows], dtype=np.int64)
        self.samples_of_track = np.array([seconds_to_samples(durations[row], sampling_rate) for row in self.rows])
        self.track_names = [names[row] for row in self.rows]
        self.hash_of_track = [hashes[row] for row in self.rows]
        self.group_of_track = [table.groups[row] for row in self.rows]

    def place(self, index: int) -> tuple[int, int]:
        """Of a window: the position of its track in `rows`, and the sample where it starts."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.read(*self.place(index), self.window)

    def read(self, track: int, start: int, size: int) -> dict[str, Any]:
        """An item of another length: `size` samples from `start` on, fewer where the track ends."""
        waveform = read_audio(
            self.audio[int(self.rows[track])]["audio"],
            self.sampling_rate,
            start_seconds=start / self.sampling_rate,
            duration_seconds=size / self.sampling_rate,
        )
        return {"waveform": waveform, "labels": int(self.label_of_track[track]), "row": int(self.rows[track])}


class RandomWindows(_Windows):
    """Random windows of each track, new ones each epoch, drawn from the seed, the epoch and the track's row alone.

    per_track: windows of each track an epoch; a whole pass over the tracks stands behind the other. A row that comes
    more than once in `rows` shows another window each time.
    """

    def __init__(
        self, table: TrackTable, rows: Sequence[int], sampling_rate: int, window: int, seed: int, per_track: int = 1
    ):
        super().__init__(table, rows, sampling_rate, window)
        self.seed, self.per_track = seed, per_track
        times = Counter()
        self.number_of_track = np.zeros(len(self.rows), dtype=np.int64)  # the row, and for its repetitions others
        for position, row in enumerate(self.rows.tolist()):
            self.number_of_track[position] = row + times[row] * len(table)
            times[row] += 1
        # In shared memory, so that workers that live across epochs see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.rows) * self.per_track

    def place(self, index: int) -> tuple[int, int]:
        draw, track = divmod(index, len(self.rows))
        samples, number = int(self.samples_of_track[track]), int(self.number_of_track[track])
        epoch = int(self._epoch) * self.per_track + draw
        return track, random_window_start(samples, self.window, self.seed, epoch, number)


class EvaluationWindows(_Windows):
    """Every window of every track at a hop, in the order of the tracks.

    track_of_window: `(windows,)` position of each window's track in `rows`.
    """

    def __init__(self, table: TrackTable, rows: Sequence[int], sampling_rate: int, window: int, hop: int):
        super().__init__(table, rows, sampling_rate, window)
        self.hop = hop
        starts = [window_starts(int(samples), window, hop) for samples in self.samples_of_track]
        self.start_of_window = np.array([start for track in starts for start in track])
        self.track_of_window = np.repeat(np.arange(len(starts)), [len(track) for track in starts])

    def __len__(self) -> int:
        return len(self.start_of_window)

    def place(self, index: int) -> tuple[int, int]:
        return int(self.track_of_window[index]), int(self.start_of_window[index])

    def tracks(self) -> range:
        """Positions of the tracks, as in `track_of_window`."""
        return range(len(self.rows))

    def spread(self, per_track: int) -> np.ndarray:
        """Positions of at most so many windows of each track, spread evenly over it; 0: of all windows."""
        counts = np.bincount(self.track_of_window, minlength=len(self.rows))
        firsts = np.cumsum(counts) - counts
        chosen = [
            first + index
            for first, count in zip(firsts, counts, strict=True)
            for index in evenly_spread(count, per_track or count)
        ]
        return np.array(chosen, dtype=np.int64)

    @property
    def label_of_window(self) -> np.ndarray:
        return self.label_of_track[self.track_of_window]

    @property
    def group_of_window(self) -> list[str]:
        """Group of each window; a track of unknown group is its own."""
        names = [group or f"track {name}" for group, name in zip(self.group_of_track, self.track_names, strict=True)]
        return [names[track] for track in self.track_of_window]


def collate_windows(items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """`{"waveforms": (batch, time) float32, zero-padded; "lengths": (batch,) samples; "labels", "rows": (batch,)}`."""
    lengths = torch.tensor([len(item["waveform"]) for item in items])
    waveforms = torch.zeros(len(items), int(lengths.max()))
    for row, item in zip(waveforms, items, strict=True):
        row[: len(item["waveform"])] = torch.from_numpy(item["waveform"])
    labels, rows = (torch.tensor([item[name] for item in items]) for name in ("labels", "row"))
    return {"waveforms": waveforms, "lengths": lengths, "labels": labels, "rows": rows}


def collate_inputs(
    features: Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]], items: Sequence[dict[str, Any]]
) -> dict[str, torch.Tensor]:
    """`{"labels": (batch,), ...}`, with what `features` makes of the waveforms and lengths of `collate_windows`."""
    batch = collate_windows(items)
    return {"labels": batch["labels"], **features(batch["waveforms"], batch["lengths"])}


def check_shortest(windows: Mapping[str, EvaluationWindows | RandomWindows], features: Any) -> None:
    """Raise UserError, which names the track, where the shortest of a split is too short for the features.

    Features ask for lengths on the CPU alone: a GPU would have to be waited for in every step. This asks once.
    """
    for part in windows.values():
        lengths = part.samples_of_track
        if len(lengths) and lengths.min() < part.window:
            track = int(lengths.argmin())
            try:
                features(torch.zeros(1, int(lengths[track])), torch.from_numpy(lengths[[track]]))
            except ValueError as error:
                path = part.audio[int(part.rows[track])]["audio"]["path"] or part.track_names[track]
                raise UserError(f"{path}: {error}; leave this track out") from error
