"""How true resampling to a model's rate is, and what it costs: soxr's HQ, which reads our windows, against others.

    python benchmarks/resampling.py
    python benchmarks/resampling.py --rate_in 44100 --rate_out 22050 --output resampling.json

    soxr HQ in blocks        soxr.ResampleStream over a second at a time: as hf_musiclf.audio.read_audio has it
    soxr HQ, soxr VHQ        soxr.resample, all at once
    torchaudio               torchaudio.transforms.Resample as it comes: torchaudio.functional.resample, kernel kept
    torchaudio kaiser_best   the same with the settings that torchaudio's documentation gives for librosa's kaiser_best
    scipy polyphase          scipy.signal.resample_poly with the filter that it designs by default, designed once

Levels are in dB of the input's, of mono float32 in blocks of one second, their ends left out. Frequencies are parts of
the Nyquist frequency of the output:

    passband    largest error of the level of tones up to 0.85
    width       highest tone, in steps of 0.01, that loses no more than 1 dB
    sweep       what differs from the same sweep, 0.01 to 0.85, sampled at the output's rate: error of level and phase
    folded      the loudest that comes out of tones between 1.0 and 1.1, which is where a filter's slope lies
    rejection   the loudest that comes out of tones above 1.1, and of a sweep over the same

Time is of ten seconds, the median over the repetitions, in which the ways take turns. Needs scipy, which
`pip install -e .[dev]` brings.
"""

import math
import statistics
import time

import numpy as np
import scipy.signal
import soxr
import torch
import torchaudio
from machine import begin, make_parser, write_figures

# https://docs.pytorch.org/audio/stable/tutorials/audio_resampling_tutorial.html, "Comparison against librosa".
KAISER_BEST = dict(
    lowpass_filter_width=64, rolloff=0.9475937167399596, resampling_method="sinc_interp_kaiser", beta=14.769656459379492
)
TIMED_SECONDS = 10
PASSBAND_END, STOPBAND_START, LOST_DB = 0.85, 1.1, -1.0
QUIETEST = 1e-12  # so that silence has a level: -240 dB


def ways(rate_in, rate_out):
    """Name -> function of `(time,)` float32 at `rate_in` Hz to the same at `rate_out` Hz."""
    plain = torchaudio.transforms.Resample(rate_in, rate_out)
    best = torchaudio.transforms.Resample(rate_in, rate_out, **KAISER_BEST)
    common = math.gcd(rate_in, rate_out)
    up, down = rate_out // common, rate_in // common
    # What resample_poly designs in every call, for float32; torchaudio keeps its kernel, too.
    longer = max(up, down)
    taps = scipy.signal.firwin(20 * longer + 1, 1 / longer, window=("kaiser", 5.0)).astype(np.float32)
    return {
        "soxr HQ in blocks": lambda samples: in_blocks(samples, rate_in, rate_out),
        "soxr HQ": lambda samples: soxr.resample(samples, rate_in, rate_out, quality="HQ"),
        "soxr VHQ": lambda samples: soxr.resample(samples, rate_in, rate_out, quality="VHQ"),
        "torchaudio": lambda samples: plain(torch.from_numpy(samples)).numpy(),
        "torchaudio kaiser_best": lambda samples: best(torch.from_numpy(samples)).numpy(),
        "scipy polyphase": lambda samples: scipy.signal.resample_poly(samples, up, down, window=taps),
    }


def in_blocks(samples, rate_in, rate_out):
    """What `soxr.resample` gives, from blocks of a second."""
    stream = soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")
    blocks = [stream.resample_chunk(samples[start : start + rate_in]) for start in range(0, len(samples), rate_in)]
    return np.concatenate([*blocks, stream.resample_chunk(np.empty(0, np.float32), last=True)])


def tone(hertz, rate):
    """One second of a sine: `(rate,)` float32."""
    return np.sin(2 * np.pi * hertz * np.arange(rate) / rate).astype(np.float32)


def sweep(low, high, rate):
    """One second from `low` to `high` Hz, which rises evenly: `(rate,)` float32; no sample depends on the rate."""
    times = np.arange(rate) / rate
    return np.sin(2 * np.pi * (low * times + (high - low) * times**2 / 2)).astype(np.float32)


def middle(samples):
    return samples[len(samples) // 20 : -len(samples) // 20].astype(np.float64)


def decibels(samples):
    """Level of a sound over that of a sine at full scale."""
    return 20 * math.log10(max(QUIETEST, math.sqrt(2 * np.mean(samples**2))))


def tone_level(samples, hertz, rate):
    """Level in dB of the sine of this frequency that fits best."""
    phase = 2 * np.pi * hertz * np.arange(len(samples)) / rate
    basis = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    parts, *_ = np.linalg.lstsq(basis, samples, rcond=None)
    return 20 * math.log10(max(QUIETEST, float(np.hypot(*parts))))


def quality(resample, rate_in, rate_out):
    """What the docstring names, in dB and, for the width, as a part of the output's Nyquist frequency."""
    nyquist, last = rate_out / 2, rate_in / 2

    def level(part):
        return tone_level(middle(resample(tone(part * nyquist, rate_in))), part * nyquist, rate_out)

    def loudest(low, high):
        tones = np.linspace(low * nyquist, min(high * nyquist, 0.999 * last), 40)
        return max(decibels(middle(resample(tone(hertz, rate_in)))) for hertz in tones)

    kept = [part / 100 for part in range(50, 100) if level(part / 100) >= LOST_DB]
    low, high = 0.01 * nyquist, PASSBAND_END * nyquist
    error = middle(resample(sweep(low, high, rate_in))[:rate_out]) - middle(sweep(low, high, rate_out))
    above = resample(sweep(STOPBAND_START * nyquist, 0.999 * last, rate_in))
    return {
        "passband_db": max(abs(level(part)) for part in np.linspace(0.01, PASSBAND_END, 40)),
        "width": max(kept, default=0.0),
        "sweep_error_db": decibels(error),
        "folded_db": loudest(1.0, STOPBAND_START),
        "rejection_db": loudest(STOPBAND_START, math.inf),
        "sweep_rejection_db": decibels(middle(above)),
    }


def times(functions, rate_in, repetitions):
    """Median seconds of each way for ten seconds of noise, the first turn left out."""
    noise = np.random.default_rng(0).normal(0, 0.1, TIMED_SECONDS * rate_in).astype(np.float32)
    seconds = {name: [] for name in functions}
    for _ in range(repetitions + 1):
        for name, resample in functions.items():
            began = time.perf_counter()
            resample(noise)
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(lasted[1:]) for name, lasted in seconds.items()}


def main(argv=None):
    parser = make_parser(__doc__, threads=True)
    parser.set_defaults(threads=1)  # soxr and scipy have one
    parser.add_argument("--rate_in", type=int, default=48_000, help="Hz of the recording")
    parser.add_argument("--rate_out", type=int, default=16_000, help="Hz of the model, less than --rate_in")
    parser.add_argument("--repetitions", type=int, default=31, help="turns of each, after a first that is not counted")
    args = parser.parse_args(argv)
    if args.rate_out * STOPBAND_START >= args.rate_in:
        parser.error(f"rate_out={args.rate_out} leaves nothing to reject of rate_in={args.rate_in}; lower it")
    machine = begin(args, "soxr", "torchaudio", "scipy", "numpy")
    print(f"{args.rate_in} to {args.rate_out} Hz, {args.threads} threads, medians of {args.repetitions} repetitions")
    print("way                     time for 10 s  passband  width    sweep   folded  rejection: tones    sweep  (dB)")
    functions, rows = ways(args.rate_in, args.rate_out), []
    seconds = times(functions, args.rate_in, args.repetitions)
    for name, resample in functions.items():
        rows.append(row := {"way": name, "seconds": seconds[name], **quality(resample, args.rate_in, args.rate_out)})
        print(
            f"{name:24}{1000 * row['seconds']:10.2f} ms{row['passband_db']:10.4f}{row['width']:7.2f}"
            f"{row['sweep_error_db']:9.1f}{row['folded_db']:9.1f}{row['rejection_db']:18.1f}"
            f"{row['sweep_rejection_db']:9.1f}",
            flush=True,
        )
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
