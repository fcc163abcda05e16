"""Tensors as affine functions of the units of a layer, from which the layers of a network are built one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engram.verify.network import AffineReLU, Array

MOST_NUMBERS = 2**28  # in one value or layer: 2 GB


class Value(NamedTuple):
    """A tensor as an affine function of the activations of a layer, where layer 0 is the input."""

    level: int
    columns: Tensor  # (units + 1, *shape), float64: the coefficients of each unit, then the constant

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return tuple(self.columns.shape[1:])

    @property
    def flat(self) -> Tensor:
        """The columns of the flattened tensor, (units + 1, elements); a single number has no axis, but one element."""
        return self.columns[..., None].flatten(1)

    def linear(self, apply: Callable[[Tensor], Tensor]) -> Value:
        """A linear function of the tensor; ``apply`` takes and returns many tensors at once, along a first axis."""
        return self._replace(columns=apply(self.columns))

    def plus(self, constant: Tensor | float) -> Value:
        """The sum with a constant, which has to broadcast to the shape of the tensor or to one that it broadcasts to.

        Args:
            constant: The constant, of the tensor's number of axes at least.
        """
        constant = torch.as_tensor(constant, dtype=torch.float64)
        shape = broadcast(self.shape, constant.shape)
        check_size(len(self.columns), shape)
        columns = _aligned(self.columns, len(shape)).expand(-1, *shape).clone()
        columns[-1] += constant
        return self._replace(columns=columns)

    def times(self, constant: Tensor | float) -> Value:
        """The product with a constant that broadcasts likewise."""
        constant = torch.as_tensor(constant, dtype=torch.float64)
        shape = broadcast(self.shape, constant.shape)
        check_size(len(self.columns), shape)
        return self.linear(lambda columns: _aligned(columns, len(shape)) * constant)


class Layers:
    """The hidden layers found so far.

    A ReLU of a value of one layer adds units to the next. A value reaches a later layer by copies of the units that it
    depends on: activations are not negative, so that relu(h) = h, and these units are always on. Inputs may be
    negative, x = relu(x) - relu(-x).
    """

    def __init__(self, inputs: int) -> None:
        self.sizes = [inputs]
        self._blocks: list[list[tuple[Array, Array]]] = [[]]  # weights and biases, by layer
        self._copies: list[dict[int, int]] = [{}]  # the place in the next layer of the copy of a unit

    def relu(self, value: Value) -> Value:
        """max(value, 0)."""
        flat = value.flat.numpy()
        level, n = value.level + 1, flat.shape[1]
        start = self._append(level, flat[:-1].T, flat[-1])
        columns = torch.zeros(start + n + 1, n, dtype=torch.float64)
        columns[start : start + n] = torch.eye(n, dtype=torch.float64)
        return Value(level, columns.reshape(-1, *value.shape))

    def leaky(self, value: Value, slope: Tensor | float) -> Value:
        """max(value, 0) + slope min(value, 0), as relu(z) - slope relu(-z)."""
        return self.plus(self.relu(value), self.relu(value.times(-1.0)).times(-slope))

    def clip(self, value: Value, low: Tensor | float, high: Tensor | float) -> Value:
        """Values between two ends, which may be infinite, as low + relu(z - low) - relu(z - high).

        Args:
            value: The values.
            low: The lower end, which is nowhere above the upper one; it broadcasts to the shape of the values.
            high: The upper end, likewise.
        """
        low, high = (torch.as_tensor(end, dtype=torch.float64) for end in (low, high))
        ends = [torch.where(end.isfinite(), end, 0.0) for end in (low, high)]
        if not low.isfinite().any():
            above = value
        else:
            above = self.relu(value.plus(-ends[0])).plus(ends[0])
            if not low.isfinite().all():  # for some of the values there is no lower end
                above = self.plus(above.times(low.isfinite().double()), value.times((~low.isfinite()).double()))
        if high.isfinite().any():
            excess = self.relu(value.plus(-ends[1])).times(-high.isfinite().double())
            above = self.plus(above, excess)
        return above

    def maximum(self, values: Sequence[Value]) -> Value:
        """The largest of values of one shape, as a tournament of max(a, b) = b + relu(a - b)."""
        players = list(values)
        while len(players) > 1:
            pairs = zip(players[::2], players[1::2], strict=False)
            winners = [self.plus(b, self.relu(self.plus(a, b.times(-1.0)))) for a, b in pairs]
            players = winners + players[2 * len(winners) :]
        return players[0]

    def max_pool(self, value: Value, windows: Tensor) -> Value:
        """The largest number of each window.

        Args:
            value: The value.
            windows: Places in the flattened tensor, (*shape, places in a window).
        """
        places = windows.reshape(-1, windows.shape[-1])
        check_size(len(value.columns), windows.shape)
        flat = value._replace(columns=value.flat)
        largest = self.maximum([flat._replace(columns=flat.columns[:, at]) for at in places.T])
        return largest.linear(lambda columns: columns.reshape(-1, *windows.shape[:-1]))

    def plus(self, a: Value, b: Value) -> Value:
        """The sum of two values, which broadcast."""
        (a, b), shape = self.together([a, b]), broadcast(a.shape, b.shape)
        check_size(len(a.columns), shape)
        return a._replace(columns=_aligned(a.columns, len(shape)) + _aligned(b.columns, len(shape)))

    def together(self, values: Sequence[Value]) -> list[Value]:
        """Values as functions of the same layer, with as many columns."""
        level = max(value.level for value in values)
        lifted = [self._lifted(value, level) for value in values]
        return [_widened(value, max(len(other.columns) for other in lifted)) for value in lifted]

    def constant(self, value: Tensor) -> Value:
        """A constant as a value."""
        columns = torch.zeros(self.sizes[0] + 1, *value.shape, dtype=torch.float64)
        columns[-1] = value
        return Value(0, columns)

    def network(self, output: Value) -> AffineReLU:
        """The network whose last layer is a value."""
        columns = _widened(output, self.sizes[output.level] + 1).flat.numpy()
        weights, biases = [], []
        for level in range(1, output.level + 1):
            wide = [np.pad(W, ((0, 0), (0, self.sizes[level - 1] - W.shape[1]))) for W, _ in self._blocks[level]]
            weights.append(np.vstack(wide))
            biases.append(np.concatenate([b for _, b in self._blocks[level]]))
        return AffineReLU((*weights, columns[:-1].T), (*biases, columns[-1]))

    def _append(self, level: int, W: Array, b: Array) -> int:
        """Add units to a layer; return the index of the first."""
        if level == len(self.sizes):
            self.sizes.append(0)
            self._blocks.append([])
            self._copies.append({})
        start = self.sizes[level]
        check_size(self.sizes[level - 1], (start + len(b),))
        self._blocks[level].append((W, b))
        self.sizes[level] += len(b)
        return start

    def _lifted(self, value: Value, level: int) -> Value:
        while value.level < level:
            below, signs = value.level, (1.0, -1.0) if value.level == 0 else (1.0,)
            flat = value.flat
            units = torch.nonzero((flat[:-1] != 0).any(1)).flatten().tolist()
            copies = self._copies[below]
            new = [unit for unit in units if unit not in copies]
            W = np.zeros((len(new) * len(signs), self.sizes[below]))
            for place, unit in enumerate(new):
                W[place * len(signs) : (place + 1) * len(signs), unit] = signs
            start = self._append(below + 1, W, np.zeros(len(W)))
            copies.update((unit, start + place * len(signs)) for place, unit in enumerate(new))
            columns = torch.zeros(self.sizes[below + 1] + 1, flat.shape[1], dtype=torch.float64)
            for shift, sign in enumerate(signs):
                columns[[copies[unit] + shift for unit in units]] = sign * flat[units]
            columns[-1] = flat[-1]
            value = Value(below + 1, columns.reshape(-1, *value.shape))
        return value


def inputs(shape: Sequence[int]) -> tuple[Layers, Value]:
    """A network without layers, and its input as a value of this shape."""
    size = math.prod(shape)
    check_size(size, shape)
    columns = torch.cat([torch.eye(size, dtype=torch.float64), torch.zeros(1, size, dtype=torch.float64)])
    return Layers(size), Value(0, columns.reshape(-1, *shape))


def pooling_windows(
    shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """The places of each window of a pooling in the flattened tensor, for ``Layers.max_pool``.

    A place beyond the border is replaced by another one of its window, which does not change the maximum.

    Args:
        shape: Shape of the tensor: channels, then one or two axes that are pooled.
        kernel: Size of a window.
        stride: Steps between windows.
        pads: Padding at the beginning of each axis, then at the end of each.
        dilation: Steps between places in a window.
    """
    axes = len(kernel)
    check_size(math.prod(shape), kernel)
    places = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64).reshape(*shape)
    ends = [pad for axis in reversed(range(axes)) for pad in (pads[axis], pads[axis + axes])]
    padded = functional.pad(places, ends)[:, None]
    if axes == 1:
        padded = padded[..., None, :]
        kernel, stride, dilation = ((1, sizes[0]) for sizes in (kernel, stride, dilation))
    unfolded = functional.unfold(
        padded, tuple(kernel), tuple(dilation), 0, tuple(stride)
    )  # (channels, places, windows)
    reach = [step * (size - 1) + 1 for size, step in zip(kernel[-axes:], dilation[-axes:], strict=True)]
    counts = [
        (size + pads[axis] + pads[axis + axes] - reach[axis]) // stride[-axes:][axis] + 1
        for axis, size in enumerate(shape[1:])
    ]
    windows = unfolded.transpose(1, 2).long() - 1
    windows = torch.where(windows < 0, windows.amax(-1, keepdim=True), windows)
    if (windows < 0).any():
        raise ValueError("a window of a pooling lies in the padding alone")
    return windows.reshape(shape[0], *counts, -1)


def broadcast(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    """The shape to which two shapes broadcast; a RuntimeError, as torch's for tensors, if there is none.

    Args:
        a: A shape.
        b: Another.
    """
    try:
        return np.broadcast_shapes(tuple(a), tuple(b))
    except ValueError as error:
        raise RuntimeError(f"shapes {tuple(a)} and {tuple(b)} do not broadcast") from error


def check_size(columns: int, shape: Sequence[int]) -> None:
    """Raise a ValueError if a value would be too large.

    Args:
        columns: The number of its columns.
        shape: Its shape.
    """
    numbers = columns * math.prod(shape)
    if numbers > MOST_NUMBERS:
        raise ValueError(
            f"a tensor of shape {tuple(shape)} as a function of {columns} units takes {numbers * 8 / 1e9:.1f} GB as a "
            f"matrix: expected at most {MOST_NUMBERS * 8 / 1e9:.1f} GB"
        )


def _aligned(columns: Tensor, axes: int) -> Tensor:
    """Columns of tensors with more axes, of length 1, before their own."""
    missing = axes - (columns.ndim - 1)
    return columns.reshape(columns.shape[0], *(1,) * missing, *columns.shape[1:]) if missing else columns


def _widened(value: Value, columns: int) -> Value:
    """A value with zero columns for units that were added to its layer."""
    missing = columns - len(value.columns)
    if not missing:
        return value
    zeros = value.columns.new_zeros(missing, *value.shape)
    return value._replace(columns=torch.cat([value.columns[:-1], zeros, value.columns[-1:]]))
