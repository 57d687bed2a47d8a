"""The CNNs: those of the papers by their configs, and what each kind of pooling is."""

import pytest
import torch
from torch import nn

from hf_musiclf.models.cnn import CnnConfig, CnnForAudioClassification


def network(**fields):
    torch.manual_seed(0)
    return CnnForAudioClassification(CnnConfig(**{"num_labels": 3, **fields})).eval()


def inputs_of(batch=2, frames=96, size=128):
    return torch.randn(batch, frames, size, generator=torch.Generator().manual_seed(1))


def test_the_short_chunk_cnn_of_the_paper_has_its_size_and_maps():
    """Of its stages, 3 convolutions of 3x3 each, but for their biases, of which the batch norms leave nothing."""
    widths = [128, 128, 256, 256, 256, 256, 512]
    weights = sum(9 * (2 * before * after + after * after) for before, after in zip([1, *widths], widths, strict=False))
    norms = sum(3 * 2 * width for width in widths)
    head = 512 * 512 + 2 * 512 + 512 * 50 + 50
    fields = {"channels": widths, "stem": False, "pooling": "max", "dense_sizes": [512], "num_labels": 50}
    with torch.device("meta"):
        model = CnnForAudioClassification(CnnConfig(**fields))
    assert model.num_parameters() == 2 * 128 + weights + norms + head
    assert 12.0e6 < model.num_parameters() < 12.2e6
    model = network(**{**fields, "channels": [8] * 7, "dense_sizes": [8]})
    # Theirs are 3.69 s at 16 kHz with a hop of 256: 231 frames; a bin and two frames are left.
    assert model.cnn(inputs_of(2, 231)).last_hidden_state.shape == (2, 8, 1, 2)


def test_a_residual_layer_is_the_sum_of_its_two_ways():
    layer = network(channels=[8, 8]).cnn.layers[1]
    maps = torch.randn(2, 8, 6, 10)

    def normed(part, values):
        return nn.functional.batch_norm(
            part.conv(values), part.norm.running_mean, part.norm.running_var, part.norm.weight, part.norm.bias
        )

    expected = normed(layer.second, normed(layer.first, maps).relu()) + normed(layer.shortcut, maps)
    torch.testing.assert_close(layer(maps), expected.relu())
    assert layer(maps).shape == (2, 8, 3, 5)
    unstrided = network(channels=[8, 8], pool_size=1).cnn.layers[1]
    for parameter in unstrided.second.norm.parameters():  # where nothing is learnt the input passes
        parameter.data.zero_()
    torch.testing.assert_close(unstrided(maps), maps.relu())


def test_the_classic_cnn_is_that_stack_of_layers():
    """Four times convolution, ReLU and max pooling; flatten, dense, scores: a course's first CNN."""
    fields = {"block": "plain", "batch_norm": False, "pooling": "flatten", "dense_sizes": [16]}
    model = network(**fields, channels=[4, 8, 12, 12], flatten_steps=6)
    classic, inputs = [], 1
    for outputs in (4, 8, 12, 12):
        classic += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        inputs = outputs
    classic = nn.Sequential(*classic, nn.Flatten(), nn.Linear(12 * 8 * 6, 16), nn.ReLU(), nn.Linear(16, 3))
    theirs = [tuple(value.shape) for value in classic.state_dict().values()]
    ours = {key: value for key, value in model.state_dict().items() if "standardisation" not in key}
    assert [tuple(value.shape) for value in ours.values()] == theirs
    classic.load_state_dict(dict(zip(classic.state_dict(), ours.values(), strict=True)))
    frames = 6 * 16  # which four poolings leave as flatten_steps
    standardised = inputs_of(2, frames) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(model(inputs_of(2, frames)).logits, classic(standardised.transpose(1, 2)[:, None]))


@pytest.mark.parametrize(
    "pooling, pool",
    [
        ("max", lambda maps: maps.flatten(2).max(2).values),
        ("mean", lambda maps: maps.flatten(2).mean(2)),
        ("mean_max", lambda maps: maps.mean(2).max(2).values + maps.mean((2, 3))),
        ("flatten", lambda maps: maps.unflatten(3, (2, 3)).mean(4).flatten(1)),
    ],
)
def test_the_embedding_is_the_pooled_maps_behind_the_hidden_layers(pooling, pool):
    model = network(channels=[4, 8], pooling=pooling, flatten_steps=2, dense_sizes=[])
    output = model.cnn(inputs_of(2, 48))
    assert output.last_hidden_state.shape == (2, 8, 16, 6)  # halved by the stem and by each stage
    torch.testing.assert_close(output.pooler_output, pool(output.last_hidden_state))
    assert output.pooler_output.shape[1] == model.config.hidden_size == model.config.pooled_size
    model = network(channels=[4, 8], pooling=pooling, flatten_steps=2, dense_sizes=[6, 5])
    assert model.cnn(inputs_of()).pooler_output.shape == (2, 5)
    assert len(model.cnn.dense) == 2 and model.classifier.in_features == 5


def test_the_default_is_small_and_its_scale_kept():
    model = network(num_labels=10).train()
    assert 0.8e6 < model.num_parameters() < 0.9e6
    hidden = model.cnn.stem(inputs_of(8).transpose(1, 2)[:, None])
    for layer in model.cnn.layers:
        hidden = layer(hidden)
        assert 0.3 < hidden.std() < 3


def test_without_batch_norm_the_scale_is_kept_too():
    model = network(block="plain", batch_norm=False, channels=[32, 64, 64], dense_sizes=[64])
    hidden, states = inputs_of(4).transpose(1, 2)[:, None], []
    for layer in model.cnn.layers:
        states.append(layer.convolution(hidden))
        hidden = states[-1].relu()  # max pooling, which raises it, left out
    assert all(0.5 < state.pow(2).mean() < 4 for state in states)
