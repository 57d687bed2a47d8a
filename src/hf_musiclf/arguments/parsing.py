"""From a command line, a YAML file and a recipe's DEFAULTS to argument objects, or to one line that tells the fault."""

import argparse
import dataclasses
import difflib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from hf_musiclf.arguments.data import DataArguments
from hf_musiclf.arguments.debias import DebiasArguments
from hf_musiclf.arguments.model import ModelArguments
from hf_musiclf.arguments.training import RecipeTrainingArguments
from hf_musiclf.errors import UserError

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
    named), a value of the wrong type, a flag or key of a weak model where there is none, and a config file that cannot
    be read.
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
    typed = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in argv if word.startswith("--")}
    _refuse_idle(values, typed, {key for key, value in from_file.items() if value is not None})
    return tuple(
        cls(**{field.name: values[field.name] for field in dataclasses.fields(cls) if field.init})
        for cls in ARGUMENT_CLASSES
    )


def parse_data(
    argv: Sequence[str] | None = None,
    description: str | None = None,
    own: Callable[[argparse.ArgumentParser], Any] = lambda parser: None,
) -> tuple[DataArguments, argparse.Namespace]:
    """DataArguments and a script's own arguments, for scripts that need no model.

    own: adds the script's arguments to the parser; those of DataArguments' names change its defaults. Raises UserError
    as `parse_recipe` does.
    """
    parser = _Parser(DataArguments, allow_abbrev=False, description=description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    own(parser)
    namespace, rest = parser.parse_known_args(argv)
    known = {name for action in parser._actions for name in (action.dest, action.dest.replace("_", "-"))}
    _refuse_unknown([flag.split("=")[0].removeprefix("--") for flag in rest if flag.startswith("--")], known, "flag")
    if rest:
        raise UserError(f"{rest[0]!r} stands alone: every value follows its --flag")
    names = [field.name for field in dataclasses.fields(DataArguments) if field.init]
    return DataArguments(**{name: getattr(namespace, name) for name in names}), namespace


def _refuse_idle(values: Mapping[str, Any], typed: set[str], in_file: set[str]) -> None:
    """Refuse what is set for a weak model that is not there, by the source that says so or by a stronger one; and the
    epochs of one that is not trained first.

    A recipe's DEFAULTS, and a file, may describe a weak model that a flag then leaves out. typed, in_file: names.
    """

    def told(name: str, beside: str) -> bool:
        return name in typed or (name in in_file and beside not in typed)

    if values["debias"] == "none":
        for name in (field.name for field in dataclasses.fields(DebiasArguments) if field.name != "debias"):
            if told(name, "debias"):
                raise UserError(
                    f"{name}={values[name]} does nothing with debias=none; leave it out, or choose a loss by --debias"
                )
    elif values["weak_training"] == "joint" and told("weak_epochs", "weak_training"):
        raise UserError(
            f"weak_epochs={values['weak_epochs']} does nothing with weak_training=joint, where the weak model has the "
            "epochs of the main one; leave it out"
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
