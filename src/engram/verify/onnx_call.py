"""A node of an ONNX graph with its operands, which depend on the network's input or are constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from engram.verify.affine_value import Layers, Value

Operand = Value | Tensor


class Call(NamedTuple):
    """A node of a graph with its operands, which are values, constants, or None where one is left out."""

    layers: Layers
    version: int  # of the set of operators
    operands: list[Operand | None]
    attributes: dict[str, Any]

    def operand(self, index: int) -> Operand | None:
        """An operand, or None if it is left out."""
        return self.operands[index] if index < len(self.operands) else None

    def given(self, index: int) -> Operand:
        """An operand that has to be there."""
        operand = self.operand(index)
        if operand is None:
            raise ValueError(f"input {index} is missing")
        return operand

    def constant(self, index: int) -> Tensor | None:
        """An operand that has to be a constant, or None if it is left out."""
        operand = self.operand(index)
        if isinstance(operand, Value):
            raise ValueError(f"input {index} depends on the network's input: expected a constant")
        return operand

    def integers(self, index: int, attribute: str, since: int) -> list[int] | None:
        """Integers that are an attribute before a version of the operators, and an input since; None if left out."""
        if self.version < since:
            if self.operand(index) is not None:  # version 1 of Split took its sizes so
                raise ValueError(f"input {index} is given: expected the attribute {attribute!r} before version {since}")
            value = self.attributes.get(attribute)
            return None if value is None else [int(v) for v in (value if isinstance(value, list) else [value])]
        constant = self.constant(index)
        if constant is not None and constant.is_floating_point():
            raise ValueError(f"input {index} has the dtype {constant.dtype}: expected integers")
        return None if constant is None else [int(v) for v in constant.flatten().tolist()]

    def linear(self, operand: Operand, apply: Callable[[Tensor], Tensor]) -> Operand:
        """A linear function that treats each of many tensors, along a first axis, alike."""
        return operand.linear(apply) if isinstance(operand, Value) else apply(operand[None])[0]

    def value(self, index: int) -> Value:
        """An operand as a value."""
        operand = self.given(index)
        return operand if isinstance(operand, Value) else self.layers.constant(operand.double())


def axes_of(axes: Sequence[int], count: int) -> list[int]:
    """Axes of a tensor, which may be counted from the end, as axes behind the one of columns."""
    if any(not -count <= axis < count for axis in axes):
        raise ValueError(f"axes = {list(axes)}: expected axes of a tensor of {count}")
    places = [axis % count + 1 for axis in axes]
    if len(set(places)) < len(places):
        raise ValueError(f"axes = {list(axes)}: expected each axis once")
    return places


def shape_of(operand: Operand) -> tuple[int, ...]:
    """The shape of a value or constant."""
    return tuple(operand.shape)
