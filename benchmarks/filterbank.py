"""What AST's features cost: hf_musiclf.features.ast.AstFeatures in batches against the stock ASTFeatureExtractor.

    python benchmarks/filterbank.py
    python benchmarks/filterbank.py --threads 1 --output filterbank.json

Both make input_values of the same windows of 10.24 s (1,024 frames, 128 mels) at 16 kHz, on the CPU and, where there is
one, on a GPU:

    ours      waveforms `(batch, time)` in memory to input_values on the device; for a GPU the copy to it counts
    stock     a list of arrays to a tensor on the CPU, by the extractor; it has no other way

Each is warmed up for a second and they take turns of half a second, so that other load hits both alike. Speeds are
windows a second, from the median over the repetitions;
the speed-up is the median of the repetitions' own; the difference is the largest absolute one of all values.
"""

import statistics

import torch
from machine import begin, make_parser, write_figures
from signals import make_windows
from timing import devices, median_ratio, take_turns
from transformers import ASTFeatureExtractor

from hf_musiclf.features.ast import AstFeatures

RATE, WINDOW_SECONDS = 16_000, 10.24


def by_extractor(extractor, arrays):
    return extractor(arrays, sampling_rate=RATE, return_tensors="pt")["input_values"]


def compare(extractor, device, batch, repetitions):
    """One row of the table: device, batch, windows a second of both, speed-up, largest difference."""
    features, windows = AstFeatures(extractor), make_windows(batch, round(RATE * WINDOW_SECONDS), RATE)
    waveforms, arrays = torch.from_numpy(windows), list(windows)
    ways = {
        "ours": lambda: features(waveforms.to(device))["input_values"],
        "stock": lambda: by_extractor(extractor, arrays),
    }
    seconds, made = take_turns(ways, device, repetitions)
    return {
        "device": device.type,
        "batch": batch,
        "ours_windows_per_second": batch / statistics.median(seconds["ours"]),
        "stock_windows_per_second": batch / statistics.median(seconds["stock"]),
        "speed_up": median_ratio(seconds["stock"], seconds["ours"]),
        "largest_difference": float((made["ours"].cpu() - made["stock"]).abs().max()),
    }


def main(argv=None):
    parser = make_parser(__doc__, threads=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32], help="windows given at once")
    parser.add_argument("--repetitions", type=int, default=15, help="turns of each")
    args = parser.parse_args(argv)
    machine = begin(args, "torch", "torchaudio", "transformers", "numpy")
    print(f"{WINDOW_SECONDS} s at {RATE} Hz, {args.threads} threads, medians of {args.repetitions} repetitions")
    print("device  batch  ours windows/s  stock windows/s  speed-up  largest difference")
    extractor, rows = ASTFeatureExtractor(), []
    for device in devices():
        for batch in args.batches:
            rows.append(row := compare(extractor, device, batch, args.repetitions))
            speeds = f"{row['ours_windows_per_second']:16.1f}{row['stock_windows_per_second']:17.1f}"
            print(
                f"{row['device']:6}{batch:7}{speeds}{row['speed_up']:10.1f}{row['largest_difference']:20.1e}",
                flush=True,
            )
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
