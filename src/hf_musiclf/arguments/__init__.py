"""The arguments of every recipe: three dataclasses, one flat vocabulary.

Weakest first: dataclass default, the recipe's DEFAULTS, `--config file.yaml`, a flag. A key of a YAML file is a flag is
a field.
"""

from hf_musiclf.arguments.data import DataArguments
from hf_musiclf.arguments.model import ModelArguments
from hf_musiclf.arguments.parsing import ARGUMENT_CLASSES, parse_data, parse_recipe
from hf_musiclf.arguments.training import RecipeTrainingArguments

__all__ = [
    "ARGUMENT_CLASSES",
    "DataArguments",
    "ModelArguments",
    "RecipeTrainingArguments",
    "parse_data",
    "parse_recipe",
]
