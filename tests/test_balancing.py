"""Balancing gives every label the same say in training, and leaves everything else as it is."""

import numpy as np
import pytest
import torch
from recipe_runs import data_flags, flags, recipe

from hf_musiclf.arguments import DataArguments, parse_recipe
from hf_musiclf.balancing import class_weights, oversampled
from hf_musiclf.data.loading import cut_windows, load_tracks
from hf_musiclf.data.tracks import Tracks
from hf_musiclf.errors import UserError
from hf_musiclf.trainer import MusicTrainer

LABELS = np.array([0] * 11 + [1] * 4 + [2] * 3)
ROWS = np.arange(100, 118)
RATE = 8000


def test_oversampled_labels_come_equally_often_and_so_do_the_rows_of_each():
    rows = oversampled(ROWS, LABELS, seed=3)
    assert rows[: len(ROWS)].tolist() == ROWS.tolist()
    times = np.bincount(rows - 100)
    assert [times[LABELS == label].sum() for label in range(3)] == [11, 11, 11]
    assert all(np.ptp(times[LABELS == label]) <= 1 for label in range(3))
    assert (times[LABELS == 0] == 1).all()


def test_what_is_left_over_follows_the_seed():
    assert oversampled(ROWS, LABELS, 0).tolist() == oversampled(ROWS, LABELS, 0).tolist()
    assert len({tuple(oversampled(ROWS, LABELS, seed)) for seed in range(9)}) > 1


def test_equal_labels_stay_as_they_are():
    assert oversampled([3, 1, 2], [0, 1, 2]).tolist() == [3, 1, 2]
    assert class_weights([0, 1, 2], 3).tolist() == [1, 1, 1]
    assert oversampled([], []).tolist() == []


def test_weights_give_every_label_the_same_total_and_a_mean_of_one():
    weights = class_weights(LABELS, 4)
    totals = [weights[LABELS[LABELS == label]].sum() for label in range(3)]
    assert totals == pytest.approx([6, 6, 6])
    assert weights[LABELS].mean() == pytest.approx(1)
    assert weights[3] == 0


@pytest.mark.parametrize("power, expected", [(0.5, [16, 8, 4]), (0.25, [16, 6, 2]), (1.0, [16, 16, 16])])
def test_a_power_takes_a_part_of_the_way(power, expected):
    """Of 16, 4 and 1: the geometric mean with the most frequent one at a half."""
    labels = np.repeat([0, 1, 2], [16, 4, 1])
    rows = oversampled(np.arange(21), labels, power=power)
    assert np.bincount(labels[rows]).tolist() == expected
    weights = class_weights(labels, 3, power)
    assert weights[labels].mean() == pytest.approx(1)
    np.testing.assert_allclose(weights / weights[0], [1, 4**power, 16**power])


@pytest.fixture(scope="module")
def unequal(corpus):
    """Tracks of the corpus, of whose first label two training tracks are left."""
    args = DataArguments(**{key: str(value) for key, value in data_flags(corpus).items()}, window_seconds=0.5)
    tracks = load_tracks(args, verbose=False)
    labels, train = np.asarray(tracks.table.column("label")), tracks.splits["train"]
    first = train[labels[train] == 0]
    splits = {**tracks.splits, "train": np.setdiff1d(train, first[2:])}
    return args, Tracks(tracks.table, splits, tracks.split_scheme, tracks.split_seed, tracks.leakage)


@pytest.mark.parametrize("train_windows", ["random", "all"])
def test_only_training_is_oversampled(unequal, train_windows):
    args, tracks = unequal
    plain, balanced = (
        cut_windows(tracks, DataArguments(**{**vars(args), "balance": balance, "train_windows": train_windows}), RATE)
        for balance in ("none", "oversample")
    )
    for split in ("validation", "test"):
        assert balanced[split].rows.tolist() == plain[split].rows.tolist() == tracks.splits[split].tolist()
    counts = np.bincount(balanced["train"].label_of_track)
    assert (counts == counts.max()).all() and np.bincount(plain["train"].label_of_track)[0] == 2
    assert set(balanced["train"].rows) == set(plain["train"].rows)


def test_a_repeated_track_shows_another_window_each_time(unequal):
    args, tracks = unequal
    train = cut_windows(tracks, DataArguments(**{**vars(args), "balance": "oversample"}), RATE)["train"]
    repeated = np.flatnonzero(train.rows == train.rows[train.label_of_track == 0][0])
    shown = {train[int(position)]["waveform"].tobytes() for position in repeated}
    assert len(repeated) > 2 and len(shown) == len(repeated)


def test_weighted_loss_is_the_mean_of_weighted_cross_entropies_in_training_alone(corpus, tmp_path, monkeypatch):
    seen, plain = [], MusicTrainer.compute_loss

    def compute_loss(self, model, inputs, *args, **kwargs):
        found = plain(self, model, dict(inputs), *args, **kwargs)
        with torch.no_grad():
            outputs = model(**{key: value for key, value in inputs.items() if key != "labels"})
        loss = found[0] if isinstance(found, tuple) else found
        losses = torch.nn.functional.cross_entropy(outputs["logits"], inputs["labels"], reduction="none")
        weights = self.class_weights[inputs["labels"]]
        seen.append((model.training, float(loss), float((weights * losses).mean()), float(losses.mean())))
        return found

    monkeypatch.setattr(MusicTrainer, "compute_loss", compute_loss)
    monkeypatch.setattr("hf_musiclf.experts.class_weights", lambda labels, n_labels, power: np.arange(n_labels) / 4.5)
    changes = dict(balance="weighted_loss", max_steps=2, output_dir=tmp_path / "run")
    no_dropout = "hidden_size=32,num_hidden_layers=2,num_attention_heads=2,intermediate_size=32,num_mel_bins=64,"
    no_dropout += "frequency_stride=16,time_stride=16,hidden_dropout_prob=0,attention_probs_dropout_prob=0"
    recipe().main(flags(**data_flags(corpus), **changes, model_config=no_dropout))
    assert {training for training, *_ in seen} == {True, False}
    for training, loss, weighted, unweighted in seen:
        assert loss == pytest.approx(weighted if training else unweighted, rel=1e-5)
        assert weighted != pytest.approx(unweighted, rel=1e-3)


def test_unknown_ways_to_balance_are_refused():
    with pytest.raises(UserError, match="balance='smote' is not known; choose none, oversample or weighted_loss"):
        parse_recipe({}, ["--balance", "smote"])
