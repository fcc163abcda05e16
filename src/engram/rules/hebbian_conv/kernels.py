"""One pass of a Hebbian layer as numba kernels: drive, threshold, winner, output and pooling, and what winners learn.

Samples are the last axis, so that the work at a position vectorises over samples, even if a unit sees only a few
inputs. The drives of one position never leave the cache.
"""

import numpy as np

from engram.numeric.jit import copy, jit, njit

ANY_ORDER = {"reassoc", "contract", "nsz"}  # sums in any order; NaN and infinity remain


@jit
def standardize(x, out, spread):
    """Write (x - mean) / (1e-10 + std) of each sample, a column of x, and its std, which is NaN if x is not finite.

    Args:
        x: The samples, (features, batch).
        out: Receives the standardised samples, (features, batch).
        spread: Receives the standard deviation of each sample, (batch,).
    """
    rows, batch = x.shape
    mean, square = np.zeros(batch), np.zeros(batch)
    for i in range(rows):  # relative to the first value, so that a constant sample has an exact mean
        for b in range(batch):
            mean[b] += np.float64(x[i, b]) - x[0, b]
    for b in range(batch):
        mean[b] = x[0, b] + mean[b] / rows
    for i in range(rows):
        for b in range(batch):
            difference = x[i, b] - mean[b]
            square[b] += difference * difference
    scale = np.empty(batch, x.dtype)
    for b in range(batch):
        spread[b] = np.sqrt(square[b] / max(rows - 1, 1))
        scale[b] = 1 / (1e-10 + spread[b])
    centre = mean.astype(x.dtype)
    for i in range(rows):
        for b in range(batch):
            out[i, b] = (x[i, b] - centre[b]) * scale[b]


@njit(error_model="numpy", fastmath=ANY_ORDER, inline="always")
def compete(drive, theta, best, mean, winner):
    """Subtract the thresholds from the drives (units, batch) of a position; write their means and winners by sample.

    Args:
        drive: The drives, (units, batch), from which the thresholds are subtracted in place.
        theta: The threshold of each unit, (units,).
        best: Working memory, (batch,).
        mean: Receives the mean over units, (batch,).
        winner: Receives the index of the most excited unit, or -1 if no drive is above 0, (batch,).
    """
    units, batch = drive.shape
    for b in range(batch):
        best[b] = -np.inf
        mean[b] = 0
        winner[b] = -1
    for n in range(units):
        threshold = theta[n]
        for b in range(batch):
            u = drive[n, b] - threshold
            drive[n, b] = u
            mean[b] += u
            better = u > best[b]
            winner[b] = n if better else winner[b]
            best[b] = u if better else best[b]
    for b in range(batch):
        mean[b] /= units
        winner[b] = winner[b] if best[b] > 0 else -1


@njit(error_model="numpy", fastmath=ANY_ORDER, inline="always")
def emit(drive, mean, winner, triangle, share, out, row, column):
    """Add the output of a position, times ``share``, to the window (row, column) over which it is averaged.

    Args:
        drive: The drives minus the thresholds, (units, batch).
        mean: Their mean over units, (batch,).
        winner: The index of the most excited unit, or -1, (batch,).
        triangle: Whether each unit emits how far its drive exceeds the mean; otherwise only the winner emits a 1.
        share: The share of the position in the window, 1 / pool^2.
        out: The pooled output, (units, rows, columns, batch), to which the position is added.
        row: Row of the window.
        column: Column of the window.
    """
    units, batch = drive.shape
    if triangle:
        for n in range(units):
            for b in range(batch):
                out[n, row, column, b] += share * max(drive[n, b] - mean[b], drive.dtype.type(0))
    else:
        for b in range(batch):
            if winner[b] >= 0:
                out[winner[b], row, column, b] += share


@jit
def dense_rows(drives, first, theta, triangle, pool, winners, out):
    """Let units compete at some rows of positions, from ``first`` on, with drives (units, rows, columns, batch).

    Args:
        drives: The drives at the positions of some rows.
        first: Index of the first of these rows.
        theta: The threshold of each unit, (units,).
        triangle: As in ``emit``.
        pool: Side of the windows over which outputs are averaged.
        winners: Receives the winner at each position, (rows, columns, batch).
        out: The pooled output, (units, rows, columns, batch), to which the positions are added.
    """
    units, rows, columns, batch = drives.shape
    best, mean, drive = (
        np.empty(batch, theta.dtype),
        np.empty(batch, theta.dtype),
        np.empty((units, batch), theta.dtype),
    )
    share = theta.dtype.type(1 / pool**2)
    for r in range(rows):
        for c in range(columns):
            for n in range(units):
                copy(drives[n, r, c], drive[n])
            winner = winners[first + r, c]
            compete(drive, theta, best, mean, winner)
            row, column = (first + r) // pool, c // pool
            if row < out.shape[1] and column < out.shape[2]:
                emit(drive, mean, winner, triangle, share, out, row, column)


@jit
def sparse_places(x, width, values, offsets, theta, triangle, pool, winners, out):
    """Let units compete at all positions, each seeing the inputs ``offsets`` (units, fan_in) with weights ``values``.

    ``x`` is (channels * height * width, batch); an offset is the row of x that a unit sees at the first position.

    Args:
        x: The inputs.
        width: Number of columns of the input.
        values: The weights.
        offsets: The row of x that holds each input of a unit at the first position.
        theta: The threshold of each unit, (units,).
        triangle: As in ``emit``.
        pool: Side of the windows over which outputs are averaged.
        winners: Receives the winner at each position, (rows, columns, batch).
        out: The pooled output, (units, rows, columns, batch), to which the positions are added.
    """
    units, fan_in = values.shape
    rows, columns, batch = winners.shape
    best, mean, drive = (
        np.empty(batch, theta.dtype),
        np.empty(batch, theta.dtype),
        np.empty((units, batch), theta.dtype),
    )
    share = theta.dtype.type(1 / pool**2)
    for r in range(rows):
        for c in range(columns):
            base = r * width + c
            for n in range(units):
                f = fan_in % 3
                drive[n] = 0
                for i in range(f):
                    for b in range(batch):
                        drive[n, b] += values[n, i] * x[base + offsets[n, i], b]
                while f < fan_in:  # three at once, to move the sums to and from the cache less often
                    p, q, s = x[base + offsets[n, f]], x[base + offsets[n, f + 1]], x[base + offsets[n, f + 2]]
                    v, w, y = values[n, f], values[n, f + 1], values[n, f + 2]
                    for b in range(batch):
                        drive[n, b] += v * p[b] + w * q[b] + y * s[b]
                    f += 3
            winner = winners[r, c]
            compete(drive, theta, best, mean, winner)
            if r // pool < out.shape[1] and c // pool < out.shape[2]:
                emit(drive, mean, winner, triangle, share, out, r // pool, c // pool)


@jit
def dense_learning(x, winners, learns, wins, decay, sums):
    """Sum the patches that each unit won.

    Args:
        x: The inputs, (batch, height, width * channels).
        winners: The winner at each position, or -1, (rows, columns, batch).
        learns: Whether units learn from a sample, (batch,).
        wins: The number of patches that each unit won, (units,), which is increased.
        decay: The number of those that it learns from, (units,), which is increased.
        sums: The sums, (units, kernel, kernel * channels), to which the patches are added.
    """
    rows, columns, batch = winners.shape
    _, kernel, run = sums.shape
    channels = run // kernel
    for b in range(batch):
        for r in range(rows):
            for c in range(columns):
                n = winners[r, c, b]
                if n >= 0:
                    wins[n] += 1
                    if learns[b]:
                        decay[n] += 1
                        for k in range(kernel):
                            for i in range(run):
                                sums[n, k, i] += x[b, r + k, c * channels + i]


@jit
def sparse_learning(x, width, offsets, winners, learns, wins, decay, sums):
    """As ``dense_learning``, for only the inputs that a unit sees, (units, fan_in); x as in ``sparse_places``.

    Args:
        x: The inputs.
        width: Number of columns of the input.
        offsets: As in ``sparse_places``.
        winners: As in ``dense_learning``.
        learns: As in ``dense_learning``.
        wins: As in ``dense_learning``.
        decay: As in ``dense_learning``.
        sums: The sums, to which the inputs are added.
    """
    rows, columns, batch = winners.shape
    for r in range(rows):
        for c in range(columns):
            base = r * width + c
            for b in range(batch):
                n = winners[r, c, b]
                if n >= 0:
                    wins[n] += 1
                    if learns[b]:
                        decay[n] += 1
                        for i in range(offsets.shape[1]):
                            sums[n, i] += x[base + offsets[n, i], b]
