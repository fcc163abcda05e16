"""Memory aware synapses: a weight is as important as the output is sensitive to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from engram import checks
from engram.continual.fisher import NORMS, Data, gradient_magnitude
from engram.continual.parameters import Select
from engram.continual.penalty import QuadraticPenalty


class MAS(QuadraticPenalty):
    """Memory aware synapses: a weight is as important as the output is sensitive to it; no labels are needed.

        Omega_k <- Omega_k + (1/N) sum_n |d ||F(x_n)||_2^2 / d theta_k|

    Args:
        model: As of ``QuadraticPenalty``; it returns (batch, outputs).
        strength: As of ``QuadraticPenalty``; the lambda of the paper.
        output: F, as in ``gradient_magnitude``.
        norm: Of F, as in ``gradient_magnitude``.
        batched: As in ``gradient_magnitude``.
        n_samples: Samples of a task that it is measured with, from the front of the data; None: all.
        select: As of ``QuadraticPenalty``.

    Raises:
        ValueError: An argument is out of range.

    Source: Aljundi et al., "Memory aware synapses: learning what (not) to forget" (2018), equations 2 to 4.

    Examples:
        >>> import torch
        >>> net = nn.Linear(2, 1, bias=False)
        >>> mas = MAS(net)
        >>> mas.consolidate([torch.eye(2)])
        >>> mas.importance["weight"].shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        model: nn.Module,
        strength: float = 1.0,
        *,
        output: str = "logits",
        norm: str = "l2sq",
        batched: bool = False,
        n_samples: int | None = 1024,
        select: Select = None,
    ) -> None:
        super().__init__(model, strength, select=select)
        self.output = checks.choice("output", output, ("logits", "softmax"))
        self.norm = checks.choice("norm", norm, NORMS)
        self.batched = batched
        self.n_samples = None if n_samples is None else checks.size("n_samples", n_samples)

    def consolidate(self, data: Data, *, classes: Sequence[int] | None = None) -> None:
        """Measure what the weights matter for the outputs, and hold them where they are now.

        Args:
            data: Batches of the task's data, as of ``fisher_diagonal``, with or without labels.
            classes: The outputs that are taken; None: all.

        Raises:
            ValueError, TypeError: As of ``gradient_magnitude``.
            FloatingPointError: An importance is not finite.
        """
        self._matched()
        options: dict[str, Any] = {"output": self.output, "norm": self.norm, "batched": self.batched}
        options |= {"n_samples": self.n_samples, "classes": classes, "select": self.select}
        found = gradient_magnitude(self.model, data, **options)
        before = self.importance
        grown = {name: part + found[name] if name in found else part for name, part in before.items()}
        self._hold(self._flattened(grown), self._current())
