"""The Audio Spectrogram Transformer with a classification head (Gong, Chung and Glass, Interspeech 2021)."""

import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from hf_musiclf.errors import UserError
from hf_musiclf.features.ast import SHIFT_SECONDS, AstFeatures
from hf_musiclf.models.families.overrides import checked_overrides, make_config

MODEL_TYPE = ASTConfig.model_type


def max_length_of(window_seconds: float) -> int:
    """Spectrogram frames of a window, 10 ms each: 10.24 s are the 1,024 of the published checkpoints."""
    return round(window_seconds / SHIFT_SECONDS)


def random_parts(overrides: dict, window_seconds: float) -> tuple[ASTConfig, ASTFeatureExtractor]:
    """Config and extractor for training from scratch.

    overrides: fields of ASTConfig. Raises UserError for fields that it does not have or that do not fit, and for a
    window shorter than a patch.
    """
    fields = checked_overrides(overrides, ASTConfig(), ["max_length"], "hidden_size, num_hidden_layers")
    config = make_config(ASTConfig, max_length=max_length_of(window_seconds), **fields)
    if config.hidden_size % config.num_attention_heads:
        raise UserError(
            f"model_config: hidden_size={config.hidden_size} is not a multiple of "
            f"num_attention_heads={config.num_attention_heads}; set both"
        )
    if config.num_mel_bins < config.patch_size:
        raise UserError(f"model_config: num_mel_bins={config.num_mel_bins} is less than patch_size={config.patch_size}")
    _check_a_patch_fits(window_seconds, config)
    extractor = ASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length)
    _keep_window(extractor, window_seconds)
    return config, extractor


def _keep_window(extractor: ASTFeatureExtractor, window_seconds: float) -> None:
    """Have the extractor know a window that is no whole number of frames, so that whoever scores with it takes that."""
    extractor.window_seconds = None
    if abs(extractor.max_length * SHIFT_SECONDS - window_seconds) > 1e-9:
        extractor.window_seconds = float(window_seconds)


def _check_a_patch_fits(window_seconds: float, config: ASTConfig) -> None:
    if max_length_of(window_seconds) < config.patch_size:
        raise UserError(
            f"window_seconds={window_seconds} is shorter than one patch of this AST, "
            f"{config.patch_size * SHIFT_SECONDS:.2f} s; raise --window_seconds"
        )


def fit_window(model: ASTForAudioClassification, extractor: ASTFeatureExtractor, window_seconds: float) -> str | None:
    """Make model and extractor take windows of this length; returns what was done, None where they fit already.

    Shorter windows than the checkpoint's: its position embeddings are interpolated along time, as AST's authors do for
    inputs of another length (section 2.2 of the paper). Longer ones are refused, as nothing was learnt behind the end.
    """
    wanted, seen = max_length_of(window_seconds), model.config.max_length
    if wanted == seen:
        _keep_window(extractor, window_seconds)
        return None
    if wanted > seen:
        raise UserError(
            f"window_seconds={window_seconds} exceeds the {seen * SHIFT_SECONDS:.2f} s that this AST sees; lower "
            "--window_seconds, or pass a model with a longer max_length"
        )
    _check_a_patch_fits(window_seconds, model.config)
    embeddings = model.base_model.embeddings
    before = embeddings.get_shape(model.config)
    model.config.max_length = extractor.max_length = wanted
    _keep_window(extractor, window_seconds)
    after = embeddings.get_shape(model.config)
    positions = embeddings.position_embeddings.data
    special, grid = positions[:, :2], positions[:, 2:]  # the class and distillation tokens have no place in time
    grid = grid.transpose(1, 2).unflatten(2, before)
    grid = torch.nn.functional.interpolate(grid, size=after, mode="bilinear", align_corners=False)
    embeddings.position_embeddings = torch.nn.Parameter(torch.cat([special, grid.flatten(2).transpose(1, 2)], dim=1))
    return f"position embeddings interpolated from {before[1]} to {after[1]} steps in time"


def embeds(model: ASTForAudioClassification) -> bool:
    """Whether the head takes the pooled output of the backbone alone: always."""
    return True


make_features = AstFeatures
model_class, extractor_class = ASTForAudioClassification, ASTFeatureExtractor
