"""Truths of differences: paired, over groups; they turn with the models, and a model has none with itself."""

import numpy as np
import pytest
from scipy import stats

from hf_musiclf.intervals import BOOTSTRAPPED, bootstrap_intervals, resample
from hf_musiclf.metrics import classification_metrics
from hf_musiclf.probabilities import softmax
from hf_musiclf.significance import holm, mcnemar, paired_differences


def models(seed=0, n=90, n_labels=4):
    """`(n, n_labels)` probabilities of a good and a fair model, `(n,)` labels, and groups of three items."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_labels, size=n)
    logits = rng.normal(size=(2, n, n_labels))
    logits[:, np.arange(n), labels] += np.array([1.5, 0.8])[:, None]
    return *softmax(logits), labels, [f"artist {item // 3}" for item in range(n)]


def certain(predicted, n_labels=4):
    return np.eye(n_labels)[predicted]


def test_differences_are_those_of_the_metrics_and_turn_with_the_models():
    good, fair, labels, groups = models()
    found, turned = (paired_differences(*pair, labels, groups) for pair in ((good, fair), (fair, good)))
    scores = [classification_metrics(model, labels) for model in (good, fair)]
    for name in BOOTSTRAPPED:
        assert found[name] == pytest.approx(scores[0][name] - scores[1][name]) == pytest.approx(-turned[name])
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high
        assert turned[f"{name}_interval"] == pytest.approx([-high, -low])


def test_the_interval_of_a_difference_is_that_of_the_same_resamples_as_each_models_own():
    good, _, labels, groups = models()
    never = np.full_like(good, 0.25)  # log(4) nats of every item, and so of every resample
    own = bootstrap_intervals(good, labels, groups)
    found = paired_differences(good, never, labels, groups)
    assert found["log_loss_interval"] == pytest.approx(np.array(own["log_loss"]) - np.log(4))
    # What is always wrong scores 0 of every resample.
    found = paired_differences(good, certain((labels + 1) % 4), labels, groups)
    for name in ("accuracy", "macro_precision", "macro_recall"):
        assert found[f"{name}_interval"] == pytest.approx(own[name]), name


@pytest.mark.parametrize("groups", [None, "the same"])
def test_nothing_tells_of_the_spread_where_models_do_not_differ_or_there_is_one_group(groups):
    good, fair, labels, _ = models()
    found = paired_differences(good, good if groups is None else fair, labels, [groups] * len(labels))
    assert all(found[f"{name}_interval"] is None for name in BOOTSTRAPPED)
    assert (found["accuracy"] == found["log_loss"] == 0) == (groups is None)


def test_what_no_model_defines_does_not_differ():
    good, fair, _, groups = models()
    found = paired_differences(good, fair, np.zeros(len(good), dtype=int), groups)
    assert found["roc_auc"] is None and found["roc_auc_interval"] is None
    assert found["accuracy"] is not None


def test_a_resample_without_a_label_scores_the_labels_it_has():
    """Two groups, of one label each: three resamples are there, and two of them lack a label."""
    labels, groups = np.array([0, 0, 1, 1]), ["a", "a", "b", "b"]
    first, second = certain([0, 0, 1, 0], 2), certain([0, 0, 0, 0], 2)
    drawn = [resample(model, labels, groups).drawn for model in (first, second)]
    assert set(drawn[0]["balanced_accuracy"].tolist()) == {1, 0.75, 0.5}  # of a alone, of both, of b alone
    assert set(drawn[0]["macro_recall"].tolist()) == {1, 0.75, 0.25}  # of b alone 0 is predicted, and counts
    differences = set((drawn[0]["balanced_accuracy"] - drawn[1]["balanced_accuracy"]).tolist())
    assert differences == {0, 0.25, 0.5}
    found = paired_differences(first, second, labels, groups)
    assert found["balanced_accuracy"] == 0.25 and found["balanced_accuracy_interval"] == [0, 0.5]


def test_what_is_hard_for_both_cancels_out():
    rng = np.random.default_rng(1)
    labels, missed = rng.integers(4, size=200), rng.random(200) < 0.4
    second = certain(np.where(missed, (labels + 1) % 4, labels))
    missed[np.flatnonzero(missed)[:6]] = False
    first = certain(np.where(missed, (labels + 1) % 4, labels))
    low, high = paired_differences(first, second, labels, [None] * 200)["accuracy_interval"]
    alone = bootstrap_intervals(second, labels, [None] * 200)["accuracy"]
    assert 0 < low < 6 / 200 < high and high - low < (alone[1] - alone[0]) / 2


def simulated(rng, n_groups, size=5, rates=(0.7, 0.6)):
    """Two models right with these rates, hard and easy groups shared: probabilities of both, labels, groups."""
    ease = rng.normal(size=(n_groups, 1)).repeat(size, axis=1)
    right = [ease + 0.5 * rng.normal(size=ease.shape) < stats.norm.ppf(rate, scale=1.25**0.5) for rate in rates]
    labels = rng.integers(2, size=n_groups * size)
    said = [certain(np.where(hits.ravel(), labels, 1 - labels), 2) for hits in right]
    return *said, labels, np.arange(n_groups).repeat(size)


def test_the_interval_covers_what_was_simulated_over_groups():
    rng = np.random.default_rng(2)
    covered, widths = 0, np.zeros(2)
    for _ in range(200):
        first, second, labels, groups = simulated(rng, n_groups=60)
        low, high = paired_differences(first, second, labels, groups, n_resamples=300)["accuracy_interval"]
        covered += low <= 0.1 <= high
        alone = bootstrap_intervals(first, labels, groups, n_resamples=300)["accuracy"]
        widths += high - low, alone[1] - alone[0]
    # 95 % nominal, minus four binomial standard errors of 1.5 % and the small-sample deficit of percentiles.
    assert 0.88 < covered / 200 < 1
    # What makes a group hard for both cancels out: unpaired, a difference would be wider than one model's accuracy.
    assert widths[0] < 0.8 * widths[1]


def test_mcnemars_p_is_that_of_the_coin_counted_by_hand():
    # One alone right on 8 tracks, the other alone on 2: P(at most 2 of 10 heads) = (1 + 10 + 45) / 1024, both tails.
    first = np.array([True] * 8 + [False] * 2 + [True] * 30 + [False] * 5)
    second = np.array([False] * 8 + [True] * 2 + [True] * 30 + [False] * 5)
    found = mcnemar(first, second)
    assert (found["only_first"], found["only_second"]) == (8, 2)
    assert found["p"] == pytest.approx(2 * 56 / 1024)
    assert mcnemar(second, first) == {"only_first": 2, "only_second": 8, "p": found["p"]}
    assert mcnemar(first, first) == {"only_first": 0, "only_second": 0, "p": 1.0}


def test_holm_steps_down_from_the_smallest_and_never_falls():
    # 3 * 0.01; 2 * 0.02 after it; then 0.9. And 2 * 0.03 holds up the larger 0.04.
    assert holm([0.9, 0.01, 0.02]) == pytest.approx([0.9, 0.03, 0.04])
    assert holm([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert holm([0.7, 0.8]) == [1.0, 1.0] and holm([0.2]) == [0.2]
