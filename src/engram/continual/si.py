"""Synaptic intelligence: a weight is as important as its changes made the loss fall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engram import checks
from engram.continual.parameters import Select
from engram.continual.penalty import QuadraticPenalty, _torch


class SynapticIntelligence(QuadraticPenalty):
    """Synaptic intelligence: a weight is as important as its changes made the loss fall.

        at each step        w_k <- w_k - g_k (theta_k' - theta_k)
        after each task     Omega_k <- max(0, Omega_k + w_k / ((theta_k - theta_k_start)^2 + xi)),   w_k <- 0

    g is the gradient of the task's loss alone. So do not add ``penalty()`` to the loss, but ``attach`` the optimiser,
    which also measures the change of each step, whatever the optimiser.

    Args:
        model: As of ``QuadraticPenalty``.
        strength: As of ``QuadraticPenalty``; the c of the paper.
        xi: Bounds the importance of weights that have hardly moved; above 0.
        select: As of ``QuadraticPenalty``.

    Raises:
        ValueError: An argument is out of range.

    Source: Zenke, Poole and Ganguli, "Continual learning through synaptic intelligence" (2017), equations 4 and 5; the
    bound at 0 is of the authors' code.

    Examples:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> si = SynapticIntelligence(net, strength=0.3)
        >>> si.attach(optimizer)
        >>> net(torch.ones(1, 1)).square().sum().backward()
        >>> optimizer.step()
        >>> si.consolidate()  # after a task
    """

    def __init__(self, model: nn.Module, strength: float = 1.0, *, xi: float = 0.1, select: Select = None) -> None:
        self._open = False  # whether steps were taken since the last task's end
        self._noted: tuple[list[Tensor], list[Tensor]] | None = None
        super().__init__(model, strength, select=select)
        self.xi = checks.number("xi", xi, above=0)

    @torch.no_grad()
    def before_step(self) -> None:
        """Note the gradients of the task's loss, and where the weights are."""
        parameters = self._matched()
        if not self._open:
            self._flat["start"].copy_(self._current())
            self._open = True
        if self._noted is None or [g.shape for g in self._noted[0]] != list(self._shapes.values()):
            self._noted = [torch.empty_like(p) for p in parameters], [torch.empty_like(p) for p in parameters]
        grads, places = self._noted
        _torch._foreach_copy_(grads, [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])
        _torch._foreach_copy_(places, parameters)

    @torch.no_grad()
    def after_step(self) -> None:
        """Add to the path integral what the change since ``before_step`` made the loss fall, to first order.

        Raises:
            ValueError: ``before_step`` was not called.
        """
        if self._noted is None:
            raise ValueError("after_step: expected a call of before_step first")
        grads, places = self._noted
        _torch._foreach_sub_(places, self._parameters)
        _torch._foreach_addcmul_(self._views["path"], grads, places)

    def consolidate(self) -> None:  # type: ignore[override]
        """End a task: turn the path integral into importance, and hold the weights where they are now.

        Raises:
            ValueError: No step was taken since the last task.
        """
        if not self._open:
            raise ValueError("consolidate: expected steps of an attached optimiser first")
        self._matched()
        now, flat = self._current(), self._flat
        gained = flat["path"] / ((now - flat["start"]).square() + self.xi)
        self._hold((flat["importance"] + gained).relu(), now)
        flat["path"].zero_()
        self._open = False

    def state_dict(self) -> dict[str, Tensor]:
        """Return what it holds, as tensors by name."""
        return {"open": torch.tensor(self._open), **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what ``state_dict`` returned."""
        super().load_state_dict(state)
        self._open = bool(state["open"])

    def _before_step(self, optimizer: Optimizer, *, closure: bool, implicit: bool) -> None:
        if closure:
            raise ValueError("closure is given to the optimiser's step: expected none, as gradients are made within it")
        self.before_step()
        super()._before_step(optimizer, closure=closure, implicit=implicit)

    def _after_step(self, optimizer: Optimizer, *, implicit: bool) -> None:
        super()._after_step(optimizer, implicit=implicit)
        self.after_step()

    def _initial(self, parameters: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        fields: dict[str, Any] = super()._initial(parameters)
        path = {name: torch.zeros_like(p) for name, p in fields["importance"].items()}
        return {**fields, "path": path, "start": {name: p.clone() for name, p in fields["anchor"].items()}}
