"""What of a model's own speed a real training run keeps: MusicTrainer against a bare loop over tensors in memory.

    python benchmarks/training_loop.py
    python benchmarks/training_loop.py --models ast cnn --steps 100 --output training_loop.json

    trainer   MusicTrainer with the DEFAULTS of the model's recipe on the synthetic corpus: workers read a random window
              of each WAV and resample it, mixup and masks are made on the model's device; no evaluation, no saving.
              Features are made there, too, or on a CPU with cores to spare by the workers: --inputs workers or main
              has them made there whatever the cores
    bare      the same model (and memory format), optimiser, clipping and batch size over model inputs already in
              memory; nothing else

`ast` has 192 units, 6 layers, 10.24 s and 128 mels (2.8 M parameters), `demo` is of recipes/configs/demo.yaml, `cnn`
is recipes/cnn_gtzan.py's, `efficientat` mn04; all from random weights. The two take turns, each time with a new model;
the first steps of each are not counted, nor is what comes before them. Speeds are clips a second, medians over the
repetitions; the ratio is the median of the repetitions' own. It should be 0.95 or more. The corpus is written to a
temporary folder, or with --data_dir to one that stays and is used again.
"""

import itertools
import runpy
import statistics
import tempfile
from functools import partial
from pathlib import Path

import torch
from machine import begin, make_parser, write_figures
from timing import now
from transformers import PrinterCallback, TrainerCallback, set_seed

from hf_musiclf.arguments import parse_recipe
from hf_musiclf.data.loading import cut_windows, load_tracks
from hf_musiclf.data.synthetic import write_corpus
from hf_musiclf.data.window_dataset import collate_inputs, collate_windows
from hf_musiclf.models.loading import load_classifier
from hf_musiclf.trainer import MusicTrainer

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
TARGET_RATIO = 0.95
LARGER = {
    "window_seconds": 10.24,
    "model_config": "hidden_size=192,num_hidden_layers=6,num_attention_heads=3,intermediate_size=768,"
    "num_mel_bins=128,patch_size=16,frequency_stride=16,time_stride=16",
}
AST, DEMO = "audio-spectrogram-transformer", {"config": RECIPES / "configs/demo.yaml"}
# Recipe, model type, and flags beside the recipe's DEFAULTS.
MODELS = {
    "demo": ("ast_gtzan", AST, DEMO),
    "ast": ("ast_gtzan", AST, {**DEMO, **LARGER, "per_device_train_batch_size": 8}),
    "cnn": ("cnn_gtzan", "spectrogram_cnn", {}),
    "efficientat": ("efficientat_gtzan", "efficientat", {"model": "random", "model_config": "width_mult=0.4"}),
}


class _Stopwatch(TrainerCallback):
    """Seconds between the end of step `first` and the end of the last step."""

    def __init__(self, first):
        self.first, self.seconds = first, 0.0

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.first:
            self.seconds = -now(args.device)
        elif state.global_step == args.max_steps:
            self.seconds += now(args.device)


def recipe_arguments(args, name, folder):
    """The argument objects of the model's recipe, changed as `args` says."""
    recipe, _, flags = MODELS[name]
    flags = dict(
        dataset="synthetic", split_scheme="artist", data_dir=args.data_dir or f"{folder}/corpus",
        cache_dir=f"{folder}/cache", output_dir=f"{folder}/run", max_steps=args.first + args.steps,
        dataloader_num_workers=args.workers, dataloader_drop_last=True, eval_strategy="no", save_strategy="no",
        load_best_model_at_end=False, disable_tqdm=True, report_to="none",
    ) | flags  # fmt: skip
    flags |= {"per_device_train_batch_size": args.batch} if args.batch else {}
    argv = [f"--{flag}={value}" for flag, value in flags.items()]
    return parse_recipe(runpy.run_path(str(RECIPES / f"{recipe}.py"))["DEFAULTS"], argv)


def new_model(name, model_args, labels, window_seconds, seed):
    set_seed(seed)
    return load_classifier(model_args, labels, window_seconds, MODELS[name][1], verbose=False)


def time_trainer(loaded, windows, training_args, first, inputs):
    """Seconds of the steps after the first ones in `Trainer.train`."""
    stopwatch = _Stopwatch(first)
    trainer = MusicTrainer(loaded, windows, training_args, callbacks=[stopwatch])
    trainer.remove_callback(PrinterCallback)
    if inputs != "auto":
        trainer.data_collator = partial(collate_inputs, loaded.features) if inputs == "workers" else collate_windows
    trainer.train()
    return stopwatch.seconds


def batches_in_memory(loaded, windows, training_args):
    """Model inputs on the device, as many batches as the steps or an epoch has."""
    loader = torch.utils.data.DataLoader(
        windows, training_args.train_batch_size, shuffle=True, collate_fn=collate_windows, drop_last=True
    )
    batches = []
    for batch in itertools.islice(loader, training_args.max_steps):
        batch = {name: tensor.to(training_args.device) for name, tensor in batch.items()}
        batches.append({"labels": batch["labels"], **loaded.features(batch["waveforms"], batch["lengths"])})
    return batches


def time_bare_loop(loaded, windows, batches, training_args, first):
    """Seconds of the steps after the first ones in a loop that does nothing but train."""
    optimizer = MusicTrainer(loaded, windows, training_args).create_optimizer()
    model = loaded.model.to(training_args.device).train()
    for step, batch in enumerate(itertools.islice(itertools.cycle(batches), training_args.max_steps)):
        if step == first:
            began = now(training_args.device)
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training_args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return now(training_args.device) - began


def compare(name, args, folder):
    """The settings, and one row a repetition: clips a second of both, and their ratio."""
    data_args, model_args, training_args = recipe_arguments(args, name, folder)
    write_corpus(data_args.data_dir)
    tracks = load_tracks(data_args, verbose=False)
    loaded = new_model(name, model_args, tracks.labels, data_args.window_seconds, 0)
    windows = cut_windows(tracks, data_args, loaded.features.sampling_rate)
    batches = batches_in_memory(loaded, windows["train"], training_args)
    clips = args.steps * training_args.train_batch_size
    per_epoch = len(windows["train"]) // training_args.train_batch_size
    print(f"{name}: {loaded.facts['parameters']:,} parameters, {per_epoch} steps an epoch, batches of", end=" ")
    print(f"{training_args.train_batch_size} x {data_args.window_seconds} s on {training_args.device.type}")
    print("repetition  trainer clips/s  bare clips/s  ratio")
    rows = []
    for repetition in range(args.repetitions):
        loaded, other = (
            new_model(name, model_args, tracks.labels, data_args.window_seconds, repetition) for _ in range(2)
        )
        trainer = clips / time_trainer(loaded, windows, training_args, args.first, args.inputs)
        bare = clips / time_bare_loop(other, windows, batches, training_args, args.first)
        row = {"trainer_clips_per_second": trainer, "bare_clips_per_second": bare, "ratio": trainer / bare}
        print(f"{repetition + 1:10}{trainer:17.1f}{bare:14.1f}{trainer / bare:7.2f}", flush=True)
        rows.append({"model": name, **row})
    medians = {key: statistics.median(row[key] for row in rows) for key in row}
    speeds = f"{medians['trainer_clips_per_second']:17.1f}{medians['bare_clips_per_second']:14.1f}"
    reached = "reached" if medians["ratio"] >= TARGET_RATIO else "not reached"
    print(f"{'median':>10}{speeds}{medians['ratio']:7.2f}; the target of {TARGET_RATIO} is {reached}", flush=True)
    return [*rows, {"model": name, "batch": training_args.train_batch_size, "median": medians}]


def main(argv=None):
    parser = make_parser(__doc__, threads=True)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="models to train")
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps that count")
    parser.add_argument("--first", type=int, default=10, help="steps before them that do not")
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each")
    parser.add_argument("--batch", type=int, help="clips a step, if not the recipe's")
    parser.add_argument("--inputs", choices=["auto", "main", "workers"], default="auto", help="who makes the features")
    parser.add_argument("--workers", type=int, default=2, help="processes that read; 0: none")
    parser.add_argument("--data_dir", help="folder for the synthetic corpus; default: a temporary one")
    args = parser.parse_args(argv)
    machine = begin(args, "torch", "transformers", "accelerate", "soxr", "soundfile")
    print(f"{args.workers} workers, {args.threads} threads, {args.steps} steps after {args.first}")
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in args.models for row in compare(name, args, folder)]
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
