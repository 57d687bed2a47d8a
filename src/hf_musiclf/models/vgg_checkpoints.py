"""VGG's weights of ImageNet, by the keys that torchvision and timm give them, for the VGG on spectrograms."""

from collections.abc import Mapping

import torch

from hf_musiclf.errors import UserError
from hf_musiclf.models.vgg import VggConfig, VggForAudioClassification, VggModel

# Of hidden layers and scores, torchvision's and timm's: of ImageNet's labels and images of 224 pixels, left out here.
OF_THE_CLASSIFIER = ("classifier.", "pre_logits.", "head.")
COLOURS = 3
BATCHES = "num_batches_tracked"  # which old files lack


def load_imagenet(model: VggForAudioClassification | VggModel, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Give a VGG on spectrograms the convolutions and batch norms of one on images; the rest stays as it is.

    model: of width_mult=1. state_dict: of torchvision's or timm's `vggN_bn`, N its layers. A spectrogram is a grey
    image, bins downwards from the lowest: the first convolution is summed over the colours, which is what three equal
    channels give. The biases of the convolutions go into the means that the batch norms take off. Raises UserError, and
    leaves the model as it was, for other entries or shapes.
    """
    name = f"a VGG{model.config.layers} with batch norm"
    if model.config.width_mult != 1:
        raise UserError(f"width_mult={model.config.width_mult} is not ImageNet's; set width_mult=1 to take its weights")
    expected = imagenet_shapes(model.config)
    kept = {key: value for key, value in state_dict.items() if not key.startswith(OF_THE_CLASSIFIER)}
    missing = [key for key in expected if key not in kept and not key.endswith(BATCHES)]
    more = [key for key in kept if key not in expected]
    for found, told in ((missing, "lack {} entries"), (more, "hold {} too many")):
        if found:
            raise UserError(
                f"the weights are not of {name}: they {told.format(len(found))}, {found[0]!r} first; pass the state "
                f"dict of torchvision's vgg{model.config.layers}_bn"
            )
    for key, value in kept.items():
        if not isinstance(value, torch.Tensor) or value.shape != expected[key]:
            shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise UserError(f"the weights are not of {name}: {key!r} is {shape}, not {tuple(expected[key])}")
    backbone = model.base_model
    ours = [(layer.conv, layer.norm) for layer in backbone.layers]
    with torch.no_grad():
        for (conv, norm), (theirs, its_norm) in zip(ours, _places(model.config), strict=True):
            weight = kept[f"{theirs}.weight"]
            conv.weight.copy_(weight if conv.in_channels > 1 else weight.sum(1, keepdim=True))
            norm.weight.copy_(kept[f"{its_norm}.weight"])
            norm.bias.copy_(kept[f"{its_norm}.bias"])
            norm.running_mean.copy_(kept[f"{its_norm}.running_mean"] - kept[f"{theirs}.bias"])
            norm.running_var.copy_(kept[f"{its_norm}.running_var"])


def imagenet_shapes(config: VggConfig) -> dict[str, torch.Size]:
    """Key -> shape of every entry of ImageNet's VGG of these layers, with batch norm, but for its classifier."""
    shapes, inputs = {}, COLOURS
    for (conv, norm), outputs in zip(_places(config), config.channels, strict=True):
        shapes[f"{conv}.weight"] = torch.Size((outputs, inputs, 3, 3))
        shapes[f"{conv}.bias"] = torch.Size((outputs,))
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = torch.Size((outputs,))
        shapes[f"{norm}.{BATCHES}"] = torch.Size(())
        inputs = outputs
    return shapes


def _places(config: VggConfig) -> list[tuple[str, str]]:
    """Where each convolution and its batch norm stand: they, a ReLU and the poolings are numbered in a row."""
    places, number = [], 0
    for pool in config.pools:
        places.append((f"features.{number}", f"features.{number + 1}"))
        number += 4 if pool else 3
    return places
