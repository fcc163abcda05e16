"""Triton kernels of the plastic recurrent scan: some programs take one sample through all its steps.

Equations, derivatives and their arrangement are those of ``cpu``, with two differences. Each program has some units of
its sample, and works through their rows of the trace in tiles, with a barrier between the steps, since a row needs the
activity of all units: among the threads of the program, if it has the sample to itself, or else among all its programs,
which count in memory how many of them have come. And all programs together recompute the traces that the backward pass
needs, for a stretch of steps at a time, since rows are independent given the activities.

Names are those of ``trace``, except that the fields of a rule and of a neuromodulator are separate arguments. ``rows``
and ``columns`` are the size of a tile, ``share`` is the number of a program's units, ``parts`` at least that of the
programs of a sample, and ``waits`` says whether they wait for one another. ``masked`` says whether some units are
clamped, ``begin`` and ``end`` bound the stretch of steps, and ``first`` and ``last`` the rounds of a launch.
"""

from __future__ import annotations

import triton
import triton.language as tl

LINEAR, SOFT, RETROACTIVE, FIXED = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(5)
NOTHING, SHARE, RATE, OJA = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
IDENTITY, TANH, SIGMOID = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit
def hyperbolic_tangent(x):
    """Tanh(x); near zero by Cody and Waite's quotient of polynomials, which loses no precision there."""
    size = tl.abs(x)
    # Beyond 20 the tangent is 1 in double precision; the comparison is false for NaN, which passes through.
    size = tl.where(size > 20, 20.0, size)
    z = size * size
    over = (-9.64399179425052238628e-1 * z - 9.92877231001918586564e1) * z - 1.61468768441708447952e3
    under = ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z + 4.84406305325125486048e3
    near, far = size + size * (z * over / under), 1 - 2 / (tl.exp(2 * size) + 1)
    result = tl.where(size < 0.625, near, far)
    return tl.where(x < 0, -result, result)


@triton.jit
def modulation(v0, v, activity, squash: tl.constexpr):
    """M, the neuromodulatory signal before it fans out."""
    current = v0 + tl.sum(v * activity, 0)
    if squash == TANH:
        current = hyperbolic_tangent(current)
    elif squash == SIGMOID:
        small = tl.exp(-tl.abs(current))
        current = tl.where(current < 0, small, 1.0) / (1 + small)
    return current


@triton.jit
def clamp01(m):
    """M clamped to [0, 1]; NaN passes through."""
    return tl.where(m > 1, 1.0, tl.where(m < 0, 0.0, m))


@triton.jit
def coefficients(
    post, signal, eta, fan, base, recursion: tl.constexpr, modulated: tl.constexpr, forgets: tl.constexpr
):  # fmt: skip
    """Keep, gain and m of some rows, given the activity after the step."""
    zeros = tl.zeros_like(post)
    trained_rate = zeros + eta
    m = trained_rate
    if modulated:
        m = signal * fan + base
    if forgets == SHARE:
        m = clamp01(m)
    rate = m
    if recursion == RETROACTIVE:
        rate = trained_rate
    keep = zeros + 1
    if forgets == OJA:
        keep = 1 - rate * post * post
    elif forgets != NOTHING:
        keep = 1 - rate
    return keep, rate * post, m


@triton.jit
def stepped(
    H, E, keep, gain, m, x, bound, recursion: tl.constexpr, clipped: tl.constexpr, trace_first: tl.constexpr
):  # fmt: skip
    """The traces after a step, H and E, and the value of H before its bound."""
    increment = gain * x
    later = E
    if recursion == RETROACTIVE:
        later = keep * E + increment
        free = H + m * later if trace_first else H + m * E
    elif recursion == SOFT:
        free = H - tl.abs(increment) * H + increment
    else:
        free = keep * H + increment
    reached = free
    if clipped:
        reached = tl.where(free > bound, bound, tl.where(free < -bound, -bound, free))
    return reached, later, free


@triton.jit
def tile(lowest, end, size, rows: tl.constexpr, columns: tl.constexpr):
    """Row indices from ``lowest`` on, the flat indices of these rows in a matrix, and which are before row ``end``."""
    j, i = lowest + tl.arange(0, rows), tl.arange(0, columns)
    place = j[:, None].to(tl.int64) * size + i[None, :]
    return j, place, (j < end)[:, None] & (i < size)[None, :]


@triton.jit
def meet(arrived, rounds, waits: tl.constexpr):
    """Wait until all programs of a sample have been here this many times: each then sees what all of them wrote."""
    tl.debug_barrier()
    if waits:
        tl.atomic_add(arrived, 1, sem="release", scope="gpu")
        while tl.atomic_add(arrived, 0, sem="acquire", scope="gpu") < rounds * tl.num_programs(1):
            pass
        tl.debug_barrier()


@triton.jit(do_not_specialize=["first", "last", "time", "batch"])
def forward_kernel(
    drive, mask, activities, weight, alpha, eta, v, v0, fan, base, bound, H, E, arrived,
    first, last, time, batch, size,
    connection: tl.constexpr, recursion: tl.constexpr, clipped: tl.constexpr, trace_first: tl.constexpr,
    relu: tl.constexpr, modulated: tl.constexpr, squash: tl.constexpr, forgets: tl.constexpr, masked: tl.constexpr,
    waits: tl.constexpr, share: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Run steps: in each, the rule of the previous step (none at first), and the product of this one."""
    b = tl.program_id(0).to(tl.int64)
    lowest = tl.program_id(1) * share
    end = tl.minimum(lowest + share, size)
    trace = b * size * size
    all_units = tl.arange(0, columns)
    c, trained_rate = tl.load(bound), tl.load(eta)
    for t in range(first, last):
        # The activities before the first step stand in front of those of all steps.
        now = (t * batch + b) * size
        after = tl.load(activities + now + all_units, mask=all_units < size, other=0.0)
        before = tl.load(activities + now - batch * size + all_units, mask=(all_units < size) & (t > 0), other=0.0)
        signal = tl.load(v0)
        if modulated:
            signal = modulation(signal, tl.load(v + all_units, mask=all_units < size, other=0.0), after, squash)
        for number in range(tl.cdiv(end - lowest, rows)):
            j, place, inside = tile(lowest + number * rows, end, size, rows, columns)
            row = j < end
            h = tl.zeros([rows, columns], trained_rate.dtype)
            if recursion != FIXED:
                h = tl.load(H + trace + place, mask=inside, other=0.0)
                if t > 0:
                    e = h
                    if recursion == RETROACTIVE:
                        e = tl.load(E + trace + place, mask=inside, other=0.0)
                    post = tl.load(activities + now + j, mask=row, other=0.0)
                    f, g = tl.load(fan + j, mask=row, other=0.0), tl.load(base + j, mask=row, other=0.0)
                    keep, gain, m = coefficients(post, signal, trained_rate, f, g, recursion, modulated, forgets)
                    h, e, _free = stepped(
                        h, e, keep[:, None], gain[:, None], m[:, None], before[None, :], c,
                        recursion, clipped, trace_first,
                    )  # fmt: skip
                    tl.store(H + trace + place, h, mask=inside)
                    if recursion == RETROACTIVE:
                        tl.store(E + trace + place, e, mask=inside)
            if t < time:
                w = tl.load(weight + place, mask=inside, other=0.0)
                if recursion == FIXED:
                    current = tl.sum(w * after[None, :], 1)
                elif connection:
                    a = tl.load(alpha + place, mask=inside, other=0.0)
                    current = tl.sum((w + a * h) * after[None, :], 1)
                else:
                    a = tl.load(alpha + j, mask=row, other=0.0)
                    current = tl.sum(w * after[None, :], 1) + a * tl.sum(h * after[None, :], 1)
                external = tl.load(drive + now + j, mask=row, other=0.0)
                current += external
                activity = tl.where(current < 0, 0.0, current) if relu else hyperbolic_tangent(current)
                if masked:
                    activity = tl.where(tl.load(mask + now + j, mask=row, other=0) != 0, external, activity)
                tl.store(activities + now + batch * size + j, activity, mask=row)
        # In the next step, others read the traces and activities that a thread has written.
        meet(arrived + b, t - first + 1, waits)


@triton.jit(do_not_specialize=["source", "begin", "end", "every", "batch"])
def replay_kernel(
    activities, signals, eta, fan, base, bound, from_H, from_E, to_H, to_E,
    source, begin, end, every, batch, size,
    recursion: tl.constexpr, clipped: tl.constexpr, trace_first: tl.constexpr, modulated: tl.constexpr,
    forgets: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Recompute the traces of some rows from those numbered ``source``, and store them every ``every`` steps."""
    b = tl.program_id(0).to(tl.int64)
    j, place, inside = tile(tl.program_id(1) * rows, size, size, rows, columns)
    i = tl.arange(0, columns)
    f, g = tl.load(fan + j, mask=j < size, other=0.0), tl.load(base + j, mask=j < size, other=0.0)
    c, trained_rate = tl.load(bound), tl.load(eta)
    trace = (source * batch + b) * size * size
    h = tl.load(from_H + trace + place, mask=inside, other=0.0)
    e = h
    if recursion == RETROACTIVE:
        e = tl.load(from_E + trace + place, mask=inside, other=0.0)
    for t in range(begin, end):
        if (t - begin) % every == 0:
            checkpoint = ((t - begin) // every * batch + b) * size * size
            tl.store(to_H + checkpoint + place, h, mask=inside)
            if recursion == RETROACTIVE:
                tl.store(to_E + checkpoint + place, e, mask=inside)
        now = (t * batch + b) * size
        x = tl.load(activities + now + i, mask=i < size, other=0.0)
        post = tl.load(activities + now + batch * size + j, mask=j < size, other=0.0)
        signal = trained_rate
        if modulated:
            signal = tl.load(signals + t * batch + b)
        keep, gain, m = coefficients(post, signal, trained_rate, f, g, recursion, modulated, forgets)
        h, e, _free = stepped(
            h, e, keep[:, None], gain[:, None], m[:, None], x[None, :], c, recursion, clipped, trace_first
        )


@triton.jit
def undo_coefficients(
    post, signal, eta, fan, base, of_gain, of_keep,
    recursion: tl.constexpr, modulated: tl.constexpr, forgets: tl.constexpr,
):  # fmt: skip
    """The gradients of the activity after the step and of the rate, by way of gain and keep."""
    m = tl.zeros_like(post) + eta
    if modulated and recursion != RETROACTIVE:
        m = signal * fan + base
    share = m
    if forgets == SHARE:
        share = clamp01(m)
    of_post, of_rate = share * of_gain, post * of_gain
    if forgets == OJA:
        of_post -= 2 * m * post * of_keep
        of_rate -= post * post * of_keep
    elif forgets != NOTHING:
        of_rate -= of_keep
    if forgets == SHARE:
        of_rate = tl.where((m >= 0) & (m <= 1), of_rate, 0.0)
    return of_post, of_rate


@triton.jit
def undo_rows(
    t, b, activities, signals, weight, alpha, eta, fan, base, bound, history, recent, delta, G, F,
    sent, ruled, of_posts, of_rates, of_eta, currents, origin, time, batch, size,
    connection: tl.constexpr, recursion: tl.constexpr, clipped: tl.constexpr, trace_first: tl.constexpr,
    modulated: tl.constexpr, forgets: tl.constexpr,
    share: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Undo, for the rows of a program, the product of step t + 1 and the rule of step t, where there is one.

    ``sent`` receives this program's part of the gradient that reaches the activities of step t from later steps: by
    this product, and by the rule of step t + 1, which was undone before and waits in ``ruled``. ``of_posts`` receives
    what reaches them by the rule of their own step, and ``currents`` this program's part of the gradient of v . y + v0.
    """
    p, programs = tl.program_id(1), tl.num_programs(1)
    lowest = p * share
    end = tl.minimum(lowest + share, size)
    i = tl.arange(0, columns)
    trained_rate, c = tl.load(eta), tl.load(bound)
    now, trace = (t * batch + b) * size, b * size * size
    past = (tl.maximum(t, 0) - origin).to(tl.int64) * batch * size * size + trace
    x = tl.load(activities + now + i, mask=(i < size) & (t >= 0), other=0.0)
    after = tl.load(activities + now + batch * size + i, mask=i < size, other=0.0)
    signal = trained_rate
    if modulated:
        signal = tl.load(signals + t * batch + b, mask=t >= 0, other=0.0)
    by_product = tl.zeros([rows, columns], trained_rate.dtype)
    by_rule = tl.zeros([rows, columns], trained_rate.dtype)
    by_rate = tl.zeros([rows], trained_rate.dtype)
    by_current = tl.zeros([rows], trained_rate.dtype)
    for number in range(tl.cdiv(end - lowest, rows)):
        j, place, inside = tile(lowest + number * rows, end, size, rows, columns)
        row = j < end
        if recursion == FIXED:
            if t + 1 < time:
                d = tl.load(delta + now + batch * size + j, mask=row, other=0.0)[:, None]
                by_product += tl.load(weight + place, mask=inside, other=0.0) * d
        else:
            h = tl.load(history + past + place, mask=inside, other=0.0)
            e = h
            if recursion == RETROACTIVE:
                e = tl.load(recent + past + place, mask=inside, other=0.0)
            grad = tl.load(G + trace + place, mask=inside, other=0.0)
            post = tl.load(activities + now + batch * size + j, mask=row, other=0.0)
            f, g = tl.load(fan + j, mask=row, other=0.0), tl.load(base + j, mask=row, other=0.0)
            keep, gain, m = coefficients(post, signal, trained_rate, f, g, recursion, modulated, forgets)
            keep, gain, m = keep[:, None], gain[:, None], m[:, None]
            reached, later, free = stepped(h, e, keep, gain, m, x[None, :], c, recursion, clipped, trace_first)
            reached = tl.where(t >= 0, reached, h)
            if t + 1 < time:
                d = tl.load(delta + now + batch * size + j, mask=row, other=0.0)[:, None]
                w = tl.load(weight + place, mask=inside, other=0.0)
                if connection:
                    a = tl.load(alpha + place, mask=inside, other=0.0)
                else:
                    a = tl.load(alpha + j, mask=row, other=0.0)[:, None]
                grad += a * (after[None, :] * d)
                by_product += (w + a * reached) * d
            if t >= 0:
                if clipped:
                    grad = tl.where((free <= c) & (free >= -c), grad, 0.0)
                of_free = grad
                of_m = tl.zeros_like(post)
                if recursion == RETROACTIVE:
                    # From here on, of_free is the gradient of E after the step, and grad that of H before it.
                    of_free = tl.load(F + trace + place, mask=inside, other=0.0)
                    if trace_first:
                        of_free += m * grad
                        of_m = tl.sum(grad * later, 1)
                        of_e = keep * of_free
                    else:
                        of_m = tl.sum(grad * e, 1)
                        of_e = keep * of_free + m * grad
                    tl.store(F + trace + place, of_e, mask=inside)
                    of_keep = tl.sum(of_free * e, 1)
                elif recursion == SOFT:
                    d = gain * x[None, :]
                    sign = tl.where(d > 0, 1.0, tl.where(d < 0, -1.0, 0.0))
                    of_free = grad - grad * (sign * h)
                    of_keep = tl.zeros_like(post)
                    grad -= tl.abs(d) * grad
                else:
                    of_keep = tl.sum(grad * h, 1)
                    grad = keep * grad
                of_gain = tl.sum(of_free * x[None, :], 1)
                of_post, of_rate = undo_coefficients(
                    post, signal, trained_rate, f, g, of_gain, of_keep, recursion, modulated, forgets
                )
                tl.store(of_posts + b * size + j, of_post, mask=row)
                by_rate += of_rate
                if modulated:
                    if recursion != RETROACTIVE:
                        of_m = of_rate
                    tl.store(of_rates + now + j, of_m, mask=row)
                    by_current += f * of_m
                by_rule += gain * of_free
            tl.store(G + trace + place, grad, mask=inside)
    # Two places for what others read, or other threads: the next step writes while some still read that of this one.
    here, there = (t + 2) % 2, (t + 1) % 2
    total = tl.sum(by_product, 0)
    if recursion != FIXED:
        total += tl.load(ruled + ((here * programs + p) * batch + b) * size + i, mask=i < size, other=0.0)
        tl.store(ruled + ((there * programs + p) * batch + b) * size + i, tl.sum(by_rule, 0), mask=i < size)
        if t >= 0:
            if recursion == RETROACTIVE or not modulated:
                tl.store(of_eta + (t * batch + b) * programs + p, tl.sum(by_rate, 0))
            if modulated:
                tl.store(currents + (here * programs + p) * batch + b, tl.sum(by_current, 0))
    tl.store(sent + ((here * programs + p) * batch + b) * size + i, total, mask=i < size)


@triton.jit
def undo_units(
    t, b, grad_outputs, mask, activities, signals, v, sent, of_posts, currents,
    delta, grad_drive, grad_hidden, of_signal, batch, size,
    recursion: tl.constexpr, relu: tl.constexpr, modulated: tl.constexpr, squash: tl.constexpr, masked: tl.constexpr,
    parts: tl.constexpr, share: tl.constexpr,
):  # fmt: skip
    """Undo step t of a program's units: the neuromodulator, the activation.

    The gradient that reaches them at the end, before the first step, is that of the initial activity.
    """
    p, programs = tl.program_id(1), tl.num_programs(1)
    j = p * share + tl.arange(0, share)
    unit = j < size
    q, now, here = tl.arange(0, parts), (t * batch + b) * size, (t + 2) % 2
    part = ((here * programs + q) * batch + b).to(tl.int64)
    of_all = tl.load(sent + part[:, None] * size + j[None, :], mask=(q < programs)[:, None] & unit[None, :], other=0.0)
    into = tl.sum(of_all, 0)
    if t < 0:
        tl.store(grad_hidden + b * size + j, into, mask=unit)
    else:
        into += tl.load(grad_outputs + now + j, mask=unit, other=0.0)
        post = tl.load(activities + now + batch * size + j, mask=unit, other=0.0)
        if recursion != FIXED:
            into += tl.load(of_posts + b * size + j, mask=unit, other=0.0)
        if modulated:
            signal = tl.load(signals + t * batch + b)
            of_current = tl.sum(tl.load(currents + part, mask=q < programs, other=0.0), 0)
            if squash == TANH:
                of_current *= 1 - signal * signal
            elif squash == SIGMOID:
                of_current *= signal * (1 - signal)
            tl.store(of_signal + t * batch + b, of_current, mask=p == 0)
            into += of_current * tl.load(v + j, mask=unit, other=0.0)
        slope = tl.where(post > 0, into, 0.0) if relu else into * (1 - post * post)
        if masked:
            clamped = tl.load(mask + now + j, mask=unit, other=0) != 0
            tl.store(grad_drive + now + j, tl.where(clamped, into, slope), mask=unit)
            slope = tl.where(clamped, 0.0, slope)
        tl.store(delta + now + j, slope, mask=unit)


@triton.jit(do_not_specialize=["first", "last", "origin", "begin", "end", "time", "batch"])
def undo_kernel(
    grad_outputs, mask, activities, signals, weight, alpha, eta, v, fan, base, bound, history, recent, G, F,
    sent, ruled, of_posts, currents, delta, grad_drive, grad_hidden, of_rates, of_eta, of_signal, arrived,
    first, last, origin, begin, end, time, batch, size,
    connection: tl.constexpr, recursion: tl.constexpr, clipped: tl.constexpr, trace_first: tl.constexpr,
    relu: tl.constexpr, modulated: tl.constexpr, squash: tl.constexpr, forgets: tl.constexpr, masked: tl.constexpr,
    waits: tl.constexpr, parts: tl.constexpr, share: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Undo the steps from ``begin`` to ``end``, the last one first; step -1 is the state before the first step.

    The rows of a step are undone before its units, which need the sums of all rows. So one round undoes the units of a
    step and the rows of the step before: as its units write what its own rows read, all programs meet but once.
    """
    b = tl.program_id(0).to(tl.int64)
    for n in range(first, last):
        t = end - 1 - n
        if n > 0:
            undo_units(
                t + 1, b, grad_outputs, mask, activities, signals, v, sent, of_posts, currents,
                delta, grad_drive, grad_hidden, of_signal, batch, size,
                recursion, relu, modulated, squash, masked, parts, share,
            )  # fmt: skip
            tl.debug_barrier()
        if t >= begin:
            undo_rows(
                t, b, activities, signals, weight, alpha, eta, fan, base, bound, history, recent, delta, G, F,
                sent, ruled, of_posts, of_rates, of_eta, currents, origin, time, batch, size,
                connection, recursion, clipped, trace_first, modulated, forgets, share, rows, columns,
            )  # fmt: skip
        meet(arrived + b, n - first + 1, waits)


@triton.jit(do_not_specialize=["begin", "end", "batch", "groups"])
def collect_kernel(
    activities, delta, history, grad_alpha, begin, end, batch, size, groups, rows: tl.constexpr, columns: tl.constexpr
):
    """Add H x d, of some rows, samples and steps, to the gradient of alpha."""
    group = tl.program_id(1).to(tl.int64)
    j, place, inside = tile(tl.program_id(0) * rows, size, size, rows, columns)
    i = tl.arange(0, columns)
    total = tl.load(grad_alpha + group * size * size + place, mask=inside, other=0.0)
    for b in range(group * batch // groups, (group + 1) * batch // groups):
        for t in range(begin, end):
            now = (t * batch + b) * size
            h = tl.load(history + ((t - begin) * batch + b) * size * size + place, mask=inside, other=0.0)
            d = tl.load(delta + now + j, mask=j < size, other=0.0)
            x = tl.load(activities + now + i, mask=i < size, other=0.0)
            total += h * (d[:, None] * x[None, :])
    tl.store(grad_alpha + group * size * size + place, total, mask=inside)
