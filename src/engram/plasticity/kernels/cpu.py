"""The plastic recurrent scan as numba kernels, one sample after another, its trace in cache through the whole sequence.

Written with the trace H row by row as [post j, pre i], x the activity before a step and y after it, a step is

    H'[j, i] = clip(keep[j] H[j, i] + gain[j] x[i], -c, c)                             linear
    H'[j, i] = clip((1 - |d|) H[j, i] + d, -c, c),  d = gain[j] x[i]                   soft

Forward, one pass over H makes the update of a step and the product of the next step with the weights.

Backward, the traces are made anew from the activities, which are known, and so without any product: first those at
the beginning of every stretch of sqrt(T) steps, then, from the last stretch to the first, those within it. Nothing of
the forward pass but its output is stored. With G the gradient with respect to the unbounded H', d that with respect
to the current that reaches the units,

    q[j] = sum_i G[j, i] x[i]              s[j] = sum_i G[j, i] H[j, i]
    dx[i] = sum_j G[j, i] gain[j]  +  sum_j (W + alpha H)[j, i] d[j]
    dH[j, i] = keep[j] G[j, i] + alpha[j, i] x[i] d[j]

and one pass over H makes the last line of a step and the sums q and s of the step before. The gradient of alpha, which
is the sum of H x d over steps and samples, is collected at the end of every sample from traces made once more, held
in registers.

Samples are told apart by nothing but their number, and sums over them are left to the caller or made in fixed
groups: the result is the same, bit by bit, for any number of threads.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numba import njit

from engram.plasticity.kernels import simd
from engram.plasticity.kernels.simd import (
    clamp,
    load,
    magnitude,
    positive,
    share,
    splat,
    store,
    tanh,
    total,
    where_positive,
    where_share,
    where_within,
    with_sign,
)

NOTHING, SHARE, RATE, OJA = 0, 1, 2, 3  # what a step forgets: 0, m held within [0, 1], m, m y^2
IDENTITY, TANH, SIGMOID = 0, 1, 2  # nonlinearity of the neuromodulator
ROWS = 4  # of the trace that a pass takes at once, so that activities are loaded once for all of them

inline = njit(forceinline=True, error_model="numpy")


@inline
def updated(trace, keep, gain, x, bound, clipped, soft):
    """Return the trace after a step, and what it was before the bound."""
    increment = gain * x
    free = trace - magnitude(increment) * trace + increment if soft else keep * trace + increment
    return (clamp(free, bound) if clipped else free), free


@inline
def read(values, padded, offset):
    """Copy a row of numbers to where there is padding behind it."""
    for i in range(values.size):
        padded[offset + i] = values[i]


@inline
def read_trace(values, padded, width):
    """Copy a trace to where its rows are padded."""
    for j in range(values.shape[0]):
        for i in range(values.shape[1]):
            padded[j * width + i] = values[j, i]


@inline
def write_trace(padded, values, width):
    """Copy a trace from where its rows are padded."""
    for j in range(values.shape[0]):
        for i in range(values.shape[1]):
            values[j, i] = padded[j * width + i]


@inline
def activate(current, external, mask, y, offset, width, wide, is_tanh):
    """Write f(current), or, where clamped, what comes from outside."""
    for i in range(0, width, wide):
        value = load(current, i)
        store(y, offset + i, tanh(value) if is_tanh else positive(value))
    for i in range(mask.size):
        if mask[i]:
            y[offset + i] = external[i]


@inline
def modulation(v, v0, y, offset, width, wide, squash):
    """Return M, the neuromodulatory signal before it fans out."""
    products = splat(type(v0)(0))
    for i in range(0, width, wide):
        products = products + load(v, i) * load(y, offset + i)
    current = v0 + total(products)
    if squash == TANH:
        current = type(v0)(np.tanh(current))
    elif squash == SIGMOID:
        current = type(v0)(1 / (1 + np.exp(-current)))
    return current


@inline
def coefficients(eta, signal, fan, base, y, y_offset, keep, gain, offset, width, wide, modulated, forgets):
    """Write keep and gain of every row."""
    one, same, M = splat(type(eta)(1)), splat(eta), splat(signal)
    for j in range(0, width, wide):
        m = M * load(fan, j) + load(base, j) if modulated else same
        post = load(y, y_offset + j)
        if forgets == SHARE:
            m = share(m)
        store(gain, offset + j, m * post)
        if forgets == NOTHING:
            store(keep, offset + j, one)
        elif forgets == OJA:
            store(keep, offset + j, one - m * post * post)
        else:
            store(keep, offset + j, one - m)


@inline
def undo_row(
    H, G, place, weight, alpha, before, after, keep, gain, later_keep, later_gain, delta, into, next_into, q, s,
    bound, clipped, soft,
):  # fmt: skip
    """Undo, in one row, the product of a step and the rule of the step before it; see the head of this file."""
    bounded, free = updated(H, keep, gain, before, bound, clipped, soft)
    grad = load(G, place)
    grad = grad - magnitude(later_gain * after) * grad if soft else later_keep * grad
    grad = grad + alpha * (after * delta)
    into = into + (weight + alpha * bounded) * delta
    grad = where_within(free, bound, grad) if clipped else grad
    store(G, place, grad)
    direct = grad - with_sign(grad, gain * before) * H if soft else grad
    return into, next_into + direct * gain, q + direct * before, s + grad * H


@inline
def undo_units(
    grad_output, mask, Y, y, into, q, s, D, d, signal, eta, v, fan, base,
    width, wide, is_tanh, modulated, squash, forgets,
    grad_drive, grad_eta, grad_v, grad_v0, grad_fan, grad_base, b,
):  # fmt: skip
    """Undo what the units did in a step: the rates of the rule, the neuromodulator, the activation."""
    none, one, two, same, M = (
        splat(type(eta)(0)), splat(type(eta)(1)), splat(type(eta)(2)), splat(eta), splat(signal)
    )  # fmt: skip
    for j in range(grad_output.size):
        into[j] += grad_output[j]
    of_signal, of_eta = none, none
    for j in range(0, width, wide):
        post, of_gain, of_keep = load(Y, y + j), load(q, j), load(s, j)
        m = M * load(fan, j) + load(base, j) if modulated else same
        held = share(m) if forgets == SHARE else m
        of_post, of_rate = held * of_gain, post * of_gain
        if forgets == OJA:
            of_post = of_post - two * m * post * of_keep
            of_rate = of_rate - post * post * of_keep
        elif forgets != NOTHING:
            of_rate = of_rate - of_keep
        if forgets == SHARE:
            of_rate = where_share(m, of_rate)
        if modulated:
            store(grad_fan, j, load(grad_fan, j) + M * of_rate)
            store(grad_base, j, load(grad_base, j) + of_rate)
            of_signal = of_signal + load(fan, j) * of_rate
        else:
            of_eta = of_eta + of_rate
        store(into, j, load(into, j) + of_post)
    grad_eta[b] += total(of_eta)
    if modulated:
        slope = type(eta)(1)
        if squash == TANH:
            slope -= signal * signal
        elif squash == SIGMOID:
            slope = signal * (slope - signal)
        current = total(of_signal) * slope
        grad_v0[b] += current
        of_current = splat(current)
        for j in range(0, width, wide):
            store(grad_v, j, load(grad_v, j) + of_current * load(Y, y + j))
            store(into, j, load(into, j) + of_current * load(v, j))
    for j in range(0, width, wide):
        post, grad = load(Y, y + j), load(into, j)
        store(D, d + j, grad * (one - post * post) if is_tanh else where_positive(post, grad))
    for j in range(grad_drive.size):
        grad_drive[j] = D[d + j]
    for j in range(mask.size):
        if mask[j]:
            grad_drive[j] = into[j]
            D[d + j] = 0


def forward_kernel(connection, clipped, soft, version):
    """Return the forward pass for one kind of alpha and of recursion; ``version`` belongs to the key of the cache."""

    @njit(cache=True, nogil=True, error_model="numpy")
    def forward(
        drive, mask, hidden, trace, weight, alpha, eta, c, v, v0, fan, base,
        wide, is_tanh, modulated, squash, forgets, outputs, last_trace, first, stop,
    ):  # fmt: skip
        time, _, size = drive.shape
        width = fan.size
        rows = weight.size // width
        kind = weight.dtype.type
        zero, bound = splat(kind(0)), splat(kind(c))
        H = np.zeros(rows * width, weight.dtype)
        Y = np.zeros(2 * width, weight.dtype)
        keep, gain = np.zeros(width, weight.dtype), np.zeros(width, weight.dtype)
        current = np.zeros(width, weight.dtype)
        for b in range(first, stop):
            Y[:] = 0
            read(hidden[b], Y, width)
            read_trace(trace[b], H, width)
            for t in range(time + 1):
                # The update of this step (none at first) and the product of the next.
                x, y = t % 2 * width, (t + 1) % 2 * width
                for j in range(0, rows, ROWS):
                    p0 = j * width
                    p1, p2, p3 = p0 + width, p0 + 2 * width, p0 + 3 * width
                    k0, k1, k2, k3 = splat(keep[j]), splat(keep[j + 1]), splat(keep[j + 2]), splat(keep[j + 3])
                    g0, g1, g2, g3 = splat(gain[j]), splat(gain[j + 1]), splat(gain[j + 2]), splat(gain[j + 3])
                    s0, s1, s2, s3 = zero, zero, zero, zero
                    w0, w1, w2, w3 = zero, zero, zero, zero
                    for i in range(0, width, wide):
                        before, after = load(Y, x + i), load(Y, y + i)
                        h0, h1, h2, h3 = load(H, p0 + i), load(H, p1 + i), load(H, p2 + i), load(H, p3 + i)
                        if t > 0:
                            h0 = updated(h0, k0, g0, before, bound, clipped, soft)[0]
                            h1 = updated(h1, k1, g1, before, bound, clipped, soft)[0]
                            h2 = updated(h2, k2, g2, before, bound, clipped, soft)[0]
                            h3 = updated(h3, k3, g3, before, bound, clipped, soft)[0]
                            store(H, p0 + i, h0)
                            store(H, p1 + i, h1)
                            store(H, p2 + i, h2)
                            store(H, p3 + i, h3)
                        if t < time:
                            if connection:
                                w0 = w0 + (load(weight, p0 + i) + load(alpha, p0 + i) * h0) * after
                                w1 = w1 + (load(weight, p1 + i) + load(alpha, p1 + i) * h1) * after
                                w2 = w2 + (load(weight, p2 + i) + load(alpha, p2 + i) * h2) * after
                                w3 = w3 + (load(weight, p3 + i) + load(alpha, p3 + i) * h3) * after
                            else:
                                w0, s0 = w0 + load(weight, p0 + i) * after, s0 + h0 * after
                                w1, s1 = w1 + load(weight, p1 + i) * after, s1 + h1 * after
                                w2, s2 = w2 + load(weight, p2 + i) * after, s2 + h2 * after
                                w3, s3 = w3 + load(weight, p3 + i) * after, s3 + h3 * after
                    if connection:
                        current[j], current[j + 1] = total(w0), total(w1)
                        current[j + 2], current[j + 3] = total(w2), total(w3)
                    else:
                        current[j] = total(w0) + alpha[j] * total(s0)
                        current[j + 1] = total(w1) + alpha[j + 1] * total(s1)
                        current[j + 2] = total(w2) + alpha[j + 2] * total(s2)
                        current[j + 3] = total(w3) + alpha[j + 3] * total(s3)
                if t == time:
                    break
                for j in range(size):
                    current[j] += drive[t, b, j]
                activate(current, drive[t, b], mask[t, b], Y, x, width, wide, is_tanh)
                signal = modulation(v, v0[0], Y, x, width, wide, squash) if modulated else kind(0)
                coefficients(eta[0], signal, fan, base, Y, x, keep, gain, 0, width, wide, modulated, forgets)
                for j in range(size):
                    outputs[t, b, j] = Y[x + j]
            write_trace(H, last_trace[b], width)

    return forward


def backward_kernel(connection, clipped, soft, version):
    """Return the backward pass for one kind of alpha and of recursion; see ``forward_kernel``."""

    @njit(cache=True, nogil=True, error_model="numpy")
    def backward(
        grad_outputs, grad_last, outputs, mask, hidden, trace, weight, alpha, eta, c, v, v0, fan, base,
        wide, cached, is_tanh, modulated, squash, forgets,
        grad_drive, grad_hidden, grad_trace, grad_alpha, grad_eta, grad_v, grad_v0, grad_fan, grad_base,
        first, stop,
    ):  # fmt: skip
        time, _, size = outputs.shape
        width = fan.size
        rows = weight.size // width
        kind = weight.dtype.type
        zero, bound, one = splat(kind(0)), splat(kind(c)), kind(1)
        # One register more than a trace takes, so that equal places of several traces do not share a cache set.
        stride = rows * width + wide
        stretch = min(time, max(int(np.ceil(np.sqrt(time))), cached // stride))
        stretches = (time + stretch - 1) // stretch
        starts, history = np.zeros(stretches * stride, weight.dtype), np.zeros(stretch * stride, weight.dtype)
        G = np.zeros(rows * width, weight.dtype)
        Y, D = np.zeros((time + 1) * width, weight.dtype), np.zeros(time * width, weight.dtype)
        keep, gain = np.zeros(time * width, weight.dtype), np.zeros(time * width, weight.dtype)
        signals = np.zeros(time, weight.dtype)
        q, s = np.zeros(width, weight.dtype), np.zeros(width, weight.dtype)
        into, rule_into, next_into = (
            np.zeros(width, weight.dtype),
            np.zeros(width, weight.dtype),
            np.zeros(width, weight.dtype),
        )
        for b in range(first, stop):
            read(hidden[b], Y, 0)
            for t in range(time):
                y = (t + 1) * width
                read(outputs[t, b], Y, y)
                if modulated:
                    signals[t] = modulation(v, v0[0], Y, y, width, wide, squash)
                coefficients(
                    eta[0], signals[t], fan, base, Y, y, keep, gain, t * width, width, wide, modulated, forgets
                )
            read_trace(trace[b], starts, width)
            read_trace(grad_last[b], G, width)
            for j in range(0, rows, ROWS):
                for i in range(0, width, wide):
                    p0 = j * width + i
                    p1, p2, p3 = p0 + width, p0 + 2 * width, p0 + 3 * width
                    h0, h1, h2, h3 = load(starts, p0), load(starts, p1), load(starts, p2), load(starts, p3)
                    for part in range(1, stretches):
                        for t in range((part - 1) * stretch, part * stretch):
                            n = t * width + j
                            x = load(Y, t * width + i)
                            h0 = updated(h0, splat(keep[n]), splat(gain[n]), x, bound, clipped, soft)[0]
                            h1 = updated(h1, splat(keep[n + 1]), splat(gain[n + 1]), x, bound, clipped, soft)[0]
                            h2 = updated(h2, splat(keep[n + 2]), splat(gain[n + 2]), x, bound, clipped, soft)[0]
                            h3 = updated(h3, splat(keep[n + 3]), splat(gain[n + 3]), x, bound, clipped, soft)[0]
                        store(starts, part * stride + p0, h0)
                        store(starts, part * stride + p1, h1)
                        store(starts, part * stride + p2, h2)
                        store(starts, part * stride + p3, h3)
            into[:] = 0
            rule_into[:] = 0
            # Before a step t is undone, `into` holds what later steps add to the gradient of y(t), `rule_into` what
            # its rule adds to that of the activity before, and G the gradient of its unbounded trace.
            for part in range(stretches - 1, -1, -1):
                begin, end = part * stretch, min(time, (part + 1) * stretch)
                for j in range(0, rows, ROWS):
                    for i in range(0, width, wide):
                        p0 = j * width + i
                        p1, p2, p3 = p0 + width, p0 + 2 * width, p0 + 3 * width
                        o = part * stride
                        h0, h1 = load(starts, o + p0), load(starts, o + p1)
                        h2, h3 = load(starts, o + p2), load(starts, o + p3)
                        for t in range(begin, end):
                            o = (t - begin) * stride
                            store(history, o + p0, h0)
                            store(history, o + p1, h1)
                            store(history, o + p2, h2)
                            store(history, o + p3, h3)
                            n = t * width + j
                            x = load(Y, t * width + i)
                            h0 = updated(h0, splat(keep[n]), splat(gain[n]), x, bound, clipped, soft)[0]
                            h1 = updated(h1, splat(keep[n + 1]), splat(gain[n + 1]), x, bound, clipped, soft)[0]
                            h2 = updated(h2, splat(keep[n + 2]), splat(gain[n + 2]), x, bound, clipped, soft)[0]
                            h3 = updated(h3, splat(keep[n + 3]), splat(gain[n + 3]), x, bound, clipped, soft)[0]
                for t in range(end - 1, begin - 1, -1):
                    # The trace in hand is the one before step t. The pass undoes the product of the step after it,
                    # and then the rule of step t itself.
                    n, o, x = t * width, (t - begin) * stride, t * width
                    if t == time - 1:
                        for j in range(rows):
                            k, g = splat(keep[n + j]), splat(gain[n + j])
                            sum_q, sum_s = zero, zero
                            for i in range(0, width, wide):
                                p, before = j * width + i, load(Y, x + i)
                                h = load(history, o + p)
                                free = updated(h, k, g, before, bound, clipped, soft)[1]
                                grad = load(G, p)
                                grad = where_within(free, bound, grad) if clipped else grad
                                store(G, p, grad)
                                direct = grad - with_sign(grad, g * before) * h if soft else grad
                                sum_q, sum_s = sum_q + direct * before, sum_s + grad * h
                                store(rule_into, i, load(rule_into, i) + direct * g)
                            q[j], s[j] = total(sum_q), total(sum_s)
                    else:
                        next_into[:] = 0
                        for j in range(0, rows, ROWS):
                            m = n + j
                            k0, k1, k2, k3 = splat(keep[m]), splat(keep[m + 1]), splat(keep[m + 2]), splat(keep[m + 3])
                            g0, g1, g2, g3 = splat(gain[m]), splat(gain[m + 1]), splat(gain[m + 2]), splat(gain[m + 3])
                            m += width
                            l0, l1, l2, l3 = splat(keep[m]), splat(keep[m + 1]), splat(keep[m + 2]), splat(keep[m + 3])
                            f0, f1, f2, f3 = splat(gain[m]), splat(gain[m + 1]), splat(gain[m + 2]), splat(gain[m + 3])
                            d0, d1, d2, d3 = splat(D[m]), splat(D[m + 1]), splat(D[m + 2]), splat(D[m + 3])
                            a0, a1, a2, a3 = zero, zero, zero, zero
                            if not connection:
                                a0, a1, a2, a3 = (
                                    splat(alpha[j]), splat(alpha[j + 1]), splat(alpha[j + 2]), splat(alpha[j + 3])
                                )  # fmt: skip
                            q0, q1, q2, q3 = zero, zero, zero, zero
                            s0, s1, s2, s3 = zero, zero, zero, zero
                            for i in range(0, width, wide):
                                before, after = load(Y, x + i), load(Y, x + width + i)
                                p0 = j * width + i
                                p1, p2, p3 = p0 + width, p0 + 2 * width, p0 + 3 * width
                                if connection:
                                    a0, a1, a2, a3 = load(alpha, p0), load(alpha, p1), load(alpha, p2), load(alpha, p3)
                                u, w = load(rule_into, i), load(next_into, i)
                                u, w, q0, s0 = undo_row(
                                    load(history, o + p0), G, p0, load(weight, p0), a0, before, after,
                                    k0, g0, l0, f0, d0, u, w, q0, s0, bound, clipped, soft,
                                )  # fmt: skip
                                u, w, q1, s1 = undo_row(
                                    load(history, o + p1), G, p1, load(weight, p1), a1, before, after,
                                    k1, g1, l1, f1, d1, u, w, q1, s1, bound, clipped, soft,
                                )  # fmt: skip
                                u, w, q2, s2 = undo_row(
                                    load(history, o + p2), G, p2, load(weight, p2), a2, before, after,
                                    k2, g2, l2, f2, d2, u, w, q2, s2, bound, clipped, soft,
                                )  # fmt: skip
                                u, w, q3, s3 = undo_row(
                                    load(history, o + p3), G, p3, load(weight, p3), a3, before, after,
                                    k3, g3, l3, f3, d3, u, w, q3, s3, bound, clipped, soft,
                                )  # fmt: skip
                                store(rule_into, i, u)
                                store(next_into, i, w)
                            q[j], q[j + 1], q[j + 2], q[j + 3] = total(q0), total(q1), total(q2), total(q3)
                            s[j], s[j + 1], s[j + 2], s[j + 3] = total(s0), total(s1), total(s2), total(s3)
                        into, rule_into, next_into = rule_into, next_into, into
                    undo_units(
                        grad_outputs[t, b], mask[t, b], Y, x + width, into, q, s, D, n,
                        signals[t], eta[0], v, fan, base, width, wide, is_tanh, modulated, squash, forgets,
                        grad_drive[t, b], grad_eta, grad_v[b], grad_v0, grad_fan[b], grad_base[b], b,
                    )  # fmt: skip
                for j in range(0, rows, ROWS):
                    for i in range(0, width, wide):
                        p0 = j * width + i
                        p1, p2, p3 = p0 + width, p0 + 2 * width, p0 + 3 * width
                        a0, a1 = load(grad_alpha, p0), load(grad_alpha, p1)
                        a2, a3 = load(grad_alpha, p2), load(grad_alpha, p3)
                        for t in range(begin, end):
                            n, o, x = t * width + j, (t - begin) * stride, load(Y, t * width + i)
                            a0 = a0 + load(history, o + p0) * (x * splat(D[n]))
                            a1 = a1 + load(history, o + p1) * (x * splat(D[n + 1]))
                            a2 = a2 + load(history, o + p2) * (x * splat(D[n + 2]))
                            a3 = a3 + load(history, o + p3) * (x * splat(D[n + 3]))
                        store(grad_alpha, p0, a0)
                        store(grad_alpha, p1, a1)
                        store(grad_alpha, p2, a2)
                        store(grad_alpha, p3, a3)
            for j in range(rows):
                k, g, d = splat(keep[j]), splat(gain[j]), splat(D[j])
                a = zero if connection else splat(alpha[j])
                for i in range(0, width, wide):
                    p, after = j * width + i, load(Y, i)
                    a = load(alpha, p) if connection else a
                    grad = load(G, p)
                    grad = (grad - magnitude(g * after) * grad if soft else k * grad) + a * (after * d)
                    store(G, p, grad)
                    store(rule_into, i, load(rule_into, i) + (load(weight, p) + a * load(starts, p)) * d)
            write_trace(G, grad_trace[b], width)
            for i in range(size):
                grad_hidden[b, i] = rule_into[i]

    return backward


@cache
def kernel(direction: str, connection: bool, clipped: bool, soft: bool) -> Any:
    """Return the compiled pass, ``"forward"`` or ``"backward"``, for one kind of alpha and of recursion."""
    make = {"forward": forward_kernel, "backward": backward_kernel}[direction]
    # numba's cache on disk looks at this file only; what it takes from the other is therefore part of the key.
    return make(int(connection), int(clipped), int(soft), crc32(Path(simd.__file__).read_bytes()))
