"""Adam as an update rule: the start of learned updates and, with a rate for each tensor, their simplest form."""

from __future__ import annotations

import torch
from torch import nn

from engram import checks
from engram.learned.updates.update_rule import Memory, Moments, UpdateRule, rates_of
from engram.meta.inner_updates import Weights


class AdamRule(UpdateRule):
    """Adam with decays 0.9 and 0.99, whose rate can be learned for each tensor.

        direction = exp(c_l) m / (sqrt(v) + 1e-8)

    It has no information about old tasks, and is the control for rules that do: it shows the effect of a rate for each
    layer alone.

    Args:
        tensors: Number of tensors, each with a learned rate, initially 1; 0: no learned rates.

    Examples:
        >>> rule, w, g = AdamRule(), {"w": torch.zeros(2)}, {"w": torch.tensor([3.0, -0.1])}
        >>> rule(g, w, rule.init(w), {})[0]
        {'w': tensor([ 1.0000, -1.0000])}
    """

    def __init__(self, tensors: int = 0) -> None:
        super().__init__()
        checks.size("tensors", tensors, minimum=0)
        self.log_rates = nn.Parameter(torch.zeros(tensors)) if tensors else None

    def forward(
        self, grads: Weights, params: Weights, state: dict[str, Moments], memory: Memory
    ) -> tuple[Weights, dict[str, Moments]]:
        """The directions and the new moments, from the gradients alone.

        Args:
            grads: Gradient of the loss with respect to each tensor.
            params: The weights, which are not read.
            state: Moments of the gradients, from ``init``.
            memory: Not read.
        """
        state, rates = self.advanced(grads, state), rates_of(self.log_rates, grads)
        return {name: rates[name] * self.normalised(moments)[0] for name, moments in state.items()}, state
