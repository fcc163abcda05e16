"""Random meta-tasks: the statistics of the published generator, acceptance, splits."""

import itertools

import numpy as np
import pytest

from engram.tasks.meta import (
    MetaTaskVectorEnv,
    OneMinus,
    ProbRef,
    StateRef,
    StimVar,
    diagnose,
    digest,
    named,
    reference_criteria,
    sample,
    sample_many,
    split_of,
)

ATTEMPTS = 600
PUBLISHED = {"variation": 0.529, "control": 0.676, "leaves": 0.915, "entered": 0.549, "accepted": 0.2155}


def close(share, expected, count, errors=3.5):
    assert abs(share - expected) <= errors * np.sqrt(expected * (1 - expected) / count), (share, expected)


@pytest.fixture(scope="module")
def draws():
    generator = np.random.default_rng(1)
    return [sample(generator, accept=None, reference_quirks=True) for _ in range(ATTEMPTS)]


def test_the_published_generator_accepts_as_many(draws):
    met = np.array([reference_criteria(task) for task in draws])
    for column, name in enumerate(("variation", "control", "leaves", "entered")):
        close(met[:, column].mean(), PUBLISHED[name], ATTEMPTS)
    close(met.all(1).mean(), PUBLISHED["accepted"], ATTEMPTS)


def test_what_the_published_generator_draws(draws):
    rules = [rule for task in draws for rule in task.reward_rules]
    variables = [rule.p for rule in rules if isinstance(rule.p, ProbRef | OneMinus)]
    close(np.mean([isinstance(p, ProbRef) for p in variables]), 0.25, len(variables))
    close(np.mean([len(task.reward_rules) == 1 for task in draws]), 0.6, ATTEMPTS)
    close(np.mean([len(task.flag_rules) == 1 for task in draws]), 0.75, ATTEMPTS)
    close(np.mean([len(task.state_vars[0].values) == 2 for task in draws]), 0.75, ATTEMPTS)
    assert all(task.flag_rules[0].set_to == 1 for task in draws)
    assert all(rule.value == 1 and rule.new == -1 for rule in rules)
    for task in draws:
        assert len({stimulus for stimulus in task.stimuli if isinstance(stimulus, StimVar)}) != 1
        assert not any(rule.old == 1 and rule.flag == 1 for rule in task.reward_rules)  # the slip: not of state 0
        assert not any(rule.old == 0 and rule.action == -1 for rule in task.flag_rules)
        assert 0 not in task.state_vars[0].values


def test_without_the_slips_no_rule_waits_for_a_flag_in_state_0():
    generator = np.random.default_rng(2)
    tasks = [sample(generator, accept=None) for _ in range(300)]
    rules = [rule for task in tasks for rule in task.reward_rules]
    assert not any(rule.old == 0 and rule.flag == 1 for rule in rules)
    assert any(rule.old == 1 and rule.flag == 1 for rule in rules)
    variables = [rule.p for rule in rules if isinstance(rule.p, ProbRef | OneMinus)]
    close(np.mean([isinstance(p, ProbRef) for p in variables]), 0.5, len(variables))


def test_the_simple_style():
    generator = np.random.default_rng(3)
    tasks = [sample(generator, "simple", accept=None) for _ in range(200)]
    rules = [rule for task in tasks for rule in task.reward_rules]
    close(np.mean([isinstance(rule.old, StateRef) for rule in rules]), 0.5, len(rules))
    close(np.mean([rule.p == 1 for rule in rules]), 2 / 7, len(rules))
    close(np.mean([stimulus == -1 for task in tasks for stimulus in task.stimuli]), 1 / 6, 800)
    T = np.array([task.transition for task in tasks])
    assert (T[T > 0] >= 0.1 - 1e-12).all()
    assert sample(generator, "simple", n_states=6, n_actions=3).n_actions == 3


def test_grids_run_and_are_found_worth_it():
    generator = np.random.default_rng(4)
    seen = set()
    for _ in range(12):
        task = sample(generator, "grid", accept=None, horizon=12)
        seen.add((task.topology.walls, task.topology.obs))
        env = MetaTaskVectorEnv(task, 3)
        env.reset(seed=0)
        for _ in range(12):
            _, rewards, *_ = env.step(np.zeros(3, dtype=np.int64))
            assert np.isin(rewards, (0.0, 0.2, 1.0)).all()
    assert len(seen) > 5
    assert not diagnose(sample(np.random.default_rng(3), "grid")).degeneracies


def test_strict_tasks_are_not_degenerate_and_fulfil_the_criteria():
    for task in sample_many(8, 0):
        assert all(reference_criteria(task))
        assert not diagnose(task).degeneracies


def test_the_same_seed_gives_the_same_tasks_and_no_split_meets_another():
    splits = {split: sample_many(4, 0, split=split, accept=None) for split in ("train", "val", "test")}
    assert splits["train"] == sample_many(4, 0, split="train", accept=None)
    hashes = {split: {digest(task) for task in tasks} for split, tasks in splits.items()}
    for one, other in itertools.combinations(hashes.values(), 2):
        assert not one & other
    for split, digests in hashes.items():
        assert len(digests) == 4
        assert {split_of(digest) for digest in digests} == {split}


def test_the_same_task_under_other_names_is_drawn_once(monkeypatch):
    from engram.tasks.meta import generate

    twin = named.t_maze()
    tasks = iter([named.two_step(), named.two_step(), twin, twin, twin])
    monkeypatch.setattr(generate, "sample", lambda *_, **__: next(tasks))
    assert generate.sample_many(2, 0) == [named.two_step(), twin]
    assert generate.sample_many(2, 0, dedupe=False) == [twin, twin]


def test_what_cannot_be_found_is_said_with_reasons():
    with pytest.raises(RuntimeError, match=r"max_tries = 30: no task was accepted; .*no control 30"):
        sample(np.random.default_rng(0), n_actions=1, max_tries=30)
    with pytest.raises(RuntimeError, match=r"max_draws = 3: found 0 of n = 5 tasks; of another split 3"):
        sample_many(5, 1, split="test", accept=None, max_draws=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"style": "simple", "reference_quirks": True}, "reference_quirks = True with style = 'simple'"),
        ({"style": "grid", "accept": "reference"}, "accept = 'reference' with style = 'grid'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample(np.random.default_rng(0), **arguments)


def test_bad_arguments_of_many_are_named():
    with pytest.raises(ValueError, match=r"task.topology: expected None"):
        reference_criteria(named.dark_room(3))


def test_with_many_states_the_likeliest_successors_remain():
    task = sample(np.random.default_rng(0), "simple", n_states=60, accept=None)
    possible = np.array(task.transition)
    assert (possible.max(2) < 0.15).any()  # all weights but the largest are left out
    np.testing.assert_allclose(possible.max(2), 1 / (possible > 0).sum(2))
