"""Passes over the trace of one sample, in which the numba kernels of the LSTM and of the linear layer agree.

A step t has a presynaptic row X[t], coefficients keep, gain and rates of every receiving unit, and the traces H(t-1)
and E(t-1) before it; ``cpu`` tells the recursion and its derivative. The fixed weights are left to the caller, and all
else that units do: a kernel is what it makes of these passes, step by step. A rule without a bound has an infinite one.

Traces are [post, pre], row by row, in rows of whole registers: ``rows`` of them with ``width`` numbers each. What there
is for every receiving unit has ``high`` numbers, at least ``rows``. Places in memory are numbers.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import no_type_check
from zlib import crc32

from numba import njit

from engram.plasticity.kernels import cpu, simd
from engram.plasticity.kernels.cpu import LINEAR, RETROACTIVE, SOFT, stepped
from engram.plasticity.kernels.simd import (
    ROWS,
    add_rows,
    load,
    load_rows,
    magnitude,
    repeat,
    splat,
    splat_rows,
    store,
    store_rows,
    store_totals,
    where_within,
    with_sign,
)

inline = njit(forceinline=True, error_model="numpy")


@cache
def version() -> int:
    """Return what changes with the files that kernels are made of: numba's cache on disk looks at their own only."""
    return crc32(b"".join(Path(str(file)).read_bytes() for file in (simd.__file__, cpu.__file__, __file__)))


@inline
@no_type_check
def fetch(values, a, b, first, size, padded, place):
    """Copy values[a, b, first:first + size] to where there is padding behind it, without the cost of a view."""
    for i in range(size):
        padded[place + i] = values[a, b, first + i]


@inline
@no_type_check
def deliver(padded, place, values, a, b, first, size):
    """Copy to values[a, b, first:first + size] from where there is padding behind it."""
    for i in range(size):
        values[a, b, first + i] = padded[place + i]


@inline
@no_type_check
def clear(values, start, stop, wide):
    """Set whole registers of numbers to zero."""
    for i in range(start, stop, wide):
        store(values, i, splat(values.dtype.type(0)))


@inline
@no_type_check
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
@no_type_check
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
@no_type_check
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
@no_type_check
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


def scratch_size(direction: str, recursion: int, trace: int, wide: int, time: int, stretch: int) -> int:
    """Return how many numbers of memory a pass needs for the traces of one sample.

    Args:
        direction: ``"forward"`` or ``"backward"``.
        recursion: Kind of rule.
        trace: Size of a padded trace.
        wide: At least how many numbers fit a register.
        time: Number of steps.
        stretch: Number of steps that the backward pass holds at once.
    """
    traces = 1 if direction == "forward" else -(-time // stretch) + stretch + 1
    return (2 if recursion == RETROACTIVE else 1) * traces * (trace + wide)
