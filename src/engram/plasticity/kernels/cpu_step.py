"""Some steps of the plastic recurrent scan as a numba kernel on tensors as they are; see ``step``.

The recursions are those of ``cpu``, on plain numbers, in loops that the compiler turns into vector instructions.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, no_type_check
from zlib import crc32

import numpy as np
from numba import njit

from engram.plasticity.kernels import cpu, simd
from engram.plasticity.kernels.cpu import RETROACTIVE, SOFT, coefficients, modulation
from engram.plasticity.kernels.simd import lanes, load, store, tanh, where_positive


@no_type_check
def step_kernel(version):
    """Return the kernel; ``version`` is there for the key of numba's cache."""

    # A sum over the sending units may be taken in any order, as long as it is the same each time.
    @njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
    def steps(
        drive, mask, hidden, trace, eligibility, weight, alpha, eta, v, v0, fan, base,
        recursion, c, trace_first, is_relu, modulated, squash, forgets,
        outputs, last_trace, last_eligibility,
    ):  # fmt: skip
        time, batch, size = drive.shape
        width, wide = fan.size, lanes(fan)
        bound, Y = weight.dtype.type(c), np.zeros(width, weight.dtype)
        keep, gain, rates = np.zeros_like(Y), np.zeros_like(Y), np.zeros_like(Y)
        for b in range(batch):
            Y[:] = 0  # the padding as well: it must not carry a NaN from one sample to the next
            for t in range(time):
                x = outputs[t - 1, b] if t else hidden[b]
                traces, eligibilities = (last_trace[b], last_eligibility[b]) if t else (trace[b], eligibility[b])
                for j in range(size):
                    fixed = plastic = weight.dtype.type(0)
                    H = traces[j]
                    if alpha.ndim == 2:
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
                signal = modulation(v, v0[0], Y, 0, width, wide, squash) if modulated else v0[0]
                coefficients(
                    eta[0], signal, fan, base, Y, 0, keep, gain, rates, 0, width, wide, recursion, modulated, forgets
                )
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
                outputs[t, b] = Y[:size]

    return steps


@cache
def kernel() -> Any:
    """Return the compiled kernel."""
    # numba's cache on disk looks at this file only; what it takes from others is therefore part of the key.
    return step_kernel(crc32(b"".join(Path(str(module.__file__)).read_bytes() for module in (cpu, simd))))
