"""What it saves to run a frozen backbone once: the epochs of a head on kept embeddings against the plain way.

    python benchmarks/frozen_backbone.py
    python benchmarks/frozen_backbone.py --models efficientat --model mn10_as_mAP_471.pt --output frozen_backbone.json

    once      MusicTrainer with recipes/configs/head.yaml: embeddings of all windows to an empty folder, then the epochs
    every     the same with --cache_embeddings False: the backbone hears every window in every epoch
    warm      a second run: all embeddings lie in the folder already

Seconds are from the loaded model to the outputs of validation and test split, a validation after every epoch counted;
not in them are imports, the table of tracks, checkpoints and the report. `ast` is AST-base, `efficientat` mn10, both at
their published size but from random weights, unless --model names a file or folder for efficientat: what they cost does
not hang on their weights. Of the windows, noisy tones in WAV files at the model's rate, a fifth is for validation and a
fifth for test.

The three take turns. Times are medians over the repetitions, the ratio every / once is the median of the repetitions'
own and should be 8 or more at ten epochs. Its bound is how often `every` runs the backbone over a window, on average:
training and validation windows in every epoch, validation and test ones at the end. The difference is the largest of
the test logits between once and every, which train the same head; where it has dropout, on several workers, other
values of it may be drawn.
"""

import runpy
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import begin, make_parser, write_figures
from signals import write_labelled
from timing import median_ratio
from transformers import PrinterCallback, set_seed

from hf_musiclf.arguments import parse_recipe
from hf_musiclf.data.folder import load_folder
from hf_musiclf.data.loading import cut_windows
from hf_musiclf.data.tracks import Tracks
from hf_musiclf.models.loading import load_classifier
from hf_musiclf.trainer import MusicTrainer

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
TARGET_RATIO = 8
# name -> recipe, model type
MODELS = {
    "ast": ("ast_gtzan", "audio-spectrogram-transformer"),
    "efficientat": ("efficientat_gtzan", "efficientat"),
}
LABELS = ("one", "other")
WAYS = ("once", "every", "warm")


def recipe_arguments(name, args, folder):
    """The argument objects of a recipe with head.yaml, as `args` changes them."""
    flags = dict(
        model=args.model if name == "efficientat" else "random", output_dir=folder / "run",
        num_train_epochs=args.epochs, bf16=False, save_strategy="no", load_best_model_at_end=False,
        disable_tqdm=True, report_to="none", dataloader_num_workers=args.workers,
    )  # fmt: skip
    defaults = runpy.run_path(str(RECIPES / f"{MODELS[name][0]}.py"))["DEFAULTS"]
    words = [f"--{flag}={value}" for flag, value in flags.items()]
    return parse_recipe(defaults, ["--config", str(RECIPES / "configs/head.yaml"), *words])


def new_model(name, model_args, window_seconds):
    set_seed(0)
    return load_classifier(model_args, LABELS, window_seconds, MODELS[name][1], verbose=False)


def write_windows(folder, count, seconds, rate):
    """`count` windows as so many files of one window, and their splits: three fifths, a fifth, a fifth."""
    write_labelled(folder, LABELS, count, seconds, rate=rate, channels=1)
    table = load_folder(str(folder), str(folder / "cache"))
    fifth = max(1, count // 5)
    parts = np.split(np.arange(count), [count - 2 * fifth, count - fifth])
    return Tracks(table, dict(zip(("train", "validation", "test"), parts, strict=True)), "given", 0, {})


def train(loaded, windows, training_args, cache_dir):
    """Seconds from the loaded model to the outputs of validation and test, and those of the test split."""
    set_seed(0)
    began = time.perf_counter()
    trainer = MusicTrainer(loaded, windows, training_args, cache_dir)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.logits(windows["validation"])
    logits = trainer.logits(windows["test"])
    return time.perf_counter() - began, logits


def compare(name, args):
    """One row of the table: windows, median seconds of each way, ratio, difference."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data_args, model_args, training_args = recipe_arguments(name, args, folder)
        loaded = new_model(name, model_args, data_args.window_seconds)
        rate, count = loaded.features.sampling_rate, getattr(args, f"{name}_windows")
        tracks = write_windows(folder / "audio", count, data_args.window_seconds, rate)
        data_args = replace(data_args, eval_hop_seconds=data_args.window_seconds)
        seconds, logits, difference = {way: [] for way in WAYS}, {}, 0.0
        for repetition in range(args.repetitions):
            for way in WAYS:
                loaded = new_model(name, model_args, data_args.window_seconds)
                windows = cut_windows(tracks, data_args, rate)
                its = replace(training_args, cache_embeddings=way != "every")
                lasted, logits[way] = train(loaded, windows, its, str(folder / f"embeddings_{repetition}"))
                seconds[way].append(lasted)
            difference = max(difference, float(np.abs(logits["once"] - logits["every"]).max()))
    row = {"model": name, "parameters": loaded.facts["parameters"], "windows": count, "epochs": args.epochs}
    parts = {split: len(part) for split, part in windows.items()}
    heard = args.epochs * (parts["train"] + parts["validation"]) + parts["validation"] + parts["test"]
    row["bound"] = heard / sum(parts.values())
    row |= {f"{way}_seconds": statistics.median(lasted) for way, lasted in seconds.items()}
    ratio = median_ratio(seconds["every"], seconds["once"])
    return row | {"ratio": ratio, "largest_difference": difference, "each": seconds}


def main(argv=None):
    parser = make_parser(__doc__, threads=True)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="backbones to compare")
    parser.add_argument("--model", default="random", help="file or folder for efficientat; default: random, mn10")
    parser.add_argument("--ast_windows", type=int, default=5, help="windows of 10.24 s for ast, 5 or more")
    parser.add_argument("--efficientat_windows", type=int, default=60, help="windows of 10 s for efficientat")
    parser.add_argument("--epochs", type=int, default=10, help="of the head")
    parser.add_argument("--workers", type=int, default=2, help="processes that read; 0: none")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each")
    args = parser.parse_args(argv)
    for name in ("ast_windows", "efficientat_windows"):
        if getattr(args, name) < 5:
            parser.error(f"{name}={getattr(args, name)} leaves a split without windows; 5 or more")
    machine = begin(args, "torch", "transformers", "accelerate", "soxr", "soundfile")
    print(f"{args.threads} threads, {args.workers} workers, medians of {args.repetitions} repetitions")
    print("model        parameters  windows  epochs     once    every     warm   ratio   bound  largest difference")
    rows = []
    for name in args.models:
        rows.append(row := compare(name, args))
        times = "".join(f"{row[f'{way}_seconds']:7.1f} s" for way in WAYS)
        about = f"{name:11}{row['parameters']:12,}{row['windows']:9}{row['epochs']:8}"
        print(f"{about}{times}{row['ratio']:8.1f}{row['bound']:8.1f}{row['largest_difference']:20.1e}", flush=True)
        reached = "reached" if row["ratio"] >= TARGET_RATIO else "not reached"
        print(f"the target of {TARGET_RATIO} is {reached}", flush=True)
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
