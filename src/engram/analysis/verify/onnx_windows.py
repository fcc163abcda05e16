"""The operators of ONNX that treat channels or windows: batch normalisation, convolution and pooling.

Source: the operator schemas of ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from engram.analysis.verify.affine_value import Value, check_size, pooling_windows
from engram.analysis.verify.onnx_call import Call, Operand, shape_of

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
AVERAGES: dict[int, Callable[..., Tensor]] = {
    1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d
}  # fmt: skip


def batch_normalisation(call: Call) -> Operand:
    """BatchNormalization with its stored statistics."""
    trains = call.attributes.get("training_mode", 0) or (call.version < 7 and not call.attributes.get("is_test", 0))
    if trains or call.attributes[":outputs"] > 1 or not call.attributes.get("spatial", 1):
        raise ValueError("it is in training mode, or not spatial: expected stored statistics of each channel")
    value, statistics = call.value(0), [call.constant(i) for i in range(1, 5)]
    if any(array is None or shape_of(array) != value.shape[1:2] for array in statistics):
        raise ValueError(f"expected scale, offset, mean and variance of the {value.shape[1:2]} channels")
    scale, offset, mean, variance = (a.double() for a in statistics if a is not None)
    factor = scale / torch.sqrt(variance + float(call.attributes.get("epsilon", 1e-5)))
    wide = (-1,) + (1,) * (len(value.shape) - 2)
    return value.times(factor.reshape(wide)).plus((offset - mean * factor).reshape(wide))


class _Window(NamedTuple):  # of a convolution or a pooling; the pads of all beginnings, then of all ends
    kernel: list[int]
    strides: list[int]
    pads: list[int]
    dilations: list[int]


def _window(call: Call, shape: tuple[int, ...], kernel: Sequence[int]) -> _Window:
    """The window of a node over a tensor (batch, channels, *axes)."""
    axes = len(shape) - 2
    attributes: dict[str, list[int]] = {
        name: list(call.attributes.get(name, [1] * axes)) for name in ("strides", "dilations")
    }
    strides, dilations = attributes["strides"], attributes["dilations"]
    automatic = call.attributes.get("auto_pad", "NOTSET")
    pads = list(call.attributes.get("pads", [0] * 2 * axes))
    if not 1 <= axes <= 3 or len(kernel) != axes or len(strides) != axes or len(dilations) != axes:
        raise ValueError(f"an input of shape {shape} and a kernel {list(kernel)}: expected 1 to 3 axes of both")
    if len(pads) != 2 * axes or min(pads) < 0 or min(*kernel, *strides, *dilations) < 1:
        raise ValueError(f"kernel {list(kernel)}, strides {strides}, dilations {dilations}, pads {pads}")
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-size // stride) - 1) * stride + width - size, 0)
            for size, stride, width in zip(shape[2:], strides, reach, strict=True)
        ]
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        pads = small + large if automatic == "SAME_UPPER" else large + small
    elif automatic == "VALID":
        pads = [0] * 2 * axes
    elif automatic != "NOTSET":
        raise ValueError(f"auto_pad = {automatic!r}")
    padded = [size + pads[i] + pads[i + axes] for i, size in enumerate(shape[2:])]
    if any(size < width for size, width in zip(padded, reach, strict=True)):
        raise ValueError(f"a kernel that reaches over {reach}, of {padded} places")
    check_size(math.prod(shape[:2]), padded)
    return _Window(list(kernel), strides, pads, dilations)


def _padded(columns: Tensor, pads: list[int]) -> Tensor:
    axes = len(pads) // 2
    return functional.pad(columns, [side for i in reversed(range(axes)) for side in (pads[i], pads[i + axes])])


def _over_batches(value: Value, apply: Callable[[Tensor], Tensor]) -> Value:
    """A linear function of tensors (batch, channels, *axes), applied to the batches of all columns."""

    def merged(columns: Tensor) -> Tensor:
        result = apply(columns.flatten(0, 1))
        return result.reshape(*columns.shape[:2], *result.shape[1:])

    return value.linear(merged)


def convolve(call: Call) -> Operand:
    """Conv with a constant kernel."""
    value, kernel, offset = call.value(0), call.constant(1), call.constant(2)
    if kernel is None or kernel.ndim != len(value.shape) or kernel.ndim < 3:
        raise ValueError(f"an input of shape {value.shape}: expected a constant kernel of as many axes, at least 3")
    groups = int(call.attributes.get("group", 1))
    if groups < 1 or kernel.shape[1] * groups != value.shape[1] or kernel.shape[0] % groups:
        raise ValueError(f"a kernel of shape {shape_of(kernel)} and {groups} groups, for {value.shape[1]} channels")
    window = _window(call, value.shape, kernel.shape[2:])
    if list(call.attributes.get("kernel_shape", kernel.shape[2:])) != list(kernel.shape[2:]):
        raise ValueError(f"kernel_shape = {call.attributes['kernel_shape']}: expected the kernel's {shape_of(kernel)}")
    check_size(len(value.columns) * kernel.shape[0], value.shape[2:])
    function: Any = CONVOLUTIONS[kernel.ndim - 2]

    def convolved(columns: Tensor) -> Tensor:
        padded, weights = _padded(columns, window.pads), kernel.double()
        result: Tensor = function(padded, weights, None, window.strides, 0, window.dilations, groups)
        return result

    result = _over_batches(value, convolved)
    if offset is None:
        return result
    if shape_of(offset) != (kernel.shape[0],):
        raise ValueError(f"a bias of shape {shape_of(offset)}, for {kernel.shape[0]} channels")
    return result.plus(offset.double().reshape(-1, *(1,) * (kernel.ndim - 2)))


def _pool_window(call: Call, value: Value) -> _Window:
    if call.attributes.get("ceil_mode", 0) or call.attributes[":outputs"] > 1:
        raise ValueError("ceil_mode or a second output: expected neither")
    if len(value.shape) < 3:
        raise ValueError(f"an input of shape {value.shape}: expected (batch, channels, *axes)")
    return _window(call, value.shape, call.attributes.get("kernel_shape", []))


def average_pool(call: Call) -> Operand:
    """AveragePool; padding counts only if count_include_pad says so."""
    value = call.value(0)
    window = _pool_window(call, value)
    if set(window.dilations) != {1}:
        raise ValueError(f"dilations = {window.dilations}: expected 1")
    average = AVERAGES[len(window.kernel)]

    def averaged(columns: Tensor) -> Tensor:
        return average(_padded(columns, window.pads), window.kernel, window.strides)

    result = _over_batches(value, averaged)
    if call.attributes.get("count_include_pad", 0) or not any(window.pads):
        return result
    share = averaged(torch.ones(1, 1, *value.shape[2:], dtype=torch.float64))
    if (share == 0).any():
        raise ValueError("a window lies in the padding alone")
    return result.times(1 / share)


def global_average_pool(call: Call) -> Operand:
    """GlobalAveragePool."""
    value = call.value(0)
    places = [*range(3, len(value.shape) + 1)]
    if not places:
        raise ValueError(f"an input of shape {value.shape}: expected (batch, channels, *axes)")
    return value.linear(lambda columns: columns.mean(places, keepdim=True))


def max_pool(call: Call) -> Operand:
    """MaxPool over one or two axes."""
    value = call.value(0)
    window = _pool_window(call, value)
    if len(window.kernel) > 2:
        raise ValueError("it pools three axes: expected one or two")
    channels = (math.prod(value.shape[:2]), *value.shape[2:])
    places = pooling_windows(channels, window.kernel, window.strides, window.pads, window.dilations)
    return call.layers.max_pool(value, places.reshape(*value.shape[:2], *places.shape[1:]))
