"""The baseline of penalties: every weight is as important as any other."""

from __future__ import annotations

import torch

from engram.continual.penalty import QuadraticPenalty


class L2Anchor(QuadraticPenalty):
    """The baseline of penalties: every weight is as important as any other.

        P = strength * sum_k (theta_k - theta*_k)^2

    Arguments are those of ``QuadraticPenalty``.

    Source: the "L2" control of Kirkpatrick et al. (2017), figure 2.

    Examples:
        >>> net = torch.nn.Linear(2, 1)
        >>> anchor = L2Anchor(net, strength=0.5)
        >>> anchor.consolidate()
        >>> anchor.importance["weight"].tolist()
        [[1.0, 1.0]]
    """

    def consolidate(self) -> None:  # type: ignore[override]
        """Hold the weights where they are now."""
        self._matched()
        self._hold(torch.ones_like(self._flat["importance"]), self._current())
