"""What it costs to index all of MAESTRO, and whether memory grows with the hours of audio.

    python benchmarks/maestro_index.py
    python benchmarks/maestro_index.py --performances 300 1276 --times_longer 8 --output maestro_index.json

Writes corpora in MAESTRO's layout to a temporary folder: 48 kHz stereo 16-bit WAV files of the lengths that MAESTRO's
have (45 to 2,625 s, median 430 s), as sparse files, which take no room on the disk: silence, but for the number of the
file in its first samples. A fresh process then makes the table of tracks, draws the split by composition, cuts all of
it into windows of ten seconds, for training too, and reads some at random. The first corpus is made with files
--times_longer as long, too: the same rows, more hours and windows.

Index is the time of table, split and windows; window the median time of reading ten seconds as 48 kHz mono. Memory is
the process's peak resident set less that of a process that only imports the same libraries.
"""

import csv
import random
import statistics
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import begin, make_parser, peak_bytes, write_figures
from timing import answer, in_process

from hf_musiclf.arguments import DataArguments
from hf_musiclf.data.loading import cut_windows, load_tracks

RATE, CHANNELS, SAMPLE_BYTES = 48_000, 2, 2
# Of MAESTRO v3, as its table says.
SHORTEST_SECONDS, MEDIAN_SECONDS, LONGEST_SECONDS = 45, 430, 2625
COMPOSERS, TAKES = 20, 2


def write_corpus(folder, performances, times_longer=1):
    """MAESTRO's table and as many sparse WAV files; returns their hours."""
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.normal(np.log(MEDIAN_SECONDS), 0.7, performances)).clip(SHORTEST_SECONDS, LONGEST_SECONDS)
    lengths *= times_longer
    (folder / "2018").mkdir(parents=True)
    with (folder / "maestro-v3.0.0.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["canonical_composer", "canonical_title", "split", "year", "audio_filename", "duration"])
        for number, seconds in enumerate(lengths):
            composer, piece = number % COMPOSERS, number // (COMPOSERS * TAKES)
            name = f"2018/{number:05d}.wav"
            table.writerow([f"Composer {composer:02d}", f"Sonata No. {piece}", "train", 2018, name, f"{seconds:.3f}"])
            write_silence(folder / name, round(seconds * RATE), number)
    return lengths.sum() / 3600


def write_silence(path, frames, number):
    """A sparse WAV file of silence, but for its number in the first samples, so that no two files are copies."""
    size = frames * CHANNELS * SAMPLE_BYTES
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt ")
        file.write(struct.pack("<IHHIIHH", 16, 1, CHANNELS, RATE, RATE * CHANNELS * SAMPLE_BYTES, CHANNELS * 2, 16))
        file.write(b"data" + struct.pack("<I", size))
        begins = file.tell()
        file.write(struct.pack("<I", number))
        file.truncate(begins + size)


def measure_here(folder, n_windows):
    """Seconds of the index and of every window, and the peak; nothing but the imports for no folder."""
    if folder is None:
        return {"peak_bytes": peak_bytes()}
    args = DataArguments(
        dataset="maestro", data_dir=folder, max_performances_per_piece=0, window_seconds=10.0, train_windows="all"
    )
    began = time.perf_counter()
    tracks = load_tracks(args, verbose=False)
    windows = cut_windows(tracks, args, RATE)
    index_seconds, seconds = time.perf_counter() - began, []
    choose = random.Random(0)
    for _ in range(n_windows):
        rows = windows[choose.choice(list(windows))]
        began = time.perf_counter()
        rows[choose.randrange(len(rows))]
        seconds.append(time.perf_counter() - began)
    counts = {"rows": len(tracks.table), "windows": sum(map(len, windows.values()))}
    return {**counts, "index_seconds": index_seconds, "window_seconds": seconds, "peak_bytes": peak_bytes()}


def measure_corpus(performances, times_longer, n_windows, repetitions, imports):
    """Prints and returns the medians of some processes on a new corpus. imports: peak without a corpus, in bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "maestro-v3.0.0"
        hours = write_corpus(folder, performances, times_longer)
        results = [in_process(__file__, str(folder), n_windows) for _ in range(repetitions)]
    assert all(result["rows"] == performances for result in results)
    found = {
        "performances": performances,
        "hours": hours,
        "windows": results[0]["windows"],
        "index_seconds": statistics.median(result["index_seconds"] for result in results),
        "window_seconds": statistics.median(statistics.median(result["window_seconds"]) for result in results),
        "peak_mb": (statistics.median(result["peak_bytes"] for result in results) - imports) / 1e6,
    }
    print(
        f"{performances:12} {hours:7.1f} {found['windows']:9} {found['index_seconds']:7.2f} s "
        f"{1000 * found['window_seconds']:6.1f} ms {found['peak_mb']:10.0f} MB",
        flush=True,
    )
    return found


def main(argv=None):
    if answer(measure_here, argv):
        return
    parser = make_parser(__doc__)
    parser.add_argument("--performances", type=int, nargs="+", default=[160, 640, 1276], help="sizes of the corpora")
    parser.add_argument("--times_longer", type=int, default=4, help="of the first corpus made anew, with longer files")
    parser.add_argument("--windows", type=int, default=100, help="windows to read")
    parser.add_argument("--repetitions", type=int, default=3, help="processes to take the median of")
    args = parser.parse_args(argv)
    longest = 2**32 // (RATE * CHANNELS * SAMPLE_BYTES * LONGEST_SECONDS)
    if args.times_longer > longest:
        parser.error(f"times_longer={args.times_longer}: more than {longest} times the longest does not fit into WAV")
    machine = begin(args, "numpy", "soundfile", "datasets")
    print("performances   hours   windows     index    window   peak memory")
    imports = in_process(__file__, None, 0)["peak_bytes"]
    corpora = [(args.performances[0], args.times_longer), *((size, 1) for size in args.performances)]
    rows = [measure_corpus(*corpus, args.windows, args.repetitions, imports) for corpus in corpora]
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
