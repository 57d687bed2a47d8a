"""predictions.csv: what a run, an ensemble or a cross-validation says of every track that it was not trained on."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hf_musiclf.errors import UserError
from hf_musiclf.files import write_whole

PREDICTIONS_FILE = "predictions.csv"
COLUMNS = (
    "split",
    "track",
    "group",
    "label",
    "predicted",
)  # before one for each label; of folds, the fold stands first
ROUNDING = 1e-9  # probabilities are written with nine digits: fewer make ties of float32's, and another ROC AUC
OFF = 1e-6  # by which a row's sum may be off for each label; earlier versions wrote six digits
NAMED = 3  # tracks or labels that a message names


@dataclass(frozen=True)
class Predictions:
    """What one model says of the tracks of a split.

    labels: names, by id. tracks: names. groups: `(tracks,)`, None where unknown. label_ids: `(tracks,)` int, the truth.
    probabilities: `(tracks, labels)` float64.
    """

    labels: tuple[str, ...]
    tracks: tuple[str, ...]
    groups: tuple[str | None, ...]
    label_ids: np.ndarray
    probabilities: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """`(tracks,)` ids."""
        return self.probabilities.argmax(axis=1)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Those of several folds, one after the other; all have the same labels."""
    labels = parts[0].labels
    assert all(part.labels == labels for part in parts)
    return Predictions(
        labels,
        tuple(track for part in parts for track in part.tracks),
        tuple(group for part in parts for group in part.groups),
        np.concatenate([part.label_ids for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
    )


def write_predictions(path: Path, folds: Sequence[Mapping[str, Predictions]]) -> Path:
    """A row a track: its fold from 1 if there are several, split, track, group, label, predicted, probabilities.

    folds: split -> predictions, of each fold or of the one run; all have the same labels.
    """
    labels = next(iter(folds[0].values())).labels

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow([*(["fold"] if len(folds) > 1 else []), *COLUMNS, *labels])
            for number, splits in enumerate(folds, 1):
                for split, said in splits.items():
                    before = [number, split] if len(folds) > 1 else [split]
                    of_tracks = zip(said.tracks, said.groups, said.label_ids, said.probabilities, strict=True)
                    for track, group, label, row in of_tracks:
                        answers = labels[label], labels[row.argmax()]
                        rows.writerow([*before, track, group or "", *answers, *(f"{value:.9f}" for value in row)])

    return write_whole(path, write)


def read_predictions(folder: Path, way_out: str = "run it again") -> dict[str, Predictions]:
    """Split -> what the predictions.csv of a finished run says of its tracks; "test" is there.

    Rows are scaled to sum 1. Where the written digits make a tie, what was predicted is raised by half of the last one,
    so that it stays the most probable label. Raises UserError, which ends in `way_out`, where the file is missing or
    damaged.
    """

    def damaged(fault: str) -> UserError:
        return UserError(f"{folder} is damaged: its {PREDICTIONS_FILE} {fault}; {way_out}")

    try:
        with (folder / PREDICTIONS_FILE).open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        # By place, not by name: a label may be called "track".
        split, track, group, label, answer = map(head.index, COLUMNS)
        labels = tuple(head[answer + 1 :])
        label_ids, predicted = ([labels.index(row[place]) for row in rows] for place in (label, answer))
        values = np.array([list(map(float, row[answer + 1 :])) for row in rows]).reshape(len(rows), len(labels))
    except FileNotFoundError as error:
        raise damaged("is missing") from error
    except (OSError, IndexError, ValueError, csv.Error) as error:
        raise damaged("cannot be read") from error
    if "test" not in (splits := dict.fromkeys(row[split] for row in rows)):
        raise damaged("holds no test tracks")
    if (values < 0).any():
        raise damaged("has a row with a probability below 0")
    if not np.allclose(values.sum(axis=1), 1, rtol=0, atol=len(labels) * OFF):
        raise damaged("has a row whose probabilities do not add up to 1")
    items, predicted = np.arange(len(rows)), np.array(predicted, dtype=np.int64)
    if (values[items, predicted] < values.max(axis=1)).any():
        raise damaged("has a row that predicts another label than the most probable one")
    tied = items[values.argmax(axis=1) != predicted]
    values[tied, predicted[tied]] += ROUNDING / 2
    values /= values.sum(axis=1, keepdims=True)
    found = {}
    for name in splits:
        of = [item for item in items if rows[item][split] == name]
        tracks, groups = ([rows[item][place] for item in of] for place in (track, group))
        known = tuple(group or None for group in groups)
        found[name] = Predictions(labels, tuple(tracks), known, np.array(label_ids)[of], values[of])
    return found


def label_order(labels: Sequence[str], wanted: Sequence[str], names: tuple[str, str]) -> list[int]:
    """Positions of the wanted names: `probabilities[..., label_order(...)]` has its columns in their order.

    names: of whose labels the wanted ones are, and of whose these are. Raises UserError where they are not the same.

    >>> label_order(["jazz", "blues"], ["blues", "jazz"], ("first", "other"))
    [1, 0]
    """
    if sorted(labels) != sorted(wanted):
        raise UserError(
            f"the labels of {names[0]} and {names[1]} differ: {_apart(names, wanted, labels)}; "
            "take models of the same labels"
        )
    return [list(labels).index(label) for label in wanted]


def in_order_of(first: Predictions, other: Predictions, names: tuple[str, str], split: str = "test") -> Predictions:
    """The other's predictions with tracks and labels in the order of the first's.

    names: of the first and the other. Raises UserError where their labels, their tracks, or what they know of these
    differ, and for two tracks of one name.
    """
    columns = label_order(other.labels, first.labels, names)
    for name, said in zip(names, (first, other), strict=True):
        if len(set(said.tracks)) < len(said.tracks):
            raise UserError(f"{name} has two {split} tracks of one name; give them names of their own")
    if set(first.tracks) != set(other.tracks):
        shared = len(set(first.tracks) & set(other.tracks))
        counts = f"{len(first.tracks)} and {len(other.tracks)} with {shared} in common"
        raise UserError(
            f"{names[0]} and {names[1]} have other {split} tracks, {counts} "
            f"({_apart(names, first.tracks, other.tracks)}): one may have been trained on what the other is tested on; "
            "take runs of the same data, --split_scheme, --split_seed and --fold"
        )
    places = {track: place for place, track in enumerate(other.tracks)}
    rows = [places[track] for track in first.tracks]
    moved = Predictions(
        first.labels,
        first.tracks,
        tuple(other.groups[row] for row in rows),
        np.argsort(columns)[other.label_ids[rows]],
        other.probabilities[rows][:, columns],
    )
    for what, one, two in (("label", first.label_ids, moved.label_ids), ("group", first.groups, moved.groups)):
        apart = [track for track, a, b in zip(first.tracks, one, two, strict=True) if a != b]
        if apart:
            raise UserError(
                f"{names[0]} and {names[1]} know another {what} of {len(apart)} {split} tracks ({_some(apart)}); "
                "run one of them again, on the data of the other"
            )
    return moved


def _apart(names: tuple[str, str], these: Sequence[str], those: Sequence[str]) -> str:
    alone = ([item for item in these if item not in set(those)], [item for item in those if item not in set(these)])
    return "; ".join(f"only {name} has {_some(items)}" for name, items in zip(names, alone, strict=True) if items)


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:NAMED]) + (f" and {len(items) - NAMED} more" if len(items) > NAMED else "")
