"""A run and its folder: what may be written there, what an interrupted run goes on from, how files get there whole."""

import dataclasses
import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import set_seed
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_musiclf.arguments import DataArguments, ModelArguments, RecipeTrainingArguments
from hf_musiclf.errors import UserError

RUN_FILE = "run.json"  # written when training starts: whose folder this is
REPORT_FILE = "report.json"  # written last: the run is finished
CHECKPOINT_END = "trainer_state.json"  # the file that Trainer writes last into a checkpoint

# What may differ between a run and its continuation: where things are and how fast they go, not what comes out.
FREE_TO_CHANGE = {
    "cache_dir", "data_dir", "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "report_to", "run_name",
    "disable_tqdm", "save_total_limit", "push_to_hub", "bootstrap_resamples", "use_cpu", "torch_compile",
}  # fmt: skip
FREE_PREFIXES = ("dataloader_", "hub_", "log_", "logging_", "ddp_", "trackio_")


@dataclass(frozen=True)
class Run:
    """recipe: name of its script. arguments: all fields of the three dataclasses. checkpoint: what to resume from."""

    recipe: str
    output_dir: Path
    arguments: dict[str, Any]
    command: str
    checkpoint: Path | None
    is_main: bool
    bootstrap_resamples: int


def start_run(
    recipe: str, data_args: DataArguments, model_args: ModelArguments, training_args: RecipeTrainingArguments
) -> Run:
    """Look at the output folder before any work is done, and set the seed. Nothing is written, and nothing deleted
    without `overwrite_output_dir`.

    recipe: the recipe's `__file__`. Raises UserError for a folder with a finished run, a run with other arguments, or a
    model that is not ours.
    """
    arguments = {**dataclasses.asdict(data_args), **dataclasses.asdict(model_args), **training_args.to_dict()}
    name = Path(recipe).stem
    folder = Path(training_args.output_dir)
    with training_args.main_process_first(desc="looking at the output folder"):
        if training_args.overwrite_output_dir and training_args.process_index == 0:
            clear_run(folder)
        checkpoint = _checkpoint_to_resume(folder, name, arguments)
    if training_args.resume_from_checkpoint not in (None, "True", "true"):
        checkpoint = Path(training_args.resume_from_checkpoint)
        if not (checkpoint / CHECKPOINT_END).is_file():
            raise UserError(f"resume_from_checkpoint={checkpoint} holds no {CHECKPOINT_END}: it is no whole checkpoint")
    if checkpoint and training_args.process_index == 0:
        print(f"resuming from {checkpoint}", flush=True)
    set_seed(training_args.seed)
    return Run(
        recipe=name,
        output_dir=folder,
        arguments=arguments,
        command=shlex.join(["accelerate", "launch", f"recipes/{name}.py", *sys.argv[1:]]),
        checkpoint=checkpoint,
        is_main=training_args.process_index == 0,
        bootstrap_resamples=training_args.bootstrap_resamples,
    )


def clear_run(folder: Path) -> None:
    """Delete what a run of ours left in the folder; other files stay. Raises UserError where the run is not ours."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / RUN_FILE).exists():
        _refuse_foreign_model(folder)
        return
    for path in folder.iterdir():
        if path.is_dir() and (path.name.startswith(PREFIX_CHECKPOINT_DIR) or path.name == "report"):
            shutil.rmtree(path)
        elif path.suffix in (".json", ".safetensors", ".bin", ".csv") or path.name == "README.md":
            path.unlink()


def _checkpoint_to_resume(folder: Path, recipe: str, arguments: dict[str, Any]) -> Path | None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir={folder} is a file; name a folder")
    if not (folder / RUN_FILE).exists():
        _refuse_foreign_model(folder)
        return None
    way_out = "choose another --output_dir, or pass --overwrite_output_dir to delete that run"
    if (folder / REPORT_FILE).exists():
        raise UserError(f"output_dir={folder} holds a finished run; {way_out}")
    earlier = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    if earlier["recipe"] != recipe:
        raise UserError(f"output_dir={folder} holds an unfinished run of {earlier['recipe']}; {way_out}")
    for key, value in json.loads(json.dumps(arguments, default=str)).items():
        before = earlier["arguments"].get(key)
        if before != value and key not in FREE_TO_CHANGE and not key.startswith(FREE_PREFIXES):
            raise UserError(f"output_dir={folder} holds an unfinished run with {key}={before}, not {value}; {way_out}")
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
    whole = [path for path in found if (path / CHECKPOINT_END).is_file() and (path / CHECKPOINT_END).stat().st_size]
    return whole, [path for path in found if path not in whole]


def remove_half_checkpoints(folder: Path) -> None:
    for path in checkpoints(folder)[1]:
        shutil.rmtree(path, ignore_errors=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of any library says that the disk is full."""
    seen = error
    while seen is not None:
        if getattr(seen, "errno", None) in (28, 122) or "No space left on device" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def how_to_go_on(folder: Path) -> str:
    whole, _ = checkpoints(folder)
    where = f"it goes on from {whole[-1].name}" if whole else "it starts over, as there is no checkpoint yet"
    return f"run the same command again: {where}"
