"""The plastic linear layer's scan as numba kernels: one sample after another, with the passes of ``trace``.

Presynaptic activity, fixed current and signal are known for all steps beforehand, so a step only computes its trace and
its units: y = current + the plastic product, its tanh, or its softmax. The derivative of softmax is

    y' -> y * (y' - sum(y' y))

``width`` is the padded number of units, ``wide`` the numbers in a register, and ``unit`` the code of the nonlinearity.
In ``undo_units``, ``Y`` holds the activities from place ``y`` on, ``of_post`` their gradients, and ``D`` receives those
of the currents.

Source: the equations are those of Miconi, Clune and Stanley (2018); the arrangement is ours.
"""

from __future__ import annotations

import numpy as np

from engram.numeric.jit import inline, jit
from engram.numeric.simd import ROWS, clear, copy_row, lanes, load, splat, store, tanh, total
from engram.plasticity.kernels.constants import RETROACTIVE, SOFTMAX, TANH
from engram.plasticity.kernels.trace import (
    Alpha,
    Coefficients,
    Layout,
    Modulator,
    Row,
    Rule,
    Sums,
    Traces,
    advance,
    remake,
    rows_in,
    rows_out,
    undo,
    undo_first,
    undo_rates,
    write_coefficients,
)


@inline
def activate(current, size, width, wide, unit):
    """Turn the currents of the units into their activities, in place."""
    if unit == TANH:
        for j in range(0, width, wide):
            store(current, j, tanh(load(current, j)))
    elif unit == SOFTMAX:
        highest = current[0]
        for j in range(size):
            highest = max(highest, current[j])
        total = current.dtype.type(0)
        for j in range(size):
            current[j] = np.exp(current[j] - highest)
            total += current[j]
        for j in range(size):
            current[j] /= total


@inline
def undo_units(Y, y, of_post, D, width, wide, unit):
    """Turn the gradients of the activities into those of the currents."""
    one, products = splat(Y.dtype.type(1)), splat(Y.dtype.type(0))
    for j in range(0, width, wide):
        products = products + load(of_post, j) * load(Y, y + j)
    inner_product = splat(total(products))
    for j in range(0, width, wide):
        post, grad = load(Y, y + j), load(of_post, j)
        if unit == TANH:
            grad = grad * (one - post * post)
        elif unit == SOFTMAX:
            grad = post * (grad - inner_product)
        store(D, y + j, grad)


def forward_kernel(connection, recursion):
    """The forward pass for one kind of alpha and of rule."""

    @jit
    def forward(sequences, state, layer, options, high, output_arrays, scratch, first, stop):
        pre, current, signals = sequences
        trace, eligibility = state
        alpha, eta = layer
        clip, trace_first, forgets, modulated, unit = options
        outputs, last_trace, last_eligibility = output_arrays
        time, batch, size = current.shape
        wide = lanes(alpha)
        rows = (size + ROWS - 1) // ROWS * ROWS
        width = (pre.shape[2] + wide - 1) // wide * wide
        dtype = alpha.dtype
        zero = dtype.type(0)
        stride = rows * width
        layout, rule = (
            Layout(rows, width, high, wide),
            Rule(dtype.type(clip), trace_first, forgets, modulated),
        )
        # Rows of a few arrays, since compiling many arrays is slow.
        X, units = np.zeros(2 * width, dtype), np.zeros((6, high), dtype)
        Y, fan, base = units[0], units[1], units[2]
        coefficients = Coefficients(units[3], units[4], units[5], 0)
        modulator, traces = Modulator(fan, zero, fan, base, 0), Traces(scratch, 0, stride)  # m = base, the signal
        for b in range(first, stop):
            # Clear the padding too: it must not carry a NaN from one sample to the next.
            clear(scratch, 0, scratch.size)
            clear(X, 0, X.size)
            clear(Y, 0, Y.size)
            rows_in(trace, b, scratch, 0, width)
            rows_in(eligibility, b, scratch, stride, width)
            for t in range(time + 1):
                # The rule of the previous step (none at first), and the product of this one.
                now, other = t % 2 * width, (t + 1) % 2 * width
                moment = t * batch + b
                if t < time:
                    copy_row(pre, moment * pre.shape[2], X, now, pre.shape[2])
                advance(
                    traces,
                    Row(X, other),
                    Row(X, now),
                    alpha,
                    coefficients,
                    Row(Y, 0),
                    layout,
                    rule,
                    connection,
                    recursion,
                    t > 0,
                )
                if t == time:
                    break
                for j in range(size):
                    Y[j] += current[t, b, j]
                activate(Y, size, high, wide, unit)
                copy_row(signals, moment * signals.shape[2], base, 0, signals.shape[2])
                write_coefficients(eta[0], zero, modulator, Row(Y, 0), coefficients, layout, rule, recursion)
                copy_row(Y, 0, outputs, moment * size, size)
            rows_out(scratch, 0, width, last_trace, b)
            rows_out(scratch, stride, width, last_eligibility, b)

    return forward


def backward_kernel(connection, recursion):
    """The backward pass for one kind of alpha and of rule; see ``forward_kernel``."""

    @jit
    def backward(
        input_arrays,
        sequences,
        state,
        layer,
        options,
        high,
        stretch,
        output_arrays,
        grad_alpha,
        grad_eta,
        scratch,
        first,
        stop,
    ):
        grad_outputs, grad_last_trace, grad_last_eligibility, outputs = input_arrays
        pre, given_signals = sequences
        trace, eligibility = state
        alpha, eta = layer
        clip, trace_first, forgets, modulated, unit = options
        grad_pre, grad_current, grad_signals, grad_trace, grad_eligibility = output_arrays
        time, batch, size = outputs.shape
        wide = lanes(alpha)
        rows = (size + ROWS - 1) // ROWS * ROWS
        senders, signal_size = pre.shape[2], given_signals.shape[2]
        width = (senders + wide - 1) // wide * wide
        dtype = alpha.dtype
        zero = dtype.type(0)
        layout, rule = (
            Layout(rows, width, high, wide),
            Rule(dtype.type(clip), trace_first, forgets, modulated),
        )
        alphas = Alpha(alpha, grad_alpha)
        stretches = (time + stretch - 1) // stretch
        # One extra register, so that equal positions of several traces do not share a cache set.
        stride = rows * width + wide
        recent, of_h = stretches * stride, (stretches + stretch) * stride
        sample = of_h + stride
        # Rows of a few arrays, since compiling many arrays is slow.
        X, steps = np.zeros((time + 2) * width, dtype), np.zeros((6, time * high), dtype)
        Y, D, keep, gain, rates, signals = steps[0], steps[1], steps[2], steps[3], steps[4], steps[5]
        into, next_into = X[time * width : (time + 1) * width], X[(time + 1) * width :]
        units = np.zeros((7, high), dtype)
        sums = Sums(units[0], units[1], units[2], units[3])
        of_post, of_signal, fan = units[4], units[5], units[6]
        traces, gradient = Traces(scratch, 0, sample), Traces(scratch, of_h, sample + of_h)
        for b in range(first, stop):
            # Clear the padding too: it must not carry a NaN from one sample to the next.
            for place in (0, of_h, sample, sample + of_h):
                if place < sample or recursion == RETROACTIVE:
                    clear(scratch, place, stride)
            for t in range(time):
                n, moment = t * high, t * batch + b
                copy_row(pre, moment * senders, X, t * width, senders)
                copy_row(outputs, moment * size, Y, n, size)
                copy_row(given_signals, moment * signal_size, signals, n, signal_size)
                modulator = Modulator(fan, zero, fan, signals[n : n + high], 0)
                of_step = Coefficients(keep, gain, rates, n)
                write_coefficients(eta[0], zero, modulator, Row(Y, n), of_step, layout, rule, recursion)
            rows_in(trace, b, scratch, 0, width)
            rows_in(grad_last_trace, b, scratch, of_h, width)
            rows_in(eligibility, b, scratch, sample, width)
            rows_in(grad_last_eligibility, b, scratch, sample + of_h, width)
            start_coefficients = Coefficients(keep, gain, rates, 0)
            remake(traces, traces, stride, Row(X, 0), start_coefficients, stretches, stretch, layout, rule, recursion)
            for part in range(stretches - 1, -1, -1):
                start, end = part * stretch, min(time, (part + 1) * stretch)
                begin, to = (
                    Traces(scratch, part * stride, sample + part * stride),
                    Traces(scratch, recent, sample + recent),
                )
                of_step = Coefficients(keep, gain, rates, start * high)
                remake(begin, to, stride, Row(X, start * width), of_step, end - start, 1, layout, rule, recursion)
                for t in range(end - 1, start - 1, -1):
                    n, h, moment = t * high, recent + (t - start) * stride, t * batch + b
                    undo(
                        Traces(scratch, h, sample + h), gradient, Row(X, t * width), Coefficients(keep, gain, rates, n),
                        D, alphas, Row(into, 0), Row(next_into, 0), sums, layout, rule,
                        connection, recursion, t + 1 < time,
                    )  # fmt: skip
                    if t + 1 < time:
                        copy_row(into, 0, grad_pre, (moment + batch) * senders, senders)
                    into, next_into = next_into, into
                    modulator = Modulator(fan, zero, fan, signals[n : n + high], 0)
                    grad_eta[b] += undo_rates(
                        sums, Row(Y, n), zero, eta[0], modulator, of_post, of_signal, layout, rule, recursion
                    )
                    copy_row(of_signal, 0, grad_signals, moment * signal_size, signal_size)
                    for j in range(size):
                        of_post[j] += grad_outputs[t, b, j]
                    undo_units(Y, n, of_post, D, high, wide, unit)
                    copy_row(D, n, grad_current, moment * size, size)
            undo_first(
                traces,
                gradient,
                Row(X, 0),
                start_coefficients,
                D,
                alphas,
                Row(into, 0),
                sums,
                layout,
                connection,
                recursion,
            )
            copy_row(into, 0, grad_pre, b * senders, senders)
            rows_out(scratch, of_h, width, grad_trace, b)
            rows_out(scratch, sample + of_h, width, grad_eligibility, b)

    return backward
