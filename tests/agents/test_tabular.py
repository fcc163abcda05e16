import warnings
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from engram.agents import EpsilonGreedy, MaxEntMellowmax, TabularQ, TabularQSS, evaluate, kernels, play_episode
from engram.agents.from_spaces import grid_of, mfec, nec, tabular_q
from engram.numeric.finite_mdp import FiniteMDP
from engram.storage import checkpoint
from engram.tasks.environments.grid_transfer import grid_transfer

GRID = grid_transfer()
GREEDY = EpsilonGreedy(0.0, 0, 1)


def learner(cls, mdp=GRID, seed=0, **options):
    states, actions, _ = mdp.successors.shape
    if cls is TabularQ:
        options = {"initial_value": 0.001, "learning_rate": 0.01, **options}
    return cls([0], [states], [states], actions, rng=np.random.default_rng(seed), **options)


def neighbours(mdp):
    return lambda s: mdp.successors[s].ravel().tolist()


def swept(agent, mdp, sweeps=60):
    """Learn every possible step from every state, again and again."""
    s, a, k = np.nonzero((mdp.probabilities > 0) & ~mdp.terminal[:, None, None])
    order = np.argsort(-s, kind="stable")  # from the goal on
    s, a, k = s[order], a[order], k[order]
    there = mdp.successors[s, a, k]
    for _ in range(sweeps):
        agent.partial_fit(s, a, mdp.rewards[s, a, k], there, mdp.terminal[there])
    return agent


def test_the_fixed_point_is_that_of_value_iteration():
    q = swept(learner(TabularQ, learning_rate=1.0), GRID)
    qss = swept(learner(TabularQSS, learning_rate=1.0), GRID)
    values = qss.transition_values()
    start = -(1 - 0.99**19) / 0.01 + 0.99**19
    assert start == pytest.approx(-16.5569689926057, abs=1e-12)
    assert q.value(0) == pytest.approx(start, abs=1e-12)
    assert qss.value(0) == pytest.approx(start, abs=1e-12)
    assert values[0, 1] == pytest.approx(start, abs=1e-12)
    assert values[0, 0] == pytest.approx(-17.3913993026797, abs=1e-12)
    assert values[9 * 11 + 10, 120] == 1.0
    for s in np.flatnonzero(~GRID.terminal):
        np.testing.assert_allclose(values[s, GRID.successors[s, :, 0]], q.table[s], rtol=0, atol=1e-12)
        np.testing.assert_allclose(qss.values(s), q.table[s], rtol=0, atol=1e-12)


def test_qss_prefers_the_edge_of_the_cliff():
    cliff = grid_transfer(cliff=True)
    with pytest.warns(RuntimeWarning, match="TabularQSS: action 0 led from cell 1"):
        values = swept(learner(TabularQSS, cliff, learning_rate=1.0), cliff).transition_values()
    start = cliff.start
    assert values[start, start + 1] == pytest.approx(0.99**9, abs=1e-12)
    assert values[start, start - 11] == pytest.approx(0.99**11, abs=1e-12)
    assert values[start, start + 11] == 0.0


def test_the_first_step():
    agent = learner(TabularQSS)
    agent.partial_fit(np.array([0]), np.array([3]), np.array([-1.0]), np.array([1]), np.array([False]))
    assert agent.transition_values()[0, 1] == pytest.approx(-0.0090001, abs=1e-15)
    q = learner(TabularQ)
    q.partial_fit(np.array([0]), np.array([3]), np.array([-1.0]), np.array([1]), np.array([False]))
    assert q.table[0, 3] == agent.transition_values()[0, 1]


@given(st.permutations(range(4)), st.integers(0, 2**31))
def test_labels_do_not_matter(labels, seed):
    rng, labels = np.random.default_rng(seed), np.array(labels)
    s, a = rng.integers(120, size=500), rng.integers(4, size=500)
    there = GRID.successors[s, a, 0]
    log = GRID.rewards[s, a, 0], there, GRID.terminal[there]
    plain, renamed, unlabelled = (learner(TabularQSS) for _ in range(3))
    plain.partial_fit(s, a, *log)
    renamed.partial_fit(s, labels[a], *log)
    unlabelled.partial_fit(s, None, *log)
    for other in (renamed, unlabelled):
        assert np.array_equal(plain.transition_values(), other.transition_values(), equal_nan=True)
    for cell, following in zip(s[:20].tolist(), there[:20].tolist(), strict=True):
        assert sorted(labels[plain.actions_for(cell, following)].tolist()) == renamed.actions_for(cell, following)
        assert unlabelled.actions_for(cell, following) == []


@pytest.mark.parametrize("cls", [TabularQ, TabularQSS])
def test_the_loop_is_the_plain_one(cls):
    """Greedy lives are not random, so that they can be lived step by step beside."""
    options = {"neighbours": neighbours(GRID), "inverse": causes} if cls is TabularQSS else {}
    looped, plain = (learner(cls, exploration=GREEDY, learning_rate=0.5, **options) for _ in range(2))
    looped.steps = 1  # beyond the first, which is random
    returns = looped.train(GRID, 40, max_steps=50)
    steps = 1
    for episode in range(40):
        s, total = GRID.start, 0.0
        for _ in range(50):  # greedily, first of the best, without learning
            s, r = move(plain, s)
            total += r
            if GRID.terminal[s]:
                break
        assert returns[episode] == total
        s = GRID.start
        for _ in range(50):
            there, r = move(plain, s)
            a = int(np.flatnonzero(GRID.successors[s, :, 0] == there)[0])
            if cls is TabularQ:
                a = int(plain.table[s].argmax())
            plain.partial_fit(np.array([s]), np.array([a]), np.array([r]), np.array([there]), GRID.terminal[[there]])
            s, steps = there, steps + 1
            if GRID.terminal[s]:
                break
    assert looped.steps == steps
    name = "table" if cls is TabularQ else "q"
    assert np.array_equal(looped.state_dict()[name], plain.state_dict()[name])


def causes(s, there):
    return np.flatnonzero(GRID.successors[s, :, 0] == there).tolist()


def move(agent, s):
    if isinstance(agent, TabularQ):
        a = int(agent.table[s].argmax())
    else:
        values = agent.transition_values()[s]
        there = max(dict.fromkeys(GRID.successors[s, :, 0].tolist()), key=lambda cell: values[cell])
        a = causes(s, there)[0]
    return int(GRID.successors[s, a, 0]), float(GRID.rewards[s, a, 0])


def bandit(probabilities=(1.0,), actions=4):
    """An MDP whose actions end it; outcome k of action a leads to the state 1 + a + k."""
    k = len(probabilities)
    successors = np.zeros((1 + actions + k, actions, k), int)
    successors[0] = 1 + np.arange(actions)[:, None] + np.arange(k)
    shape = successors.shape
    chances, terminal = np.broadcast_to(probabilities, shape).copy(), np.arange(shape[0]) > 0
    return FiniteMDP(successors, chances, np.ones(shape), terminal, 0)


def noisy_mdp(states=12, actions=3, outcomes=3):
    rng = np.random.default_rng(0)
    shape = states, actions, outcomes
    successors, terminal = rng.integers(states, size=shape), np.arange(states) == states - 1
    probabilities = rng.dirichlet(np.ones(outcomes), size=shape[:2])
    return FiniteMDP(successors, probabilities, rng.choice([-1.0, 0.0, 0.0, 1.0], size=shape), terminal, 2)


NOISY = noisy_mdp()


def possible_causes(s, there):
    return np.flatnonzero((NOISY.successors[s] == there).any(1))[::-1].tolist()


class PlainLearner:
    """Tables as dictionaries, lists for what is known, and every best transition looked up anew."""

    def __init__(self, inverse, rule, seed, steps):
        self.inverse, self.rule, self.seed, self.steps, self.count, self.q = inverse, rule, seed, steps, 0, {}
        self.neighbours = {s: [] if inverse else list(range(3)) for s in range(12)}
        self.actions, self.caused = {}, {}
        if callable(inverse):
            self.neighbours = {s: list(dict.fromkeys(NOISY.successors[s].ravel().tolist())) for s in range(12)}
            self.actions = {(s, there): inverse(s, there) for s in range(12) for there in self.neighbours[s]}

    def best(self, s):
        return max(self.neighbours[s], key=lambda key: self.q.get((s, key), 0.5), default=None)

    def action(self, s, count):
        actions = self.actions.get((s, self.best(s))) or range(3)
        return actions[self.below(len(actions), count)] if self.inverse else self.best(s)

    def below(self, bound, count):
        return kernels.below(np.uint64(kernels.number(self.seed, count)), bound)

    def outcome(self, s, a, count):
        chance = kernels.uniform(self.seed, count)
        k = int((chance >= NOISY.probabilities[s, a, :2].cumsum()).sum())
        return int(NOISY.successors[s, a, k]), NOISY.rewards[s, a, k]

    def evaluate(self, max_steps):
        s, rewards = NOISY.start, 0.0
        for _ in range(max_steps):
            a = self.action(s, self.count)
            self.count += bool(self.inverse)  # an action of Q-learning is not drawn
            s, r = self.outcome(s, a, self.count)
            self.count, rewards = self.count + 1, rewards + r
            if NOISY.terminal[s]:
                break
        return rewards

    def train(self, exploration, max_steps):
        s = NOISY.start
        for _ in range(max_steps):
            a = self.action(s, self.count + 1)
            if kernels.uniform(self.seed, self.count) < exploration.epsilon(self.steps):
                a = self.below(3, self.count + 1)
            there, r = self.outcome(s, a, self.count + 2)
            self.count, self.steps = self.count + 3, self.steps + 1
            self.learn(s, a, r, there)
            s = there
            if NOISY.terminal[s]:
                break

    def learn(self, s, a, r, there):
        key = there if self.inverse else a
        if key not in self.neighbours[s]:
            self.neighbours[s].append(key)
        next_value = 0.0 if NOISY.terminal[there] else self.q.get((there, self.best(there)), 0.5)
        value, (gamma, lr) = self.q.get((s, key), 0.5), self.rule
        self.q[s, key] = value + lr * (r + gamma * next_value - value)
        if self.inverse not in ("learned", "recent"):
            return
        previous = self.caused.get((s, a), there)
        if self.inverse == "recent" and previous != there:
            causes = self.actions[s, previous]
            causes[causes.index(a)] = causes[-1]  # the last one takes its place
            causes.pop()
        self.caused[s, a] = there
        causes = self.actions.setdefault((s, there), [])
        if a not in causes:
            causes.append(a)


@pytest.mark.parametrize("rule", [(0.8, 0.3), (1.0, 1.0)])  # the second makes many values equal
@pytest.mark.parametrize("inverse", [None, "learned", "recent", possible_causes])
def test_exploring_in_noise_is_the_plain_loop(inverse, rule):
    options = {"exploration": EpsilonGreedy(0.1, 20, 150), "initial_value": 0.5}
    options["gamma"], options["learning_rate"] = rule
    if inverse:
        options["inverse"] = inverse
    if callable(inverse):
        options["neighbours"] = neighbours(NOISY)
    agent = learner(TabularQSS if inverse else TabularQ, NOISY, **options)
    agent.steps = 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        returns = agent.train(NOISY, 60, max_steps=12, evaluations=2)
    plain = PlainLearner(inverse, rule, np.uint64(np.random.default_rng(0).integers(2**63)), 3)
    for mean_return in returns:
        assert mean_return == (plain.evaluate(12) + plain.evaluate(12)) / 2
        plain.train(options["exploration"], 12)
    assert agent.steps == plain.steps > 150
    if not inverse:
        assert np.array_equal(agent.table, [[plain.q.get((s, a), 0.5) for a in range(3)] for s in range(12)])
        return
    values = agent.transition_values()
    for s, cells in plain.neighbours.items():
        assert np.flatnonzero(np.isfinite(values[s])).tolist() == sorted(cells)
        for there in cells:
            assert values[s, there] == plain.q.get((s, there), 0.5)
            assert agent.actions_for(s, there) == sorted(plain.actions.get((s, there), []))


@pytest.mark.parametrize("cls", [TabularQ, TabularQSS])
def test_exploration_and_outcomes_have_their_probabilities(cls):
    rate, lives = 1e-5, 20_000
    options = {"exploration": EpsilonGreedy(1.0, 0, 1), "initial_value": 0.0, "learning_rate": rate}
    agent = learner(cls, bandit(), **options)
    agent.train(bandit(), lives, evaluations=0)
    known = agent.table[0] if cls is TabularQ else agent.transition_values()[0, 1:5]
    assert np.log1p(-known) / np.log1p(-rate) == pytest.approx([lives / 4] * 4, rel=0.06)
    if cls is TabularQSS:
        stochastic = bandit((0.2, 0.8), 1)
        agent = learner(cls, stochastic, **options)
        with pytest.warns(RuntimeWarning, match="two different cells"):
            agent.train(stochastic, lives, evaluations=0)
        counted = np.log1p(-agent.transition_values()[0, 1:3]) / np.log1p(-rate)
        assert counted == pytest.approx([0.2 * lives, 0.8 * lives], rel=0.06)


@pytest.mark.parametrize("actions", [4, 40])
@pytest.mark.parametrize("cls", [TabularQ, TabularQSS])
def test_the_cached_best_action_is_the_best(cls, actions):
    mdp = grid_transfer(4, n_actions=actions)
    agent = learner(cls, mdp, exploration=EpsilonGreedy(0.1, 0, 20_000), learning_rate=0.1)
    assert agent.train(mdp, 3000)[-1] == -4.0  # four steps that pay -1, and one that pays 1


def test_renamed_actions_are_relearned_with_the_same_values():
    agent = learner(TabularQSS, exploration=EpsilonGreedy(0.1, 0, 20_000), learning_rate=0.1)
    agent.train(GRID, 2000)
    values = agent.transition_values()
    agent.clear_inverse()
    assert np.array_equal(agent.transition_values(), values, equal_nan=True)
    assert agent.actions_for(0, 1) == []
    assert len(set(agent.values(0))) == 1, "no action is known to do what is best"
    agent.steps = 0
    returns = agent.train(grid_transfer(perm=(3, 2, 1, 0)), 300)
    assert agent.actions_for(0, 1) == [0]
    assert (returns[100:] == -18).all()


def test_recent_effects_replace_older_ones():
    there = np.array([1, 11])
    for inverse, known in (("recent", [[], [2, 3]]), ("learned", [[3], [2, 3]])):
        agent = learner(TabularQSS, inverse=inverse)
        transition = np.zeros(1, int), np.array([3]), np.array([-1.0])
        no = np.array([False])
        agent.partial_fit(*transition, there[:1], no)
        agent.partial_fit(np.zeros(1, int), np.array([2]), np.array([-1.0]), there[1:], no)
        with pytest.warns(RuntimeWarning, match=r"action 3 led from cell 0 to two .*clear_inverse"):
            agent.partial_fit(*transition, there[1:], no)
        assert [agent.actions_for(0, cell) for cell in there] == known


@pytest.mark.parametrize("cls", [TabularQ, TabularQSS])
def test_goes_on_exactly(cls, tmp_path):
    noisy = grid_transfer(5, noise=0.2, n_actions=6)
    options = {"exploration": EpsilonGreedy(0.1, 0, 5000)}
    agent, resumed = learner(cls, noisy, 1, **options), learner(cls, noisy, 2, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agent.train(noisy, 50)
        checkpoint.save(tmp_path / "agent", agent.state_dict())
        resumed.load_state_dict(checkpoint.load(tmp_path / "agent"))
        assert np.array_equal(agent.train(noisy, 50), resumed.train(noisy, 50))
    for name, table in agent._tables().items():
        assert np.array_equal(table, resumed._tables()[name]), name


def test_learns_step_by_step_too():
    env = gymnasium.make("engram.tasks:engram/GridTransfer-v0", size=4)
    exploration = EpsilonGreedy(0.1, 0, 2000)
    options = {"rng": np.random.default_rng(0), "exploration": exploration, "learning_rate": 0.5}
    agent = TabularQSS([-0.5] * 2, [3.5] * 2, [4, 4], 4, **options)
    seen = []
    while agent.steps < 4000:
        seen.append(play_episode(env, agent, seed=0))
    assert sum(one.length for one in seen) == agent.steps
    assert [played.total for played in evaluate(env, agent, 3, seed=0)] == [-4.0] * 3
    for one, two in pairwise([0, 1, 2, 3, 7, 11, 15]):
        cells = [divmod(cell, 4) for cell in (one, two)]
        assert agent.actions_for(*cells) == [3 if two == one + 1 else 1]


def test_a_grid_covers_the_space():
    low, high, bins = grid_of(spaces.Discrete(5, start=3))
    agent = TabularQ(low, high, bins, 2, rng=np.random.default_rng(0))
    assert [agent.cell(number) for number in range(3, 8)] == list(range(5))
    low, high, bins = grid_of(spaces.Box(np.array([0.0, 2.0]), np.array([0.5, 2.0]), dtype=np.float64))
    assert (low.tolist(), high.tolist()) == ([0.0, 2.0], [0.5, 3.0])  # a feature that never varies has one cell
    ends = np.array([[0.0, 5.0, -np.inf, -np.inf], [np.inf, np.inf, -10.0, 1.0]])
    low, high, _ = grid_of(spaces.Box(*ends, dtype=np.float64))
    assert (low.tolist(), high.tolist()) == ([0, 5, -16, -3], [3, 11, -10, 1])
    for kind in (np.int32, np.int64):
        low, high, _ = grid_of(spaces.Box(np.iinfo(kind).min, np.iinfo(kind).max, (1,), kind))
        assert (low.tolist(), high.tolist()) == ([-3], [3])


def test_wrong_use_is_told():
    zero, no = np.array([0]), np.array([False])
    with pytest.raises(ValueError, match=r"neighbours\(3\) = \[\]"):
        learner(TabularQSS, neighbours=lambda s: [] if s == 3 else [s])
    with pytest.raises(ValueError, match=r"neighbours\(0\) = \[121\]: expected .* from 0 to 120"):
        learner(TabularQSS, neighbours=lambda s: [121])
    with pytest.raises(ValueError, match=r"inverse\(0, 0\) = \[\]"):
        learner(TabularQSS, neighbours=neighbours(GRID), inverse=lambda s, there: [])
    with pytest.raises(ValueError, match=r"bins.shape = \(2,\): expected \(1\)"):
        TabularQ([0], [1], [2, 2], 2, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="neighbours = None"):
        learner(TabularQSS, inverse=causes)
    known = learner(TabularQSS, neighbours=neighbours(GRID), inverse=causes)
    with pytest.raises(ValueError, match="the inverse is a given function"):
        known.clear_inverse()
    with pytest.raises(ValueError, match="cell 50 follows cell 0: expected one of"):
        known.partial_fit(zero, zero, np.array([-1.0]), np.array([50]), no)
    with pytest.raises(ValueError, match="next_observation = 50: expected a neighbour of 0"):
        known.actions_for(0, 50)
    with pytest.raises(ValueError, match="actions = None: Q-learning"):
        learner(TabularQ).partial_fit(zero, None, np.array([-1.0]), zero, no)
    agent = learner(TabularQSS)
    with pytest.raises(ValueError, match="actions from 4 to 4"):
        agent.partial_fit(zero, np.array([4]), np.array([1.0]), zero, no)
    with pytest.raises(ValueError, match=r"observations\.shape = \(1, 2\): expected \(1, 1\)"):
        agent.partial_fit(zero[:, None].repeat(2, 1), zero, np.array([1.0]), zero[:, None].repeat(2, 1), no)
    agent.act(0)
    with pytest.raises(ValueError, match="observation = None"):
        agent.observe(1.0, True, False)
    with pytest.raises(ValueError, match=r"successors.shape = \(121, 40, 1\): expected \(121, 4, outcomes\)"):
        agent.train(grid_transfer(n_actions=40), 1)
    with pytest.raises(ValueError, match="probabilities"):
        agent.train(GRID._replace(probabilities=GRID.probabilities / 2), 1)
    jump = GRID.successors.copy()
    jump[0, 0] = 12
    with pytest.raises(ValueError, match="cell 12 follows cell 0"):
        known.train(GRID._replace(successors=jump), 1)
    with pytest.raises(TypeError, match="exploration is a MaxEntMellowmax"):
        learner(TabularQ, exploration=MaxEntMellowmax()).train(GRID, 1)


def test_observations_far_beyond_the_grid_are_in_the_outermost_cells():
    agent = TabularQ([0], [10], [10], 2, rng=np.random.default_rng(0))
    assert [agent.cell(value) for value in (1e19, np.inf, -1e30)] == [9, 9, 0]
    agent.partial_fit(np.array([1e19]), np.array([1]), np.array([1.0]), np.array([0.0]), np.array([True]))
    assert agent.table[9, 1] > 0
    for observation in (np.nan, [1.0, 2.0]):
        with pytest.raises(ValueError, match=r"observation = .*: expected 1 numbers"):
            agent.cell(observation)


def test_values_are_a_copy():
    agent = TabularQ([0], [2], [2], 2, rng=np.random.default_rng(0))
    agent.values(0)[:] = 5.0
    assert not agent.table.any()


def test_mellowmax_never_takes_an_action_of_value_minus_infinity():
    probabilities = MaxEntMellowmax(5.0).probabilities(np.array([1.0, -np.inf, 2.0]))
    np.testing.assert_allclose(probabilities[[0, 2]], MaxEntMellowmax(5.0).probabilities(np.array([1.0, 2.0])))
    assert probabilities[1] == 0


def test_the_agents_of_the_comparison_are_those_that_are_documented():
    box, three = spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(3)
    table, model_free, neural = (make(box, three, rng=np.random.default_rng(0)) for make in (tabular_q, mfec, nec))
    assert (table.bins.tolist(), table.actions, table.learning_rate) == ([64, 64], 3, 0.2)
    for agent in (table, model_free, neural):
        assert agent.exploration == EpsilonGreedy(final=0.05, start=0, end=1000)
    for agent, width in ((model_free, 2), (neural, 32)):
        assert (agent.memory.capacity, agent.memory.tables, agent.memory.keys.shape[-1]) == (1000, 3, width)
    assert (neural.learning_starts, neural.optimizer.param_groups[0]["lr"], neural._query["k"]) == (500, 5e-4, 11)


@pytest.mark.parametrize("cls", [TabularQ, TabularQSS])
def test_an_impossible_outcome_never_happens_where_the_probabilities_are_rounded(cls):
    successors = np.array([[[1, 2]], [[1, 1]], [[2, 2]]])  # the second outcome is only there for the other states
    probabilities = np.array([[[0.99999, 0.0]], [[0.5, 0.5]], [[0.5, 0.5]]])
    rewards = np.where(successors == 2, 1000.0, 0.0)
    mdp = FiniteMDP(successors, probabilities, rewards, np.array([False, True, True]), 0)
    agent = cls([0], [3], [3], 1, rng=np.random.default_rng(0))
    assert not agent.train(mdp, 300_000, max_steps=1).any()
