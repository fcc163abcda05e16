"""Fixed positions and a largest number of mutations, in every part that proposes sequences."""

import itertools
import warnings

import numpy as np
import pytest
import torch

from engram.generative.design import (
    GGS,
    AdaLead,
    CbAS,
    Consensus,
    Constraints,
    GibbsWithGradients,
    HillClimb,
    Population,
    RandomMutants,
    consensus,
    decode,
    encode,
    expand_hamming1,
    random_mutants,
)
from engram.generative.design.expand import hamming1_shell

ALL = np.array(list(itertools.product(range(3), repeat=4)), dtype=np.uint8)
WILD = np.array([0, 1, 2, 0], np.uint8)
LIMITS = Constraints(WILD, fixed=[1], max_mutations=2)


def allowed(rows):
    """Return by the definition which rows are allowed."""
    return np.array([row[1] == 1 and sum(a != b for a, b in zip(row, WILD, strict=True)) <= 2 for row in rows])


def test_what_is_allowed_what_is_restored_and_what_may_move():
    np.testing.assert_array_equal(LIMITS.hold(ALL), allowed(ALL))
    restored = LIMITS.restored(ALL, np.random.default_rng(0))
    assert allowed(restored).all()
    np.testing.assert_array_equal(restored[allowed(ALL)], ALL[allowed(ALL)])
    assert ((restored == ALL) | (restored == WILD)).all()
    inside = ALL[allowed(ALL)]
    moves = LIMITS.moves(inside, 3)
    for row, position, letter in itertools.product(range(len(inside)), range(4), range(3)):
        mutant = inside[[row]].copy()
        mutant[0, position] = letter
        assert moves[row, position, letter] == (position != 1 and allowed(mutant)[0])


SITES = torch.tensor([[0.0, 0.7, -0.4], [0.3, -0.2, 1.1], [0.5, 0.1, -0.9], [0.2, 1.3, 0.4]], dtype=torch.float64)


def energy(onehot):
    onehot = onehot.double()
    return (onehot * SITES).sum((1, 2)) + 0.8 * onehot[:, 0, 1] * onehot[:, 2, 2]


def test_the_balanced_rule_leaves_the_distribution_on_what_is_allowed_as_it_is():
    states = ALL[allowed(ALL)]
    sampler = GibbsWithGradients(energy, 0.7, vocab=3, constraints=LIMITS)
    order = sampler.first_order(states)
    log_q = sampler.log_proposal(order.changes)
    matrix = np.zeros((len(states), len(states)))
    for state, move in itertools.product(range(len(states)), range(12)):
        mutant = states[[state]].copy()
        mutant[0, move // 3] = move % 3
        target = np.flatnonzero((mutant == states).all(1))
        if not len(target) or move // 3 == 1:
            assert log_q[state, move] == -np.inf
        elif target[0] != state:
            old, new = (type(order)(order.values[[n]], order.changes[[n]]) for n in (state, target[0]))
            ratio = np.exp(sampler.log_ratio(old, new, states[[state]], np.array([move])))[0]
            matrix[state, target[0]] = np.exp(log_q[state, move]) * min(1, ratio)
    matrix += np.diag(1 - matrix.sum(1))
    stationary = np.exp(order.values / 0.35)
    stationary /= stationary.sum()
    np.testing.assert_allclose(stationary @ matrix, stationary, atol=1e-12)


@pytest.mark.parametrize("accept", ["balanced", "author", "always"])
def test_every_round_of_a_sampler_keeps_to_the_constraints(accept):
    sampler = GibbsWithGradients(energy, 0.5, 30, accept, vocab=3, clusters=8, constraints=LIMITS)
    start = Population(ALL[:40], np.arange(40.0))  # most of which are not allowed
    rng = np.random.default_rng(0)
    for rounds in (1, 2, 5):
        final, _ = sampler.run(start, rounds, rng)
        assert allowed(final.tokens).all()


@pytest.mark.parametrize("search", [HillClimb, AdaLead, CbAS, RandomMutants, Consensus])
def test_every_search_keeps_to_the_constraints(search):
    limits = Constraints(np.zeros(20, np.uint8), fixed=range(14), max_mutations=3)
    start = np.random.default_rng(0).integers(4, size=(30, 20)).astype(np.uint8)
    searching = search(start, (start == 3).sum(1).astype(float), population_size=200, vocab=4, constraints=limits)
    for _ in range(6):
        asked = searching.ask()
        assert limits.hold(asked).all()
        searching.tell((asked == 3).sum(1))
    best = searching.best(5)
    assert limits.hold(best.tokens).all()
    if search in (HillClimb, AdaLead):
        assert best.scores[0] == 3  # the best that is allowed
    if search is not Consensus:
        assert len(np.unique(asked, axis=0)) > 5


def test_the_shell_is_every_mutant_that_is_allowed_or_no_farther_than_its_parent():
    given = np.array([[0, 1, 2, 0], [1, 1, 0, 0], [1, 0, 0, 1]], np.uint8)  # the last has four mutations
    expected = set()
    for row, position, letter in itertools.product(given, (0, 2, 3), range(3)):
        mutant = row.copy()
        mutant[position] = letter
        if (mutant != WILD).sum() <= max(2, (row != WILD).sum()):
            expected.add(mutant.tobytes())
    expected -= {row.tobytes() for row in given}
    shell = hamming1_shell(given, 3, LIMITS)
    assert {row.tobytes() for row in shell} == expected
    assert len(shell) == len(expected)
    rng = np.random.default_rng(0)
    with pytest.warns(UserWarning, match=f"there are {3 + len(expected)} sequences"):
        grown = expand_hamming1(given, 60, rng, vocab=3, constraints=LIMITS)
    assert {row.tobytes() for row in grown[3:]} == expected
    some = expand_hamming1(given, 6, rng, vocab=3, constraints=LIMITS)
    assert {row.tobytes() for row in some[3:]} < expected


def test_a_walk_reaches_all_that_is_allowed_and_nothing_else():
    given = ALL[allowed(ALL)][:2]
    with pytest.warns(UserWarning, match=f"n = 70: there are {allowed(ALL).sum()} sequences"):
        grown = expand_hamming1(given, 70, np.random.default_rng(0), vocab=3, explore="walk", constraints=LIMITS)
    assert {row.tobytes() for row in grown} == {row.tobytes() for row in ALL[allowed(ALL)]}


def test_random_mutants_keep_to_the_constraints():
    mutants = random_mutants(ALL, 300, np.random.default_rng(0), vocab=3, letters=2, constraints=LIMITS)
    assert allowed(mutants).all()
    with pytest.raises(ValueError, match="letters = 4"):
        random_mutants(ALL, 3, np.random.default_rng(0), vocab=3, letters=4, constraints=LIMITS)


def test_designs_of_a_long_construct_change_measured_sites_alone():
    rng = np.random.default_rng(0)
    construct = rng.integers(20, size=60).astype(np.uint8)
    tokens = np.repeat(construct[None], 300, 0)
    sites = [10, 11, 30, 53]
    tokens[:, sites] = rng.integers(20, size=(300, 4))
    tokens = np.unique(tokens, axis=0)
    y = rng.normal(size=(4, 20))[np.arange(4), tokens[:, sites].astype(int)].sum(1)
    options = {
        "n_nodes": 700,
        "channels": 8,
        "epochs": 30,
        "smooth_epochs": 10,
        "lr": 1e-2,
        "rounds": 4,
        "random_state": 0,
    }
    fixed = sorted(set(range(60)) - set(sites))
    design = GGS(fixed=fixed, max_mutations=2, wild_type=decode(construct[None])[0], **options)
    designed = encode(design.fit(decode(tokens), y).sample(20))
    assert len(np.unique(designed, axis=0)) == 20
    assert ((designed != construct).sum(1) <= 2).all()
    assert (designed[:, fixed] == construct[fixed]).all()
    assert (design.nodes_[:, fixed] == construct[fixed]).all()
    of_consensus = GGS(fixed=fixed, **options).fit(decode(tokens), y)
    best = consensus(tokens)
    assert (encode(of_consensus.sample(20))[:, fixed] == best[fixed]).all()


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"fixed": [4]}, "fixed = 4: expected 0 to 3"),
        ({"fixed": range(4)}, "all 4 positions are fixed"),
        ({"max_mutations": 0}, "max_mutations = 0"),
        ({"wild_type": "AA", "max_mutations": 1}, "wild_type has length 2: expected 4"),
    ],
)
def test_constraints_that_leave_nothing_are_refused(options, pattern):
    with pytest.raises(ValueError, match=pattern):
        GGS("AC", kernel=2, **options).fit(["AACA", "ACCA", "AACC"], [0.0, 1.0, 2.0])


def test_designs_that_are_all_measured_are_told():
    singles = ["AAAAAA", *("A" * site + "C" + "A" * (5 - site) for site in range(6))]
    options = {"n_nodes": 7, "gamma": 0.0, "channels": 4, "epochs": 1, "rounds": 2, "random_state": 0}
    design = GGS("AC", max_mutations=1, wild_type="AAAAAA", **options)
    with warnings.catch_warnings(action="ignore"):  # of the network, which need not be good
        design.fit(singles, [0.0, 1, 1, 1, 0, 0, 0])
    with pytest.warns(UserWarning, match="no round accepted a sequence that was not measured"):
        assert set(design.sample(3)) <= set(singles)
