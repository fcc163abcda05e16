"""Elastic weight consolidation: the importance of a weight is measured by the Fisher information."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.continual.fisher import FISHERS, fisher_diagonal
from engram.continual.parameters import Select
from engram.continual.penalty import QuadraticPenalty
from engram.continual.task import Task, first_samples


class EWC(QuadraticPenalty):
    """Elastic weight consolidation with one penalty for each task so far, in the memory of a single penalty.

        P = strength * sum_t sum_k F_tk (theta_k - theta*_tk)^2

    Only A = sum_t F_t, m = sum_t F_t theta*_t / A and a constant c are stored, since
    P = strength (A (theta - m)^2 + c). ``importance`` and ``anchor`` are A and m.

    Args:
        model: The network, which returns logits, (batch, classes).
        strength: At least 0; half the lambda of the paper.
        fisher: Labels for computing the Fisher information F: ``"auto"``, ``"all"``, ``"sample"``, ``"true"``
            or ``"predicted"``, as in ``fisher_diagonal``.
        n_samples: Samples of a task to measure F with, from the front of the data, which should be shuffled; None: all.
        applied: How to apply the penalty: ``"proximal"``, ``"gradient"`` or ``"loss"``, as in ``QuadraticPenalty``.
        select: The parameters, as in ``slow_parameters``.
        generator: Draws the labels of ``fisher="sample"``; None: a new one with the seed 0.

    Raises:
        ValueError: An argument is out of range.

    Source: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks" (2017), equation 3.

    Examples:
        >>> from engram.continual import TaskData
        >>> net = nn.Linear(4, 2)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> ewc = EWC(net, strength=10.0)
        >>> ewc.attach(optimizer)  # before training; then, after each task:
        >>> ewc.end_task(TaskData((torch.eye(4), torch.tensor([0, 1, 0, 1]))))
    """

    stored = ("constant",)

    def __init__(
        self,
        model: nn.Module,
        strength: float = 1.0,
        *,
        fisher: str = "auto",
        n_samples: int | None = 1024,
        applied: str = "proximal",
        select: Select = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__(model, strength, applied=applied, select=select, generator=generator)
        self.fisher = checks.choice("fisher", fisher, FISHERS)
        self.n_samples = None if n_samples is None else checks.size("n_samples", n_samples)
        self.constant = torch.zeros(())

    def penalty(self) -> Float[Tensor, ""]:
        """The value of the penalty."""
        return super().penalty() + self.strength * self.constant.to(self._flat["anchor"])

    def end_task(self, task: Task) -> None:
        """Measure the importance of the weights for a task, and anchor them at their current values.

        Args:
            task: Its training data, and its classes, over which the softmax runs.

        Raises:
            ValueError, TypeError: The data are not as in ``TaskData``, there is no sample, or a class is not an output.
            FloatingPointError: An importance is not finite.
        """
        self._match_parameters()
        fisher = fisher_diagonal(
            self.model,
            first_samples(task, self.n_samples),
            fisher=self.fisher,
            classes=checks.instance("task", task, Task).classes,  # type: ignore[type-abstract]
            select=self._trained(),
            generator=self.generator,
        )
        self._merge(self._flattened(fisher), self._current())

    def _merge(self, fisher: Tensor, current: Tensor) -> None:
        earlier, mean = self._flat["importance"], self._flat["anchor"]
        total = earlier + fisher
        share = torch.where(total > 0, fisher / total, 1.0)  # a weight that no task needs follows its current value
        gap = current - mean
        self.constant = self.constant.to(gap) + (earlier * share * gap).dot(gap)
        self._hold(total, mean + share * gap)


class OnlineEWC(EWC):
    """Elastic weight consolidation with one running Fisher information, and the newest weights as the only anchor.

        F <- gamma F + F_t,   P = strength * sum_k F_k (theta_k - theta*_k)^2

    Args:
        model: The network, which returns logits, (batch, classes).
        strength: At least 0; half the lambda of the paper (times gamma, if the paper's penalty has gamma F).
        gamma: Fraction of the older tasks' importance that remains at each new task, from 0 to 1.
        normalise: Scale each task's Fisher information to a mean of 1 first, so that tasks count equally.
        fisher: Labels for computing the Fisher information, as in ``EWC``.
        n_samples: Samples of a task to measure it with, from the front of the data; None: all.
        applied: How to apply the penalty: ``"proximal"``, ``"gradient"`` or ``"loss"``, as in ``QuadraticPenalty``.
        select: The parameters, as in ``slow_parameters``.
        generator: Draws the labels of ``fisher="sample"``; None: a new one with the seed 0.

    Raises:
        ValueError: An argument is out of range.

    Source: Schwarz et al., "Progress & compress: a scalable framework for continual learning" (2018), section 4.

    Examples:
        >>> from engram.continual import TaskData
        >>> ewc = OnlineEWC(nn.Linear(4, 2), gamma=0.5)
        >>> ewc.end_task(TaskData((torch.eye(4), torch.tensor([0, 1, 0, 1]))))
        >>> ewc.tasks
        1
    """

    def __init__(
        self,
        model: nn.Module,
        strength: float = 1.0,
        *,
        gamma: float = 1.0,
        normalise: bool = False,
        fisher: str = "auto",
        n_samples: int | None = 1024,
        applied: str = "proximal",
        select: Select = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            model,
            strength,
            fisher=fisher,
            n_samples=n_samples,
            applied=applied,
            select=select,
            generator=generator,
        )
        self.gamma = checks.number("gamma", gamma, minimum=0, maximum=1)
        self.normalise = normalise

    def _merge(self, fisher: Tensor, current: Tensor) -> None:
        if self.normalise and fisher.any():
            fisher = fisher / fisher.mean()
        self._hold(self.gamma * self._flat["importance"] + fisher, current)
