"""What the three networks on spectrograms have in common: any length, any scale; saved, and run elsewhere."""

import json
import math
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from hf_musiclf.embeddings import without_backbone
from hf_musiclf.models.cnn import CnnConfig, CnnForAudioClassification
from hf_musiclf.models.crnn import CrnnConfig, CrnnForAudioClassification
from hf_musiclf.models.freezing import frozen_modules, learning_rate_scales, set_trainable, truncate
from hf_musiclf.models.vgg import VggConfig, VggForAudioClassification

PLAIN = {"block": "plain", "batch_norm": False, "dense_sizes": [16]}
# name -> class, config, fields at small size
NETWORKS = {
    "residual cnn": (CnnForAudioClassification, CnnConfig, {"channels": [8, 16], "dense_sizes": [16]}),
    "plain cnn": (CnnForAudioClassification, CnnConfig, {"channels": [8, 8, 16], "pooling": "flatten", **PLAIN}),
    "crnn": (
        CrnnForAudioClassification,
        CrnnConfig,
        {"conv_channels": [8, 16], "bin_pools": [2, 4], "frame_pools": [2, 1], "rnn_size": 16, "rnn_layers": 2},
    ),
    "gru": (CrnnForAudioClassification, CrnnConfig, {"conv_channels": [], "rnn_size": 16, "pooling": "mean"}),
    "vgg": (VggForAudioClassification, VggConfig, {"width_mult": 0.1}),
}
every_network = pytest.mark.parametrize("name", NETWORKS)
POOLED_OVER_TIME = [name for name in NETWORKS if name != "plain cnn"]


def network(name, **fields):
    model_class, config_class, small = NETWORKS[name]
    torch.manual_seed(0)
    return model_class(config_class(**{"feature_size": 24, "num_labels": 3, **small, **fields})).eval()


def inputs_of(batch=3, frames=64, size=24):
    return torch.randn(batch, frames, size, generator=torch.Generator().manual_seed(1))


def settle(model, inputs, passes=100):
    """Running statistics of these inputs, which a model in evaluation then takes."""
    model.train()
    with torch.no_grad():
        for _ in range(passes):
            model(inputs)
    return model.eval()


@every_network
@pytest.mark.parametrize("labels", [2, 11])
def test_any_length_size_and_number_of_labels_fits(name, labels):
    for size in (1, 12, 24):
        model = network(name, num_labels=labels, feature_size=size)
        for frames in (1, 7, 64, 313):
            inputs = inputs_of(2, frames, size)
            assert model(inputs).logits.shape == (2, labels)
            assert model.base_model(inputs).pooler_output.shape == (2, model.config.hidden_size)
    assert isinstance(model(inputs, return_dict=False), tuple)


@every_network
@pytest.mark.parametrize("shape", [(2, 0, 24), (2, 64, 23), (2, 64)])
def test_inputs_of_another_shape_are_refused(name, shape):
    with pytest.raises(ValueError, match=r"input_values of shape \(2, .* must be \(batch, frames, 24\), with 1 frame"):
        network(name)(torch.zeros(shape))


@every_network
def test_shift_and_scale_of_each_bin_of_all_inputs_change_nothing(name):
    model, inputs = network(name, dropout=0.0).train(), inputs_of(8)
    shift, scale = torch.linspace(-60, 60, 24), torch.logspace(-1, 2, 24)
    torch.testing.assert_close(model(inputs * scale + shift).logits, model(inputs).logits, atol=2e-4, rtol=1e-2)
    model.base_model.standardisation.eval()  # as it stands, it has seen a part of these alone
    assert (model(inputs * scale + shift).logits - model(inputs).logits).abs().max() > 0.01


@every_network
def test_each_bin_has_statistics_of_its_own(name):
    inputs = inputs_of(16) + torch.linspace(-60, 60, 24)
    standardisation = settle(network(name), inputs).base_model.standardisation
    torch.testing.assert_close(standardisation.running_mean, inputs.mean((0, 1)), atol=1e-2, rtol=1e-2)
    made = standardisation(inputs.transpose(1, 2))
    torch.testing.assert_close(made.mean((0, 2)), torch.zeros(24), atol=1e-2, rtol=0)
    torch.testing.assert_close(made.std((0, 2)), torch.ones(24), atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", POOLED_OVER_TIME)
def test_of_a_long_texture_length_and_start_matter_little(name):
    period = 32  # frames, a multiple of all strides together
    texture = inputs_of(4, period).repeat(1, 40, 1)
    model = network(name)
    torch.nn.init.normal_(model.classifier.weight)  # logits apart from each other
    settle(model, texture[:, :320], 30)
    with torch.no_grad():
        short, double, whole = (model(texture[:, :frames]).logits for frames in (320, 640, 1280))
        later = model(texture[:, period:]).logits
    apart = (short - short.roll(1, 0)).abs().mean()
    left = (whole - double).abs().max()
    assert left < 0.15 * apart
    # The ends alone differ, and their share in a mean halves with twice the length.
    assert left < 0.6 * (double - short).abs().max() + 1e-4
    assert (later - whole).abs().max() < 0.05 * apart


@every_network
def test_windows_of_a_batch_do_not_touch_each_other(name):
    model, inputs = settle(network(name), inputs_of(8), 5), inputs_of()
    alone = torch.cat([model(row[None]).logits for row in inputs])
    torch.testing.assert_close(model(inputs).logits, alone, atol=1e-6, rtol=1e-4)


@every_network
def test_losses_are_those_of_the_problem_type(name):
    model, inputs, labels = network(name), inputs_of(), torch.tensor([0, 2, 1])
    output = model(inputs, labels=labels)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, labels))
    several = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    model.config.problem_type = "multi_label_classification"
    output = model(inputs, labels=several)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(output.logits, several)
    torch.testing.assert_close(output.loss, expected)


@every_network
def test_gradients_reach_every_parameter_and_checkpointing_keeps_them(name):
    model, inputs, labels = network(name, dropout=0.0).train(), inputs_of(), torch.tensor([0, 1, 2])
    plain = network(name, dropout=0.0).train()
    model(inputs, labels=labels).loss.backward()
    plain(inputs, labels=labels).loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    assert all(torch.isfinite(gradient).all() and gradient.any() for gradient in gradients.values())
    model.zero_grad()
    model.gradient_checkpointing_enable()
    computed = []
    next(iter(model.base_model.layers[-1].children())).register_forward_pre_hook(lambda *_: computed.append(1))
    model(inputs, labels=labels).loss.backward()
    plain(inputs, labels=labels).loss.backward()
    assert len(computed) == 2
    buffers = dict(model.named_buffers())  # what is computed twice counts once
    assert buffers and all(torch.equal(buffers[key], value) for key, value in plain.named_buffers())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=1e-3)


@every_network
def test_dropout_stands_before_the_scores(name):
    model = network(name, dropout=0.5)
    torch.nn.init.normal_(model.classifier.weight)
    assert torch.equal(model(inputs_of()).logits, model(inputs_of()).logits)
    model.dropout.train()
    assert not torch.equal(model(inputs_of()).logits, model(inputs_of()).logits)


@every_network
def test_batch_norms_have_the_configured_eps_and_momentum(name):
    model = network(name, batch_norm_eps=3.0, batch_norm_momentum=0.25)
    standardisation, inputs = model.base_model.standardisation, inputs_of()
    torch.testing.assert_close(standardisation(inputs.transpose(1, 2)), inputs.transpose(1, 2) / 2)  # sqrt(1 + 3)
    settle(model, inputs + 8, 1)
    torch.testing.assert_close(standardisation.running_mean, 0.25 * (inputs + 8).mean((0, 1)))


@every_network
def test_a_single_window_trains_too(name):
    model = network(name).train()
    for frames in (1, 64):  # of a single frame even the input has no variance
        loss = model(inputs_of(1, frames), labels=torch.tensor([1])).loss
        loss.backward()
        assert loss.isfinite() and all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_network
def test_sixteen_items_of_noise_are_learnt_by_heart(name):
    model, labels = network(name, dropout=0.0, num_labels=4).train(), torch.arange(16) % 4
    inputs, losses = inputs_of(16), []
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(model(inputs, labels=labels).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[0].item() == pytest.approx(math.log(4), rel=0.1)  # before it has learnt anything, chance
    assert losses[-1] < 0.01


@every_network
def test_what_is_saved_comes_back_whole(name, tmp_path):
    model = settle(network(name), inputs_of(), 3)
    for parameter in model.parameters():  # weights that no initialisation gives
        parameter.data.uniform_(-0.3, 0.3)
    model.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())
    again, found = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(found.values())
    assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())
    again.config.name_or_path = model.config.name_or_path
    assert again.config.to_dict() == model.config.to_dict()
    assert torch.equal(again(inputs_of()).logits, model(inputs_of()).logits)


@every_network
def test_for_other_labels_only_the_scores_are_new(name, tmp_path):
    model = settle(network(name), inputs_of(), 3)
    model.save_pretrained(tmp_path)
    again, found = type(model).from_pretrained(
        tmp_path, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {key for key, *_ in found["mismatched_keys"]} == {"classifier.weight", "classifier.bias"}
    assert not found["missing_keys"] and 0.005 < again.classifier.weight.std() < 0.02
    kept = model.base_model.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in again.base_model.state_dict().items())


ELSEWHERE = """
import json, sys
sys.modules["hf_musiclf"] = None
import torch
from transformers import AutoModelForAudioClassification
found = {}
for folder in sys.argv[1:]:
    model = AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True)
    found[folder] = [type(model).__module__, model(torch.load(folder + "/inputs.pt")).logits.tolist()]
print(json.dumps(found))
"""


def test_the_saved_folder_needs_no_package(tmp_path, monkeypatch):
    models = {str(tmp_path / name.replace(" ", "_")): settle(network(name), inputs_of(), 3) for name in NETWORKS}
    for folder, model in models.items():
        model.save_pretrained(folder)
        torch.save(inputs_of(), f"{folder}/inputs.pt")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, *models], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    elsewhere = json.loads(done.stdout.splitlines()[-1])
    for folder, model in models.items():
        module, logits = elsewhere[folder]
        assert module.startswith("transformers_modules.")
        torch.testing.assert_close(torch.tensor(logits), model(inputs_of()).logits, atol=1e-5, rtol=1e-4)


@every_network
def test_the_head_takes_the_pooled_output_alone_and_learns_alone(name):
    model = settle(network(name), inputs_of(), 3)
    embedding = model.base_model(inputs_of()).pooler_output
    assert torch.equal(without_backbone(model)(embedding).logits, model(inputs_of()).logits)
    set_trainable(model, "head")
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {"classifier.weight", "classifier.bias"}
    model.train()
    for module in frozen_modules(model):
        module.eval()
    before = {name: value.clone() for name, value in model.base_model.named_buffers()}
    model(inputs_of(), labels=torch.tensor([0, 1, 2])).loss.backward()
    assert all(torch.equal(value, before[name]) for name, value in model.base_model.named_buffers())


@every_network
def test_the_learning_rate_falls_towards_the_input(name):
    model = network(name)
    scales, backbone = learning_rate_scales(model, 0.5), model.base_model
    layers = model.config.num_hidden_layers
    assert len(backbone.layers) == layers
    assert {scales[parameter] for parameter in backbone.layers[-1].parameters()} == {0.5}
    assert {scales[parameter] for parameter in backbone.layers[0].parameters()} == {0.5**layers}
    assert scales[backbone.standardisation.weight] == 0.5 ** (layers + 1)
    set_trainable(model, "last:1")
    assert all(parameter.requires_grad for parameter in backbone.layers[-1].parameters())
    assert not backbone.standardisation.weight.requires_grad
    with pytest.raises(ValueError, match="is one network, of whose layers none can be left out"):
        truncate(model, 1)


@every_network
def test_half_precision_gives_nearly_the_same(name):
    model = settle(network(name), inputs_of(8), 5)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = model(inputs_of()).logits
    torch.testing.assert_close(rough.float(), model(inputs_of()).logits, atol=0.03, rtol=0.03)


# What makes no network is refused where the config is made, in the pipeline of someone else too.
SHARED = [
    ({"feature_size": 0}, "feature_size=0 must be a whole number of 1 or more"),
    ({"dropout": 1.0}, r"dropout=1\.0 must lie in \[0, 1\)"),
    ({"batch_norm_momentum": 1}, r"batch_norm_momentum=1(\.0)? must lie in \[0, 1\)"),
    ({"batch_norm_eps": 0}, r"batch_norm_eps=0(\.0)? must be above 0"),
]
OWN = {
    CnnConfig: [
        ({"channels": []}, r"channels=\[\] makes no network"),
        ({"channels": [8, 0]}, r"channels\[1\]=0 must be a whole number"),
        ({"dense_sizes": [0]}, r"dense_sizes\[0\]=0 must be a whole number"),
        ({"block": "dense"}, "block='dense' is not known; choose from residual, plain"),
        ({"pooling": "sum"}, "pooling='sum' is not known; choose from max, mean, mean_max, flatten"),
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
        ({"pool_size": 4}, "pool_size=4 skips what kernel_size=3 does not reach"),
        ({"batch_norm": False}, "batch_norm=False goes with block=plain"),
    ],
    CrnnConfig: [
        ({"conv_channels": [8]}, r"bin_pools=\[2, 2, 4, 4\] must have one number for each of conv_channels=\[8\]"),
        ({"frame_pools": [2, 2, 1, 0]}, r"frame_pools\[3\]=0 must be a whole number"),
        ({"first_stride": 4}, "first_stride=4 skips what a 3x3 convolution does not reach; 3 at most"),
        ({"pooling": "max"}, "pooling='max' is not known; choose from attention, mean"),
        ({"rnn_layers": 0}, "rnn_layers=0 must be a whole number"),
    ],
    VggConfig: [
        ({"layers": 12}, "layers=12 is no VGG; choose from 11, 13, 16, 19"),
        ({"width_mult": 0}, r"width_mult=0(\.0)? must be above 0"),
    ],
}


@pytest.mark.parametrize(
    "config_class, fields, message",
    [(config_class, *row) for config_class, rows in OWN.items() for row in SHARED + rows],
)
def test_configs_that_make_no_network_are_refused(config_class, fields, message):
    with pytest.raises(ValueError, match=message):
        config_class(**fields)
