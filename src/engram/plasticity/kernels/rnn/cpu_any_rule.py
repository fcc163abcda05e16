"""The backward pass of a recurrent layer whose rule has its own coefficients, in numba; see ``any_rule``."""

from __future__ import annotations

from engram.numeric.jit import copy
from engram.plasticity.kernels.cpu_any_rule import fast, undo_bound


@fast
def backward(
    grad_outputs, grad_trace, outputs, mask, traces, start, hidden, keep, increment, keep_by_post, increment_by_post,
    weight, alpha, clip, is_relu, grad_drive, grad_keep, grad_increment, grad_hidden, grad_start, grad_alpha, scratch,
    first, last,
):  # fmt: skip
    """Write the gradients of the drive, of the coefficients and of the state; add to that of ``alpha``."""
    time, _, size = outputs.shape
    zero, one = weight.dtype.type(0), weight.dtype.type(1)
    row, of_post, of_pre = scratch[:size], scratch[size : 2 * size], scratch[2 * size : 3 * size]
    for b in range(first, last):
        G = grad_start[b]  # gradients of the traces after the step, and finally of those at the start
        for j in range(size):
            copy(grad_trace[b, j], G[j])
        of_post[:] = 0
        for t in range(time - 1, -1, -1):
            x = outputs[t - 1, b] if t else hidden[b]
            of_pre[:] = 0
            for j in range(size):
                H, of_H = traces[t - 1, b, j] if t else start[b, j], G[j]
                k, d, y = keep[t, b, j], increment[t, b, j], outputs[t, b, j]
                of_k, of_d = undo_bound(of_H, H, x, k, d, clip, row)
                grad_keep[t, b, j], grad_increment[t, b, j] = of_k, of_d
                of_y = grad_outputs[t, b, j] + of_post[j]
                of_y += of_k * keep_by_post[t, b, j] + of_d * increment_by_post[t, b, j]
                slope = (one if y > 0 else zero) if is_relu else one - y * y
                delta = of_y * slope
                if mask.size and mask[t, b, j]:
                    delta = zero
                    grad_drive[t, b, j] = of_y
                else:
                    grad_drive[t, b, j] = delta
                w = weight[j]
                if alpha.ndim == 2:
                    a, of_a = alpha[j], grad_alpha[j]
                    for i in range(size):
                        of_H[i] = k * row[i] + delta * a[i] * x[i]
                    for i in range(size):
                        of_a[i] += delta * H[i] * x[i]
                    for i in range(size):
                        of_pre[i] += d * row[i] + delta * (w[i] + a[i] * H[i])
                else:
                    scaled, plastic = delta * alpha[j], zero
                    for i in range(size):
                        of_H[i] = k * row[i] + scaled * x[i]
                        plastic += H[i] * x[i]
                    grad_alpha[j] += delta * plastic
                    for i in range(size):
                        of_pre[i] += d * row[i] + delta * w[i] + scaled * H[i]
            of_post, of_pre = of_pre, of_post
        copy(of_post, grad_hidden[b])
