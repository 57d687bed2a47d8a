"""What passes before the first step of a recipe, by parts; what `--help` takes; and which imports take it.

    python benchmarks/start_up.py
    python benchmarks/start_up.py --recipe efficientat_gtzan --model_config width_mult=0.1 --output start_up.json

A small synthetic corpus is built and its table of tracks made before. Then fresh processes run `python recipes/NAME.py`
with a tiny model from random weights, until its first optimisation step is done, and tell when each part was over:

    python     from the start of the process to the first line of this script
    imports    of the recipe and all that it asks for
    arguments  flags and config, the look at the output folder
    data       the table of tracks, the split, the windows
    model      the classifier and its features
    trainer    the stages before training, and the Trainer
    batch      from `train()` to the first batch at hand: the workers' start is in it
    step       the first step

Beside it the seconds of `import hf_musiclf`, of `scripts/predict.py --help` and of `recipes/NAME.py --help`. All take
turns; times are medians over the repetitions, after a first turn that is not counted: files then lie in the system's
cache. At last the ten packages that cost most in `python -X importtime` of the recipe, by their modules' own time,
without what they import in turn. `scripts/predict.py --help` should take less than two seconds.
"""

import time

BEGAN = time.time()  # before anything else is imported

import os  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections import Counter  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
HELP_SECONDS = 2
PARTS = ("python", "imports", "arguments", "data", "model", "trainer", "batch", "step")
# The part that is over when the function has returned.
ENDS = {"start_run": "arguments", "cut_windows": "data", "load_classifier": "model", "make_trainer": "trainer"}
TINY_AST = (
    "hidden_size=32,num_hidden_layers=2,num_attention_heads=2,intermediate_size=32,num_mel_bins=64,"
    "frequency_stride=16,time_stride=16"
)


class _FirstStepDone(BaseException):
    """Ends the recipe: nothing in the library catches it to carry on."""


def measure_here(began, path, flags):
    """Part -> seconds, of a recipe's run in this process. began: time.time() when the process was started."""
    import runpy

    spent, last = Counter(python=BEGAN - began), BEGAN

    def over(part):
        nonlocal last
        spent[part] += time.time() - last
        last = time.time()

    recipe = runpy.run_path(path)
    over("imports")
    names = recipe["main"].__globals__  # where main finds the functions that it calls
    for name, part in ENDS.items():
        names[name] = _marked(names[name], part, over)
    names["load_tracks"] = _marked(names["load_tracks"], "data", over)
    try:
        recipe["main"](flags)
    except _FirstStepDone:
        return spent


def _marked(function, part, over):
    """The function, which tells when it is over; to a trainer it makes, to tell of its first batch and step."""

    def marked(*args, **kwargs):
        made = function(*args, **kwargs)
        if part == "trainer":
            made.add_callback(_stop_after_one_step(over))
        over(part)
        return made

    return marked


def _stop_after_one_step(over):
    from timing import now
    from transformers import TrainerCallback

    class Marks(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            over("batch")

        def on_step_end(self, args, *others, **kwargs):
            now(args.device)  # waits for it
            over("step")
            raise _FirstStepDone

    return Marks()


def recipe_parts(path, flags):
    """`measure_here` in a fresh process."""
    from timing import in_process

    return in_process(__file__, time.time(), str(path), flags)


def command_seconds(words):
    """Seconds of `python WORDS` from start to end. Exits where it fails."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"python {' '.join(words)} failed:\n{done.stderr}")
    return seconds


def import_seconds(path):
    """Package -> seconds of its own modules, when the recipe is imported."""
    load = f"import runpy; runpy.run_path({str(path)!r})"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", load], check=True, capture_output=True, text=True)
    return by_package(done.stderr)


def by_package(told):
    """Package -> seconds, of what `python -X importtime` has written.

    >>> by_package("import time: self [us] | cumulative | a\\nimport time:  500000 | 500000 |   a.b\\n")
    Counter({'a': 0.5})
    """
    seconds = Counter()
    for line in told.splitlines():
        own, _, name = line.removeprefix("import time:").split("|") if line.count("|") == 2 else ("", "", "")
        if own.strip().isdecimal():
            seconds[name.strip().partition(".")[0]] += int(own) / 1e6
    return seconds


def recipe_flags(args, folder):
    """Flags for a tiny run on a small corpus; both are made here, and the table of tracks, too."""
    from hf_musiclf.arguments import DataArguments
    from hf_musiclf.data.loading import load_tracks
    from hf_musiclf.data.synthetic import write_corpus

    corpus = write_corpus(folder / "corpus", artists_per_genre=3, seconds=4.0)
    data = {"dataset": "synthetic", "data_dir": str(corpus), "cache_dir": str(folder / "cache")}
    load_tracks(DataArguments(**data), verbose=False)
    tiny = {"model": "random", "window_seconds": 1.28, "eval_hop_seconds": 1.28, "output_dir": folder / "run"}
    model_config = args.model_config or (TINY_AST if args.recipe == "ast_gtzan" else None)
    if model_config:
        tiny["model_config"] = model_config
    tiny |= {"head_first_epochs": 0, "dataloader_num_workers": args.workers, "disable_tqdm": True, "report_to": "none"}
    return [f"--{name}={value}" for name, value in {**data, "overwrite_output_dir": True, **tiny}.items()]


def measure_all(args, folder):
    """Medians: part -> seconds, and command -> seconds."""
    path = ROOT / "recipes" / f"{args.recipe}.py"
    flags = recipe_flags(args, folder)
    commands = {
        "import hf_musiclf": ["-c", "import hf_musiclf"],
        "scripts/predict.py --help": ["scripts/predict.py", "--help"],
        f"recipes/{args.recipe}.py --help": [f"recipes/{args.recipe}.py", "--help"],
    }
    parts, seconds = {part: [] for part in (*PARTS, "all")}, {name: [] for name in commands}
    for _ in range(args.repetitions + 1):
        spent = recipe_parts(path, flags)
        for part in PARTS:
            parts[part].append(spent.get(part, 0.0))
        parts["all"].append(sum(spent.values()))
        for name, words in commands.items():
            seconds[name].append(command_seconds(words))
    medians = ({name: statistics.median(values[1:]) for name, values in found.items()} for found in (parts, seconds))
    return (*medians, import_seconds(path).most_common(args.packages))


def main(argv=None):
    from timing import answer

    if answer(measure_here, argv):
        os._exit(0)  # the workers that the step has left need not be waited for
    from machine import begin, make_parser, write_figures

    parser = make_parser(__doc__)
    parser.add_argument("--recipe", default="ast_gtzan", help="name of a recipe, without .py")
    parser.add_argument("--model_config", help="of its model; default: of a tiny AST for ast_gtzan, else its own")
    parser.add_argument("--workers", type=int, default=2, help="processes that read; 0: none")
    parser.add_argument("--packages", type=int, default=10, help="of the costliest imports to show")
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each, after a first that is not counted")
    args = parser.parse_args(argv)
    machine = begin(args, "torch", "transformers", "accelerate", "datasets")
    with tempfile.TemporaryDirectory() as folder:
        parts, commands, packages = measure_all(args, Path(folder))
    print(f"recipes/{args.recipe}.py to its first step, medians of {args.repetitions} repetitions")
    for part, seconds in parts.items():
        print(f"  {part:10}{seconds:8.2f} s")
    for command, seconds in commands.items():
        print(f"{command:34}{seconds:6.2f} s")
    reached = commands["scripts/predict.py --help"] < HELP_SECONDS
    print(f"the target of {HELP_SECONDS} s for scripts/predict.py --help is {'reached' if reached else 'not reached'}")
    print("imports of the recipe, by the modules' own time")
    for package, seconds in packages:
        print(f"  {package:20}{seconds:8.2f} s")
    rows = [{"seconds_by_part": parts}, {"seconds_of_commands": commands}, {"import_seconds": dict(packages)}]
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
