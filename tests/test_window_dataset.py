import tarfile

import numpy as np
import pytest
import soundfile
import torch
from conftest import noise
from torch.utils.data import DataLoader

from hf_musiclf.arguments import DataArguments
from hf_musiclf.audio import read_audio
from hf_musiclf.data.gtzan import load_gtzan
from hf_musiclf.data.gtzan_files import GENRES
from hf_musiclf.data.loading import cut_windows
from hf_musiclf.data.tracks import split_tracks
from hf_musiclf.data.window_dataset import EvaluationWindows, RandomWindows, collate_windows
from hf_musiclf.windows import random_window_start

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
    windows = EvaluationWindows(table, [29, 3, 8], RATE, WINDOW, HOP)
    assert windows.track_names == ["rock.00002", "classical.00000", "country.00002"]
    # The long track has six windows; country.00002 is by nobody known and so is a group of its own.
    assert windows.label_of_window.tolist() == [9, *[1] * 6, 2]
    assert windows.group_of_window == ["morphine", *["js bach"] * 6, "track country.00002"]
    assert [windows[index]["labels"] for index in range(len(windows))] == windows.label_of_window.tolist()


def test_of_each_track_so_many_windows_are_spread_as_are_wanted(evaluation_windows):
    chosen = evaluation_windows.spread(2)
    assert evaluation_windows.track_of_window[chosen].tolist()[:8] == [0, 0, 1, 2, 3, 3, 4, 5]
    assert evaluation_windows.start_of_window[chosen].tolist()[:4] == [1000, 4000, 0, 0]
    for every in (0, 6):
        assert evaluation_windows.spread(every).tolist() == list(range(len(evaluation_windows)))


# Random windows


def waveforms(windows):
    return [windows[index]["waveform"] for index in range(len(windows))]


def same(first, second):
    return [np.array_equal(one, other) for one, other in zip(first, second, strict=True)]


LONG = [number == 0 for _ in GENRES for number in range(3)]


def test_a_random_window_is_a_slice_of_its_track_and_every_track_shows_one(table, random_windows):
    random_windows.set_epoch(2)
    for row in range(30):
        whole, waveform = audio(table, row), random_windows[row]["waveform"]
        start = random_window_start(len(whole), WINDOW, seed=5, epoch=2, track=row)
        np.testing.assert_allclose(waveform, whole[start : start + WINDOW], atol=1e-4)
        assert random_windows[row]["labels"] == row // 3
    assert len(random_windows) == 30


def test_random_windows_follow_from_seed_epoch_and_track_alone(table, random_windows):
    first = waveforms(random_windows)
    assert all(same(first, waveforms(RandomWindows(table, range(30), RATE, WINDOW, seed=5))))
    # Of another seed or epoch the windows of the long tracks differ; the others have but one.
    other_seed = RandomWindows(table, range(30), RATE, WINDOW, seed=6)
    assert [not equal for equal in same(first, waveforms(other_seed))] == LONG
    random_windows.set_epoch(1)
    assert [not equal for equal in same(first, waveforms(random_windows))] == LONG
    random_windows.set_epoch(0)
    assert all(same(first, waveforms(random_windows)))


def test_several_windows_a_track_are_those_of_as_many_epochs_of_one(table, random_windows):
    twice = RandomWindows(table, range(30), RATE, WINDOW, seed=5, per_track=2)
    twice.set_epoch(1)  # the third and the fourth window of each track
    shown = waveforms(twice)
    assert len(twice) == len(shown) == 60
    for epoch, half in ((2, shown[:30]), (3, shown[30:])):
        random_windows.set_epoch(epoch)
        assert all(same(waveforms(random_windows), half))


def test_a_random_window_does_not_depend_on_the_other_tracks(table, random_windows):
    rows = [27, 0, 12]
    subset = RandomWindows(table, rows, RATE, WINDOW, seed=5)
    assert all(same(waveforms(subset), [random_windows[row]["waveform"] for row in rows]))


def test_tracks_of_one_length_show_windows_of_different_starts(table):
    starts = [random_window_start(6180, WINDOW, 5, 0, row) for row in range(0, 30, 3)]
    assert len(set(starts)) == 10


def epochs(windows, **options):
    """The waveforms of three epochs, one loader for all."""
    loader = DataLoader(windows, batch_size=8, collate_fn=collate_windows, **options)
    heard = []
    for epoch in range(3):
        windows.set_epoch(epoch)
        heard.append([])
        for batch in loader:
            pairs = zip(batch["waveforms"], batch["lengths"], strict=True)
            heard[-1] += [waveform[:length] for waveform, length in pairs]
    return heard


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_read_the_windows_that_one_process_reads(random_windows, persistent):
    alone = epochs(random_windows)
    workers = epochs(random_windows, num_workers=2, persistent_workers=persistent)
    for one, other in zip(alone, workers, strict=True):
        assert len(one) == 30 and all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    # Persistent workers, too, learn that the epoch is another.
    for first, second in ((0, 1), (1, 2)):
        pairs = zip(workers[first], workers[second], strict=True)
        assert [not torch.equal(*pair) for pair in pairs] == LONG


def test_workers_read_the_same_evaluation_windows(evaluation_windows):
    alone, workers = (
        [batch["waveforms"] for batch in DataLoader(evaluation_windows, 8, collate_fn=collate_windows, num_workers=n)]
        for n in (0, 2)
    )
    assert sum(map(len, alone)) == len(evaluation_windows) == 80
    assert all(torch.equal(*pair) for pair in zip(alone, workers, strict=True))


# Batches


def test_collate_pads_with_zeros_and_keeps_lengths_and_labels():
    items = [
        {"waveform": np.full(length, value, np.float32), "labels": label, "row": 10 * label}
        for length, value, label in [(3, 0.5, 7), (5, -0.25, 0), (1, 1.0, 2)]
    ]
    batch = collate_windows(items)
    assert batch["waveforms"].dtype == torch.float32 and batch["labels"].dtype == torch.int64
    assert batch["lengths"].tolist() == [3, 5, 1] and batch["labels"].tolist() == [7, 0, 2]
    assert batch["rows"].tolist() == [70, 0, 20]
    assert batch["waveforms"].tolist() == [[0.5] * 3 + [0.0] * 2, [-0.25] * 5, [1.0] + [0.0] * 4]


# From arguments


def test_arguments_decide_which_windows_are_cut(table):
    tracks = split_tracks(table, "random", 0)
    windows = cut_windows(tracks, DataArguments(window_seconds=0.25, eval_hop_seconds=0.125), RATE, seed=3)
    assert {name: type(part) for name, part in windows.items()} == {
        "train": RandomWindows,
        "validation": EvaluationWindows,
        "test": EvaluationWindows,
    }
    for name, part in windows.items():
        assert part.rows.tolist() == tracks.splits[name].tolist() and part.window == 1500
    test = windows["test"]
    hops = [np.diff(test.start_of_window[test.track_of_window == track]) for track in range(len(test.rows))]
    assert set(np.concatenate(hops)) == {750, 6180 - WINDOW - 6 * 750}
    every = cut_windows(tracks, DataArguments(window_seconds=0.25, train_windows="all"), RATE)["train"]
    assert isinstance(every, EvaluationWindows)
    # Without a hop the windows lie end to end.
    long = int(np.flatnonzero(every.samples_of_track == 6180)[0])
    assert every.start_of_window[every.track_of_window == long].tolist() == [0, 1500, 3000, 4500, 4680]


def test_an_archive_shows_the_windows_of_its_folder(gtzan_folder, tmp_path):
    with tarfile.open(tmp_path / "genres.tar", "w") as archive:
        archive.add(gtzan_folder / "genres", "genres")
    tables = [load_gtzan(str(path), str(tmp_path / "cache")) for path in (gtzan_folder, tmp_path / "genres.tar")]
    shown = [waveforms(RandomWindows(table, range(40), RATE, 600, seed=1)) for table in tables]
    assert all(same(*shown))
