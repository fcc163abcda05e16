import pytest

from engram.experiments import meta_task_space as space
from engram.experiments.meta_task_space.learning import ManyTasks, tasks_of
from engram.lab import at_least, at_most, within
from engram.tasks.meta import digest, split_of


def test_the_criteria_are_those_of_the_protocol():
    holds = {claim.id: claim.holds for claim in space.claims}
    assert holds["expressivity"] == at_most(3)
    assert holds["acceptance"] == within(0.2155, 0.0105)
    assert holds["criteria"] == at_most(0.01)
    assert holds["strict-filter"] == within(0.39, 0.04)
    assert holds["no-false-alarm"] == at_most(0)
    assert holds["planted-degenerates"] == at_least(1)
    assert holds["single-optimum"] == within(0.56, 0.06)
    assert holds["novelty"] == at_least(0.99)
    assert holds["bandit-learnt"] == at_most(5)
    assert holds["two-step-learnt"] == at_least(0.72)
    assert holds["model-based"] == at_least(0.15)
    assert holds["model-based-as-inferred"] == at_least(0.068)
    assert holds["memory-needed"] == at_most(0.03)
    assert holds["learns-unseen-tasks"] == at_least(0.1)


def test_stay_probabilities_are_read_as_they_stand():
    metric = {claim.id: claim for claim in space.claims}["model-based"].metric
    # [rewarded, common]: stays after a rewarded common transition and after an unrewarded rare one.
    assert metric({"lstm-two-step": {"stays": [[0.9, 0.5], [0.4, 1.0]]}}) == pytest.approx(0.4)
    assert metric({"lstm-two-step": {"stays": [[0.5, 0.5], [1.0, 1.0]]}}) == 0  # only repeats what was rewarded


def test_tasks_to_train_on_and_to_test_on_have_nothing_in_common():
    train, test = tasks_of(ManyTasks(horizon=8, train_tasks=3, test_tasks=2), 0)
    assert [len(train), len(test)] == [3, 2]
    assert {split_of(digest(task)) for task in train} == {"train"}
    assert {split_of(digest(task)) for task in test} == {"test"}


def test_agents_differ_in_memory_task_and_length_of_training():
    arms = {name: arm.config for name, arm in space.arms(space.experiment.presets["laptop"].config).items()}
    assert [config.iterations for config in list(arms.values())[2:]] == [800, 800, 400, 400, 2000]
    named = {name: (arms[name].task, arms[name].memory) for name in list(arms)[2:6]}
    assert named == {
        "lstm-bandit": ("bandit", True),
        "lstm-two-step": ("two-step", True),
        "memoryless-bandit": ("bandit", False),
        "memoryless-two-step": ("two-step", False),
    }
    assert len({config.a2c for config in list(arms.values())[2:]}) == 1


def test_what_is_off_chance_is_the_worse_of_both_tasks():
    metric = {claim.id: claim for claim in space.claims}["memory-needed"].metric
    results = {"memoryless-bandit": {"reward": 0.4}, "memoryless-two-step": {"reward_per_trial": 0.52}}
    assert metric(results) == pytest.approx(0.1)
