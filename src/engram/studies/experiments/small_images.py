"""Small images that several experiments classify: CIFAR-10, its JPEG-encoded copy, or enlarged digits."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from sklearn.datasets import load_digits

from engram.tasks.data import fetch, load

Images = Literal["digits", "cifar10-jpeg", "cifar10"]
Split = Literal["train", "test"]
DIGITS, PHOTOGRAPHS = 1797, 50_000  # images of digits in all, and of CIFAR-10 for training


def read_images(name: Images, split: Split, count: int) -> tuple[Float[np.ndarray, "n c 32 32"], np.ndarray]:
    """The first images of a data set with values from 0 to 1, and their labels.

    Args:
        name: The data set; digits, which need no download, are enlarged four times, and tested on the last ones.
        split: The part of it.
        count: Number of images.
    """
    if name == "digits":
        images, labels = load_digits(return_X_y=True)
        images = np.kron(images.reshape(-1, 1, 8, 8) / 16, np.ones((4, 4)))
        part = slice(count) if split == "train" else slice(-count, None)
        return images[part].astype(np.float32), labels[part]
    images, labels = _decoded(name, split, count)
    return np.moveaxis(images, 3, 1).astype(np.float32) / 255, labels


def read_pixels(name: Images, split: Split) -> tuple[UInt8[np.ndarray, "n 32 32 channels"], np.ndarray]:
    """All images of a part of a data set, with values from 0 to 255, and their labels.

    Args:
        name: The data set; of the digits, which are enlarged four times, the last 500 are for the test.
        split: The part of it.
    """
    if name == "digits":
        images, labels = load_digits(return_X_y=True)
        part = slice(-500) if split == "train" else slice(-500, None)
        enlarged = np.kron(images.reshape(-1, 8, 8, 1) * 255 / 16, np.ones((4, 4, 1)))
        return enlarged[part].astype(np.uint8), labels[part]
    return _decoded(name, split, None)


def check_counts(name: Images, test_images: int, **train_images: int) -> None:
    """Raise ValueError if a data set has too few images for what ``read_images`` is to give, without any of them twice.

    Args:
        name: The data set.
        test_images: Number of test images.
        **train_images: Numbers of training images for each purpose, by the names of their settings.
    """
    largest = max(0, DIGITS - test_images) if name == "digits" else PHOTOGRAPHS
    if (total := sum(train_images.values())) > largest:
        beside = f" beside test_images = {test_images}" if name == "digits" else ""
        what = " + ".join(train_images)
        raise ValueError(f"{what} = {total}: expected at most {largest}{beside}, with images = {name!r}")


def check_files(name: Images) -> None:
    """Raise DataError if a file of a data set is missing and cannot be fetched."""
    if name != "digits":
        fetch(name)


@cache
def _decoded(name: str, split: Split, count: int | None) -> tuple[Shaped[np.ndarray, "n 32 32 3"], np.ndarray]:
    """The first images of a part, decoded once in a process, since this takes longer than to read them."""
    images, labels = load(name, split=split, first=count)
    return images, labels
