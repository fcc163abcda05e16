"""Binary pattern completion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from engram import checks
from engram.tasks.episode import Episode, at_the_end, presentations


@dataclass(frozen=True)
class PatternCompletion:
    """Binary pattern completion: see a few patterns, then restore one of them from half of its bits.

    An episode has its own random patterns of -1 and +1. They are shown in ``cycles`` rounds, each round in a new
    random order, each pattern for ``presentation_steps`` steps followed by ``blank_steps`` steps of zeros. At the
    end one of the patterns is shown for ``presentation_steps`` steps with half of its bits set to zero, and at the
    last step the output should be the whole pattern. At chance, a quarter of the bits are wrong, since half
    are visible. The published network multiplies the inputs by 20; that gain is part of the network.

    Args:
        bits: Number of bits in a pattern.
        patterns: Number of patterns in an episode.
        cycles: Number of rounds of presentation.
        presentation_steps: Number of steps for which a pattern is shown.
        blank_steps: Number of steps of zeros after each pattern.
        balanced: Whether a pattern has exactly as many -1 as +1, and exactly half of the probe is hidden; ``bits``
            is then even. Otherwise each bit is +1, and each bit of the probe is hidden, with probability 1/2.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), the patterns of its comparison of networks.

    Examples:
        >>> PatternCompletion(bits=4).sample(3, torch.Generator().manual_seed(0)).inputs.shape
        torch.Size([11, 3, 4])
    """

    bits: int = 50
    patterns: int = 2
    cycles: int = 1
    presentation_steps: int = 3
    blank_steps: int = 1
    balanced: bool = True

    def __post_init__(self) -> None:
        checks.arguments()
        for name in ("bits", "patterns", "cycles", "presentation_steps"):
            checks.size(name, getattr(self, name))
        checks.size("blank_steps", self.blank_steps, minimum=0)
        if self.balanced and self.bits % 2:
            raise ValueError(f"bits = {self.bits}: expected an even number, because balanced = True")

    def sample(self, batch_size: int, generator: torch.Generator) -> Episode:
        """Episodes with inputs of -1, 0 and +1, and the whole pattern as target at every step."""
        checks.size("batch_size", batch_size)
        checks.generator(generator)
        patterns = torch.where(self._half((batch_size, self.patterns, self.bits), generator), 1.0, -1.0)
        shown_patterns = presentations(patterns, generator, self.cycles, self.presentation_steps, self.blank_steps)
        # The patterns are drawn independently and shown in random order, so that the first is a random one.
        target = patterns[:, 0]
        probe = target.masked_fill(self._half((batch_size, self.bits), generator), 0.0)
        inputs = torch.cat((shown_patterns, probe.expand(self.presentation_steps, *probe.shape)))
        return Episode(inputs, target.expand_as(inputs), at_the_end(inputs))

    def _half(self, shape: tuple[int, ...], generator: torch.Generator) -> Bool[Tensor, "..."]:
        """A random half of the last axis: exactly half of it, or each element with probability 1/2."""
        chance = torch.rand(shape, generator=generator, device=generator.device)
        return chance.argsort() < self.bits // 2 if self.balanced else chance < 0.5
