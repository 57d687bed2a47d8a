"""predictions.csv: what is read is what was written, in whatever order, and nothing else passes for it."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from hf_musiclf.errors import UserError
from hf_musiclf.predictions import COLUMNS, Predictions, in_order_of, joined, read_predictions, write_predictions
from hf_musiclf.probabilities import softmax

LABELS = ("track", "a,b", 'say "jazz"', "größer")  # a label may be called as a column, and may hold what CSV quotes


def some(seed=0, n=12, labels=LABELS):
    rng = np.random.default_rng(seed)
    groups = tuple(None if item % 5 == 0 else f"artist {item // 2}" for item in range(n))
    logits = rng.normal(size=(n, len(labels)))
    tracks = tuple(f"{seed}, track {item}" for item in range(n))
    return Predictions(labels, tracks, groups, rng.integers(len(labels), size=n), softmax(logits))


def same(found, expected, atol=1e-6):
    assert (found.labels, found.tracks, found.groups) == (expected.labels, expected.tracks, expected.groups)
    assert found.label_ids.tolist() == expected.label_ids.tolist()
    assert found.predicted.tolist() == expected.predicted.tolist()
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=atol)
    return True


def test_what_is_read_is_what_was_written(tmp_path):
    expected = {"validation": some(1), "test": some(2)}
    write_predictions(tmp_path / "predictions.csv", [expected])
    found = read_predictions(tmp_path)
    assert list(found) == ["validation", "test"]
    assert all(same(found[split], expected[split]) for split in expected)
    np.testing.assert_allclose(found["test"].probabilities.sum(axis=1), 1, rtol=1e-15)


def test_folds_are_numbered_and_read_as_one(tmp_path):
    folds = [some(1), some(2)]
    write_predictions(tmp_path / "predictions.csv", [{"test": fold} for fold in folds])
    assert same(read_predictions(tmp_path)["test"], joined(folds))
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["fold", *COLUMNS, *LABELS] and [row[0] for row in rows] == ["1"] * 12 + ["2"] * 12


@pytest.mark.parametrize("predicted", [0, 1, 2])
def test_a_tie_of_the_written_digits_goes_to_what_was_predicted(tmp_path, predicted):
    close = np.full((1, 4), [1 / 3, 1 / 3, 1 / 3, 0.0])
    close[0, predicted] += 1e-8
    said = Predictions(LABELS, ("x",), (None,), np.array([0]), close)
    write_predictions(tmp_path / "predictions.csv", [{"test": said}])
    assert same(read_predictions(tmp_path)["test"], said)


@pytest.mark.parametrize(
    ("fault", "damage"),
    [
        ("cannot be read", lambda rows: [*rows[:-1], rows[-1][:-1]]),
        ("cannot be read", lambda rows: [*rows, ["test"]]),
        ("cannot be read", lambda rows: [*rows[:-1], [*rows[-1][:3], "polka", *rows[-1][4:]]]),
        ("cannot be read", lambda rows: [["a", "b"], *rows[1:]]),
        ("cannot be read", lambda rows: []),
        ("holds no test tracks", lambda rows: rows[:1]),
        ("holds no test tracks", lambda rows: [rows[0], *(["validation", *row[1:]] for row in rows[1:])]),
        ("has a row whose probabilities do not add up to 1", lambda rows: [*rows[:-1], [*rows[-1][:-1], "0.9"]]),
        ("has a row whose probabilities do not add up to 1", lambda rows: [*rows[:-1], [*rows[-1][:-1], "nan"]]),
        (
            "has a row with a probability below 0",
            lambda rows: [*rows[:-1], [*rows[-1][:5], "0.9", "0.5", "-0.4", "0"]],
        ),
        (
            "has a row that predicts another label than the most probable one",
            lambda rows: [*rows[:-1], [*rows[-1][:5], "0.1", "0.1", "0.3", "0.5"]],
        ),
    ],
)
def test_a_damaged_file_is_told_with_the_way_out(tmp_path, fault, damage):
    said = some(3)
    said = replace(said, probabilities=np.roll(np.sort(said.probabilities, axis=1), 1, axis=1))  # the first one wins
    path = write_predictions(tmp_path / "predictions.csv", [{"test": said}])
    with path.open(encoding="utf-8", newline="") as file:
        rows = damage(list(csv.reader(file)))
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(UserError, match=rf"is damaged: its predictions\.csv {fault}; try again$"):
        read_predictions(tmp_path, "try again")
    path.unlink()
    with pytest.raises(UserError, match=r"is damaged: its predictions\.csv is missing; run it again$"):
        read_predictions(tmp_path)


def shuffled(said, seed=0):
    """The same predictions with tracks and labels in another order."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(said.tracks)), rng.permutation(len(said.labels))
    return Predictions(
        tuple(said.labels[column] for column in columns),
        tuple(said.tracks[row] for row in rows),
        tuple(said.groups[row] for row in rows),
        np.argsort(columns)[said.label_ids[rows]],
        said.probabilities[rows][:, columns],
    )


@pytest.mark.parametrize("seed", range(5))
def test_another_order_of_tracks_and_labels_says_the_same(seed):
    said = some(4)
    assert same(in_order_of(said, shuffled(said, seed), ("one", "other")), said, atol=0)


def test_what_is_not_of_the_same_tracks_is_refused():
    first = some(5)

    def refused(match, **changes):
        with pytest.raises(UserError, match=match):
            in_order_of(first, replace(first, **changes), ("one", "other"), "validation")

    refused(
        "the labels of one and other differ: only one has track; only other has polka", labels=("polka", *LABELS[1:])
    )
    refused(
        r"one and other have other validation tracks, 12 and 12 with 11 in common \(only one has 5, track 0; ",
        tracks=("x", *first.tracks[1:]),
    )
    refused("other has two validation tracks of one name", tracks=(first.tracks[1], *first.tracks[1:]))
    refused(
        r"know another label of 12 validation tracks \(5, track 0, 5, track 1, 5, track 2 and 9 more\)",
        label_ids=(first.label_ids + 1) % 4,
    )
    refused("know another group of 1 validation tracks", groups=("x", *first.groups[1:]))
