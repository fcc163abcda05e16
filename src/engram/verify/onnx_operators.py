"""The operators of ONNX that are affine or piecewise linear, on tensors that depend on the input and on constants.

Source: the operator schemas of ONNX, whose versions move arguments from attributes to inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from engram.verify.affine_value import Value, broadcast, check_size
from engram.verify.onnx_call import Call, Operand, axes_of, shape_of
from engram.verify.onnx_extremes import (
    absolute,
    global_max_pool,
    maximum,
    mean_of,
    minimum,
    reduce_max,
    reduce_min,
    sum_of,
)
from engram.verify.onnx_windows import (
    average_pool,
    batch_normalisation,
    convolve,
    convolve_transposed,
    global_average_pool,
    max_pool,
)

FLOATS = (1, 11)  # the numbers of float32 and float64 in ONNX
INTEGERS = (2, 3, 4, 5, 6, 7, 12, 13)


class Softmax(NamedTuple):
    """The value of which the output of a network is the softmax over all of its elements."""

    value: Value


def same(call: Call) -> Operand:
    """Identity."""
    return call.given(0)


def dropout(call: Call) -> Operand:
    """Dropout, which does nothing unless it trains."""
    training = call.constant(2)
    if (call.version < 7 and not call.attributes.get("is_test", 0)) or (training is not None and bool(training)):
        raise ValueError("it is in training mode")
    return call.given(0)


def cast(call: Call) -> Operand:
    """Cast; a value is a real number, which only types of floating point keep."""
    operand, to = call.given(0), call.attributes.get("to")
    if isinstance(operand, Value):
        if to not in FLOATS:
            raise ValueError(f"it casts to type {to}: expected float32 or float64")
        return operand
    if to not in (*FLOATS, *INTEGERS):
        raise ValueError(f"it casts to type {to}: expected a type of numbers")
    return operand.double() if to in FLOATS else operand.long()


def add(call: Call) -> Operand:
    """Add."""
    a, b = _broadcast(call)
    if isinstance(a, Value) and isinstance(b, Value):
        return call.layers.plus(a, b)
    if isinstance(a, Value):
        return a.plus(b)
    return b.plus(a) if isinstance(b, Value) else a + b


def subtract(call: Call) -> Operand:
    """Sub."""
    a, b = _broadcast(call)
    if isinstance(a, Value) and isinstance(b, Value):
        return call.layers.plus(a, b.times(-1.0))
    if isinstance(a, Value):
        return a.plus(-b)
    return b.times(-1.0).plus(a) if isinstance(b, Value) else a - b


def multiply(call: Call) -> Operand:
    """Mul, by a constant."""
    a, b = _broadcast(call)
    if isinstance(a, Value) and isinstance(b, Value):
        raise ValueError("both factors depend on the network's input, so that it is not piecewise linear")
    if isinstance(a, Value):
        return a.times(b)
    return b.times(a) if isinstance(b, Value) else a * b


def divide(call: Call) -> Operand:
    """Div, by a constant."""
    a, b = _broadcast(call)
    if isinstance(b, Value):
        raise ValueError("the divisor depends on the network's input, so that it is not piecewise linear")
    if (b == 0).any():
        raise ValueError("it divides by zero")
    if isinstance(a, Value):
        check_size(len(a.columns), broadcast(a.shape, b.shape))
        return a.linear(lambda columns: columns.reshape(len(columns), *(1,) * (b.ndim - len(a.shape)), *a.shape) / b)
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _broadcast(call: Call) -> tuple[Any, Any]:
    """Both operands; before version 7, the second is aligned at an axis."""
    a, b = call.given(0), call.given(1)
    if call.version < 7:
        if not call.attributes.get("broadcast", 0):
            if shape_of(a) != shape_of(b):
                raise ValueError(f"shapes {shape_of(a)} and {shape_of(b)} without broadcast: expected equal shapes")
        elif "axis" in call.attributes:
            axis = axes_of([call.attributes["axis"]], len(a.shape))[0] - 1
            missing = len(a.shape) - axis - len(b.shape)
            if missing < 0:
                raise ValueError(f"an operand of shape {shape_of(b)} at axis {axis} of {shape_of(a)}")
            b = call.linear(b, lambda columns: columns.reshape(*columns.shape, *(1,) * missing))
    return a, b


def negate(call: Call) -> Operand:
    """Neg."""
    return call.linear(call.given(0), torch.neg)


def relu(call: Call) -> Operand:
    """Relu."""
    operand = call.given(0)
    return call.layers.relu(operand) if isinstance(operand, Value) else operand.relu()


def leaky_relu(call: Call) -> Operand:
    """LeakyRelu."""
    return call.layers.leaky(call.value(0), float(call.attributes.get("alpha", 0.01)))


def prelu(call: Call) -> Operand:
    """PRelu, whose slopes are constants; before version 7, one for each channel."""
    value, slope = call.value(0), call.constant(1)
    if slope is None:
        raise ValueError("input 1 is missing")
    if call.version < 7 and slope.numel() > 1:
        slope = slope.reshape(-1, *(1,) * (len(value.shape) - 2))
    if broadcast(slope.shape, value.shape) != value.shape:
        raise ValueError(f"slopes of shape {shape_of(slope)}: expected a shape that broadcasts to {value.shape}")
    return call.layers.leaky(value, slope.double())


def clip(call: Call) -> Operand:
    """Clip; ends are inputs since version 11."""
    ends = []
    for index, (name, end) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        given = call.attributes.get(name) if call.version < 11 else call.constant(index)
        ends.append(end if given is None else float(given))
    if not ends[0] <= ends[1]:
        raise ValueError(f"it clips to {ends}: expected a lower end that is not above the upper one")
    # In 32 bits the largest number stands for no end.
    low, high = (end if abs(end) < 3.4e38 else math.copysign(math.inf, end) for end in ends)
    return call.layers.clip(call.value(0), low, high)


def matmul(call: Call) -> Operand:
    """MatMul with a constant on either side; vectors lose their axis as in NumPy."""
    a, b = call.given(0), call.given(1)
    if isinstance(a, Value) and isinstance(b, Value):
        raise ValueError("both factors depend on the network's input, so that it is not piecewise linear")
    if not isinstance(a, Value) and not isinstance(b, Value):
        return a @ b
    value, matrix = (a, b) if isinstance(a, Value) else (b, a)
    if isinstance(matrix, Value) or not isinstance(value, Value):
        raise TypeError("unreachable: one of both is a value")
    if not value.shape or not matrix.ndim:
        raise ValueError("a factor has no axis")
    rows, left = value.columns, isinstance(a, Value)
    vector = len(value.shape) == 1
    if vector:
        rows = rows[:, None, :] if left else rows[:, :, None]
    batch = broadcast(rows.shape[1:-2], matrix.shape[:-2])
    rows = rows.reshape(len(rows), *(1,) * (len(batch) - rows.ndim + 3), *rows.shape[1:])
    matrix = matrix.double()
    wide = matrix[:, None] if left and matrix.ndim == 1 else matrix[None] if matrix.ndim == 1 else matrix
    if (rows.shape[-1] != wide.shape[-2]) if left else (wide.shape[-1] != rows.shape[-2]):
        raise ValueError(f"shapes {shape_of(a)} and {shape_of(b)}: expected inner sizes that are equal")
    check_size(
        len(rows), (*batch, rows.shape[-2], wide.shape[-1]) if left else (*batch, wide.shape[-2], rows.shape[-1])
    )
    columns = rows @ wide if left else wide @ rows
    if matrix.ndim == 1:
        columns = columns.squeeze(-1 if left else -2)
    if vector:
        columns = columns.squeeze((-2 if matrix.ndim > 1 else -1) if left else -1)
    return value._replace(columns=columns)


def gemm(call: Call) -> Operand:
    """Gemm: alpha A' B' + beta C, where a factor and C may be constants."""
    factors = [call.given(0), call.given(1)]
    for i, name in enumerate(("transA", "transB")):
        if len(factors[i].shape) != 2:
            raise ValueError(f"input {i} has the shape {shape_of(factors[i])}: expected two axes")
        if call.attributes.get(name, 0):
            factors[i] = call.linear(factors[i], lambda columns: columns.transpose(1, 2))
    product = matmul(call._replace(operands=list(factors)))
    alpha, beta = float(call.attributes.get("alpha", 1.0)), float(call.attributes.get("beta", 1.0))
    product = product if alpha == 1 else call.linear(product, lambda columns: columns * alpha)
    offset = call.operand(2)
    if offset is None or not beta:
        return product
    offset = offset if beta == 1 else call.linear(offset, lambda columns: columns * beta)
    if broadcast(offset.shape, product.shape) != tuple(product.shape):
        raise ValueError(f"input 2 has the shape {shape_of(offset)}: expected one that broadcasts to {product.shape}")
    return add(call._replace(version=max(call.version, 7), operands=[product, offset]))


def flatten(call: Call) -> Operand:
    """Flatten to two axes."""
    operand, axis = call.given(0), int(call.attributes.get("axis", 1))
    shape = shape_of(operand)
    if not -len(shape) <= axis <= len(shape):
        raise ValueError(f"axis = {axis}: expected an axis of {shape}")
    axis = axis if axis >= 0 else axis + len(shape)
    rows = math.prod(shape[:axis])
    return call.linear(operand, lambda columns: columns.reshape(len(columns), rows, -1))


def reshape(call: Call) -> Operand:
    """Reshape; 0 keeps a size, -1 is inferred."""
    operand, sizes = call.given(0), call.integers(1, "shape", 5)
    if sizes is None:
        raise ValueError("the shape is missing")
    shape = shape_of(operand)
    if not call.attributes.get("allowzero", 0):
        if any(not size and i >= len(shape) for i, size in enumerate(sizes)):
            raise ValueError(f"shape = {sizes}: a 0 has no size of {shape} to keep")
        sizes = [size or shape[i] for i, size in enumerate(sizes)]
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1 or any(size < -1 for size in sizes) or (-1 in sizes and not known):
        raise ValueError(f"shape = {sizes}: expected sizes, and at most one -1")
    total = math.prod(shape)
    if total % known if -1 in sizes else total != known:
        raise ValueError(f"shape = {sizes}: expected as many elements as {shape} has")
    return call.linear(operand, lambda columns: columns.reshape(len(columns), *sizes))


def squeeze(call: Call) -> Operand:
    """Squeeze; axes are an input since version 13."""
    operand, axes = call.given(0), call.integers(1, "axes", 13)
    shape = shape_of(operand)
    axes = [i for i, size in enumerate(shape) if size == 1] if axes is None else axes
    places = axes_of(axes, len(shape))
    if any(shape[place - 1] != 1 for place in places):
        raise ValueError(f"axes = {axes}: expected axes of length 1 of {shape}")
    return call.linear(operand, lambda columns: columns.squeeze(tuple(places)) if places else columns)


def unsqueeze(call: Call) -> Operand:
    """Unsqueeze; axes are an input since version 13."""
    operand, axes = call.given(0), call.integers(1, "axes", 13)
    if axes is None:
        raise ValueError("the axes are missing")
    places, shape = axes_of(axes, len(operand.shape) + len(axes)), list(shape_of(operand))
    for place in sorted(places):
        shape.insert(place - 1, 1)
    return call.linear(operand, lambda columns: columns.reshape(len(columns), *shape))


def transpose(call: Call) -> Operand:
    """Transpose."""
    operand = call.given(0)
    order = call.attributes.get("perm", [*range(len(operand.shape))][::-1])
    places = axes_of(order, len(operand.shape))
    if len(places) != len(operand.shape):
        raise ValueError(f"perm = {order}: expected all axes of {shape_of(operand)}")
    return call.linear(operand, lambda columns: columns.permute(0, *places))


def cut(call: Call) -> Operand:
    """Slice; starts and ends are inputs since version 10."""
    operand = call.given(0)
    starts, ends = call.integers(1, "starts", 10), call.integers(2, "ends", 10)
    if starts is None or ends is None or len(starts) != len(ends):
        raise ValueError(f"starts = {starts}, ends = {ends}: expected as many of both")
    axes = call.integers(3, "axes", 10) or [*range(len(starts))]
    steps = (call.integers(4, "", 10) if call.version >= 10 else None) or [1] * len(starts)
    if not len(starts) == len(axes) == len(steps) or 0 in steps:
        raise ValueError(f"axes = {axes}, steps = {steps}: expected as many as starts, and no step of 0")
    places = axes_of(axes, len(operand.shape))
    for place, start, end, step in zip(places, starts, ends, steps, strict=True):
        kept = torch.tensor([*range(*slice(start, end, step).indices(operand.shape[place - 1]))], dtype=torch.long)
        if not len(kept):
            raise ValueError(f"it leaves nothing of axis {place - 1}")
        operand = call.linear(operand, partial(torch.index_select, dim=place, index=kept))
    return operand


def gather(call: Call) -> Operand:
    """Gather with constant indices."""
    operand, indices = call.given(0), call.constant(1)
    if indices is None or indices.is_floating_point():
        raise ValueError("the indices are no integers")
    (place,) = axes_of([int(call.attributes.get("axis", 0))], len(operand.shape))
    size = operand.shape[place - 1]
    if not ((indices >= -size) & (indices < size)).all():
        raise ValueError(f"indices up to {int(indices.abs().max())}: expected indices of an axis of {size}")
    flat = indices.flatten() % size

    def gathered(columns: Tensor) -> Tensor:
        shape = columns.shape
        return columns.index_select(place, flat).reshape(*shape[:place], *indices.shape, *shape[place + 1 :])

    return call.linear(operand, gathered)


def concatenate(call: Call) -> Operand:
    """Concat."""
    operands = [call.given(i) for i in range(len(call.operands))]
    if not operands or "axis" not in call.attributes:
        raise ValueError("expected inputs, and an axis")
    (place,) = axes_of([int(call.attributes["axis"])], len(operands[0].shape))
    constants = [operand for operand in operands if isinstance(operand, Tensor)]
    if len(constants) == len(operands):
        return torch.cat(constants, place - 1)
    values = call.layers.together([call.value(i) for i in range(len(operands))])
    return values[0]._replace(columns=torch.cat([value.columns for value in values], place))


def split(call: Call) -> list[Operand]:
    """Split; sizes are an input since version 13, the number of parts may be an attribute since version 18."""
    operand, sizes = call.given(0), call.integers(1, "split", 13)
    (place,) = axes_of([int(call.attributes.get("axis", 0))], len(operand.shape))
    whole = operand.shape[place - 1]
    if sizes is None:
        count = int(call.attributes.get("num_outputs", call.attributes[":outputs"]))
        if count < 1:
            raise ValueError(f"num_outputs = {count}: expected at least 1")
        largest = -(-whole // count)
        sizes = [largest] * (count - 1) + [whole - largest * (count - 1)]
    if sum(sizes) != whole or min(sizes) < 1:
        raise ValueError(f"it splits an axis of {whole} into {sizes}")
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        call.linear(operand, partial(torch.narrow, dim=place, start=start, length=size))
        for start, size in zip(starts, sizes, strict=True)
    ]


def pad(call: Call) -> Operand:
    """Pad with a constant; pads are an input since version 11."""
    operand, pads = call.given(0), call.integers(1, "pads", 11)
    mode = call.attributes.get("mode", "constant")
    if pads is None or mode != "constant":
        raise ValueError(f"pads = {pads}, mode = {mode!r}: expected pads, and the mode 'constant'")
    filled = call.attributes.get("value", 0.0) if call.version < 11 else call.constant(2)
    axes = call.integers(3, "axes", 18) if call.version >= 18 else None
    axes = [*range(len(operand.shape))] if axes is None else axes
    places = axes_of(axes, len(operand.shape))
    if len(pads) != 2 * len(places) or min(pads, default=0) < 0:
        raise ValueError(f"pads = {pads}: expected two for each of {len(places)} axes, none below 0")
    ends = [0] * (2 * len(operand.shape))
    for i, place in enumerate(places):
        ends[2 * (place - 1) : 2 * place] = pads[i], pads[i + len(places)]
    sides = [side for axis in reversed(range(len(operand.shape))) for side in ends[2 * axis : 2 * axis + 2]]
    value = call.value(0)
    shape = [size + ends[2 * i] + ends[2 * i + 1] for i, size in enumerate(value.shape)]
    check_size(len(value.columns), shape)
    padded = value.linear(lambda columns: functional.pad(columns, sides))
    border = functional.pad(torch.zeros(value.shape, dtype=torch.float64), sides, value=float(filled or 0.0))
    return padded.plus(border)


def reduce_sum(call: Call) -> Operand:
    """ReduceSum; axes are an input since version 13."""
    return _reduced(call, torch.sum, 13)


def reduce_mean(call: Call) -> Operand:
    """ReduceMean; axes are an input since version 18."""
    return _reduced(call, torch.mean, 18)


def _reduced(call: Call, reduce: Callable[..., Tensor], since: int) -> Operand:
    operand, axes = call.given(0), call.integers(1, "axes", since)
    if not axes and call.attributes.get("noop_with_empty_axes", 0):
        return operand
    places = axes_of(axes or [*range(len(operand.shape))], len(operand.shape))
    keep = bool(call.attributes.get("keepdims", 1))
    return call.linear(operand, lambda columns: reduce(columns, dim=places, keepdim=keep) if places else columns)


def shape(call: Call) -> Operand:
    """Shape."""
    sizes = shape_of(call.given(0))
    start, end = int(call.attributes.get("start", 0)), call.attributes.get("end")
    return torch.tensor(sizes[start : None if end is None else int(end)], dtype=torch.long)


def softmax(call: Call) -> Softmax:
    """Softmax or LogSoftmax over all elements; before version 13, over all axes from one on."""
    value, axis = call.value(0), int(call.attributes.get("axis", 1 if call.version < 13 else -1))
    (place,) = axes_of([axis], len(value.shape))
    together = value.shape[place - 1 :] if call.version < 13 else value.shape[place - 1 : place]
    if math.prod(together) != math.prod(value.shape):
        raise ValueError(f"axis = {axis} of a tensor of shape {value.shape}: expected a softmax over all elements")
    return Softmax(value)


OPERATORS: dict[str, Callable[[Call], Operand | list[Operand] | Softmax]] = {
    "Abs": absolute, "Add": add, "AveragePool": average_pool, "BatchNormalization": batch_normalisation, "Cast": cast,
    "Clip": clip, "Concat": concatenate, "Conv": convolve, "ConvTranspose": convolve_transposed, "Div": divide,
    "Dropout": dropout, "Flatten": flatten, "Gather": gather, "Gemm": gemm, "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool, "Identity": same, "LeakyRelu": leaky_relu, "LogSoftmax": softmax,
    "MatMul": matmul, "Max": maximum, "MaxPool": max_pool, "Mean": mean_of, "Min": minimum, "Mul": multiply,
    "Neg": negate, "PRelu": prelu, "Pad": pad, "ReduceMax": reduce_max, "ReduceMean": reduce_mean,
    "ReduceMin": reduce_min, "ReduceSum": reduce_sum, "Relu": relu, "Reshape": reshape, "Shape": shape, "Slice": cut,
    "Softmax": softmax, "Split": split, "Squeeze": squeeze, "Sub": subtract, "Sum": sum_of, "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}  # fmt: skip
NOT_PIECEWISE_LINEAR = {
    "Cos", "Elu", "Erf", "Exp", "Gelu", "HardSwish", "LayerNormalization", "Log", "Mish", "Pow", "Selu", "Sigmoid",
    "Sin", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh",
}  # fmt: skip
