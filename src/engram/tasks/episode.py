"""What one learns from in one go: a batch of short sequences, each with its own thing to learn."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from engram.tasks.environment import check_int


class Episode(NamedTuple):
    """A batch of independent episodes, time first.

    Attributes:
        inputs: What the network sees at each step.
        targets: What it should answer at each step.
        mask: At which steps the answer counts.
    """

    inputs: Float[Tensor, "time batch features"]
    targets: Float[Tensor, "time batch answers"]
    mask: Bool[Tensor, "time batch"]


def check_draw(batch_size: object, generator: object) -> None:
    """Raise unless a batch can be drawn: ``batch_size`` is an integer of at least one, ``generator`` one of torch's."""
    check_int("batch_size", batch_size, 1)
    check_generator(generator)


def check_generator(generator: object) -> None:
    """Raise unless ``generator`` is one of torch's."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator = {generator!r}: expected a torch.Generator")
