"""What it costs to read ten seconds out of a forty-minute recording: seeking against decoding it whole and cutting.

    python benchmarks/read_window.py
    python benchmarks/read_window.py --formats WAV FLAC --output read_window.json

Writes a 48 kHz stereo 16-bit recording to a temporary folder (460 MB as WAV), then reads windows at random starts as
16 kHz mono in three ways, each in a process of its own:

    seek      hf_musiclf.audio.read_audio of the window
    blocks    hf_musiclf.audio.read_audio of the whole recording, block by block, then cut
    at once   soundfile.read of the whole recording, mean of the channels, soxr.resample, then cut

Times are medians over the windows, with the file in the system's cache (the first read is not counted). Memory is the
process's peak resident set less that of a process that only imports the same libraries.
"""

import random
import statistics
import tempfile
import time
from pathlib import Path

import soundfile
import soxr
from machine import begin, make_parser, peak_bytes, write_figures
from signals import mono, write_recording
from timing import answer, in_process

from hf_musiclf.audio import read_audio

RATE, TARGET_RATE, WINDOW_SECONDS = 48_000, 16_000, 10.0


def read_window(way, path, start_seconds):
    """Ten seconds from `start_seconds`: `(time,)` float32 at 16 kHz."""
    if way == "seek":
        return read_audio(path, TARGET_RATE, start_seconds, WINDOW_SECONDS)
    if way == "blocks":
        whole = read_audio(path, TARGET_RATE)
    else:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        whole = soxr.resample(mono(samples), rate, TARGET_RATE)
    first = round(start_seconds * TARGET_RATE)
    return whole[first : first + round(WINDOW_SECONDS * TARGET_RATE)]


def measure_here(way, path, minutes, windows):
    """Seconds of every read, the first one left out, and the peak; no read at all for the way "nothing"."""
    starts = random.Random(0)
    seconds = []
    for _ in range(0 if way == "nothing" else windows + 1):
        start_seconds = starts.uniform(0, minutes * 60 - WINDOW_SECONDS)
        began = time.perf_counter()
        # Only its length: a window kept would keep the recording that it is cut from.
        samples = len(read_window(way, path, start_seconds))
        seconds.append(time.perf_counter() - began)
        assert samples == round(WINDOW_SECONDS * TARGET_RATE)
    return {"seconds": seconds[1:], "peak_bytes": peak_bytes()}


def compare(path, args):
    """One row a way: format, way, median seconds, peak megabytes above the imports."""
    baseline = in_process(__file__, "nothing", str(path), args.minutes, 0)["peak_bytes"]
    rows = []
    for way, windows in [("seek", args.windows), ("blocks", args.whole_reads), ("at once", args.whole_reads)]:
        result = in_process(__file__, way, str(path), args.minutes, windows)
        median, peak = statistics.median(result["seconds"]), (result["peak_bytes"] - baseline) / 1e6
        rows.append({"format": path.suffix[1:].upper(), "way": way, "median_seconds": median, "peak_mb": peak})
        print(f"{rows[-1]['format']:6} {way:8} {windows:5} {median * 1000:12.1f} ms {peak:10.0f} MB", flush=True)
    return rows


def main(argv=None):
    if answer(measure_here, argv):
        return
    parser = make_parser(__doc__)
    parser.add_argument("--formats", nargs="+", default=["WAV"], choices=["WAV", "FLAC"], help="containers to compare")
    parser.add_argument("--minutes", type=int, default=40, help="length of the recording in minutes")
    parser.add_argument("--windows", type=int, default=50, help="windows to read by seeking")
    parser.add_argument("--whole_reads", type=int, default=3, help="windows to read by decoding everything")
    args = parser.parse_args(argv)
    machine = begin(args, "numpy", "soxr", "soundfile")
    print(f"{WINDOW_SECONDS:g} s at {TARGET_RATE} Hz mono out of {args.minutes} min at {RATE} Hz stereo")
    print("format way      reads      median time  peak memory")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for container in args.formats:
            path = Path(folder) / f"recording.{container.lower()}"
            write_recording(path, 60 * args.minutes, RATE)
            rows += compare(path, args)
            path.unlink()
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
