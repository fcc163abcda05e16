"""Synaptic intelligence: a weight's importance is how much its changes reduced the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engram import checks
from engram.continual.method import refuse_maximising
from engram.continual.parameters import Select
from engram.continual.penalty import QuadraticPenalty, _torch, refuse_closure, refuse_scaled, skipped
from engram.continual.task import Task


class SynapticIntelligence(QuadraticPenalty):
    """Synaptic intelligence: a weight's importance is how much its changes reduced the loss.

        at each step        w_k <- w_k - g_k (theta_k' - theta_k)
        after each task     Omega_k <- max(0, Omega_k + w_k / ((theta_k - theta_k_start)^2 + xi)),   w_k <- 0

    g is the gradient of the task's loss alone. It is therefore measured at the steps of the attached optimiser, of any
    kind, and the penalty must not be part of the loss.

    Args:
        model: The network.
        strength: At least 0; the c of the paper.
        xi: Bounds the importance of weights that have hardly moved; above 0.
        applied: How to apply the penalty: ``"proximal"`` or ``"gradient"``, as in ``QuadraticPenalty``.
        select: The parameters, as in ``slow_parameters``.
        generator: Not used.

    Raises:
        ValueError: An argument is out of range.

    Source: Zenke, Poole and Ganguli, "Continual learning through synaptic intelligence" (2017), equations 4 and 5; the
    bound at 0 is from the authors' code.

    Examples:
        >>> from engram.continual import TaskData
        >>> net = nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> si = SynapticIntelligence(net, strength=0.3)
        >>> si.attach(optimizer)
        >>> x, y = torch.ones(1, 1), torch.zeros(1, 1)
        >>> (net(x) - y).square().sum().backward()
        >>> optimizer.step()
        >>> si.end_task(TaskData((x, y)))  # after all steps of a task
    """

    stored = ("started",)
    summed = ("path",)

    def __init__(
        self,
        model: nn.Module,
        strength: float = 1.0,
        *,
        xi: float = 0.1,
        applied: str = "proximal",
        select: Select = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        if applied == "loss":
            raise ValueError("applied = 'loss': expected 'proximal' or 'gradient', as the task's gradient is measured")
        self.started = False  # whether steps were taken since the last task's end
        self._before: tuple[list[Tensor], list[Tensor]] | None = None  # gradients and weights before a step
        super().__init__(model, strength, applied=applied, select=select, generator=generator)
        self.xi = checks.number("xi", xi, above=0)

    def end_task(self, task: Task) -> None:
        """Turn the path integral into importance, and anchor the weights at their current values.

        Args:
            task: Not used: the importance was measured during training.

        Raises:
            ValueError: No step was taken since the last task.
        """
        if not self.started:
            raise ValueError(
                "end_task: expected a step of an attached optimiser since the last task: call attach, then train"
            )
        self._match_parameters()
        current, flat = self._current(), self._flat
        gain = flat["path"] / ((current - flat["start"]).square() + self.xi)
        self._hold((flat["importance"] + gain).relu(), current)
        flat["path"].zero_()
        self.started = False

    @torch.no_grad()
    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        refuse_maximising(optimizer)
        refuse_closure(args, kwargs)
        refuse_scaled(optimizer)
        self._match_parameters()
        if not self.started:
            self._flat["start"].copy_(self._current())
            self.started = True
        parameters = self._parameters
        if self._before is None:
            self._before = (
                [torch.empty_like(parameter) for parameter in parameters],
                [torch.empty_like(parameter) for parameter in parameters],
            )
        gradients, weights = self._before
        _torch._foreach_copy_(
            gradients,
            [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in parameters],
        )
        _torch._foreach_copy_(weights, parameters)
        super()._before_step(optimizer, args, kwargs)

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        super()._after_step(optimizer, args, kwargs)
        if skipped(optimizer):  # its gradients are not finite
            return
        assert self._before is not None
        gradients, weights = self._before
        _torch._foreach_sub_(weights, self._parameters)
        _torch._foreach_addcmul_(self._views["path"], gradients, weights)

    def _set_flat(self, flat: dict[str, Tensor]) -> None:
        super()._set_flat(flat)
        self._before = None  # the network has grown, or was moved

    def _new_fields(self, parameters: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        fields = super()._new_fields(parameters)
        path = {name: torch.zeros_like(parameter) for name, parameter in fields["anchor"].items()}
        return {
            **fields,
            "path": path,
            "start": {name: parameter.clone() for name, parameter in fields["anchor"].items()},
        }
