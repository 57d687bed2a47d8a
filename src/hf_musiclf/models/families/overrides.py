"""`--model_config`: which fields of a config a user may set, and that their values fit."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from hf_musiclf.errors import UserError

# The trainer writes it into the config of whatever it trains.
SET_BY_THE_TRAINER = {"hop_seconds"}


def own_fields(config_class: type[PreTrainedConfig]) -> set[str]:
    """The fields that describe the architecture: what every config has (labels, dtype, return_dict) is left out."""
    return {field.name for field in fields(config_class)} - {field.name for field in fields(PreTrainedConfig)}


def checked_overrides(
    overrides: Mapping[str, Any], template: PreTrainedConfig, not_these: Sequence[str] = (), examples: str = ""
) -> dict[str, Any]:
    """The overrides, whole numbers turned into floats where the config has floats.

    template: a config with its defaults. not_these: fields that are set elsewhere. examples: fields to name where none
    is near. Raises UserError for fields that the config does not have or that a recipe sets, and for values that make
    no model: whole numbers below 1, rates outside [0, 1), other numbers that are not above 0, unknown activations.
    """
    offered = own_fields(type(template)) - SET_BY_THE_TRAINER - set(not_these)
    for key in overrides:
        if key not in offered:
            near = difflib.get_close_matches(key, offered, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has e.g. {examples}"
            name = type(template).__name__
            raise UserError(f"model_config: {key!r} is no field of {name} that a recipe leaves to you; {hint}")
    return {key: _checked(key, value, getattr(template, key)) for key, value in overrides.items()}


def _checked(key: str, value: Any, usual: Any) -> Any:
    """The value as the config takes it. usual: the field's default, whose type says what it may be."""
    if key.endswith(("_act", "_activation")):
        _check_activation(key, value)
    if isinstance(usual, bool) or not isinstance(usual, (int, float)):
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(usual, int):
        if not number or not isinstance(value, int) or value < 1:
            raise UserError(f"model_config: {key}={value} must be a whole number of 1 or more")
        return value
    if key.endswith(("_prob", "_rate", "dropout", "layerdrop")):
        if not number or not 0 <= value < 1:
            raise UserError(f"model_config: {key}={value} must lie in [0, 1)")
    elif not number or not 0 < value < math.inf:
        raise UserError(f"model_config: {key}={value} must be a number above 0")
    return float(value)


def _check_activation(key: str, value: Any) -> None:
    if not isinstance(value, str) or value not in ACT2FN:
        near = difflib.get_close_matches(str(value), ACT2FN, n=1)
        hint = f"did you mean {near[0]}?" if near else "relu, gelu, silu, tanh are some"
        raise UserError(f"model_config: {key}={value!r} is unknown; {hint}")


def make_config(config_class: type[PreTrainedConfig], **fields) -> PreTrainedConfig:
    """The config; what its class refuses becomes a UserError."""
    try:
        return config_class(**fields)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise UserError(f"model_config: {' '.join(str(error).split())}") from error
