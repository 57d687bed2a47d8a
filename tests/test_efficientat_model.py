"""The network: that of the original, of any width, and how it learns."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForAudioClassification

from hf_musiclf.errors import UserError
from hf_musiclf.models.efficientat import (
    ROWS,
    EfficientAtConfig,
    EfficientAtForAudioClassification,
    EfficientAtStandardisation,
    make_divisible,
)
from hf_musiclf.models.efficientat_checkpoints import load_original
from hf_musiclf.models.families import efficientat
from hf_musiclf.models.feature_extraction_efficientat import EfficientAtFeatureExtractor
from hf_musiclf.models.freezing import learning_rate_scales, set_trainable, truncate

PUBLISHED = Path(__file__).parents[1] / "../shared/checkpoints/efficientat"
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published checkpoint is not beside the repository")


@pytest.fixture
def model():
    torch.manual_seed(0)
    labels = {0: "blues", 1: "jazz", 2: "rock"}
    config = EfficientAtConfig(width_mult=0.1, id2label=labels, label2id={name: key for key, name in labels.items()})
    return EfficientAtForAudioClassification(config).eval()


def inputs_of(batch=3, frames=64):
    return torch.randn(batch, frames, 128, generator=torch.Generator().manual_seed(1))


def close(ours, expected):
    """Within 1e-4 of the largest value."""
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@published
def test_embedding_and_logits_are_those_of_the_original():
    golden = np.load(PUBLISHED / "golden.npz")
    config, state_dict = load_original(PUBLISHED / "mn04_as_mAP_432.pt")
    model = EfficientAtForAudioClassification(config).eval()
    model.load_state_dict(state_dict)
    features = efficientat.make_features(EfficientAtFeatureExtractor())
    waveforms = torch.from_numpy((golden["waveform_int16"] / 32767).astype(np.float32))
    with torch.no_grad():
        output = model(**features(waveforms), output_hidden_states=True)
    for ours, name in ((output.hidden_states[-1].mean((2, 3)), "embedding"), (output.logits, "logits")):
        expected = torch.from_numpy(golden[name])
        close(ours, expected)
        assert (ours - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("width, parameters", [(0.4, 0.98e6), (1.0, 4.88e6), (2.0, 17.91e6), (4.0, 68.43e6)])
def test_the_sizes_are_those_that_the_paper_tells(width, parameters):
    with torch.device("meta"):
        model = EfficientAtForAudioClassification(EfficientAtConfig(width_mult=width, num_labels=527))
    assert model.num_parameters() == pytest.approx(parameters, abs=0.005e6)


def test_channels_are_multiples_of_eight_and_lose_a_tenth_at_most():
    for channels in np.arange(1, 2000, 0.7):
        made = make_divisible(channels)
        assert made % 8 == 0 and made >= 0.9 * channels and made - channels < 8


def test_each_stride_of_two_halves_mels_and_frames(model):
    states = model(inputs_of(frames=100), output_hidden_states=True).hidden_states
    assert len(states) == 1 + len(ROWS) + 1
    assert [tuple(states[place].shape[2:]) for place in (0, 2, 4, 7, 13, 16)] == [
        (64, 50), (32, 25), (16, 13), (8, 7), (4, 4), (4, 4)
    ]  # fmt: skip
    assert states[-1].shape[1] == model.config.hidden_size == 96
    assert model(inputs_of()).hidden_states is None
    assert isinstance(model(inputs_of(), return_dict=False), tuple)


def test_the_pooled_output_is_the_projected_mean_of_the_last_convolution(model):
    output = model.base_model(inputs_of())
    expected = torch.nn.functional.hardswish(model.efficientat.projection(output.last_hidden_state.mean((2, 3))))
    assert torch.equal(output.pooler_output, expected) and expected.shape == (3, model.config.projection_size)
    assert torch.equal(model(inputs_of()).logits, model.classifier(expected))


def test_windows_of_a_batch_do_not_touch_each_other(model):
    inputs = inputs_of()
    alone = torch.cat([model(row[None]).logits for row in inputs])
    torch.testing.assert_close(model(inputs).logits, alone, atol=1e-6, rtol=1e-4)


def test_losses_are_those_of_the_problem_type(model):
    inputs, labels = inputs_of(), torch.tensor([0, 2, 1])
    output = model(inputs, labels=labels)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, labels))
    several = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    model.config.problem_type = "multi_label_classification"
    output = model(inputs, labels=several)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(output.logits, several)
    torch.testing.assert_close(output.loss, expected)


def test_gradients_reach_every_parameter_and_checkpointing_keeps_them(model):
    model.dropout.p = 0.0
    inputs, labels = inputs_of(), torch.tensor([0, 1, 2])
    model.train()
    model(inputs, labels=labels).loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    assert all(torch.isfinite(gradient).all() and gradient.any() for gradient in gradients.values())
    model.zero_grad()
    model.gradient_checkpointing_enable()
    computed = []
    model.efficientat.layers[3].depthwise.register_forward_hook(lambda *_: computed.append(1))
    model(inputs, labels=labels).loss.backward()
    assert len(computed) == 2
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=1e-3)


def test_what_is_saved_comes_back_whole(model, tmp_path):
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    model.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())
    again, found = AutoModelForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert type(again) is EfficientAtForAudioClassification and not any(found.values())
    assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())
    again.config.name_or_path = model.config.name_or_path
    assert again.config.to_dict() == model.config.to_dict()


def test_for_other_labels_only_the_scores_are_new(model, tmp_path):
    model.save_pretrained(tmp_path)
    again, found = EfficientAtForAudioClassification.from_pretrained(
        tmp_path, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {key for key, *_ in found["mismatched_keys"]} == {"classifier.weight", "classifier.bias"}
    assert not found["missing_keys"] and again.classifier.out_features == 5
    kept = model.efficientat.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in again.efficientat.state_dict().items())


def trained(model, train_layers):
    set_trainable(model, train_layers)
    return {name.removeprefix("efficientat.") for name, value in model.named_parameters() if value.requires_grad}


def test_head_and_last_layers_learn_alone(model):
    head = {"classifier.weight", "classifier.bias"}
    assert trained(model, "head") == head
    behind = {"final.conv.weight", "final.norm.weight", "final.norm.bias", "projection.weight", "projection.bias"}
    layers = {name for name, _ in model.efficientat.named_parameters() if name.startswith(("layers.13.", "layers.14."))}
    assert trained(model, "last:2") == head | behind | layers
    model.train()
    model(inputs_of(), labels=torch.tensor([0, 1, 2])).loss.backward()
    assert model.efficientat.stem.conv.weight.grad is None
    assert all(value.grad is not None for value in model.parameters() if value.requires_grad)
    with pytest.raises(UserError, match="the model has 15 encoder layers"):
        set_trainable(model, "last:16")


def test_the_learning_rate_falls_towards_the_stem(model):
    scales = learning_rate_scales(model, 0.5)
    backbone = model.efficientat
    assert scales[backbone.projection.weight] == scales[backbone.final.norm.weight] == 1
    assert scales[backbone.layers[14].project.norm.bias] == 0.5
    assert scales[backbone.layers[0].depthwise.conv.weight] == 0.5**15
    assert scales[backbone.stem.norm.weight] == 0.5**16


def test_training_from_scratch_starts_sanely():
    torch.manual_seed(0)
    config, _ = efficientat.random_parts({"width_mult": 0.4}, 1.0)
    config.id2label = {place: str(place) for place in range(10)}
    model = efficientat.model_class(config).train()
    states = model(inputs_of(8), output_hidden_states=True).hidden_states
    assert all(0.1 < state.std() < 10 for state in states)
    # A depthwise convolution has 9 or 25 connections an output, however many channels there are.
    for layer, kernel in ((model.efficientat.layers[0], 3), (model.efficientat.layers[14], 5)):
        assert layer.depthwise.conv.weight.std().item() == pytest.approx(math.sqrt(2) / kernel, rel=0.15)
    output = model(inputs_of(16), labels=torch.arange(16) % 10)
    assert output.loss.item() == pytest.approx(math.log(10), rel=0.2)


def test_a_few_steps_learn_a_tiny_set():
    torch.manual_seed(0)
    config = EfficientAtConfig(width_mult=0.1, num_labels=2, dropout=0.0)
    model, labels = EfficientAtForAudioClassification(config).train(), torch.tensor([0, 1] * 4)
    inputs = inputs_of(8) + labels[:, None, None] * torch.linspace(-1, 1, 128)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        losses.append(model(inputs, labels=labels).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"width_mult": 0}, "width_mult=0 must be a number above 0"),
        ({"dropout": 1.0}, r"dropout=1\.0 must lie in \[0, 1\)"),
        ({"batch_norm_momentum": 2}, r"batch_norm_momentum=2(\.0)? must lie in \[0, 1\]"),
        ({"num_mel_bins": 0}, "num_mel_bins=0 must be a whole number"),
        ({"width": 1}, r"'width' is no field of EfficientAtConfig .* did you mean width_mult\?"),
        ({"width_mult": "wide"}, "width_mult"),
        ({"num_hidden_layers": 3}, "'num_hidden_layers' is no field"),
    ],
)
def test_configs_that_make_no_model_are_refused_in_one_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        efficientat.random_parts(fields, 10.0)
    assert "\n" not in str(caught.value)


def test_configs_that_make_no_model_are_refused_without_this_package_too():
    for fields, message in (
        ({"width_mult": 0}, "width_mult=0 must be above 0"),
        ({"dropout": 1.0}, r"dropout=1\.0 must lie in \[0, 1\)"),
        ({"batch_norm_momentum": 2}, r"batch_norm_momentum=2(\.0)? must lie in \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            EfficientAtConfig(**fields)


def test_parts_for_training_from_scratch_have_the_window():
    config, extractor = efficientat.random_parts({"width_mult": 0.1, "num_mel_bins": 64}, 2.5)
    assert extractor.window_seconds == 2.5 and extractor.feature_size == 64
    model = efficientat.model_class(config).eval()
    assert efficientat.fit_window(model, extractor, 2.5) is None
    inputs = efficientat.make_features(extractor)(torch.randn(2, 80_000).clamp(-1, 1))
    assert inputs["input_values"].shape == (2, 250, 64) and model(**inputs).logits.shape == (2, 2)
    with pytest.raises(UserError, match=r"needs 514, 0\.016 s; raise --window_seconds"):
        efficientat.random_parts({}, 0.01)


def test_any_window_fits_but_one_shorter_than_a_spectrum(model):
    extractor = EfficientAtFeatureExtractor()
    assert efficientat.fit_window(model, extractor, 10.0) is None
    assert efficientat.fit_window(model, extractor, 5) == "windows of 5 s, where it has seen 10.0 s"
    assert extractor.window_seconds == efficientat.make_features(extractor).window_seconds == 5.0
    with pytest.raises(UserError, match=r"window_seconds=0\.01 is 320 samples; .*; raise --window_seconds"):
        efficientat.fit_window(model, extractor, 0.01)
    assert extractor.window_seconds == 5.0
    with pytest.raises(UserError, match="makes 64 mel bands where its model takes 128; mend feature_size"):
        efficientat.fit_window(model, EfficientAtFeatureExtractor(feature_size=64), 5.0)


def test_a_probe_takes_embedding_and_projection_each_of_mean_0_and_variance_1():
    torch.manual_seed(0)
    model = EfficientAtForAudioClassification(EfficientAtConfig(width_mult=0.1, num_labels=3, head_type="probe"))
    output = model.eval().base_model(inputs_of())
    embedding = output.last_hidden_state.mean((2, 3))
    projected = torch.nn.functional.hardswish(model.efficientat.projection(embedding))
    assert torch.equal(output.pooler_output, torch.cat([embedding, projected], 1))
    untrained = model.classifier(output.pooler_output / (1 + model.norm.eps) ** 0.5)
    torch.testing.assert_close(model(inputs_of()).logits, untrained)


@pytest.mark.parametrize("sizes", [(12,), (1, 1, 10), (5, 4, 3), (1,) * 12])
def test_the_standardisation_is_that_of_everything_seen_however_it_came(sizes):
    features = torch.randn(12, 4) * torch.tensor([1.0, 30.0, 0.01, 0.0]) + torch.tensor([5.0, -200.0, 0.0, 3.0])
    norm = EfficientAtStandardisation(4, eps=1e-9).train()
    for part in features.split(sizes):
        assert norm(part).isfinite().all()
    torch.testing.assert_close(norm.mean, features.mean(0))
    torch.testing.assert_close(norm.variance, features.var(0, correction=0), rtol=1e-4, atol=1e-8)
    made = norm.eval()(features)
    torch.testing.assert_close(made[:, :3].mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(made[:, :3].var(0, correction=0), torch.ones(3), atol=1e-3, rtol=0)
    before = norm.mean.clone()
    norm(features + 100)
    assert torch.equal(norm.mean, before)  # evaluation takes nothing in


def test_unknown_heads_are_refused():
    with pytest.raises(ValueError, match="head_type='mlp' is not known; choose projection or probe"):
        EfficientAtConfig(head_type="mlp")


def test_a_network_of_one_piece_is_not_cut(model):
    with pytest.raises(UserError, match="is one network, of whose layers none can be left out"):
        truncate(model, 3)
    model(inputs_of())
