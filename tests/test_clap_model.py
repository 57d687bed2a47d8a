import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clap import AUDIO, EXTRACTOR, LABELS, PROMPT, write_clap
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    ClapAudioModel,
    ClapAudioModelWithProjection,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextModelWithProjection,
)

from hf_musiclf.errors import UserError
from hf_musiclf.features.clap import ClapFeatures
from hf_musiclf.models.clap import ClapAudioClassificationConfig, ClapForAudioClassification
from hf_musiclf.models.families import clap
from hf_musiclf.models.zero_shot import ClapZeroShot

SMALL = dict(
    spec_size=64, num_mel_bins=16, depths=[1, 2], num_attention_heads=[1, 2], patch_embeds_hidden_size=8, window_size=4,
    sampling_rate=8_000,
)  # fmt: skip


@pytest.fixture(scope="module", params=["unfused", "fused"])
def checkpoint(request, tmp_path_factory):
    return write_clap(tmp_path_factory.mktemp("clap"), request.param == "fused")


def load(folder, **kwargs):
    ids = dict(label2id={label: place for place, label in enumerate(LABELS)}, id2label=dict(enumerate(LABELS)))
    return ClapForAudioClassification.from_pretrained(folder, **{**ids, **kwargs}).eval()


def is_fused(model):
    return model.config.audio_config.enable_fusion


def inputs_of(model, batch=3, copies=False):
    features = 20 * torch.randn(batch, 4 if is_fused(model) else 1, 201, 16) - 40
    return features[:, :1].expand_as(features).contiguous() if copies else features


def test_every_audio_weight_arrives_and_only_the_head_is_new(checkpoint):
    model, found = ClapForAudioClassification.from_pretrained(checkpoint, num_labels=3, output_loading_info=True)
    head = {f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias")}
    assert found["missing_keys"] == head
    assert not found["unexpected_keys"] and not found["mismatched_keys"]
    saved = {key: value for key, value in load_file(checkpoint / "model.safetensors").items() if "audio_model" in key}
    loaded = model.state_dict()
    assert set(loaded) == set(saved) | head  # neither text tower nor projections
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)
    assert (checkpoint / "config.json").exists() and model.base_model is model.audio_model


@pytest.mark.parametrize("kind", [ClapAudioModel, ClapAudioModelWithProjection])
def test_checkpoints_of_the_audio_encoder_alone(checkpoint, kind, tmp_path):
    whole = load(checkpoint).audio_model.state_dict()
    encoder = kind(load(checkpoint).config.audio_config)
    (encoder if kind is ClapAudioModel else encoder.audio_model).load_state_dict(whole)
    encoder.save_pretrained(tmp_path)
    part = load(tmp_path).audio_model.state_dict()
    assert all(torch.equal(whole[key], part[key]) for key in whole)


def test_the_encoder_computes_what_claps_does(checkpoint):
    model, whole = load(checkpoint), ClapModel.from_pretrained(checkpoint).eval()
    features, longer = inputs_of(model), torch.ones(3, 1, dtype=torch.bool)
    expected = whole.audio_model(input_features=features, is_longer=longer).pooler_output
    assert torch.equal(model(features, longer).logits, model.classifier(expected))


def test_a_missing_audio_weight_is_noticed(checkpoint, tmp_path):
    weights = load_file(checkpoint / "model.safetensors")
    lost = "audio_model.audio_encoder.layers.1.blocks.0.intermediate.dense.weight"
    weights.pop(lost)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    _, found = ClapForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert lost in found["missing_keys"]


def test_what_is_saved_comes_back_whole(checkpoint, tmp_path):
    model = load(checkpoint, head_hidden_size=5, head_activation="tanh", head_dropout=0.25)
    model.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())
    again, found = AutoModelForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert type(again) is ClapForAudioClassification and not any(found.values())
    features = inputs_of(model)
    assert torch.equal(model(features).logits, again.eval()(features).logits)
    again.config.name_or_path = model.config.name_or_path
    assert again.config.to_dict() == model.config.to_dict()
    assert again.config.id2label == dict(enumerate(LABELS))
    assert type(AutoFeatureExtractor.from_pretrained(checkpoint)) is ClapFeatureExtractor


def test_the_head_is_as_configured(checkpoint):
    head = load(checkpoint, head_hidden_size=5, head_activation="tanh", head_dropout=0.25).classifier
    assert head.dense.weight.shape == (5, 16) and head.out_proj.weight.shape == (3, 5)
    assert head.dropout.p == 0.25
    pooled = torch.randn(2, 16)
    torch.testing.assert_close(head(pooled), torch.tanh(pooled @ head.dense.weight.T) @ head.out_proj.weight.T)
    assert load(checkpoint).classifier.dense.weight.shape == (16, 16)  # by default as wide as the encoder's output


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


def test_a_head_of_another_size_is_replaced_if_asked(checkpoint, tmp_path):
    load(checkpoint).save_pretrained(tmp_path)
    model, found = ClapForAudioClassification.from_pretrained(
        tmp_path, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert model.config.num_labels == 5
    assert {key for key, *_ in found["mismatched_keys"]} == {"classifier.out_proj.weight", "classifier.out_proj.bias"}


def test_losses_are_those_of_the_problem_type(checkpoint):
    model = load(checkpoint)
    features, labels = inputs_of(model), torch.tensor([0, 2, 1])
    output = model(features, labels=labels)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, labels))

    several = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    model = load(checkpoint, problem_type="multi_label_classification")
    output = model(features, labels=several)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(output.logits, several)
    torch.testing.assert_close(output.loss, expected)

    model = load(checkpoint, problem_type="regression", num_labels=1, id2label={0: "year"}, label2id={"year": 0})
    output = model(features, labels=several[:, 0])
    torch.testing.assert_close(output.loss, (output.logits[:, 0] - several[:, 0]).square().mean())


def test_gradients_reach_every_parameter_and_checkpointing_keeps_them(checkpoint):
    model = load(checkpoint)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    features, labels = inputs_of(model), torch.tensor([0, 1, 2])
    model.train()
    model(features, labels=labels).loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    model.zero_grad()
    model.gradient_checkpointing_enable()
    computed = []
    model.audio_model.audio_encoder.layers[0].blocks[0].register_forward_hook(lambda *_: computed.append(1))
    model(features, labels=labels).loss.backward()
    assert len(computed) == 2  # again on the way back
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], msg=name)


def test_a_short_clip_is_not_fused_whatever_its_flag(checkpoint):
    model = load(checkpoint)
    features = inputs_of(model, copies=True)
    alone = [model(features, flags).logits for flags in (None, torch.tensor([[True], [False], [True]]))]
    assert torch.equal(*alone)
    if is_fused(model):
        crops = inputs_of(model)
        flags = torch.tensor([[True], [False], [False]])
        fused, plain = model(crops, flags).logits, model(crops, ~(flags | True)).logits
        assert not torch.allclose(fused[0], plain[0]) and torch.equal(fused[1:], plain[1:])


def test_hidden_states_and_tuples_are_transformers(checkpoint):
    model = load(checkpoint)
    output = model(inputs_of(model), output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 3 and output.attentions is not None
    assert isinstance(model(inputs_of(model), return_dict=False), tuple)


def test_training_from_scratch_starts_sanely():
    config = clap.random_config({**SMALL, "patch_embeds_hidden_size": 32}, 2.0)
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
        ({**SMALL, "enable_fusion": True}, 0.5, dict(max_length_s=1, truncation="fusion")),
        ({}, 10.0, dict(max_length_s=10, hop_length=480, fft_window_size=1024, frequency_max=14_000, feature_size=64)),
    ):
        config = clap.random_config(overrides, seconds)
        clap.random_extractor(config).save_pretrained(tmp_path)
        extractor = ClapFeatureExtractor.from_pretrained(tmp_path)
        assert {key: getattr(extractor, key) for key in expected} == expected
        assert extractor.nb_max_samples == expected["max_length_s"] * config.sampling_rate
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
        (dict(enable_fusion=True, aff_block_r=9), 2, "aff_block_r=9 exceeds patch_embeds_hidden_size=8"),
        (dict(sampling_rate="fast"), 2, "sampling_rate=fast must be a whole number of Hz"),
        (dict(head_activation="no"), 2, "head_activation='no' is unknown"),
        (dict(), 30, r"window_seconds=30\.0 in the 256 frames .* one every 117 ms, 50 ms are the limit"),
    ],
)  # fmt: skip
def test_configs_that_make_no_model_are_refused_in_one_line(overrides, seconds, message):
    with pytest.raises(UserError, match=message) as caught:
        clap.random_config({**SMALL, **overrides}, seconds)
    assert "\n" not in str(caught.value)


def test_windows_are_fitted_to_the_checkpoint(checkpoint):
    model, extractor = load(checkpoint), ClapFeatureExtractor.from_pretrained(checkpoint)
    note = clap.fit_window(model, extractor, 1.5)
    assert "windows of 1.5 s are repeated or padded to 2 s" in note
    assert clap.make_features(extractor).window_seconds == model.config.window_seconds == 1.5
    frozen = {name.split(".")[3] for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == ({"fusion_model", "mel_conv2d"} if is_fused(model) else set())
    model.train()
    inputs = clap.make_features(extractor)(torch.randn(2, 12_000).clamp(-1, 1))
    model(**inputs, labels=torch.tensor([0, 1])).loss.backward()
    assert all(value.grad is not None for value in model.parameters() if value.requires_grad)
    whole = clap.fit_window(load(checkpoint), extractor, 2.0)
    assert (whole is None) != is_fused(model)


def test_windows_that_the_checkpoint_cannot_take_are_refused(checkpoint):
    model, extractor = load(checkpoint), ClapFeatureExtractor.from_pretrained(checkpoint)
    with pytest.raises(UserError, match=r"window_seconds=3\.0 exceeds (the )?2 s") as caught:
        clap.fit_window(model, extractor, 3.0)
    assert "\n" not in str(caught.value)
    for settings, message in (
        (dict(feature_size=32), "extractor makes 32 where its encoder takes 16; mend feature_size"),
        (dict(hop_length=8), "makes 2001 where its encoder takes 256; mend max_length_s or hop_length"),
    ):
        with pytest.raises(UserError, match=message):
            clap.fit_window(model, ClapFeatureExtractor(**{**EXTRACTOR, **settings}, truncation="rand_trunc"), 2.0)
    if not is_fused(model):
        with pytest.raises(UserError, match="makes 4 where its encoder takes 1; mend truncation"):
            clap.fit_window(model, ClapFeatureExtractor(**EXTRACTOR, truncation="fusion"), 2.0)


def test_longer_windows_of_a_fused_encoder_become_an_overview_and_crops():
    audio = {**AUDIO, "num_mel_bins": 64, "enable_fusion": True, "spec_size": 256, "depths": [1, 1]}
    model = clap.model_class(ClapAudioClassificationConfig(audio_config=audio)).eval()
    extractor = ClapFeatureExtractor(**{**EXTRACTOR, "feature_size": 64}, truncation="fusion")
    assert "become an overview and three crops of 2 s" in clap.fit_window(model, extractor, 5.0)
    assert all(value.requires_grad for value in model.parameters())
    inputs = clap.make_features(extractor)(torch.randn(2, 40_000).clamp(-1, 1))
    assert inputs["is_longer"].all()
    plain = model(inputs["input_features"], ~inputs["is_longer"]).logits
    assert not torch.allclose(model(**inputs).logits, plain)
    one = {key: value[:1] for key, value in inputs.items()}
    loss = model.train()(**one, labels=torch.tensor([1])).loss  # a last batch of one
    loss.backward()
    assert all(value.grad is not None for value in model.parameters())


ELSEWHERE = """
import json, sys
sys.modules["hf_musiclf"] = None
import numpy as np
from transformers import pipeline
folder = sys.argv[1]
classify = pipeline("audio-classification", model=folder, trust_remote_code=True)
sound = {"raw": np.load(folder + "/sound.npy"), "sampling_rate": 8000}
print(json.dumps([type(classify.model).__module__, {item["label"]: item["score"] for item in classify(sound)}]))
"""


def test_the_pipeline_runs_where_this_package_is_not_installed(checkpoint, tmp_path, monkeypatch):
    model, extractor = load(checkpoint), ClapFeatureExtractor.from_pretrained(checkpoint)
    clap.fit_window(model, extractor, 1.5)
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    sound = (0.1 * np.random.default_rng(0).standard_normal(12_000)).astype(np.float32)
    np.save(folder / "sound.npy", sound)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    module, elsewhere = json.loads(done.stdout.splitlines()[-1])
    assert module.startswith("transformers_modules.")
    inputs = clap.make_features(extractor)(torch.from_numpy(sound)[None])
    here = model(**inputs).logits.softmax(-1)[0].tolist()
    assert elsewhere == pytest.approx(dict(zip(LABELS, here, strict=True)), abs=1e-5)


def test_zero_shot_is_claps_own_similarity(checkpoint):
    zero_shot = ClapZeroShot(str(checkpoint), LABELS, PROMPT)
    assert zero_shot.prompts[0] == "a piano piece composed by Bach"
    model = ClapModel.from_pretrained(checkpoint).eval()
    features = ClapFeatures(ClapFeatureExtractor.from_pretrained(checkpoint))
    inputs = features(torch.randn(2, 16_000).clamp(-1, 1))
    tokens = torch.tensor([[0, 4, 5, 6, 7, 8, 9 + place, 2] for place in range(3)])
    with torch.no_grad():
        expected = model(input_ids=tokens, **inputs).logits_per_audio
    ours = zero_shot(**inputs).logits
    assert ours.shape == (2, 3) and ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected)
    assert not torch.allclose(ours[:, 0], ours[:, 1])


def test_zero_shot_refuses_what_has_no_words(checkpoint, tmp_path):
    with pytest.raises(UserError, match="prompt='a piece' names no label"):
        ClapZeroShot(str(checkpoint), LABELS, prompt="a piece")
    load(checkpoint).save_pretrained(tmp_path / "classifier")
    with pytest.raises(UserError, match="is of architecture 'clap-audio-classification'"):
        ClapZeroShot(str(tmp_path / "classifier"), LABELS, PROMPT)
    ClapTextModelWithProjection.from_pretrained(checkpoint).save_pretrained(tmp_path / "text")
    with pytest.raises(UserError, match="is of architecture 'clap_text_model'"):
        ClapZeroShot(str(tmp_path / "text"), LABELS, PROMPT)
    with pytest.raises(UserError, match="cannot be loaded"):
        ClapZeroShot(str(tmp_path / "nowhere"), LABELS, PROMPT)
    ClapModel.from_pretrained(checkpoint).save_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match="has no tokenizer") as caught:
        ClapZeroShot(str(tmp_path / "bare"), LABELS, PROMPT)
    assert "\n" not in str(caught.value)
    weights = load_file(tmp_path / "bare" / "model.safetensors")
    weights = {key: value for key, value in weights.items() if not key.startswith("text_model")}
    save_file(weights, tmp_path / "bare" / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks \d+ weights of its text tower"):
        ClapZeroShot(str(tmp_path / "bare"), LABELS, PROMPT)
