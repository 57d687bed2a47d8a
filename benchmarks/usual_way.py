"""What a whole training costs, and what it scores, against the way of Transformers' audio-classification example.

    python benchmarks/usual_way.py
    python benchmarks/usual_way.py --usual_workers 4 --repetitions 5 --output usual_way.json
    python benchmarks/usual_way.py --validation_windows_per_track 1
    python benchmarks/usual_way.py --recordings 40 --seconds 420 --repetitions 1
    python benchmarks/usual_way.py --data_dir GTZAN_FOLDER --split_scheme random --epochs 30

    ours      recipes/ast_gtzan.py: two workers read a random window of each file, features are made in batches; the
              test score is of whole tracks, validation of windows spread over each (all of them where there are few);
              table of tracks (no file is known yet), report and pictures count
    usual     benchmarks/usual_example.py: `set_transform` decodes whole files and calls the stock extractor; the test
              score is of each track's first window. It gets the split ready made. Once in the main process, Trainer's
              default, and once in as many workers as ours has, which are kept between epochs (--usual_workers)

The same model from the same random weights (an AST of --model_config), the same split, epochs, batch, learning rates
and seed; the model of the last epoch counts; validation after every epoch, no checkpoints. Each is a process of its
own, from the start of Python to its end, and they take turns, each time with another seed. The ratio is the median of
the repetitions' own; it should be 3 or more over the main process. Accuracy is over the test tracks of all repetitions,
its 95 % interval a bootstrap over artists.

Data: the synthetic corpus, its tracks as long as GTZAN's; or with --recordings so many noisy tones of --seconds each at
48 kHz stereo, like MAESTRO's recordings, of two labels and nothing to learn; or with --data_dir what `--dataset gtzan`
or `--dataset folder` reads as files, not as an archive.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import begin, make_parser, write_figures
from signals import write_labelled
from timing import median_ratio
from transformers import set_seed

from hf_musiclf.arguments import DataArguments, ModelArguments
from hf_musiclf.data.loading import load_tracks
from hf_musiclf.data.synthetic import write_corpus
from hf_musiclf.intervals import bootstrap_intervals
from hf_musiclf.models.loading import load_classifier, quiet_transformers
from hf_musiclf.predictions import read_predictions

HERE = Path(__file__).resolve().parent
TARGET_RATIO = 3
# recipes/configs/demo.yaml, what the speed hangs on.
MODEL_CONFIG = (
    "hidden_size=128,num_hidden_layers=4,num_attention_heads=4,intermediate_size=512,num_mel_bins=64,"
    "frequency_stride=16,time_stride=16"
)
OPTIMISATION = {
    "learning_rate": 1e-3, "warmup_steps": 0.1, "weight_decay": 0.01, "lr_scheduler_type": "cosine",
    "per_device_eval_batch_size": 32, "eval_strategy": "epoch", "save_strategy": "no", "load_best_model_at_end": False,
    "logging_steps": 10, "disable_tqdm": True, "report_to": "none",
}  # fmt: skip


def data_arguments(args, folder):
    """Where the tracks are, as `load_tracks` and the recipe take it; what is to be made is written first."""
    found = {"dataset": args.dataset, "data_dir": args.data_dir, "split_scheme": args.split_scheme}
    if args.recordings:
        write_labelled(folder / "recordings", ("one", "other"), args.recordings, args.seconds)
        found |= {"dataset": "folder", "data_dir": str(folder / "recordings"), "split_scheme": "random"}
    elif not args.data_dir:
        corpus = write_corpus(folder / "corpus", args.tracks_per_artist, args.artists_per_genre, args.seconds)
        found |= {"dataset": "synthetic", "data_dir": str(corpus)}
    return {name: value for name, value in found.items() if value is not None}


def save_model(args, labels, seed, folder):
    """An untrained model and its extractor: both ways begin with it."""
    set_seed(seed)
    made = ModelArguments(model="random", model_config=args.model_config)
    loaded = load_classifier(made, labels, args.window_seconds, "audio-spectrogram-transformer", verbose=False)
    with quiet_transformers():
        loaded.save(folder)
    return loaded.facts["parameters"]


def run_timed(command, args):
    """Seconds of a process from its start to its end, and what it printed. Exits where it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE.parent)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{command[1]} failed:\n{done.stderr}")
    return seconds, done.stdout


def run_ours(data, optimisation, model, folder, args):
    """Seconds, and the predictions of the test tracks."""
    window = {"window_seconds": args.window_seconds, "eval_hop_seconds": args.window_seconds}
    flags = {**data, **window, **optimisation, "model": model, "dataloader_num_workers": args.workers}
    flags |= {"validation_windows_per_track": args.validation_windows_per_track}
    flags |= {"cache_dir": folder / "cache", "output_dir": folder / "ours"}
    words = [f"--{name}={value}" for name, value in flags.items()]
    seconds, _ = run_timed([sys.executable, "recipes/ast_gtzan.py", *words], args)
    return seconds, read_predictions(folder / "ours")["test"]


def run_usual(splits, optimisation, model, folder, args, workers):
    """Seconds, and the label id of each test track."""
    arguments = {**optimisation, "dataloader_num_workers": workers, "dataloader_persistent_workers": workers > 0}
    request = {"splits": splits, "model": str(model), "window_seconds": args.window_seconds, "arguments": arguments}
    request["output_dir"] = str(folder / f"usual_{workers}")
    told = folder / "request.json"  # a word of a command holds no more than 128 KiB
    told.write_text(json.dumps(request))
    seconds, said = run_timed([sys.executable, str(HERE / "usual_example.py"), str(told)], args)
    return seconds, np.array(json.loads(said.splitlines()[-1]))


def compare(args, folder):
    """One row a repetition, and each way's accuracy over all of them."""
    data = data_arguments(args, folder)
    tracks = load_tracks(DataArguments(**data, cache_dir=str(folder / "first_look")), verbose=False)
    paths = [audio["path"] for audio in tracks.table.column("audio")]
    names, labels = tracks.table.column("track"), tracks.table.column("label")
    splits = {split: [[paths[item], labels[item]] for item in items] for split, items in tracks.splits.items()}
    if not all(Path(path).is_file() for path in paths):
        sys.exit(f"{args.data_dir} holds tracks in an archive; unpack it for the usual way")
    print(", ".join(f"{len(rows)} tracks of {split}" for split, rows in splits.items()), f"in {args.epochs} epochs")
    test = [names[item] for item in tracks.splits["test"]]
    data["split_scheme"] = tracks.split_scheme  # the recipe's own default may be another
    ways = ["ours", *(f"usual_{workers}" for workers in args.usual_workers)]
    rows, said = [], {way: [] for way in ways}
    for seed in range(args.repetitions):
        place = folder / str(seed)
        parameters = save_model(args, tracks.labels, seed, place / "model")
        if seed == 0:
            print(f"{parameters:,} parameters, batches of {args.batch} x {args.window_seconds} s")
            print("repetition  way       seconds  accuracy   ratio")
        optimisation = {**OPTIMISATION, "num_train_epochs": args.epochs, "seed": seed}
        optimisation["per_device_train_batch_size"] = args.batch
        ours, predictions = run_ours(data, optimisation, place / "model", place, args)
        of_track = dict(zip(predictions.tracks, predictions.predicted == predictions.label_ids, strict=True))
        found = {"ours": (ours, np.array([of_track[name] for name in test]))}
        for way, workers in zip(ways[1:], args.usual_workers, strict=True):
            usual, predicted = run_usual(splits, optimisation, place / "model", place, args, workers)
            found[way] = (usual, predicted == [labels[item] for item in tracks.splits["test"]])
        row = {}
        for way, (seconds, right) in found.items():
            said[way].append(right)
            row |= {f"{way}_seconds": seconds, f"{way}_accuracy": float(right.mean())}
            print(f"{seed + 1:10}  {way:8}{seconds:9.1f}{right.mean():10.3f}{seconds / ours:8.2f}", flush=True)
        rows.append(row)
    groups = [tracks.table.groups[item] or names[item] for item in tracks.splits["test"]] * args.repetitions
    return rows, {way: with_interval(np.concatenate(right), groups) for way, right in said.items()}


def with_interval(right, groups):
    """Share of tracks that were right, and its 95 % interval. right: `(tracks,)` bool."""
    as_classes = np.stack([~right, right], axis=1).astype(float)
    low, high = bootstrap_intervals(as_classes, np.ones(len(right), int), np.array(groups))["accuracy"]
    return [float(right.mean()), float(low), float(high)]


def main(argv=None):
    parser = make_parser(__doc__, threads=True)
    parser.add_argument("--data_dir", help="folder of GTZAN, or of LABEL/file; default: the synthetic corpus")
    parser.add_argument("--dataset", choices=["gtzan", "folder"], default="gtzan", help="what --data_dir holds")
    parser.add_argument("--split_scheme", help="of the data; default: the first that they allow")
    parser.add_argument("--recordings", type=int, default=0, help="so many at 48 kHz stereo instead of the corpus")
    parser.add_argument("--tracks_per_artist", type=int, default=2, help="of the synthetic corpus")
    parser.add_argument("--artists_per_genre", type=int, default=10, help="of the synthetic corpus")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of its tracks; GTZAN's are 30 s")
    parser.add_argument("--model_config", default=MODEL_CONFIG, help="fields of ASTConfig; default: the demo's, 0.8 M")
    parser.add_argument("--window_seconds", type=float, default=5.12, help="length of a model input")
    parser.add_argument("--epochs", type=int, default=10, help="of training")
    parser.add_argument("--batch", type=int, default=16, help="clips a step")
    parser.add_argument(
        "--validation_windows_per_track", type=int, default=20, help="of ours after every epoch; usual: the first, 1"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that read for ours, as the recipe has it")
    parser.add_argument("--usual_workers", type=int, nargs="+", default=[0, 2], help="the same for the usual way")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each, with other seeds")
    args = parser.parse_args(argv)
    if args.recordings and args.data_dir:
        parser.error("--recordings are made, --data_dir are your own; leave one out")
    args.data_dir = args.data_dir and str(Path(args.data_dir).resolve())
    machine = begin(args, "torch", "transformers", "accelerate", "datasets", "soxr", "soundfile")
    with tempfile.TemporaryDirectory() as folder:
        rows, scores = compare(args, Path(folder))
    seconds = {way: [row[f"{way}_seconds"] for row in rows] for way in scores}
    medians = {}
    for way, (share, low, high) in scores.items():
        ratio = median_ratio(seconds[way], seconds["ours"])
        medians[way] = {"seconds": statistics.median(seconds[way]), "ratio": ratio, "accuracy": [share, low, high]}
        told = f"    median  {way:8}{medians[way]['seconds']:9.1f}{share:10.3f}{ratio:8.2f}"
        print(f"{told}, accuracy {low:.3f} to {high:.3f}")
    if "usual_0" in medians:
        reached = "reached" if medians["usual_0"]["ratio"] >= TARGET_RATIO else "not reached"
        print(f"the target of {TARGET_RATIO} over the main process is {reached}")
    write_figures(args, machine, [*rows, {"medians": medians}])


if __name__ == "__main__":
    main()
