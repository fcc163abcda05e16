"""The plastic linear layer's scan as numba kernels: one sample after another, by the passes of ``trace``.

Presynaptic activity, fixed current and signal are known for all steps beforehand, so that a step is left with its trace
and its units: y = current + the plastic product, tanh of it, or softmax. The derivative of softmax is

    y' -> y * (y' - sum(y' y))

Source: the equations are those of Miconi, Clune and Stanley (2018); the arrangement is ours.
"""

from __future__ import annotations

import numpy as np

from engram.numeric.jit import inline, jit
from engram.numeric.simd import ROWS, lanes, load, splat, store, tanh, total
from engram.plasticity.kernels.codes import RETROACTIVE, SOFTMAX, TANH
from engram.plasticity.kernels.trace import (
    advance,
    clear,
    coefficients,
    deliver,
    fetch,
    remake,
    rows_in,
    rows_out,
    undo,
    undo_first,
    undo_rates,
)


@inline
def activate(current, size, width, wide, unit):
    """Turn the currents of the units to their activities, in place."""
    if unit == TANH:
        for j in range(0, width, wide):
            store(current, j, tanh(load(current, j)))
    elif unit == SOFTMAX:
        highest = current[0]
        for j in range(size):
            highest = max(highest, current[j])
        whole = current.dtype.type(0)
        for j in range(size):
            current[j] = np.exp(current[j] - highest)
            whole += current[j]
        for j in range(size):
            current[j] /= whole


@inline
def undo_units(Y, y, of_post, D, width, wide, unit):
    """Turn the gradients of the activities to those of the currents."""
    one, weighted = splat(Y.dtype.type(1)), splat(Y.dtype.type(0))
    for j in range(0, width, wide):
        weighted = weighted + load(of_post, j) * load(Y, y + j)
    mean = splat(total(weighted))
    for j in range(0, width, wide):
        post, grad = load(Y, y + j), load(of_post, j)
        if unit == TANH:
            grad = grad * (one - post * post)
        elif unit == SOFTMAX:
            grad = post * (grad - mean)
        store(D, y + j, grad)


def forward_kernel(connection, recursion):
    """Return the forward pass for one kind of alpha and of rule."""

    @jit
    def forward(
        pre, current, modulator, trace, eligibility, alpha, eta,
        c, trace_first, forgets, modulated, unit, high,
        outputs, last_trace, last_eligibility, scratch, first, stop,
    ):  # fmt: skip
        time, _, size = current.shape
        wide = lanes(alpha)
        rows = (size + ROWS - 1) // ROWS * ROWS
        width = (pre.shape[2] + wide - 1) // wide * wide
        dtype = alpha.dtype
        bound, nothing = splat(dtype.type(c)), dtype.type(0)
        stride = rows * width
        # Rows of few arrays: compiling is slow where there are many.
        X, units = np.zeros(2 * width, dtype), np.zeros((6, high), dtype)
        Y, fan, base, keep, gain, rates = units[0], units[1], units[2], units[3], units[4], units[5]
        for b in range(first, stop):
            # The padding as well: it must not carry a NaN from one sample to the next.
            scratch[:] = 0
            X[:] = 0
            Y[:] = 0
            rows_in(trace, b, scratch, 0, width)
            rows_in(eligibility, b, scratch, stride, width)
            for t in range(time + 1):
                # The rule of the step before, of which at first there is none, and the product of this one.
                now, other = t % 2 * width, (t + 1) % 2 * width
                if t < time:
                    fetch(pre, t, b, 0, pre.shape[2], X, now)
                advance(
                    scratch, 0, stride, X, other, now, alpha, keep, gain, rates, 0, Y, 0,
                    rows, width, wide, bound, connection, recursion, trace_first, t > 0,
                )  # fmt: skip
                if t == time:
                    break
                for j in range(size):
                    Y[j] += current[t, b, j]
                activate(Y, size, high, wide, unit)
                fetch(modulator, t, b, 0, modulator.shape[2], base, 0)
                coefficients(
                    eta[0], nothing, fan, base, Y, 0, keep, gain, rates, 0, high, wide, recursion, modulated, forgets
                )
                deliver(Y, 0, outputs, t, b, 0, size)
            rows_out(scratch, 0, width, last_trace, b)
            rows_out(scratch, stride, width, last_eligibility, b)

    return forward


def backward_kernel(connection, recursion):
    """Return the backward pass for one kind of alpha and of rule; see ``forward_kernel``."""

    @jit
    def backward(
        grad_outputs, grad_last_trace, grad_last_eligibility, outputs,
        pre, modulator, trace, eligibility, alpha, eta,
        c, trace_first, forgets, modulated, unit, high, stretch,
        grad_pre, grad_current, grad_modulator, grad_trace, grad_eligibility, grad_alpha, grad_eta,
        scratch, first, stop,
    ):  # fmt: skip
        time, _, size = outputs.shape
        wide = lanes(alpha)
        rows = (size + ROWS - 1) // ROWS * ROWS
        width = (pre.shape[2] + wide - 1) // wide * wide
        dtype = alpha.dtype
        bound, nothing = splat(dtype.type(c)), dtype.type(0)
        stretches = (time + stretch - 1) // stretch
        # One register more than a trace takes, so that equal places of several traces do not share a cache set.
        stride = rows * width + wide
        recent, of_h = stretches * stride, (stretches + stretch) * stride
        sample = of_h + stride
        # Rows of few arrays: compiling is slow where there are many.
        X, steps = np.zeros((time + 2) * width, dtype), np.zeros((6, time * high), dtype)
        Y, D, keep, gain, rates, signals = steps[0], steps[1], steps[2], steps[3], steps[4], steps[5]
        into, next_into = X[time * width : (time + 1) * width], X[(time + 1) * width :]
        units = np.zeros((7, high), dtype)
        q, s, r, a, of_post, of_signal, fan = units[0], units[1], units[2], units[3], units[4], units[5], units[6]
        for b in range(first, stop):
            # The padding as well: it must not carry a NaN from one sample to the next.
            for place in (0, of_h, sample, sample + of_h):
                if place < sample or recursion == RETROACTIVE:
                    clear(scratch, place, place + stride, wide)
            for t in range(time):
                n = t * high
                fetch(pre, t, b, 0, pre.shape[2], X, t * width)
                fetch(outputs, t, b, 0, size, Y, n)
                fetch(modulator, t, b, 0, modulator.shape[2], signals, n)
                coefficients(
                    eta[0], nothing, fan, signals[n : n + high], Y, n, keep, gain, rates, n, high, wide,
                    recursion, modulated, forgets,
                )  # fmt: skip
            rows_in(trace, b, scratch, 0, width)
            rows_in(grad_last_trace, b, scratch, of_h, width)
            rows_in(eligibility, b, scratch, sample, width)
            rows_in(grad_last_eligibility, b, scratch, sample + of_h, width)
            remake(
                scratch, 0, sample, 0, sample, stride, X, 0, keep, gain, rates, 0, stretches, stretch,
                rows, width, high, wide, bound, recursion, trace_first,
            )  # fmt: skip
            for part in range(stretches - 1, -1, -1):
                start, end = part * stretch, min(time, (part + 1) * stretch)
                remake(
                    scratch, part * stride, sample + part * stride, recent, sample + recent, stride,
                    X, start * width, keep, gain, rates, start * high, end - start, 1,
                    rows, width, high, wide, bound, recursion, trace_first,
                )  # fmt: skip
                for t in range(end - 1, start - 1, -1):
                    n, h = t * high, recent + (t - start) * stride
                    undo(
                        scratch, h, sample + h, of_h, sample + of_h, X, t * width, keep, gain, rates, n, D,
                        alpha, grad_alpha, into, next_into, 0, q, s, r, a,
                        rows, width, high, wide, bound, connection, recursion, trace_first, t + 1 < time,
                    )  # fmt: skip
                    if t + 1 < time:
                        deliver(into, 0, grad_pre, t + 1, b, 0, pre.shape[2])
                    into, next_into = next_into, into
                    grad_eta[b] += undo_rates(
                        q, s, r, Y, n, nothing, eta[0], fan, signals[n : n + high], of_post, of_signal, high, wide,
                        recursion, modulated, forgets,
                    )  # fmt: skip
                    deliver(of_signal, 0, grad_modulator, t, b, 0, modulator.shape[2])
                    for j in range(size):
                        of_post[j] += grad_outputs[t, b, j]
                    undo_units(Y, n, of_post, D, high, wide, unit)
                    deliver(D, n, grad_current, t, b, 0, size)
            undo_first(
                scratch, 0, of_h, X, 0, keep, gain, 0, D, alpha, grad_alpha, into, 0, a,
                rows, width, high, wide, connection, recursion,
            )  # fmt: skip
            deliver(into, 0, grad_pre, 0, b, 0, pre.shape[2])
            rows_out(scratch, of_h, width, grad_trace, b)
            rows_out(scratch, sample + of_h, width, grad_eligibility, b)

    return backward
