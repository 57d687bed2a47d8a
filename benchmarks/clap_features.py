"""What CLAP's features cost: hf_musiclf.features.clap.ClapFeatures in batches against the saved extractor.

    python benchmarks/clap_features.py
    python benchmarks/clap_features.py --truncation fusion
    python benchmarks/clap_features.py --threads 1 --output clap_features.json

Both make input_features of the same windows at 48 kHz, on the CPU and, where there is one, on a GPU. `rand_trunc`:
windows of 10 s, 1,001 frames of 64 mels. `fusion`: windows of 20 s, which become an overview and three crops of 1,001
frames.

    ours      waveforms `(batch, time)` in memory to input_features on the device; for a GPU the copy to it counts
    stock     a list of arrays to a tensor on the CPU, by ClapFeatureExtractor; for `fusion`, whose crops it draws, by
              ClapWindowFeatureExtractor: the same numpy, but nothing is drawn

Each is warmed up for a second and they take turns of half a second, so that other load hits both alike. Speeds are
windows a second, from the median over the repetitions;
the speed-up is the median of the repetitions' own; the difference is the largest absolute one of all values, in dB.
"""

import statistics

import torch
from machine import begin, make_parser, write_figures
from signals import make_windows
from timing import devices, median_ratio, take_turns
from transformers import ClapFeatureExtractor

from hf_musiclf.features.clap import ClapFeatures
from hf_musiclf.models.feature_extraction_clap import ClapWindowFeatureExtractor

RATE = 48_000
WINDOW_SECONDS = {"rand_trunc": 10, "fusion": 20}


def by_extractor(extractor, arrays):
    """The stock way, by numpy, as torch would read a list of arrays element by element."""
    made = extractor(arrays, sampling_rate=RATE, return_tensors="np")
    return torch.from_numpy(made["input_features"])


def compare(extractor, device, batch, repetitions):
    """One row of the table: device, batch, windows a second of both, speed-up, largest difference in dB."""
    features = ClapFeatures(extractor)
    windows = make_windows(batch, RATE * int(extractor.window_seconds), RATE)
    waveforms, arrays = torch.from_numpy(windows), list(windows)
    stock = extractor
    if extractor.truncation != "fusion":
        stock = ClapFeatureExtractor(truncation=extractor.truncation, padding=extractor.padding)
    ways = {
        "ours": lambda: features(waveforms.to(device))["input_features"],
        "stock": lambda: by_extractor(stock, arrays),
    }
    seconds, made = take_turns(ways, device, repetitions)
    return {
        "device": device.type,
        "batch": batch,
        "ours_windows_per_second": batch / statistics.median(seconds["ours"]),
        "stock_windows_per_second": batch / statistics.median(seconds["stock"]),
        "speed_up": median_ratio(seconds["stock"], seconds["ours"]),
        "largest_difference_db": float((made["ours"].cpu() - made["stock"]).abs().max()),
    }


def main(argv=None):
    parser = make_parser(__doc__, threads=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32], help="windows given at once")
    parser.add_argument("--truncation", choices=WINDOW_SECONDS, default="rand_trunc", help="of the extractor")
    parser.add_argument("--repetitions", type=int, default=7, help="turns of each")
    args = parser.parse_args(argv)
    machine = begin(args, "torch", "transformers", "numpy")
    seconds, rows = WINDOW_SECONDS[args.truncation], []
    extractor = ClapWindowFeatureExtractor(truncation=args.truncation, window_seconds=seconds)
    timing = f"{args.threads} threads, medians of {args.repetitions} repetitions"
    print(f"{args.truncation}, {seconds} s at {RATE} Hz, {timing}")
    print("device  batch  ours windows/s  stock windows/s  speed-up  largest difference in dB")
    for device in devices():
        for batch in args.batches:
            rows.append(row := compare(extractor, device, batch, args.repetitions))
            speeds = f"{row['ours_windows_per_second']:16.1f}{row['stock_windows_per_second']:17.1f}"
            print(
                f"{row['device']:6}{batch:7}{speeds}{row['speed_up']:10.1f}{row['largest_difference_db']:26.1e}",
                flush=True,
            )
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
