"""Which parameters learn: everything, the head, or the head and the last encoder layers. Read off the model's class."""

from torch import nn
from transformers import PreTrainedModel

from hf_musiclf.errors import UserError


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The stack of encoder layers of the model's backbone."""
    count = model.config.num_hidden_layers
    stacks = [
        module
        for module in model.base_model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == count and len({type(layer) for layer in module}) == 1
    ]
    assert stacks, f"{type(model).__name__} has no stack of {count} layers"
    return stacks[0]


def set_trainable(model: PreTrainedModel, train_layers: str) -> dict[str, int]:
    """Freeze what `train_layers` leaves out.

    train_layers: `all`; `head`: what lies outside the backbone; `last:N`: the head, the last N encoder layers and what
    stands behind them in the backbone (a final norm). Returns `{"parameters": all, "trainable": those that learn}`.
    Raises UserError for more layers than there are.
    """
    kind, _, count = train_layers.partition(":")
    if kind != "all":
        model.base_model.requires_grad_(False)
    if kind == "last":
        layers = encoder_layers(model)
        if int(count) > len(layers):
            raise UserError(
                f"train_layers={train_layers}: the model has {len(layers)} encoder layers; lower N, or use all"
            )
        for layer in layers[-int(count) :]:
            layer.requires_grad_(True)
        for module in _behind(model.base_model, layers):
            module.requires_grad_(True)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trainable": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
    }


def _behind(module: nn.Module, layers: nn.ModuleList) -> list[nn.Module]:
    """The modules registered after the one that holds the layers, at every level down to it."""
    behind, found = [], False
    for child in module.children():
        if found:
            behind.append(child)
        elif child is layers:
            found = True
        elif any(inner is layers for inner in child.modules()):
            found = True
            behind += _behind(child, layers)
    return behind
