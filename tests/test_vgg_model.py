"""VGG: the layouts of the paper, and ImageNet's weights in it."""

import pytest
import torch
from torch import nn

from hf_musiclf.errors import UserError
from hf_musiclf.models.vgg import VggConfig, VggForAudioClassification
from hf_musiclf.models.vgg_checkpoints import imagenet_shapes, load_imagenet

# As torchvision writes its layouts: channels of a convolution, or M for max pooling.
LAYOUTS = {
    11: [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    13: [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    16: [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"],
}


class Imagenet(nn.Module):
    """The network on images, by its keys `features.N`; `(batch, 3, height, width)` -> its maps."""

    def __init__(self, layers):
        super().__init__()
        parts, inputs = [], 3
        for width in LAYOUTS[layers]:
            if width == "M":
                parts.append(nn.MaxPool2d(2))
                continue
            parts += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
        self.features = nn.Sequential(*parts)

    def forward(self, images):
        return self.features(images)


def random_imagenet(layers):
    """A network of random weights, biases and statistics, so that none can be left out unseen."""
    torch.manual_seed(layers)
    network = Imagenet(layers).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.running_var):
                nn.init.uniform_(value, 0.5, 1.5)
            for value in (module.bias, module.running_mean):
                nn.init.normal_(value)
    return network


@pytest.fixture(scope="module")
def imagenet():
    return random_imagenet(11)


def network(**fields):
    torch.manual_seed(0)
    return VggForAudioClassification(VggConfig(**{"width_mult": 1.0, "num_labels": 3, **fields})).eval()


@pytest.mark.parametrize("layers, millions", [(11, 9.2), (13, 9.4), (16, 14.7)])
def test_the_convolutions_are_those_of_the_paper(layers, millions):
    """Table 2's 133, 133 and 138 million less its 123.6 of hidden layers and scores."""
    with torch.device("meta"):
        model = VggForAudioClassification(VggConfig(layers=layers, width_mult=1.0))
        theirs = Imagenet(layers).state_dict()
    assert model.num_parameters() == pytest.approx(millions * 1e6, abs=0.06e6)
    shapes = imagenet_shapes(model.config)
    assert list(shapes) == list(theirs)
    assert all(value.shape == shapes[key] for key, value in theirs.items())


def test_five_poolings_divide_bins_and_frames_by_32():
    model = network(width_mult=0.05)
    output = model.vgg(torch.randn(2, 313, 128))
    assert output.last_hidden_state.shape == (2, model.config.hidden_size, 4, 10)
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state.mean((2, 3)))
    assert VggConfig(width_mult=0.25).channels == [16, 32, 64, 64, 128, 128, 128, 128]
    assert 0.5e6 < VggForAudioClassification(VggConfig(num_labels=10)).num_parameters() < 0.6e6


def maps_of(model, images):
    for layer in model.vgg.layers:
        images = layer(images)
    return images


@pytest.mark.parametrize("layers", [11, 13])
def test_imagenets_weights_see_a_grey_image(layers, imagenet):
    theirs = imagenet if layers == 11 else random_imagenet(layers)
    model = network(layers=layers)
    load_imagenet(model, theirs.state_dict())
    images = torch.randn(1, 1, 64, 96)
    with torch.no_grad():
        expected, made = theirs(images.expand(-1, 3, -1, -1)), maps_of(model, images)
    assert expected.shape == made.shape == (1, 512, 2, 3) and expected.std() > 0.1
    torch.testing.assert_close(made, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-5)


def test_the_classifier_is_left_out_and_the_rest_stays(imagenet):
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items() if "layers" not in key}
    more = {
        "classifier.0.weight": torch.zeros(1),
        "pre_logits.fc1.bias": torch.zeros(2),
        "head.fc.weight": torch.ones(3),
    }
    old = {key: value for key, value in imagenet.state_dict().items() if "num_batches" not in key}
    load_imagenet(model.vgg, {**old, **more})
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items() if key in before)
    assert torch.equal(model.vgg.layers[3].conv.weight, imagenet.features[11].weight)


def test_weights_that_do_not_fit_are_refused_and_none_taken(imagenet):
    state = imagenet.state_dict()
    without_norms = {key: value for key, value in state.items() if value.dim() == 4}
    half = {**state, "features.25.weight": torch.zeros(512, 512, 1, 1)}
    for fields, given, message in (
        ({}, without_norms, "of a VGG11 with batch norm: they lack 40 entries, 'features.0.bias' first; pass"),
        ({"layers": 13}, state, "VGG13 with batch norm: they lack .* pass the state dict of torchvision's vgg13_bn"),
        ({}, {**state, "features.40.weight": torch.zeros(1)}, "they hold 1 too many, 'features.40.weight' first"),
        ({}, half, r"'features\.25\.weight' is \(512, 512, 1, 1\), not \(512, 512, 3, 3\)"),
        ({}, {**state, "features.1.bias": [0.0] * 64}, r"'features\.1\.bias' is list, not \(64,\)"),
        ({"width_mult": 0.25}, state, r"width_mult=0\.25 is not ImageNet's; set width_mult=1"),
    ):
        model = network(**{"layers": 11, **fields})
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(UserError, match=message) as caught:
            load_imagenet(model, given)
        assert "\n" not in str(caught.value)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
