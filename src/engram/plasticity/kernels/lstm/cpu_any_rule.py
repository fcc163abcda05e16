"""The backward pass of a plastic LSTM whose rule has its own coefficients, in numba; see ``any_rule``."""

from __future__ import annotations

import numpy as np

from engram.numeric.jit import copy
from engram.plasticity.kernels.constants import CELL, HIDDEN, INPUT, RECURRENT
from engram.plasticity.kernels.cpu_any_rule import fast, undo_bound


@fast
def backward(
    grad_outputs, grad_cell, grad_trace, outputs, cells, gates, inputs, traces, start, hidden, cell, keep, increment,
    keep_by_post, increment_by_post, weight, alpha, clip, kind, grad_drive, grad_fixed, grad_keep, grad_increment,
    grad_hidden, grad_start_cell, grad_start, grad_alpha, scratch, first, last,
):  # fmt: skip
    """Write the gradients of the drive, of W h, of the coefficients and of the state; add to that of ``alpha``."""
    time, _, size = outputs.shape
    zero, one = weight.dtype.type(0), weight.dtype.type(1)
    row, of_post, of_pre = scratch[:size], scratch[size : 2 * size], scratch[2 * size : 3 * size]
    of_cell = scratch[3 * size : 4 * size]
    for b in range(first, last):
        G = grad_start[b]  # gradients of the traces after the step, and finally of those at the start
        for j in range(size):
            copy(grad_trace[b, j], G[j])
        copy(grad_cell[b], of_cell)
        of_post[:] = 0
        for t in range(time - 1, -1, -1):
            x = outputs[t - 1, b] if t else hidden[b]
            of_pre[:] = 0
            for j in range(size):
                H, of_H = traces[t - 1, b, j] if t else start[b, j], G[j]
                k, d = keep[t, b, j], increment[t, b, j]
                of_k, of_d = undo_bound(of_H, H, x, k, d, clip, row)
                grad_keep[t, b, j], grad_increment[t, b, j] = of_k, of_d
                of_z = of_k * keep_by_post[t, b, j] + of_d * increment_by_post[t, b, j]
                admit, forget, emit = gates[t, b, j], gates[t, b, size + j], gates[t, b, 2 * size + j]
                g, c = inputs[t, b, j], np.tanh(cells[t, b, j])
                before = cells[t - 1, b, j] if t else cell[b, j]
                of_h = grad_outputs[t, b, j] + of_post[j] + (of_z if kind == HIDDEN else zero)
                of_c = of_cell[j] + of_h * emit * (one - c * c) + (of_z if kind == CELL else zero)
                of_g = of_c * admit + (of_z if kind == INPUT else zero)
                of_cell[j] = of_c * forget
                of_admit = of_c * g * admit * (one - admit)
                of_forget = of_c * before * forget * (one - forget)
                of_emit = of_h * c * emit * (one - emit)
                external = of_g * (one - g * g)
                delta = external + (of_z if kind == RECURRENT else zero)
                grad_drive[t, b, j], grad_drive[t, b, size + j] = of_admit, of_forget
                grad_drive[t, b, 2 * size + j], grad_drive[t, b, 3 * size + j] = external, of_emit
                grad_fixed[t, b, j], grad_fixed[t, b, size + j] = of_admit, of_forget
                grad_fixed[t, b, 2 * size + j], grad_fixed[t, b, 3 * size + j] = delta, of_emit
                w_admit, w_forget = weight[j], weight[size + j]
                w_input, w_emit = weight[2 * size + j], weight[3 * size + j]
                for i in range(size):
                    of_pre[i] += of_admit * w_admit[i] + of_forget * w_forget[i]
                for i in range(size):
                    of_pre[i] += delta * w_input[i] + of_emit * w_emit[i]
                if alpha.ndim == 2:
                    a, of_a = alpha[j], grad_alpha[j]
                    for i in range(size):
                        of_H[i] = k * row[i] + delta * a[i] * x[i]
                    for i in range(size):
                        of_a[i] += delta * H[i] * x[i]
                    for i in range(size):
                        of_pre[i] += d * row[i] + delta * a[i] * H[i]
                else:
                    scaled, plastic = delta * alpha[j], zero
                    for i in range(size):
                        of_H[i] = k * row[i] + scaled * x[i]
                        plastic += H[i] * x[i]
                    grad_alpha[j] += delta * plastic
                    for i in range(size):
                        of_pre[i] += d * row[i] + scaled * H[i]
            of_post, of_pre = of_pre, of_post
        copy(of_post, grad_hidden[b])
        copy(of_cell, grad_start_cell[b])
