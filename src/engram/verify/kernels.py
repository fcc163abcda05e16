"""The inner loop of backward bounds as a numba kernel."""

from __future__ import annotations

from engram.numeric.jit import njit


# The error that is accounted for covers sums in any order, so that they may be reassociated.
@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def through_relu(multipliers, box, lower_slope, upper_slope, intercept, constant, before, after):
    """Carry multipliers m of activations h back to pre-activations z, in place.

        m h >= m lower_slope z                       where m > 0
        m h >= m (upper_slope z + intercept)         where m <= 0

    Args:
        multipliers: m, (rows, units), overwritten by those of z.
        box: Index of the box of each row.
        lower_slope: Slope of the line below each ReLU, (boxes, units).
        upper_slope: Slope of the line above it.
        intercept: Intercept of the line above it.
        constant: The offset of each row, to which the intercepts are added.
        before: Receives the sum of |m| of each row.
        after: Receives the sum of the new |m|.
    """
    rows, units = multipliers.shape
    for i in range(rows):
        b = box[i]
        offset = sum_before = sum_after = 0.0
        for j in range(units):
            m = multipliers[i, j]
            new_multiplier = m * (lower_slope[b, j] if m > 0 else upper_slope[b, j])
            offset += min(m, 0.0) * intercept[b, j]
            sum_before += abs(m)
            sum_after += abs(new_multiplier)
            multipliers[i, j] = new_multiplier
        constant[i] += offset
        before[i] = sum_before
        after[i] = sum_after
