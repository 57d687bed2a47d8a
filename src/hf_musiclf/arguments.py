"""The arguments of every recipe: three dataclasses, one flat vocabulary.

Weakest first: dataclass default, the recipe's DEFAULTS, `--config file.yaml`, a flag. A key of a YAML file is a flag is
a field.
"""

import dataclasses
import difflib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser, TrainingArguments

from hf_musiclf.errors import UserError

# A frame of the spectrograms; windows closer than that are the same.
SHORTEST_HOP_SECONDS = 0.01


@dataclass
class DataArguments:
    """Which tracks, how they are split, and how windows are cut from them."""

    dataset: str = field(
        default="gtzan",
        metadata={"help": "Source of tracks: gtzan, maestro, folder (your own audio, in --data_dir) or synthetic."},
    )
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Instead of --dataset: a script-free dataset on the Hub, or a folder that load_dataset reads."
        },
    )
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder or archive with the source's audio. Default: download, where one can."}
    )
    download: bool = field(
        default=False,
        metadata={"help": "maestro without --data_dir: fetch the official archive, 101 GB, and read it in place."},
    )
    check_audio: bool = field(
        default=False,
        metadata={"help": "maestro: decode every file once to find damaged ones, instead of reading headers alone."},
    )
    composers: list[str] | None = field(
        default=None,
        metadata={"help": "maestro: these composers alone, by full name or surname. Default: all with enough pieces."},
    )
    min_pieces_per_composer: int = field(
        default=3, metadata={"help": "maestro: leave out composers with fewer compositions; 3 are one for each split."}
    )
    max_performances_per_piece: int = field(
        default=3, metadata={"help": "maestro: keep at most this many performances of a piece; 0 keeps all."}
    )
    double_credits: str = field(
        default="leave_out",
        metadata={"help": "maestro: what becomes of 'Franz Schubert / Franz Liszt': leave_out, or first or second."},
    )
    min_track_seconds: float | None = field(
        default=None,
        metadata={"help": "maestro: leave out performances shorter than this, in seconds. Default: the window."},
    )
    audio_column: str = field(default="audio", metadata={"help": "Audio column of --dataset_name."})
    label_column: str | None = field(
        default=None,
        metadata={
            "help": "Label column of --dataset_name, or of the metadata.csv of --dataset folder. Default: label, genre or labels."
        },
    )
    group_column: str | None = field(
        default=None,
        metadata={
            "help": "Column, of the same, whose values no two splits may share. Default: group or artist, if present."
        },
    )
    split_scheme: str = field(
        default="artist",
        metadata={
            "help": "How the split is drawn: artist, random or fault_filtered for GTZAN; composition, performance or "
            "official for MAESTRO; group, artist, random or given for a folder and --dataset_name."
        },
    )
    split_seed: int = field(default=0, metadata={"help": "Seed of the split alone: same seed, same split."})
    cache_dir: str | None = field(
        default=None, metadata={"help": "Folder for prepared tables of tracks. Default: that of datasets."}
    )
    window_seconds: float = field(default=10.24, metadata={"help": "Length of one model input, in seconds."})
    eval_hop_seconds: float | None = field(
        default=None,
        metadata={"help": "Distance between the starts of evaluation windows, in seconds. Default: the window."},
    )
    train_windows: str = field(
        default="random",
        metadata={"help": "random: random windows of each track, new ones each epoch. all: every window at the hop."},
    )
    windows_per_track: int = field(
        default=1, metadata={"help": "Random training windows of each track an epoch; 4 or so where tracks are long."}
    )

    def __post_init__(self):
        if not 0 < self.window_seconds < float("inf"):
            raise UserError(f"window_seconds={self.window_seconds} must be greater than 0 s")
        if self.eval_hop_seconds is not None and not self.eval_hop_seconds >= SHORTEST_HOP_SECONDS:
            raise UserError(f"eval_hop_seconds={self.eval_hop_seconds} must be {SHORTEST_HOP_SECONDS} s or more")
        if self.eval_hop_seconds is not None and not 0 < self.eval_hop_seconds <= self.window_seconds:
            raise UserError(
                f"eval_hop_seconds={self.eval_hop_seconds} must lie in (0, {self.window_seconds}], the window: a "
                "longer hop would leave music between windows unheard"
            )
        if self.train_windows not in ("random", "all"):
            raise UserError(f"train_windows={self.train_windows!r} is not known; choose random or all")
        if self.double_credits not in ("leave_out", "first", "second"):
            raise UserError(f"double_credits={self.double_credits!r} is not known; choose leave_out, first or second")
        if self.min_track_seconds is not None and not 0 <= self.min_track_seconds < float("inf"):
            raise UserError(f"min_track_seconds={self.min_track_seconds} must be 0 s or more")
        least = {"split_seed": 0, "max_performances_per_piece": 0, "min_pieces_per_composer": 1, "windows_per_track": 1}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise UserError(f"{name}={getattr(self, name)} must be {limit} or more")
        if self.windows_per_track > 1 and self.train_windows == "all":
            raise UserError(f"windows_per_track={self.windows_per_track} goes with --train_windows random")


@dataclass
class ModelArguments:
    """Which checkpoint, and which of its layers learn."""

    model: str = field(
        default="random", metadata={"help": "Checkpoint: a Hub id or a folder; or random, to train from scratch."}
    )
    model_config: str | None = field(
        default=None,
        metadata={"help": "Config fields of --model random, as hidden_size=192,num_hidden_layers=6 or as JSON."},
    )
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of a Hub checkpoint."})
    train_layers: str = field(
        default="all",
        metadata={"help": "all; head: only the classification head; last:N: the head and the last N encoder layers."},
    )
    zero_shot: bool = field(
        default=False,
        metadata={"help": "CLAP: score the test split by prompts alone before training, as a baseline in the report."},
    )
    zero_shot_prompt: str = field(
        default="a recording of {label}", metadata={"help": "The prompt of a class; {label} stands for its name."}
    )

    def __post_init__(self):
        kind, _, count = self.train_layers.partition(":")
        if not (self.train_layers in ("all", "head") or (kind == "last" and count.isdecimal() and int(count) > 0)):
            raise UserError(f"train_layers={self.train_layers!r} is not known; choose all, head or last:N with N >= 1")
        if "{label}" not in self.zero_shot_prompt:
            raise UserError(f"zero_shot_prompt={self.zero_shot_prompt!r} lacks {{label}}, where a class's name goes")
        if self.zero_shot and self.model == "random":
            raise UserError("zero_shot needs a checkpoint with a text tower; pass --model, or leave --zero_shot out")
        self.config_overrides()

    def config_overrides(self) -> dict[str, Any]:
        """`model_config` as a dict. Raises UserError where it is neither key=value pairs nor a JSON object."""
        text = (self.model_config or "").strip()
        if not text:
            return {}
        wrong = f"model_config={text!r} is neither key=value,key=value nor a JSON object"
        if text.startswith("{"):
            try:
                return json.loads(text)
            except json.JSONDecodeError as error:
                raise UserError(f"{wrong}: {error}") from error
        overrides = {}
        for pair in text.split(","):
            key, equals, value = (part.strip() for part in pair.partition("="))
            if not (key and equals and value):
                raise UserError(f"{wrong}: {pair.strip()!r}")
            overrides[key] = yaml.safe_load(value)
        return overrides


@dataclass
class RecipeTrainingArguments(TrainingArguments):
    """Transformers' TrainingArguments with the defaults of a recipe and what a recipe adds."""

    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Delete what an earlier run left in --output_dir. Default: refuse, or resume."}
    )
    bootstrap_resamples: int = field(
        default=2000, metadata={"help": "Bootstrap resamples of groups behind each 95 % interval."}
    )
    layer_lr_decay: float = field(
        default=1.0,
        metadata={"help": "Learning rate of each encoder layer over that of the layer above it; 1: the same for all."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without a better model. Default: never."}
    )
    # The model's inputs are made from waveforms on its device, so no column of a batch may be dropped before that.
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay False: see features/."})

    def __post_init__(self):
        if self.bootstrap_resamples < 100:
            raise UserError(
                f"bootstrap_resamples={self.bootstrap_resamples} is too few for an interval; use 100 or more"
            )
        if not 0 < self.layer_lr_decay <= 1:
            raise UserError(f"layer_lr_decay={self.layer_lr_decay} must lie in (0, 1]")
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise UserError(f"early_stopping_patience={self.early_stopping_patience} must be 1 or more evaluations")
        if self.remove_unused_columns:
            raise UserError("remove_unused_columns=True would drop the waveforms; leave it False")
        if self.push_to_hub:
            raise UserError("push_to_hub is not there yet; upload the finished folder with `hf upload NAME OUTPUT_DIR`")
        if (
            self.early_stopping_patience is not None
            and str(getattr(self.eval_strategy, "value", self.eval_strategy)) == "no"
        ):
            raise UserError("early_stopping_patience needs evaluations; set --eval_strategy to epoch or steps")
        try:
            super().__post_init__()
        except ValueError as error:  # flags that contradict each other
            raise UserError(" ".join(str(error).split())) from error
        if self.device.type == "cpu":  # pinned memory is for copies to a GPU
            self.dataloader_pin_memory = False


ARGUMENT_CLASSES = (DataArguments, ModelArguments, RecipeTrainingArguments)


class _Parser(HfArgumentParser):
    """HfArgumentParser whose errors are UserErrors, so that a test and a script see the same line."""

    def error(self, message):
        # argparse names a flag with its spelling in dashes: "argument --split_seed/--split-seed: ...".
        raise UserError(re.sub(r"^argument (--\w+)(/--[\w-]+)?", r"\1", message))


def parse_recipe(
    defaults: Mapping[str, Any], argv: Sequence[str] | None = None, description: str | None = None
) -> tuple[DataArguments, ModelArguments, RecipeTrainingArguments]:
    """The three argument objects of a recipe.

    defaults: the recipe's DEFAULTS. argv: the command line without the program's name (default: `sys.argv[1:]`).
    description: shown by `--help`. Raises UserError, one line, for an unknown flag or key (the nearest known one is
    named), a value of the wrong type, and a config file that cannot be read.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(ARGUMENT_CLASSES, allow_abbrev=False, description=description)
    parser.add_argument("--config", help="YAML file of any of these flags; flags on the command line win.")
    known = {field.name for cls in ARGUMENT_CLASSES for field in dataclasses.fields(cls) if field.init}
    known.add("config")
    _refuse_unknown(defaults, known, "DEFAULTS key")

    config_path, argv = _take_config(argv)
    from_file = _read_config(config_path) if config_path else {}
    _refuse_unknown(from_file, known - {"config"}, f"key in {config_path}")
    try:
        parser.parse_args(_as_flags(from_file))
    except UserError as error:
        raise UserError(f"{config_path}: {error}") from error

    merged = {key: value for key, value in {**defaults, **from_file}.items() if value is not None}
    namespace, rest = parser.parse_known_args(_as_flags(merged) + argv)
    _refuse_unknown([flag.split("=")[0].removeprefix("--") for flag in rest if flag.startswith("--")], known, "flag")
    if rest:
        raise UserError(f"{rest[0]!r} stands alone: every value follows its --flag")
    values = vars(namespace)
    return tuple(
        cls(**{field.name: values[field.name] for field in dataclasses.fields(cls) if field.init})
        for cls in ARGUMENT_CLASSES
    )


def _take_config(argv: list[str]) -> tuple[str | None, list[str]]:
    """The value of --config and the command line without it."""
    for position, word in enumerate(argv):
        if word == "--config":
            if position + 1 == len(argv):
                raise UserError("--config: expected a YAML file")
            rest = argv[:position] + argv[position + 2 :]
            if any(word.partition("=")[0] == "--config" for word in rest):
                raise UserError("--config stands twice; put everything into one file")
            return argv[position + 1], rest
        if word.startswith("--config="):
            return word.partition("=")[2], argv[:position] + argv[position + 1 :]
    return None, argv


def _read_config(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        near = sorted(str(other) for other in Path(path).parent.glob("*.yaml"))
        raise UserError(
            f"--config {path}: {error.strerror}" + (f"; there is {', '.join(near)}" if near else "")
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"--config {path} must hold `flag: value` lines, it holds a {type(content).__name__}")
    return {str(key): value for key, value in content.items()}


def _as_flags(values: Mapping[str, Any]) -> list[str]:
    """Values as command line words: scalars as text, so that argparse converts them as it would a flag's value.

    PyYAML reads `2e-5` as text and `yes` as True; both come out right this way.
    """
    flags = []
    for key, value in values.items():
        if value is None:
            continue
        if isinstance(value, dict):
            flags.append(f"--{key}={json.dumps(value)}")
        elif isinstance(value, (list, tuple)):
            flags += [f"--{key}", *map(str, value)]
        else:
            flags.append(f"--{key}={value}")
    return flags


def _refuse_unknown(keys, known: set[str], what: str) -> None:
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            dashes = "--" if what == "flag" else ""
            hint = f"; did you mean {dashes}{near[0]}?" if near else "; --help lists them all"
            raise UserError(f"unknown {what} {dashes}{key}{hint}")
