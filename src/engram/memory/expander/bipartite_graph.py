"""The nodes of each constraint: the wiring of an expander memory and the parity-check matrix of a code."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from math import comb
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from numpy.typing import ArrayLike

from engram import checks

if TYPE_CHECKING:
    from scipy.sparse import csr_array

PADDING = -1  # fills the rows of nodes and constraints that have fewer neighbours than others
SETS = 10**9  # maximum number of sets that are examined


@dataclass(frozen=True, eq=False)
class BipartiteGraph:
    """A bipartite graph of nodes and constraints, without repeated edges.

    Its parity-check matrix has H[j, i] = 1 where constraint j sees node i. In a (z, r)-regular graph every node is in
    z constraints and every constraint sees r nodes, so that N z = M r.

    Args:
        C: Nodes that each constraint sees, (constraints, r); rows of constraints that see fewer end with -1.
        n_nodes: Number of nodes, N; the largest node of C plus 1 if None.

    Raises:
        ValueError: C is not such an array, a constraint sees a node twice or no node, or a node is in no constraint
            although ``n_nodes`` is None.

    Source: Sipser and Spielman, "Expander codes" (1996).

    Examples:
        >>> graph = BipartiteGraph(np.array([[0, 1], [1, 2]]))
        >>> graph.A.tolist(), graph.parity_check().tolist()
        ([[0, -1], [0, 1], [1, -1]], [[1, 1, 0], [0, 1, 1]])
    """

    C: Annotated[np.ndarray, "constraints r"]
    n_nodes: int | None = None

    def __post_init__(self) -> None:
        checks.arguments()
        C = np.asarray(self.C)
        if C.ndim != 2 or not C.size or C.dtype.kind not in "iu":
            raise ValueError(f"C is {C.dtype} of shape {C.shape}: expected integers, (constraints, r), not empty")
        nodes = int(C.max()) + 1 if self.n_nodes is None else self.n_nodes
        if C.min() < PADDING or C.max() >= nodes:
            raise ValueError(f"C has values from {C.min()} to {C.max()}: expected nodes, 0 .. {nodes - 1}, or -1")
        C = C.astype(np.int32)
        C.setflags(write=False)  # so that the indices that compiled code uses stay as checked
        padding, ordered = C == PADDING, np.sort(C, axis=1)
        repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PADDING)
        for wrong, problem in (
            ((padding[:, :-1] & ~padding[:, 1:]).any(axis=1), ": expected -1 only at its end"),
            (padding.all(axis=1), " sees no node: expected at least one of a constraint"),
            (repeated.any(axis=1), " sees a node twice: expected no repeated edge"),
        ):
            if wrong.any():
                raise ValueError(f"C[{wrong.argmax()}]{problem}")
        is_isolated = np.bincount(C[~padding], minlength=nodes) == 0
        if is_isolated.any() and self.n_nodes is None:
            raise ValueError(f"node {is_isolated.argmax()} is in no constraint: expected at least one, or n_nodes")
        object.__setattr__(self, "C", C)
        object.__setattr__(self, "n_nodes", nodes)

    @classmethod
    def from_parity_check(cls, H: Annotated[Any, ArrayLike]) -> BipartiteGraph:
        """The graph of a parity-check matrix, (constraints, nodes), dense or sparse; warns if the code is weak.

        Each constraint sees at least one node; a node may be in no constraint.
        """
        from scipy.sparse import csr_array

        with checks.noted(H=H):
            sparse = csr_array(H)
        sparse.eliminate_zeros()
        sparse.sort_indices()
        if sparse.ndim != 2 or not sparse.nnz or (sparse.data != 1).any():
            raise ValueError(f"H of shape {sparse.shape}: expected zeros and ones, (constraints, nodes), not all zero")
        degrees = np.diff(sparse.indptr)
        if not degrees.all():
            raise ValueError(f"H[{degrees.argmin()}] has no ones: expected at least one in each row")
        C = np.full((sparse.shape[0], int(degrees.max())), PADDING)
        C[np.arange(C.shape[1]) < degrees[:, None]] = sparse.indices
        graph = cls(C, int(sparse.shape[1]))
        if graph.n_components > 1:
            warnings.warn(f"H falls into {graph.n_components} parts that know nothing of each other", stacklevel=2)
        if graph.girth() == 4:
            warnings.warn("H has 4-cycles: two nodes that share two constraints hide each other's errors", stacklevel=2)
        return graph

    @cached_property
    def node_degrees(self) -> Int[np.ndarray, " nodes"]:
        """The number of constraints of each node: z in a regular graph."""
        return np.bincount(self.C[self.C != PADDING], minlength=self.n_nodes or 0).astype(np.int32)

    @cached_property
    def constraint_degrees(self) -> Int[np.ndarray, " constraints"]:
        """The number of nodes of each constraint: r in a regular graph."""
        return np.asarray((self.C != PADDING).sum(axis=1), np.int32)

    @cached_property
    def A(self) -> Int[np.ndarray, "nodes z"]:  # noqa: N802
        """The constraints that each node is in, in ascending order, filled up with -1."""
        return self._edges[0]

    @cached_property
    def slots(self) -> Int[np.ndarray, "nodes z"]:
        """The position of a node in the row of C of each of its constraints; 0 where A is -1."""
        return self._edges[1]

    @property
    def n_constraints(self) -> int:
        """The number of constraints, M."""
        return len(self.C)

    @cached_property
    def n_components(self) -> int:
        """The number of connected components."""
        from scipy.sparse.csgraph import connected_components

        H = self._sparse()
        return int(connected_components(H.T @ H, directed=False)[0])

    @cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        constraint, slot = np.nonzero(self.C != PADDING)
        node = self.C[constraint, slot]
        order = np.argsort(node, kind="stable")
        A = np.full((len(self.node_degrees), self.node_degrees.max()), PADDING, np.int32)
        slots = np.zeros_like(A)
        has_edge = np.arange(A.shape[1]) < self.node_degrees[:, None]
        A[has_edge], slots[has_edge] = constraint[order], slot[order]
        A.setflags(write=False)
        slots.setflags(write=False)
        return A, slots

    def _sparse(self) -> csr_array:
        from scipy.sparse import coo_array

        constraint, slot = np.nonzero(self.C != PADDING)
        shape = (self.n_constraints, len(self.node_degrees))
        return coo_array((np.ones(len(constraint), np.int32), (constraint, self.C[constraint, slot])), shape).tocsr()

    def parity_check(self) -> UInt8[np.ndarray, "constraints nodes"]:
        """The parity-check matrix H, dense."""
        return self._sparse().toarray().astype(np.uint8)

    def girth(self) -> int | None:
        """The length of the shortest cycle: 4 if two nodes share two constraints; None if there is no cycle."""
        from engram.memory.expander.kernels import graphs

        return graphs.girth(self.A, self.node_degrees, self.C, self.constraint_degrees) or None

    def expansion(self, max_size: int) -> float:
        """The smallest ratio of neighbours to edges over all sets of up to ``max_size`` nodes that have edges.

            min over S of |neighbours of S| / (edges of S)

        1 means that no two nodes of any such set share a constraint. Errors in sets with a ratio above 3/4 are
        corrected. All sets are examined; more than 10^9 of them, or an impossible size, raise ValueError.

        Examples:
            >>> BipartiteGraph(np.array([[0, 1], [1, 2]])).expansion(2)
            0.6666666666666666
        """
        from engram.memory.expander.kernels import graphs

        nodes = len(self.node_degrees)
        checks.size("max_size", max_size, maximum=nodes)
        sets = sum(comb(nodes, size) for size in range(1, max_size + 1))
        if sets > SETS:
            raise ValueError(f"max_size = {max_size}: {sets} sets of nodes, expected at most {SETS}")
        return float(graphs.expansion(self.A, self.node_degrees, self.n_constraints, max_size))


class SolutionSpace(NamedTuple):
    """All solutions b of H b = t modulo 2: b[pivots] = parity b[free] + offset, where b[free] takes any values."""

    free: Int[np.ndarray, " message"]  # indices of the free bits
    pivots: Int[np.ndarray, " rank"]  # indices of the bits that the free ones determine
    parity: UInt8[np.ndarray, "rank message"]
    offset: UInt8[np.ndarray, " rank"]


def solve(graph: BipartiteGraph, target: UInt8[np.ndarray, " constraints"]) -> SolutionSpace | None:
    """Solve H b = t modulo 2 by elimination on rows packed into words of 64 bits; None if there are no solutions.

    This takes about M^2 N / 64 steps: a tenth of a second for N = 2000.

    Examples:
        >>> solve(BipartiteGraph(np.array([[0, 1], [1, 2]])), np.array([0, 1], np.uint8)).offset
        array([1, 1], dtype=uint8)
    """
    from engram.memory.expander.kernels import graphs

    nodes = len(graph.node_degrees)
    # Bit i of word w of a row is column 64 w + i.
    rows = np.zeros((graph.n_constraints, (nodes + 63) // 64), np.uint64)
    constraint, slot = np.nonzero(graph.C != PADDING)
    words, bits = np.divmod(graph.C[constraint, slot], 64)
    np.bitwise_or.at(rows, (constraint, words), np.uint64(1) << bits.astype(np.uint64))
    offset = target.copy()
    pivots = graphs.eliminate(rows, offset, nodes)
    rank, free = len(pivots), np.setdiff1d(np.arange(nodes), pivots)
    if offset[rank:].any():
        return None
    words, bits = np.divmod(free, 64)
    parity = (rows[:rank, words] >> bits.astype(np.uint64)).astype(np.uint8) & np.uint8(1)
    return SolutionSpace(free, pivots, parity, offset[:rank])
