"""`--model_config`: which fields of a config a user may set, and that their values fit."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from hf_musiclf.errors import UserError

# The labels, the class and the recipe give these; a wrong one would make features and model disagree.
SET_BY_THE_RECIPE = {
    "id2label", "label2id", "architectures", "model_type", "transformers_version", "dtype", "problem_type", "auto_map",
    "hop_seconds",
}  # fmt: skip


def check_overrides(
    overrides: Mapping[str, Any], template: PreTrainedConfig, not_these: Sequence[str] = (), examples: str = ""
) -> None:
    """Refuse fields that the config does not have or that a recipe sets, and whole numbers below 1.

    template: a config with its defaults. not_these: fields that are set elsewhere. examples: fields to name where none
    is near. Raises UserError.
    """
    fields = set(template.to_dict()) - SET_BY_THE_RECIPE - set(not_these)
    for key, value in overrides.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has e.g. {examples}"
            name = type(template).__name__
            raise UserError(f"model_config: {key!r} is no field of {name} that a recipe leaves to you; {hint}")
        usual = getattr(template, key)
        whole = isinstance(usual, int) and not isinstance(usual, bool)
        if whole and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"model_config: {key}={value} must be a whole number of 1 or more")


def make_config(config_class: type[PreTrainedConfig], **fields) -> PreTrainedConfig:
    """The config; what its class refuses becomes a UserError."""
    try:
        return config_class(**fields)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise UserError(f"model_config: {' '.join(str(error).split())}") from error
