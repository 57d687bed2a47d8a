"""A network that no longer learns, in fewer passes over its feature maps."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import PreTrainedModel

# Of these it is known that a layer's `norm` takes what its `conv` gives, and its `activation`, if any, what `norm`
# gives, and nothing else does.
OWN_LAYERS = "hf_musiclf.models."


def fold_batch_norms(model: PreTrainedModel) -> PreTrainedModel:
    """A copy for evaluation on a CPU, each batch norm made part of the convolution before it; equal up to rounding.

    In evaluation a batch norm is a scale and a shift of every channel, which the weights and bias of the convolution
    can take on: there is a pass less over each feature map, and memory is what these networks wait for. For the same
    reason channels are last in memory, and activations that are modules overwrite what they are given. model: float32;
    another one, or one without such layers, is returned itself.
    """
    if model.dtype != torch.float32 or not any(map(_is_pair, model.modules())):
        return model
    folded = copy.deepcopy(model).eval()
    for layer in list(filter(_is_pair, folded.modules())):
        layer.conv, layer.norm = fuse_conv_bn_eval(layer.conv, layer.norm), nn.Identity()
        if hasattr(getattr(layer, "activation", None), "inplace"):
            layer.activation.inplace = True
    return folded.to(memory_format=torch.channels_last)


def _is_pair(layer: nn.Module) -> bool:
    parts = getattr(layer, "conv", None), getattr(layer, "norm", None)
    own = type(layer).__module__.startswith(OWN_LAYERS)
    return own and isinstance(parts[0], nn.Conv2d) and isinstance(parts[1], nn.BatchNorm2d)
