"""What a random window costs out of short and long recordings, and how many windows a second workers feed.

    python benchmarks/reading.py
    python benchmarks/reading.py --formats WAV OGG --minutes 1 10 --output reading.json

Writes 48 kHz stereo recordings (16-bit, MP3 and Vorbis as libsndfile encodes them) of several lengths to a temporary
folder, 44 minutes as the longest of MAESTRO, and reads ten seconds at random starts as 16 kHz mono, as training does:

    reading   hf_musiclf.audio.read_audio, each file and turn in a process of its own; flat means: as much for 44
              minutes as for one
    feeding   a DataLoader over the longest file, whose workers read and collate; nothing else is done with a batch, so
              this is the most that a model can be fed

Times are medians over the windows of all turns, with the file in the system's cache (the first read of a process is not
counted). Memory is the process's peak resident set less that of one that only imports the same libraries. Feeding is
windows a second after the first batches, the median over the turns. The files take turns in both.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import read_window
import torch
from machine import begin, make_parser, write_figures
from read_window import RATE, TARGET_RATE, WINDOW_SECONDS
from signals import write_recording
from timing import in_process

from hf_musiclf.audio import read_audio
from hf_musiclf.data.window_dataset import collate_windows


class RecordingWindows(torch.utils.data.Dataset):
    """Windows at random starts of one recording, items as of hf_musiclf.data.window_dataset.

    rate: Hz of the windows. count: how many there are; each has its place by its number alone.
    """

    def __init__(self, path, minutes, rate, window_seconds, count):
        self.path, self.rate, self.window_seconds = path, rate, window_seconds
        self.starts = np.random.default_rng(0).uniform(0, minutes * 60 - window_seconds, count)

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, index):
        waveform = read_audio(self.path, self.rate, float(self.starts[index]), self.window_seconds)
        return {"waveform": waveform, "labels": index % 2, "row": 0}


def make_loader(windows, batch, workers, pin_memory=False):
    """Batches of windows in order, read by so many workers (0: here)."""
    return torch.utils.data.DataLoader(
        windows, batch, num_workers=workers, collate_fn=collate_windows, drop_last=True, pin_memory=pin_memory
    )


def feed(windows, batch, workers):
    """Windows a second that the workers hand over, the first batches left out: they come from full queues."""
    first, arrivals = 1 + 2 * workers, []
    for _ in make_loader(windows, batch, workers):
        arrivals.append(time.perf_counter())
    assert len(arrivals) > first + 1, f"{len(arrivals)} batches are too few for {workers} workers"
    return batch * (len(arrivals) - 1 - first) / (arrivals[-1] - arrivals[first])


def compare_lengths(files, args):
    """One row a file: format, minutes, median milliseconds of a window, peak megabytes above the imports."""
    results = {key: [] for key in files}
    baseline = in_process(read_window.__file__, "nothing", "", 1, 0)["peak_bytes"]
    for _ in range(args.repetitions):
        for (container, minutes), path in files.items():
            found = in_process(read_window.__file__, "seek", str(path), minutes, args.windows)
            results[container, minutes].append(found)
    print("format  minutes  median time  peak memory")
    rows = []
    for (container, minutes), turns in results.items():
        seconds = statistics.median(second for turn in turns for second in turn["seconds"])
        peak = (statistics.median(turn["peak_bytes"] for turn in turns) - baseline) / 1e6
        rows.append({"format": container, "minutes": minutes, "median_seconds": seconds, "peak_mb": peak})
        print(f"{container:6}{minutes:9}{1000 * seconds:10.1f} ms{peak:10.0f} MB", flush=True)
    return rows


def compare_feeding(files, args):
    """One row a format and number of workers: windows a second out of the longest file."""
    longest = max(args.minutes)
    speeds = {(container, workers): [] for container in args.formats for workers in args.workers}
    for _ in range(args.repetitions):
        for container, workers in speeds:
            count = args.batch * (args.batches + 2 + 2 * workers)
            windows = RecordingWindows(files[container, longest], longest, TARGET_RATE, WINDOW_SECONDS, count)
            speeds[container, workers].append(feed(windows, args.batch, workers))
    print("format  workers  windows/s")
    rows = []
    for (container, workers), found in speeds.items():
        rows.append({"format": container, "workers": workers, "windows_per_second": statistics.median(found)})
        print(f"{container:6}{workers:9}{rows[-1]['windows_per_second']:11.1f}", flush=True)
    return rows


def main(argv=None):
    parser = make_parser(__doc__)
    formats = ["WAV", "FLAC", "MP3", "OGG"]
    parser.add_argument("--formats", nargs="+", default=formats[:3], choices=formats, help="containers to compare")
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 10, 44], help="lengths of the recordings")
    parser.add_argument("--windows", type=int, default=30, help="windows to read of each file in a turn")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="processes that feed; 0: this one")
    parser.add_argument("--batch", type=int, default=16, help="windows a batch")
    parser.add_argument("--batches", type=int, default=20, help="batches that count")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # collation is all that it does here, and workers have one thread anyway
    machine = begin(args, "numpy", "soxr", "soundfile", "torch")
    print(f"{WINDOW_SECONDS:g} s at {TARGET_RATE} Hz mono out of {RATE} Hz stereo, {args.repetitions} turns")
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for container in args.formats:
            for minutes in args.minutes:
                files[container, minutes] = path = Path(folder) / f"{minutes}.{container.lower()}"
                write_recording(path, 60 * minutes)
        rows = compare_lengths(files, args) + compare_feeding(files, args)
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
