"""The random numbers of ``engram.memory.splitmix`` as numba functions, for the kernels of all memories."""

import numpy as np

from engram.memory.splitmix import FIRST, GOLDEN, SECOND
from engram.numeric.jit import inline

golden, first_factor, second_factor = np.uint64(GOLDEN), np.uint64(FIRST), np.uint64(SECOND)
one = np.uint64(1)


@inline
def number(seed, count):
    """The random 64 bits of a seed at a count."""
    value = np.uint64(seed) + golden * (np.uint64(count) + one)
    value = (value ^ (value >> np.uint64(30))) * first_factor
    value = (value ^ (value >> np.uint64(27))) * second_factor
    return value ^ (value >> np.uint64(31))


@inline
def below(bits, bound):
    """A random integer in [0, bound) from random bits."""
    return np.int64((bits >> np.uint64(33)) * np.uint64(bound) >> np.uint64(31))


@inline
def chance(bits):
    """A random integer in [0, 2^53) from random bits."""
    return np.int64(bits >> np.uint64(11))
