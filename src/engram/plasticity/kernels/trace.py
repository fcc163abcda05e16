"""What the numba kernels share: a step of a rule and its derivative, and passes over the trace of one sample.

A step t has a presynaptic row X[t], coefficients keep, gain and rates of every receiving unit, and the traces H(t-1)
and E(t-1) before it; ``rnn.cpu`` tells the recursion and its derivative. The fixed weights are left to the caller, and
all else that units do: a kernel is what it makes of these passes, step by step. A rule without a bound has an infinite
one.

Traces are [post, pre], row by row, in rows of whole registers: ``rows`` of them with ``width`` numbers each. What there
is for every receiving unit has ``high`` numbers, at least ``rows``. Places in memory are numbers.
"""

from __future__ import annotations

import numpy as np

from engram.numeric.jit import inline
from engram.numeric.simd import (
    ROWS,
    add_rows,
    clamp,
    held_share,
    load,
    load_rows,
    magnitude,
    mask01,
    repeat,
    splat,
    splat_rows,
    store,
    store_rows,
    store_totals,
    total,
    where_within,
    with_sign,
)
from engram.plasticity.kernels.codes import ADDITIVE, LINEAR, NOTHING, OJA, RETROACTIVE, SHARE, SIGMOID, SOFT, TANH


@inline
def stepped(H, E, keep, gain, m, x, bound, recursion, clipped, trace_first):
    """Return the traces after a step, H and E, and what the bound of H was given."""
    increment = gain * x
    later = E
    if recursion == RETROACTIVE:
        later = keep * E + increment
        free = H + m * (later if trace_first else E)
    elif recursion == SOFT:
        free = H - magnitude(increment) * H + increment
    elif recursion == ADDITIVE:
        free = H + increment
    else:
        free = keep * H + increment
    return (clamp(free, bound) if clipped else free), later, free


@inline
def modulation(v, v0, Y, y, width, wide, squash):
    """Return M, the neuromodulatory signal before it fans out."""
    products = splat(v0 - v0)
    for i in range(0, width, wide):
        products = products + load(v, i) * load(Y, y + i)
    current = v0 + total(products)
    if squash == TANH:
        current = type(v0)(np.tanh(current))
    elif squash == SIGMOID:
        current = type(v0)(1 / (1 + np.exp(-current)))
    return current


@inline
def coefficients(eta, signal, fan, base, Y, y, keep, gain, rates, place, width, wide, recursion, modulated, forgets):
    """Write keep, gain and m of every row."""
    one, own, M = splat(type(eta)(1)), splat(eta), splat(signal)
    for j in range(0, width, wide):
        m = M * load(fan, j) + load(base, j) if modulated else own
        m = held_share(m) if forgets == SHARE else m
        post = load(Y, y + j)
        store(rates, place + j, m)
        m = own if recursion == RETROACTIVE else m
        store(gain, place + j, m * post)
        forgotten = m * post * post if forgets == OJA else m
        store(keep, place + j, one if forgets == NOTHING else one - forgotten)


@inline
def undo_rates(
    q, s, r, Z, z, signal, eta, fan, base, of_post, of_signal, high, wide, recursion, modulated, forgets
):  # fmt: skip
    """Write the gradients of the postsynaptic activity Z and of the signal of every unit; return that of eta."""
    none, two, own, M = splat(type(eta)(0)), splat(type(eta)(2)), splat(eta), splat(signal)
    of_eta = none
    for j in range(0, high, wide):
        post, of_gain, of_keep = load(Z, z + j), load(q, j), load(s, j)
        m = M * load(fan, j) + load(base, j) if modulated and recursion != RETROACTIVE else own
        held = held_share(m) if forgets == SHARE else m
        to_post, of_rate = held * of_gain, post * of_gain
        if forgets == OJA:
            to_post = to_post - two * m * post * of_keep
            of_rate = of_rate - post * post * of_keep
        elif forgets != NOTHING:
            of_rate = of_rate - of_keep
        if forgets == SHARE:
            of_rate = mask01(m, of_rate)
        if recursion == RETROACTIVE or not modulated:
            of_eta = of_eta + of_rate
        store(of_post, j, to_post)
        store(of_signal, j, load(r, j) if recursion == RETROACTIVE else of_rate)
    return total(of_eta)


@inline
def undo_modulation(
    of_signal, signal, v, fan, sources, source, of_sources, at, width, wide, squash,
    grad_v, grad_v0, grad_fan, grad_base, b,
):  # fmt: skip
    """Undo a neuromodulator in a step: add to the gradients of its parameters, and to that of what it reads."""
    M, of_M, own = splat(signal), splat(type(signal)(0)), b * width
    for j in range(0, width, wide):
        of_m = load(of_signal, j)
        store(grad_fan, own + j, load(grad_fan, own + j) + M * of_m)
        store(grad_base, own + j, load(grad_base, own + j) + of_m)
        of_M = of_M + load(fan, j) * of_m
    of_current = total(of_M)
    if squash == TANH:
        of_current *= type(signal)(1) - signal * signal
    elif squash == SIGMOID:
        of_current *= signal * (type(signal)(1) - signal)
    grad_v0[b] += of_current
    for j in range(0, width, wide):
        store(grad_v, own + j, load(grad_v, own + j) + splat(of_current) * load(sources, source + j))
        store(of_sources, at + j, load(of_sources, at + j) + splat(of_current) * load(v, j))


@inline
def copy_in(values, padded, place):
    """Copy a row of numbers to where there is padding behind it."""
    for i in range(values.size):
        padded[place + i] = values[i]


@inline
def copy_out(padded, place, values):
    """Copy a row of numbers from where there is padding behind it."""
    for i in range(values.size):
        values[i] = padded[place + i]


@inline
def fetch(values, a, b, first, size, padded, place):
    """Copy values[a, b, first:first + size] to where there is padding behind it, without the cost of a view."""
    for i in range(size):
        padded[place + i] = values[a, b, first + i]


@inline
def deliver(padded, place, values, a, b, first, size):
    """Copy to values[a, b, first:first + size] from where there is padding behind it."""
    for i in range(size):
        values[a, b, first + i] = padded[place + i]


@inline
def rows_in(values, b, padded, place, width):
    """Copy the traces of sample b, if there are any, to where every row has padding behind it."""
    for j in range(values.shape[1]):
        fetch(values, b, j, 0, values.shape[2], padded, place + j * width)


@inline
def rows_out(padded, place, width, values, b):
    """Copy the traces of sample b, if there are any, from where every row has padding behind it."""
    for j in range(values.shape[1]):
        deliver(padded, place + j * width, values, b, j, 0, values.shape[2])


@inline
def clear(values, start, stop, wide):
    """Set whole registers of numbers to zero."""
    for i in range(start, stop, wide):
        store(values, i, splat(values.dtype.type(0)))


@inline
def advance(
    memory, h, e, X, before, after, alpha, keep, gain, rates, n, current, c,
    rows, width, wide, bound, connection, recursion, trace_first, update,
):  # fmt: skip
    """Make the step of a rule, unless it is not to ``update``; then write sum_i alpha[j, i] H[j, i] after[i]."""
    none = repeat(splat(X.dtype.type(0)))
    for j in range(0, rows, ROWS):
        k, g, m = splat_rows(keep, n + j), splat_rows(gain, n + j), splat_rows(rates, n + j)
        plastic = none
        for i in range(0, width, wide):
            p = j * width + i
            H = load_rows(memory, h + p, width)
            if update:
                E = load_rows(memory, e + p, width) if recursion == RETROACTIVE else none
                H, E, _ = stepped(H, E, k, g, m, load(X, before + i), bound, recursion, True, trace_first)
                store_rows(memory, h + p, width, H)
                if recursion == RETROACTIVE:
                    store_rows(memory, e + p, width, E)
            if connection:
                plastic = plastic + load_rows(alpha, p, width) * H * load(X, after + i)
            else:
                plastic = plastic + H * load(X, after + i)
        store_totals(current, c + j, plastic if connection else splat_rows(alpha, j) * plastic)


@inline
def remake(
    memory, h, e, to, to_e, stride, X, x, keep, gain, rates, n, parts, every,
    rows, width, high, wide, bound, recursion, trace_first,
):  # fmt: skip
    """Make the traces anew from the activities, and write those before each of the parts, of ``every`` steps."""
    none = repeat(splat(X.dtype.type(0)))
    for j in range(0, rows, ROWS):
        for i in range(0, width, wide):
            p = j * width + i
            H, E = load_rows(memory, h + p, width), none
            if recursion == RETROACTIVE:
                E = load_rows(memory, e + p, width)
            for part in range(parts):
                store_rows(memory, to + part * stride + p, width, H)
                if recursion == RETROACTIVE:
                    store_rows(memory, to_e + part * stride + p, width, E)
                if part + 1 < parts:
                    for t in range(part * every, (part + 1) * every):
                        o = n + t * high + j
                        k, g, m = splat_rows(keep, o), splat_rows(gain, o), splat_rows(rates, o)
                        pre = load(X, x + t * width + i)
                        H, E, _ = stepped(H, E, k, g, m, pre, bound, recursion, True, trace_first)


@inline
def undo(
    memory, h, e, of_h, of_e, X, x, keep, gain, rates, n, D, alpha, grad_alpha, into_after, into, y, q, s, r, a,
    rows, width, high, wide, bound, connection, recursion, trace_first, product,
):  # fmt: skip
    """Undo the product of the step after this one, if there is a ``product``, and then the rule of this one.

    The gradients of the traces turn from those of what the bound was given in the step after to those of this one.
    """
    none = repeat(splat(X.dtype.type(0)))
    later = n + high
    clear(into, y, y + width, wide)
    for j in range(0, rows, ROWS):
        k, g, m = splat_rows(keep, n + j), splat_rows(gain, n + j), splat_rows(rates, n + j)
        later_keep, later_gain, delta, scaled = none, none, none, none
        if product:
            later_keep, later_gain = splat_rows(keep, later + j), splat_rows(gain, later + j)
            delta = splat_rows(D, later + j)
            if not connection:
                scaled = splat_rows(alpha, j) * delta
        sum_q, sum_s, sum_r, sum_a = none, none, none, none
        for i in range(0, width, wide):
            p, pre = j * width + i, load(X, x + i)
            H, E, grad = load_rows(memory, h + p, width), none, load_rows(memory, of_h + p, width)
            if recursion == RETROACTIVE:
                E = load_rows(memory, e + p, width)
            reached, later_e, free = stepped(H, E, k, g, m, pre, bound, recursion, True, trace_first)
            if product:
                after = load(X, x + width + i)
                if recursion == LINEAR:
                    grad = later_keep * grad
                elif recursion == SOFT:
                    grad = grad - magnitude(later_gain * after) * grad
                if connection:
                    scaled = load_rows(alpha, p, width) * delta
                    store_rows(grad_alpha, p, width, load_rows(grad_alpha, p, width) + delta * after * reached)
                else:
                    sum_a = sum_a + reached * after
                grad = grad + scaled * after
                store(into_after, y + i, add_rows(load(into_after, y + i), scaled * reached))
            grad = where_within(free, bound, grad)
            store_rows(memory, of_h + p, width, grad)
            if recursion == RETROACTIVE:
                of_E = load_rows(memory, of_e + p, width)
                if trace_first:
                    of_E = of_E + m * grad
                    sum_r = sum_r + grad * later_e
                    store_rows(memory, of_e + p, width, k * of_E)
                else:
                    sum_r = sum_r + grad * E
                    store_rows(memory, of_e + p, width, k * of_E + m * grad)
                grad = of_E
                sum_s = sum_s + grad * E
            elif recursion == SOFT:
                grad = grad - with_sign(grad, g * pre) * H
            else:
                sum_s = sum_s + grad * H
            sum_q = sum_q + grad * pre
            store(into, y + i, add_rows(load(into, y + i), grad * g))
        store_totals(q, j, sum_q)
        store_totals(s, j, sum_s)
        if recursion == RETROACTIVE:
            store_totals(r, j, sum_r)
        if not connection:
            store_totals(a, j, sum_a)
    if product and not connection:
        for j in range(0, high, wide):
            store(grad_alpha, j, load(grad_alpha, j) + load(D, later + j) * load(a, j))


@inline
def undo_first(
    memory, h, of_h, X, x, keep, gain, n, D, alpha, grad_alpha, into, y, a,
    rows, width, high, wide, connection, recursion,
):  # fmt: skip
    """Undo the product of the first step, after its rule."""
    none = repeat(splat(X.dtype.type(0)))
    for j in range(0, rows, ROWS):
        k, g, delta = splat_rows(keep, n + j), splat_rows(gain, n + j), splat_rows(D, n + j)
        scaled, sum_a = splat_rows(alpha, j) * delta if not connection else none, none
        for i in range(0, width, wide):
            p, pre = j * width + i, load(X, x + i)
            H, grad = load_rows(memory, h + p, width), load_rows(memory, of_h + p, width)
            if recursion == LINEAR:
                grad = k * grad
            elif recursion == SOFT:
                grad = grad - magnitude(g * pre) * grad
            if connection:
                scaled = load_rows(alpha, p, width) * delta
                store_rows(grad_alpha, p, width, load_rows(grad_alpha, p, width) + delta * pre * H)
            else:
                sum_a = sum_a + H * pre
            store_rows(memory, of_h + p, width, grad + scaled * pre)
            store(into, y + i, add_rows(load(into, y + i), scaled * H))
        if not connection:
            store_totals(a, j, sum_a)
    if not connection:
        for j in range(0, high, wide):
            store(grad_alpha, j, load(grad_alpha, j) + load(D, n + j) * load(a, j))
