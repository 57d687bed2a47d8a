"""The models whose steps gpu_steps.py times: at the size of the published ones with random weights, or tiny."""

import json
from dataclasses import dataclass, field
from typing import Any

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.models.loading import LoadedModel, load_classifier

LABELS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")  # as many as GTZAN's genres


@dataclass(frozen=True)
class Subject:
    """model_type: of FAMILIES. window_seconds: the recipe's. config, tiny: fields of its config."""

    model_type: str
    window_seconds: float
    attention: bool = True
    config: dict[str, Any] = field(default_factory=dict)
    tiny: dict[str, Any] = field(default_factory=dict)


SUBJECTS = {
    # MIT/ast-finetuned-audioset-10-10-0.4593: the defaults of ASTConfig.
    "ast": Subject(
        "audio-spectrogram-transformer", 10.24,
        tiny=dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_mel_bins=64,
                  frequency_stride=16, time_stride=16),
    ),
    # laion/larger_clap_music_and_speech: HTSAT-base.
    "clap": Subject(
        "clap-audio-classification", 10.0,
        config=dict(patch_embeds_hidden_size=128, depths=[2, 2, 12, 2], num_attention_heads=[4, 8, 16, 32]),
        tiny=dict(spec_size=64, num_mel_bins=16, depths=[1, 1], num_attention_heads=[1, 2], patch_embeds_hidden_size=8,
                  window_size=4, sampling_rate=8_000),
    ),
    # facebook/wav2vec2-large-960h-lv60-self, but that no layer is dropped at random: each step is the same work.
    "wav2vec2": Subject(
        "wav2vec2", 5.0,
        config=dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
                    feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True, layerdrop=0.0),
        tiny=dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=[8, 8],
                  conv_kernel=[10, 8], conv_stride=[10, 8], num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
                  classifier_proj_size=8, layerdrop=0.0, mask_time_prob=0),
    ),
    # EfficientAT's mn10_as: the defaults of EfficientAtConfig.
    "efficientat": Subject("efficientat", 10.0, attention=False, tiny=dict(width_mult=0.1, num_mel_bins=32)),
}  # fmt: skip
TINY_SECONDS = 1.28


def window_seconds(name: str, tiny: bool) -> float:
    return TINY_SECONDS if tiny else SUBJECTS[name].window_seconds


def load_subject(name: str, tiny: bool) -> LoadedModel:
    """A classifier on the CPU, its layers frozen as the recipe freezes them."""
    subject = SUBJECTS[name]
    config = json.dumps(subject.tiny if tiny else subject.config)
    args = ModelArguments(model="random", model_config=config)
    loaded = load_classifier(args, LABELS, window_seconds(name, tiny), subject.model_type, verbose=False)
    if hasattr(loaded.model, "freeze_feature_encoder"):  # with a checkpoint the recipe does, with new weights not
        loaded.model.freeze_feature_encoder()
    return loaded
