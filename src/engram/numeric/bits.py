"""Bits of words in numba kernels."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def ones(typing_context, word):
    """The number of bits of an unsigned word that are set."""

    def generate(context, builder, sig, args):
        return builder.ctpop(args[0])

    return word(word), generate


@intrinsic
def lowest(typing_context, word):
    """The place of the lowest bit that is set."""

    def generate(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate
