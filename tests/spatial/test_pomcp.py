import functools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from engram.spatial.pomcp import POMCP
from engram.spatial.pomcp.kernels import empty_tree, search

LISTEN, LEFT, RIGHT, RESET = 0, 1, 2, 2
ACCURACY, COST, BITTEN, TREASURE = 0.85, -1.0, -100.0, 10.0


class Tiger:
    """Two doors, a tiger behind one: what is known is the probability that it is behind the right one."""

    n_actions = 3

    @staticmethod
    def sample(root, rng):
        return int(rng.random() < root)

    @staticmethod
    def step(state, action, rng):
        if action == 0:
            return state, state if rng.random() < 0.85 else 1 - state, -1.0, False
        reward = -100.0 if action - 1 == state else 10.0
        return int(rng.random() < 0.5), 2, reward, False


class CompiledTiger(Tiger):
    sample = staticmethod(njit(Tiger.sample))
    step = staticmethod(njit(Tiger.step))


def tiger_values(belief, horizon, discount):
    """The exact values of the three actions for a belief that the tiger is on the right."""

    @functools.cache
    def best(belief, horizon):
        return max(values(belief, horizon)) if horizon else 0.0

    def values(belief, horizon):
        right, wrong = ACCURACY * belief, (1 - ACCURACY) * belief
        heard = [(1 - ACCURACY) * belief + ACCURACY * (1 - belief), right + (1 - ACCURACY) * (1 - belief)]
        after = [round(wrong / heard[0], 12), round(right / heard[1], 12)]
        listened = COST + discount * sum(p * best(b, horizon - 1) for p, b in zip(heard, after, strict=True))
        again = discount * best(0.5, horizon - 1)
        doors = [TREASURE * belief + BITTEN * (1 - belief) + again, TREASURE * (1 - belief) + BITTEN * belief + again]
        return [listened, *doors]

    return values(belief, horizon)


@njit
def along(state, action, rng):
    position, waiting = state
    reached = min(max(position + (1 if action == 0 else -1 if action == 1 else 0), 0), 8)
    reward = 1.0 if waiting and reached == 3 else 0.0
    return (reached, waiting and reached != 3), reached, reward, reached == position


class Corridor:
    """Nine cells in a row with a reward in the fourth: forward, backward, left and right, of which two bump."""

    n_actions = 4
    step = staticmethod(along)


class Table:
    """A finite process, of which the state is observed."""

    def __init__(self, transitions, rewards):
        self.transitions, self.rewards = transitions.cumsum(2), rewards
        self.n_actions = rewards.shape[1]

    def step(self, state, action, rng):
        following = int(np.searchsorted(self.transitions[state, action], rng.random(), side="right"))
        following = min(following, len(self.transitions) - 1)
        return following, following, self.rewards[state, action], False


def exact_values(transitions, rewards, horizon, discount):
    best = np.zeros(len(rewards))
    for _ in range(horizon):
        values = rewards + discount * transitions @ best
        best = values.max(1)
    return values


def test_three_cells_ahead_is_three_steps_away():
    """O5: the value of the best action is at most 0.9^2, and nearly every seed goes forward."""
    forward = 0
    for seed in range(100):
        planner = POMCP(Corridor(), depth=20, n_queries=2000, discount=0.9, avoid_terminal=True, random_state=seed)
        forward += planner.plan((0, True)) == 0
        assert 0.6 <= planner.tree_.root_values.max() <= 0.81 + 1e-12
    assert forward >= 99


def test_a_finite_process_gets_the_values_of_value_iteration():
    rng = np.random.default_rng(3)
    transitions = rng.dirichlet(np.full(3, 0.5), (3, 2))
    rewards = rng.random((3, 2))
    expected = exact_values(transitions, rewards, 4, 0.9)
    for state in range(3):
        planner = POMCP(Table(transitions, rewards), depth=4, n_queries=3000, discount=0.9, random_state=state)
        assert planner.plan(state) == expected[state].argmax()
        assert planner.tree_.root_values.max() == pytest.approx(expected[state].max(), abs=0.06)


@pytest.mark.parametrize("belief", [0.5, 0.85, 0.97])
def test_the_tiger_gets_the_values_of_its_beliefs(belief):
    expected = tiger_values(belief, 3, 0.95)
    planner = POMCP(CompiledTiger(), depth=3, n_queries=400_000, discount=0.95, ucb=100.0, random_state=1)
    assert planner.plan(belief) == np.argmax(expected)
    value = planner.tree_.root_values.max()
    assert max(expected) - 0.5 <= value <= max(expected) + 0.05  # a mean over actions tried, not all the best


def test_compiled_or_not_the_tree_is_the_same():
    plain, compiled = (
        POMCP(model, depth=8, n_queries=300, ucb=50.0, discount=0.95, ucb_scale=scale, random_state=4)
        for model, scale in ((Tiger(), "range"), (CompiledTiger(), "range"))
    )
    assert not plain.compiled
    assert compiled.compiled
    assert plain.plan(0.5) == compiled.plan(0.5)
    assert len(plain.tree_) == len(compiled.tree_)
    for name in ("visits", "counts", "values", "ended", "parent", "action", "child"):
        np.testing.assert_array_equal(getattr(plain.tree_, name), getattr(compiled.tree_, name))
    assert plain.tree_.observations == compiled.tree_.observations
    assert plain.rng.random() == compiled.rng.random()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 6), st.sampled_from([None, "range"]))
def test_a_tree_adds_up(seed, queries, depth, scale):
    planner = POMCP(Tiger(), depth=depth, n_queries=queries, ucb=20.0, ucb_scale=scale, random_state=seed)
    planner.plan(0.3)
    tree = planner.tree_
    assert tree.visits[0] == tree.root_visits.sum() == queries
    assert (tree.counts.sum(1) == tree.visits).all()
    assert len(tree) <= queries + 1
    for node in range(1, len(tree)):
        behind = tree.counts[tree.parent[node], tree.action[node]]
        assert tree.visits[node] < behind or tree.visits[node] == 0
    largest = 100 * sum(0.9**step for step in range(depth))
    assert np.abs(tree.values).max() <= largest + 1e-9
    leaves = {(path.nodes[-1], path.action): path.taken for path in tree.paths()}
    assert len(leaves) == (tree.child < 0).sum()
    assert all(tree.counts[leaf] == count for leaf, count in leaves.items())


def test_an_action_that_ends_is_avoided_only_on_request():
    class Ends:
        n_actions = 2

        def step(self, state, action, rng):
            return state, state, (0.0, -0.5)[action], action == 0

    options = {"depth": 3, "n_queries": 50, "random_state": 0}
    assert POMCP(Ends(), **options).plan(0) == 0
    assert POMCP(Ends(), **options, avoid_terminal=True).plan(0) == 1


def test_a_rollout_is_followed():
    class Far:
        n_actions = 2

        def step(self, state, action, rng):
            state = state + 1 if action == 1 else 0
            return state, 0, float(state == 12), state == 12

    planner = POMCP(Far(), depth=12, n_queries=1, discount=1.0, rollout=lambda state, rng: 1, random_state=2)
    planner.plan(0)
    assert planner.tree_.root_values.max() == float(planner.tree_.root_visits[1])


class Says:
    """A model whose step returns what it is told to."""

    n_actions = 2

    def __init__(self, result):
        self.result = result

    def step(self, state, action, rng):
        return self.result


@pytest.mark.parametrize(
    ("result", "error", "pattern"),
    [
        ((0, 0, 1.0), TypeError, r"model\.step returned \(0, 0, 1\.0\): expected \(state, observation, reward, done\)"),
        (None, TypeError, "model.step returned None"),
        ((0, [1], 1.0, False), TypeError, r"the observation \[1\].*hashable"),
        ((0, 0, "much", False), TypeError, "the reward 'much'"),
        ((0, 0, float("nan"), False), ValueError, "the reward nan: expected a finite number"),
        ((0, 0, 1.0, "no"), TypeError, "done = 'no': expected a bool"),
        ((0, 0, 1.0, 0), TypeError, "done = 0: expected a bool"),
    ],
)
def test_nonsense_of_a_model_is_named(result, error, pattern):
    with pytest.raises(error, match=pattern):
        POMCP(Says(result), depth=2, n_queries=2, random_state=0).plan(0)


def test_a_compiled_model_observes_integers():
    class Floats:
        n_actions = 2
        step = staticmethod(njit(lambda state, action, rng: (state, 0.5, 1.0, False)))

    with pytest.raises(TypeError, match="integer observation"):
        POMCP(Floats(), depth=2, n_queries=2, random_state=0).plan(0)


def test_a_compiled_model_ends_with_a_bool():
    class Says:
        n_actions = 2
        step = staticmethod(njit(lambda state, action, rng: (state, 0, 1.0, "no")))

    with pytest.raises(TypeError, match="done = 'no': expected a bool"):
        POMCP(Says(), depth=2, n_queries=2, random_state=0).plan(0)


@pytest.mark.parametrize(
    ("arguments", "error", "pattern"),
    [
        ({"depth": 0}, ValueError, "depth = 0: expected at least 1"),
        ({"n_queries": 0}, ValueError, "n_queries = 0"),
        ({"discount": 0.0}, ValueError, "discount = 0"),
        ({"discount": 1.5}, ValueError, "discount = 1.5"),
        ({"ucb": float("inf")}, ValueError, "ucb = inf"),
        ({"ucb_scale": "max"}, ValueError, "ucb_scale = 'max'"),
        ({"rollout": 3}, ValueError, "rollout = 3"),
        ({"rollout": np.zeros(0)}, ValueError, r"rollout = array of shape \(0,\)"),
        ({"model": object()}, TypeError, "model = <object.*expected n_actions and step"),
    ],
)
def test_bad_arguments_are_named(arguments, error, pattern):
    with pytest.raises(error, match=pattern):
        POMCP(**({"model": Tiger()} | arguments))


def test_the_tiger_of_pomdp_py_is_valued_alike():
    """The tree of another implementation, grown from as many episodes, gives the same action and about its value."""
    pomdp_py = pytest.importorskip("pomdp_py")
    from pomdp_py.problems.tiger.tiger_problem import TigerProblem

    random.seed(0)
    problem = TigerProblem.create("tiger-left", 0.5, 0.15)
    options = {"max_depth": 3, "discount_factor": 0.95, "num_sims": 20_000, "exploration_const": 100.0}
    theirs = pomdp_py.POUCT(**options, rollout_policy=problem.agent.policy_model)
    action = theirs.plan(problem.agent)
    ours = POMCP(CompiledTiger(), depth=3, n_queries=20_000, discount=0.95, ucb=100.0, random_state=1)
    assert ours.plan(0.5) == LISTEN
    assert action.name == "listen"
    best = max(tiger_values(0.5, 3, 0.95))  # that of theirs is a mean over more exploration
    assert best - 4 <= problem.agent.tree[action].value <= best + 0.1
    assert best - 4 <= ours.tree_.root_values[LISTEN] <= best + 0.1


def test_an_action_that_was_never_tried_is_not_chosen():
    class Costs:
        n_actions = 6

        def step(self, state, action, rng):
            return state, 0, -9.0 if action == 5 else -1.0, True

    planner = POMCP(Costs(), depth=1, n_queries=4, random_state=0)
    action = planner.plan(0)
    assert planner.tree_.root_visits[action] > 0
    assert planner.tree_.root_values[action] == -1


def test_an_unsigned_observation_is_found_again():
    def step(state, action, rng):
        return state, np.uint64(2**63 + 5), 0.5, False  # half of all hashes are as large

    tree, rng = empty_tree(51, 2), np.random.default_rng(0)
    assert search(step, lambda root, rng: root, None, 0, rng, tree, 3, 50, 0.9, 1.0, False, False) == 1 + 2 + 4 + 8
