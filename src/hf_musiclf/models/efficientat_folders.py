"""An EfficientAT as a folder in Transformers' format: written of an original file's weights, and read back."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoConfig
from transformers.utils import logging

from hf_musiclf.errors import UserError
from hf_musiclf.files import write_whole
from hf_musiclf.models.efficientat import EfficientAtConfig, EfficientAtForAudioClassification
from hf_musiclf.models.feature_extraction_efficientat import EfficientAtFeatureExtractor

CARD = """---
license: mit
library_name: transformers
pipeline_tag: audio-classification
---

# EfficientAT of width {width}

Weights of [EfficientAT](https://github.com/fschmid56/EfficientAT), MIT License, Copyright (c) 2022 Florian Schmid,
under the key names of Transformers. Florian Schmid, Khaled Koutini and Gerhard Widmer, "Efficient Large-Scale Audio
Tagging Via Transformer-to-CNN Knowledge Distillation", ICASSP 2023, arXiv 2211.04772.

    classify = pipeline("audio-classification", model=FOLDER, trust_remote_code=True)
    classify({{"raw": waveform, "sampling_rate": 32000}}, function_to_apply="sigmoid")

It takes mono audio and classifies its first ten seconds; several labels may hold at once.
"""

AutoConfig.register(EfficientAtConfig.model_type, EfficientAtConfig, exist_ok=True)


def read_label_names(path: str | Path, count: int) -> list[str]:
    """Label names, in order, of a csv file with the columns `index` and `display_name`, as AudioSet's is.

    Raises UserError where there is no such file, or where it does not name each of `count` labels once.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            names = {int(row["index"]): row["display_name"] for row in csv.DictReader(file)}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a csv file with the columns index and display_name ({type(error).__name__}); "
            "pass AudioSet's class_labels_indices.csv"
        ) from error
    if sorted(names) != list(range(count)) or len(set(names.values())) != count:
        raise UserError(f"{path} names {len(set(names.values()))} labels, the checkpoint has {count}; pass its own")
    return [names[index] for index in range(count)]


def save_folder(config: EfficientAtConfig, state_dict: Mapping[str, torch.Tensor], folder: Path) -> Path:
    """A folder that `pipeline("audio-classification", trust_remote_code=True)` takes: whole, or not there at all."""
    with torch.random.fork_rng(devices=[]):  # a run that converts draws the same head as one that finds the folder
        model = EfficientAtForAudioClassification(config)
    model.load_state_dict(state_dict)

    def write(beside: Path) -> None:
        model.save_pretrained(beside)
        EfficientAtFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(beside)
        (beside / "README.md").write_text(CARD.format(width=config.width_mult), encoding="utf-8")

    with _no_bars():
        return write_whole(folder, write)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without Transformers' bars for reading and writing weights: these are few."""
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()


def load_folder(folder: Path) -> EfficientAtForAudioClassification:
    """The model of a Transformers folder, all weights its own. Raises UserError for a folder of anything else."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if config.model_type != EfficientAtConfig.model_type:
            raise UserError(f"{folder} holds a model of architecture {config.model_type!r}, no EfficientAT")
        with _no_bars():
            model, found = EfficientAtForAudioClassification.from_pretrained(
                folder, local_files_only=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, UserError):
            raise
        told = str(error).strip().splitlines()[0]
        raise UserError(f"{folder} cannot be loaded: {told}") from error
    if any(found[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")):
        raise UserError(f"{folder} holds other weights than an EfficientAT of its config has; it is damaged")
    return model
