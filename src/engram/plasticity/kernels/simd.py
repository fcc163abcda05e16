"""Vectors as wide as the processor's registers, for numba kernels.

numba has no way to promise that two arrays do not overlap, and so turns only the simplest loops into vector
instructions. Here a kernel says itself what is to be a vector: ``load`` takes as many neighbouring elements of a flat
array as fit a register, the operators work on all of them at once, ``store`` writes them back.

    total(load(a, i) * load(b, i) + splat(c))

``a * b + c`` is rounded once where the processor can. Nothing is reordered but the sum of ``total``, and NaN goes
through every operation.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

REGISTER_BYTES = 64 if llvm.get_host_cpu_features().get("avx512f") else 32


def lanes(dtype: Any) -> int:
    """Return how many numbers of a numba or NumPy dtype fit a register."""
    return REGISTER_BYTES // (getattr(dtype, "bitwidth", 0) // 8 or dtype.itemsize)


class Vector(types.Type):  # type: ignore[misc]
    """The numba type of a register full of numbers."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


def _vector(dtype: types.Float) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), lanes(dtype))


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, _vector(vector.dtype))


def _constant(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def _splat(builder: ir.IRBuilder, value: ir.Value, kind: ir.VectorType) -> ir.Value:
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    indices = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), indices)


def _intrinsic(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> ir.Value:
    kind = arguments[0].type
    suffix = f"v{kind.count}f{32 if kind.element == ir.FloatType() else 64}"
    function_type = ir.FunctionType(kind, [a.type for a in arguments])
    function = builder.module.declare_intrinsic(f"llvm.{name}.{suffix}", (), function_type)
    return builder.call(function, arguments)


def _address(context: Any, builder: ir.IRBuilder, array_type: types.Array, array: Any, index: ir.Value) -> ir.Value:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _vector(array_type.dtype).as_pointer())


def _operator(function: Callable[..., Any], build: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]) -> None:
    @infer_global(function)
    class _Typing(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(function, Vector, Vector)
    def _lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return build(builder, *args)


_operator(operator.add, lambda builder, a, b: builder.fadd(a, b, flags=("contract",)))
_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b, flags=("contract",)))
_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b, flags=("contract",)))


@intrinsic  # type: ignore[misc]
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """Return the elements of a flat array from ``index`` on, as many as fit a register."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        address = _address(context, builder, sig.args[0], *args)
        return builder.load(address, align=sig.args[0].dtype.bitwidth // 8, typ=_vector(sig.args[0].dtype))

    return Vector(array.dtype)(array, types.intp), generate


@intrinsic  # type: ignore[misc]
def store(typing_context: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write a register to a flat array from ``index`` on."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        address = _address(context, builder, sig.args[0], args[0], args[1])
        builder.store(args[2], address, align=sig.args[0].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic  # type: ignore[misc]
def splat(typing_context: Any, number: Any) -> Any:
    """Return a register that holds one number everywhere."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _splat(builder, args[0], _vector(sig.args[0]))

    return Vector(number)(number), generate


@intrinsic  # type: ignore[misc]
def total(typing_context: Any, vector: Any) -> Any:
    """Return the sum of a register's elements."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = args[0].type
        name = f"llvm.vector.reduce.fadd.v{kind.count}f{sig.args[0].dtype.bitwidth}"
        function_type = ir.FunctionType(kind.element, [kind.element, kind])
        function = builder.module.declare_intrinsic(name, (), function_type)
        return builder.call(function, [ir.Constant(kind.element, -0.0), args[0]], fastmath=("reassoc",))

    return vector.dtype(vector), generate


@intrinsic  # type: ignore[misc]
def clamp(typing_context: Any, vector: Any, bound: Any) -> Any:
    """Return ``vector`` where its magnitude is below ``bound``, else ``bound`` with its sign."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        outside = builder.fcmp_ordered(">", _intrinsic(builder, "fabs", args[0]), args[1])
        return builder.select(outside, _intrinsic(builder, "copysign", args[1], args[0]), args[0])

    return vector(vector, bound), generate


@intrinsic  # type: ignore[misc]
def where_within(typing_context: Any, vector: Any, bound: Any, value: Any) -> Any:
    """Return ``value`` where the magnitude of ``vector`` is at most ``bound``, else zero."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        inside = builder.fcmp_ordered("<=", _intrinsic(builder, "fabs", args[0]), args[1])
        return builder.select(inside, args[2], _constant(args[0].type, 0.0))

    return vector(vector, bound, value), generate


@intrinsic  # type: ignore[misc]
def magnitude(typing_context: Any, vector: Any) -> Any:
    """Return the absolute values."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _intrinsic(builder, "fabs", args[0])

    return vector(vector), generate


@intrinsic  # type: ignore[misc]
def with_sign(typing_context: Any, value: Any, vector: Any) -> Any:
    """Return ``value`` times the sign of ``vector``, which is 0 where ``vector`` is 0."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        zero = _constant(args[1].type, 0.0)
        negative = builder.fcmp_ordered("<", args[1], zero)
        signed = builder.select(negative, builder.fsub(zero, args[0]), args[0])
        return builder.select(builder.fcmp_ordered("==", args[1], zero), zero, signed)

    return value(value, vector), generate


@intrinsic  # type: ignore[misc]
def where_positive(typing_context: Any, vector: Any, value: Any) -> Any:
    """Return ``value`` where ``vector`` is positive, else zero."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        zero = _constant(args[0].type, 0.0)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], zero)

    return vector(vector, value), generate


@intrinsic  # type: ignore[misc]
def share(typing_context: Any, vector: Any) -> Any:
    """Return ``vector`` held within [0, 1]."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        zero, one = _constant(args[0].type, 0.0), _constant(args[0].type, 1.0)
        raised = builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])
        return builder.select(builder.fcmp_ordered(">", raised, one), one, raised)

    return vector(vector), generate


@intrinsic  # type: ignore[misc]
def where_share(typing_context: Any, vector: Any, value: Any) -> Any:
    """Return ``value`` where ``vector`` is within [0, 1], else zero."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        zero, one = _constant(args[0].type, 0.0), _constant(args[0].type, 1.0)
        inside = builder.and_(builder.fcmp_ordered(">=", args[0], zero), builder.fcmp_ordered("<=", args[0], one))
        return builder.select(inside, args[1], zero)

    return vector(vector, value), generate


@intrinsic  # type: ignore[misc]
def positive(typing_context: Any, vector: Any) -> Any:
    """Return ``vector`` where it is not negative, else zero."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        zero = _constant(args[0].type, 0.0)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])

    return vector(vector), generate


@intrinsic  # type: ignore[misc]
def tanh(typing_context: Any, vector: Any) -> Any:
    """Return the hyperbolic tangent, from e^(2|x|) - 1 = 2^k (e^r - 1) + (2^k - 1) with |r| <= log(2) / 2.

    Good to a few units in the last place in both dtypes, near zero too, since k is 0 there.
    """

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = args[0].type
        single = sig.args[0].dtype == types.float32
        mantissa, bias, bits = (23, 127, 32) if single else (52, 1023, 64)

        def const(value: float) -> ir.Constant:
            return _constant(kind, value)

        def fma(a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
            return _intrinsic(builder, "fmuladd", a, b, c)

        # Beyond 20 the tangent is 1 in double precision; the comparison is false for NaN, which so goes on.
        absolute = _intrinsic(builder, "fabs", args[0])
        absolute = builder.select(builder.fcmp_ordered(">", absolute, const(20.0)), const(20.0), absolute)
        twice = builder.fadd(absolute, absolute)
        power = _intrinsic(builder, "rint", builder.fmul(twice, const(1 / math.log(2))))
        # log(2) in two parts, of which the first times a small integer is exact.
        first = math.floor(math.log(2) * 2**11) / 2**11
        second = math.log(2) - first
        rest = fma(power, const(-second), fma(power, const(-first), twice))
        series = const(1 / math.factorial(8 if single else 14))
        for n in range(7 if single else 13, 0, -1):
            series = fma(series, rest, const(1 / math.factorial(n)))
        series = builder.fmul(series, rest)
        integers = ir.VectorType(ir.IntType(bits), kind.count)
        exponent = builder.add(builder.fptosi(power, integers), ir.Constant(integers, [bias] * kind.count))
        exponent = builder.shl(exponent, ir.Constant(integers, [mantissa] * kind.count))
        scale = builder.bitcast(exponent, kind)
        grown = fma(scale, series, builder.fsub(scale, const(1.0)))
        result = builder.fdiv(grown, builder.fadd(grown, const(2.0)))
        return _intrinsic(builder, "copysign", result, args[0])

    return vector(vector), generate
