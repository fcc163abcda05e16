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

from engram.verify.affine_value import Value, check_size, pooling_windows
from engram.verify.onnx_call import Call, Operand, shape_of

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
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
    return functional.pad(columns, _sides(pads))


def _sides(pads: list[int]) -> list[int]:
    """Pads in the order of torch: from the last axis on, the beginning and the end of each."""
    axes = len(pads) // 2
    return [side for i in reversed(range(axes)) for side in (pads[i], pads[i + axes])]


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


def convolve_transposed(call: Call) -> Operand:
    """ConvTranspose with a constant kernel: the whole sum, from which the padding is cut off."""
    value, kernel, offset = call.value(0), call.constant(1), call.constant(2)
    if kernel is None or kernel.ndim != len(value.shape) or not 3 <= kernel.ndim <= 5:
        raise ValueError(f"an input of shape {value.shape}: expected a constant kernel of as many axes, 3 to 5")
    groups, axes = int(call.attributes.get("group", 1)), kernel.ndim - 2
    if groups < 1 or kernel.shape[0] != value.shape[1] or kernel.shape[0] % groups:
        raise ValueError(f"a kernel of shape {shape_of(kernel)} and {groups} groups, for {value.shape[1]} channels")
    if list(call.attributes.get("kernel_shape", kernel.shape[2:])) != list(kernel.shape[2:]):
        raise ValueError(f"kernel_shape = {call.attributes['kernel_shape']}: expected the kernel's {shape_of(kernel)}")
    strides, dilations = (list(call.attributes.get(name, [1] * axes)) for name in ("strides", "dilations"))
    added = list(call.attributes.get("output_padding", [0] * axes))
    if not len(strides) == len(dilations) == len(added) == axes or min(*strides, *dilations) < 1 or min(added) < 0:
        raise ValueError(f"strides {strides}, dilations {dilations}, output_padding {added}: expected {axes} of each")
    whole = [
        (size - 1) * stride + (width - 1) * dilation + 1 + extra
        for size, stride, width, dilation, extra in zip(
            value.shape[2:], strides, kernel.shape[2:], dilations, added, strict=True
        )
    ]
    begins, ends = _cut_off(call, whole, [s * size for s, size in zip(strides, value.shape[2:], strict=True)])
    channels = kernel.shape[1] * groups
    check_size(len(value.columns) * value.shape[0] * channels, whole)
    function: Any = TRANSPOSED[axes]
    sides = [
        side
        for begin, end, extra in zip(reversed(begins), reversed(ends), reversed(added), strict=True)
        for side in (-begin, extra - end)
    ]

    def convolved(columns: Tensor) -> Tensor:
        full = function(columns, kernel.double(), None, strides, 0, 0, groups, dilations)
        return functional.pad(full, sides)

    result = _over_batches(value, convolved)
    if offset is None:
        return result
    if shape_of(offset) != (channels,):
        raise ValueError(f"a bias of shape {shape_of(offset)}, for {channels} channels")
    return result.plus(offset.double().reshape(-1, *(1,) * axes))


def _cut_off(call: Call, whole: list[int], same: list[int]) -> tuple[list[int], list[int]]:
    """How much of each axis of a transposed convolution is cut off at its beginning and at its end.

    Args:
        call: The node.
        whole: The size of each axis before.
        same: Its size for the padding that makes it the input's times the stride.
    """
    axes, automatic = len(whole), call.attributes.get("auto_pad", "NOTSET")
    if automatic not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad = {automatic!r}")
    sizes = call.attributes.get("output_shape", same if automatic.startswith("SAME") else None)
    if sizes is not None:
        if len(sizes) != axes or min(sizes) < 1:
            raise ValueError(f"output_shape = {list(sizes)}: expected sizes of {axes} axes")
        totals = [width - size for width, size in zip(whole, sizes, strict=True)]
        if min(totals) < 0:
            raise ValueError(f"an output of sizes {list(sizes)}: expected at most {whole}")
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        return (small, large) if automatic == "SAME_UPPER" else (large, small)
    pads = list(call.attributes.get("pads", [0] * 2 * axes)) if automatic == "NOTSET" else [0] * 2 * axes
    if len(pads) != 2 * axes or min(pads) < 0:
        raise ValueError(f"pads = {pads}: expected two for each of {axes} axes, none below 0")
    if any(width <= pads[i] + pads[i + axes] for i, width in enumerate(whole)):
        raise ValueError(f"pads = {pads} leave nothing of {whole}")
    return pads[:axes], pads[axes:]


def _pool_window(call: Call, value: Value) -> tuple[_Window, list[int]]:
    """The window of a pooling, and how far the last one reaches beyond the padding of each axis in ``ceil_mode``."""
    if call.attributes[":outputs"] > 1:
        raise ValueError("it has a second output, of places: expected one output")
    if len(value.shape) < 3:
        raise ValueError(f"an input of shape {value.shape}: expected (batch, channels, *axes)")
    window = _window(call, value.shape, call.attributes.get("kernel_shape", []))
    axes = len(window.kernel)
    if not call.attributes.get("ceil_mode", 0) or call.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return window, [0] * axes
    beyond = []
    for i, size in enumerate(value.shape[2:]):
        begin, end, stride = window.pads[i], window.pads[i + axes], window.strides[i]
        room = size + begin + end - (window.kernel[i] - 1) * window.dilations[i] - 1
        steps = -(-room // stride)
        steps -= steps * stride >= size + begin  # a window that would begin in the padding at the end is left out
        beyond.append(max(steps * stride - room, 0))
    return window, beyond


def _beyond(window: _Window, beyond: list[int]) -> list[int]:
    """The pads of a pooling, with what the last window reaches beyond them."""
    axes = len(beyond)
    return [*window.pads[:axes], *(pad + more for pad, more in zip(window.pads[axes:], beyond, strict=True))]


def average_pool(call: Call) -> Operand:
    """AveragePool; padding counts only if count_include_pad says so."""
    value = call.value(0)
    window, beyond = _pool_window(call, value)
    if set(window.dilations) != {1}:
        raise ValueError(f"dilations = {window.dilations}: expected 1")
    average = AVERAGES[len(window.kernel)]

    pads = _beyond(window, beyond)

    def averaged(columns: Tensor) -> Tensor:
        return average(_padded(columns, pads), window.kernel, window.strides)

    result = _over_batches(value, averaged)
    counted = torch.ones(1, 1, *value.shape[2:], dtype=torch.float64)
    if call.attributes.get("count_include_pad", 0):
        if not any(beyond):
            return result
        counted = functional.pad(counted, _sides(window.pads), value=1.0)
        share = average(_padded(counted, [0] * len(beyond) + beyond), window.kernel, window.strides)
        return result.times(1 / share)
    if not any(pads):
        return result
    share = averaged(counted)
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
    window, beyond = _pool_window(call, value)
    if len(window.kernel) > 2:
        raise ValueError("it pools three axes: expected one or two")
    channels = (math.prod(value.shape[:2]), *value.shape[2:])
    places = pooling_windows(channels, window.kernel, window.strides, _beyond(window, beyond), window.dilations)
    return call.layers.max_pool(value, places.reshape(*value.shape[:2], *places.shape[1:]))
