"""A step of a rule with its own coefficients, in numba; ``any_rule`` has the equations.

Every inner loop is over a row in the first-level cache, and reads few arrays, so that the compiler vectorises it.

In ``step``, ``before`` and ``after`` are the traces on both sides of the update, (batch, post, pre), ``keep`` and
``increment`` the coefficients, (batch, post), ``pre`` the presynaptic activity of the update and ``read`` that of the
product. ``current`` receives the product plus ``external``, (batch, post). ``clip`` is the bound of the traces,
infinite if there is none. Samples ``first`` to ``last`` - 1 are processed.
"""

from __future__ import annotations

from functools import partial

from engram.numeric.jit import inline, jit

# A sum over the sending units may be computed in any order, as long as the order is the same each time.
ANY_ORDER = {"reassoc", "contract"}
fast = partial(jit, fastmath=ANY_ORDER)


@fast
def step(update, before, keep, increment, pre, after, external, weight, alpha, read, current, clip, _, first, last):
    """Apply the rule if ``update``; then write r of the next step, whose presynaptic activity is ``read``."""
    size, zero = weight.shape[0], weight.dtype.type(0)
    for b in range(first, last):
        x, y = pre[b], read[b]
        for j in range(size):
            H, w = before[b, j], weight[j]
            if update:
                new, k, d = after[b, j], keep[b, j], increment[b, j]
                for i in range(size):
                    free = k * H[i] + d * x[i]
                    new[i] = clip if free > clip else (-clip if free < -clip else free)  # NaN stays
                H = new
            fixed = plastic = zero
            if alpha.ndim == 2:  # numba knows the type of an argument, and compiles only this branch
                a = alpha[j]
                for i in range(size):
                    fixed += (w[i] + a[i] * H[i]) * y[i]
            else:
                for i in range(size):
                    fixed += w[i] * y[i]
                    plastic += H[i] * y[i]
                plastic *= alpha[j]
            current[b, j] = external[b, j] + fixed + plastic


@inline(fastmath=ANY_ORDER)
def undo_bound(of_H, H, x, keep, increment, clip, row):
    """Write the gradients of a unit's traces before their bound; return those of its coefficients."""
    zero = type(clip)(0)
    of_keep = of_increment = zero
    for i in range(x.size):
        grad = of_H[i] if abs(keep * H[i] + increment * x[i]) <= clip else zero
        row[i] = grad
        of_keep += grad * H[i]
        of_increment += grad * x[i]
    return of_keep, of_increment
