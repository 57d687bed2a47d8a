"""What EfficientAT's features cost: hf_musiclf.features.efficientat.EfficientAtFeatures in batches, against one by one.

    python benchmarks/efficientat_features.py
    python benchmarks/efficientat_features.py --threads 1 --output efficientat_features.json

All make input_values of the same windows of 10 s (1,000 frames, 128 mels) at 32 kHz, on the CPU and, if there is one,
on a GPU:

    ours         waveforms `(batch, time)` in memory to input_values on the device; for a GPU the copy to it counts
    extractor    arrays, one after the other, to a tensor on the CPU, by the extractor that is saved with the model
    torchaudio   waveforms, one after the other on the CPU, by torchaudio: pre-emphasis, MelSpectrogram with Kaldi's
                 filters, logarithm; as one would write it without this package, and nothing of ours in it

Each is warmed up for a second and they take turns of half a second, so that other load hits all alike. Speeds are
windows a second, from the median over the repetitions;
a speed-up is the median of the repetitions' own; a difference is the largest absolute one of all values from ours.
"""

import statistics

import torch
import torchaudio
from machine import begin, make_parser, write_figures
from signals import make_windows
from timing import devices, median_ratio, take_turns

from hf_musiclf.features.efficientat import EfficientAtFeatures
from hf_musiclf.models.feature_extraction_efficientat import EfficientAtFeatureExtractor

OTHERS = ("extractor", "torchaudio")


def by_extractor(extractor, arrays):
    """`(batch, frames, mels)`, the extractor called once a window."""
    made = [extractor(array, sampling_rate=extractor.sampling_rate, return_tensors="pt") for array in arrays]
    return torch.cat([one["input_values"] for one in made])


def torchaudio_way(extractor):
    """A function of `(batch, time)` to `(batch, frames, mels)` that goes through torchaudio window by window."""
    rate, low, high = extractor.sampling_rate, extractor.frequency_min, extractor.frequency_max
    spectrogram = torchaudio.transforms.MelSpectrogram(
        rate,
        n_fft=extractor.n_fft,
        win_length=extractor.win_length,
        hop_length=extractor.hop_length,
        n_mels=extractor.feature_size,
        wkwargs={"periodic": False},
    )
    # MelSpectrogram's own triangles have straight sides in Hz; Kaldi's, which the published weights have seen, in mel.
    # No frequency warping: the bounds of it, 100 and -500 Hz, are Kaldi's defaults and do not matter.
    filters, _ = torchaudio.compliance.kaldi.get_mel_banks(
        extractor.feature_size, extractor.n_fft, rate, low, high, 100.0, -500.0, 1.0
    )
    spectrogram.mel_scale.fb = torch.nn.functional.pad(filters, (0, 1)).T  # Kaldi leaves out the last bin

    def one(waveform):
        mel = spectrogram(torchaudio.functional.preemphasis(waveform, extractor.preemphasis)[1:])
        return ((mel + extractor.log_offset).log().T - extractor.mean) / extractor.std

    return lambda waveforms: torch.stack([one(waveform) for waveform in waveforms])


def compare(extractor, device, batch, repetitions):
    """One row of the table: device, batch, windows a second of each way, speed-ups, largest differences."""
    features, by_torchaudio = EfficientAtFeatures(extractor), torchaudio_way(extractor)
    windows = make_windows(batch, extractor.window_samples, extractor.sampling_rate)
    waveforms, arrays = torch.from_numpy(windows), list(windows)
    ways = {
        "ours": lambda: features(waveforms.to(device))["input_values"],
        "extractor": lambda: by_extractor(extractor, arrays),
        "torchaudio": lambda: by_torchaudio(waveforms),
    }
    seconds, made = take_turns(ways, device, repetitions)
    row = {"device": device.type, "batch": batch}
    row |= {f"{way}_windows_per_second": batch / statistics.median(lasted) for way, lasted in seconds.items()}
    for way in OTHERS:
        ratio = median_ratio(seconds[way], seconds["ours"])
        difference = float((made[way] - made["ours"].cpu()).abs().max())
        row |= {f"speed_up_over_{way}": ratio, f"largest_difference_{way}": difference}
    return row


def main(argv=None):
    parser = make_parser(__doc__, threads=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32], help="windows given at once")
    parser.add_argument("--repetitions", type=int, default=15, help="turns of each")
    args = parser.parse_args(argv)
    machine = begin(args, "torch", "torchaudio", "transformers", "numpy")
    extractor, rows = EfficientAtFeatureExtractor(), []
    timing = f"{args.threads} threads, medians of {args.repetitions} repetitions"
    print(f"{extractor.window_seconds:g} s at {extractor.sampling_rate} Hz, {timing}")
    print("device  batch   windows/s: ours  extractor  torchaudio   speed-up over each   largest differences")
    for device in devices():
        for batch in args.batches:
            rows.append(row := compare(extractor, device, batch, args.repetitions))
            speeds, ratios, differences = (
                [row[name] for name in row if named in name] for named in ("per_second", "speed_up", "difference")
            )
            print(
                f"{row['device']:6}{batch:7}{speeds[0]:18.1f}{speeds[1]:11.1f}{speeds[2]:12.1f}"
                f"{ratios[0]:14.2f}{ratios[1]:7.2f}{differences[0]:14.1e}{differences[1]:8.1e}",
                flush=True,
            )
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
