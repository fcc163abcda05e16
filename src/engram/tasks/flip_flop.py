"""The flip-flop task."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engram import checks
from engram.tasks.episode import Episode


@dataclass(frozen=True)
class FlipFlop:
    """The flip-flop task: remember the last pulse of each of several channels.

    In each step a channel has a pulse of -1 or +1, equally likely, with probability ``pulse``, and is 0 otherwise. The
    target of a channel is its last pulse. All channels begin with a pulse of +1.

    Args:
        bits: Number of channels.
        steps: Length of an episode.
        pulse: Probability of a pulse.

    Source: Sussillo and Barak, "Opening the black box" (2013), section 3; the numbers are ours.

    Examples:
        >>> episode = FlipFlop(steps=50).sample(4, torch.Generator().manual_seed(0))
        >>> episode.inputs.shape, episode.targets[0, 0].tolist()
        (torch.Size([50, 4, 3]), [1.0, 1.0, 1.0])
    """

    bits: int = 3
    steps: int = 200
    pulse: float = 0.05

    def __post_init__(self) -> None:
        checks.size("bits", self.bits)
        checks.size("steps", self.steps)
        checks.number("pulse", self.pulse, minimum=0, maximum=1)

    def sample(self, batch_size: int, generator: torch.Generator) -> Episode:
        """Episodes of pulses -1 and +1 among zeros, (time, batch, bits), in which every step counts."""
        checks.size("batch_size", batch_size)
        device = checks.generator(generator).device
        shape = (self.steps, batch_size, self.bits)
        chance, side = torch.rand(2, *shape, generator=generator, device=device)
        inputs = torch.where(chance < self.pulse, torch.where(side < 0.5, -1.0, 1.0), 0.0)
        inputs[0] = 1.0
        step = torch.arange(self.steps, device=device)[:, None, None]
        last = torch.where(inputs != 0, step, 0).cummax(0).values
        return Episode(inputs, inputs.gather(0, last), torch.ones(shape[:2], dtype=torch.bool, device=device))
