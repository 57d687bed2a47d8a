"""Truths of intervals: they cover, they count groups rather than items, and they equal the loop they abbreviate."""

import numpy as np
import pytest
from sklearn import metrics as sk

from hf_musiclf.intervals import BOOTSTRAPPED, _group_sums, _scores_of_resamples, bootstrap_intervals, percentiles
from hf_musiclf.probabilities import softmax


def problem(seed, n, n_classes, strength=1.0, decimals=None):
    """Random probabilities `(n, classes)` with labels `(n,)`; few decimals make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, size=n)
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), labels] += strength
    if decimals is not None:
        logits = logits.round(decimals)
    return softmax(logits), labels


def certain(predicted, n_classes):
    return np.eye(n_classes)[predicted]


def loop_scores(probabilities, labels):
    predicted, areas = probabilities.argmax(axis=1), []
    for class_id in range(probabilities.shape[1]):
        if 0 < (labels == class_id).sum() < len(labels):
            areas.append(sk.roc_auc_score(labels == class_id, probabilities[:, class_id]))
    return {
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "macro_f1": sk.f1_score(labels, predicted, average="macro", zero_division=0),
        "macro_precision": sk.precision_score(labels, predicted, average="macro", zero_division=0),
        "macro_recall": sk.recall_score(labels, predicted, average="macro", zero_division=0),
        "log_loss": sk.log_loss(labels, probabilities, labels=range(probabilities.shape[1])),
        "top_3_accuracy": np.mean(
            [label in np.argsort(-row)[:3] for row, label in zip(probabilities, labels, strict=True)]
        ),
        "roc_auc": np.mean(areas) if areas else np.nan,
    }


@pytest.mark.parametrize(
    ("n", "n_classes", "n_groups", "decimals"), [(80, 5, 12, None), (60, 8, 60, None), (120, 4, 9, 0)]
)
@pytest.mark.filterwarnings("ignore:y_pred contains classes:UserWarning", "ignore:A single label was found:UserWarning")
def test_bootstrap_equals_a_loop_that_rescores_the_resampled_items(n, n_classes, n_groups, decimals):
    probabilities, labels = problem(7, n, n_classes, strength=0.8, decimals=decimals)
    if decimals is not None:
        probabilities += np.linspace(0, 1e-6, n_classes)[::-1]  # ties between items stay, ties within an item go
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(8)
    codes = np.concatenate([np.arange(n_groups), rng.integers(n_groups, size=n - n_groups)])
    counts = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=20)
    counts[0] = 0
    counts[0, 3] = n_groups  # one group alone, where classes are surely missing
    fast = _scores_of_resamples(counts, _group_sums(probabilities, labels, codes))
    for row, count in enumerate(counts):
        items = np.repeat(np.arange(n), count[codes])
        expected = loop_scores(probabilities[items], labels[items])
        assert {name: fast[name][row] for name in expected} == pytest.approx(expected, rel=1e-10, nan_ok=True)


def test_intervals_are_quantiles_of_the_resampled_scores_and_do_not_depend_on_chunks():
    probabilities, labels = problem(9, 5000, 3)
    intervals = bootstrap_intervals(probabilities, labels, np.arange(5000), n_resamples=1000, confidence=0.9, seed=4)
    counts = np.random.default_rng(4).multinomial(5000, np.full(5000, 1 / 5000), size=1000)
    right = probabilities.argmax(axis=1) == labels
    assert intervals["accuracy"] == pytest.approx(np.quantile(counts @ right / 5000, [0.05, 0.95]))
    assert intervals["top_3_accuracy"] == [1.0, 1.0]


def test_a_resample_without_a_class_scores_the_classes_it_has():
    probabilities, labels = certain([0, 1, 1], 3), np.array([0, 1, 2])
    sums = _group_sums(probabilities, labels, np.arange(3))
    scores = _scores_of_resamples(np.array([[3, 0, 0], [0, 1, 2]]), sums)
    assert scores["balanced_accuracy"].tolist() == [1, 0.5]
    assert scores["macro_f1"].tolist() == [1, 0.25]
    assert np.isnan(scores["roc_auc"][0])


def clustered(rng, n_groups, size, rate=0.7, spread=1.0):
    """Two-class answers right with a probability drawn per group: Beta of mean `rate`, wider for a smaller `spread`."""
    right = rng.random((n_groups, size)) < rng.beta(rate * spread, (1 - rate) * spread, size=(n_groups, 1))
    labels = rng.integers(2, size=n_groups * size)
    return certain(np.where(right.ravel(), labels, 1 - labels), 2), labels, np.repeat(np.arange(n_groups), size)


def width(interval):
    return interval[1] - interval[0]


def test_the_group_interval_covers_where_the_item_interval_does_not():
    rng = np.random.default_rng(10)
    covered = np.zeros(2)
    for _ in range(200):
        probabilities, labels, groups = clustered(rng, n_groups=50, size=10)
        for which, ids in enumerate((groups, [None] * len(groups))):
            low, high = bootstrap_intervals(probabilities, labels, ids, n_resamples=300)["accuracy"]
            covered[which] += low <= 0.7 <= high
    # 95 % nominal, minus four binomial standard errors of 1.5 % and the small-sample deficit of percentiles.
    assert covered[0] / 200 > 0.88
    assert covered[1] / 200 < 0.70


def test_without_clusters_group_and_item_intervals_agree():
    probabilities, labels, groups = clustered(np.random.default_rng(11), n_groups=200, size=5, spread=1e6)
    by_group, by_item = (bootstrap_intervals(probabilities, labels, ids)["accuracy"] for ids in (groups, range(1000)))
    assert width(by_group) == pytest.approx(width(by_item), rel=0.15)


def test_duplicated_windows_do_not_shrink_the_interval():
    probabilities, labels = problem(12, 60, 5)
    groups = np.arange(60) // 2
    once = bootstrap_intervals(probabilities, labels, groups)
    tenfold = bootstrap_intervals(probabilities.repeat(10, axis=0), labels.repeat(10), groups.repeat(10))
    for name in BOOTSTRAPPED:
        assert tenfold[name] == pytest.approx(once[name])


def test_items_without_a_group_are_groups_of_their_own():
    probabilities, labels = problem(13, 50, 4)
    alone = bootstrap_intervals(probabilities, labels, [None, float("nan")] * 25)
    assert alone == bootstrap_intervals(probabilities, labels, range(50))


@pytest.mark.parametrize("n_groups", [2, 7, 40])
def test_where_all_is_right_or_wrong_the_bound_is_that_of_clopper_and_pearson(n_groups):
    labels, groups = np.arange(n_groups * 20) % 4, np.arange(n_groups * 20) % n_groups
    right = bootstrap_intervals(certain(labels, 4), labels, groups, n_resamples=50)
    wrong = bootstrap_intervals(certain((labels + 1) % 4, 4), labels, groups, n_resamples=50)
    bound = 0.025 ** (1 / n_groups)  # P(n of n right) = p^n is 2.5 % at p = bound
    for name in ("accuracy", "balanced_accuracy", "top_3_accuracy"):
        assert right[name] == pytest.approx([bound, 1])
    for name in ("accuracy", "balanced_accuracy"):
        assert wrong[name] == pytest.approx([0, 1 - bound])
    for name in ("macro_precision", "macro_recall", "macro_f1", "log_loss"):
        assert right[name] is wrong[name] is right["roc_auc"] is None


def test_where_every_resample_says_the_same_there_is_no_interval():
    """Each group half right: every resample is, and nothing tells how far other groups may lie."""
    labels, groups = np.tile([0, 1], 20), np.arange(40) // 2
    found = bootstrap_intervals(np.full((40, 2), [0.6, 0.4]), labels, groups)
    assert found == {**dict.fromkeys(BOOTSTRAPPED), "top_3_accuracy": [1.0, 1.0]}


def test_one_group_has_no_interval():
    probabilities, labels = problem(14, 30, 4)
    assert bootstrap_intervals(probabilities, labels, ["a"] * 30) == dict.fromkeys(BOOTSTRAPPED)
    assert bootstrap_intervals(certain(labels, 4), labels, ["a"] * 30) == dict.fromkeys(BOOTSTRAPPED)


def test_resamples_that_define_no_score_are_left_out():
    nowhere = np.array([np.nan, 0.2, np.nan, 0.4, np.nan])
    assert percentiles(nowhere, 0.5) == pytest.approx([0.25, 0.35])
    assert percentiles(nowhere[::2]) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": [1, 2]}, "groups has 2 entries for 3 rows"),
        ({"groups": [1, 2, 3], "n_resamples": 0}, "n_resamples=0 must be at least 1"),
        ({"groups": [1, 2, 3], "confidence": 95}, "confidence=95 must lie between 0 and 1"),
    ],
)
def test_bad_bootstrap_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_intervals(np.full((3, 4), 0.25), [0, 1, 2], **options)
