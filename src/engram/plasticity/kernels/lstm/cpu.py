"""The plastic LSTM's scan as numba kernels: a few samples side by side, step by step, so that they share the weights.

The passes of ``trace`` run over the trace of a sample, with x = h(t-1) and the postsynaptic activity that the options
select. What the fixed weights send to the four gates of a block of samples is one product per step, and so is what they
send back; the weights are stored in panels, one register of columns wide, that are read from beginning to end.

The forward pass keeps the gates and the cell of every step. With primes for gradients, a step is undone by

    o' = h' tanh(c),   c' += h' o (1 - tanh(c)^2),   f' = c' c(t-1),   i' = c' g,   g' += c' i,   c'(t-1) = c' f

after the rule and the neuromodulator have added their gradients to g', to that of the current r, to c' or to h'.

In the products, ``panels`` holds the matrix in ``count`` panels of ``rows`` rows, ``x`` and ``o`` are the places at
which the samples begin in ``X`` and ``out``, ``stride`` and ``out_stride`` the distances between samples, and ``wide``
the numbers in a register. A name with ``of_`` is a gradient; ``of_taken`` is that of g, and ``of_current`` that of r,
from the rule.

Source: the equations are those of Miconi et al. (2019); the derivatives and their arrangement are ours.
"""

from __future__ import annotations

import numpy as np

from engram.numeric.jit import inline, jit
from engram.numeric.simd import (
    ROWS,
    add_rows,
    clear,
    copy_row,
    lanes,
    load,
    load_rows,
    sigmoid,
    splat,
    splat_rows,
    store,
    tanh,
)
from engram.plasticity.kernels.constants import BLOCK, CELL, HIDDEN, INPUT, RECURRENT, RETROACTIVE
from engram.plasticity.kernels.trace import (
    Alpha,
    Coefficients,
    Layout,
    Modulator,
    ModulatorGradients,
    Row,
    Rule,
    Sums,
    Traces,
    advance,
    modulation,
    remake,
    rows_in,
    rows_out,
    undo,
    undo_first,
    undo_modulation,
    undo_rates,
    write_coefficients,
)


@inline
def multiply(panels, count, rows, X, x, stride, out, o, out_stride, wide):
    """Write the products of a matrix in panels with the rows X of four samples: out[c] = sum_r matrix[r, c] X[r]."""
    zero = splat(X.dtype.type(0))
    for panel in range(count):
        first, second, third, fourth = zero, zero, zero, zero
        for r in range(0, rows, ROWS):
            part = load_rows(panels, (panel * rows + r) * wide, wide)
            first = add_rows(first, part * splat_rows(X, x + r))
            second = add_rows(second, part * splat_rows(X, x + stride + r))
            third = add_rows(third, part * splat_rows(X, x + 2 * stride + r))
            fourth = add_rows(fourth, part * splat_rows(X, x + 3 * stride + r))
        place = o + panel * wide
        store(out, place, first)
        store(out, place + out_stride, second)
        store(out, place + 2 * out_stride, third)
        store(out, place + 3 * out_stride, fourth)


@inline
def multiply_one(panels, count, rows, X, x, out, o, wide):
    """Write the product of a matrix in panels with the row of one sample."""
    for panel in range(count):
        reached = splat(X.dtype.type(0))
        for r in range(0, rows, ROWS):
            reached = add_rows(reached, load_rows(panels, (panel * rows + r) * wide, wide) * splat_rows(X, x + r))
        store(out, o + panel * wide, reached)


def forward_kernel(connection, recursion):
    """The forward pass for one kind of alpha and of rule."""

    @jit
    def forward(drive, state, layer, options, output_arrays, scratch, first, stop):
        hidden, cell, trace, eligibility = state
        panels, alpha, eta, v, v0, fan, base = layer
        clip, trace_first, forgets, modulated, squash, post, from_cell = options
        outputs, last_cell, last_trace, last_eligibility, cells, gates, currents = output_arrays
        time, batch, size = outputs.shape
        width, wide = fan.size, lanes(fan)
        rows = (size + ROWS - 1) // ROWS * ROWS
        dtype = fan.dtype
        layout, modulator = Layout(rows, width, width, wide), Modulator(v, v0[0], fan, base, squash)
        rule = Rule(dtype.type(clip), trace_first, forgets, modulated)
        # One extra register, so that equal positions of several traces do not share a cache set.
        stride = rows * width + wide
        row = BLOCK * width
        # Rows of a few arrays, since compiling many arrays is slow.
        X, A = np.zeros(2 * row, dtype), np.zeros(4 * row, dtype)
        shared = np.zeros((5, row), dtype)
        C, plastic = shared[0], shared[1]
        for begin in range(first, stop, BLOCK):
            count = min(BLOCK, stop - begin)
            # Clear the padding too: it must not carry a NaN from one sample to the next.
            clear(scratch, 0, scratch.size)
            clear(X, 0, X.size)
            clear(C, 0, C.size)
            clear(plastic, 0, plastic.size)
            for k in range(count):
                b, h = begin + k, k * stride
                e = (BLOCK + k) * stride
                copy_row(hidden, b * size, X, k * width, size)
                copy_row(cell, b * size, C, k * width, size)
                rows_in(trace, b, scratch, h, width)
                rows_in(eligibility, b, scratch, e, width)
            for t in range(time + 1):
                # The rule of the previous step (none at first), and the products of this one.
                now, other = t % 2 * row, (t + 1) % 2 * row
                if count == 1 and t < time:
                    multiply_one(panels, 4 * width // wide, rows, X, now, A, 0, wide)
                elif t < time:
                    multiply(panels, 4 * width // wide, rows, X, now, width, A, 0, 4 * width, wide)
                for k in range(count):
                    n = k * width
                    traces = Traces(scratch, k * stride, (BLOCK + k) * stride)
                    coefficients = Coefficients(shared[2], shared[3], shared[4], n)
                    before, after, reached = Row(X, other + n), Row(X, now + n), Row(plastic, n)
                    advance(
                        traces, before, after, alpha, coefficients, reached, layout, rule, connection, recursion, t > 0
                    )
                if t == time:
                    break
                for k in range(count):
                    b, n, a = begin + k, k * width, 4 * k * width
                    moment = (t * batch + b) * size
                    for j in range(0, width, wide):
                        recurrent = load(A, a + 2 * width + j) + load(plastic, n + j)
                        store(plastic, n + j, recurrent)
                        store(A, a + 2 * width + j, recurrent)
                    for gate in range(4):
                        for j in range(size):
                            A[a + gate * width + j] += drive[t, b, gate * size + j]
                    for j in range(0, width, wide):
                        admit, forget = sigmoid(load(A, a + j)), sigmoid(load(A, a + width + j))
                        candidate, emit = tanh(load(A, a + 2 * width + j)), sigmoid(load(A, a + 3 * width + j))
                        inside = forget * load(C, n + j) + admit * candidate
                        store(C, n + j, inside)
                        store(X, other + n + j, emit * tanh(inside))
                        store(A, a + j, admit)
                        store(A, a + width + j, forget)
                        store(A, a + 2 * width + j, candidate)
                        store(A, a + 3 * width + j, emit)
                    signal = v0[0]
                    if modulated:
                        source = Row(C if from_cell else X, n if from_cell else other + n)
                        signal = modulation(modulator, source, layout)
                    # The rule's postsynaptic activity as an array and an index, so that no inner loop has to choose.
                    Z, z = A, a + 2 * width
                    if post == RECURRENT:
                        Z, z = plastic, n
                    elif post == CELL:
                        Z, z = C, n
                    elif post == HIDDEN:
                        Z, z = X, other + n
                    coefficients = Coefficients(shared[2], shared[3], shared[4], n)
                    write_coefficients(eta[0], signal, modulator, Row(Z, z), coefficients, layout, rule, recursion)
                    copy_row(X, other + n, outputs, moment, size)
                    copy_row(C, n, cells, moment, size)
                    if post == RECURRENT:
                        copy_row(plastic, n, currents, moment, size)
                    for gate in range(4):
                        copy_row(A, a + gate * width, gates, 4 * moment + gate * size, size)
            for k in range(count):
                b = begin + k
                copy_row(C, k * width, last_cell, b * size, size)
                rows_out(scratch, k * stride, width, last_trace, b)
                rows_out(scratch, (BLOCK + k) * stride, width, last_eligibility, b)

    return forward


@inline
def undo_units(gates, cell, of_hidden, of_cell, of_taken, of_current, current, of_gates, layout):
    """Undo the gates and the cell in a step: turn the gradients of h and c into those of the gates and of c(t-1).

    ``cell`` begins with the cell state before the step, and the one after it follows.
    """
    C, width, n, o = cell.values, layout.width, of_cell.at, of_gates.at
    one = splat(gates.dtype.type(1))
    for j in range(0, width, layout.lanes):
        admit, forget, candidate = load(gates, j), load(gates, width + j), load(gates, 2 * width + j)
        emit, reached = load(gates, 3 * width + j), tanh(load(C, cell.at + width + j))
        of_h = load(of_hidden.values, of_hidden.at + j)
        of_c = load(of_cell.values, n + j) + of_h * emit * (one - reached * reached)
        of_input = (of_c * admit + load(of_taken, j)) * (one - candidate * candidate)
        store(of_gates.values, o + j, of_c * candidate * admit * (one - admit))
        store(of_gates.values, o + width + j, of_c * load(C, cell.at + j) * forget * (one - forget))
        store(of_gates.values, o + 2 * width + j, of_input)
        store(of_gates.values, o + 3 * width + j, of_h * reached * emit * (one - emit))
        store(current.values, current.at + j, of_input + load(of_current, j))
        store(of_cell.values, n + j, of_c * forget)


def backward_kernel(connection, recursion):
    """The backward pass for one kind of alpha and of rule; see ``forward_kernel``."""

    @jit
    def backward(
        input_arrays, state, layer, options, stretch, output_arrays, grad_alpha, of_modulator, scratch, first, stop
    ):
        grad_outputs, grad_last_cell, grad_last_trace, grad_last_eligibility, outputs, cells, gates, posts = (
            input_arrays
        )
        hidden, cell, trace, eligibility = state
        panels, alpha, eta, v, v0, fan, base = layer
        clip, trace_first, forgets, modulated, squash, post, from_cell = options
        grad_drive, grad_current, grad_hidden, grad_cell, grad_trace, grad_eligibility = output_arrays
        grad_eta, grad_v, grad_v0, grad_fan, grad_base = of_modulator
        time, batch, size = outputs.shape
        width, wide = fan.size, lanes(fan)
        rows = (size + ROWS - 1) // ROWS * ROWS
        dtype = fan.dtype
        layout, modulator = Layout(rows, width, width, wide), Modulator(v, v0[0], fan, base, squash)
        rule = Rule(dtype.type(clip), trace_first, forgets, modulated)
        alphas, gradients = (
            Alpha(alpha, grad_alpha),
            ModulatorGradients(grad_eta, grad_v, grad_v0, grad_fan, grad_base),
        )
        stretches = (time + stretch - 1) // stretch
        stride = rows * width + wide
        # For every sample: the traces at the beginning of every stretch, those within one, and the gradient.
        sample = (stretches + stretch + 1) * stride
        pair = 2 * sample if recursion == RETROACTIVE else sample
        row, long = BLOCK * width, time * width
        # Rows of a few arrays, since compiling many arrays is slow.
        activities, steps = np.zeros((2, BLOCK * (long + width)), dtype), np.zeros((5, BLOCK * long), dtype)
        X, C = activities[0], activities[1]
        Z, D, keep, gain, rates = steps[0], steps[1], steps[2], steps[3], steps[4]
        A, of_gates, signals = np.zeros(4 * width, dtype), np.zeros(4 * row, dtype), np.zeros(BLOCK * time, dtype)
        sample_rows, block_rows = np.zeros((7, width), dtype), np.zeros((4, row), dtype)
        sums = Sums(sample_rows[0], sample_rows[1], sample_rows[2], sample_rows[3])
        of_post, of_signal, zero_row = sample_rows[4], sample_rows[5], sample_rows[6]
        sent, of_cell, into, next_into = block_rows[0], block_rows[1], block_rows[2], block_rows[3]
        for begin in range(first, stop, BLOCK):
            count = min(BLOCK, stop - begin)
            # Clear the padding too: it must not carry a NaN from one sample to the next.
            clear(of_gates, 0, of_gates.size)
            clear(sent, 0, sent.size)
            clear(of_cell, 0, of_cell.size)
            clear(into, 0, into.size)
            for k in range(count):
                b, x, n, offset = begin + k, k * (long + width), k * long, k * pair
                of_h = offset + (stretches + stretch) * stride
                clear(scratch, offset, stride)
                clear(scratch, of_h, stride)
                if recursion == RETROACTIVE:
                    clear(scratch, offset + sample, stride)
                    clear(scratch, of_h + sample, stride)
                copy_row(hidden, b * size, X, x, size)
                copy_row(cell, b * size, C, x, size)
                copy_row(grad_last_cell, b * size, of_cell, k * width, size)
                for t in range(time):
                    y, moment = x + (t + 1) * width, (t * batch + b) * size
                    copy_row(outputs, moment, X, y, size)
                    copy_row(cells, moment, C, y, size)
                    copy_row(posts, moment, Z, n + t * width, size)
                    signals[k * time + t] = v0[0]
                    if modulated:
                        signals[k * time + t] = modulation(modulator, Row(C if from_cell else X, y), layout)
                    of_step, z = Coefficients(keep, gain, rates, n + t * width), Row(Z, n + t * width)
                    write_coefficients(eta[0], signals[k * time + t], modulator, z, of_step, layout, rule, recursion)
                rows_in(trace, b, scratch, offset, width)
                rows_in(grad_last_trace, b, scratch, of_h, width)
                rows_in(eligibility, b, scratch, offset + sample, width)
                rows_in(grad_last_eligibility, b, scratch, of_h + sample, width)
                traces, of_step = Traces(scratch, offset, offset + sample), Coefficients(keep, gain, rates, n)
                remake(traces, traces, stride, Row(X, x), of_step, stretches, stretch, layout, rule, recursion)
            # Before a step is undone, `into` holds what the rule of the next step adds to the gradient of h, and `sent`
            # what its gates add.
            for part in range(stretches - 1, -1, -1):
                start, end = part * stretch, min(time, (part + 1) * stretch)
                for k in range(count):
                    h, to = k * pair + part * stride, k * pair + stretches * stride
                    x, n = k * (long + width) + start * width, k * long + start * width
                    traces, recent = Traces(scratch, h, h + sample), Traces(scratch, to, to + sample)
                    of_step = Coefficients(keep, gain, rates, n)
                    remake(traces, recent, stride, Row(X, x), of_step, end - start, 1, layout, rule, recursion)
                for t in range(end - 1, start - 1, -1):
                    for k in range(count):
                        b, x, n, y = begin + k, k * (long + width) + t * width, k * long + t * width, k * width
                        h, moment = k * pair + (stretches + t - start) * stride, (t * batch + b) * size
                        of_h = k * pair + (stretches + stretch) * stride
                        traces, gradient = Traces(scratch, h, h + sample), Traces(scratch, of_h, of_h + sample)
                        undo(
                            traces, gradient, Row(X, x), Coefficients(keep, gain, rates, n), D, alphas,
                            Row(into, y), Row(next_into, y), sums, layout, rule, connection, recursion, t + 1 < time,
                        )  # fmt: skip
                        for j in range(0, width, wide):
                            store(into, y + j, load(into, y + j) + load(sent, y + j))
                        for j in range(size):
                            into[y + j] += grad_outputs[t, b, j]
                        signal = signals[k * time + t]
                        grad_eta[b] += undo_rates(
                            sums, Row(Z, n), signal, eta[0], modulator, of_post, of_signal, layout, rule, recursion
                        )
                        if modulated:
                            source, of_source = (
                                Row(C if from_cell else X, x + width),
                                Row(of_cell if from_cell else into, y),
                            )
                            undo_modulation(of_signal, signal, modulator, source, of_source, layout, gradients, b)
                        if post in (CELL, HIDDEN):
                            to = of_cell if post == CELL else into
                            for j in range(0, width, wide):
                                store(to, y + j, load(to, y + j) + load(of_post, j))
                        for gate in range(4):
                            copy_row(gates, 4 * moment + gate * size, A, gate * width, size)
                        undo_units(
                            A, Row(C, x), Row(into, y), Row(of_cell, y), of_post if post == INPUT else zero_row,
                            of_post if post == RECURRENT else zero_row, Row(D, n), Row(of_gates, 4 * y), layout,
                        )  # fmt: skip
                        for gate in range(4):
                            copy_row(of_gates, 4 * y + gate * width, grad_drive, 4 * moment + gate * size, size)
                        if post == RECURRENT:
                            copy_row(D, n, grad_current, moment, size)
                            # The fixed weights of the cell input are behind its current, not behind its input.
                            copy_row(grad_current, moment, of_gates, 4 * y + 2 * width, size)
                    if count == 1:
                        multiply_one(panels, width // wide, 4 * width, of_gates, 0, sent, 0, wide)
                    else:
                        multiply(panels, width // wide, 4 * width, of_gates, 0, 4 * width, sent, 0, width, wide)
                    into, next_into = next_into, into
            for k in range(count):
                b, y, offset = begin + k, k * width, k * pair
                of_h = offset + (stretches + stretch) * stride
                traces, gradient = Traces(scratch, offset, offset + sample), Traces(scratch, of_h, of_h + sample)
                inputs, of_step = Row(X, k * (long + width)), Coefficients(keep, gain, rates, k * long)
                undo_first(
                    traces, gradient, inputs, of_step, D, alphas, Row(into, y), sums, layout, connection, recursion
                )
                for j in range(0, width, wide):
                    store(into, y + j, load(into, y + j) + load(sent, y + j))
                copy_row(into, y, grad_hidden, b * size, size)
                copy_row(of_cell, y, grad_cell, b * size, size)
                rows_out(scratch, of_h, width, grad_trace, b)
                rows_out(scratch, of_h + sample, width, grad_eligibility, b)

    return backward
