"""A learned update as an ordinary optimiser of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from engram import checks
from engram.learned.updates.gated_coordinate_rule import GatedCoordinateRule
from engram.learned.updates.update_rule import Memory, Moments, TaskMemory, UpdateRule
from engram.nn.sequence import full_precision

Parameters = dict[str, Tensor]


class LearnedOptimizer(torch.optim.Optimizer):
    """An optimiser with a learned rule: p <- p - lr direction(p.grad, p, moments, memory of old tasks).

    Give it only the parameters of the body; train the read-out by another optimiser. After each task call
    ``consolidate``. It needs no teacher, and stores no old data.

    Args:
        params: Parameters, in the order of depth, or groups of them.
        lr: Learning rate, at least 0; rules are trained with 1e-3.
        rule: The rule, which is not trained here; save it by its own ``state_dict``. None: an untrained
            ``GatedCoordinateRule``, which is nearly Adam.

    Raises:
        ValueError: ``lr`` is negative; the rule has learned rates for another number of tensors; a gradient is not
            finite.
        RuntimeError: A gradient is sparse.

    Source: a method after Xiong, Ren and Urtasun, "Learning to remember from a multi-task teacher" (2019), re-designed
        from its abstract.

    Examples:
        >>> p = torch.zeros(1, requires_grad=True)
        >>> optimizer = LearnedOptimizer([p], lr=0.1)
        >>> p.grad = torch.ones(1)
        >>> optimizer.step()
        >>> round(p.item(), 2)
        -0.1
    """

    def __init__(self, params: ParamsT, lr: float = 1e-3, *, rule: UpdateRule | None = None) -> None:
        checks.arguments()
        checks.number("lr", lr, minimum=0)
        self.rule = rule or GatedCoordinateRule(generator=torch.Generator().manual_seed(0))
        checks.instance("rule", self.rule, UpdateRule)  # type: ignore[type-abstract]
        with checks.noted(params=params):
            super().__init__(params, {"lr": lr})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, which may have its own ``lr``; it is checked as in the constructor."""
        checks.instance("param_group", param_group, dict)
        checks.number("lr", param_group.get("lr", self.defaults["lr"]), minimum=0)
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step, after calling ``closure`` if there is one; return the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad(), checks.noted(closure=closure):
                loss = closure()
        parameters = self._numbered_parameters()
        moving = {name: p for name, p in parameters.items() if p.grad is not None}
        grads: Parameters = {}
        for name, p in moving.items():
            grad = p.grad
            assert grad is not None
            if grad.is_sparse:
                raise RuntimeError(f"the gradient of parameter {name} is sparse: expected a dense one")
            checks.finite(f"the gradient of parameter {name}, of shape {tuple(p.shape)},", grad)
            grads[name] = grad
        if moving:
            # A rule with a rate for each tensor needs all of them; those without a gradient do not move.
            rule_parameters = moving if getattr(self.rule, "log_rates", None) is None else parameters
            gradients = {
                name: grads[name] if name in grads else torch.zeros_like(p) for name, p in rule_parameters.items()
            }
            state = self._moments(rule_parameters), self._memory(rule_parameters)
            with full_precision(next(iter(moving.values())).device):
                directions, moments = self.rule(gradients, rule_parameters, *state)
            rates = {id(p): group["lr"] for group in self.param_groups for p in group["params"]}
            for name, p in moving.items():
                p.sub_(directions[name] * rates[id(p)])
                self.state[p].update(moments[name]._asdict())
        return loss

    @torch.no_grad()
    def consolidate(self, importance: Sequence[Tensor]) -> None:
        """End a task: store the weights and their importance, and reset the moments of gradients.

        Args:
            importance: For each parameter, in order, a tensor of its shape with numbers of at least 0, such as the
                diagonal of the Fisher information on the task that ended; it is added to that of earlier tasks.

        Raises:
            ValueError: There are more or fewer tensors than parameters, or one has another shape, dtype or device, or a
                number that is negative or not finite.
        """
        checks.arguments()
        parameters = self._numbered_parameters()
        if len(importance) != len(parameters):
            raise ValueError(
                f"importance: expected {len(parameters)} tensors, one for each parameter, found {len(importance)}"
            )
        for (name, p), tensor in zip(parameters.items(), importance, strict=True):
            checks.tensor(f"importance[{name}]", tensor, tuple(p.shape), p)
            checks.finite(f"importance[{name}]", tensor)
            if (tensor < 0).any():
                raise ValueError(f"importance[{name}] has {tensor.min().item()}: expected no negative number")
        for p, tensor in zip(parameters.values(), importance, strict=True):
            state = self.state[p]
            earlier = state.get("importance", torch.zeros_like(p))
            self.state[p] = {"anchor": p.detach().clone(), "importance": earlier + tensor}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "rule": self.rule}

    def _numbered_parameters(self) -> Parameters:
        """All parameters, named by their index."""
        return {str(number): p for number, p in enumerate(p for group in self.param_groups for p in group["params"])}

    def _moments(self, params: Parameters) -> dict[str, Moments]:
        fresh = self.rule.init(params)
        for name, p in params.items():
            if "steps" in (state := self.state.get(p, {})):
                fresh[name] = Moments(*(state[field] for field in Moments._fields))
        return fresh

    def _memory(self, params: Parameters) -> Memory:
        remembered = {name: self.state[p] for name, p in params.items() if "anchor" in self.state.get(p, {})}
        return {name: TaskMemory(state["anchor"], state["importance"]) for name, state in remembered.items()}
