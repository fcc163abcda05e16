"""Whole lifetimes of node-perturbation networks as a numba kernel: one individual per thread, all its state in cache.

Every matrix of an individual is stored row by row as [post, pre], each row padded to whole registers. A step computes
the product of W + A P, which is recomputed only when P changes, with the activity of the step before; tanh; and one row
of the eligibility trace for each of the few units that are perturbed. The decay of the trace is not applied to every
element: the trace is stored as E / s with a single number s, which is multiplied in once per trial, or sooner if it
becomes small.

Individuals are independent, and each sum has a fixed order: results are equal bit by bit for any number of threads.

Source: the equations are those of Miconi (2023), as ``engram.plasticity.node_perturbation`` has them; their
arrangement is ours.
"""

from __future__ import annotations

import math

import numpy as np

from engram.numeric.jit import copy, inline, jit
from engram.numeric.simd import (
    REGISTER_BYTES,
    ROWS,
    clamp,
    lanes,
    load,
    load_rows,
    repeat,
    splat,
    store,
    store_rows,
    store_totals,
    tanh,
)
from engram.plasticity.kernels.trace import rows_in

SMALL = np.float32(1e-12)  # with a smaller s, a perturbation divided by it may be too large for single precision


@inline
def multiply_in(scale, E, size, wide):
    """Multiply the first ``size`` elements of E by s."""
    factor = splat(scale)
    for p in range(0, size, wide):
        store(E, p, factor * load(E, p))


@jit
def lifetime(
    weight, alpha, genome, inputs, kind, answer, first_event, event_unit, event_size, noise_of, source_of, slot,
    response_start, response_stop, decision, feedback_start, feedback_stop, first_plastic,
    rate, keep, eta, clip, decay, gain, low, high, binary, debias,
    loss, choice, trace, recorded, scratch, b,
):  # fmt: skip
    """Run the lifetime of individual ``b``, and write its losses, choices, last trace and recorded activities."""
    size = weight.shape[1]
    steps, trials = inputs.shape[1], kind.shape[1]
    wide = lanes(scratch)
    width = -(-size // wide) * wide
    rows = -(-size // ROWS) * ROWS
    matrix = rows * width
    W, A, P = scratch[:matrix], scratch[matrix : 2 * matrix], scratch[2 * matrix : 3 * matrix]
    E, F = scratch[3 * matrix : 4 * matrix], scratch[4 * matrix : 5 * matrix]
    vectors = scratch[5 * matrix :]
    x, r = vectors[:width], vectors[width : 2 * width]
    current, reordered = vectors[2 * width : 3 * width], vectors[3 * width : 4 * width]
    sources = reordered if source_of.size else r
    scratch[:] = 0
    rows_in(weight, genome[b], W, 0, width)
    rows_in(alpha, genome[b], A, 0, width)
    copy(W, F)
    one = type(rate)(1)
    zero = splat(one - one)
    of_rate, bound = splat(rate), splat(clip)
    baseline, visits = np.zeros(4), np.zeros(4)
    for j in range(5, size):
        x[j] = type(rate)(0.1)
        r[j] = x[j]
    r[4] = one
    scale = one
    events = first_event[noise_of[b]]
    for t in range(trials):
        c = kind[b, t]
        error, votes0, votes1, signal, answer_given = 0.0, 0.0, 0.0, type(rate)(0), 0
        for k in range(steps):
            for j in range(0, rows, ROWS):
                total = repeat(zero)
                for i in range(0, width, wide):
                    total = total + load_rows(F, j * width + i, width) * load(r, i)
                store_totals(current, j, total)
            for i in range(0, width, wide):
                before = load(x, i)
                store(x, i, before + of_rate * (load(current, i) - before))
            moment = t * steps + k
            if source_of.size and events[moment] < events[moment + 1]:
                for i in range(size):
                    reordered[i] = r[source_of[i]]
            for event in range(events[moment], events[moment + 1]):
                unit, pulse = event_unit[event], event_size[event]
                x[unit] += pulse
                added = splat(pulse / scale)
                for i in range(0, width, wide):
                    store(E, unit * width + i, load(E, unit * width + i) + added * load(sources, i))
            scale *= keep
            if scale < SMALL:
                multiply_in(scale, E, matrix, wide)
                scale = one
            for i in range(0, width, wide):
                store(r, i, tanh(load(x, i)))
            answering = response_start <= k < response_stop
            for o in range(size - 2, size):
                r[o] = one / (one + math.exp(-x[o])) if answering else type(rate)(0)
            if answering:
                votes0 += r[size - 2]
                votes1 += r[size - 1]
                error += (r[size - 2] - (high if answer[b, t] == 0 else low)) ** 2
                error += (r[size - 1] - (high if answer[b, t] == 1 else low)) ** 2
            if k == decision:
                answer_given = 1 if votes1 > votes0 else 0
                error /= response_stop - response_start
                loss[b, t], choice[b, t] = error, answer_given
                signal = type(rate)(gain * error)
                if binary:
                    signal = type(rate)(gain if answer_given == answer[b, t] else -gain)
                expected = baseline[c]
                if debias and visits[c] > 0:
                    expected /= 1 - decay ** visits[c]
                if t >= first_plastic:
                    factor = splat(type(rate)(-eta * expected * (error - expected)) * scale)
                    for j in range(0, rows, ROWS):
                        for i in range(0, width, wide):
                            p = j * width + i
                            change = clamp(factor * load_rows(E, p, width), bound)
                            new_row = load_rows(P, p, width) + change
                            store_rows(P, p, width, new_row)
                            weights = load_rows(W, p, width) + load_rows(A, p, width) * new_row
                            store_rows(F, p, width, weights)
                baseline[c] = decay * baseline[c] + (1 - decay) * error
                visits[c] += 1
            feeding = feedback_start <= k < feedback_stop
            r[0], r[1] = inputs[c, k, 0], inputs[c, k, 1]
            r[2] = signal if feeding else type(rate)(0)
            r[3] = r[2]
            r[4] = one
            r[5] = type(rate)(gain) if feeding and answer_given == 0 else type(rate)(0)
            r[6] = type(rate)(gain) if feeding and answer_given == 1 else type(rate)(0)
            if slot[t] >= 0:
                for i in range(size):
                    recorded[b, slot[t], k, i] = r[i]
        multiply_in(scale, E, matrix, wide)
        scale = one
    for j in range(size):
        for i in range(size):
            trace[b, j, i] = P[j * width + i]


def scratch_size(size: int) -> int:
    """The number of elements of memory that a lifetime of a network of ``size`` units needs."""
    wide = REGISTER_BYTES // 4
    width, rows = -(-size // wide) * wide, -(-size // ROWS) * ROWS
    return 5 * rows * width + 4 * width + ROWS
