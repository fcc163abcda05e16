"""Locally wired bipartite graphs: as regular as random ones, but not expanders."""

from __future__ import annotations

import numpy as np

from engram import checks
from engram.memory.expander.bipartite_graph import BipartiteGraph
from engram.memory.expander.random_regular import check_degrees


def local_graph(N: int, z: int, r: int, span: int, *, seed: int | np.random.Generator = 0) -> BipartiteGraph:
    """A (z, r)-regular graph whose constraints see nodes near each other, as a control without expansion.

    For each of z layers the order of the N nodes is rolled by a random offset below ``span``, permuted within windows
    of ``span`` and cut into groups of r, one for each constraint.

    Args:
        N: Number of nodes, a multiple of r and of ``span``.
        z: Number of constraints per node.
        r: Number of nodes per constraint.
        span: Number of nodes in a window, at least r.
        seed: Seed of the graph, or a generator.

    Raises:
        ValueError: There is no (z, r)-regular graph of N nodes, ``span`` is not from r to N, or N is not a multiple of
            r and of ``span``.

    Source: ours.

    Examples:
        >>> local_graph(48, 5, 6, span=12).C.shape
        (40, 6)
    """
    checks.arguments()
    check_degrees(N, z, r)
    checks.size("span", span, minimum=r, maximum=N)
    if N % r or N % span:
        raise ValueError(f"N = {N}: expected a multiple of r = {r} and of span = {span}")
    rng, nodes = checks.rng("seed", seed), np.arange(N)
    layers = (rng.permuted(np.roll(nodes, rng.integers(span)).reshape(-1, span), axis=1) for _ in range(z))
    return BipartiteGraph(np.concatenate([layer.reshape(-1, r) for layer in layers]), N)
