"""Which parameters learn, and how fast: everything, the head, or the head and the last encoder layers.

All of it is read off the model's class.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel

from hf_musiclf.errors import UserError


def encoder_layers(model: PreTrainedModel) -> list[list[nn.Module]]:
    """The encoder layers of the model's backbone, first to last, each with what follows it before the next one.

    Encoders in stages, as CLAP's, have blocks for layers; the module that merges patches goes with the block before it.
    """
    layers: list[list[nn.Module]] = []
    for layer in _encoder_stack(model):
        blocks = getattr(layer, "blocks", None)
        if not isinstance(blocks, nn.ModuleList):
            layers.append([layer])
            continue
        layers += [[block] for block in blocks]
        layers[-1] += [child for child in layer.children() if child is not blocks]
    return layers


def _encoder_stack(model: PreTrainedModel) -> nn.ModuleList:
    """The encoder layers, or the stages that hold them.

    Convolutions in front may be as many as the layers, and alike; the encoder has more weights.
    """
    count = model.base_model.config.num_hidden_layers
    stacks = [module for module in model.base_model.modules() if _is_stack(module) and len(module) == count]
    assert stacks, f"{type(model).__name__} has no stack of {count} layers"
    return max(stacks, key=lambda stack: sum(parameter.numel() for parameter in stack.parameters()))


def _is_stack(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList) and len({type(layer) for layer in module}) == 1


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
        for modules in [*layers[-int(count) :], _behind_encoder(model, layers[-1][0])]:
            for module in modules:
                module.requires_grad_(True)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trainable": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
    }


def batch_norms(model: PreTrainedModel) -> list[nn.Module]:
    """The batch norms of the model's backbone, whose running statistics may be kept as they are."""
    return [module for module in model.base_model.modules() if isinstance(module, _BatchNorm)]


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """The outermost modules that have parameters of which none learns."""
    parameters = list(model.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        return [model]
    return [module for child in model.children() for module in frozen_modules(child)]


def learning_rate_scales(model: PreTrainedModel, decay: float) -> dict[nn.Parameter, float]:
    """Share of the learning rate that each parameter of the backbone takes: `decay` to the power of its depth.

    The head and what stands behind the encoder layers have depth 0, the last layer 1, the first layer N, and what
    comes before them N + 1 (layer-wise decay as in BEiT, Bao et al. 2022). Parameters that are left out take all of it.
    """
    layers = encoder_layers(model)
    depth_of = {parameter: len(layers) + 1 for parameter in model.base_model.parameters()}
    depths = [(0, _behind_encoder(model, layers[-1][0])), *enumerate(reversed(layers), start=1)]
    for depth, modules in depths:
        for module in modules:
            depth_of.update(dict.fromkeys(module.parameters(), depth))
    return {parameter: decay**depth for parameter, depth in depth_of.items()}


def split_by_scale(
    groups: list[dict[str, Any]], scales: Mapping[nn.Parameter, float], of_head: float
) -> list[dict[str, Any]]:
    """The optimizer's groups, each split by the scale of its parameters' rate; the highest first, which is logged.

    scales: of the backbone's parameters; of_head: of all others.
    """
    split: dict[tuple[float, int], dict[str, Any]] = {}
    for number, group in enumerate(groups):
        for parameter in group["params"]:
            scale = scales.get(parameter, of_head)
            part = split.setdefault((-scale, number), {**group, "lr": group["lr"] * scale, "params": []})
            part["params"].append(parameter)
    return [split[key] for key in sorted(split)]


def _behind_encoder(model: PreTrainedModel, last: nn.Module) -> list[nn.Module]:
    """The modules of the backbone that stand behind its last encoder layer.

    wav2vec 2.0 and its like register the norm before the layers; with stable layer norm it is applied after them.
    """
    stable = getattr(model.base_model.config, "do_stable_layer_norm", False)
    return _behind(model.base_model, last) + ([model.base_model.encoder.layer_norm] if stable else [])


def truncate(model: PreTrainedModel, n_layers: int) -> None:
    """Keep the first encoder layers of a model alone, and say so in its config, from which it is loaded again.

    n_layers: how many. What stands behind the layers stays as it is. Raises UserError for none or more than there are,
    and for an encoder in stages, whose widths follow from their number.
    """
    stack, config = _encoder_stack(model), model.base_model.config
    if isinstance(getattr(type(config), "num_hidden_layers", None), property):  # it follows from the architecture
        raise UserError(f"{type(model).__name__} is one network, of whose layers none can be left out")
    if hasattr(stack[0], "blocks"):
        raise UserError(f"{type(model).__name__} has its layers in stages, of which none can be left out")
    if not 1 <= n_layers <= len(stack):
        raise UserError(f"{n_layers} encoder layers are to be kept of {len(stack)}; choose from 1 to {len(stack)}")
    del stack[n_layers:]
    for name in ("num_hidden_layers", "encoder_layers"):  # of Whisper both
        if hasattr(config, name):
            setattr(config, name, n_layers)
    if hasattr(model, "layer_weights"):  # of a head that weighs them: one for the input, one a layer
        model.layer_weights = nn.Parameter(model.layer_weights.data[: n_layers + 1].clone())


def _behind(module: nn.Module, last: nn.Module) -> list[nn.Module]:
    """The modules registered after the one that holds the last layer, at every level down to the stack of layers.

    Not a batch norm: CLAP registers the one over its mel bins there, which stands before everything else.
    """
    behind, found = [], False
    for child in module.children():
        if found:
            behind += [] if isinstance(child, nn.BatchNorm2d) else [child]
        elif any(inner is last for inner in child.modules()):
            found = True
            behind += [] if _is_stack(child) else _behind(child, last)
    return behind
