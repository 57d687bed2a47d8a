"""The table of tracks that every source makes, and its splits."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import soundfile

from hf_musiclf.audio import audio_fingerprint
from hf_musiclf.audio_readers import AudioError
from hf_musiclf.errors import UserError
from hf_musiclf.launching import available_cores
from hf_musiclf.leakage import leakage_report
from hf_musiclf.splits import count_labels, merge_groups

# Files decoded side by side; what a batch holds in memory is this many excerpts.
BATCH_TRACKS = 32

# AST's frame is 25 ms (Gong, Chung and Glass, Interspeech 2021): a tenth of a second is a handful of frames, which hold
# nothing to classify and would be padded a hundredfold.
MIN_TRACK_SECONDS = 0.1

# Begins the hash of a file that was not decoded: it tells an identical file, not the same recording in another format.
FILE_HASH = "file:"

TRACK_COLUMNS = {
    "track": datasets.Value("string"),
    "audio": datasets.Audio(decode=False),
    "artist": datasets.Value("string"),
    "title": datasets.Value("string"),
    "duration": datasets.Value("float64"),  # seconds, as decoded or, where nothing is decoded, as the header says
    "sampling_rate": datasets.Value("int32"),  # Hz, of the file
    "audio_hash": datasets.Value("string"),  # of the decoded samples; of the file where it begins with FILE_HASH
    "error": datasets.Value("string"),  # why the audio cannot be decoded, null where it can
}


def track_features(labels: Sequence[str]) -> datasets.Features:
    """Columns of a table of tracks with these labels. Audio stays encoded: `{"path", "bytes"}`."""
    return datasets.Features({**TRACK_COLUMNS, "label": datasets.ClassLabel(names=list(labels))})


@dataclass(frozen=True)
class Source:
    """Where tracks come from, for reports and cards.

    restriction: what stands against publishing the audio, None for nothing that is known of. licence_id: the Hub's word
    for the licence, None where it has none. own: somebody's own music, published privately unless said otherwise.
    """

    name: str
    task: str  # what a label is: "genre", "composer"
    group_word: str  # what a group is: "artist", "composition"
    licence: str
    citation: str
    hub_id: str | None = None
    restriction: str | None = None
    licence_id: str | None = None
    own: bool = False


@dataclass(frozen=True)
class TrackTable:
    """All readable tracks of a source.

    rows: a `datasets.Dataset` with the columns of `track_features`. groups: group of each row, None where unknown.
    skipped: `{"track", "reason"}` of what is left out, with a "count" where an entry stands for many. schemes: split
    scheme -> function of the table and a seed that returns split name -> row indices; the default comes first.
    """

    source: Source
    rows: datasets.Dataset
    labels: tuple[str, ...]
    groups: tuple[str | None, ...]
    skipped: tuple[dict[str, str], ...]
    schemes: Mapping[str, Callable[["TrackTable", int], dict[str, np.ndarray]]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list:
        return self.rows[name][:]


@dataclass(frozen=True)
class Tracks:
    """A table of tracks with its split: what a recipe works on.

    splits: split name -> row indices into `table.rows`. leakage: see `splits.leakage_report`.
    """

    table: TrackTable
    splits: dict[str, np.ndarray]
    split_scheme: str
    split_seed: int
    leakage: dict[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        return self.table.labels

    def digest(self) -> str:
        """SHA-256 of which track stands in which split: the same only for the same data and split.

        A track is known by its samples or, where they were not decoded, by its length to 10 ms: the same in a folder
        and in an archive.
        """
        names, hashes, durations = (self.table.column(name) for name in ("track", "audio_hash", "duration"))
        content = [
            f"{seconds:.2f}" if found.startswith(FILE_HASH) else found
            for found, seconds in zip(hashes, durations, strict=True)
        ]
        lines = sorted(f"{split} {names[i]} {content[i]}" for split, items in self.splits.items() for i in items)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def counts(self) -> dict[str, dict[str, Any]]:
        """For each split: tracks, groups, hours and tracks a label."""
        labels, durations = self.table.column("label"), np.asarray(self.table.column("duration"))
        return {
            name: {
                "tracks": len(items),
                "groups": len({self.table.groups[item] for item in items} - {None}),
                "hours": round(float(durations[items].sum()) / 3600, 3),
                "labels": count_labels(items, labels, self.labels),
            }
            for name, items in self.splits.items()
        }


def split_tracks(table: TrackTable, scheme: str, seed: int, folds: int = 0, fold: int = 0) -> Tracks:
    """Draw the split, or one fold of a cross-validation, and find what leaks. `scheme`: one of `table.schemes`.

    Raises UserError where the table cannot bear the scheme, and for folds of a split that is given.
    """
    draw, name = table.schemes[scheme], scheme
    if folds:
        if not hasattr(draw, "fold"):
            others = ", ".join(other for other, known in table.schemes.items() if hasattr(known, "fold"))
            raise UserError(f"folds={folds}: split_scheme={scheme} is one given split; use --split_scheme {others}")
        splits, name = draw.fold(table, seed, folds, fold), f"{scheme}, fold {fold + 1} of {folds}"
    else:
        splits = draw(table, seed)
    titles = [
        f"{artist} / {title}".casefold() if artist and title else None
        for artist, title in zip(table.column("artist"), table.column("title"), strict=True)
    ]
    leakage = leakage_report(splits, table.groups, titles, table.column("audio_hash"))
    return Tracks(table, splits, name, seed, leakage)


def decoded_batches(files: Iterable[Mapping[str, Any]], features: datasets.Features) -> Iterator[pa.Table]:
    """Decode every file once, several side by side, and yield tables of tracks.

    files: mappings with track, label (id), artist, title, and audio `{"path", "bytes"}`. What cannot be decoded keeps
    its row with the reason in `error` and without its bytes.
    """
    files = iter(files)
    with ThreadPoolExecutor(max_workers=available_cores()) as pool:
        while batch := list(islice(files, BATCH_TRACKS)):
            rows = list(pool.map(decoded_row, batch))
            columns = {name: [row[name] for row in rows] for name in features}
            yield pa.table(columns, schema=features.arrow_schema)


def decoded_row(file: Mapping[str, Any]) -> dict[str, Any]:
    """One row of a table of tracks.

    file: track, label (id), artist, title, and audio `{"path", "bytes"}`. Adds duration (s), sampling_rate (Hz),
    audio_hash, and error: None, or why the audio cannot be decoded or is too short; its bytes are then left out.
    """
    try:
        info, digest = audio_fingerprint(file["audio"])
        fault = None
        if info.duration_seconds < MIN_TRACK_SECONDS:
            fault = f"lasts {info.duration_seconds:.4g} s, less than {MIN_TRACK_SECONDS} s: too short to classify"
    except AudioError as error:
        fault = str(error)
    if fault:
        audio = {"path": file["audio"]["path"], "bytes": None}
        found = {"audio": audio, "duration": None, "sampling_rate": None, "audio_hash": None}
    else:
        found = {"duration": info.duration_seconds, "sampling_rate": info.sampling_rate, "audio_hash": digest}
    return {**file, **found, "error": fault}


def decoder_identity() -> str:
    """What decides which tracks are readable: a table prepared under another identity is not to be used again."""
    torchcodec = "with" if find_spec("torchcodec") else "without"
    return f"{soundfile.__libsndfile_version__}, {torchcodec} torchcodec, from {MIN_TRACK_SECONDS} s"


def readable_rows(rows: datasets.Dataset) -> tuple[datasets.Dataset, tuple[dict[str, str], ...]]:
    """The rows whose audio decodes, and track and reason of the others."""
    errors = rows["error"][:]
    skipped = tuple(
        {"track": track, "reason": error} for track, error in zip(rows["track"][:], errors, strict=True) if error
    )
    if skipped:
        rows = rows.select([index for index, error in enumerate(errors) if not error])
    return rows, skipped


def groups_without_duplicates(groups: Sequence[str | None], rows: datasets.Dataset) -> tuple[str | None, ...]:
    """Groups in which exact duplicates, by the hash of their samples, stand together."""
    return tuple(merge_groups(groups, rows["audio_hash"][:]))
