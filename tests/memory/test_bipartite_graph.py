import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from engram.memory import BipartiteGraph, array_graph, hamming74_blocks, local_graph, random_regular


def shared_constraints(graph):
    """Return the largest number of constraints that two nodes share."""
    H = graph.parity_check().astype(int)
    shared = H.T @ H
    np.fill_diagonal(shared, 0)
    return shared.max()


def regular(graph, N, z, r):
    H = graph.parity_check()
    assert H.shape == (N * z // r, N)
    assert (H.sum(0) == z).all()
    assert (H.sum(1) == r).all()
    assert H.sum() == (graph.C >= 0).sum()  # no edge twice


@given(st.sampled_from([(12, 3, 6), (20, 5, 10), (24, 4, 6), (48, 5, 6), (36, 3, 4), (8, 4, 8)]), st.integers(0, 2**32))
def test_random_graphs_are_regular_and_simple(size, seed):
    regular(random_regular(*size, seed=seed), *size)


@given(st.integers(0, 2**32))
def test_girth_six_means_that_no_two_nodes_share_two_constraints(seed):
    graph = random_regular(120, 5, 6, min_girth=6, seed=seed)
    regular(graph, 120, 5, 6)
    assert shared_constraints(graph) == 1
    assert graph.girth() >= 6


def test_the_same_seed_gives_the_same_graph():
    first, again, other = (random_regular(60, 5, 6, seed=seed) for seed in (3, 3, 4))
    assert (first.C == again.C).all()
    assert (first.C != other.C).any()


@pytest.mark.parametrize(("p", "z"), [(3, 2), (5, 3), (7, 4), (7, 5), (11, 5)])
def test_array_graphs_share_at_most_one_constraint(p, z):
    graph = array_graph(p, z)
    regular(graph, p * p, z, p)
    assert shared_constraints(graph) == 1
    for i, j in itertools.product(range(p), range(p)):
        assert graph.A[i * p + j].tolist() == [layer * p + (j - layer * i) % p for layer in range(z)]


def test_local_graphs_are_regular_and_local():
    graph = local_graph(240, 5, 6, span=12, seed=1)
    regular(graph, 240, 5, 6)
    # The nodes of a constraint lie on an arc of the ring of nodes no longer than a window.
    ordered = np.sort(graph.C, axis=1)
    gaps = np.diff(np.concatenate((ordered, ordered[:, :1] + 240), axis=1), axis=1)
    assert (240 - gaps.max(axis=1) < 12).all()


def test_hamming_blocks_are_disjoint():
    graph = hamming74_blocks(3)
    assert graph.node_degrees.tolist() == [1, 1, 2, 1, 2, 2, 3] * 3
    assert graph.n_components == 3
    columns = graph.parity_check()[:3, :7].T @ [1, 2, 4]
    assert columns.tolist() == list(range(1, 8))


@given(st.integers(0, 2**32))
def test_places_lead_back_from_nodes_to_constraints(seed):
    graph = random_regular(30, 4, 5, seed=seed)
    nodes = np.arange(30)[:, None]
    assert (graph.C[graph.A, graph.slots] == nodes).all()


def brute_girth(graph):
    """Return the girth by removing each edge in turn and looking for the shortest way around it."""
    H = graph.parity_check()
    best = None
    for j, i in np.argwhere(H):
        depth, frontier = {("n", i): 0}, [("n", i)]
        for kind, at in frontier:
            neighbours = [("c", k) for k in np.flatnonzero(H[:, at])] if kind == "n" else []
            neighbours += [("n", k) for k in np.flatnonzero(H[at])] if kind == "c" else []
            for there in neighbours:
                if {(kind, at), there} == {("n", i), ("c", j)} or there in depth:
                    continue
                depth[there] = depth[kind, at] + 1
                frontier.append(there)
        if ("c", j) in depth:
            best = min(best or 10**9, depth["c", j] + 1)
    return best


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=3, unique=True), min_size=1, max_size=8).map(
        lambda rows: [*rows, [0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]
    )
)
def test_girth_is_that_of_a_plain_search(rows):
    C = np.full((len(rows), 3), -1)
    for j, row in enumerate(rows):
        C[j, : len(row)] = row
    graph = BipartiteGraph(C)
    assert graph.girth() == brute_girth(graph)


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_expansion_is_that_of_a_plain_search(seed, size):
    graph = random_regular(12, 3, 4, seed=seed)
    expected = min(
        len(set(graph.A[list(some)].flatten())) / (3 * count)
        for count in range(1, size + 1)
        for some in itertools.combinations(range(12), count)
    )
    assert graph.expansion(size) == pytest.approx(expected)


def test_array_graphs_of_five_layers_expand_and_of_three_do_less():
    # Two nodes share at most one constraint: 2 z - 1 neighbours of 2 z.
    assert array_graph(7, 5).expansion(2) == pytest.approx(0.9)
    assert array_graph(7, 3).expansion(2) == pytest.approx(5 / 6)


@pytest.mark.parametrize("kind", [np.asarray, csr_array, lambda H: H.tolist()])
def test_a_parity_check_matrix_comes_back(kind):
    H = np.array([[1, 1, 0, 1], [0, 1, 1, 0]])
    assert (BipartiteGraph.from_parity_check(kind(H)).parity_check() == H).all()


def test_cycles_and_parts_of_a_matrix_are_warned_of():
    with pytest.warns(UserWarning, match="4-cycles"):
        BipartiteGraph.from_parity_check([[1, 1, 0], [1, 1, 1]])
    with pytest.warns(UserWarning, match="falls into 2 parts"):
        BipartiteGraph.from_parity_check([[1, 1, 0, 0], [0, 0, 1, 1]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_regular(10, 3, 4), r"r = 4: expected a divisor of N z = 30"),
        (lambda: random_regular(4, 3, 6), r"r = 6: expected at most N = 4"),
        (lambda: random_regular(24, 5, 6, min_girth=6), r"N = 24: expected at least 1 \+ z \(r - 1\) = 26"),
        (lambda: array_graph(9, 3), r"p = 9: expected a prime"),
        (lambda: local_graph(48, 5, 6, span=20), r"N = 48: expected a multiple of r = 6 and of span = 20"),
        (lambda: BipartiteGraph(np.array([[0, 0], [0, 1]])), r"C\[0\] sees a node twice"),
        (lambda: BipartiteGraph(np.array([[-1, -1], [0, 1]])), r"C\[0\] sees no node"),
        (lambda: BipartiteGraph.from_parity_check([[1, 1], [0, 0]]), r"H\[1\] has no ones"),
        (lambda: BipartiteGraph(np.array([[0, 1], [-1, 0]])), r"C\[1\]: expected -1 only at its end"),
        (lambda: BipartiteGraph(np.array([[0, 2]])), r"node 1 is in no constraint"),
        (lambda: BipartiteGraph(np.array([[0, 5]]), 3), r"C has values from 0 to 5: expected nodes, 0 .. 2"),
        (lambda: BipartiteGraph(np.array([[0.5, 1.0]])), r"C is float64 of shape \(1, 2\): expected integers"),
        (lambda: BipartiteGraph.from_parity_check([[1, 2]]), r"expected zeros and ones"),
        (lambda: random_regular(960, 5, 6).expansion(5), r"max_size = 5: \d+ sets of nodes"),
    ],
)
def test_what_is_no_graph_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_girth_that_swaps_do_not_reach_is_an_error():
    with pytest.raises(RuntimeError, match="N = 9: found no graph with z = 4, r = 3, min_girth = 6"):
        random_regular(9, 4, 3, min_girth=6, seed=0)
