import pytest

from engram.experiments.align.photographs import Photographs
from engram.experiments.first_order_preconditioning.cifar import Cifar
from engram.experiments.hebbian_cnn import Config as Hebbian
from engram.experiments.small_images import DIGITS, read_images
from engram.experiments.soft_hebbian_cnn import Config as SoftHebbian

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
