"""A whole CLAP at small size, with its tokenizer, as a checkpoint of the published ones' class and key names."""

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

from hf_musiclf.models.clap import ClapForAudioClassification
from hf_musiclf.models.feature_extraction_clap import ClapWindowFeatureExtractor

LABELS = ("Bach", "Chopin", "Liszt")
PROMPT = "a piano piece composed by {label}"
AUDIO = dict(
    spec_size=64, num_mel_bins=16, depths=[1, 2], num_attention_heads=[1, 2], patch_embeds_hidden_size=8,
    hidden_size=16, num_hidden_layers=2, window_size=4,
)  # fmt: skip
TEXT = dict(
    vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
    max_position_embeddings=40, pad_token_id=1,
)  # fmt: skip
RATE = 8_000  # Hz
MAX_SAMPLES = 2 * RATE
EXTRACTOR = dict(feature_size=16, sampling_rate=RATE, hop_length=80, fft_window_size=256, max_length_s=2)


def write_tokenizer(folder):
    words = ["<s>", "<pad>", "</s>", "<unk>", "a", "piano", "piece", "composed", "by", *LABELS]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    special = dict(bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special, model_max_length=32).save_pretrained(folder)


def write_clap(folder, fused):
    """With random weights and norms, and the stock extractor, as LAION's; returns the folder."""
    torch.manual_seed(0)
    model = ClapModel(ClapConfig(audio_config={**AUDIO, "enable_fusion": fused}, text_config=TEXT, projection_dim=12))
    for value in model.audio_model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.2 - 0.1 if value.ndim > 1 else torch.rand_like(value) + 0.5)
    model.save_pretrained(folder)
    ClapFeatureExtractor(**EXTRACTOR, truncation="fusion" if fused else "rand_trunc").save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def load(folder, **kwargs):
    ids = dict(label2id={label: place for place, label in enumerate(LABELS)}, id2label=dict(enumerate(LABELS)))
    return ClapForAudioClassification.from_pretrained(folder, **{**ids, **kwargs}).eval()


def is_fused(model):
    return model.config.audio_config.enable_fusion


def inputs_of(model, batch=3, copies=False):
    """Spectrograms of noise, `(batch, channels, frames, mels)`; copies: of short clips, which have nothing to fuse."""
    features = 20 * torch.randn(batch, 4 if is_fused(model) else 1, 201, 16) - 40
    return features[:, :1].expand_as(features).contiguous() if copies else features


def extractor_of(truncation="rand_trunc", **settings):
    return ClapWindowFeatureExtractor(
        truncation=truncation, **{**EXTRACTOR, "feature_size": 64, "frequency_max": 4_000, **settings}
    )


def stock_of(extractor):
    settings = extractor.to_dict()
    return ClapFeatureExtractor(
        **{key: settings[key] for key in (*EXTRACTOR, "frequency_max", "truncation", "padding")}
    )


def sound(samples, seed=0):
    rng = np.random.default_rng(seed)
    times = np.arange(samples) / RATE
    tones = 0.3 * np.sin(2 * np.pi * rng.uniform(50, 3_000) * times)
    return (tones * (times % 0.4 < 0.2) + 0.05 * rng.standard_normal(samples)).clip(-1, 1).astype(np.float32)
