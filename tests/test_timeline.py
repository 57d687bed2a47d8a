"""The picture of a track and its predictions over time."""

import itertools
import tracemalloc

import numpy as np
import pytest
import soundfile
from matplotlib.colors import to_rgba

from hf_musiclf import timeline
from hf_musiclf.audio_readers import AudioError
from hf_musiclf.ensembles import EnsembleScores
from hf_musiclf.inference import TrackScores
from hf_musiclf.plot_style import HUES, save
from hf_musiclf.timeline import mel_spectrogram, plot_timeline, shown_labels

LABELS = ("blues", "jazz", "rock")


def tone(hertz, seconds, rate=22_050, level=0.5):
    return {"array": level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate), "sampling_rate": rate}


def scores_of(*windows, window_seconds=2.0, hop_seconds=1.0):
    starts = hop_seconds * np.arange(len(windows))
    return TrackScores(LABELS, starts, np.array(windows, float), window_seconds, starts[-1] + window_seconds)


# Over time


def test_each_moment_is_the_mean_of_the_windows_that_hold_it():
    rng = np.random.default_rng(0)
    starts = np.array([0, 0.7, 1.4, 2.1, 2.5])
    scores = TrackScores(LABELS, starts, rng.dirichlet(np.ones(3), 5), 1.5, 4.0)
    times = np.linspace(0, 4, 81)
    for time, found in zip(times[:-1], scores.over_time(times), strict=False):
        inside = (starts <= time) & (time < starts + 1.5)
        np.testing.assert_allclose(found, scores.window_probabilities[inside].mean(0), atol=1e-12)
    np.testing.assert_allclose(scores.over_time([4.0])[0], scores.window_probabilities[-1])  # its very end
    np.testing.assert_allclose(scores.ends_seconds, [1.5, 2.2, 2.9, 3.6, 4.0])


def test_a_track_within_one_window_is_the_same_throughout():
    scores = TrackScores(LABELS, np.zeros(1), np.array([[0.2, 0.5, 0.3]]), 10.0, 0.4)
    np.testing.assert_allclose(scores.over_time([0, 0.2, 0.4]), [[0.2, 0.5, 0.3]] * 3)
    assert scores.ends_seconds == [0.4]


def test_an_ensemble_is_the_weighted_mean_of_its_members_in_its_own_order_of_labels():
    one, other = scores_of([1, 0, 0], [0, 1, 0]), scores_of([0, 0, 1], [0, 0, 1])
    other = TrackScores(("rock", "blues", "jazz"), other.starts_seconds, other.window_probabilities, 2.0, 3.0)
    both = EnsembleScores(LABELS, np.array([0.4, 0.4, 0.2]), (one, other), np.array([0.75, 0.25]))
    # The other says jazz, which is its third label.
    np.testing.assert_allclose(both.over_time([0.5, 1.5]), [[0.75, 0.25, 0], [0.375, 0.375 + 0.25, 0]])
    assert both.duration_seconds == 3.0


# The spectrogram


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
@pytest.mark.parametrize("hertz", [440, 2000])
def test_a_tone_is_a_line_at_its_height(hertz, rate):
    decibels, seconds, highest = mel_spectrogram(tone(hertz, 3.0, rate))
    assert seconds == 3.0 and highest == min(rate, 22_050) / 2
    low, high = timeline.hertz_to_mel(np.array([timeline.LOWEST_HZ, highest]), "slaney")
    place = (timeline.hertz_to_mel(float(hertz), "slaney") - low) / (high - low) * timeline.MEL_BANDS
    assert set(np.abs(decibels.argmax(0) - place).round()) <= {0, 1}
    assert np.ptp(decibels.max(0)[2:-20]) < 1  # and as loud throughout


def test_a_click_stands_where_it_sounds_and_silence_is_black():
    samples = np.zeros(22_050 * 60)
    samples[22_050 * 45 : 22_050 * 45 + 100] = 0.9
    decibels, _, _ = mel_spectrogram({"array": samples, "sampling_rate": 22_050})
    assert decibels.shape == (timeline.MEL_BANDS, timeline.COLUMNS)
    loud = decibels.max(0) > timeline.SILENCE_DB + 1
    assert abs(loud.argmax() / timeline.COLUMNS - 45 / 60) < 2 / timeline.COLUMNS and loud.sum() <= 3
    assert (mel_spectrogram({"array": np.zeros(8000), "sampling_rate": 8000})[0] == timeline.SILENCE_DB).all()


def test_a_column_of_a_long_track_is_the_mean_of_what_sounds_in_it():
    rate = 4_000
    half = np.arange(rate // 2) / rate
    second = np.concatenate([np.sin(2 * np.pi * 300 * half), np.sin(2 * np.pi * 1200 * half)])
    decibels, _, highest = mel_spectrogram({"array": np.tile(second, timeline.COLUMNS), "sampling_rate": rate})
    low, high = timeline.hertz_to_mel(np.array([timeline.LOWEST_HZ, highest]), "slaney")
    places = (timeline.hertz_to_mel(np.array([300.0, 1200.0]), "slaney") - low) / (high - low) * timeline.MEL_BANDS
    both = decibels[places.astype(int)] - decibels.max(0)
    assert (both[:, 1:-1] > -6).all() and np.median(decibels - decibels.max(0)) < -30


def test_an_hour_takes_the_memory_of_a_minute(tmp_path):
    path, peaks = tmp_path / "long.wav", []
    for minutes in (3, 20):
        soundfile.write(path, np.zeros(60 * minutes * 8000, np.int16), 8000)
        tracemalloc.start()
        decibels, seconds, _ = mel_spectrogram(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert seconds == 60 * minutes and decibels.shape[1] == timeline.COLUMNS
    assert peaks[1] < 1.3 * peaks[0] + 1e6 and peaks[1] < 40e6  # 20 minutes in float32 are 38 MB, and 77 in float64


def test_what_is_no_sound_is_told():
    with pytest.raises(AudioError, match=r"nowhere\.wav: no such file"):
        mel_spectrogram("nowhere.wav")


# The picture


def test_lines_and_strip_tell_what_the_windows_say(tmp_path):
    scores = scores_of([0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8])  # 5 s
    figure = plot_timeline(tone(440, 5.0), scores, "a $song", top_k=2)
    above, strip, below, *_ = figure.axes
    lines = {line.get_label(): line for line in below.lines}
    assert list(lines) == ["0.45  jazz", "0.45  rock"]
    times, jazz = lines["0.45  jazz"].get_data()
    np.testing.assert_allclose(jazz[times < 2], 0.8)
    np.testing.assert_allclose(jazz[(times > 2) & (times < 3)], 0.45)  # a window of each
    np.testing.assert_allclose(jazz[times > 3], 0.1)
    # Where both are as probable the first leads.
    np.testing.assert_allclose([(bar.get_x(), bar.get_width()) for bar in strip.patches], [(0, 3), (3, 2)], atol=0.01)
    assert [to_rgba(line.get_color()) for line in below.lines] == [bar.get_facecolor() for bar in strip.patches]
    assert [text.get_text() for text in strip.texts] == ["jazz", "rock"]
    assert above.get_title(loc="left") == "a $song" and above.get_xlim() == below.get_xlim() == strip.get_xlim()
    assert save(figure, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_names_stand_clear_of_each_other(tmp_path):
    """No tick, title or legend of a picture covers another, whatever the track's length."""
    names = tuple(f"a long label {number}" for number in range(9))
    for seconds in (0.1, 95.0, 4000.0):
        rng = np.random.default_rng(3)
        starts = np.arange(0, max(1, seconds - 2), 2.0)
        scores = TrackScores(names, starts, rng.dirichlet(np.ones(9) / 5, len(starts)), 2.0, seconds)
        silence = {"array": np.zeros(round(seconds * 4000), np.int8), "sampling_rate": 4000}
        figure = plot_timeline(silence, scores, "title")
        save(figure, tmp_path / "a.png")
        canvas = figure.canvas.get_renderer()
        above, strip, below, *_ = figure.axes
        texts = [*above.get_yticklabels(), *below.get_xticklabels(), *below.get_yticklabels(), *below.legend_.texts]
        texts += [below.xaxis.label, below.yaxis.label, strip.yaxis.label, *strip.texts]
        boxes = [text.get_window_extent(canvas) for text in texts if text.get_text() and _is_seen(text)]
        assert len(boxes) > 10
        assert not [1 for one, other in itertools.combinations(boxes, 2) if one.overlaps(other)]


def _is_seen(text):
    """Whether a tick lies within its axes: matplotlib keeps some beyond."""
    axes = text.axes
    if axes is None or text not in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        return True
    (left, right), (low, high), (x, y) = axes.get_xlim(), axes.get_ylim(), text.get_position()
    return left <= x <= right if text in axes.get_xticklabels() else low <= y <= high


def test_leaders_have_a_line_as_far_as_there_are_hues():
    whole = np.arange(10, 0, -1) / 55
    over_time = np.eye(10)[[9, 9, 9, 8, 8, 0]]
    assert shown_labels(whole, over_time, 2) == [0, 1, 9, 8]
    everything = np.eye(10)
    assert len(shown_labels(whole, everything, 5)) == len(HUES)
    assert shown_labels(whole, everything, 9) == list(range(9))
