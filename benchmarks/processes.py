"""Two processes on a CPU against one at twice the batch: the same losses, every track scored once, and the time.

    python benchmarks/processes.py
    python benchmarks/processes.py --batch 32 --num_train_epochs 10 --output processes.json

Starts recipes/ast_gtzan.py with recipes/configs/demo.yaml on the synthetic corpus as a user would:

    one    python recipes/ast_gtzan.py with batches of --batch, on --threads threads
    two    accelerate launch --cpu --num_processes 2 with half of it a process, each on half of the threads

Both see the same windows in each step, so that the losses differ by the rounding of float32 alone: by what the sum of
two halves differs from the whole, which grows from step to step. Differences are the largest of all steps (loss), of
all epochs (validation) and of all tracks (probabilities), in all repetitions. Every track was scored once if
predictions.csv names each of validation and test once and the report counts all of their windows. Loop is training
windows a second, as report.json has it; whole is the wall time of the command, imports and evaluation included: medians
of the repetitions, in which the two take turns. The loss is logged in every step, for which the two have to meet.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from machine import begin, make_parser, write_figures

from hf_musiclf.data.synthetic import write_corpus
from hf_musiclf.launching import available_cores

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
PROCESSES = {"one": 1, "two": 2}


def run(way, corpus, folder, args):
    """Wall seconds of the recipe, its report and the rows of its predictions.csv. Exits where it fails."""
    count = PROCESSES[way]
    accelerate = [str(Path(sys.executable).parent / "accelerate"), "launch", "--cpu", "--num_processes", str(count)]
    flags = dict(
        config=RECIPES / "configs/demo.yaml", data_dir=corpus, cache_dir=f"{folder}/cache", output_dir=folder / way,
        per_device_train_batch_size=args.batch // count, num_train_epochs=args.num_train_epochs, logging_steps=1,
        dataloader_drop_last=True, dataloader_num_workers=0, use_cpu=True, disable_tqdm=True, report_to="none",
        overwrite_output_dir=True,
    )  # fmt: skip
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [*(accelerate if count > 1 else [sys.executable]), str(RECIPES / "ast_gtzan.py"), *words]
    threads = {"OMP_NUM_THREADS": str(max(1, args.threads // count))}
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    report = json.loads((folder / way / "report.json").read_text())
    assert report["training"]["processes"] == count, f"{report['training']['processes']} processes, not {count}"
    with (folder / way / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return {"seconds": seconds, "report": report, "predictions": list(csv.DictReader(file))}


def curve(report, name):
    """Values of this name in a run's history, in the order of the steps."""
    return [entry[name] for entry in report["training"]["history"] if name in entry]


def largest_difference(ours, theirs):
    assert len(ours) == len(theirs) > 0, f"{len(ours)} values against {len(theirs)}"
    return max(abs(one - other) for one, other in zip(ours, theirs, strict=True))


def scored_once(predictions, report):
    """Whether each track of validation and test stands in the predictions once, and every window was scored."""
    times = Counter((row["split"], row["track"]) for row in predictions)
    splits = report["data"]["splits"]
    tracks = sum(splits[split]["tracks"] for split in ("validation", "test"))
    windows = [(report[split]["window"]["n"], splits[split]["windows"]) for split in ("validation", "test")]
    return set(times.values()) == {1} and len(times) == tracks and all(one == other for one, other in windows)


def compare(one, two):
    """What two runs differ in: see the docstring."""
    first, second = one["report"], two["report"]
    labels = first["data"]["labels"]
    probabilities = [
        [
            float(row[label])
            for row in sorted(found["predictions"], key=lambda row: (row["split"], row["track"]))
            for label in labels
        ]
        for found in (one, two)
    ]
    losses, validation = ((curve(first, name), curve(second, name)) for name in ("loss", "eval_track_log_loss"))
    return {
        "steps": len(losses[0]),
        "first_loss": losses[0][0],
        "last_loss": losses[0][-1],
        "first_loss_difference": abs(losses[0][0] - losses[1][0]),
        "loss_difference": largest_difference(*losses),
        "validation_log_loss_difference": largest_difference(*validation),
        "probability_difference": largest_difference(*probabilities),
        "every_track_scored_once": all(scored_once(found["predictions"], found["report"]) for found in (one, two)),
    }


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--batch", type=int, default=16, help="windows a step, an even number")
    parser.add_argument("--num_train_epochs", type=int, default=5, help="epochs of each run")
    parser.add_argument("--artists", type=int, default=20, help="artists of each genre in the corpus")
    parser.add_argument("--threads", type=int, default=available_cores(), help="threads of all processes together")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each")
    args = parser.parse_args(argv)
    if args.batch % 2:
        parser.error(f"batch={args.batch} is odd; two processes share it, pass an even one")
    machine = begin(args, "torch", "transformers", "accelerate")
    print(f"batches of {args.batch}, {args.num_train_epochs} epochs, {args.threads} threads, {args.repetitions} turns")
    runs = {way: [] for way in PROCESSES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder / "corpus", artists_per_genre=args.artists)
        for _ in range(args.repetitions):
            for way in PROCESSES:
                runs[way].append(run(way, corpus, folder, args))
    print("processes  loop windows/s     whole")
    rows = []
    for way, found in runs.items():
        speed = statistics.median(one["report"]["training"]["train_windows_per_second"] for one in found)
        seconds = statistics.median(one["seconds"] for one in found)
        rows.append({"processes": PROCESSES[way], "loop_windows_per_second": speed, "whole_seconds": seconds})
        print(f"{PROCESSES[way]:9}{speed:16.1f}{seconds:8.1f} s")
    pairs = [compare(*pair) for pair in zip(runs["one"], runs["two"], strict=True)]
    found = {name: max(pair[name] for pair in pairs) for name in pairs[0] if name.endswith("difference")}
    found |= {name: pairs[0][name] for name in ("steps", "first_loss", "last_loss")}
    found["every_track_scored_once"] = all(pair["every_track_scored_once"] for pair in pairs)
    rows.append(found)
    print(f"{found['steps']} steps, loss {found['first_loss']:.3f} to {found['last_loss']:.3f}; largest differences:")
    print(f"  loss {found['loss_difference']:.1e}, in the first step {found['first_loss_difference']:.1e}")
    print(f"  validation log loss {found['validation_log_loss_difference']:.1e}, ", end="")
    print(f"probabilities {found['probability_difference']:.1e}")
    print(f"every track scored once: {'yes' if found['every_track_scored_once'] else 'NO'}")
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
