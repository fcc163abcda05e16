"""The operators of ONNX that take sums, means and extremes of several tensors or along axes.

Source: the operator schemas of ONNX.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from engram.verify.affine_value import Value, broadcast
from engram.verify.onnx_call import Call, Operand, axes_of, shape_of


def sum_of(call: Call) -> Operand:
    """Sum of any number of tensors."""
    return functools.reduce(functools.partial(_plus, call), _aligned(call))


def mean_of(call: Call) -> Operand:
    """Mean of any number of tensors."""
    return call.linear(sum_of(call), lambda columns: columns / len(call.operands))


def maximum(call: Call) -> Operand:
    """Max of any number of tensors, one element at a time."""
    return _largest(call, _aligned(call))


def minimum(call: Call) -> Operand:
    """Min of any number of tensors, as -max(-x)."""
    negative = [_negative(call, operand) for operand in _aligned(call)]
    return _negative(call, _largest(call, negative))


def absolute(call: Call) -> Operand:
    """Abs, as relu(x) + relu(-x)."""
    operand = call.given(0)
    return call.layers.leaky(operand, -1.0) if isinstance(operand, Value) else operand.abs()


def reduce_max(call: Call) -> Operand:
    """ReduceMax; axes are an input since version 18."""
    return _largest_along(call, call.given(0))


def reduce_min(call: Call) -> Operand:
    """ReduceMin; axes are an input since version 18."""
    return _negative(call, _largest_along(call, _negative(call, call.given(0))))


def global_max_pool(call: Call) -> Operand:
    """GlobalMaxPool."""
    operand = call.given(0)
    if len(operand.shape) < 3:
        raise ValueError(f"an input of shape {shape_of(operand)}: expected (batch, channels, *axes)")
    return _reduced(call, operand, [*range(2, len(operand.shape))], keep=True)


def _aligned(call: Call) -> list[Operand]:
    """All operands; before version 8, they have equal shapes."""
    operands = [call.given(i) for i in range(len(call.operands))]
    if not operands:
        raise ValueError("input 0 is missing")
    shapes = {shape_of(operand) for operand in operands}
    if call.version < 8 and len(shapes) > 1:
        raise ValueError(f"shapes {sorted(shapes)}: expected equal shapes before version 8")
    functools.reduce(broadcast, shapes)
    return operands


def _plus(call: Call, a: Any, b: Any) -> Operand:
    if isinstance(a, Value) and isinstance(b, Value):
        return call.layers.plus(a, b)
    if isinstance(a, Value):
        return a.plus(b)
    return b.plus(a) if isinstance(b, Value) else a + b


def _negative(call: Call, operand: Operand) -> Operand:
    return call.linear(operand, torch.neg)


def _largest(call: Call, operands: list[Operand]) -> Operand:
    """max(v, c) = c + relu(v - c), which carries no unit along, for the constants together."""
    constants = [operand for operand in operands if isinstance(operand, Tensor)]
    values = [operand for operand in operands if isinstance(operand, Value)]
    largest = functools.reduce(torch.maximum, constants) if constants else None
    if not values:
        return operands[0] if largest is None else largest
    if largest is not None:
        values = [call.layers.maximum(values), call.layers.constant(largest.double())]
    return call.layers.maximum(values)


def _largest_along(call: Call, operand: Operand) -> Operand:
    axes = call.integers(1, "axes", 18)
    if not axes and call.attributes.get("noop_with_empty_axes", 0):
        return operand
    places = [place - 1 for place in axes_of(axes or [*range(len(operand.shape))], len(operand.shape))]
    return _reduced(call, operand, places, keep=bool(call.attributes.get("keepdims", 1)))


def _reduced(call: Call, operand: Operand, axes: list[int], *, keep: bool) -> Operand:
    """The largest number along axes."""
    if not axes:
        return operand
    if isinstance(operand, Tensor):
        return operand.amax(axes, keepdim=keep)
    shape = operand.shape
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    places = torch.arange(math.prod(shape)).reshape(shape).permute(*kept, *axes)
    windows = places.reshape(*(shape[axis] for axis in kept), -1)
    largest = call.layers.max_pool(operand, windows)
    sizes = [1 if axis in axes else size for axis, size in enumerate(shape)] if keep else windows.shape[:-1]
    return largest.linear(lambda columns: columns.reshape(len(columns), *sizes))
