import numpy as np
import pytest

from hf_musiclf.windows import evenly_spread, random_window_start, seconds_to_samples, window_starts


@pytest.mark.parametrize("n_samples", [1, 99, 100, 101, 199, 200, 250, 1000])
@pytest.mark.parametrize("hop", [1, 33, 100])
def test_windows_cover_every_sample_and_nothing_else(n_samples, hop):
    covered = np.zeros(max(n_samples, 100), int)
    starts = window_starts(n_samples, window=100, hop=hop)
    for start in starts:
        covered[start : start + 100] += 1
    assert (covered[:n_samples] >= 1).all()
    assert starts == sorted(set(starts))
    if n_samples >= 100:
        assert starts[-1] + 100 == n_samples  # no window reaches past the track


def test_windows_without_overlap_are_as_few_as_can_be():
    assert window_starts(300, 100, 100) == [0, 100, 200]
    assert len(window_starts(301, 100, 100)) == 4


@pytest.mark.parametrize("hop", [0, -1, 101])
def test_a_hop_that_would_skip_samples_is_refused(hop):
    with pytest.raises(ValueError, match=rf"hop={hop} must lie in 1\.\.100"):
        window_starts(1000, window=100, hop=hop)


@pytest.mark.parametrize("n", [1, 2, 7, 36, 100])
@pytest.mark.parametrize("at_most", [1, 2, 5, 12, 200])
def test_windows_that_are_spread_stand_for_every_part_of_a_track(n, at_most):
    chosen = evenly_spread(n, at_most)
    assert len(chosen) == min(n, at_most) and set(chosen) <= set(range(n))
    distances = np.diff(chosen)
    assert len(chosen) == 1 or (distances.min() >= 1 and distances.max() - distances.min() <= 1)
    # Both ends are as far from what is chosen as half a distance, rounded.
    assert abs(chosen[0] - (n - 1 - chosen[-1])) <= 1 and chosen[0] <= n / len(chosen) / 2


def test_random_window_is_a_function_of_seed_epoch_and_track():
    def draw(seed, epoch):
        return [random_window_start(10_000, 100, seed, epoch, track) for track in range(50)]

    assert draw(0, 3) == draw(0, 3)
    assert draw(0, 3) != draw(0, 4)
    assert draw(0, 3) != draw(1, 3)


def test_random_windows_reach_both_ends_evenly():
    starts = np.array([random_window_start(110, 100, 0, epoch, 7) for epoch in range(2000)])
    counts = np.bincount(starts, minlength=11)
    assert len(counts) == 11 and starts.min() == 0 and starts.max() == 10
    # 2,000 draws over 11 starts: 182 each, standard deviation 13; five of these either way.
    assert np.abs(counts - 2000 / 11).max() < 65


def test_a_short_track_has_one_window_at_its_start():
    assert random_window_start(50, 100, 0, 0, 0) == 0
    assert seconds_to_samples(0.1, 22_050) == 2205
