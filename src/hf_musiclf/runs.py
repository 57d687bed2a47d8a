"""A run and its folder: what may be written there, what an interrupted run goes on from, how files get there whole."""

import dataclasses
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from transformers import set_seed
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_musiclf.arguments import DataArguments, ModelArguments, RecipeTrainingArguments
from hf_musiclf.errors import UserError
from hf_musiclf.files import read_json, write_json
from hf_musiclf.hub_access import find_destination
from hf_musiclf.launching import without_paths

RUN_FILE = "run.json"  # written when training starts: whose folder this is
REPORT_FILE = "report.json"  # written last: the run is finished
CHECKPOINT_END = "trainer_state.json"  # the file that Trainer writes last into a checkpoint
MODEL_PART = ".model.part"  # the finished model before it is put in place
RUN_FILES = (
    "config.json", "model.safetensors", "preprocessor_config.json", "predictions.csv", "README.md", REPORT_FILE,
    RUN_FILE,
)  # fmt: skip
CODE_FILES_OF = ("config.json", "preprocessor_config.json")  # which name the files of classes of ours
WAY_OUT = "choose another --output_dir, or pass --overwrite_output_dir True to delete that run"

# A checkpoint holds the weights, and Adam's two moments of those that learn, in float32.
MOMENTS_OF_ADAM = 2
BYTES_A_PARAMETER = 4

# What may differ between a run and its continuation: where things are and how fast they go, not what comes out.
FREE_TO_CHANGE = {
    "cache_dir", "data_dir", "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "report_to", "run_name",
    "disable_tqdm", "save_total_limit", "push_to_hub", "bootstrap_resamples", "use_cpu", "torch_compile",
}  # fmt: skip
FREE_PREFIXES = ("dataloader_", "hub_", "log_", "logging_", "ddp_", "trackio_")


@dataclass(frozen=True)
class Publishing:
    """What `--push_to_hub` was given beside."""

    hub_model_id: str
    private: bool | None
    token: str | None = field(repr=False)


@dataclass(frozen=True)
class Run:
    """recipe: name of its script. arguments: all fields of the three dataclasses. checkpoint: what to resume from.

    overwrite: delete the earlier run in the folder once there is nothing left to refuse, just before training.
    started: time.monotonic() of the first look at the folder. publish: where the finished run goes, None for nowhere.
    report: of a run that is finished already, and to be published as it is; None for all others.
    """

    recipe: str
    output_dir: Path
    arguments: dict[str, Any]
    command: str
    checkpoint: Path | None
    overwrite: bool
    is_main: bool
    bootstrap_resamples: int
    started: float = field(default_factory=time.monotonic)
    publish: Publishing | None = None
    report: dict[str, Any] | None = None


def start_run(
    recipe: str, data_args: DataArguments, model_args: ModelArguments, training_args: RecipeTrainingArguments
) -> Run:
    """Look at the output folder before any work is done, and set the seed; nothing is written and nothing deleted.

    recipe: the recipe's `__file__`. With `--push_to_hub` the Hub is asked whether it would take the run. Raises
    UserError for a folder with a finished run, but where that is to be published, a run with other arguments, or a
    model that is not ours; and as `find_destination` does.
    """
    arguments = all_arguments(data_args, model_args, training_args)
    name, folder = Path(recipe).stem, Path(training_args.output_dir)
    overwrite, asked = training_args.overwrite_output_dir, training_args.resume_from_checkpoint
    with training_args.main_process_first(local=False, desc="looking at the output folder"):
        finished = _finished_to_publish(folder, name, arguments) if not (overwrite or asked) else None
        checkpoint = None if finished else _checkpoint_to_resume(folder, name, arguments, overwrite)
        publish = _publishing(training_args, folder)
    if asked not in (None, "True", "true"):
        checkpoint = Path(asked)
        if overwrite:
            raise UserError(
                f"resume_from_checkpoint={asked} and overwrite_output_dir contradict each other; leave one out"
            )
        if not is_whole_checkpoint(checkpoint):
            raise UserError(
                f"resume_from_checkpoint={checkpoint} is no whole checkpoint: its {CHECKPOINT_END} is missing"
            )
    if checkpoint and training_args.process_index == 0:
        print(f"resuming from {checkpoint}", flush=True)
    set_seed(training_args.seed)
    return Run(
        recipe=name,
        output_dir=folder,
        arguments=arguments,
        command=shlex.join([*launcher_words(training_args), f"recipes/{name}.py", *without_paths(sys.argv[1:])]),
        checkpoint=checkpoint,
        overwrite=overwrite,
        is_main=training_args.process_index == 0,
        bootstrap_resamples=training_args.bootstrap_resamples,
        publish=publish,
        report=finished,
    )


def _publishing(training_args: RecipeTrainingArguments, folder: Path) -> Publishing | None:
    """What was asked for, after the first process has asked the Hub whether it would take it.

    Trainer itself is then told to push nothing: it would push what is not chosen yet, and checkpoints.
    """
    if not training_args.push_to_hub:
        return None
    name = training_args.hub_model_id or folder.resolve().name
    publish = Publishing(name, training_args.hub_private_repo, training_args.hub_token)
    if training_args.process_index == 0:
        to = find_destination(name, publish.private, publish.token)
        print(f"to be published as soon as it is finished: {to.url}", flush=True)
    training_args.push_to_hub = False
    return publish


def _finished_to_publish(folder: Path, recipe: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The report of a finished run of the same recipe and arguments, where it is to be published; else None."""
    if not (arguments["push_to_hub"] and (folder / REPORT_FILE).is_file() and (folder / RUN_FILE).is_file()):
        return None
    earlier = (read_json(folder / RUN_FILE) or {}).get("recipe")
    if earlier != recipe:
        raise UserError(f"output_dir={folder} holds a finished run of {earlier}; {WAY_OUT}")
    _refuse_other_arguments(folder, "a finished run", arguments)
    return read_json(folder / REPORT_FILE)


def all_arguments(
    data_args: DataArguments, model_args: ModelArguments, training_args: RecipeTrainingArguments
) -> dict[str, Any]:
    """All fields of the three, by name."""
    return {**dataclasses.asdict(data_args), **dataclasses.asdict(model_args), **training_args.to_dict()}


def finished_report(
    folder: Path, arguments: Mapping[str, Any], tracks_digest: Callable[[], str]
) -> dict[str, Any] | None:
    """The report of the finished run in a folder, None where there is none or it is to be overwritten.

    arguments: see `all_arguments`. tracks_digest: of the tracks in their splits, asked where there is a run. Raises
    UserError where the run had other ones.
    """
    if arguments["overwrite_output_dir"] or not (folder / REPORT_FILE).is_file():
        return None
    _refuse_other_arguments(folder, "a finished run", arguments)
    earlier, now = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["tracks"], tracks_digest()
    if earlier != now:
        raise UserError(f"output_dir={folder} holds a finished run with other tracks ({earlier}, now {now}); {WAY_OUT}")
    return json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))


def _refuse_other_arguments(folder: Path, what: str, arguments: Mapping[str, Any]) -> None:
    earlier = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["arguments"]
    for key, value in json.loads(json.dumps(arguments, default=str)).items():
        free = key in FREE_TO_CHANGE or (key.startswith(FREE_PREFIXES) and key != "dataloader_drop_last")
        if earlier.get(key) != value and not free:
            raise UserError(f"output_dir={folder} holds {what} with {key}={earlier.get(key)}, not {value}; {WAY_OUT}")


def launcher_words(training_args: RecipeTrainingArguments) -> list[str]:
    """The command line before the script: what the launcher was told."""
    words = ["accelerate", "launch"]
    if training_args.device.type == "cpu":
        words.append("--cpu")
    if training_args.world_size > 1:
        words += ["--num_processes", str(training_args.world_size)]
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision != "no":
        words += ["--mixed_precision", precision]
    return words


def claim_folder(run: Run, tracks_digest: str, world_size: int, leakage: dict[str, Any]) -> None:
    """Make the output folder this run's: delete an earlier run where that was asked for, and write run.json.

    tracks_digest: of the tracks of every split. Raises UserError where the run to be resumed had other tracks in its
    splits or another number of processes: then it could not end as it would have.
    """
    about = {"recipe": run.recipe, "tracks": tracks_digest, "processes": world_size}
    if run.overwrite:
        clear_run(run.output_dir)
    elif run.checkpoint and (run.output_dir / RUN_FILE).exists():
        earlier = json.loads((run.output_dir / RUN_FILE).read_text(encoding="utf-8"))
        for key, what in (("tracks", "other tracks in its splits"), ("processes", "another number of processes")):
            if earlier[key] != about[key]:
                raise UserError(
                    f"output_dir={run.output_dir} holds an unfinished run with {what} "
                    f"({earlier[key]}, now {about[key]}); {WAY_OUT}"
                )
    remove_half_checkpoints(run.output_dir)
    write_json(run.output_dir / RUN_FILE, {**about, "arguments": run.arguments, "leakage": leakage})


def clear_run(folder: Path) -> None:
    """Delete what a run of ours left in the folder; other files stay. Raises UserError where the run is not ours."""
    if not (folder / RUN_FILE).exists():
        _refuse_foreign_model(folder)
        return
    for path in [*folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), folder / "report", folder / MODEL_PART]:
        shutil.rmtree(path, ignore_errors=True)
    for name in code_files(folder):
        (folder / name).unlink(missing_ok=True)
    for name in RUN_FILES:  # run.json last: until then the folder is known as ours
        (folder / name).unlink(missing_ok=True)


def code_files(folder: Path) -> set[str]:
    """Python files that were saved beside the weights, for `trust_remote_code`; not those of another repository."""
    named = set()
    for name in CODE_FILES_OF:
        config = json.loads((folder / name).read_text(encoding="utf-8")) if (folder / name).is_file() else {}
        named |= set(config.get("auto_map", {}).values())
        named |= {pipeline["impl"] for pipeline in config.get("custom_pipelines", {}).values()}
    return {f"{path.partition('.')[0]}.py" for path in named if "--" not in path}


def _checkpoint_to_resume(folder: Path, recipe: str, arguments: dict[str, Any], overwrite: bool) -> Path | None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir={folder} is a file; name a folder")
    if not (folder / RUN_FILE).exists():
        _refuse_foreign_model(folder)
        return None
    if overwrite:
        return None
    if (folder / REPORT_FILE).exists():
        raise UserError(f"output_dir={folder} holds a finished run; {WAY_OUT}")
    earlier = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    if earlier["recipe"] != recipe:
        raise UserError(f"output_dir={folder} holds an unfinished run of {earlier['recipe']}; {WAY_OUT}")
    _refuse_other_arguments(folder, "an unfinished run", arguments)
    whole, _ = checkpoints(folder)
    return whole[-1] if whole else None


def _refuse_foreign_model(folder: Path) -> None:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name in ("config.json", "model.safetensors") or path.name.startswith(PREFIX_CHECKPOINT_DIR):
            raise UserError(f"output_dir={folder} holds a model of another origin ({path.name}); choose another folder")


def checkpoints(folder: Path) -> tuple[list[Path], list[Path]]:
    """Whole checkpoints by step, and those that a kill left half written."""
    found = [path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.rpartition("-")[2].isdecimal()]
    found.sort(key=lambda path: int(path.name.rpartition("-")[2]))
    whole = [path for path in found if is_whole_checkpoint(path)]
    return whole, [path for path in found if path not in whole]


def is_whole_checkpoint(path: Path) -> bool:
    """Whether the file that is written last is there and whole."""
    try:
        return "global_step" in json.loads((path / CHECKPOINT_END).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def remove_half_checkpoints(folder: Path) -> None:
    for path in checkpoints(folder)[1]:
        shutil.rmtree(path, ignore_errors=True)


def how_to_go_on(folder: Path) -> str:
    whole, _ = checkpoints(folder)
    where = f"it goes on from {whole[-1].name}" if whole else "it starts over, as there is no checkpoint yet"
    return f"run the same command again: {where}"


def check_space(
    folder: Path, facts: Mapping[str, Any], save_total_limit: int | None, beside: Iterable[nn.Parameter] = ()
) -> None:
    """Refuse to start a run whose checkpoints cannot fit.

    facts: with the counts parameters and trainable. beside: what learns beside the model, in checkpoints alone.
    """
    kept = (save_total_limit or 1) + 2  # the best, and the one being written before an old one goes
    weights = facts["parameters"] * BYTES_A_PARAMETER
    moments = facts["trainable"] * BYTES_A_PARAMETER * MOMENTS_OF_ADAM
    for parameter in beside:
        moments += parameter.numel() * BYTES_A_PARAMETER * (1 + MOMENTS_OF_ADAM * parameter.requires_grad)
    there = sum(path.stat().st_size for path in folder.glob("checkpoint-*/*") if path.is_file())
    needed = (weights + moments) * kept + weights - there
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"output_dir={folder}: {kept} checkpoints and the model need {needed / 1e6:,.1f} MB, the disk has "
            f"{free / 1e6:,.1f} MB left; free some, or name a folder on another disk"
        )
