"""A feed-forward layer whose weights follow a series, as one numba loop over units; ``Layer`` defines what it computes.

A unit's derivatives stay in the cache over all steps, and each step goes through them twice: for the derivative of the
activity, and for their own change. ``r`` is the index of a row (a unit in a session), ``t`` of a step, ``i`` of an
input, ``k`` of a pair of exponents of input and weight, ``u`` of a pair of exponents of activity and signal, ``q`` of a
term and ``p`` of a part.
"""

from typing import NamedTuple

import numpy as np

from engram.numeric.jit import copy, inline, jit

ANY_ORDER = {"reassoc", "contract"}  # sums in any order; NaN and infinity remain
HIGHEST = 3  # of all exponents
IDENTITY, SIGMOID, TANH = 0, 1, 2  # and relu


class Terms(NamedTuple):
    """A series: its terms theta C_pq x^a y^b w^c m^d, and the parts that they belong to."""

    x: np.ndarray  # a of each pair k
    w: np.ndarray  # c of each pair k
    y: np.ndarray  # b of each pair u
    m: np.ndarray  # d of each pair u
    connection: np.ndarray  # k of each term
    unit: np.ndarray  # u of each term
    coefficients: np.ndarray  # sum over parts of theta_p C_pq, of each term
    starts: np.ndarray  # where the terms of each part begin in the next two
    index: np.ndarray  # q of the terms of all parts
    values: np.ndarray  # C_pq of these


class Recorded(NamedTuple):
    """The rows; see ``feed_forward.Rows``."""

    inputs: np.ndarray
    signal: np.ndarray
    changes: np.ndarray
    session: np.ndarray
    initial: np.ndarray


@inline
def response(f, current):
    """The activity, and its derivative by the current.

    Args:
        f: The number of the nonlinearity.
        current: The current.
    """
    if f == IDENTITY:
        return current, 1.0
    if f == SIGMOID:
        y = 0.5 * (1.0 + np.tanh(0.5 * current))
        return y, y * (1.0 - y)
    if f == TANH:
        y = np.tanh(current)
        return y, 1.0 - y * y
    return max(current, 0.0), 1.0 if current > 0.0 else 0.0


@inline
def power(base, exponent):
    """A power as a product.

    Args:
        base: The base.
        exponent: The exponent, at most 3.
    """
    result = 1.0
    for _ in range(exponent):
        result *= base
    return result


def _advance(terms, rows, f, eta, most, by_initial, first, stop, activity, slopes, weights, diverged):
    inputs, steps = rows.initial.shape[1], rows.inputs.shape[1]
    parts, pairs, units = len(terms.starts) - 1, len(terms.x), len(terms.y)
    parameters = slopes.shape[2]
    S, w = np.zeros((parameters, inputs)), np.zeros(inputs)
    of_connection, slope_w = np.zeros((pairs, inputs)), np.zeros((pairs, inputs))
    of_x, of_w = np.ones((HIGHEST + 1, inputs)), np.ones((HIGHEST + 1, inputs))
    of_unit, slope_y = np.zeros(units), np.zeros(units)
    factor, lower = np.zeros(pairs), np.zeros(pairs)
    change, kept, added = np.zeros(inputs), np.zeros(inputs), np.zeros(inputs)
    dy = np.zeros(parameters)
    for r in range(first, stop):
        session = rows.session[r]
        copy(rows.initial[r], w)
        S[:] = 0.0
        if by_initial:
            for i in range(inputs):
                S[parts + i, i] = 1.0
        for t in range(steps):
            x, m = rows.inputs[session, t], rows.signal[session, t]
            if len(weights):
                copy(w, weights[t, r])
            current = 0.0
            for i in range(inputs):
                current += w[i] * x[i]
            y, slope = response(f, current)
            activity[r, t] = y
            for p in range(parameters):
                total, of_p = 0.0, S[p]
                for i in range(inputs):
                    total += of_p[i] * x[i]
                dy[p] = slope * total
                slopes[r, t, p] = dy[p]
            if not rows.changes[session, t]:
                continue
            for exponent in range(1, len(of_x)):
                below_x, below_w, above_x, above_w = (
                    of_x[exponent - 1],
                    of_w[exponent - 1],
                    of_x[exponent],
                    of_w[exponent],
                )
                for i in range(inputs):
                    above_x[i] = below_x[i] * x[i]
                    above_w[i] = below_w[i] * w[i]
            for k in range(pairs):
                c = terms.w[k]
                power_x, power_w, product = of_x[terms.x[k]], of_w[c], of_connection[k]
                for i in range(inputs):
                    product[i] = power_x[i] * power_w[i]
                if parameters and c:
                    lower_w, product = of_w[c - 1], slope_w[k]
                    for i in range(inputs):
                        product[i] = c * power_x[i] * lower_w[i]
            for u in range(units):
                b, of_m = terms.y[u], power(m, terms.m[u])
                of_unit[u] = power(y, b) * of_m
                slope_y[u] = b * power(y, b - 1) * of_m if b else 0.0
            factor[:], lower[:] = 0.0, 0.0
            for q in range(len(terms.connection)):
                factor[terms.connection[q]] += terms.coefficients[q] * of_unit[terms.unit[q]]
                lower[terms.connection[q]] += terms.coefficients[q] * slope_y[terms.unit[q]]
            change[:], kept[:], added[:] = 0.0, 1.0, 0.0
            for k in range(pairs):
                scale, scale_y, product = factor[k], eta * lower[k], of_connection[k]
                for i in range(inputs):
                    change[i] += scale * product[i]
                if parameters:
                    for i in range(inputs):
                        added[i] += scale_y * product[i]
                    if terms.w[k]:
                        scale, product = eta * factor[k], slope_w[k]
                        for i in range(inputs):
                            kept[i] += scale * product[i]
            for p in range(parameters):
                of_p, scale_y = S[p], dy[p]
                for i in range(inputs):
                    of_p[i] = of_p[i] * kept[i] + scale_y * added[i]
            for p in range(parts if parameters else 0):
                of_p = S[p]
                for place in range(terms.starts[p], terms.starts[p + 1]):
                    q = terms.index[place]
                    scale = eta * terms.values[place] * of_unit[terms.unit[q]]
                    product = of_connection[terms.connection[q]]
                    for i in range(inputs):
                        of_p[i] += scale * product[i]
            largest = 0.0
            for i in range(inputs):
                w[i] += eta * change[i]
                largest = max(largest, abs(w[i])) if w[i] == w[i] else np.inf
            if largest > most:
                diverged[r] = True
                break
        if len(weights):
            copy(w, weights[steps, r])


advance = jit(_advance, fastmath=ANY_ORDER)
"""Run the rows from ``first`` to ``stop``: their activity, its derivatives, weights, and whether one exceeds ``most``.

``slopes`` has no parameters if no derivatives are wanted, and ``weights`` no steps if no weights are.
"""
