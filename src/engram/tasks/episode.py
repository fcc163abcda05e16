"""What one learns from in one go: a batch of short sequences, each with its own thing to learn."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor


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
