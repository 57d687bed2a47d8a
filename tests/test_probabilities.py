"""Truths of probabilities: a softmax is a distribution, a track's score forgets the order of its windows."""

import numpy as np
import pytest

from hf_musiclf.intervals import bootstrap_intervals
from hf_musiclf.metrics import classification_metrics
from hf_musiclf.probabilities import checked, mean_by_track, softmax

GOOD = np.full((3, 4), 0.25)


def test_softmax_is_a_shift_invariant_distribution():
    logits = np.random.default_rng(0).normal(size=(4, 3, 7)).astype(np.float32)
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1)
    np.testing.assert_allclose(softmax(logits.astype(np.float64) + 1e4), probabilities, rtol=1e-9)
    np.testing.assert_allclose(
        np.log(probabilities[..., 0] / probabilities[..., 1]), logits[..., 0] - logits[..., 1], atol=1e-6
    )


def test_shuffled_windows_give_the_same_track_score():
    rng = np.random.default_rng(1)
    probabilities = softmax(rng.normal(size=(200, 6)))
    tracks = rng.integers(20, size=200)
    ids, means = mean_by_track(probabilities, tracks)
    order = rng.permutation(200)
    shuffled_ids, shuffled = mean_by_track(probabilities[order], tracks[order])
    assert ids == list(dict.fromkeys(tracks.tolist()))
    assert shuffled_ids == list(dict.fromkeys(tracks[order].tolist()))
    np.testing.assert_allclose(shuffled[[shuffled_ids.index(track) for track in ids]], means, rtol=1e-12)
    np.testing.assert_allclose(means, [probabilities[tracks == track].mean(axis=0) for track in ids], rtol=1e-12)


def test_tracks_may_be_named_by_strings():
    ids, means = mean_by_track(np.eye(2)[[0, 1, 1, 0]], np.array(["b", "a", "a", "b"]))
    assert ids == ["b", "a"]
    assert means.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([], [], r"probabilities is empty, of shape \(0,\)"),
        (GOOD, [0, 1], r"labels has shape \(2,\) for probabilities of shape \(3, 4\)"),
        (GOOD[0], [0], r"probabilities has shape \(4,\); give \(n, classes\)"),
        (GOOD[:, :1], [0, 0, 0], r"shape \(3, 1\); give \(n, classes\) with two classes"),
        (GOOD, [0, 4, 1], r"label 4 is outside 0\.\.3"),
        (GOOD, [0, -1, 1], r"label -1 is outside 0\.\.3"),
        (GOOD, [0.0, 1.0, 2.0], "labels are float64, not ints"),
        (np.where(np.eye(3, 4) * [[0], [1], [0]], np.nan, GOOD), [0, 1, 2], r"probabilities\[1\] contains NaN"),
        (GOOD * 8, [0, 1, 2], r"probabilities\[0\] has minimum 2 and sum 8; apply softmax"),
        (GOOD - [0.5, -0.5, 0, 0], [0, 1, 2], r"probabilities\[0\] has minimum -0.25 and sum 1; apply softmax"),
    ],
)
def test_bad_items_are_refused_with_their_value(probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        checked(probabilities, labels)
    with pytest.raises(ValueError, match=message):
        classification_metrics(probabilities, labels)
    with pytest.raises(ValueError, match=message):
        bootstrap_intervals(probabilities, labels, [None] * len(labels))


def test_track_ids_that_are_missing_are_refused():
    with pytest.raises(ValueError, match=r"track_ids\[1\] is missing"):
        mean_by_track(GOOD, ["x", None, "y"])
    with pytest.raises(ValueError, match="track_ids has 2 entries for 3 rows"):
        mean_by_track(GOOD, ["x", "y"])
