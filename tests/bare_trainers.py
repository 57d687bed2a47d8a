"""A MusicTrainer without windows, for what it does with models and batches."""

import numpy as np
from transformers import ASTConfig, ASTForAudioClassification

from hf_musiclf.arguments import RecipeTrainingArguments
from hf_musiclf.models.loading import LoadedModel
from hf_musiclf.trainer import MusicTrainer


class Features:
    extractor, sampling_rate = None, 16_000


class Windows(list):
    hop = window = 16_000
    samples_of_track = np.array([16_000])

    def spread(self, per_track):
        return np.arange(len(self))


def small_ast(**config):
    """Of three layers; takes `(batch, 32, 16)`."""
    size = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 8}
    return ASTForAudioClassification(ASTConfig(**size, num_mel_bins=16, max_length=32, **config))


def bare_trainer(model, folder, **arguments):
    args = RecipeTrainingArguments(output_dir=str(folder), use_cpu=True, learning_rate=0.1, **arguments)
    loaded = LoadedModel(model, Features(), {"parameters": 1, "trainable": 1})
    return MusicTrainer(loaded, {"train": Windows(), "validation": Windows()}, args)
