"""Does debiasing keep a model from a shortcut? An experiment on music with a planted one.

    python scripts/planted_shortcut.py
    python scripts/planted_shortcut.py --model mn04_as_mAP_432.pt --debias none poe --seeds 3 --output_dir runs/quick

Every track of the synthetic corpus gets a steady tone (`hf_musiclf.data.synthetic.shortcut`). In training and
validation its pitch is that of the track's genre in RATE of the tracks, else that of another genre. The test tracks, of
other artists, are heard four times: biased as in training; unbiased, by tones drawn whatever the genre; without any
tone; and misleading, always by the tone of another genre. Each seed draws the split, the marks, the weights and the
windows anew; all losses of a seed share them. "no shortcut" is cross-entropy trained on the same tracks without tones:
what there is to be had, but for the tests with tones, which it has never heard.

The main model is the head of an EfficientAT on embeddings that are computed once; the weak one is a tiny transformer
from scratch, which gives each training track the predictions of a copy that has not heard it: one that has, learns by
heart the few tracks that contradict their tone, and the product is left without its teachers. --model takes the
checkpoint: a release, which is downloaded, or a file. Settings were chosen on seed 0 and seeds from 100, which are not
among those that count.

A model is what its last step left: nothing is chosen by validation, which is biased as training is, as nobody who does
not know of a shortcut has an unbiased one. OUTPUT_DIR gets report.json, table.md and accuracy.png; finished runs stay
in OUTPUT_DIR/runs, and the same command goes on where it stopped.
"""

import argparse
import functools
import json
import shlex
import shutil
import sys
import time
from pathlib import Path

NO_SHORTCUT = "no_shortcut"
NAMES = {
    NO_SHORTCUT: "cross-entropy, no shortcut",
    "none": "cross-entropy",
    "poe": "product of experts",
    "poe_ce": "product + cross-entropy",
    "learned_mixin": "learned mixin",
    "mixture": "mixture",
    "weak": "the weak model alone",
}
TESTS = {"test_biased": "biased", "test": "unbiased", "test_silent": "no tone", "test_misleading": "misleading"}
GAINS = ("unbiased", "no tone", "misleading")  # tests whose gains over cross-entropy have columns of their own
OF_LOSSES = {  # flag -> losses that take it
    "debias_alpha": ("poe", "poe_ce", "mixture"),
    "cross_entropy_weight": ("poe_ce",),
    "entropy_penalty": ("learned_mixin",),
}
SAMPLING_RATE = 16_000  # Hz, of the rendered corpus
DEFAULTS = dict(
    # data
    dataset="synthetic",
    window_seconds=3.0,
    train_windows="all",
    # model: what it has learnt of music stands, its head is trained on embeddings that are computed once
    model="mn04_as",
    model_config="head_type=probe",
    train_layers="head",
    # the weak model: from scratch, and deaf to what changes within two thirds of a second
    weak_model_type="audio-spectrogram-transformer",
    weak_model="random",
    weak_model_config="hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=64,num_mel_bins=64,"
    "frequency_stride=16,time_stride=64",
    # optimisation
    num_train_epochs=40,
    per_device_train_batch_size=32,
    per_device_eval_batch_size=64,
    learning_rate=1e-3,
    warmup_steps=0.1,
    weight_decay=0.01,
    lr_scheduler_type="cosine",
    weak_epochs=12,
    weak_learning_rate=5e-3,
    weak_folds=3,
    # the rest: no checkpoint, no choice
    eval_strategy="no",
    save_strategy="no",
    logging_strategy="no",
    load_best_model_at_end=False,
    disable_tqdm=True,
    report_to="none",
)


def parse_args(argv=None):
    """The experiment's own arguments, and the flags that go to every training."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="Any other flag is one of the recipes': --num_train_epochs 5, --weak_epochs 2, --debias_alpha 0.5.",
    )
    losses = [name for name in NAMES if name != "weak"]
    parser.add_argument("--debias", nargs="+", choices=losses, default=losses, help="what to train (default: all)")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each (default: 5)")
    parser.add_argument("--first_seed", type=int, default=1, help="of them; 0 served to choose a setting (default: 1)")
    parser.add_argument("--rate", type=float, default=0.95, help="share of training tracks with their genre's tone")
    parser.add_argument("--level_db", type=float, default=0.0, help="RMS of the tone over that of the track, in dB")
    parser.add_argument("--artists_per_genre", type=int, default=100, help="of the corpus, with two tracks each")
    parser.add_argument("--track_seconds", type=float, default=6.0, help="length of its tracks")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/planted_shortcut"), help="folder for the results")
    parser.add_argument("--cache_dir", type=Path, help="folder for audio and weak models (default: OUTPUT_DIR/cache)")
    return parser.parse_known_args(argv)


def load_clean(args, cache: Path):
    """The corpus without tones, rendered once, in a table of tracks."""
    from hf_musiclf.arguments import DataArguments
    from hf_musiclf.data.loading import load_tracks
    from hf_musiclf.data.synthetic import RENDERER, write_corpus

    folder = cache / f"corpus_{RENDERER}_{args.artists_per_genre}_{args.track_seconds:g}s"
    cache.mkdir(parents=True, exist_ok=True)
    write_corpus(folder, 2, args.artists_per_genre, args.track_seconds, SAMPLING_RATE)
    data_args = DataArguments(dataset="synthetic", data_dir=str(folder), cache_dir=str(cache), split_scheme="artist")
    return load_tracks(data_args, verbose=False).table


def flags_of(name: str, flags: list[str]) -> list[str]:
    """What to parse for a kind of run: the user's flags but those of other losses, and its own loss.

    Flags of a weak model, refused where there is none, are for those of the losses that have one.
    """
    loss = "poe" if name in (NO_SHORTCUT, "none") else name
    kept, skips = [], False
    for word in flags:
        flag = word.partition("=")[0].removeprefix("--")
        if skips or (flag in OF_LOSSES and loss not in OF_LOSSES[flag]):
            skips = not skips and "=" not in word  # its value follows
        else:
            kept.append(word)
    return [*kept, f"--debias={loss}"]


def train_once(name: str, seed: int, tracks, args, flags, cache: Path) -> dict:
    """One training by the library's own path: accuracy by track on every test, and what the weak model says."""
    from transformers import PrinterCallback

    from hf_musiclf.arguments import parse_recipe
    from hf_musiclf.data.loading import cut_windows
    from hf_musiclf.models.loading import load_classifier, quiet_transformers
    from hf_musiclf.runs import start_run
    from hf_musiclf.stages import make_trainer

    folder = args.output_dir / "runs" / f"seed_{seed}" / name
    own = [f"--output_dir={folder}", f"--cache_dir={cache}", f"--seed={seed}"]
    data_args, model_args, training_args = parse_recipe(DEFAULTS, [*flags_of(name, flags), *own])
    training_args.debias = "none" if name == NO_SHORTCUT else name
    run, started = start_run(__file__, data_args, model_args, training_args), time.monotonic()
    window = data_args.window_seconds
    loaded = load_classifier(model_args, tracks.labels, window, "efficientat", verbose=False)
    windows = cut_windows(tracks, data_args, loaded.features.sampling_rate, seed)
    trainer = make_trainer(run, loaded, tracks, windows, data_args, training_args)
    trainer.remove_callback(PrinterCallback)
    with quiet_transformers():
        fitted = trainer.train()
        splits = ("validation", *TESTS)
        found = {
            "accuracy": {split: track_accuracy(windows[split], trainer.logits(windows[split])) for split in splits}
        }
        if trainer.debiasing:
            spoken = {split: trainer.debiasing.speak(split)[0] for split in splits}
            found["weak"] = {split: track_accuracy(windows[split], values) for split, values in spoken.items()}
            found["debiasing"] = trainer.debiasing.describe()
    return {
        "parameters": loaded.facts["parameters"],
        "steps": fitted.global_step,
        "train_loss": fitted.training_loss,
        "seconds": round(time.monotonic() - started, 1),
        **found,
    }


def track_accuracy(windows, logits) -> float:
    """Share of tracks whose mean probabilities over windows `(windows, labels)` are highest for their label."""
    from hf_musiclf.probabilities import mean_by_track, softmax

    _, by_track = mean_by_track(softmax(logits), windows.track_of_window)
    return float((by_track.argmax(1) == windows.label_of_track).mean())


def run_all(args, flags) -> dict[str, dict[int, dict]]:
    """name -> seed -> result of every training; those that an earlier command finished are read."""
    from hf_musiclf.data.synthetic.planted import plant
    from hf_musiclf.errors import UserError
    from hf_musiclf.files import write_json

    cache = args.cache_dir or args.output_dir / "cache"
    # What a result depends on, beside the code: another setting's results are not to be mixed in.
    setting = {name: getattr(args, name) for name in ("rate", "level_db", "artists_per_genre", "track_seconds")}
    setting["flags"] = list(flags)
    table, found = load_clean(args, cache), {name: {} for name in args.debias}
    todo, done, began = len(args.debias) * args.seeds, 0, time.monotonic()
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        tracks_of = functools.cache(
            lambda shortcut, seed=seed: plant(table, cache, seed, args.rate, args.level_db, shortcut)
        )
        for name in args.debias:
            file = args.output_dir / "runs" / f"seed_{seed}" / f"{name}.json"
            if file.is_file():
                result = json.loads(file.read_text(encoding="utf-8"))
                if result["setting"] != setting:
                    raise UserError(f"{file} is of another setting ({result['setting']}); choose another --output_dir")
                todo -= 1
            else:
                result = train_once(name, seed, tracks_of(name != NO_SHORTCUT), args, flags, cache)
                result["setting"] = setting
                write_json(file, result)
                shutil.rmtree(file.with_suffix(""), ignore_errors=True)  # what Trainer made: an empty folder
                done += 1
                left = (time.monotonic() - began) / done * (todo - done) / 60
                scores = ", ".join(f"{TESTS[split]} {result['accuracy'][split]:.3f}" for split in TESTS)
                print(
                    f"seed {seed}, {NAMES[name]}: {scores}; {result['seconds']:.0f} s, {left:.1f} min left", flush=True
                )
            found[name][seed] = result
    return found


def by_test(accuracy: dict) -> dict[str, float]:
    return {name: accuracy[split] for split, name in TESTS.items()}


def main(argv=None) -> dict:
    args, flags = parse_args(argv)

    from hf_musiclf.arguments import parse_recipe
    from hf_musiclf.data.synthetic import GENRES
    from hf_musiclf.errors import UserError
    from hf_musiclf.files import write_json, write_whole
    from hf_musiclf.launching import without_paths
    from hf_musiclf.seeds import plot_seeds, seeds_table, summarise_seeds

    if args.seeds < 1 or not 0 <= args.rate <= 1:
        raise UserError(f"seeds={args.seeds}, rate={args.rate}: needs 1 seed or more, and a rate in [0, 1]")
    for name in args.debias:  # what is wrong is told before anything is rendered
        if parse_recipe(DEFAULTS, [*flags_of(name, flags), f"--output_dir={args.output_dir}"])[2].push_to_hub:
            raise UserError("push_to_hub: these models are scored and not kept; leave it out")
    found = run_all(args, flags)
    accuracies = {name: [by_test(runs[seed]["accuracy"]) for seed in runs] for name, runs in found.items()}
    with_weak = next((runs for runs in found.values() if all("weak" in run for run in runs.values())), None)
    if with_weak:
        accuracies["weak"] = [by_test(with_weak[seed]["weak"]) for seed in with_weak]
    rows = summarise_seeds(accuracies, "none")
    words = without_paths(sys.argv[1:] if argv is None else argv)
    report = {
        "command": shlex.join(["python", "scripts/planted_shortcut.py", *words]),
        "seconds": round(sum(run["seconds"] for runs in found.values() for run in runs.values()), 1),
        "chance": 1 / len(GENRES),
        "defaults": DEFAULTS,
        "rows": rows,
        "runs": found,
    }
    table = seeds_table(rows, NAMES, GAINS)
    write_whole(args.output_dir / "table.md", lambda beside: beside.write_text(table, encoding="utf-8"))
    plot_seeds(rows, NAMES, args.output_dir / "accuracy.png", report["chance"])
    write_json(args.output_dir / "report.json", report)
    print(f"\n{table}\nreport.json, table.md and accuracy.png: {args.output_dir}")
    return report


if __name__ == "__main__":
    from hf_musiclf.launching import run_script

    run_script(main)
