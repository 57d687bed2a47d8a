"""Encoders of sound at small size with random weights, as checkpoints of the published ones' classes and key names."""

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForAudioClassification,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

LABELS = ("blues", "jazz", "rock")
RATE = 16_000
CONVOLUTIONAL = dict(
    hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, conv_dim=[8, 8, 8],
    conv_kernel=[10, 8, 4], conv_stride=[5, 8, 4], num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    classifier_proj_size=12, vocab_size=32,
)  # fmt: skip
SIZES = {
    "whisper": dict(
        d_model=16, encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=24, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=16, max_source_positions=50, num_mel_bins=16,
        classifier_proj_size=12, vocab_size=32, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        decoder_start_token_id=0,
    ),
    "wav2vec2-bert": dict(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24,
        feature_projection_input_dim=32, classifier_proj_size=12,
    ),
    "data2vec-audio": {**CONVOLUTIONAL, "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 3},
    "wav2vec2-stable": {**CONVOLUTIONAL, "do_stable_layer_norm": True, "feat_extract_norm": "layer"},
    "sew": {**CONVOLUTIONAL, "squeeze_factor": 2},
    "sew-d": {**CONVOLUTIONAL, "squeeze_factor": 2},
}  # fmt: skip


def config_of(kind, **changes):
    """kind: a model type; or wav2vec2-stable, large-lv60's variant, with norms that padding does not reach."""
    model_type = kind.removesuffix("-stable")
    return CONFIG_MAPPING[model_type](**{**SIZES.get(kind, CONVOLUTIONAL), **changes})


def extractor_of(kind):
    if kind == "whisper":
        return WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    if kind == "wav2vec2-bert":
        return SeamlessM4TFeatureExtractor(feature_size=16, num_mel_bins=16)
    return Wav2Vec2FeatureExtractor(return_attention_mask=kind in ("wav2vec2-stable", "data2vec-audio"))


def write_encoder(folder, kind, model_class=None, **changes):
    """Random weights, none of them at its initial value, and the stock extractor; returns the folder."""
    torch.manual_seed(0)
    config = config_of(kind, **changes)
    model = model_class(config) if model_class else AutoModelForAudioClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    extractor_of(kind).save_pretrained(folder)
    return folder
