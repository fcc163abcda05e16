import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from engram.memory import (
    BipartiteGraph,
    ExpanderMemory,
    array_graph,
    belief_propagation,
    bit_flip_decode,
    corrupt,
    gallager_b_decode,
    hamming74_blocks,
    random_regular,
)
from engram.memory.expander.recovery import random_states


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_matrix_is_decoded_as_its_graph_is():
    graph = random_regular(60, 5, 6, seed=0)
    x = (torch.rand(50, 60, generator=seeded()) < 0.08).to(torch.uint8)
    of_graph = bit_flip_decode(graph, x, generator=seeded())
    of_matrix = bit_flip_decode(csr_array(graph.parity_check()), x, generator=seeded())
    assert torch.equal(of_graph.x, of_matrix.x)
    signs = ExpanderMemory(graph).recall
    assert torch.equal(1 - 2 * of_graph.x.long(), signs(1 - 2 * x.long(), generator=seeded()).x)
    few = bit_flip_decode(graph, x, order="random", max_iter=2, generator=seeded())
    wanted = ExpanderMemory(graph, order="random", encoding="bits").recall(x, 2, generator=seeded())
    assert torch.equal(few.x, wanted.x)
    assert not few.converged.all()


def test_beliefs_on_a_tree_are_exact():
    """Without cycles the sum-product algorithm gives the posterior: here that of the words of even parity."""
    every, flip = torch.tensor(list(itertools.product((0, 1), repeat=4))), 0.2
    odd, even = every[every.sum(1) % 2 == 1], every[every.sum(1) % 2 == 0]
    beliefs = belief_propagation([[1, 1, 1, 1]], odd, flip)
    wrong = (odd[:, None] != even).sum(2).double()
    posterior = flip**wrong * (1 - flip) ** (4 - wrong)
    one = posterior @ even.double()
    assert torch.allclose(beliefs.log_ratio, ((posterior.sum(1, keepdim=True) - one) / one).log())


def test_a_check_of_one_bit_and_a_bit_without_checks_are_believed():
    """The posterior of all words, those included that arrive valid, given disjoint checks."""
    every, flip = torch.tensor(list(itertools.product((0, 1), repeat=5))), 0.2
    H = torch.tensor([[1, 0, 0, 0, 0], [0, 1, 1, 1, 0]])
    codewords = every[((every @ H.T) % 2 == 0).all(1)]
    assert len(codewords) == 8
    beliefs = belief_propagation(H.numpy(), every, flip)
    wrong = (every[:, None] != codewords).sum(2).double()
    posterior = flip**wrong * (1 - flip) ** (5 - wrong)
    one = posterior @ codewords.double()
    log_ratio = ((posterior.sum(1, keepdim=True) - one) / one).log()
    assert torch.allclose(beliefs.log_ratio[:, 1:], log_ratio[:, 1:])
    assert (beliefs.x[:, 0] == 0).all()
    assert (beliefs.log_ratio[:, 0] > 20).all()
    valid = ((every @ H.T) % 2 == 0).all(1)
    assert torch.equal(beliefs.x[valid].long(), every[valid])
    certain = belief_propagation([[1, 0]], torch.ones(1, 2), 1e-20)
    assert (certain.x.tolist(), certain.converged.tolist()) == ([[0, 1]], [True])


@pytest.mark.parametrize("order", ["max", "random", "parallel", "wta"])
def test_a_check_of_one_bit_is_obeyed_and_a_bit_without_checks_is_kept(order):
    H = [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 1, 0, 1, 0]]
    every = torch.tensor(list(itertools.product((0, 1), repeat=5)))
    decoded = bit_flip_decode(H, every, order=order, generator=seeded())
    assert decoded.satisfied.all()
    assert torch.equal(decoded.x[:, 4].long(), every[:, 4])
    assert not decoded.x[:, 0].any()
    with pytest.warns(UserWarning, match="H falls into 3 parts"):
        graph = BipartiteGraph.from_parity_check(H)
    assert graph.parity_check().tolist() == H
    assert ExpanderMemory(graph).n_states_log2 == 2
    assert graph.expansion(2) == 3 / 4


def test_belief_propagation_corrects_what_flips_do_not():
    memory = ExpanderMemory(random_regular(960, 5, 6, seed=0))
    x = random_states(memory, 30, seeded())
    noisy = corrupt(x, 0.1, generator=seeded())
    believed = belief_propagation(memory.graph, noisy < 0, 0.1)
    assert ((1 - 2 * believed.x.long()) == x).all()
    assert believed.converged.all()
    assert (memory.recall(noisy, generator=seeded()).x == x).all(1).float().mean() <= 0.3


@pytest.mark.parametrize("z", [3, 4, 5])
def test_gallagers_messages_correct_single_errors(z):
    graph = array_graph(7, z)
    x = torch.eye(49, dtype=torch.uint8)
    assert not gallager_b_decode(graph, x).any()


def gallager_b(H, x, threshold, rounds):
    """Return a word decoded by messages one after another, as the equations have them."""
    checks, word = [np.flatnonzero(row).tolist() for row in H], x.copy()
    of_bit = [[j for j, bits in enumerate(checks) if i in bits] for i in range(len(x))]
    sent = {(i, j): x[i] for i in range(len(x)) for j in of_bit[i]}
    for _ in range(rounds):
        if not (H @ word % 2).any():
            break
        back = {(j, i): sum(sent[k, j] for k in bits if k != i) % 2 for j, bits in enumerate(checks) for i in bits}
        for i, received in enumerate(x):
            for j in of_bit[i]:
                opposite = sum(back[k, i] != received for k in of_bit[i] if k != j)
                sent[i, j] = 1 - received if opposite >= threshold else received
            votes = [back[j, i] for j in of_bit[i]] + [received]  # a tie leaves the bit as it was received
            word[i] = 1 - received if 2 * sum(vote != received for vote in votes) > len(votes) else received
    return word


@pytest.mark.parametrize(("z", "threshold"), [(3, 1), (3, None), (4, 2), (5, 3)])
def test_gallagers_messages_are_those_of_the_equations(z, threshold):
    graph = array_graph(5, z)
    x = (torch.rand(20, 25, generator=seeded()) < 0.15).to(torch.uint8)
    for rounds in (1, 2, 5):
        decoded = gallager_b_decode(graph, x, threshold=threshold, max_iter=rounds)
        others = z - 1 if threshold is None else threshold
        expected = [gallager_b(graph.parity_check(), row, others, rounds) for row in x.numpy()]
        np.testing.assert_array_equal(decoded.numpy(), expected)


@pytest.mark.parametrize(
    ("size", "threshold", "limit"), [((3, 6), 2, 0.0395), ((5, 6), 3, 0.0650), ((5, 10), 3, 0.0249)]
)
def test_gallagers_messages_work_below_their_threshold_and_not_above(size, threshold, limit):
    """On long codes messages err as density evolution says: thresholds of the specification."""
    graph = random_regular(6000, *size, min_girth=6, seed=0)
    clean = torch.zeros(8, 6000)
    left = {}
    for factor in (0.75, 1.3):
        received = (corrupt(1 - 2 * clean, factor * limit, generator=seeded()) < 0).to(torch.uint8)
        left[factor] = gallager_b_decode(graph, received, threshold=threshold, max_iter=60).float().mean().item()
    assert left[0.75] < 1e-3
    assert left[1.3] > 0.3 * limit


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gallager_b_decode(hamming74_blocks(1), torch.zeros(1, 7)), "H is not regular"),
        (lambda: gallager_b_decode([[1, 1, 0], [0, 0, 1]], torch.zeros(1, 3)), "z = 1 ones in each column"),
        (lambda: gallager_b_decode(array_graph(5, 3), torch.zeros(1, 25), max_iter=-1), "max_iter = -1: expected"),
        (lambda: belief_propagation(array_graph(5, 3), torch.zeros(1, 25), 0.5), "flip_probability = 0.5: expected"),
        (lambda: bit_flip_decode(array_graph(5, 3), -torch.ones(1, 25)), r"x\[0, 0\] = -1.0: expected 0 or 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
