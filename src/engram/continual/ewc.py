"""Elastic weight consolidation: a weight is as important as the Fisher information says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.continual.fisher import FISHERS, Data, fisher_diagonal
from engram.continual.parameters import Select
from engram.continual.penalty import QuadraticPenalty


class EWC(QuadraticPenalty):
    """Elastic weight consolidation, with one penalty for each task so far, in the memory of one.

        P = strength * sum_t sum_k F_tk (theta_k - theta*_tk)^2

    Only A = sum_t F_t, m = sum_t F_t theta*_t / A and a constant c are held, as P = strength (A (theta - m)^2 + c).
    ``importance`` and ``anchor`` are A and m.

    Args:
        model: As of ``QuadraticPenalty``; it returns logits, (batch, classes).
        strength: As of ``QuadraticPenalty``; half the lambda of the paper.
        fisher: Whose answers the Fisher information F is of, as in ``fisher_diagonal``.
        n_samples: Samples of a task that it is measured with, from the front of the data, which should be shuffled;
            None: all.
        select: As of ``QuadraticPenalty``.
        generator: Draws the answers of ``fisher="sample"``; None: torch's own.

    Raises:
        ValueError: An argument is out of range.

    Source: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks" (2017), equation 3.

    Examples:
        >>> net = nn.Linear(4, 2)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> ewc = EWC(net, strength=10.0)
        >>> ewc.attach(optimizer)  # before training; then, after each task:
        >>> ewc.consolidate([(torch.eye(4), torch.tensor([0, 1, 0, 1]))])
    """

    def __init__(
        self,
        model: nn.Module,
        strength: float = 1.0,
        *,
        fisher: str = "auto",
        n_samples: int | None = 1024,
        select: Select = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, strength, select=select)
        self.fisher = checks.choice("fisher", fisher, FISHERS)
        self.n_samples = None if n_samples is None else checks.size("n_samples", n_samples)
        self.generator = None if generator is None else checks.generator(generator)
        self._constant = torch.zeros(())

    def penalty(self) -> Float[Tensor, ""]:
        """Return the penalty, to be added to the loss."""
        return super().penalty() + self.strength * self._constant.to(self._flat["anchor"])

    def consolidate(self, data: Data, *, classes: Sequence[int] | None = None) -> None:
        """Measure what the weights matter for a task, and hold them where they are now.

        Args:
            data: Batches of the task's training data, as of ``fisher_diagonal``.
            classes: The task's outputs, as of ``fisher_diagonal``.

        Raises:
            ValueError, TypeError: As of ``fisher_diagonal``.
            FloatingPointError: An importance is not finite.
        """
        self._merge(self._fisher(data, classes), self._current())

    def _fisher(self, data: Data, classes: Sequence[int] | None) -> Tensor:
        self._matched()
        options: dict[str, Any] = {"fisher": self.fisher, "n_samples": self.n_samples, "generator": self.generator}
        found = fisher_diagonal(self.model, data, classes=classes, select=self.select, **options)
        zero = {name: torch.zeros(shape).to(self._parameters[0]) for name, shape in self._shapes.items()}
        return self._flattened(zero | found)

    def _merge(self, fisher: Tensor, now: Tensor) -> None:
        before, mean = self._flat["importance"], self._flat["anchor"]
        total = before + fisher
        share = torch.where(total > 0, fisher / total, 1.0)  # what no task needs is held nowhere
        gap = now - mean
        self._constant = self._constant.to(gap) + (before * share * gap).dot(gap)
        self._hold(total, mean + share * gap)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what it holds, as tensors by name."""
        return {"constant": self._constant.to(self._flat["anchor"]), **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what ``state_dict`` returned."""
        super().load_state_dict(state)
        self._constant = state["constant"].clone()


class OnlineEWC(EWC):
    """Elastic weight consolidation with one running Fisher information, and the newest weights as the only anchor.

        F <- gamma F + F_t,   P = strength * sum_k F_k (theta_k - theta*_k)^2

    Args:
        model: As of ``EWC``.
        strength: As of ``EWC``. Where the penalty is written with gamma F, multiply it by gamma.
        gamma: What is left of the older tasks' importance at each new one, from 0 to 1.
        normalise: Scale each task's Fisher information to a mean of 1 first, so that tasks count alike.
        fisher: As of ``EWC``.
        n_samples: As of ``EWC``.
        select: As of ``EWC``.
        generator: As of ``EWC``.

    Raises:
        ValueError: An argument is out of range.

    Source: Schwarz et al., "Progress & compress: a scalable framework for continual learning" (2018), section 4.

    Examples:
        >>> net = nn.Linear(4, 2)
        >>> ewc = OnlineEWC(net, gamma=0.5)
        >>> ewc.consolidate([torch.eye(4)])
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
        select: Select = None,
        generator: torch.Generator | None = None,
    ) -> None:
        options: dict[str, Any] = {"fisher": fisher, "n_samples": n_samples, "select": select, "generator": generator}
        super().__init__(model, strength, **options)
        self.gamma = checks.number("gamma", gamma, least=0, most=1)
        self.normalise = normalise

    def _merge(self, fisher: Tensor, now: Tensor) -> None:
        if self.normalise and fisher.any():
            fisher = fisher / fisher.mean()
        self._hold(self.gamma * self._flat["importance"] + fisher, now)
