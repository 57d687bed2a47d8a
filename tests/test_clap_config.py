import math

import pytest
import torch
from tiny_clap import LABELS, load, write_clap
from transformers import AutoFeatureExtractor, ClapAudioModel

from hf_musiclf.errors import UserError
from hf_musiclf.models.clap import ClapAudioClassificationConfig
from hf_musiclf.models.families import clap

SMALL = dict(
    spec_size=64, num_mel_bins=16, depths=[1, 2], num_attention_heads=[1, 2], patch_embeds_hidden_size=8, window_size=4,
    sampling_rate=8_000,
)  # fmt: skip


@pytest.mark.parametrize(
    "field, message",
    [
        (dict(head_hidden_size=0), "head_hidden_size=0 must be a whole number"),
        (dict(head_activation="rleu"), "head_activation='rleu' is unknown"),
        (dict(head_dropout=1.0), r"head_dropout=1\.0 must lie in \[0, 1\)"),
        (dict(head_dropout="much"), r"head_dropout=much must lie in"),
    ],
)
def test_heads_that_cannot_be_built_are_refused(field, message):
    with pytest.raises(ValueError, match=message):
        ClapAudioClassificationConfig(**field)


def test_training_from_scratch_starts_sanely():
    config, _ = clap.random_parts({**SMALL, "patch_embeds_hidden_size": 32, "mlp_ratio": 4}, 2.0)
    assert config.audio_config.mlp_ratio == 4.0
    config.id2label = {place: str(place) for place in range(10)}
    torch.manual_seed(0)
    model, alone = clap.model_class(config).eval(), ClapAudioModel(config.audio_config)
    scale = config.audio_config.hidden_size**-0.5 * (2 * config.audio_config.num_hidden_layers) ** -0.5
    for tower in (model.audio_model, alone):
        weight = tower.audio_encoder.layers[1].blocks[0].intermediate.dense.weight
        assert weight.std().item() == pytest.approx(scale, rel=0.05)
    features = 20 * torch.randn(16, 1, 201, 16) - 40
    output = model(features, labels=torch.arange(16) % 10)
    assert output.loss.item() == pytest.approx(math.log(10), rel=0.15)
    assert output.logits.std(0).mean() < 1


def test_from_scratch_the_extractor_fits_the_encoder(tmp_path):
    for overrides, seconds, expected in (
        (SMALL, 2.0, dict(max_length_s=2, hop_length=80, fft_window_size=256, frequency_max=4_000)),
        (SMALL, 2.2, dict(max_length_s=3, hop_length=94, truncation="rand_trunc")),
        (SMALL, 0.5, dict(max_length_s=1, truncation="rand_trunc")),
        ({}, 10.0, dict(max_length_s=10, hop_length=480, fft_window_size=1024, frequency_max=14_000, feature_size=64)),
    ):
        config, extractor = clap.random_parts(overrides, seconds)
        extractor.save_pretrained(tmp_path)
        extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
        assert {key: getattr(extractor, key) for key in expected} == expected
        assert extractor.nb_max_samples == expected["max_length_s"] * overrides.get("sampling_rate", 48_000)
        features = clap.make_features(extractor)
        assert features.window_seconds == seconds
        if overrides:
            inputs = features(torch.randn(2, round(seconds * 8_000)).clamp(-1, 1))
            assert clap.model_class(config).eval()(**inputs).logits.shape == (2, 2)


@pytest.mark.parametrize(
    "overrides, seconds, message",
    [
        (dict(hidden_size=32), 2, "hidden_size follows from patch_embeds_hidden_size, depths"),
        (dict(head_dropuot=0.1), 2, "'head_dropuot' is no field of ClapAudioClassificationConfig .*head_dropout"),
        (dict(dephts=[1]), 2, r"'dephts' is no field of ClapAudioConfig .*did you mean depths\?"),
        (dict(num_classes=3), 2, "'num_classes' is no field"),
        (dict(depths=[1, 2, 2]), 2, r"depths=\[1, 2, 2\] and num_attention_heads=\[1, 2\] differ in length"),
        (dict(depths=[0, 1]), 2, r"depths=\[0, 1\] must be whole numbers"),
        (dict(depths="many"), 2, "model_config: .*depths"),
        (dict(num_attention_heads=[1, 3]), 2, "stage 1 is 16 wide, no multiple of its 3 heads"),
        (dict(num_mel_bins=24), 2, "spec_size=64 must be a multiple of num_mel_bins=24"),
        (dict(patch_size=5), 2, "spec_size=64 must be a multiple of patch_size=5 times 2"),
        (dict(window_size=16), 2, "window_size=16 exceeds the 8 x 8 patches of the last stage"),
        (dict(num_mel_bins=4), 2, "the 8 rows of patches of the last stage must be a multiple of .* 16"),
        (dict(enable_fusion=True), 2, "'enable_fusion' is no field of ClapAudioConfig that a recipe leaves to you"),
        (dict(return_dict=False), 2, "'return_dict' is no field"),
        (dict(output_attentions=True), 2, "'output_attentions' is no field"),
        (dict(_name_or_path="here"), 2, "'_name_or_path' is no field"),
        (dict(head_hop_seconds=1), 2, "'head_hop_seconds' is no field"),
        (dict(mlp_ratio=-1), 2, "mlp_ratio=-1 must be a number above 0"),
        (dict(initializer_factor=0), 2, "initializer_factor=0 must be a number above 0"),
        (dict(layer_norm_eps=math.inf), 2, "layer_norm_eps=inf must be a number above 0"),
        (dict(drop_path_rate=1), 2, r"drop_path_rate=1 must lie in \[0, 1\)"),
        (dict(hidden_dropout_prob=-0.1), 2, r"hidden_dropout_prob=-0\.1 must lie in \[0, 1\)"),
        (dict(attention_probs_dropout_prob=True), 2, r"attention_probs_dropout_prob=True must lie in \[0, 1\)"),
        (dict(head_dropout=1.5), 2, r"head_dropout=1\.5 must lie in \[0, 1\)"),
        (dict(head_hidden_size=0), 2, "head_hidden_size=0 must be a whole number"),
        (dict(hidden_act="geul"), 2, r"hidden_act='geul' is unknown; did you mean gelu\?"),
        (dict(hidden_act=["gelu"]), 2, "hidden_act=.* is unknown"),
        (dict(sampling_rate="fast"), 2, "sampling_rate=fast must be a whole number of Hz"),
        (dict(head_activation="no"), 2, "head_activation='no' is unknown"),
        (dict(), 30, r"window_seconds=30\.0 in the 256 frames .* one every 117 ms, 50 ms are the limit"),
    ],
)  # fmt: skip
def test_configs_that_make_no_model_are_refused_in_one_line(overrides, seconds, message):
    with pytest.raises(UserError, match=message) as caught:
        clap.random_parts({**SMALL, **overrides}, seconds)
    assert "\n" not in str(caught.value)


def test_the_head_of_a_checkpoint_is_new_and_can_be_chosen(tmp_path):
    fields = clap.head_overrides(dict(head_hidden_size=5, head_activation="tanh", head_dropout=0))
    assert fields == dict(head_hidden_size=5, head_activation="tanh", head_dropout=0.0) and set(fields) == set(
        clap.HEAD_FIELDS
    )
    head = load(write_clap(tmp_path, fused=False), **fields).classifier
    assert head.dense.weight.shape == (5, 16) and head.out_proj.weight.shape == (len(LABELS), 5)
    assert clap.head_overrides({}) == {}


@pytest.mark.parametrize(
    "overrides, message",
    [
        (dict(depths=[1, 1]), "depths is a field of the encoder, which the checkpoint brings"),
        (dict(head_dropout=0.1, sampling_rate=8_000), "sampling_rate is a field of the encoder, which the checkpoint"),
        (dict(head_droput=0.1), r"'head_droput' is no field of .*; did you mean head_dropout\?"),
        (dict(hop_seconds=1.0), "'hop_seconds' is no field"),
        (dict(audio_config={}), "'audio_config' is no field"),
        (dict(head_dropout=1), r"head_dropout=1 must lie in \[0, 1\)"),
        (dict(head_activation="rleu"), r"head_activation='rleu' is unknown; did you mean relu\?"),
        (dict(head_hidden_size=0.5), "head_hidden_size"),
    ],
)
def test_heads_of_a_checkpoint_that_cannot_be_chosen_are_refused_in_one_line(overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        clap.head_overrides(overrides)
    assert "\n" not in str(caught.value)
