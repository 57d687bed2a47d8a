"""What a GPU makes of the models at real size: training steps, their share of its peak, workers, embeddings.

    python benchmarks/gpu_steps.py --output gpu_steps.json
    python benchmarks/gpu_steps.py --models ast --batches 8 32 128 --precisions bf16 --compile all
    python benchmarks/gpu_steps.py --device cpu --tiny

AST-base, CLAP's HTSAT-base, Wav2Vec2-large and EfficientAT's mn10, with random weights and the recipes' windows:

    steps       waveforms in memory, copied to the device; features, forward pass, loss, backward pass, clipping, AdamW;
                float32 (no TF32 anywhere), TF32, bfloat16 (autocast, as --bf16 True), with each attention that the
                class offers, compiled and not. Share is what the matrix products and convolutions of forward and
                backward pass take of the peak on the card's data sheet (matrix_peaks.py); memory the largest allocated
    workers     the fastest of these that is not compiled, timed anew, and fed by N workers that read random windows of
                a recording of 48 kHz stereo WAV; N feed it if it keeps 0.95 of its speed
    embeddings  the same model without its head, no gradients, fed by the most workers: windows a second, and by that
                the minutes that --hours of audio would take, which is extrapolated, not run

Speeds are windows a second, medians of the repetitions; with workers over --fed_batches in a row. What a machine cannot
do is left out with the reason, also where memory runs out. --tiny tries the script with models of a few thousand
weights, whose speeds mean nothing.
"""

import tempfile
from pathlib import Path

import torch
from gpu_models import SUBJECTS, load_subject, window_seconds
from gpu_runs import PRECISIONS, Variant, attempt, count_work, embed_speed, fed_batches, fed_speed, step_speed
from machine import begin, make_parser, write_figures
from matrix_peaks import peak_flops
from reading import RecordingWindows
from signals import write_recording

from hf_musiclf.launching import available_cores

FED, RECORDING_RATE = 0.95, 48_000


def variants(args, attends):
    """What to time, in order. attends: whether the model has attention to choose."""
    for batch in args.batches:
        for precision in args.precisions:
            for attention in args.attention if attends else ["none"]:
                yield Variant(batch, precision, attention, False)
                last = (batch, precision) == (args.batches[-1], args.precisions[-1])
                if args.compile == "all" or (args.compile == "last" and last):
                    yield Variant(batch, precision, attention, True)


def time_steps(name, loaded, args, device):
    """One row a variant: windows a second, share of the peak, peak memory, or why it was left out."""
    rows, seconds = [], window_seconds(name, args.tiny)
    work = attempt(lambda: count_work(loaded, seconds, device), device).get("gigaflops_a_window")
    for variant in variants(args, SUBJECTS[name].attention):
        row = {"part": "steps", "model": name, **variant._asdict(), "gigaflops_a_window": work}
        row |= attempt(lambda v=variant: step_speed(loaded, v, seconds, args, device), device)
        if "windows_per_second" in row and work:
            row["teraflops"] = row["windows_per_second"] * work / 1000
            peak = peak_flops(args.card, variant.precision)
            row["share_of_peak"] = row["teraflops"] * 1e12 / peak if peak else None
        rows.append(row)
        print(describe_step(row), flush=True)
    return rows


def describe_step(row):
    compiled = "yes" if row["compiled"] else "no"
    line = f"{row['model']:12}{row['batch']:5}  {row['precision']:8} {row['attention']:18} {compiled:8}"
    if "skipped" in row:
        return f"{line} left out: {row['skipped']}"
    work, share, memory = (row.get(name) for name in ("teraflops", "share_of_peak", "memory_gb"))
    work = "unknown" if work is None else f"{work:.2f}"
    share = "unknown" if share is None else f"{share:.1%}"
    memory = "unknown" if memory is None else f"{memory:.1f} GB"
    return f"{line}{row['windows_per_second']:10.1f}{work:>10}{share:>9}{memory:>10}"


def time_feeding(name, loaded, steps, recording, args, device):
    """One row a number of workers, and one of the embeddings; nothing where no step could be timed."""
    timed = [row for row in steps if "windows_per_second" in row and not row["compiled"]]
    if not timed:
        return []
    best = max(timed, key=lambda row: row["windows_per_second"])
    variant, rows = Variant(*(best[name] for name in Variant._fields)), []
    seconds, rate = window_seconds(name, args.tiny), loaded.features.sampling_rate
    # Anew, beside what is compared with it: the fastest of many is fast by chance, too.
    speed = step_speed(loaded, variant, seconds, args, device)["windows_per_second"]

    def windows(workers):
        count = variant.batch * (sum(fed_batches(workers, args)) + 1)
        return RecordingWindows(recording, args.minutes, rate, seconds, count)

    print(f"{name}, batches of {variant.batch}, {variant.precision}, {variant.attention}: {speed:.1f} from memory")
    for workers in (workers for workers in args.workers if workers <= available_cores()):
        row = {"part": "workers", "model": name, **variant._asdict(), "workers": workers}
        row |= attempt(lambda n=workers: fed_speed(loaded, variant, windows(n), n, args, device), device)
        if "windows_per_second" in row:
            row["share_of_memory"] = row["windows_per_second"] / speed
            told = f"{row['windows_per_second']:10.1f}, {row['share_of_memory']:.2f} of that"
            told += ": they feed it" if row["share_of_memory"] >= FED else ""
        else:
            told = f" left out: {row['skipped']}"
        print(f"  {workers} workers{told}", flush=True)
        rows.append(row)
    most = max((row["workers"] for row in rows), default=0)
    row = {"part": "embeddings", "model": name, **variant._asdict(), "workers": most, "hours": args.hours}
    row |= attempt(lambda: embed_speed(loaded, variant, windows(most), most, args, device), device)
    if "windows_per_second" in row:
        row["extrapolated_minutes"] = args.hours * 3600 / seconds / row["windows_per_second"] / 60
        told = f"{row['windows_per_second']:.1f} windows/s: {args.hours} h in {row['extrapolated_minutes']:.1f} min"
        print(f"  embeddings, {most} workers: {told} (extrapolated)", flush=True)
    else:
        print(f"  embeddings left out: {row['skipped']}", flush=True)
    return [*rows, row]


def parse(argv):
    parser = make_parser(__doc__)
    known = ["eager", "sdpa", "flash_attention_2", "flex_attention"]
    parser.add_argument("--models", nargs="+", default=list(SUBJECTS), choices=SUBJECTS, help="which to time")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32], help="windows a step")
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS, help="of the steps")
    parser.add_argument("--attention", nargs="+", default=known[:3], choices=known, help="implementations to try")
    compiled = "torch.compile: never, with the last batch and precision, always. Default: last on a GPU, else off"
    parser.add_argument("--compile", choices=["off", "last", "all"], help=compiled)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8], help="processes that read")
    parser.add_argument("--hours", type=int, default=200, help="hours of audio to extrapolate the embeddings to")
    parser.add_argument("--minutes", type=int, default=10, help="length of the recording that is read")
    parser.add_argument("--first", type=int, default=5, help="steps that are not counted")
    parser.add_argument("--steps", type=int, default=10, help="steps of a repetition")
    parser.add_argument("--repetitions", type=int, default=3, help="times that so many steps are timed")
    parser.add_argument("--fed_batches", type=int, default=120, help="batches that are timed where workers read them")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--tiny", action="store_true", help="models of a few thousand weights, to try the script")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("device=cuda: there is no GPU here; try the script with --device cpu --tiny")
    if args.device == "cpu" and not args.tiny:
        parser.error("device=cpu: these models take minutes a step there; add --tiny to try the script")
    args.compile = args.compile or ("last" if args.device == "cuda" else "off")
    return args


def main(argv=None):
    args = parse(argv)
    device = torch.device(args.device)
    machine = begin(args, "torch", "transformers", "soxr", "soundfile")
    args.card = machine["device"] = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    print(f"medians of {args.repetitions} times {args.steps} steps after {args.first}" + ", tiny models" * args.tiny)
    print("model       batch  precision attention         compiled  windows/s  TFLOP/s  of peak    memory")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "recording.wav"
        write_recording(recording, 60 * args.minutes, RECORDING_RATE)
        for name in args.models:
            loaded = load_subject(name, args.tiny)
            steps = time_steps(name, loaded, args, device)
            rows += steps + time_feeding(name, loaded, steps, recording, args, device)
            write_figures(args, machine, rows)  # after each model: a machine may be taken away


if __name__ == "__main__":
    main()
