"""Blocks of Hamming codes: each is a good code, but together they are not an expander."""

from __future__ import annotations

import numpy as np

from engram import checks
from engram.memory.expander.bipartite_graph import BipartiteGraph


def hamming74_blocks(B: int) -> BipartiteGraph:
    """The graph of B Hamming (7,4) codes side by side, 7 B nodes and 3 B constraints, as a control.

    Position k = 1 .. 7 of a block is in the constraints whose bits are 1 in the binary form of k.

    Source: Hamming, "Error detecting and error correcting codes" (1950).

    Examples:
        >>> hamming74_blocks(1).C.tolist()
        [[0, 2, 4, 6], [1, 2, 5, 6], [3, 4, 5, 6]]
    """
    checks.size("B", B)
    block = np.array([[position - 1 for position in range(1, 8) if position >> bit & 1] for bit in range(3)])
    return BipartiteGraph((block + 7 * np.arange(B)[:, None, None]).reshape(-1, 4), 7 * B)
