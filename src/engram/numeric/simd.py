"""Vectors as wide as the processor's registers, and tiles of them, for numba kernels.

numba has no way to promise that two arrays do not overlap, and so turns only the simplest loops into vector
instructions. Here a kernel declares its vectors itself. A ``Vector`` fills a register with consecutive elements of a
flat array; a ``Tile`` has the same columns of four consecutive rows. The operators work on all elements at once, and
broadcast a vector over the rows of a tile.

    keep, gain = splat_rows(keeps, row), splat_rows(gains, row)
    trace = keep * load_rows(traces, place, width) + gain * load(activities, column)

The functions below generate code: numba calls them with (context, builder, sig, args). The arguments that a kernel
passes are in the decorator above each function, or follow ``builder``.

``a * b + c`` is rounded once where the processor supports it. Sums have a fixed order, and NaN passes through the
operators, the bounds and the activation functions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import wraps
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model
from numba.np.arrayobj import populate_array

REGISTER_BYTES = 64 if llvm.get_host_cpu_features().get("avx512f") else 32  # LLVM halves them for smaller registers
ROWS = 4

Build = Callable[..., ir.Value]


class Vector(types.Type):
    """The numba type of a register full of numbers."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


class Tile(types.Type):
    """The numba type of four registers full of numbers, one for each row."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"Tile({dtype})")


def _vector(dtype: types.Float) -> ir.VectorType:
    number = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
    return ir.VectorType(number, REGISTER_BYTES * 8 // dtype.bitwidth)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, _vector(vector.dtype))


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager: Any, tile: Tile) -> None:
        super().__init__(manager, tile, ir.ArrayType(_vector(tile.dtype), ROWS))


def _constant(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def _rows(builder: ir.IRBuilder, value: ir.Value) -> list[ir.Value]:
    if isinstance(value.type, ir.ArrayType):
        return [builder.extract_value(value, row) for row in range(ROWS)]
    return [value] * ROWS


def _tile(builder: ir.IRBuilder, rows: list[ir.Value]) -> ir.Value:
    tile = ir.Constant(ir.ArrayType(rows[0].type, ROWS), ir.Undefined)
    for row, value in enumerate(rows):
        tile = builder.insert_value(tile, value, row)
    return tile


def _rowwise(build: Build) -> Build:
    """A code generator that applies ``build`` to each row of a tile."""

    def generate(builder: ir.IRBuilder, *args: ir.Value) -> ir.Value:
        if not any(isinstance(a.type, ir.ArrayType) for a in args):
            return build(builder, *args)
        by_row = zip(*(_rows(builder, a) for a in args), strict=True)
        return _tile(builder, [build(builder, *row) for row in by_row])

    return generate


def _call(builder: ir.IRBuilder, name: str, *args: ir.Value) -> ir.Value:
    kind = args[0].type
    suffix = f"v{kind.count}f{32 if kind.element == ir.FloatType() else 64}"
    function_type = ir.FunctionType(kind, [a.type for a in args])
    return builder.call(builder.module.declare_intrinsic(f"llvm.{name}.{suffix}", (), function_type), args)


def _operator(function: Callable[..., Any], build: Build) -> None:
    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) != 2 or not all(isinstance(a, Vector | Tile) for a in args):
                return None
            return signature(args[0] if isinstance(args[0], Tile) else args[1], *args)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _rowwise(build)(builder, *args)

    for left in (Vector, Tile):
        for right in (Vector, Tile):
            lower_builtin(function, left, right)(lower)


_operator(operator.add, lambda builder, a, b: builder.fadd(a, b, flags=("contract",)))
_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b, flags=("contract",)))
_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b, flags=("contract",)))


NAMES = "__module__", "__name__", "__qualname__", "__doc__"


def _intrinsic(typed: Callable[..., Any]) -> Callable[[Build], Any]:
    """A decorator that turns a code generator into a numba intrinsic; ``typed`` returns its signature, or None."""

    def make(generate: Build) -> Any:
        @wraps(generate, assigned=NAMES, updated=())
        def function(*args: Any) -> Any:
            resolved = typed(*args)
            return None if resolved is None else (resolved, generate)

        function.__wrapped__ = typed  # whose arguments numba inspects
        return intrinsic(function)

    return make


def _elementwise(build: Build) -> Any:
    """A numba intrinsic that applies the code of ``build`` to vectors, and to every row of tiles."""

    @wraps(build, assigned=NAMES, updated=())
    def function(typing_context: Any, *args: Any) -> Any:
        return args[0](*args), lambda context, builder, sig, args: _rowwise(build)(builder, *args)

    return intrinsic(function)


def _address(context: Any, builder: ir.IRBuilder, array_type: types.Array, array: Any, index: ir.Value) -> ir.Value:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _vector(array_type.dtype).as_pointer())


def _splat(builder: ir.IRBuilder, value: ir.Value, kind: ir.VectorType) -> ir.Value:
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    indices = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), indices)


@_intrinsic(lambda typing_context, array: types.intp(array))
def lanes(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """The number of elements of an array that fit a register."""
    return context.get_constant(types.intp, _vector(sig.args[0].dtype).count)


@_intrinsic(lambda typing_context, array, index: Vector(array.dtype)(array, types.intp))
def load(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """The vector of the elements of a flat array from ``index`` on."""
    dtype = sig.args[0].dtype
    address = _address(context, builder, sig.args[0], *args)
    return builder.load(address, align=dtype.bitwidth // 8, typ=_vector(dtype))


@_intrinsic(lambda typing_context, array, index, width: Tile(array.dtype)(array, types.intp, types.intp))
def load_rows(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """The tile whose rows begin at ``index`` and at 1, 2 and 3 times ``width`` beyond it."""
    dtype = sig.args[0].dtype
    addresses = _row_addresses(context, builder, sig.args[0], *args)
    return _tile(builder, [builder.load(a, align=dtype.bitwidth // 8, typ=_vector(dtype)) for a in addresses])


def _row_addresses(
    context: Any, builder: ir.IRBuilder, array_type: types.Array, array: Any, index: ir.Value, width: ir.Value
) -> list[ir.Value]:
    addresses = []
    for _ in range(ROWS):
        addresses.append(_address(context, builder, array_type, array, index))
        index = builder.add(index, width)
    return addresses


@_intrinsic(lambda typing_context, array, index, vector: types.void(array, types.intp, vector))
def store(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """Write a vector to a flat array from ``index`` on."""
    address = _address(context, builder, sig.args[0], args[0], args[1])
    builder.store(args[2], address, align=sig.args[0].dtype.bitwidth // 8)
    return context.get_dummy_value()


@_intrinsic(lambda typing_context, array, index, width, tile: types.void(array, types.intp, types.intp, tile))
def store_rows(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """Write a tile to where ``load_rows`` would read it."""
    addresses = _row_addresses(context, builder, sig.args[0], *args[:3])
    for address, row in zip(addresses, _rows(builder, args[3]), strict=True):
        builder.store(row, address, align=sig.args[0].dtype.bitwidth // 8)
    return context.get_dummy_value()


def _is_whole(*arrays: types.Array) -> bool:
    """Whether arrays are contiguous, so that flat indices are places in memory; others are refused by numba."""
    return all(array.layout == "C" for array in arrays)


def _copying(typing_context: Any, source: Any, at: Any, target: Any, to: Any, size: Any) -> Any:
    if _is_whole(source, target) and source.dtype == target.dtype:
        return types.void(source, types.intp, target, types.intp, types.intp)
    return None


def _clearing(typing_context: Any, array: Any, at: Any, size: Any) -> Any:
    return types.void(array, types.intp, types.intp) if _is_whole(array) else None


@_intrinsic(_copying)
def copy_row(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """Copy ``size`` elements of a contiguous array, from the flat index ``at`` on, to another, from ``to`` on.

    Of a loop LLVM makes a hundred instructions and more, for each place to which it is inlined.
    """
    source, at, target, to, size = args
    from_type, _, to_type, *_ = sig.args
    start = builder.gep(context.make_array(from_type)(context, builder, source).data, [at])
    end = builder.gep(context.make_array(to_type)(context, builder, target).data, [to])
    cgutils.raw_memcpy(builder, end, start, size, from_type.dtype.bitwidth // 8)
    return context.get_dummy_value()


@_intrinsic(lambda typing_context, array, at, size: array(array, types.intp, types.intp) if _is_whole(array) else None)
def section(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """The view array[at : at + size] of a flat array, which must contain it."""
    whole = context.make_array(sig.args[0])(context, builder, args[0])
    view = context.make_array(sig.args[0])(context, builder)
    populate_array(
        view,
        data=builder.gep(whole.data, [args[1]]),
        shape=[args[2]],
        strides=[context.get_constant(types.intp, sig.args[0].dtype.bitwidth // 8)],
        itemsize=whole.itemsize,
        meminfo=whole.meminfo,
        parent=whole.parent,
    )
    return impl_ret_borrowed(context, builder, sig.return_type, view._getvalue())


@_intrinsic(_clearing)
def clear(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """Set ``size`` elements of a contiguous array, from the flat index ``at`` on, to zero."""
    array, at, size = args
    start = builder.gep(context.make_array(sig.args[0])(context, builder, array).data, [at])
    bytes_ = builder.mul(size, ir.Constant(size.type, sig.args[0].dtype.bitwidth // 8))
    cgutils.memset(builder, start, bytes_, 0)
    return context.get_dummy_value()


@_intrinsic(lambda typing_context, number: Vector(number)(number))
def splat(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """A vector whose elements all equal one number."""
    return _splat(builder, args[0], _vector(sig.args[0]))


@_intrinsic(lambda typing_context, array, index: Tile(array.dtype)(array, types.intp))
def splat_rows(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """A tile with one number repeated in each row: the four elements of an array from ``index`` on."""
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    rows = []
    for row in range(ROWS):
        number = builder.load(builder.gep(data, [builder.add(args[1], ir.Constant(args[1].type, row))]))
        rows.append(_splat(builder, number, _vector(sig.args[0].dtype)))
    return _tile(builder, rows)


@_intrinsic(lambda typing_context, vector: Tile(vector.dtype)(vector))
def repeat(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """The tile that has the vector in every row."""
    return _tile(builder, [args[0]] * ROWS)


@_intrinsic(lambda typing_context, vector, tile: vector(vector, tile))
def add_rows(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """The sum of a vector and the four rows of a tile."""
    result = args[0]
    for row in _rows(builder, args[1]):
        result = builder.fadd(result, row, flags=("contract",))
    return result


def _folded(builder: ir.IRBuilder, vectors: list[ir.Value]) -> ir.Value:
    """A short vector of the sums of 1 or 4 vectors: halves are added until one element of each vector is left."""
    groups, size = 1, vectors[0].type.count

    def halves(left: ir.Value, right: ir.Value, starts: list[int]) -> ir.Value:
        index = ir.IntType(32)
        masks = [[start + offset + n for start in starts for n in range(size // 2)] for offset in (0, size // 2)]
        half_vectors = [
            builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(index, len(mask)), [index(n) for n in mask]))
            for mask in masks
        ]
        return builder.fadd(*half_vectors)

    while len(vectors) > 1:
        starts = [g * size for g in range(2 * groups)]
        vectors = [halves(a, b, starts) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
        groups, size = 2 * groups, size // 2
    vector = vectors[0]
    while size > 1:
        vector = halves(vector, ir.Constant(vector.type, ir.Undefined), [g * size for g in range(groups)])
        size //= 2
    return vector


@_intrinsic(lambda typing_context, vector: vector.dtype(vector))
def total(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """The sum of a vector's elements."""
    return builder.extract_element(_folded(builder, [args[0]]), ir.Constant(ir.IntType(32), 0))


@_intrinsic(lambda typing_context, array, index, tile: types.void(array, types.intp, tile))
def store_totals(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """Write the sums of a tile's rows to the four elements of an array from ``index`` on."""
    sums = _folded(builder, _rows(builder, args[2]))
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    address = builder.bitcast(builder.gep(data, [args[1]]), sums.type.as_pointer())
    builder.store(sums, address, align=sig.args[0].dtype.bitwidth // 8)
    return context.get_dummy_value()


@_elementwise
def magnitude(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The absolute values."""
    return _call(builder, "fabs", value)


@_elementwise
def clamp(builder: ir.IRBuilder, value: ir.Value, bound: ir.Value) -> ir.Value:
    """``value`` limited to [-``bound``, ``bound``], element by element."""
    # In this form each comparison and selection is one instruction, and NaN passes through.
    below = builder.fneg(bound)
    raised = builder.select(builder.fcmp_ordered(">", below, value), below, value)
    return builder.select(builder.fcmp_ordered("<", bound, raised), bound, raised)


@_elementwise
def where_within(builder: ir.IRBuilder, tested: ir.Value, bound: ir.Value, value: ir.Value) -> ir.Value:
    """``value`` where |``tested``| <= ``bound``, else zero, element by element."""
    inside = builder.fcmp_ordered("<=", _call(builder, "fabs", tested), bound)
    return builder.select(inside, value, _constant(tested.type, 0.0))


@_elementwise
def with_sign(builder: ir.IRBuilder, value: ir.Value, signed: ir.Value) -> ir.Value:
    """``value`` times the sign of ``signed``, element by element; zero where ``signed`` is zero."""
    zero = _constant(signed.type, 0.0)
    turned = builder.select(builder.fcmp_ordered("<", signed, zero), builder.fsub(zero, value), value)
    return builder.select(builder.fcmp_ordered("==", signed, zero), zero, turned)


@_elementwise
def where_positive(builder: ir.IRBuilder, tested: ir.Value, value: ir.Value) -> ir.Value:
    """``value`` where ``tested`` is above zero or NaN, else zero, element by element."""
    zero = _constant(tested.type, 0.0)
    return builder.select(builder.fcmp_ordered("<=", tested, zero), zero, value)


@_elementwise
def clamp01(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The value limited to [0, 1]."""
    zero, one = _constant(value.type, 0.0), _constant(value.type, 1.0)
    raised = builder.select(builder.fcmp_ordered("<", value, zero), zero, value)
    return builder.select(builder.fcmp_ordered(">", raised, one), one, raised)


@_elementwise
def mask01(builder: ir.IRBuilder, tested: ir.Value, value: ir.Value) -> ir.Value:
    """``value`` where ``tested`` is within [0, 1], else zero, element by element."""
    zero, one = _constant(tested.type, 0.0), _constant(tested.type, 1.0)
    inside = builder.and_(builder.fcmp_ordered(">=", tested, zero), builder.fcmp_ordered("<=", tested, one))
    return builder.select(inside, value, zero)


def _growth(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """e^x - 1 = 2^k (e^r - 1) + (2^k - 1) with |r| <= log(2) / 2, for x of at least 0 and finite e^x."""
    kind = x.type
    mantissa, bias, bits, terms = (23, 127, 32, 8) if kind.element == ir.FloatType() else (52, 1023, 64, 14)

    def const(value: float) -> ir.Constant:
        return _constant(kind, value)

    def fma(a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        return _call(builder, "fmuladd", a, b, c)

    power = _call(builder, "rint", builder.fmul(x, const(1 / math.log(2))))
    # log(2) in two parts; the first times a small integer is exact.
    log2_high = math.floor(math.log(2) * 2**11) / 2**11
    remainder = fma(power, const(log2_high - math.log(2)), fma(power, const(-log2_high), x))
    series = const(1 / math.factorial(terms))
    for n in range(terms - 1, 0, -1):
        series = fma(series, remainder, const(1 / math.factorial(n)))
    integers = ir.VectorType(ir.IntType(bits), kind.count)
    exponent = builder.add(builder.fptosi(power, integers), ir.Constant(integers, [bias] * kind.count))
    scale = builder.bitcast(builder.shl(exponent, ir.Constant(integers, [mantissa] * kind.count)), kind)
    return fma(scale, builder.fmul(series, remainder), builder.fsub(scale, const(1.0)))


def _at_most(builder: ir.IRBuilder, x: ir.Value, bound: float) -> ir.Value:
    """The absolute value, at most the bound; NaN passes through, since the comparison is false for it."""
    absolute, limit = _call(builder, "fabs", x), _constant(x.type, bound)
    return builder.select(builder.fcmp_ordered(">", absolute, limit), limit, absolute)


@_elementwise
def tanh(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The hyperbolic tangent, from e^(2|x|) - 1.

    Accurate to three units in the last place, also near zero, where the power of 2 in ``_growth`` is 1.
    """
    # Beyond 20 the tangent is 1 in double precision.
    absolute = _at_most(builder, x, 20.0)
    growth = _growth(builder, builder.fadd(absolute, absolute))
    return _call(builder, "copysign", builder.fdiv(growth, builder.fadd(growth, _constant(x.type, 2.0))), x)


@_elementwise
def sigmoid(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The logistic function 1 / (1 + e^-x), from e^|x| - 1, to a few units in the last place on both sides of zero."""
    # Beyond it the power would overflow, and the function is within 1e-36 of 0 or 1.
    bound = 85.0 if x.type.element == ir.FloatType() else 700.0
    zero, one = _constant(x.type, 0.0), _constant(x.type, 1.0)
    power = builder.fadd(_growth(builder, _at_most(builder, x, bound)), one)
    numerator = builder.select(builder.fcmp_ordered("<", x, zero), one, power)
    return builder.fdiv(numerator, builder.fadd(power, one))
