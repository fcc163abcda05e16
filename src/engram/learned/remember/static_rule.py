"""Synapses that stay as they are: whatever such a network remembers, it remembers in its bodies."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from engram.learned.remember.local_rule import LocalRule


class StaticRule(LocalRule):
    """Synapses that stay as they were drawn, s' = s: whatever such a network remembers, it remembers in its bodies.

    Args:
        body_size: As of ``LocalRule``, and so are all others.

    Source: the control of Gregor (2020), as of ``LocalRule``; ours.

    Examples:
        >>> import torch
        >>> rule = StaticRule(4, 2, generator=torch.Generator().manual_seed(0))
        >>> s = torch.ones(1, 2, 3, 5)
        >>> rule.synapse(s, torch.zeros(1, 3, 8), torch.zeros(1, 5, 8), torch.zeros(1, 3, 2)) is s
        True
    """

    def synapse(
        self,
        synapse: Float[Tensor, "batch channels post pre"],
        post: Float[Tensor, "batch post known"],
        pre: Float[Tensor, "batch pre known"],
        forward: Float[Tensor, "batch post channels"],
    ) -> Float[Tensor, "batch channels post pre"]:
        """As ``LocalRule.synapse``."""
        return synapse
