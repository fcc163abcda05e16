"""Array codes: regular bipartite graphs by arithmetic modulo a prime, without 4-cycles."""

from __future__ import annotations

import numpy as np

from engram import checks
from engram.memory.expander.bipartite_graph import BipartiteGraph


def array_graph(p: int, z: int) -> BipartiteGraph:
    """The graph of an array code: p^2 nodes, z p constraints that see p nodes each, girth 6 or more.

    For every l < z, node (i, j), with index i p + j, is in constraint (l, c), with index l p + c, where

        c = (j - l i) mod p

    so that two nodes share at most one constraint. The rank of the parity-check matrix is z p - z + 1.

    Args:
        p: A prime, which is also r, the number of nodes per constraint.
        z: Number of constraints per node, 1 .. p.

    Raises:
        ValueError: ``p`` is not a prime, or ``z`` is not from 1 to p.

    Source: Fan, "Array codes as low-density parity-check codes" (2000).

    Examples:
        >>> graph = array_graph(7, 5)
        >>> graph.n_nodes, graph.n_constraints, graph.girth()
        (49, 35, 6)
    """
    if checks.size("p", p) < 2 or any(p % d == 0 for d in range(2, int(p**0.5) + 1)):
        raise ValueError(f"p = {p}: expected a prime")
    checks.size("z", z, maximum=p)
    layer, c, i = np.ogrid[:z, :p, :p]
    return BipartiteGraph((i * p + (c + layer * i) % p).reshape(z * p, p), p * p)
