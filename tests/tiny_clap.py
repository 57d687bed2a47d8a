"""A whole CLAP at small size, with its tokenizer, as a checkpoint of the published ones' class and key names."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

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
EXTRACTOR = dict(feature_size=16, sampling_rate=8_000, hop_length=80, fft_window_size=256, max_length_s=2)


def write_tokenizer(folder):
    words = ["<s>", "<pad>", "</s>", "<unk>", "a", "piano", "piece", "composed", "by", *LABELS]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    special = dict(bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special, model_max_length=32).save_pretrained(folder)


def write_clap(folder, fused):
    """With random weights and norms; returns the folder."""
    torch.manual_seed(0)
    model = ClapModel(ClapConfig(audio_config={**AUDIO, "enable_fusion": fused}, text_config=TEXT, projection_dim=12))
    for value in model.audio_model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.2 - 0.1 if value.ndim > 1 else torch.rand_like(value) + 0.5)
    model.save_pretrained(folder)
    ClapFeatureExtractor(**EXTRACTOR, truncation="fusion" if fused else "rand_trunc").save_pretrained(folder)
    write_tokenizer(folder)
    return folder
