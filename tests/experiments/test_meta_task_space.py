import dataclasses

import pytest

from engram.experiments import meta_task_space as space
from engram.lab import at_least, at_most, within
from engram.tasks.meta import split_of


def configs(config: object) -> dict:
    return {name: arm.config for name, arm in space.arms(config).items()}


SMOKE = space.experiment.presets["smoke"].config


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
    train, test = space.tasks_of(dataclasses.replace(SMOKE, study="many", train_tasks=3, test_tasks=2), 0)
    assert [len(train), len(test)] == [3, 2]
    assert {split_of(task.hash()) for task in train} == {"train"}
    assert {split_of(task.hash()) for task in test} == {"test"}


def test_an_arm_has_the_settings_that_shape_it_and_no_others():
    changed = dataclasses.replace(SMOKE, lifetimes=9, iterations=11, many_iterations=12, memoryless_iterations=13)
    arms, before = configs(changed), configs(SMOKE)
    assert {arm for arm in arms if arms[arm] != before[arm]} == set(arms) - {"generator"}
    assert [arms[arm].iterations for arm in list(arms)[2:]] == [11, 11, 13, 13, 12]
    assert [config.memory for config in arms.values()] == [True, True, True, True, False, False, True]
    assert arms["lstm-many"].clip_norm == changed.clip_norm
