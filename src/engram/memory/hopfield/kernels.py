"""Asynchronous sweeps of Hopfield networks as numba kernels: a flip updates only what depends on it.

Samples do not interact: the results are the same for any number of threads. ``i`` and ``j`` are the indices of nodes,
``p`` of a pattern, ``k`` of a position in the order of a sweep.
"""

import numpy as np

from engram.memory.kernels import below, number
from engram.numeric.jit import inline, njit

ROUNDING = 1e-13  # far above the rounding errors of a sum of 64-bit numbers, relative to the largest of them


@inline(forceinline=False)
def shuffle(order, seed, sweep):
    """Write the random order of the nodes in a sweep."""
    for i in range(order.size):
        order[i] = i
    for i in range(order.size - 1, 0, -1):
        k = below(number(seed, sweep * order.size + i), i + 1)
        order[i], order[k] = order[k], order[i]


@njit(cache=True, nogil=True, error_model="numpy")
def sweeps(state, weight, seeds, limit, flips, has_settled, first, stop):
    """Let the samples from ``first`` to ``stop`` settle by symmetric weights without a diagonal.

        x_i <- sign(sum_j W_ij x_j), no change where the sum is 0

    Args:
        state: x, (samples, nodes), changed.
        weight: W, (nodes, nodes).
        seeds: Seed of each sample's order of nodes.
        limit: Maximum number of sweeps.
        flips: Receives the number of flips of each sample.
        has_settled: Receives whether each sample settled.
        first: Index of the first sample.
        stop: End of the samples, exclusive.
    """
    nodes = state.shape[1]
    field, order = np.empty(nodes, weight.dtype), np.empty(nodes, np.int64)
    for sample in range(first, stop):
        x = state[sample]
        field[:] = 0
        for j in range(nodes):
            row = weight[j]
            for i in range(nodes):
                field[i] += x[j] * row[i]
        for sweep in range(limit):
            shuffle(order, seeds[sample], sweep)
            n_flips = 0
            for k in range(nodes):
                i = order[k]
                if field[i] * x[i] < 0:
                    x[i] = -x[i]
                    row, change = weight[i], 2 * x[i]
                    for j in range(nodes):
                        field[j] += change * row[j]
                    n_flips += 1
            flips[sample] += n_flips
            if n_flips == 0:
                has_settled[sample] = True
                break


@inline(forceinline=False)
def slopes(overlap, power, nodes, if_equal, if_different):
    """Write F(m) - F(m - 2) and F(m) - F(m + 2) of every pattern, up to a common factor.

    Return the decrease of E below which a flip may be one of rounding errors alone. Those of the exponential have no
    common sign, so that flips between two patterns at equal energies would never end.
    """
    if power == 0:
        top, total = overlap.max(), 0.0
        for p in range(overlap.size):
            value = np.exp(float(overlap[p] - top))
            if_equal[p], if_different[p] = value * (1 - np.exp(-2.0)), value * (1 - np.exp(2.0))
            total += value
        return ROUNDING * total
    for p in range(overlap.size):
        m = overlap[p] / nodes
        value = m**power
        if_equal[p] = value - ((overlap[p] - 2) / nodes) ** power
        if_different[p] = value - ((overlap[p] + 2) / nodes) ** power
    return 0.0


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def dense_sweeps(state, by_node, power, seeds, limit, flips, has_settled, first, stop):
    """Let the samples from ``first`` to ``stop`` settle in a dense associative memory.

    With c = x_i p_i, flipping node i takes p . x to p . x - 2 c, so that E grows by the sum of F(m) - F(m - 2 c).

    Args:
        state: x, (samples, nodes), changed.
        by_node: Stored patterns, (nodes, patterns).
        power: n of F, 0 for the exponential.
        seeds: Seed of each sample's order of nodes.
        limit: Maximum number of sweeps.
        flips: Receives the number of flips of each sample.
        has_settled: Receives whether each sample settled.
        first: Index of the first sample.
        stop: End of the samples, exclusive.
    """
    nodes, patterns = by_node.shape
    overlap, order = np.empty(patterns, np.int64), np.empty(nodes, np.int64)
    if_equal, if_different = np.empty(patterns), np.empty(patterns)
    for sample in range(first, stop):
        x = state[sample]
        overlap[:] = 0
        for i in range(nodes):
            for p in range(patterns):
                overlap[p] += x[i] * by_node[i, p]
        unsure, tolerance = slopes(overlap, power, nodes, if_equal, if_different), 0.0
        for sweep in range(limit):
            shuffle(order, seeds[sample], sweep)
            n_flips, is_sure = 0, False
            for k in range(nodes):
                i = order[k]
                column, rise = by_node[i], 0.0
                for p in range(patterns):
                    rise += if_equal[p] if column[p] == x[i] else if_different[p]
                if rise < -tolerance * unsure:
                    is_sure |= rise < -unsure
                    for p in range(patterns):
                        overlap[p] -= 2 * x[i] * column[p]
                    x[i] = -x[i]
                    unsure = slopes(overlap, power, nodes, if_equal, if_different)
                    n_flips += 1
            flips[sample] += n_flips
            if n_flips == 0:
                has_settled[sample] = True
                break
            if not is_sure:  # all flips of the sweep may be due to rounding: from now on such flips are not made
                tolerance = 1.0
