import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.memory import (
    BipartiteGraph,
    ExpanderMemory,
    array_graph,
    corrupt,
    hamming74_blocks,
    local_graph,
    random_regular,
    recovery_rate,
)
from engram.memory.expander.flip_dynamics import ORDERS
from engram.memory.expander.recovery import random_states

LIMITS = {"glauber": 1, "wta": 10}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def all_states(nodes):
    return 1 - 2 * (torch.arange(2**nodes)[:, None] >> torch.arange(nodes) & 1)


def all_messages(size):
    return torch.arange(2**size)[:, None] >> torch.arange(size) & 1


def rank(H):
    """Return the rank over two elements, by elimination on Python integers."""
    rows, pivots = [int("".join(map(str, row)), 2) for row in H.tolist()], 0
    while rows:
        pivot = rows.pop()
        if pivot:
            pivots += 1
            low = pivot & -pivot
            rows = [row ^ pivot if row & low else row for row in rows]
    return pivots


def signs_of(memory, j, pattern):
    degree = memory.graph.constraint_degrees[j]
    return 1 - 2 * np.array([int(pattern) >> k & 1 for k in range(degree)])


def test_the_settled_energy_is_the_least_over_all_hidden_states():
    graph = random_regular(12, 3, 6, seed=0)
    memory = ExpanderMemory(graph, explicit_hidden=True)
    theta, inhibition = 7, 14
    generator = seeded()
    for x in 1 - 2 * torch.randint(0, 2, (10, 12), generator=generator):
        least, two_on = 0.0, np.inf
        for j, row in enumerate(graph.C):
            patterns = np.stack([signs_of(memory, j, p) for p in memory.permitted[j].nonzero()[:, 0]])
            assert len(patterns) == 32
            drive = patterns @ x.numpy()[row] + theta
            least += min(-drive)  # one neuron on; none on gives 0, which is more
            assert min(-drive) < 0
            pairs = [-drive[p] - drive[q] + inhibition for p, q in itertools.combinations(range(32), 2)]
            two_on = min(two_on, min(pairs) - min(-drive))
        assert two_on >= 0
        assert memory.energy(x[None]).item() == least == -6 * (6 + theta) + 2 * memory.violated(x[None]).sum().item()


@given(st.integers(0, 2**32), st.booleans())
def test_a_flip_changes_the_energy_by_twice_what_it_mends(seed, cosets):
    graph = random_regular(20, 5, 10, seed=seed)
    target = np.random.default_rng(seed).choice([-1, 1], graph.n_constraints) if cosets else None
    memory = ExpanderMemory(graph, target_parity=target)
    x = 1 - 2 * torch.randint(0, 2, (1, 20), generator=seeded(seed))
    u = memory.violated(x)[0][torch.tensor(graph.A).long()].sum(1)
    flipped = x * (1 - 2 * torch.eye(20, dtype=torch.long))
    change = memory.violated(flipped).sum(1) - memory.violated(x).sum()
    assert torch.equal(change, 5 - 2 * u)
    assert torch.equal(memory.energy(flipped) - memory.energy(x), 2.0 * change)


@pytest.mark.parametrize("size", [(12, 3, 6), (12, 4, 6), (20, 5, 10), (18, 3, 6)])
def test_every_stored_state_rests_in_every_order(size):
    memory = ExpanderMemory(random_regular(*size, seed=2))
    K = memory.message_size
    assert size[0] - rank(memory.graph.parity_check()) == K == memory.n_states_log2
    x = memory.encode(all_messages(K))
    assert len(x.unique(dim=0)) == 2**K
    assert not memory.violated(x).any()
    if size[1] % 2 == 0:
        assert size[0] - K <= memory.graph.n_constraints - 1  # all rows add up to nothing
    for order in ORDERS:
        result = memory.recall(x, order=order, generator=seeded())
        assert torch.equal(result.x, x)
        assert result.converged.all()
        assert not result.flips.any()


def test_states_are_counted_by_looking_at_all_of_them_too():
    graph = random_regular(12, 3, 6, seed=1)
    parity = ExpanderMemory(graph)
    even = [p for p in itertools.product((-1, 1), repeat=6) if np.prod(p) == 1]
    given_patterns = ExpanderMemory(graph, even)
    for memory in (parity, given_patterns):
        assert (~memory.violated(all_states(12)).any(1)).sum() == 2**parity.n_states_log2
    assert (parity.n_hidden, parity.n_weights) == (given_patterns.n_hidden, given_patterns.n_weights) == (192, 1152)


@pytest.mark.parametrize(("p", "z", "K"), [(7, 5, 18), (11, 5, 70), (7, 4, 24), (5, 3, 12), (13, 3, 132)])
def test_array_codes_have_the_known_rank(p, z, K):
    memory = ExpanderMemory(array_graph(p, z))
    assert memory.message_size == K == p * p - (z * p - z + 1)
    assert memory.n_weights == z * p * 2 ** (p - 1) * p


@pytest.mark.parametrize(("p", "z", "weight"), [(7, 5, 2), (7, 4, 2), (7, 3, 1), (11, 5, 2)])
def test_without_4_cycles_half_z_errors_vanish_in_one_parallel_step(p, z, weight):
    memory = ExpanderMemory(array_graph(p, z))
    wrong = list(itertools.chain(*(itertools.combinations(range(p * p), w) for w in range(1, weight + 1))))
    x = torch.ones(len(wrong), p * p, dtype=torch.int8)
    for row, nodes in enumerate(wrong):
        x[row, list(nodes)] = -1
    result = memory.recall(x, order="parallel", max_iter=1)
    assert (result.x == 1).all()
    assert result.converged.all()
    assert result.distance.tolist() == [len(nodes) for nodes in wrong]


def test_one_hamming_code_corrects_some_errors_by_luck_only():
    """Exactly a quarter of the time for positions in more than one check: what motivates expanders."""
    memory = ExpanderMemory(hamming74_blocks(1))
    tries = 20_000
    for position in range(1, 8):
        x = torch.ones(tries, 7, dtype=torch.int8)
        x[:, position - 1] = -1
        result = memory.recall(x, order="random", generator=seeded(position))
        right = (result.x == 1).all(1).float().mean().item()
        assert result.converged.all()
        expected = 1.0 if position in (1, 2, 4) else 0.25
        assert right == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / tries))
        assert (memory.recall(x, order="max", generator=seeded()).x == 1).all()


def test_the_lottery_of_the_winners_takes_as_long_as_derived():
    graph = random_regular(240, 5, 6, min_girth=6, seed=0)
    memory = ExpanderMemory(graph, order="wta")
    x = torch.ones(4000, 240, dtype=torch.int8)
    x[:, 7] = -1
    # With all five constraints violated: at least three of five vote for the flip, each with probability 1/6.
    chance = sum(p * (1 / 6) ** p * (5 / 6) ** (5 - p) * count / p for p, count in ((3, 10), (4, 5), (5, 1)))
    assert chance == pytest.approx(0.03549, abs=1e-5)
    result = memory.recall(x, generator=seeded())
    assert (result.x == 1).all()
    # The last sweep is the one that flips.
    mean, spread = 1 / chance, np.sqrt(1 - chance) / chance
    assert result.iterations.double().mean().item() == pytest.approx(mean, abs=4 * spread / np.sqrt(4000))
    assert memory.violated(x[:1]).sum() == 5


def test_averaged_ties_would_never_flip_anything():
    """The mean over equally good winners is x_i (1 - 2 u_i / (z r)) z: why the network draws one of them."""
    graph = random_regular(24, 3, 6, seed=0)
    memory = ExpanderMemory(graph, explicit_hidden=True)
    x = 1 - 2 * torch.randint(0, 2, (1, 24), generator=seeded())
    violated = memory.violated(x)[0].numpy()
    field = np.zeros(24)
    for j, row in enumerate(graph.C):
        patterns = np.stack([signs_of(memory, j, p) for p in memory.permitted[j].nonzero()[:, 0]])
        overlap = patterns @ x[0].numpy()[row]
        field[row] += patterns[overlap == overlap.max()].mean(axis=0)
    u = violated[graph.A].sum(axis=1)
    assert field == pytest.approx(x[0].numpy() * (3 - 2 * u / 6))


@given(st.integers(0, 2**32), st.sampled_from(ORDERS))
def test_noise_is_treated_alike_at_every_stored_state(seed, order):
    memory = ExpanderMemory(random_regular(60, 5, 6, seed=seed), order=order)
    generator = seeded(seed)
    word = random_states(memory, 1, generator)
    x = corrupt(torch.ones(8, 60, dtype=torch.int8), 0.08, generator=generator)
    of_one = memory.recall(x, LIMITS.get(order), generator=seeded(seed))
    of_word = memory.recall(x * word, LIMITS.get(order), generator=seeded(seed))
    assert torch.equal(of_one.x * word, of_word.x)
    assert torch.equal(of_one.flips, of_word.flips)


@pytest.mark.parametrize("order", ORDERS)
@given(seed=st.integers(0, 2**32))
def test_kernels_and_definition_and_explicit_neurons_take_the_same_path(order, seed):
    graph = random_regular(42, 4, 6, seed=seed) if seed % 2 else hamming74_blocks(5)
    target = np.random.default_rng(seed).choice([-1, 1], graph.n_constraints)
    batch = 70 if order == "parallel" else 8  # of which 64 share a word
    x = 1 - 2 * torch.randint(0, 2, (batch, len(graph.node_degrees)), generator=seeded(seed))
    x[::2] = corrupt(torch.ones_like(x[::2]), 0.1, generator=seeded(seed))
    results = [
        ExpanderMemory(graph, target_parity=target, explicit_hidden=explicit).recall(
            x, LIMITS.get(order), order, seeded(seed), trace=trace
        )
        for explicit, trace in itertools.product((False, True), (False, True))
    ]
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0][:-1], other[:-1], strict=True))
    assert torch.equal(results[1].energy_trace, results[3].energy_trace)


@pytest.mark.parametrize("order", ORDERS)
@given(seed=st.integers(0, 2**32))
def test_kernels_and_definition_agree_on_patterns_of_any_kind(order, seed):
    rng = np.random.default_rng(seed)
    graph = random_regular(24, 3, 4, seed=seed)
    memory = ExpanderMemory(graph, "learn", order=order)
    memory.learn(torch.from_numpy(rng.choice([-1, 1], (rng.integers(1, 6), 24))))
    x = torch.from_numpy(rng.choice([-1, 1], (8, 24)))
    fast, plain = (memory.recall(x, LIMITS.get(order), generator=seeded(seed), trace=trace) for trace in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(fast[:-1], plain[:-1], strict=True))
    assert torch.equal(plain.energy_trace[:, -1], memory.energy(plain.x))


@pytest.mark.parametrize("order", ORDERS)
def test_the_number_of_threads_changes_nothing(order):
    memory = ExpanderMemory(random_regular(120, 5, 6, seed=0), order=order)
    x = corrupt(torch.ones(200, 120), 0.06, generator=seeded())
    one = memory.recall(x, LIMITS.get(order), generator=seeded())
    torch.set_num_threads(2)
    two = memory.recall(x, LIMITS.get(order), generator=seeded())
    assert all(torch.equal(a, b) for a, b in zip(one[:-1], two[:-1], strict=True))


@given(st.integers(0, 2**32), st.sampled_from(["max", "random"]))
def test_flips_one_by_one_lower_the_energy_each_time(seed, order):
    memory = ExpanderMemory(random_regular(30, 4, 6, seed=seed), order=order)
    x = 1 - 2 * torch.randint(0, 2, (5, 30), generator=seeded(seed))
    result = memory.recall(x, generator=seeded(seed), trace=True)
    steps = result.energy_trace.diff(dim=1)
    moving = torch.arange(steps.shape[1]) < result.iterations[:, None]
    assert (steps[moving] < 0).all()
    assert (steps[~moving] == 0).all()
    assert (result.flips <= memory.violated(x).sum(1)).all()
    assert result.stable.all()


def test_cold_glauber_reaches_the_end_states_of_random():
    memory = ExpanderMemory(random_regular(12, 3, 6, seed=3))
    start = 1 - 2 * torch.randint(0, 2, (12,), generator=seeded(1))
    x = start.expand(4000, 12)
    random = memory.recall(x, order="random", generator=seeded(1))
    glauber = memory.recall(x, 200, "glauber", seeded(2), beta=50.0)
    assert random.stable.all()
    assert glauber.stable.all()
    ends = {tuple(state) for state in random.x.tolist()}
    assert len(ends) > 1
    assert ends == {tuple(state) for state in glauber.x.tolist()}


def test_winners_rest_where_single_flips_rest():
    memory = ExpanderMemory(random_regular(12, 3, 6, seed=3))
    x = all_states(12)
    rests = [memory.recall(x, 0, order).stable for order in ORDERS]
    assert all(torch.equal(rests[0], other) for other in rests)
    assert rests[0].sum() > 2**memory.message_size  # wrong attractors exist
    results = [memory.recall(x[rests[0]], order=order, generator=seeded()) for order in ("wta", "random")]
    assert all(torch.equal(result.x, x[rests[0]]) for result in results)


@pytest.mark.parametrize("order", ["max", "random", "parallel"])
def test_what_cannot_be_corrected_is_not_converged(order):
    memory = ExpanderMemory(random_regular(480, 5, 10, seed=0), order=order)
    x = random_states(memory, 100, seeded())
    result = memory.recall(corrupt(x, 0.2, generator=seeded()), generator=seeded())
    wrong = (result.x != x).any(1)
    assert wrong.all()
    # The distance between stored states is far larger than what was moved: the constraints tell of each failure.
    assert not result.converged.any()
    assert torch.equal(result.satisfied, ~memory.violated(result.x).any(1))
    assert torch.equal(result.converged, result.satisfied & result.stable)


def test_going_back_and_forth_is_noticed():
    memory = ExpanderMemory(random_regular(480, 5, 6, seed=0), order="parallel")
    x = corrupt(torch.ones(1000, 480), 0.045, generator=seeded())
    result = memory.recall(x, generator=seeded())
    some = result.oscillating
    assert some.any()
    assert not result.stable[some].any()
    once, twice = memory.step(result.x[some]), memory.step(memory.step(result.x[some]))
    assert torch.equal(twice, result.x[some])
    assert (once != twice).any(1).all()


def test_a_fixed_share_of_errors_is_corrected_at_any_size_only_by_an_expander():
    """The published claim at a small size; ``engram run expander-memory`` is the whole of it."""

    def rate(graph, fraction, seed=1):
        memory = ExpanderMemory(graph)
        x = random_states(memory, 100, seeded(seed))
        return recovery_rate(memory, x, fraction, generator=seeded(seed))

    torch.manual_seed(0)
    for N in (240, 960):
        assert rate(random_regular(N, 5, 6, seed=0), 0.04) >= 0.95
    assert rate(local_graph(1920, 5, 6, 12, seed=0), 0.02) <= 0.35
    assert rate(hamming74_blocks(275), 0.04) <= 0.02


def test_messages_go_round():
    memory = ExpanderMemory(random_regular(240, 5, 6, seed=0))
    bits = torch.randint(0, 2, (100, memory.message_size), generator=seeded())
    x = memory.encode(bits)
    assert x.dtype == torch.int8
    assert torch.equal(memory.message(x).long(), bits)
    numbers = [sum(int(bit) << k for k, bit in enumerate(row)) for row in bits.tolist()]
    assert memory.index(x) == numbers
    as_bits = ExpanderMemory(memory.graph, encoding="bits")
    assert torch.equal(1 - 2 * as_bits.encode(bits), x)
    assert as_bits.index(as_bits.encode(bits)) == numbers


@given(st.integers(0, 2**32))
def test_target_parities_move_the_code_to_a_coset(seed):
    rng = np.random.default_rng(seed)
    graph = random_regular(20, 5, 10, seed=seed)
    shift = rng.choice([-1, 1], 20)
    memory = ExpanderMemory(graph, target_parity=shift[graph.C].prod(axis=1))
    x = random_states(memory, 10, seeded(seed))
    assert not memory.violated(x).any()
    assert not ExpanderMemory(graph).violated(x * torch.from_numpy(shift)).any()


def test_contradicting_parities_are_refused():
    # z is even: the product of all constraints is +1 for every state.
    graph = random_regular(12, 4, 6, seed=0)
    memory = ExpanderMemory(graph, target_parity=[-1] + [1] * (graph.n_constraints - 1))
    with pytest.raises(ValueError, match="target_parity: expected products that some state has"):
        memory.encode(torch.zeros(1, 1))


def test_erased_nodes_are_filled_by_their_constraints():
    memory = ExpanderMemory(random_regular(480, 5, 6, min_girth=6, seed=0))
    x = random_states(memory, 50, seeded())
    erased = corrupt(x, 0.1, noise="erase", generator=seeded())
    result = memory.recall(erased, generator=seeded(), erasures=True)
    assert torch.equal(result.x, x)
    assert (result.distance == 0).all()
    with pytest.raises(ValueError, match=r"x\[0, \d+\] = 0: expected 1 or -1$"):
        memory.recall(erased)


def test_hidden_faults_are_survived_when_few():
    memory = ExpanderMemory(random_regular(480, 5, 6, seed=0), order="wta")
    x = random_states(memory, 10, seeded())
    noisy = corrupt(x, 0.02, generator=seeded())
    few = memory.recall(noisy, 1500, generator=seeded(), faults=0.02)
    many = memory.recall(noisy, 300, generator=seeded(), faults=0.3)
    assert (few.x == x).all(1).float().mean() >= 0.8
    assert not many.converged.any()


@given(st.integers(0, 2**32))
def test_faults_are_those_of_the_definition(seed):
    memory = ExpanderMemory(random_regular(24, 3, 4, seed=seed), order="wta")
    x = corrupt(torch.ones(10, 24), 0.1, generator=seeded(seed))
    fast, plain = (memory.recall(x, 20, generator=seeded(seed), faults=0.1, trace=trace) for trace in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(fast[:-1], plain[:-1], strict=True))


def test_a_broken_cluster_answers_any_of_its_patterns_equally_often():
    """With all clusters broken, a node flips if two of its three clusters, or all, happen to say so."""
    for explicit in (False, True):
        memory = ExpanderMemory(random_regular(24, 3, 4, seed=0), order="wta", explicit_hidden=explicit)
        x = torch.ones(5000, 24)
        x[:, 0] = -1
        flipped = (memory.recall(x, 1, generator=seeded(), faults=1.0).x != x).double().mean(0)
        assert flipped == pytest.approx(np.full(24, 0.5), abs=5 * 0.5 / np.sqrt(5000))


def test_winners_are_nearest_patterns():
    graph = random_regular(24, 3, 6, seed=0)
    x = 1 - 2 * torch.randint(0, 2, (200, 24), generator=seeded())
    implicit, explicit = (
        ExpanderMemory(graph, explicit_hidden=kind).hidden(x, generator=seeded()) for kind in (False, True)
    )
    assert torch.equal(implicit, explicit)
    memory = ExpanderMemory(graph)
    for j, row in enumerate(graph.C.copy()):
        winner = torch.from_numpy(np.stack([signs_of(memory, j, p) for p in implicit[:, j]]))
        assert (winner.prod(1) == 1).all()
        assert torch.equal((winner != x[:, row]).sum(1), memory.violated(x)[:, j].long())


def test_samples_of_a_code_teach_all_of_it():
    graph = random_regular(240, 4, 5, seed=0)
    code, memory = ExpanderMemory(graph), ExpanderMemory(graph, "learn")
    assert memory.coverage().eq(0).all()
    result = memory.learn(random_states(code, 200, seeded()))
    assert result.conflicts.eq(0).all()
    assert result.recruited.sum() == memory.n_hidden == code.n_hidden
    assert memory.coverage().eq(1).all()
    fresh = random_states(code, 100, seeded(1))
    assert not memory.violated(fresh).any()
    noisy = corrupt(fresh, 0.03, generator=seeded())
    taught, built = (m.recall(noisy, generator=seeded()) for m in (memory, code))
    assert torch.equal(taught.x, built.x)


@pytest.mark.parametrize("policy", ["reject", "allow", "repair"])
def test_what_a_cluster_does_with_a_pattern_too_near(policy):
    memory = ExpanderMemory(BipartiteGraph(np.array([[0, 1, 2], [2, 3, 4]])), "learn")
    first = torch.tensor([[1, 1, 1, 1, 1]])
    assert memory.learn(first).recruited.item() == 2
    second = torch.tensor([[-1, 1, 1, -1, -1]])
    result = memory.learn(second, policy)
    assert result.conflicts.item() == 1
    assert result.recruited.item() == {"reject": 1, "allow": 2, "repair": 1}[policy]
    assert result.x.tolist() == [[1 if policy == "repair" else -1, 1, 1, -1, -1]]
    assert memory.violated(second).tolist() == [[policy != "allow", False]]
    assert not memory.violated(result.x)[0, 1]


@given(st.integers(0, 2**32))
def test_rejecting_clusters_end_in_packings_of_distance_two(seed):
    memory = ExpanderMemory(random_regular(24, 3, 4, seed=seed), "learn")
    memory.learn(torch.from_numpy(np.random.default_rng(seed).choice([-1, 1], (300, 24))))
    near = torch.stack([memory.permitted[:, torch.arange(16) ^ (1 << k)] for k in range(4)]).any(0)
    assert not (near & memory.permitted).any()
    assert (near | memory.permitted).all()  # maximal


def test_more_than_twenty_nodes_in_a_constraint_are_no_matter_without_explicit_neurons():
    graph = array_graph(23, 5)
    memory = ExpanderMemory(graph)
    x = random_states(memory, 5, seeded())
    assert torch.equal(memory.recall(corrupt(x, 2 / 529, generator=seeded()), generator=seeded()).x, x)
    with pytest.raises(ValueError, match="graph has constraints of 23 nodes: expected at most 20"):
        ExpanderMemory(graph, explicit_hidden=True)


def test_gradients_pass_straight_through():
    memory = ExpanderMemory(random_regular(60, 5, 6, seed=0))
    x = torch.ones(1, 60, requires_grad=True)
    (x + (memory(x) - x).detach()).sum().backward()
    assert x.grad.eq(1).all()


def test_a_memory_comes_back_from_its_file(tmp_path):
    graph = random_regular(24, 3, 4, seed=0)
    memory = ExpanderMemory(graph, "learn", order="random")
    memory.learn(1 - 2 * torch.randint(0, 2, (20, 24), generator=seeded()))
    memory.save(tmp_path / "learned")
    again = ExpanderMemory.load(tmp_path / "learned")
    x = 1 - 2 * torch.randint(0, 2, (50, 24), generator=seeded(1))
    assert torch.equal(memory.recall(x, generator=seeded()).x, again.recall(x, generator=seeded()).x)
    again.learn(x)
    coset = ExpanderMemory(graph, target_parity=[-1] * graph.n_constraints, encoding="bits")
    coset.save(tmp_path / "coset")
    bits = (1 - x) // 2
    assert torch.equal(ExpanderMemory.load(tmp_path / "coset").violated(bits), coset.violated(bits))
    state = ExpanderMemory(graph, "learn")
    state.load_state_dict(memory.state_dict())
    assert torch.equal(state.energy(x), memory.energy(x))
    with pytest.raises(ValueError, match=r"state_dict\['clusters'\] is of another graph: expected that of this memory"):
        ExpanderMemory(random_regular(24, 3, 4, seed=1), "learn").load_state_dict(memory.state_dict())
    with pytest.raises(ValueError, match=r"state_dict\['target'\] is of another target_parity"):
        ExpanderMemory(graph).load_state_dict(coset.state_dict())


SMALL = random_regular(12, 3, 6, seed=0)
STATE = torch.ones(2, 12)
LONG = ExpanderMemory(BipartiteGraph(np.arange(70)[None]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.recall(torch.ones(2, 11)), r"x.shape = \(2, 11\): expected \(batch, 12\)"),
        (lambda m: m.recall(torch.ones(0, 12)), r"x.shape = \(0, 12\): expected \(batch, 12\), a batch of at least 1"),
        (lambda m: m.recall(STATE * 2), r"x\[0, 0\] = 2.0: expected 1 or -1"),
        (lambda m: m.recall(STATE * float("nan")), r"x\[0, 0\] = nan: expected 1 or -1"),
        (lambda m: m.recall(STATE * 2, erasures=True), r"expected 1 or -1 or, for an unknown node, 0"),
        (lambda m: m.recall(STATE, order="fast"), r"order = 'fast': expected one of 'max'"),
        (lambda m: m.recall(STATE, -1), r"max_iter = -1: expected at least 0"),
        (lambda m: m.recall(STATE, faults=0.1), r"faults = 0.1: expected 0 with order = 'max'"),
        (lambda m: m.recall(STATE, order="wta", faults=2.0), r"faults = 2.0: expected a number from 0 to 1"),
        (lambda m: m.recall(STATE, order="glauber", beta=float("nan")), r"beta = nan: expected a number of at least 0"),
        (lambda m: m.encode(torch.ones(1, 3)), r"bits.shape = \(1, 3\): expected \(batch, 7\)"),
        (lambda m: m.encode(2 * torch.ones(1, 7)), r"bits holds other values: expected zeros and ones"),
        (lambda m: m.message(STATE.clone().index_fill_(1, torch.tensor([0]), -1)), r"x\[0\] violates 3 constraints"),
        (lambda m: m.learn(STATE), r"patterns = 'parity': expected 'learn'"),
        (lambda m: ExpanderMemory(SMALL, "learn").learn(STATE, "forget"), r"policy = 'forget': expected one of"),
        (lambda m: ExpanderMemory(SMALL, "learn").encode(STATE), r"patterns = 'learn': expected 'parity'"),
        (lambda m: ExpanderMemory(SMALL, "even"), r"patterns = 'even': expected 'parity', 'learn'"),
        (lambda m: ExpanderMemory(SMALL, order="fast"), r"order = 'fast': expected one of"),
        (lambda m: ExpanderMemory(SMALL, encoding="spins"), r"encoding = 'spins': expected one of 'signs', 'bits'"),
        (lambda m: ExpanderMemory(SMALL, target_parity=[1, 2]), r"target_parity of shape \(2,\): expected \+1 or -1"),
        (lambda m: ExpanderMemory(SMALL, "learn", [1] * 6), r"target_parity is given: expected None"),
        (lambda m: ExpanderMemory(SMALL, np.ones((2, 5))), r"patterns of constraint 0 of shape \(2, 5\)"),
        (lambda m: ExpanderMemory(SMALL, [np.ones((1, 6))] * 2), r"patterns has 2 sets: expected 6"),
        (
            lambda m: ExpanderMemory(SMALL, [[1] * 6, [-1] + [1] * 5]),
            r"patterns of constraint 0: expected a distance of at least 2",
        ),
        (
            lambda m: ExpanderMemory(random_regular(24, 3, 4), "learn").n_states_log2,
            r"patterns = 'learn': expected 'parity', whose states can be counted",
        ),
        (lambda m: LONG.hidden(torch.ones(1, 70)), "graph has constraints of 70 nodes: expected at most 62"),
        (
            lambda m: LONG.recall(torch.ones(1, 70), order="wta", faults=0.1),
            "graph has constraints of 70 nodes: expected at most 53",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    memory = ExpanderMemory(SMALL)
    assert memory.message_size == 7
    with pytest.raises(ValueError, match=message):
        call(memory)
