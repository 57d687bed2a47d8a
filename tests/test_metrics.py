"""Truths of scores: they equal scikit-learn's, a perfect prediction scores 1, and windows of a track stay together."""

import json
import socket
import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as sk

from hf_musiclf import metrics
from hf_musiclf.intervals import BOOTSTRAPPED
from hf_musiclf.metrics import choice_metrics, classification_metrics, macro_roc, score_windows
from hf_musiclf.probabilities import softmax


def problem(seed, n, n_classes, used=None, decimals=None):
    """Random probabilities `(n, classes)` with labels `(n,)` among `used`; few decimals make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(used if used is not None else n_classes, size=n)
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), labels] += 1
    if decimals is not None:
        logits = logits.round(decimals)
    return softmax(logits), labels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("n", "n_classes", "used"), [(60, 2, None), (300, 10, None), (40, 25, None), (200, 6, [0, 2, 5])]
)
@pytest.mark.filterwarnings("ignore:y_pred contains classes:UserWarning")
def test_metrics_equal_scikit_learn(seed, n, n_classes, used):
    probabilities, labels = problem(seed, n, n_classes, used)
    predicted, ids = probabilities.argmax(axis=1), np.arange(n_classes)
    scores = classification_metrics(probabilities, labels)
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "macro_f1": sk.f1_score(labels, predicted, average="macro", zero_division=0),
        "macro_precision": sk.precision_score(labels, predicted, average="macro", zero_division=0),
        "macro_recall": sk.recall_score(labels, predicted, average="macro", zero_division=0),
        "log_loss": sk.log_loss(labels, probabilities, labels=ids),
    }
    if n_classes > 3:
        expected["top_3_accuracy"] = sk.top_k_accuracy_score(labels, probabilities, k=3, labels=ids)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert scores["confusion"] == sk.confusion_matrix(labels, predicted, labels=ids).tolist()
    report = sk.precision_recall_fscore_support(labels, predicted, labels=ids, zero_division=0)
    for name, column in zip(("precision", "recall", "f1", "support"), report, strict=True):
        assert [entry[name] for entry in scores["per_class"]] == pytest.approx(column.tolist())
    assert scores["n"] == n
    few = choice_metrics(probabilities, labels)
    assert few == {name: scores[name] for name in ("accuracy", "macro_f1", "log_loss")}


@pytest.mark.parametrize("n_classes", [2, 5, 10])
def test_roc_auc_equals_scikit_learn(n_classes):
    probabilities, labels = problem(5, 400, n_classes, decimals=0)
    expected = sk.roc_auc_score(np.eye(n_classes)[labels], probabilities, average="macro")
    assert classification_metrics(probabilities, labels)["roc_auc"] == pytest.approx(expected, rel=1e-12)


def test_roc_auc_is_the_mean_over_the_classes_where_it_is_defined():
    probabilities, labels = problem(6, 100, 4, used=[1, 3])
    scores = classification_metrics(probabilities, labels)
    areas = [entry["roc_auc"] for entry in scores["per_class"]]
    assert areas[0] is None and areas[2] is None
    assert scores["roc_auc"] == pytest.approx((areas[1] + areas[3]) / 2)
    assert classification_metrics(probabilities, np.ones(100, dtype=int))["roc_auc"] is None


@pytest.mark.parametrize("decimals", [None, 0])
def test_the_area_under_the_mean_curve_is_the_macro_auc(decimals):
    probabilities, labels = problem(4, 40, 4, decimals=decimals)
    curve = macro_roc(probabilities, labels)
    assert sk.auc(*curve) == pytest.approx(classification_metrics(probabilities, labels)["roc_auc"], rel=1e-12)
    assert all((np.diff(axis) >= 0).all() for axis in curve)
    assert macro_roc(probabilities[labels == 0], labels[labels == 0]) is None


def test_perfect_prediction_scores_one():
    labels = np.arange(30) % 5
    scores = classification_metrics(np.eye(5)[labels], labels)
    for name in set(BOOTSTRAPPED) - {"log_loss"}:
        assert scores[name] == 1
    assert scores["log_loss"] == pytest.approx(0)
    assert scores["confusion"] == (6 * np.eye(5, dtype=int)).tolist()


def test_uniform_probabilities_break_ties_alike_in_accuracy_and_top_3():
    labels = np.arange(10)
    scores = classification_metrics(np.full((10, 10), 0.1), labels)
    assert (scores["accuracy"], scores["top_3_accuracy"]) == (0.1, 0.3)
    assert scores["log_loss"] == pytest.approx(np.log(10))


def test_windows_of_a_track_without_a_group_stay_together():
    probabilities, labels = problem(15, 40, 4)
    probabilities, labels, tracks = probabilities.repeat(5, axis=0), labels.repeat(5), np.arange(40).repeat(5)
    unknown = score_windows(probabilities, labels, [None] * 200, tracks)
    assert unknown["window"]["accuracy_interval"] == pytest.approx(unknown["track"]["accuracy_interval"])
    # A group that happens to be called like a track is not that track.
    named = score_windows(probabilities, labels, [1 if track == 0 else None for track in tracks], tracks)
    assert named == unknown


@pytest.fixture
def metric(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return metrics.MusicClassification(keep_in_memory=True, cache_dir=str(tmp_path))


def width(interval):
    return interval[1] - interval[0]


def test_the_evaluate_metric_scores_windows_and_tracks_offline(metric):
    probabilities, labels = problem(16, 30, 4)
    probabilities, labels, tracks = probabilities.repeat(3, axis=0), labels.repeat(3), np.arange(30).repeat(3)
    groups = [f"artist {track // 2}" if track % 5 else None for track in tracks - tracks % 2]
    flat = metric.compute(predictions=probabilities, references=labels)
    both = metric.compute(predictions=probabilities, references=labels, groups=groups, tracks=tracks, n_resamples=100)
    assert flat["accuracy"] == both["window"]["accuracy"] == sk.accuracy_score(labels, probabilities.argmax(axis=1))
    assert both["track"]["n"] == 30
    assert both["track"]["accuracy"] == pytest.approx(both["window"]["accuracy"])
    assert width(both["window"]["accuracy_interval"]) > width(flat["accuracy_interval"])
    assert json.loads(json.dumps(both)) == both
    assert both == score_windows(probabilities, labels, groups, tracks, n_resamples=100)


def test_the_evaluate_metric_gathers_batches(metric):
    probabilities, labels = problem(17, 50, 4)
    metric.add_batch(predictions=probabilities[:20], references=labels[:20])
    metric.add_batch(predictions=probabilities[20:], references=labels[20:])
    assert metric.compute() == score_windows(probabilities, labels)


def test_scoring_imports_neither_torch_nor_transformers_nor_matplotlib():
    code = "import sys, hf_musiclf.metrics; print(sorted({'torch', 'transformers', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_an_unknown_name_of_the_module_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'MusicClasification'"):
        metrics.MusicClasification  # noqa: B018


def test_windows_that_disagree_about_their_track_are_refused():
    probabilities = np.full((3, 4), 0.25)
    with pytest.raises(ValueError, match="labels of track 'x' differ between its windows: 0 and 1"):
        score_windows(probabilities, [0, 1, 2], tracks=["x", "x", "y"])
    with pytest.raises(ValueError, match="groups of track 'x' differ between its windows: 'a' and None"):
        score_windows(probabilities, [0, 0, 2], groups=["a", None, "b"], tracks=["x", "x", "y"])
