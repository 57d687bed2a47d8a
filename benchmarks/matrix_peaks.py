"""How much arithmetic a step is, and how much a card could do at best."""

import math
import re

import torch
from torch.utils.flop_counter import FlopCounterMode

# Peak of dense matrix products in 1e12 operations a second, without sparsity: float32 outside the tensor cores, TF32,
# bfloat16 with float32 sums. By the card's whole name as torch.cuda.get_device_name() tells it: an A10G is no A10, an
# H200 NVL no H200. Source: NVIDIA's data sheets of these cards, whose figures "with sparsity" are halved here; of the
# RTX cards the GA102 and Ada whitepapers, appendix A. Cards without bfloat16 in hardware are left out.
PEAKS = {
    r"NVIDIA (H200|H100 80GB HBM3|H100 SXM5.*)": {"float32": 67, "tf32": 494.7, "bf16": 989.4},
    r"NVIDIA H100 PCIe": {"float32": 51, "tf32": 378, "bf16": 756},
    r"(NVIDIA )?A100-(SXM4|PCIE)-\d+GB|NVIDIA A100 80GB PCIe": {"float32": 19.5, "tf32": 156, "bf16": 312},
    r"NVIDIA A40": {"float32": 37.4, "tf32": 74.8, "bf16": 149.7},
    r"NVIDIA A10": {"float32": 31.2, "tf32": 62.5, "bf16": 125},
    r"NVIDIA L40S": {"float32": 91.6, "tf32": 183, "bf16": 362},
    r"NVIDIA L4": {"float32": 30.3, "tf32": 60, "bf16": 121},
    r"NVIDIA GeForce RTX 4090": {"float32": 82.6, "tf32": 82.6, "bf16": 165.2},
    r"NVIDIA GeForce RTX 3090": {"float32": 35.6, "tf32": 35.6, "bf16": 71},
}


def peak_flops(card: str, precision: str) -> float | None:
    """Operations a second that a card's data sheet promises; None for a card that is not in the table.

    >>> peak_flops("NVIDIA L4", "bf16"), peak_flops("NVIDIA L40", "bf16")
    (121000000000000.0, None)
    """
    found = [peaks for name, peaks in PEAKS.items() if re.fullmatch(name, card)]
    return found[0][precision] * 1e12 if found else None


def _convolution_backward_flops(
    out_grad, inputs, weight, bias, stride, padding, dilation, transposed, output_padding, groups, wanted, **_
) -> int:
    """As much as forward for the gradient of the inputs and again for that of the weights, whichever are `wanted`.

    PyTorch's own count (as of 2.11) takes the weights' for a convolution of one group: 960 times too many for depthwise
    ones of 960 channels. All are shapes but for the last ones.
    """
    places = math.prod(inputs[2:] if transposed else out_grad[2:])
    return 2 * out_grad[0] * places * math.prod(weight) * (bool(wanted[0]) + bool(wanted[1]))


def step_flops(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> int:
    """Operations of the matrix products and convolutions of a forward and a backward pass over these inputs.

    A multiplication and its addition are two. model: with `eager` attention, whose products are all seen.
    """
    backward = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    with FlopCounterMode(display=False, custom_mapping=backward) as counter:
        model(**inputs).loss.backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops()
