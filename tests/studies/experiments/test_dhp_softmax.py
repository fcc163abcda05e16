from dataclasses import replace

import numpy as np
import pytest
import torch

from engram.studies.experiments.dhp_softmax import experiment, training
from engram.studies.experiments.dhp_softmax.training import Classifier, Training, sequence

CONFIGS = {name: arm.config for name, arm in experiment.arms("smoke").items()}


def test_the_heads_of_all_arms_start_alike_but_for_their_scale():
    nets = {
        name: Classifier(config, 64, torch.Generator().manual_seed(0))
        for name, config in CONFIGS.items()
        if name.startswith("split")
    }
    body = nets["split-plain"].body[0].weight
    unscaled = nets["split-linear"].head.weight * 10**0.5
    for name, net in nets.items():
        assert torch.equal(net.body[0].weight, body)
        scale = CONFIGS[name].units ** 0.5 if CONFIGS[name].init == "fan_in" else 10**0.5
        torch.testing.assert_close(net.head.weight * scale, unscaled)


@pytest.mark.parametrize(("images", "learned"), [(70_000, 60_000), (10_000, 6666), (1797, 1198)])
def test_a_third_of_the_images_or_ten_thousand_are_left_for_tests(images, learned):
    assert training.trained_on(Training(train_images=60_000), images) == learned


def test_images_that_are_tested_are_not_learned():
    for tasks in ("split", "permuted", "imbalanced"):
        config = Training(tasks=tasks, images="digits", permutations=2)
        for task in sequence(config, torch.Generator().manual_seed(0)):
            learned = {tuple(row) for row in task.train.inputs.tolist()}
            assert not learned & {tuple(row) for row in task.test.inputs.tolist()}


def test_images_that_choose_a_strength_are_neither_learned_for_it_nor_tested():
    config = Training(images="digits")
    tested, chosen_by = (
        sequence(config, torch.Generator().manual_seed(0), validating=validating) for validating in (False, True)
    )
    for task, other in zip(tested, chosen_by, strict=True):
        learned, tried, validated, held_out = (
            {tuple(row) for row in data.inputs.tolist()} for data in (task.train, other.train, other.test, task.test)
        )
        assert tried | validated == learned
        assert not tried & validated
        assert not validated & held_out


def test_a_strength_is_chosen_without_changing_the_training(new_run):
    config, run = replace(CONFIGS["split-linear"], penalty="mas"), new_run()
    result = training.trial(replace(config, strengths=(0.1, 10.0, 1e3)), run)
    strength = run.choices["strength"]["chosen"]
    assert result == training.trial(replace(config, strength=strength), new_run())


def test_plasticity_without_coefficients_is_no_plasticity(new_run):
    linear, zero, plastic = (
        training.trial(CONFIGS[name], new_run()) for name in ("split-linear", "split-dhp-alpha-0", "split-dhp")
    )
    assert zero["weights"] == linear["weights"]
    assert zero["plastic_share"] == 0
    assert plastic["weights"] != linear["weights"]
    assert np.tri(5).astype(bool).tolist() == (np.array(plastic["matrix"]) >= 0).tolist()


@pytest.mark.parametrize("penalty", ["online-ewc", "si", "mas"])
def test_a_penalty_acts_from_the_second_task_on(penalty, new_run):
    free, penalised = (
        training.trial(
            replace(CONFIGS["split-linear"], tasks="permuted", penalty=penalty, strength=strength), new_run()
        )
        for strength in (0.0, 1e4)
    )
    assert free["matrix"][0] == penalised["matrix"][0]
    assert free["weights"] != penalised["weights"]


def test_the_merged_penalty_is_the_sum(new_run):
    assert 0 < training.exactness(CONFIGS["exactness"], new_run())["gap"] < 1e-9


def test_the_memory_of_all_permutations_is_told():
    config = Training(tasks="permuted", images="digits", permutations=30)
    tasks = sequence(config, torch.Generator().manual_seed(0))
    images = sum(data.inputs.nbytes for task in tasks for data in (task.train, task.test))
    assert images < training.memory(config) - 0.5e9 < 1.2 * images
    assert 2e9 < experiment.arms("large")["permuted-dhp"].memory < 4e9
    assert experiment.arms("laptop")["permuted-dhp"].memory < 1e9
