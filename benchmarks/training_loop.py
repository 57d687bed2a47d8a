"""What of a model's own speed a real training run keeps: MusicTrainer against a bare loop over tensors in memory.

    python benchmarks/training_loop.py
    python benchmarks/training_loop.py --larger --output training_loop.json

    trainer   MusicTrainer with the settings of recipes/ast_gtzan.py on the synthetic corpus: workers read a random
              window of each WAV and resample it, features are made on the model's device; no evaluation, no saving
    bare      the same model, AdamW, clipping at 1.0 and batch size over an epoch of input_values already in memory;
              nothing else

The model is the AST of recipes/configs/demo.yaml, or with --larger one of 192 units, 6 layers, 10.24 s and 128 mels,
from random weights. The two take turns, each time with a new model; the first steps of each are not counted, nor is
what comes before them. Speeds are clips a second, medians over the repetitions; the ratio is the median of the
repetitions' own. It should be 0.9 or more. The corpus is written to a temporary folder, or with --data_dir to one that
stays and is used again.
"""

import argparse
import itertools
import runpy
import statistics
import tempfile
from pathlib import Path

import torch
from machine import as_line, describe_machine, write_figures
from timing import now
from transformers import PrinterCallback, TrainerCallback, set_seed

from hf_musiclf.arguments import parse_recipe
from hf_musiclf.data.loading import cut_windows, load_tracks
from hf_musiclf.data.synthetic import write_corpus
from hf_musiclf.data.window_dataset import collate_windows
from hf_musiclf.models.loading import load_classifier
from hf_musiclf.training import MusicTrainer

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
TARGET_RATIO = 0.9
LARGER = {
    "window_seconds": 10.24,
    "model_config": "hidden_size=192,num_hidden_layers=6,num_attention_heads=3,intermediate_size=768,"
    "num_mel_bins=128,patch_size=16,frequency_stride=16,time_stride=16",
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


def recipe_arguments(args, folder):
    """The argument objects of the recipe with its demo config, changed as `args` says."""
    flags = dict(
        data_dir=args.data_dir or f"{folder}/corpus", cache_dir=f"{folder}/cache", output_dir=f"{folder}/run",
        max_steps=args.first + args.steps, dataloader_num_workers=args.workers, dataloader_drop_last=True,
        eval_strategy="no", save_strategy="no", load_best_model_at_end=False, disable_tqdm=True, report_to="none",
    )  # fmt: skip
    flags |= LARGER if args.larger else {}
    flags |= {"per_device_train_batch_size": args.batch} if args.batch else {}
    argv = [f"--{name}={value}" for name, value in flags.items()]
    recipe = runpy.run_path(str(RECIPES / "ast_gtzan.py"))
    return parse_recipe(recipe["DEFAULTS"], ["--config", str(RECIPES / "configs/demo.yaml"), *argv])


def new_model(model_args, labels, window_seconds, seed):
    set_seed(seed)
    return load_classifier(model_args, labels, window_seconds, "audio-spectrogram-transformer", verbose=False)


def time_trainer(loaded, windows, training_args, first):
    """Seconds of the steps after the first ones in `Trainer.train`."""
    stopwatch = _Stopwatch(first)
    trainer = MusicTrainer(loaded, windows, training_args, callbacks=[stopwatch])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return stopwatch.seconds


def batches_in_memory(loaded, windows, training_args):
    """An epoch of model inputs on the device."""
    loader = torch.utils.data.DataLoader(
        windows, training_args.train_batch_size, shuffle=True, collate_fn=collate_windows, drop_last=True
    )
    batches = []
    for batch in loader:
        batch = {name: tensor.to(training_args.device) for name, tensor in batch.items()}
        batches.append({"labels": batch["labels"], **loaded.features(batch["waveforms"], batch["lengths"])})
    return batches


def time_bare_loop(model, batches, training_args, first):
    """Seconds of the steps after the first ones in a loop that does nothing but train."""
    model.to(training_args.device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training_args.learning_rate, weight_decay=training_args.weight_decay,
        betas=(training_args.adam_beta1, training_args.adam_beta2), eps=training_args.adam_epsilon,
        fused=training_args.optim == "adamw_torch_fused",
    )  # fmt: skip
    for step, batch in enumerate(itertools.islice(itertools.cycle(batches), training_args.max_steps)):
        if step == first:
            began = now(training_args.device)
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training_args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return now(training_args.device) - began


def compare(args, data_args, model_args, training_args):
    """One row a repetition: clips a second of both, and their ratio."""
    write_corpus(data_args.data_dir)
    tracks = load_tracks(data_args, verbose=False)
    loaded = new_model(model_args, tracks.labels, data_args.window_seconds, 0)
    windows = cut_windows(tracks, data_args, loaded.features.sampling_rate)
    batches = batches_in_memory(loaded, windows["train"], training_args)
    clips = args.steps * training_args.train_batch_size
    print(f"{loaded.facts['parameters']:,} parameters, {len(batches)} steps an epoch, batches of", end=" ")
    print(f"{training_args.train_batch_size} x {data_args.window_seconds} s on {training_args.device.type}")
    print("repetition  trainer clips/s  bare clips/s  ratio")
    rows = []
    for repetition in range(args.repetitions):
        loaded, other = (new_model(model_args, tracks.labels, data_args.window_seconds, repetition) for _ in range(2))
        trainer = clips / time_trainer(loaded, windows, training_args, args.first)
        bare = clips / time_bare_loop(other.model, batches, training_args, args.first)
        row = {"trainer_clips_per_second": trainer, "bare_clips_per_second": bare, "ratio": trainer / bare}
        print(f"{repetition + 1:10}{trainer:17.1f}{bare:14.1f}{trainer / bare:7.2f}", flush=True)
        rows.append(row)
    return rows


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--larger", action="store_true", help="192 units, 6 layers, 10.24 s, 128 mels, not the demo's")
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps that count")
    parser.add_argument("--first", type=int, default=10, help="steps before them that do not")
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each")
    parser.add_argument("--batch", type=int, help="clips a step, if not the demo's")
    parser.add_argument("--workers", type=int, default=2, help="processes that read; 0: none")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of PyTorch on the CPU")
    parser.add_argument("--data_dir", help="folder for the synthetic corpus; default: a temporary one")
    parser.add_argument("--output", type=Path, help="JSON file to write the figures to")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    machine = describe_machine("torch", "transformers", "accelerate", "soxr", "soundfile")
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    print(as_line(machine))
    with tempfile.TemporaryDirectory() as folder:
        data_args, model_args, training_args = recipe_arguments(args, folder)
        print(f"{args.workers} workers, {args.threads} threads, {args.steps} steps after {args.first}")
        rows = compare(args, data_args, model_args, training_args)
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    speeds = f"{medians['trainer_clips_per_second']:17.1f}{medians['bare_clips_per_second']:14.1f}"
    print(f"{'median':>10}{speeds}{medians['ratio']:7.2f}")
    reached = "reached" if medians["ratio"] >= TARGET_RATIO else "not reached"
    print(f"the target of {TARGET_RATIO} is {reached}")
    if args.output:
        settings = {name: value for name, value in vars(args).items() if name not in ("data_dir", "output")}
        settings["batch"] = training_args.train_batch_size
        write_figures(args.output, machine, settings, [*rows, {"median": medians}])


if __name__ == "__main__":
    main()
