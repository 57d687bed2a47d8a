"""What models say of the same held-out tracks: read from their runs or heard; put together, and weighed."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from hf_musiclf.crossvalidation import ROUNDING
from hf_musiclf.data.tracks import Tracks
from hf_musiclf.ensembles.folders import Member
from hf_musiclf.ensembles.scoring import ReadOnce
from hf_musiclf.errors import UserError
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.mixtures import checked_weights, fit_weights, label_order, mix

SPLITS = ("validation", "test")
COLUMNS = ("split", "track", "group", "label", "predicted")  # of predictions.csv, before the labels
WAY_OUT = "train both with the same data, --split_scheme and --split_seed"


@dataclass(frozen=True)
class Row:
    """A held-out track. group: None where unknown."""

    track: str
    group: str | None
    label: str


@dataclass(frozen=True)
class Predictions:
    """What one model says. rows: split -> its tracks; probabilities: split -> `(tracks, labels)` float64."""

    name: str
    labels: tuple[str, ...]
    rows: dict[str, list[Row]]
    probabilities: dict[str, np.ndarray]


@dataclass(frozen=True)
class Together:
    """What all members say of a split.

    label_ids: `(tracks,)`. probabilities: `(members, tracks, labels)`.
    """

    rows: list[Row]
    label_ids: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Mixture:
    """Members that were held out from the same tracks, and their weights. validation: None where theirs differ."""

    labels: tuple[str, ...]
    weights: np.ndarray
    test: Together
    validation: Together | None

    def mixed(self, split: str) -> np.ndarray:
        """`(tracks, labels)`: the probabilities of the ensemble."""
        return mix(getattr(self, split).probabilities, self.weights)


def read_predictions(member: Member) -> Predictions | None:
    """The predictions.csv of a run, rows scaled to sum 1 as they are written with six digits; None where there is none.

    Raises UserError for a damaged one.
    """
    path = member.folder / "predictions.csv"
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        labels = tuple(header[len(COLUMNS) :])
        rows = {
            split: [Row(line[1], line[2] or None, line[3]) for line in lines if line[0] == split] for split in SPLITS
        }
        values = {split: [line[len(COLUMNS) :] for line in lines if line[0] == split] for split in SPLITS}
        numbers = {split: np.array(of, dtype=np.float64).reshape(-1, len(labels)) for split, of in values.items()}
        sums = {split: of.sum(1, keepdims=True) for split, of in numbers.items()}
        near_1 = all(np.allclose(of, 1, rtol=0, atol=len(labels) * ROUNDING) for of in sums.values())
        if not (tuple(header[: len(COLUMNS)]) == COLUMNS and rows["test"] and near_1):
            raise ValueError("no header, no test tracks, or rows of another sum than 1")
        if not {row.label for of in rows.values() for row in of} <= set(labels):
            raise ValueError("a label without a column")
    except (OSError, IndexError, ValueError, csv.Error) as error:
        raise UserError(f"{member.name} is damaged: its predictions.csv cannot be used") from error
    return Predictions(member.name, labels, rows, {split: numbers[split] / sums[split] for split in SPLITS})


def hear(names: Sequence[str], models: Sequence[TrackClassifier], tracks: Tracks) -> list[Predictions]:
    """What models say of the validation and test tracks, each by its own windows, as `TrackClassifier` scores files."""
    columns = {name: tracks.table.column(name) for name in ("track", "label")}
    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    said: list[dict[str, list[np.ndarray]]] = [{split: [] for split in SPLITS} for _ in models]
    for split in SPLITS:
        for item in tqdm(tracks.splits[split], desc=f"Hearing {split}", unit="track"):
            audio = tracks.table.rows[int(item)]["audio"]
            label = tracks.labels[columns["label"][item]]
            rows[split].append(Row(columns["track"][item], tracks.table.groups[item], label))
            read = ReadOnce(audio)
            for model, of_model in zip(models, said, strict=True):
                of_model[split].append(model(audio, read=read).probabilities)
    return [
        Predictions(
            name,
            model.labels,
            rows,
            {split: np.array(found).reshape(-1, len(model.labels)) for split, found in of_model.items()},
        )
        for name, model, of_model in zip(names, models, said, strict=True)
    ]


def put_together(members: Sequence[Predictions], split: str) -> Together:
    """Rows and labels of all in the order of the first. Raises UserError where tracks, groups or labels differ."""
    first, stacked = members[0], []
    for member in members:
        order = label_order(member.labels, first.labels, member.name)
        places = {row.track: place for place, row in enumerate(member.rows[split])}
        if len(places) < len(member.rows[split]):
            raise UserError(f"{member.name} has two {split} tracks of one name; give them names of their own")
        expected = {row.track: row for row in first.rows[split]}
        if places.keys() != expected.keys():
            common = len(places.keys() & expected.keys())
            raise UserError(
                f"{member.name} and {first.name} have other {split} tracks, {len(places)} and {len(expected)}, "
                f"{common} of them the same: one may have been trained on what the other is tested on; {WAY_OUT}"
            )
        for row in member.rows[split]:
            if row != expected[row.track]:
                of_both = [
                    f"{found.label} of {found.group or 'no known group'}" for found in (row, expected[row.track])
                ]
                told = f"{member.name} has {row.track} as {of_both[0]}, {first.name} as {of_both[1]}"
                raise UserError(f"{told}; {WAY_OUT}")
        stacked.append(member.probabilities[split][[places[row.track] for row in first.rows[split]]][:, order])
    label_ids = np.array([first.labels.index(row.label) for row in first.rows[split]], dtype=np.int64)
    return Together(first.rows[split], label_ids, np.stack(stacked))


def make_mixture(members: Sequence[Predictions], weights: str | Sequence[float]) -> Mixture:
    """Members on the same tracks. weights: equal, fit (on validation alone), or one a member.

    Raises UserError as `put_together` does, of validation only where weights are to be fitted.
    """
    test, validation = put_together(members, "test"), None
    try:
        validation = put_together(members, "validation")
    except UserError:
        if weights == "fit":
            raise
    if weights == "fit":
        if not validation.rows:
            raise UserError("weights=fit needs validation tracks, and there are none; use equal")
        fitted = fit_weights(validation.probabilities, validation.label_ids)
    else:
        fitted = checked_weights(None if weights == "equal" else weights, len(members))
    return Mixture(members[0].labels, fitted, test, validation if validation and validation.rows else None)
