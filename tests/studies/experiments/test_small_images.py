import pytest

from engram.studies.experiments import (
    align,
    continual_learners,
    first_order_preconditioning,
    hebbian_cnn,
    learning_rules_on_images,
    small_images,
    soft_hebbian_cnn,
)
from engram.studies.experiments.align.photographs import Photographs
from engram.studies.experiments.first_order_preconditioning.cifar import Cifar
from engram.studies.experiments.hebbian_cnn import Config as Hebbian
from engram.studies.experiments.small_images import DIGITS, read_images
from engram.studies.experiments.soft_hebbian_cnn import Config as SoftHebbian

CONFIGS = (Hebbian, SoftHebbian, Photographs, Cifar)


@pytest.mark.parametrize("config", CONFIGS)
def test_digits_for_training_are_not_tested_on(config):
    validation = {"validation_images": 97} if config in (Photographs, Cifar) else {}
    most = DIGITS - 200 - sum(validation.values())
    config(images="digits", train_images=most, test_images=200, **validation)
    with pytest.raises(ValueError, match=r"train_images.* = 1598: expected at most 1597 .*test_images = 200"):
        config(images="digits", train_images=most + 1, test_images=200, **validation)


@pytest.mark.parametrize("config", [Photographs, Cifar])
def test_photographs_are_left_for_validation(config):
    config(images="cifar10", train_images=40_000, validation_images=10_000)
    with pytest.raises(ValueError, match=r"train_images \+ validation_images = 50010: expected at most 50000"):
        config(images="cifar10", train_images=50_000, validation_images=10)


def test_as_many_digits_are_read_as_are_counted():
    assert len(read_images("digits", "train", 10_000)[0]) == DIGITS


@pytest.mark.parametrize(
    "experiment", [hebbian_cnn, soft_hebbian_cnn, align, first_order_preconditioning, learning_rules_on_images]
)
def test_all_files_of_images_are_asked_for_before_a_run_begins(experiment, monkeypatch):
    asked = []
    monkeypatch.setattr(small_images, "fetch", asked.append)
    configs = {arm: part.config for arm, part in experiment.experiment.arms("large").items()}
    configs |= {arm: part.config for arm, part in experiment.experiment.arms("laptop").items() if arm not in configs}
    for config in configs.values():
        experiment.experiment.check_requirements(config)
    assert asked == [config.images for config in configs.values() if hasattr(config, "images")]
    asked.clear()
    smoke = experiment.experiment.arms("smoke").values()
    assert all(experiment.experiment.check_requirements(arm.config) is None for arm in smoke)
    assert not asked


def test_images_of_any_benchmark_are_asked_for_before_a_run_begins(monkeypatch):
    asked = []
    monkeypatch.setattr(continual_learners, "images_of", asked.append)
    continual_learners.experiment.check_requirements(continual_learners.Config(benchmark="permuted-mnist"))
    assert asked == ["permuted-mnist"]
