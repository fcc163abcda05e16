"""Bit operations on unsigned words in numba kernels."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def ones(typing_context, word):
    """The number of set bits in an unsigned word."""

    def generate(context, builder, sig, args):
        return builder.ctpop(args[0])

    return word(word), generate


@intrinsic
def lowest(typing_context, word):
    """The index of the lowest set bit; undefined for 0."""

    def generate(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate
