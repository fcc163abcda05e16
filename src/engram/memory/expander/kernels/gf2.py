"""Gauss-Jordan elimination over the field of two elements as a numba kernel, 64 columns in a word."""

from typing import no_type_check

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
@no_type_check
def eliminate(rows, target, columns):
    """Bring rows to reduced echelon form, and with them the right-hand side; return the pivots' columns, row by row."""
    pivots, rank = np.empty(min(rows.shape[0], columns), np.int64), 0
    for column in range(columns):
        word, bit = column // 64, np.uint64(column % 64)
        found = rank
        while found < rows.shape[0] and not rows[found, word] >> bit & np.uint64(1):
            found += 1
        if found == rows.shape[0]:
            continue
        if found != rank:
            for w in range(word, rows.shape[1]):
                rows[found, w], rows[rank, w] = rows[rank, w], rows[found, w]
            target[found], target[rank] = target[rank], target[found]
        for j in range(rows.shape[0]):
            if j != rank and rows[j, word] >> bit & np.uint64(1):
                for w in range(word, rows.shape[1]):
                    rows[j, w] ^= rows[rank, w]
                target[j] ^= target[rank]
        pivots[rank] = column
        rank += 1
        if rank == pivots.size:
            break
    return pivots[:rank]
