"""EfficientAT's published `.pt` files: read, checked, and their keys turned into those of our model and back.

A file is a plain state dict of `fschmid56/EfficientAT` (MIT licence, Copyright (c) 2022 Florian Schmid).
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from hf_musiclf.errors import UserError
from hf_musiclf.models.efficientat import (
    PROJECTION_SIZE,
    ROWS,
    EfficientAtConfig,
    EfficientAtForAudioClassification,
    make_divisible,
)

# What stands in a layer, in the order in which the original numbers it; not every layer has the first and the third.
PARTS = ("expand", "depthwise", "squeeze_excite", "project")
CONVOLUTION = {"conv": "0", "norm": "1"}
EXCITE = {"squeeze": "conc_se_layers.0.fc1", "excite": "conc_se_layers.0.fc2"}
HEAD = {"efficientat.projection.": "classifier.2.", "classifier.": "classifier.5."}
ENDS = {"stem": 0, "final": len(ROWS) + 1}


def original_keys(keys: Iterable[str]) -> dict[str, str]:
    """Key of EfficientAtForAudioClassification -> key of the original, of all `keys` of a model."""
    keys = list(keys)
    layer_key = re.compile(r"efficientat\.layers\.(\d+)\.(\w+)\.(\w+)\.(.+)")
    there = {match[0] for key in keys if (match := re.match(r"efficientat\.layers\.\d+\.\w+", key))}
    renamed = {}
    for key in keys:
        if match := layer_key.fullmatch(key):
            number, part, inner, rest = match.groups()
            before = [name for name in PARTS[: PARTS.index(part)] if f"efficientat.layers.{number}.{name}" in there]
            inner = EXCITE[inner] if part == "squeeze_excite" else CONVOLUTION[inner]
            renamed[key] = f"features.{int(number) + 1}.block.{len(before)}.{inner}.{rest}"
        elif match := re.fullmatch(r"efficientat\.(stem|final)\.(\w+)\.(.+)", key):
            renamed[key] = f"features.{ENDS[match[1]]}.{CONVOLUTION[match[2]]}.{match[3]}"
        else:
            ours = next(prefix for prefix in HEAD if key.startswith(prefix))
            renamed[key] = HEAD[ours] + key.removeprefix(ours)
    return renamed


def to_original(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of an EfficientAtForAudioClassification under the original's keys, in the original's order."""
    renamed = original_keys(state_dict)
    return {renamed[key]: value for key, value in state_dict.items()}


def load_original(path: str | Path) -> tuple[EfficientAtConfig, dict[str, torch.Tensor]]:
    """Config and state dict of EfficientAtForAudioClassification, of an original file of any width.

    Nothing in the file is executed. The scores are those of AudioSet: a sigmoid each, several may be true. Raises
    UserError where the file is not there, is no state dict, or is one of another network.
    """
    original = _read(Path(path))
    lost = [key for key in ("features.0.0.weight", "classifier.2.weight", "classifier.5.weight") if key not in original]
    if lost or original["classifier.2.weight"].dim() != 2 or original["classifier.5.weight"].dim() != 2:
        told = f"it lacks {', '.join(lost)}" if lost else "its classifier is no pair of linear layers"
        first = next(iter(original), None)
        raise UserError(
            f"{path} is a state dict of {len(original)} entries, {first!r} the first, but of no EfficientAT with the "
            f"usual classifier: {told}; pass a file such as mn10_as_mAP_471.pt"
        )
    labels = original["classifier.5.weight"].shape[0]
    config = EfficientAtConfig(
        width_mult=_width(original, path), num_labels=labels, problem_type="multi_label_classification"
    )
    with torch.device("meta"):
        expected = EfficientAtForAudioClassification(config).state_dict()
    renamed = original_keys(expected)
    _check(original, {renamed[key]: value for key, value in expected.items()}, config, path)
    return config, {key: original[renamed[key]] for key in expected}


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(f"{path} is {'a folder' if path.is_dir() else 'not there'}; pass an EfficientAT .pt file")
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # of any class: what is no such file is read as a pickle of old, and its bytes lead on
        found = re.search(r"GLOBAL:? ([\w.]+)", str(error))
        told = f"it wants to call {found[1]}" if found else "it is damaged, cut short, or of another format"
        raise UserError(f"{path} holds no weights alone and is not loaded: {told}; download it again") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dict; pass an EfficientAT .pt file")
    for key, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise UserError(
                f"{path} is no plain state dict: its {key!r} is a {type(value).__name__}, not a tensor; save the state "
                "dict alone"
            )
    return dict(content)


def _width(original: Mapping[str, torch.Tensor], path: str | Path) -> float:
    """The shortest decimal by which the table gives these channels. Raises UserError where none does."""
    size = original["classifier.2.weight"].shape[0]
    ends = [[key for key in original if re.fullmatch(rf"features\.{n}\.block\.\d\.0\.weight", key)] for n in range(16)]
    found = [original[max(keys)].shape[0] for keys in ends[1:] if keys]
    for digits in (1, 2, 3, 4):
        low, high = ((size + step) / PROJECTION_SIZE * 10**digits for step in (-8, 8))
        for whole in sorted(range(max(1, int(low)), int(high) + 2), key=lambda whole: abs(whole - (low + high) / 2)):
            width = whole / 10**digits
            if make_divisible(PROJECTION_SIZE * width) == size:
                if [make_divisible(row[2] * width) for row in ROWS] == found:
                    return width
    raise UserError(
        f"{path}: its 15 layers give {found} channels and its classifier {size}; no width of MobileNetV3-Large has "
        "these; pass an EfficientAT mn file"
    )


def _check(original, expected, config, path) -> None:
    """The same keys and shapes, or a UserError that names the first that differs."""
    name = f"{path} is no EfficientAT of width {config.width_mult}"
    missing, more = [key for key in expected if key not in original], [key for key in original if key not in expected]
    if missing:
        raise UserError(f"{name}: it lacks {len(missing)} entries, {missing[0]!r} the first; download it again")
    if more:
        raise UserError(f"{name}: it holds {len(more)} entries too many, {more[0]!r} the first")
    for key, value in expected.items():
        if original[key].shape != value.shape or original[key].is_floating_point() != value.is_floating_point():
            told = f"{key!r} is {original[key].dtype} {tuple(original[key].shape)}, not {tuple(value.shape)}"
            raise UserError(f"{name}: {told}")
