"""The plastic recurrent scan as numba kernels: one sample after another, its trace in cache through all its steps.

The trace H is [post j, pre i], stored tile by tile; ``trace`` defines a step of the rule, with x the activity before a
step and y the activity after it.

In the forward pass, one sweep over H computes the update of a step and the product of the next step with the weights.

In the backward pass, the traces are recomputed from the stored activities, and so without any product: first those at
the beginning of every stretch of about sqrt(T) steps, then, from the last stretch to the first, those within it.
Without a bound, a stretch needs one multiplication per step. Only the output of the forward pass is stored. With G the
gradient with respect to the argument of clip in a step, and d the gradient with respect to the current that reaches the
units,

    q[j] = sum_i G[j, i] x[i],    s[j] = sum_i G[j, i] H[j, i]                are the gradients of gain and keep,
    sum_j gain[j] G[j, i] + sum_j (W + alpha H)[j, i] d[j]                    is the gradient of x, and
    keep[j] G[j, i] + alpha[j, i] x[i] d[j]                                   that of H.

One sweep computes the last two of a step together with the sums of the step before. The gradient of alpha, the sum of
H x d, is collected stretch by stretch. While a stretch fits the cache, multiplications take most of the time, twelve
per connection and step; larger stretches are limited by memory traffic.

Names are those of ``trace``. A matrix has ``size`` rows and columns; ``tiles`` holds it in rows of ``width`` numbers,
and ``wide`` is the numbers in a register.

Samples are independent, and sums over them are left to the caller or computed in fixed groups: the result is the same,
bit by bit, for any number of threads.

Source: the equations are those of Miconi, Clune and Stanley (2018) and Miconi et al. (2019); the derivatives and their
arrangement are ours.
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
    magnitude,
    repeat,
    section,
    splat,
    splat_rows,
    store,
    store_rows,
    store_totals,
    tanh,
    total,
    where_positive,
    where_within,
    with_sign,
)
from engram.plasticity.kernels.constants import ADDITIVE, HEBB, LINEAR, RETROACTIVE, SOFT
from engram.plasticity.kernels.trace import (
    Coefficients,
    Layout,
    Modulator,
    ModulatorGradients,
    Row,
    Rule,
    Sums,
    at_unit,
    modulation,
    stepped,
    undo_modulation,
    undo_rates,
    write_coefficients,
)


@inline
def matrix_in(values, b, size, tiles, width, wide):
    """Copy matrix b of several into tiles, in the order in which ``load_rows(tiles, place, wide)`` reads them."""
    vector_size = size // wide * wide
    for j in range(size):
        place, row = j // ROWS * ROWS * width + j % ROWS * wide, (b * size + j) * size
        for i in range(0, vector_size, wide):
            store(tiles, place + ROWS * i, load(values, row + i))
        copy_row(values, row + vector_size, tiles, place + ROWS * vector_size, size - vector_size)


@inline
def matrix_out(tiles, width, wide, values, b, size):
    """Copy a matrix from tiles to matrix b of several."""
    vector_size = size // wide * wide
    for j in range(size):
        place, row = j // ROWS * ROWS * width + j % ROWS * wide, (b * size + j) * size
        for i in range(0, vector_size, wide):
            store(values, row + i, load(tiles, place + ROWS * i))
        copy_row(tiles, place + ROWS * vector_size, values, row + vector_size, size - vector_size)


@inline
def undo_units(
    grad_outputs, received, mask, post, into, sums, current, signal, eta, modulator, of_post, of_signal,
    layout, rule, recursion, is_relu, grad_drive, gradients, t, b,
):  # fmt: skip
    """Undo the units' part of a step: the rates of the rule, the neuromodulator, the activation.

    ``into`` is the gradient of their activity ``post``, to which the rule and the neuromodulator add. ``current`` and
    ``grad_drive`` receive the gradients of the current that reaches the units and of the external input.
    """
    _, batch, size = grad_outputs.shape
    copy_row(grad_outputs, (t * batch + b) * size, received, 0, size)
    for j in range(0, layout.width, layout.lanes):
        store(into, j, load(into, j) + load(received, j))
    gradients.eta[b] += undo_rates(sums, post, signal, eta, modulator, of_post, of_signal, layout, rule, recursion)
    for j in range(0, layout.width, layout.lanes):
        store(into, j, load(into, j) + load(of_post, j))
    if rule.modulated:
        undo_modulation(of_signal, signal, modulator, post, Row(into, 0), layout, gradients, b)
    one = splat(type(eta)(1))
    for j in range(0, layout.width, layout.lanes):
        y, grad = load(post.values, post.at + j), load(into, j)
        store(current.values, current.at + j, where_positive(y, grad) if is_relu else grad * (one - y * y))
    copy_row(current.values, current.at, grad_drive, (t * batch + b) * size, size)
    for j in range(mask.shape[2]):
        if mask[t, b, j]:
            grad_drive[t, b, j] = into[j]
            current.values[current.at + j] = 0


def forward_kernel(connection, recursion, clipped):
    """The forward pass for one kind of alpha and of rule."""

    @jit
    def forward(drive, state, layer, options, output_arrays, scratch, first, stop):
        mask, hidden, trace, eligibility = state
        weight, alpha, eta, v, v0, fan, base = layer
        clip, trace_first, forgets, is_relu, modulated, squash = options
        outputs, last_trace, last_eligibility = output_arrays
        time, batch, size = drive.shape
        width, wide = fan.size, lanes(fan)
        rows = weight.size // width
        dtype = weight.dtype
        zero = repeat(splat(dtype.type(0)))
        layout, modulator = Layout(rows, width, width, wide), Modulator(v, v0[0], fan, base, squash)
        rule = Rule(dtype.type(clip), trace_first, forgets, modulated)
        H, E = scratch[: rows * width], scratch[rows * width :]
        # Parts of one array, since compiling many arrays is slow.
        units = np.zeros(7 * width, dtype)
        Y, current, external = (
            section(units, 0, 2 * width),
            section(units, 2 * width, width),
            section(units, 3 * width, width),
        )
        keeps, gains = section(units, 4 * width, width), section(units, 5 * width, width)
        coefficients = Coefficients(keeps, gains, section(units, 6 * width, width), 0)
        for b in range(first, stop):
            # Clear the padding too: it must not carry a NaN from one sample to the next.
            clear(scratch, 0, scratch.size)
            clear(Y, 0, Y.size)
            copy_row(hidden, b * size, Y, width, size)
            matrix_in(trace, b, size, H, width, wide)
            if recursion == RETROACTIVE:
                matrix_in(eligibility, b, size, E, width, wide)
            for t in range(time + 1):
                # The rule of the previous step (none at first), and the product of this one.
                x, y = t % 2 * width, (t + 1) % 2 * width
                for j in range(0, rows, ROWS):
                    keep, gain, m = at_unit(coefficients, j)
                    reached, plastic = zero, zero
                    for i in range(0, width, wide):
                        p, after = j * width + ROWS * i, load(Y, y + i)
                        h = load_rows(H, p, wide)
                        if t > 0:
                            e = load_rows(E, p, wide) if recursion == RETROACTIVE else zero
                            h, e, _ = stepped(h, e, keep, gain, m, load(Y, x + i), rule, recursion, clipped)
                            store_rows(H, p, wide, h)
                            if recursion == RETROACTIVE:
                                store_rows(E, p, wide, e)
                        if connection:
                            h = load_rows(weight, p, wide) + load_rows(alpha, p, wide) * h
                            reached = reached + h * after
                        else:
                            reached = reached + load_rows(weight, p, wide) * after
                            plastic = plastic + h * after
                    if not connection:
                        # Alpha is the same for a whole row.
                        reached = reached + splat_rows(alpha, j) * plastic
                    store_totals(current, j, reached)
                if t == time:
                    break
                copy_row(drive, (t * batch + b) * size, external, 0, size)
                for j in range(0, width, wide):
                    value = load(current, j) + load(external, j)
                    store(Y, x + j, where_positive(value, value) if is_relu else tanh(value))
                for j in range(mask.shape[2]):
                    if mask[t, b, j]:
                        Y[x + j] = drive[t, b, j]
                signal = modulation(modulator, Row(Y, x), layout) if modulated else v0[0]
                write_coefficients(eta[0], signal, modulator, Row(Y, x), coefficients, layout, rule, recursion)
                copy_row(Y, x, outputs, (t * batch + b) * size, size)
            matrix_out(H, width, wide, last_trace, b, size)
            if recursion == RETROACTIVE:
                matrix_out(E, width, wide, last_eligibility, b, size)

    return forward


def backward_kernel(connection, recursion, clipped):
    """The backward pass for one kind of alpha and of rule; see ``forward_kernel``."""
    # Without a bound, several steps of the recursion can be computed at once.
    free_linear = int(not clipped and recursion in (LINEAR, HEBB, ADDITIVE))
    decays = int(recursion in (LINEAR, HEBB))
    # Undoing a step of the rule needs the trace before it, except for these rules, which only need the one after it.
    after_only = int(not clipped and recursion in (HEBB, ADDITIVE))

    @jit
    def backward(
        input_arrays, state, layer, options, stretch, output_arrays, grad_alpha, of_modulator, scratch, first, stop
    ):
        grad_outputs, grad_last_trace, grad_last_eligibility, outputs = input_arrays
        mask, hidden, trace, eligibility = state
        weight, alpha, eta, v, v0, fan, base = layer
        clip, trace_first, forgets, is_relu, modulated, squash = options
        grad_drive, grad_hidden, grad_trace, grad_eligibility = output_arrays
        grad_eta, grad_v, grad_v0, grad_fan, grad_base = of_modulator
        time, batch, size = outputs.shape
        width, wide = fan.size, lanes(fan)
        rows = weight.size // width
        dtype = weight.dtype
        zero = splat(dtype.type(0))
        zero_tile = repeat(zero)
        layout, modulator = Layout(rows, width, width, wide), Modulator(v, v0[0], fan, base, squash)
        rule = Rule(dtype.type(clip), trace_first, forgets, modulated)
        gradients = ModulatorGradients(grad_eta, grad_v, grad_v0, grad_fan, grad_base)
        stretches = (time + stretch - 1) // stretch
        # One extra register, so that equal positions of several traces do not share a cache set.
        stride = rows * width + wide
        starts, history = (
            section(scratch, 0, stretches * stride),
            section(scratch, stretches * stride, (stretch + 1) * stride),
        )
        G = section(scratch, (stretches + stretch + 1) * stride, stride)
        early, recent, F = G, G, G
        if recursion == RETROACTIVE:
            later = (stretches + stretch + 2) * stride
            early, recent = section(scratch, later, starts.size), section(scratch, later + starts.size, history.size)
            F = section(scratch, later + starts.size + history.size, stride)
        # Parts of two arrays, since compiling many arrays is slow.
        long = time * width
        steps, units = np.zeros(6 * long + width + stretches * width + time, dtype), np.zeros(9 * width, dtype)
        Y, D, keep = (
            section(steps, 0, long + width),
            section(steps, long + width, long),
            section(steps, 2 * long + width, long),
        )
        gain, rates = section(steps, 3 * long + width, long), section(steps, 4 * long + width, long)
        end_gain, end_share = (
            section(steps, 5 * long + width, long),
            section(steps, 6 * long + width, stretches * width),
        )
        signals = section(steps, 6 * long + width + stretches * width, time)
        q, s, r = section(units, 0, width), section(units, width, width), section(units, 2 * width, width)
        sums = Sums(q, s, r, q)
        of_post, of_signal = section(units, 3 * width, width), section(units, 4 * width, width)
        into, rule_into = section(units, 5 * width, width), section(units, 6 * width, width)
        next_into, received = section(units, 7 * width, width), section(units, 8 * width, width)
        clear(grad_alpha, 0, grad_alpha.size)
        for b in range(first, stop):
            # Clear the padding too: it must not carry a NaN from one sample to the next.
            clear(starts, 0, stride)
            clear(early, 0, stride)
            clear(G, 0, stride)
            clear(F, 0, stride)
            copy_row(hidden, b * size, Y, 0, size)
            for t in range(time):
                y = (t + 1) * width
                copy_row(outputs, (t * batch + b) * size, Y, y, size)
                signals[t] = modulation(modulator, Row(Y, y), layout) if modulated else v0[0]
                of_step = Coefficients(keep, gain, rates, t * width)
                write_coefficients(eta[0], signals[t], modulator, Row(Y, y), of_step, layout, rule, recursion)
            matrix_in(trace, b, size, starts, width, wide)
            matrix_in(grad_last_trace, b, size, G, width, wide)
            if recursion == RETROACTIVE:
                matrix_in(eligibility, b, size, early, width, wide)
                matrix_in(grad_last_eligibility, b, size, F, width, wide)
            if free_linear:
                # The fractions of each increment in a stretch, and of the trace before it, that remain at its end.
                for part in range(1, stretches):
                    for j in range(0, width, wide):
                        remaining = splat(dtype.type(1))
                        for t in range(part * stretch - 1, (part - 1) * stretch - 1, -1):
                            store(end_gain, t * width + j, remaining * load(gain, t * width + j))
                            remaining = remaining * load(keep, t * width + j)
                        store(end_share, part * width + j, remaining)
            for j in range(0, rows, ROWS):
                for i in range(0, width, wide):
                    p = j * width + ROWS * i
                    h, e = load_rows(starts, p, wide), zero_tile
                    if recursion == RETROACTIVE:
                        e = load_rows(early, p, wide)
                    for part in range(1, stretches):
                        if free_linear:
                            h = splat_rows(end_share, part * width + j) * h
                        for t in range((part - 1) * stretch, part * stretch):
                            n, x = t * width + j, load(Y, t * width + i)
                            if free_linear:
                                h = h + splat_rows(end_gain, n) * x
                            else:
                                k, g, m = splat_rows(keep, n), splat_rows(gain, n), splat_rows(rates, n)
                                h, e, _ = stepped(h, e, k, g, m, x, rule, recursion, clipped)
                        store_rows(starts, part * stride + p, wide, h)
                        if recursion == RETROACTIVE:
                            store_rows(early, part * stride + p, wide, e)
            # Before a step is undone, `into` holds what later steps add to the gradient of its activity y, and
            # `rule_into` what its own rule adds to that of the activity x before it.
            clear(into, 0, width)
            clear(rule_into, 0, width)
            for part in range(stretches - 1, -1, -1):
                begin, end = part * stretch, min(time, (part + 1) * stretch)
                for j in range(0, rows, ROWS):
                    for i in range(0, width, wide):
                        p = j * width + ROWS * i
                        h, e = load_rows(starts, part * stride + p, wide), zero_tile
                        if recursion == RETROACTIVE:
                            e = load_rows(early, part * stride + p, wide)
                        for t in range(begin, end):
                            n, o, x = t * width + j, (t - begin) * stride + p, load(Y, t * width + i)
                            store_rows(history, o, wide, h)
                            if recursion == RETROACTIVE:
                                store_rows(recent, o, wide, e)
                            k, g, m = splat_rows(keep, n), splat_rows(gain, n), splat_rows(rates, n)
                            h, e, _ = stepped(h, e, k, g, m, x, rule, recursion, clipped)
                        if after_only:
                            store_rows(history, (end - begin) * stride + p, wide, h)
                for t in range(end - 1, begin - 1, -1):
                    # The current trace is the one before step t. The sweep undoes the product of step t + 1, if there
                    # is one, and then the rule of step t, so that G and F move from step t + 1 to step t.
                    product = t + 1 < time
                    clear(next_into, 0, width)
                    forgotten = zero_tile
                    for j in range(0, rows, ROWS):
                        n = t * width + j
                        k, g, m = splat_rows(keep, n), splat_rows(gain, n), splat_rows(rates, n)
                        later_keep, later_gain, delta, a = zero_tile, zero_tile, zero_tile, zero_tile
                        if product:
                            n += width
                            later_keep, later_gain, delta = splat_rows(keep, n), splat_rows(gain, n), splat_rows(D, n)
                        if not connection:
                            a = splat_rows(alpha, j)
                        sum_q, sum_s, sum_r = zero_tile, zero_tile, zero_tile
                        for i in range(0, width, wide):
                            p, x = j * width + ROWS * i, load(Y, t * width + i)
                            o = (t - begin) * stride + p
                            grad = load_rows(G, p, wide)
                            if after_only:
                                reached = load_rows(history, o + stride, wide)
                            else:
                                h, e = load_rows(history, o, wide), zero_tile
                                if recursion == RETROACTIVE:
                                    e = load_rows(recent, o, wide)
                                reached, new, free = stepped(h, e, k, g, m, x, rule, recursion, clipped)
                            if product:
                                after = load(Y, t * width + width + i)
                                if recursion == HEBB:
                                    # The sum of s of the next step; only the rate needs it, so it can wait.
                                    forgotten = forgotten + grad * reached
                                if decays:
                                    grad = later_keep * grad
                                elif recursion == SOFT:
                                    grad = grad - magnitude(later_gain * after) * grad
                                if connection:
                                    a = load_rows(alpha, p, wide)
                                grad = grad + a * (after * delta)
                                sent = (load_rows(weight, p, wide) + a * reached) * delta
                                store(rule_into, i, add_rows(load(rule_into, i), sent))
                            if clipped:
                                grad = where_within(free, splat(rule.clip), grad)
                            store_rows(G, p, wide, grad)
                            if recursion == RETROACTIVE:
                                of_e = load_rows(F, p, wide)
                                if trace_first:
                                    of_e = of_e + m * grad
                                    sum_r = sum_r + grad * new
                                    store_rows(F, p, wide, k * of_e)
                                else:
                                    sum_r = sum_r + grad * e
                                    store_rows(F, p, wide, k * of_e + m * grad)
                                grad = of_e
                                sum_s = sum_s + grad * e
                            elif recursion == SOFT:
                                grad = grad - with_sign(grad, g * x) * h
                            elif recursion == LINEAR:
                                sum_s = sum_s + grad * h
                            sum_q = sum_q + grad * x
                            store(next_into, i, add_rows(load(next_into, i), grad * g))
                        store_totals(q, j, sum_q)
                        store_totals(s, j, sum_s)
                        if recursion == RETROACTIVE:
                            store_totals(r, j, sum_r)
                    if recursion == HEBB:
                        grad_eta[b] -= total(add_rows(zero, forgotten))
                    if product:
                        into, rule_into, next_into = rule_into, next_into, into
                    else:
                        rule_into, next_into = next_into, rule_into
                    undo_units(
                        grad_outputs, received, mask, Row(Y, (t + 1) * width), into, sums, Row(D, t * width),
                        signals[t], eta[0], modulator, of_post, of_signal, layout, rule, recursion, is_relu,
                        grad_drive, gradients, t, b,
                    )  # fmt: skip
                for j in range(0, rows, ROWS):
                    for i in range(0, width, wide):
                        p = j * width + ROWS * i
                        collected = load_rows(grad_alpha, p, wide)
                        for t in range(begin, end):
                            h = load_rows(history, (t - begin) * stride + p, wide)
                            collected = collected + h * (splat_rows(D, t * width + j) * load(Y, t * width + i))
                        store_rows(grad_alpha, p, wide, collected)
            forgotten = zero_tile
            for j in range(0, rows, ROWS):
                k, g, delta = splat_rows(keep, j), splat_rows(gain, j), splat_rows(D, j)
                a = zero_tile if connection else splat_rows(alpha, j)
                for i in range(0, width, wide):
                    p, after = j * width + ROWS * i, load(Y, i)
                    h, grad = load_rows(starts, p, wide), load_rows(G, p, wide)
                    if recursion == HEBB:
                        forgotten = forgotten + grad * h
                    if decays:
                        grad = k * grad
                    elif recursion == SOFT:
                        grad = grad - magnitude(g * after) * grad
                    if connection:
                        a = load_rows(alpha, p, wide)
                    store_rows(G, p, wide, grad + a * (after * delta))
                    sent = (load_rows(weight, p, wide) + a * h) * delta
                    store(rule_into, i, add_rows(load(rule_into, i), sent))
            copy_row(rule_into, 0, grad_hidden, b * size, size)
            if recursion == HEBB:
                grad_eta[b] -= total(add_rows(zero, forgotten))
            matrix_out(G, width, wide, grad_trace, b, size)
            if recursion == RETROACTIVE:
                matrix_out(F, width, wide, grad_eligibility, b, size)

    return backward
