"""Episodes (batches of short sequences, each with something new to learn), and the task that draws them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Episode(NamedTuple):
    """A batch of independent episodes, with time as the first axis.

    Attributes:
        inputs: Input of the network at each step.
        targets: Its desired output at each step.
        mask: Whether the output counts at each step.
    """

    inputs: Float[Tensor, "time batch features"]
    targets: Float[Tensor, "time batch answers"]
    mask: Bool[Tensor, "time batch"]


class Task(Protocol):
    """A distribution of episodes."""

    def sample(self, batch_size: int, generator: torch.Generator) -> Episode:
        """A batch of random episodes.

        Args:
            batch_size: Number of independent episodes.
            generator: Source of all randomness; the episodes are on its device, where any images must be too.

        Returns:
            An ``Episode``, or a named tuple that begins with its fields.
        """
        ...


def presentations(
    patterns: Float[Tensor, "batch patterns features"],
    generator: torch.Generator,
    cycles: int,
    presentation_steps: int,
    blank_steps: int,
) -> Float[Tensor, "time batch features"]:
    """Patterns shown in rounds, each round in a new random order.

    Args:
        patterns: The patterns.
        generator: Draws the orders.
        cycles: Number of rounds.
        presentation_steps: Number of steps for which a pattern is shown.
        blank_steps: Number of steps of zeros after each pattern.
    """
    batch, count, features = patterns.shape
    chance = torch.rand((batch, cycles, count), generator=generator, device=patterns.device)
    order = chance.argsort().flatten(1).unsqueeze(2).expand(-1, -1, features)
    ordered = patterns.gather(1, order).transpose(0, 1).unsqueeze(1)
    blank = ordered.new_zeros(len(ordered), blank_steps, batch, features)
    return torch.cat((ordered.expand(-1, presentation_steps, -1, -1), blank), dim=1).flatten(0, 1)


def at_the_end(inputs: Float[Tensor, "time batch features"]) -> Bool[Tensor, "time batch"]:
    """The mask of episodes in which only the last output counts."""
    mask = torch.zeros(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
    mask[-1] = True
    return mask
