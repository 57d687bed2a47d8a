import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clap import LABELS, inputs_of, is_fused, load, write_clap
from transformers import (
    AutoModelForAudioClassification,
    ClapAudioModel,
    ClapAudioModelWithProjection,
    ClapConfig,
    ClapModel,
)

from hf_musiclf.models import clap
from hf_musiclf.models.clap import ClapForAudioClassification
from hf_musiclf.models.freezing import encoder_layers


@pytest.fixture(scope="module", params=["unfused", "fused"])
def checkpoint(request, tmp_path_factory):
    return write_clap(tmp_path_factory.mktemp("clap"), request.param == "fused")


def test_every_audio_weight_arrives_and_only_the_head_is_new(checkpoint):
    model, found = ClapForAudioClassification.from_pretrained(checkpoint, num_labels=3, output_loading_info=True)
    head = {f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias")}
    assert found["missing_keys"] == head
    assert not found["unexpected_keys"] and not found["mismatched_keys"]
    saved = {key: value for key, value in load_file(checkpoint / "model.safetensors").items() if "audio_model" in key}
    loaded = model.state_dict()
    assert set(loaded) == set(saved) | head  # neither text tower nor projections
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)
    assert model.base_model is model.audio_model


def test_a_checkpoint_whose_layers_contradict_its_depths(tmp_path):
    """HTS-AT has as many stages as depths, whatever num_hidden_layers says."""
    write_clap(tmp_path, fused=False)
    config = ClapConfig.from_pretrained(tmp_path)
    config.audio_config.num_hidden_layers = 7
    config.save_pretrained(tmp_path)
    model = load(tmp_path)
    assert model.config.audio_config.num_hidden_layers == 2
    assert len(encoder_layers(model)) == sum(model.config.audio_config.depths) == 3


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
    model.config.hop_seconds = 0.5
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["auto_map"]["AutoModelForAudioClassification"] == "clap.ClapForAudioClassification"
    assert (tmp_path / "clap.py").read_text() == Path(clap.__file__).read_text()
    assert not saved.keys() & {"sampling_rate", "window_seconds"}  # these the extractor says
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())
    again, found = AutoModelForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert type(again) is ClapForAudioClassification and not any(found.values())
    features = inputs_of(model)
    assert torch.equal(model(features).logits, again.eval()(features).logits)
    again.config.name_or_path = model.config.name_or_path
    assert again.config.to_dict() == model.config.to_dict()
    assert again.config.id2label == dict(enumerate(LABELS)) and again.config.hop_seconds == 0.5


def test_the_head_is_as_configured(checkpoint):
    head = load(checkpoint, head_hidden_size=5, head_activation="tanh", head_dropout=0.25).classifier
    assert head.dense.weight.shape == (5, 16) and head.out_proj.weight.shape == (3, 5)
    assert head.dropout.p == 0.25
    pooled = torch.randn(2, 16)
    torch.testing.assert_close(head(pooled), torch.tanh(pooled @ head.dense.weight.T) @ head.out_proj.weight.T)
    assert load(checkpoint).classifier.dense.weight.shape == (16, 16)  # by default as wide as the encoder's output


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


def test_a_batch_without_a_long_clip_leaves_no_parameter_without_a_gradient(checkpoint):
    """DistributedDataParallel waits for all of them."""
    model = load(checkpoint).train()
    short = torch.zeros(3, 1, dtype=torch.bool)
    model(inputs_of(model, copies=True), short, labels=torch.tensor([0, 1, 2])).loss.backward()
    assert all(value.grad is not None for value in model.parameters())
    fusion = [value for name, value in model.named_parameters() if "fusion_model" in name or "mel_conv2d" in name]
    assert bool(fusion) == is_fused(model) and not any(value.grad.any() for value in fusion)


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
