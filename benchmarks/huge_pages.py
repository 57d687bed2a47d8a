"""What memory in pages of 2 MiB is worth to a CPU, and what it costs: `THP_MEM_ALLOC_ENABLE`, which hf_musiclf sets.

    python benchmarks/huge_pages.py
    python benchmarks/huge_pages.py --models vgg efficientat --precisions float32 --output huge_pages.json

A training step (forward, backward, AdamW) and a forward pass of a batch of random inputs, in a process of its own each
time: PyTorch reads the variable once. `small` has it at 0, PyTorch's default, `huge` at 1; weights have their channels
last in both where training turns them so. The processes take turns, the order turned round from one repetition to the
next. Speeds are windows a second, medians over the repetitions; the speed-ups are the median of the repetitions' own;
memory is the largest resident set of a process, the median too.

On Linux the kernel has to allow it (/sys/kernel/mm/transparent_hugepage/enabled: madvise, or always, where `small` is
in huge pages in part, too); elsewhere it changes nothing.
"""

import os
import statistics
import sys
from pathlib import Path

from machine import begin, make_parser, peak_bytes, write_figures
from timing import answer, in_process, median_ratio, take_turns

VARIABLE, WAYS = "THP_MEM_ALLOC_ENABLE", {"small": "0", "huge": "1"}
ALLOWED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MODELS, PRECISIONS = ("cnn", "four_layer_cnn", "crnn", "vgg", "efficientat"), ("float32", "bf16")


def measure(name, precision, batch, threads):
    """Seconds of a training step and of a forward pass, and the peak of memory in bytes."""
    import torch
    from convolutions import batch_of

    from hf_musiclf.models.loading import FAMILIES

    torch.set_num_threads(threads)
    loaded, inputs, labels = batch_of(name, batch)
    model = loaded.model
    if getattr(FAMILIES[loaded.family], "CHANNELS_LAST", False):
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")

    def step():
        with autocast:
            loss = model.train()(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def forward():
        with torch.inference_mode(), autocast:
            model.eval()(**inputs)

    seconds, _ = take_turns({"forward": forward, "step": step}, torch.device("cpu"), 3)
    return {way: statistics.median(lasted) for way, lasted in seconds.items()} | {"peak": peak_bytes()}


def compare(name, precision, args):
    """One row of the table."""
    found = {way: [] for way in WAYS}
    for repetition in range(args.repetitions):
        for way in list(WAYS)[:: -1 if repetition % 2 else 1]:
            os.environ[VARIABLE] = WAYS[way]
            found[way].append(in_process(__file__, name, precision, args.batch, args.threads))
    row = {"model": name, "precision": precision, "batch": args.batch}
    for what in ("step", "forward"):
        seconds = {way: [each[what] for each in of_way] for way, of_way in found.items()}
        row |= {f"{way}_{what}_windows_per_second": args.batch / statistics.median(seconds[way]) for way in WAYS}
        row[f"{what}_speed_up"] = median_ratio(seconds["small"], seconds["huge"])
    return row | {f"{way}_gb": statistics.median(each["peak"] for each in found[way]) / 1e9 for way in WAYS}


def main(argv=None):
    if answer(measure, argv):
        return
    parser = make_parser(__doc__, threads=True)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="which to time")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="of the steps")
    parser.add_argument("--batch", type=int, default=32, help="windows a step")
    parser.add_argument("--repetitions", type=int, default=3, help="processes of each")
    args = parser.parse_args(argv)
    if not ALLOWED.exists() or "[never]" in ALLOWED.read_text():
        sys.exit(f"this system has no huge pages to give: {ALLOWED} is absent or says never")
    machine = begin(args, "torch", "transformers") | {"huge_pages": ALLOWED.read_text().strip()}
    print(f"{args.threads} threads, batches of {args.batch}, medians of {args.repetitions} processes each")
    print("model           precision  step: small    huge  speed-up  forward: small    huge  speed-up  GB: small  huge")
    rows = []
    for name in args.models:
        for precision in args.precisions:
            rows.append(row := compare(name, precision, args))
            told = f"{name:16}{precision:9}"
            for what, width in (("step", 13), ("forward", 16)):
                small, huge = (row[f"{way}_{what}_windows_per_second"] for way in WAYS)
                told += f"{small:{width}.1f}{huge:8.1f}{row[f'{what}_speed_up']:10.2f}"
            print(f"{told}{row['small_gb']:11.2f}{row['huge_gb']:6.2f}", flush=True)
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
