import numpy as np
import pytest
import soundfile
from conftest import noise

from hf_musiclf.audio import read_audio
from hf_musiclf.data.gtzan import GENRES, load_gtzan
from hf_musiclf.data.window_dataset import EvaluationWindows, RandomWindows

RATE = 6000  # not the files' 8000, so that every window is resampled
WINDOW, HOP = 1500, 1000  # 0.25 s and a sixth of a second
# Longer than a window by what is no multiple of the hop; exactly a window; shorter.
SECONDS = {"long": 1.03, "exact": 0.25, "short": 0.1}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Thirty tracks, three of each genre: a long one, one of exactly a window, a short one."""
    folder = tmp_path_factory.mktemp("windows")
    for label, genre in enumerate(GENRES):
        (folder / genre).mkdir()
        for number, seconds in enumerate(SECONDS.values()):
            path = folder / genre / f"{genre}.{number:05d}.wav"
            soundfile.write(path, noise(seconds, 8000, label, number), 8000)
    return load_gtzan(str(folder), str(folder / "cache"))


def audio(table, row):
    return read_audio(table.rows[int(row)]["audio"], RATE)


@pytest.fixture
def random_windows(table):
    return RandomWindows(table, range(30), RATE, WINDOW, seed=5)


@pytest.fixture
def evaluation_windows(table):
    return EvaluationWindows(table, range(30), RATE, WINDOW, HOP)


# Windows of evaluation


def test_evaluation_windows_cover_every_sample_of_every_track(table, evaluation_windows):
    heard = [np.zeros(int(samples), bool) for samples in evaluation_windows.samples_of_track]
    for index, (track, start) in enumerate(
        zip(evaluation_windows.track_of_window, evaluation_windows.start_of_window, strict=True)
    ):
        heard[track][start : start + len(evaluation_windows[index]["waveform"])] = True
    assert [len(samples) for samples in heard] == [len(audio(table, row)) for row in range(30)]
    assert all(samples.all() for samples in heard)


def test_an_evaluation_window_is_a_slice_of_its_track(table, evaluation_windows):
    for index in range(len(evaluation_windows)):
        item, start = evaluation_windows[index], evaluation_windows.start_of_window[index]
        whole = audio(table, evaluation_windows.track_of_window[index])
        np.testing.assert_allclose(item["waveform"], whole[start : start + WINDOW], atol=1e-4)
        assert item["waveform"].dtype == np.float32


def test_only_a_track_shorter_than_the_window_gives_a_short_one(evaluation_windows):
    lengths = [len(evaluation_windows[index]["waveform"]) for index in range(len(evaluation_windows))]
    # 6180 samples: five windows at 0, 1000, ..., 4000, and the last, moved back to end with the track.
    assert lengths == [*[WINDOW] * 6, WINDOW, 600] * 10
    assert evaluation_windows.start_of_window[:8].tolist() == [0, 1000, 2000, 3000, 4000, 4680, 0, 0]
    assert evaluation_windows.track_of_window[:9].tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 3]


def test_windows_keep_label_and_group_of_their_track(table):
    rows = [29, 3, 14]
    windows = EvaluationWindows(table, rows, RATE, WINDOW, HOP)
    assert (
        windows.track_names
        == ["rock.00002", "classical.00000", "jazz.00002"]
        == [table.column("track")[r] for r in rows]
    )
    # The long track has six windows, each other one.
    assert (
        windows.label_of_window.tolist() == [9, *[1] * 6, 4 + 1 - 1][:-1] + [GENRES.index("hiphop") + 0][:0] + [5][:1]
    )
    assert [windows[index]["labels"] for index in range(len(windows))] == windows.label_of_window.tolist()
