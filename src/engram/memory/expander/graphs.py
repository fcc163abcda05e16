"""Constructions of bipartite graphs: random regular ones, nearly all expanders, and others to compare with."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from engram import checks
from engram.memory.expander.bipartite_graph import BipartiteGraph

ROUNDS, TRIES = 50, 100


def random_regular(
    N: int, z: int, r: int, *, min_girth: int = 4, seed: int | np.random.Generator = 0
) -> BipartiteGraph:
    """A random (z, r)-regular bipartite graph without repeated edges.

    The ends of the edges are paired at random (configuration model); edges that are repeated, or that close too short a
    cycle, are swapped with random ones until none are left.

    Args:
        N: Number of nodes.
        z: Number of constraints per node; from 5 on, errors in a fixed share of the nodes are corrected at any size.
        r: Number of nodes per constraint, a divisor of N z; there are M = N z / r constraints.
        min_girth: 4; or 6, so that no two nodes share two constraints, which needs N of at least 1 + z (r - 1).
        seed: Seed of the graph, or a generator to draw from.

    Raises:
        ValueError: There is no such graph.
        RuntimeError: Swapping has not led to a graph of the required girth: N is hardly large enough.

    Source: Sipser and Spielman, "Expander codes" (1996), section 2; the repair is ours.

    Examples:
        >>> random_regular(480, 5, 6, seed=0).C.shape
        (400, 6)
    """
    checks.arguments()
    check_degrees(N, z, r)
    checks.choice("min_girth", min_girth, (4, 6))
    if min_girth == 6 and 1 + z * (r - 1) > N:  # a node shares constraints with z (r - 1) others
        raise ValueError(f"N = {N}: expected at least 1 + z (r - 1) = {1 + z * (r - 1)} for min_girth = 6")
    rng = checks.rng("seed", seed)
    C = rng.permutation(np.repeat(np.arange(N), z)).reshape(-1, r)
    constraints_of = (np.argsort(C.ravel(), kind="stable").reshape(N, z) // r).tolist()

    def fits(node: int, old_constraint: int, new_constraint: int, leaving_node: int) -> bool:
        """Whether a node can move from its old constraint to a new one, which another node leaves."""
        neighbours = [other for other in C[new_constraint].tolist() if other != leaving_node]
        if min_girth == 4 or node in neighbours:
            return node not in neighbours
        reachable = {other for j in constraints_of[node] if j != old_constraint for other in C[j].tolist()} - {node}
        return reachable.isdisjoint(neighbours)

    for _ in range(ROUNDS):
        close_edges = _too_close(C, N, min_girth)
        if not close_edges.size:
            return BipartiteGraph(C, N)
        edges = C.reshape(-1)
        for edge in close_edges:
            a, j = int(edges[edge]), int(edge // r)
            for other in rng.integers(edges.size, size=TRIES):
                # A swap should not bring nodes too close; if none of those tried avoids it, the last one is made.
                b, k = int(edges[other]), int(other // r)
                if fits(a, j, k, b) and fits(b, k, j, a):
                    break
            edges[edge], edges[other] = b, a
            constraints_of[a][constraints_of[a].index(j)], constraints_of[b][constraints_of[b].index(k)] = k, j
    raise RuntimeError(f"N = {N}: found no graph with z = {z}, r = {r}, min_girth = {min_girth}; take a larger N")


def check_degrees(N: int, z: int, r: int) -> None:
    """Raise ValueError unless there is a (z, r)-regular graph of N nodes.

    Args:
        N: Number of nodes.
        z: Number of constraints per node.
        r: Number of nodes per constraint.
    """
    checks.size("N", N, minimum=2)
    checks.size("z", z)
    checks.size("r", r, minimum=2)
    if r > N:
        raise ValueError(f"r = {r}: expected at most N = {N}, the nodes that a constraint can see")
    if N * z % r:
        raise ValueError(f"r = {r}: expected a divisor of N z = {N * z}, the number of edges")


def _too_close(C: Int[np.ndarray, "constraints r"], N: int, girth: int) -> Int[np.ndarray, " edges"]:
    """An edge of each node that a constraint sees twice and, for girth 6, of each pair that shares two constraints."""
    first_slots, second_slots = np.triu_indices(C.shape[1], 1)
    low, high = np.minimum(C[:, first_slots], C[:, second_slots]), np.maximum(C[:, first_slots], C[:, second_slots])
    bad = (low == high).ravel()
    if girth == 6:
        pairs = (low.astype(np.int64) * N + high).ravel()
        order = np.argsort(pairs, kind="stable")
        bad[order[1:][pairs[order[1:]] == pairs[order[:-1]]]] = True
    constraint, pair = np.divmod(np.flatnonzero(bad), len(first_slots))
    return np.unique(constraint * C.shape[1] + first_slots[pair])


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
