"""Which checkpoint, and which of its layers learn."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from hf_musiclf.errors import UserError


@dataclass
class ModelArguments:
    """Which checkpoint, and which of its layers learn."""

    model: str = field(
        default="random",
        metadata={
            "help": "Checkpoint: a Hub id or a folder, an EfficientAT .pt file or release; or random, to train from "
            "scratch."
        },
    )
    model_config: str | None = field(
        default=None,
        metadata={
            "help": "Config fields of --model random, as hidden_size=192,num_hidden_layers=6,depths=[2,2,2] or as "
            "JSON; with a checkpoint, those of a new head alone."
        },
    )
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of a Hub checkpoint."})
    trust_remote_code: bool = field(
        default=False,
        metadata={
            "help": "Run the Python code that a checkpoint brings along, as MERT's does. It can do whatever you can: "
            "read it first, and name its commit by --model_revision."
        },
    )
    train_layers: str = field(
        default="all",
        metadata={
            "help": "all; head: only the classification head; last:N: the head and the last N encoder layers "
            "(blocks, where they stand in stages)."
        },
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
        for pair in re.split(r",(?![^\[]*\])", text):  # commas, but for those within a list
            key, equals, value = (part.strip() for part in pair.partition("="))
            if not (key and equals and value):
                raise UserError(f"{wrong}: {pair.strip()!r}")
            try:
                overrides[key] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise UserError(f"{wrong}: {pair.strip()!r}") from error
        return overrides
