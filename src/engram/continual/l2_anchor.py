"""The baseline for penalties: all weights are equally important."""

from __future__ import annotations

import torch

from engram.continual.penalty import QuadraticPenalty
from engram.continual.task import Task


class L2Anchor(QuadraticPenalty):
    """The baseline for penalties: all weights are equally important.

        P = strength * sum_k (theta_k - theta*_k)^2

    Args:
        model: Any module.
        strength: At least 0.
        applied: How to apply the penalty: ``"proximal"``, ``"gradient"`` or ``"loss"``, as in ``QuadraticPenalty``.
        select: The parameters, as in ``slow_parameters``.
        generator: Not used.

    Source: the "L2" control of Kirkpatrick et al. (2017), figure 2.

    Examples:
        >>> from engram.continual import TaskData
        >>> anchor = L2Anchor(torch.nn.Linear(2, 1), strength=0.5)
        >>> anchor.end_task(TaskData((torch.eye(2), torch.zeros(2))))
        >>> anchor.importance["weight"].tolist()
        [[1.0, 1.0]]
    """

    def end_task(self, task: Task) -> None:
        """Anchor the weights at their current values."""
        self._match_parameters()
        self._hold(torch.ones_like(self._flat["importance"]), self._current())
