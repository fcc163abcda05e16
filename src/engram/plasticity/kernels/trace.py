"""The common part of the numba kernels: a step of a rule and its derivative, and passes over the trace of one sample.

With the presynaptic activity x, and the coefficients keep, gain and m of every receiving unit (those of
``PlasticityRule``: keep is 1 - D, gain is M z, m the rate or the signal), a step is

    H'[j, i] = clip(keep[j] H[j, i] + gain[j] x[i])                           linear
    H'[j, i] = clip((1 - |d|) H[j, i] + d),  d = gain[j] x[i]                 soft
    H'[j, i] = clip(H[j, i] + m[j] E[j, i])                                   retroactive, or with E' if so asked,
    E'[j, i] = keep[j] E[j, i] + gain[j] x[i]                                 where E is the eligibility trace

and ``rnn.cpu`` defines its derivative, with

    q[j] = sum_i G[j, i] x[i],    s[j] = sum_i G[j, i] H[j, i],    r[j] = sum_i G[j, i] E[j, i]

the gradients of gain, keep and m, and a[j] = sum_i H'[j, i] x'[i] that of an alpha for each unit. To undo a step is to
compute the gradients of its inputs from those of its results. The caller applies the fixed weights and computes the
units: each kernel combines these passes step by step. A rule without a bound has an infinite one.

Traces are [post, pre], row by row, in rows of whole registers. Memory is flat, and a place in it is an index.

Arguments have the same meaning in all passes. ``layout``, ``rule``, ``modulator``, ``coefficients``, ``traces``,
``alpha`` and ``sums`` are described at their classes. ``recursion`` is the form of the step above, ``connection`` says
whether alpha has an entry for each connection instead of each unit, and ``clipped`` whether traces have a bound; all
three are known at compile time. ``signal`` is M, and ``eta`` the trained rate. ``pre`` and ``post`` are rows of
activities, ``before`` and ``after`` those on both sides of a step. A name with ``of_`` is a gradient, ``D`` holds those
of the currents, and ``into`` receives that of the presynaptic activity. ``b`` is the index of a sample, ``j`` that of a
receiving unit, and ``place`` where a row begins in ``padded``, an array with rows of whole registers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engram.numeric.jit import inline
from engram.numeric.simd import (
    ROWS,
    add_rows,
    clamp,
    clamp01,
    clear,
    copy_row,
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
from engram.plasticity.kernels.constants import ADDITIVE, LINEAR, NOTHING, OJA, RETROACTIVE, SHARE, SIGMOID, SOFT, TANH


class Layout(NamedTuple):
    """Rows and width of a padded trace, the padded number of units (at least ``rows``), and the size of a register."""

    rows: int
    width: int
    high: int
    lanes: int


class Rule(NamedTuple):
    """A rule in the codes of ``constants``; its recursion is known when a kernel is compiled, and passed separately."""

    clip: float
    trace_first: bool
    forgets: int
    modulated: bool


class Modulator(NamedTuple):
    """A neuromodulator, M = f(v . y + v0), m = fan M + base."""

    v: Any
    v0: float
    fan: Any
    base: Any
    squash: int


class ModulatorGradients(NamedTuple):
    """Gradients of eta and of a neuromodulator, for every sample."""

    eta: Any
    v: Any
    v0: Any
    fan: Any
    base: Any


class Coefficients(NamedTuple):
    """Coefficients of the units in successive steps; those of the current step begin at ``at``."""

    keep: Any
    gain: Any
    rate: Any
    at: int


class Row(NamedTuple):
    """One number for each unit, beginning at the place ``at`` in memory."""

    values: Any
    at: int


class Traces(NamedTuple):
    """The places at which H and E begin in memory."""

    memory: Any
    H: int
    E: int


class Alpha(NamedTuple):
    """Plasticity coefficients, of every connection or of every unit, and their gradients."""

    values: Any
    gradient: Any


class Sums(NamedTuple):
    """The sums of a step over the sending units; see the module."""

    q: Any
    s: Any
    r: Any
    a: Any


@inline
def stepped(H, E, keep, gain, m, x, rule, recursion, clipped):
    """The traces after a step, H and E, and the value of H before its bound."""
    increment = gain * x
    later = E
    if recursion == RETROACTIVE:
        later = keep * E + increment
        free = H + m * (later if rule.trace_first else E)
    elif recursion == SOFT:
        free = H - magnitude(increment) * H + increment
    elif recursion == ADDITIVE:
        free = H + increment
    else:
        free = keep * H + increment
    return (clamp(free, splat(rule.clip)) if clipped else free), later, free


@inline
def modulation(modulator, post, layout):
    """M, the neuromodulatory signal before it fans out."""
    v0 = modulator.v0
    products = splat(v0 - v0)
    for i in range(0, layout.high, layout.lanes):
        products = products + load(modulator.v, i) * load(post.values, post.at + i)
    current = v0 + total(products)
    if modulator.squash == TANH:
        current = type(v0)(np.tanh(current))
    elif modulator.squash == SIGMOID:
        current = type(v0)(1 / (1 + np.exp(-current)))
    return current


@inline
def write_coefficients(eta, signal, modulator, post, out, layout, rule, recursion):
    """Write keep, gain and m of every unit."""
    one, trained_rate, M = splat(type(eta)(1)), splat(eta), splat(signal)
    for j in range(0, layout.high, layout.lanes):
        m = M * load(modulator.fan, j) + load(modulator.base, j) if rule.modulated else trained_rate
        m = clamp01(m) if rule.forgets == SHARE else m
        y = load(post.values, post.at + j)
        store(out.rate, out.at + j, m)
        m = trained_rate if recursion == RETROACTIVE else m
        store(out.gain, out.at + j, m * y)
        forgotten = m * y * y if rule.forgets == OJA else m
        store(out.keep, out.at + j, one if rule.forgets == NOTHING else one - forgotten)


@inline
def undo_rates(sums, post, signal, eta, modulator, of_post, of_signal, layout, rule, recursion):
    """Write the gradients of the postsynaptic activity and of the signal of every unit; return that of eta."""
    zero, two, trained_rate, M = splat(type(eta)(0)), splat(type(eta)(2)), splat(eta), splat(signal)
    of_eta = zero
    for j in range(0, layout.high, layout.lanes):
        y, of_gain, of_keep = load(post.values, post.at + j), load(sums.q, j), load(sums.s, j)
        by_signal = rule.modulated and recursion != RETROACTIVE
        m = M * load(modulator.fan, j) + load(modulator.base, j) if by_signal else trained_rate
        share = clamp01(m) if rule.forgets == SHARE else m
        to_post, of_rate = share * of_gain, y * of_gain
        if rule.forgets == OJA:
            to_post = to_post - two * m * y * of_keep
            of_rate = of_rate - y * y * of_keep
        elif rule.forgets != NOTHING:
            of_rate = of_rate - of_keep
        if rule.forgets == SHARE:
            of_rate = mask01(m, of_rate)
        if recursion == RETROACTIVE or not rule.modulated:
            of_eta = of_eta + of_rate
        store(of_post, j, to_post)
        store(of_signal, j, load(sums.r, j) if recursion == RETROACTIVE else of_rate)
    return total(of_eta)


@inline
def undo_modulation(of_signal, signal, modulator, source, of_source, layout, gradients, b):
    """Undo a neuromodulator in a step: add to the gradients of its parameters and of its input."""
    M, of_M, row = splat(signal), splat(type(signal)(0)), b * layout.high
    for j in range(0, layout.high, layout.lanes):
        of_m = load(of_signal, j)
        store(gradients.fan, row + j, load(gradients.fan, row + j) + M * of_m)
        store(gradients.base, row + j, load(gradients.base, row + j) + of_m)
        of_M = of_M + load(modulator.fan, j) * of_m
    of_current = total(of_M)
    if modulator.squash == TANH:
        of_current *= type(signal)(1) - signal * signal
    elif modulator.squash == SIGMOID:
        of_current *= signal * (type(signal)(1) - signal)
    gradients.v0[b] += of_current
    for j in range(0, layout.high, layout.lanes):
        signal_grad = splat(of_current) * load(source.values, source.at + j)
        store(gradients.v, row + j, load(gradients.v, row + j) + signal_grad)
        place = of_source.at + j
        store(of_source.values, place, load(of_source.values, place) + splat(of_current) * load(modulator.v, j))


@inline
def rows_in(values, b, padded, place, width):
    """Copy the traces of sample b, if there are any, to an array with padded rows."""
    for j in range(values.shape[1]):
        size = values.shape[2]
        copy_row(values, (b * values.shape[1] + j) * size, padded, place + j * width, size)


@inline
def rows_out(padded, place, width, values, b):
    """Copy the traces of sample b, if there are any, from an array with padded rows."""
    for j in range(values.shape[1]):
        size = values.shape[2]
        copy_row(padded, place + j * width, values, (b * values.shape[1] + j) * size, size)


@inline
def at_unit(coefficients, j):
    """keep, gain and m of four units from unit j on."""
    place = coefficients.at + j
    return (
        splat_rows(coefficients.keep, place),
        splat_rows(coefficients.gain, place),
        splat_rows(coefficients.rate, place),
    )


@inline
def advance(traces, before, after, alpha, coefficients, current, layout, rule, connection, recursion, update):
    """Apply the rule if ``update``; then write sum_i alpha[j, i] H[j, i] after[i]."""
    memory, (X, x), width = traces.memory, after, layout.width
    zero = repeat(splat(X.dtype.type(0)))
    for j in range(0, layout.rows, ROWS):
        keep, gain, m = at_unit(coefficients, j)
        plastic = zero
        for i in range(0, width, layout.lanes):
            p = j * width + i
            H = load_rows(memory, traces.H + p, width)
            if update:
                E = load_rows(memory, traces.E + p, width) if recursion == RETROACTIVE else zero
                H, E, _ = stepped(H, E, keep, gain, m, load(before.values, before.at + i), rule, recursion, True)
                store_rows(memory, traces.H + p, width, H)
                if recursion == RETROACTIVE:
                    store_rows(memory, traces.E + p, width, E)
            if connection:
                plastic = plastic + load_rows(alpha, p, width) * H * load(X, x + i)
            else:
                plastic = plastic + H * load(X, x + i)
        if not connection:
            plastic = splat_rows(alpha, j) * plastic
        store_totals(current.values, current.at + j, plastic)


@inline
def remake(traces, to, stride, pre, coefficients, parts, every, layout, rule, recursion):
    """Recompute the traces from the activities, and write those before each of ``parts`` parts of ``every`` steps."""
    memory, width, high = traces.memory, layout.width, layout.high
    zero = repeat(splat(pre.values.dtype.type(0)))
    for j in range(0, layout.rows, ROWS):
        for i in range(0, width, layout.lanes):
            p = j * width + i
            H, E = load_rows(memory, traces.H + p, width), zero
            if recursion == RETROACTIVE:
                E = load_rows(memory, traces.E + p, width)
            for part in range(parts):
                store_rows(memory, to.H + part * stride + p, width, H)
                if recursion == RETROACTIVE:
                    store_rows(memory, to.E + part * stride + p, width, E)
                if part + 1 < parts:
                    for t in range(part * every, (part + 1) * every):
                        keep, gain, m = at_unit(coefficients, t * high + j)
                        x = load(pre.values, pre.at + t * width + i)
                        H, E, _ = stepped(H, E, keep, gain, m, x, rule, recursion, True)


@inline
def undo(
    traces, gradient, pre, coefficients, D, alpha, into_after, into, sums, layout, rule, connection, recursion, product
):
    """Undo the product of the next step, if there is a ``product``, and then the rule of this step.

    On entry ``gradient`` holds the gradients of the traces before their bound in the next step, on return those in
    this step; D holds the gradients of the currents that reach the units.
    """
    memory, (X, x), width, high = traces.memory, pre, layout.width, layout.high
    zero = repeat(splat(X.dtype.type(0)))
    later = coefficients.at + high
    clear(into.values, into.at, width)
    for j in range(0, layout.rows, ROWS):
        keep, gain, m = at_unit(coefficients, j)
        later_keep, later_gain, delta, scaled = zero, zero, zero, zero
        if product:
            later_keep, later_gain, _ = at_unit(coefficients, high + j)
            delta = splat_rows(D, later + j)
            if not connection:
                scaled = splat_rows(alpha.values, j) * delta
        sum_q, sum_s, sum_r, sum_a = zero, zero, zero, zero
        for i in range(0, width, layout.lanes):
            p, now = j * width + i, load(X, x + i)
            H, E, grad = load_rows(memory, traces.H + p, width), zero, load_rows(memory, gradient.H + p, width)
            if recursion == RETROACTIVE:
                E = load_rows(memory, traces.E + p, width)
            reached, later_e, free = stepped(H, E, keep, gain, m, now, rule, recursion, True)
            if product:
                after = load(X, x + width + i)
                if recursion == LINEAR:
                    grad = later_keep * grad
                elif recursion == SOFT:
                    grad = grad - magnitude(later_gain * after) * grad
                if connection:
                    scaled = load_rows(alpha.values, p, width) * delta
                    of_alpha = load_rows(alpha.gradient, p, width) + delta * after * reached
                    store_rows(alpha.gradient, p, width, of_alpha)
                else:
                    sum_a = sum_a + reached * after
                grad = grad + scaled * after
                place = into_after.at + i
                store(into_after.values, place, add_rows(load(into_after.values, place), scaled * reached))
            grad = where_within(free, splat(rule.clip), grad)
            store_rows(memory, gradient.H + p, width, grad)
            if recursion == RETROACTIVE:
                of_E = load_rows(memory, gradient.E + p, width)
                if rule.trace_first:
                    of_E = of_E + m * grad
                    sum_r = sum_r + grad * later_e
                    store_rows(memory, gradient.E + p, width, keep * of_E)
                else:
                    sum_r = sum_r + grad * E
                    store_rows(memory, gradient.E + p, width, keep * of_E + m * grad)
                grad = of_E
                sum_s = sum_s + grad * E
            elif recursion == SOFT:
                grad = grad - with_sign(grad, gain * now) * H
            else:
                sum_s = sum_s + grad * H
            sum_q = sum_q + grad * now
            store(into.values, into.at + i, add_rows(load(into.values, into.at + i), grad * gain))
        store_totals(sums.q, j, sum_q)
        store_totals(sums.s, j, sum_s)
        if recursion == RETROACTIVE:
            store_totals(sums.r, j, sum_r)
        if not connection:
            store_totals(sums.a, j, sum_a)
    if product and not connection:
        add_alpha(alpha, D, later, sums, layout)


@inline
def undo_first(traces, gradient, pre, coefficients, D, alpha, into, sums, layout, connection, recursion):
    """Undo the product of the first step, after its rule."""
    memory, width = traces.memory, layout.width
    zero = repeat(splat(pre.values.dtype.type(0)))
    for j in range(0, layout.rows, ROWS):
        keep, gain, _ = at_unit(coefficients, j)
        delta = splat_rows(D, coefficients.at + j)
        scaled, sum_a = splat_rows(alpha.values, j) * delta if not connection else zero, zero
        for i in range(0, width, layout.lanes):
            p, x = j * width + i, load(pre.values, pre.at + i)
            H, grad = load_rows(memory, traces.H + p, width), load_rows(memory, gradient.H + p, width)
            if recursion == LINEAR:
                grad = keep * grad
            elif recursion == SOFT:
                grad = grad - magnitude(gain * x) * grad
            if connection:
                scaled = load_rows(alpha.values, p, width) * delta
                store_rows(alpha.gradient, p, width, load_rows(alpha.gradient, p, width) + delta * x * H)
            else:
                sum_a = sum_a + H * x
            store_rows(memory, gradient.H + p, width, grad + scaled * x)
            store(into.values, into.at + i, add_rows(load(into.values, into.at + i), scaled * H))
        if not connection:
            store_totals(sums.a, j, sum_a)
    if not connection:
        add_alpha(alpha, D, coefficients.at, sums, layout)


@inline
def add_alpha(alpha, D, at, sums, layout):
    """Add the contribution of a step, d[j] a[j], to the gradient of an alpha for each unit."""
    for j in range(0, layout.high, layout.lanes):
        store(alpha.gradient, j, load(alpha.gradient, j) + load(D, at + j) * load(sums.a, j))
