"""Gauss-Jordan elimination over the field of two elements as a numba kernel, 64 columns in a word."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
@no_type_check
def packed(C, degrees, words):
    """Return the rows of the parity-check matrix, (constraints, words); bit i of word w is column 64 w + i.

    Args:
        C: (constraints, r).
        degrees: (constraints,).
        words: Words in a row.
    """
    rows = np.zeros((C.shape[0], words), np.uint64)
    for j in range(C.shape[0]):
        for k in range(degrees[j]):
            rows[j, C[j, k] // 64] ^= np.uint64(1) << np.uint64(C[j, k] % 64)
    return rows


@njit(cache=True, nogil=True)
@no_type_check
def eliminate(rows, target, columns):
    """Bring rows to reduced echelon form, in place; return the pivots' columns, row by row.

    Args:
        rows: (constraints, words).
        target: The right-hand side, (constraints,), 0 or 1; changed with the rows.
        columns: Columns.
    """
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
