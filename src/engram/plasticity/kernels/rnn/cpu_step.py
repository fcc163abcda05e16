"""A few steps of the plastic recurrent scan as a numba kernel on tensors as they are; see ``step``.

The recursions are those of ``cpu``, written for single numbers, in loops that the compiler vectorises. ``before`` holds
the activity, H and E before the first step, and ``after`` receives H and E after the last; ``ends`` holds the rate and
the neuromodulator, and ``options`` the codes of the rule and of the units.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from engram.numeric.jit import copy, jit
from engram.numeric.simd import lanes, load, store, tanh, where_positive
from engram.plasticity.kernels.constants import RETROACTIVE, SOFT
from engram.plasticity.kernels.trace import Coefficients, Layout, Modulator, Row, Rule, modulation, write_coefficients


# A sum over the sending units may be computed in any order, as long as the order is the same each time.
@partial(jit, fastmath={"reassoc", "contract"})
def steps(drive, mask, before, weight, alpha, ends, options, outputs, after):
    """Run a few steps, and write the activities and the last traces."""
    hidden, trace, eligibility = before
    eta, v, v0, fan, base = ends
    recursion, clip, trace_first, forgets, is_relu, modulated, squash = options
    last_trace, last_eligibility = after
    time, batch, size = drive.shape
    width, wide = fan.size, lanes(fan)
    bound, Y = weight.dtype.type(clip), np.zeros(width, weight.dtype)
    layout, modulator = Layout(size, width, width, wide), Modulator(v, v0[0], fan, base, squash)
    rule = Rule(bound, trace_first, forgets, modulated)
    keep, gain, rates = np.zeros_like(Y), np.zeros_like(Y), np.zeros_like(Y)
    coefficients = Coefficients(keep, gain, rates, 0)
    for b in range(batch):
        Y[:] = 0  # the padding as well: it must not carry a NaN from one sample to the next
        for t in range(time):
            x = outputs[t - 1, b] if t else hidden[b]
            traces, eligibilities = (last_trace[b], last_eligibility[b]) if t else (trace[b], eligibility[b])
            for j in range(size):
                fixed = plastic = weight.dtype.type(0)
                H = traces[j]
                if alpha.ndim == 2:  # numba knows the type of an argument, and compiles only this branch
                    for i in range(size):
                        fixed += (weight[j, i] + alpha[j, i] * H[i]) * x[i]
                else:
                    for i in range(size):
                        fixed += weight[j, i] * x[i]
                        plastic += H[i] * x[i]
                    plastic *= alpha[j]
                Y[j] = drive[t, b, j] + fixed + plastic
            for j in range(0, width, wide):
                current = load(Y, j)
                store(Y, j, where_positive(current, current) if is_relu else tanh(current))
            for j in range(mask.shape[2]):
                if mask[t, b, j]:
                    Y[j] = drive[t, b, j]
            signal = modulation(modulator, Row(Y, 0), layout) if modulated else v0[0]
            write_coefficients(eta[0], signal, modulator, Row(Y, 0), coefficients, layout, rule, recursion)
            for j in range(size):
                H, new, k, g, m = traces[j], last_trace[b, j], keep[j], gain[j], rates[j]
                if recursion == RETROACTIVE:
                    E, new_E = eligibilities[j], last_eligibility[b, j]
                    for i in range(size):
                        later = k * E[i] + g * x[i]
                        new[i] = min(max(H[i] + m * (later if trace_first else E[i]), -bound), bound)
                        new_E[i] = later
                elif recursion == SOFT:
                    for i in range(size):
                        increment = g * x[i]
                        new[i] = min(max(H[i] - abs(increment) * H[i] + increment, -bound), bound)
                else:
                    for i in range(size):
                        new[i] = min(max(k * H[i] + g * x[i], -bound), bound)
            copy(Y[:size], outputs[t, b])
