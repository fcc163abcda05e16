"""The diagnosis: against brute force, against simulation, on tasks with planted defects, on the named ones."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.agents.reference import OracleAgent, RandomAgent, play
from engram.tasks.meta import (
    Grid,
    MetaTask,
    MetaTaskVectorEnv,
    RewardRule,
    StateVar,
    diagnose,
    named,
    sample,
    sample_instance,
)
from engram.tasks.meta.diagnose import _best_fixed, _search
from engram.tasks.meta.planning import enumerate_instances, model, optimal

GAMMA = 0.95


@pytest.mark.parametrize("name", named.degenerate())
def test_planted_defects_are_found(name):
    task, code = named.degenerate()[name]
    assert code in diagnose(task).codes


@pytest.mark.parametrize("name", named.catalogue())
def test_no_named_task_is_degenerate(name):
    assert diagnose(named.catalogue()[name]).degeneracies == ()


def test_known_gaps():
    gaps = {"two-step": 0.39, "t-maze": 0.45, "example 3": 0.147}
    assert {name: round(diagnose(named.catalogue()[name]).gap, len(str(gap)) - 2) for name, gap in gaps.items()} == gaps
    assert diagnose(named.harlow()).ambiguous == ((1, 2),)
    # The two cues ask for other turns at the end of the corridor, where the flag tells, which cannot be seen.
    assert diagnose(named.cue_t_maze()).ambiguous == ((1, 2),)


def test_the_shares_of_the_published_generator(effort):
    generator = np.random.default_rng(0)
    count = 100 * effort
    diagnoses = [diagnose(sample(generator, accept="reference", reference_quirks=True)) for _ in range(count)]
    measured = {"SINGLE_OPTIMUM": 0.56, "TRAP": 0.16, "UNREACHABLE": 0.034, "NO_REWARD": 0.038, "TRIVIAL": 0.021}
    shares = {code: np.mean([code in diagnosis.codes for diagnosis in diagnoses]) for code in measured}
    shares["gap"], measured["gap"] = np.mean([diagnosis.gap > 0.02 for diagnosis in diagnoses]), 0.31
    shares["pair"], measured["pair"] = np.mean([bool(diagnosis.ambiguous) for diagnosis in diagnoses]), 0.11
    for code, share in shares.items():
        assert abs(share - measured[code]) <= 3 * np.sqrt(
            measured[code] * (1 - measured[code]) * (1 / count + 1 / 1500)
        ), code


def brute_force(task, instance):
    """Value of the best policy of state and flag, by trying them all, each simulated as a chain in plain loops."""
    S, A = task.n_states, task.n_actions

    def place(value):
        return instance.states[value.index] if hasattr(value, "index") else value

    def step(s, f, a, s2):
        p, value = 0.0, 0.0
        for rule in task.reward_rules:
            fits = place(rule.old) in (-1, s) and rule.new in (-1, s2) and rule.action in (-1, a)
            if fits and rule.flag in (-1, f):
                q = rule.p
                if hasattr(q, "index"):
                    q = instance.probs[q.index] if type(q).__name__ == "ProbRef" else 1 - instance.probs[q.index]
                p, value = q, rule.value
        for rule in task.flag_rules:
            if place(rule.old) in (-1, s) and rule.new in (-1, s2) and rule.action in (-1, a):
                f = rule.set_to
        return p * value, 0 if s2 == 0 else f

    z = list(itertools.product(range(S), (0, 1)))
    r, P = np.zeros((2 * S, A)), np.zeros((2 * S, A, 2 * S))
    for (i, (s, f)), a, s2 in itertools.product(enumerate(z), range(A), range(S)):
        gain, f2 = step(s, f, a, s2)
        r[i, a] += task.transition[s][a][s2] * gain
        P[i, a, z.index((s2, f2))] += task.transition[s][a][s2]
    values = []
    for policy in itertools.product(range(A), repeat=2 * S):
        rows = np.arange(2 * S), np.array(policy)
        values.append(np.linalg.solve(np.eye(2 * S) - GAMMA * P[rows], r[rows])[0])
    return np.array(values)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from(["simple", "structured"]), st.integers(2, 4))
def test_the_values_are_those_of_brute_force(seed, style, n_states):
    task = sample(np.random.default_rng(seed), style, n_states=n_states, accept=None)
    diagnosis = diagnose(task, GAMMA)
    every = np.array([brute_force(task, instance) for instance in diagnosis.instances])
    np.testing.assert_allclose(diagnosis.per_instance, every.max(1), atol=1e-9)
    assert diagnosis.best_fixed_value == pytest.approx(every.mean(0).max(), abs=1e-9)
    assert diagnosis.random_value - 1e-9 <= diagnosis.oracle_value
    assert diagnosis.best_fixed_value <= diagnosis.oracle_value + 1e-9
    assert ("NO_REWARD" in diagnosis.codes) == (every.max() < 1e-9)
    if not diagnosis.ambiguous:
        assert ("SMALL_GAP" in diagnosis.codes) == (diagnosis.gap < 0.02)
        if "SINGLE_OPTIMUM" in diagnosis.codes:
            assert diagnosis.gap == pytest.approx(0, abs=1e-5)


@settings(max_examples=12)
@given(st.integers(0, 2**31), st.sampled_from(["simple", "structured", "grid"]))
def test_planning_agrees_with_simulation(seed, style):
    task = sample(np.random.default_rng(seed), style, accept=None, horizon=120)
    instance = sample_instance(task, np.random.default_rng(seed))
    gamma, lives = 0.9, 400
    mdps = model(task, [instance])
    Q = optimal(mdps, gamma)
    best = float((mdps.start * Q.max(2)).sum())
    uniform = np.full(Q.shape[1:], 1 / task.n_actions)
    transition = np.einsum("za,zay->zy", uniform, mdps.transition[0])
    V = np.linalg.solve(np.eye(len(transition)) - gamma * transition, (mdps.reward[0] * uniform).sum(1))
    chance = float((mdps.start[0] * V).sum())
    discounts = gamma ** np.arange(task.horizon)

    class Given(MetaTaskVectorEnv):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed, options={"instance": instance})

    env = Given(task, lives)
    states = mdps.reachable()[0].reshape(-1, task.n_states).any(0)
    for agent, expected in ((RandomAgent(np.random.default_rng(0)), chance), (OracleAgent(gamma), best)):
        lived = play(env, agent, seed=seed)
        returns = lived.rewards @ discounts
        # What comes after the horizon is left out.
        rest = discounts[-1] * gamma / (1 - gamma)
        assert abs(returns.mean() - expected) <= 4.5 * returns.std() / np.sqrt(lives) + rest + 1e-6
        assert states[lived.states[lived.states >= 0]].all()


def test_codes_of_states_are_those_of_the_transitions():
    generator = np.random.default_rng(7)
    for _ in range(30):
        task = sample(generator, accept=None)
        edges = np.array(task.transition).sum(1) > 0
        steps = np.linalg.matrix_power(np.eye(4) + edges, 4) > 0
        codes = diagnose(task).codes
        assert ("UNREACHABLE" in codes) == (not steps[0].all())
        assert ("TRAP" in codes) == (not steps[steps[0], 0].all())


@pytest.mark.parametrize("on_reward", ["none", "teleport", "reset", "terminate"])
def test_a_cell_that_always_pays_is_reached_though_nobody_stays_in_it(on_reward):
    def states(pays: int) -> str:
        rules, corridor = (RewardRule(new=pays),), Grid(1, 5, start=0, on_reward=on_reward)
        return diagnose(MetaTask(reward_rules=rules, topology=corridor)).codes.get("UNREACHABLE", "")

    assert states(pays=4) == ""
    beyond = "states [4]" if on_reward in {"reset", "terminate"} else ""
    assert states(pays=3) == beyond, "where one is put back, the cell behind it is out of reach"


def test_the_search_for_the_best_fixed_policy_finds_what_trying_all_finds():
    generator = np.random.default_rng(8)
    short = 0
    for _ in range(20):
        task = sample(generator, accept="reference")
        instances, _ = enumerate_instances(task)
        mdps = model(task, instances)
        Q = optimal(mdps, GAMMA)
        best, complete = _best_fixed(mdps, Q, GAMMA)
        assert complete
        searched = _search(mdps, Q, GAMMA)
        assert searched <= best + 1e-9
        short += searched < best - 1e-6
    assert short <= 1


def test_cosmetic_codes_do_not_make_a_task_degenerate():
    step = named.two_step()
    diagnosis = diagnose(replace(step, reward_rules=(RewardRule(0), RewardRule(0, p=0.0), *step.reward_rules)))
    assert tuple(diagnosis.codes) == ("SHADOWED",)
    assert diagnosis.degeneracies == ()
    assert "reward_rules[0]" in diagnosis.codes["SHADOWED"]


def test_instances_are_enumerated():
    instances, complete = enumerate_instances(named.bandit(2))
    assert complete
    assert len({instance.probs for instance in instances}) == 9
    some, complete = enumerate_instances(named.bandit(10), maximum=50)
    assert not complete
    assert len(set(some)) == 50
    keys = {instance.states for instance in enumerate_instances(named.dark_key_to_door(2))[0]}
    assert len(keys) == 16
    assert not diagnose(named.full_maze(3)).exact


def test_chains_of_distinct_states_that_allow_few_instances_are_enumerated():
    chain = (StateVar((1, 2)), *(StateVar((1, 2), distinct_from=k) for k in range(10)))
    task = replace(named.two_step(), state_vars=chain)  # 2^11 combinations, of which two have distinct neighbours
    instances, complete = enumerate_instances(task)
    assert complete
    assert [instance.states for instance in instances] == [(1, 2) * 5 + (1,), (2, 1) * 5 + (2,)]
    assert diagnose(task).exact
