"""Memory aware synapses: a weight is as important as the output is sensitive to it."""

from __future__ import annotations

import torch
from torch import nn

from engram import checks
from engram.continual.fisher import NORMS, OUTPUTS, gradient_magnitude
from engram.continual.parameters import Select
from engram.continual.penalty import QuadraticPenalty
from engram.continual.task import Task, first_samples


class MAS(QuadraticPenalty):
    """Memory aware synapses: a weight is as important as the output is sensitive to it; no labels are needed.

        Omega_k <- Omega_k + (1/N) sum_n |d ||F(x_n)||_2^2 / d theta_k|

    Args:
        model: The network, which returns (batch, outputs).
        strength: At least 0; the lambda of the paper.
        output: F: ``"logits"``, the model's output, or its ``"softmax"``.
        all_outputs: Whether all outputs count, or only those of the task.
        norm: Norm of F, as in ``gradient_magnitude``: ``"l2sq"``, ``"l1"`` or ``"vector"``.
        batched: Whether to take the magnitude of the gradient of a whole batch, as in the authors' code.
        n_samples: Samples of a task to measure Omega with, from the front of the data; None: all.
        applied: How to apply the penalty: ``"proximal"``, ``"gradient"`` or ``"loss"``, as in ``QuadraticPenalty``.
        select: The parameters, as in ``slow_parameters``.
        generator: Not used.

    Raises:
        ValueError: An argument is out of range.

    Source: Aljundi et al., "Memory aware synapses: learning what (not) to forget" (2018), equations 2 to 4.

    Examples:
        >>> from engram.continual import TaskData
        >>> mas = MAS(nn.Linear(2, 1, bias=False))
        >>> mas.end_task(TaskData((torch.eye(2), torch.zeros(2))))
        >>> mas.importance["weight"].shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        model: nn.Module,
        strength: float = 1.0,
        *,
        output: str = "logits",
        all_outputs: bool = False,
        norm: str = "l2sq",
        batched: bool = False,
        n_samples: int | None = 1024,
        applied: str = "proximal",
        select: Select = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, strength, applied=applied, select=select, generator=generator)
        self.output = checks.choice("output", output, OUTPUTS)
        self.all_outputs = all_outputs
        self.norm = checks.choice("norm", norm, NORMS)
        self.batched = batched
        self.n_samples = None if n_samples is None else checks.size("n_samples", n_samples)

    def end_task(self, task: Task) -> None:
        """Measure the importance of the weights for the outputs, and anchor them at their current values.

        Args:
            task: Its inputs are used, and its classes unless all outputs count.

        Raises:
            ValueError, TypeError: The data are not as in ``TaskData``, there is no sample, or a class is not an output.
            FloatingPointError: An importance is not finite.
        """
        self._match_parameters()
        magnitude = gradient_magnitude(
            self.model,
            first_samples(task, self.n_samples),
            output=self.output,
            norm=self.norm,
            batched=self.batched,
            classes=None if self.all_outputs else checks.instance("task", task, Task).classes,  # type: ignore[type-abstract]
            select=self._trained(),
        )
        self._hold(self._flat["importance"] + self._flattened(magnitude), self._current())
