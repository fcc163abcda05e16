"""The inner loop of backward bounds as a numba kernel."""

from __future__ import annotations

from numba import njit


# Sums in any order are within the error that is accounted for, so that they may be reassociated.
@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def through_relu(multipliers, box, lower_slope, upper_slope, intercept, constant, before, after):
    """Carry multipliers of activations h back to pre-activations z, in place.

    A positive multiplier takes the line below the ReLU, a negative one the line above it, whose intercept goes to the
    constant. ``before`` and ``after`` receive the sums of the absolute values of the rows.
    """
    rows, units = multipliers.shape
    for i in range(rows):
        b = box[i]
        offset = sum_before = sum_after = 0.0
        for j in range(units):
            m = multipliers[i, j]
            new = m * (lower_slope[b, j] if m > 0 else upper_slope[b, j])
            offset += min(m, 0.0) * intercept[b, j]
            sum_before += abs(m)
            sum_after += abs(new)
            multipliers[i, j] = new
        constant[i] += offset
        before[i] = sum_before
        after[i] = sum_after
