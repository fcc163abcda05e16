"""RMSprop as first published, with epsilon inside the square root."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from engram import checks


class RMSpropEpsInside(Optimizer):
    """RMSprop with epsilon inside the square root, so that no step is longer than lr |g| / sqrt(eps).

        s <- alpha s + (1 - alpha) g^2,   p <- p - lr g / sqrt(s + eps)

    ``torch.optim.RMSprop`` adds epsilon to the root, which makes a difference when epsilon is not small, as here.

    Args:
        params: Parameters, or groups of them, which may have their own options.
        lr: Learning rate, at least 0.
        alpha: Decay of the mean square, from 0 to 1.
        eps: Added to the mean square, above 0.

    Raises:
        ValueError: An argument is out of range.
        RuntimeError: A parameter is complex, or a gradient is sparse.

    Source: Graves, "Generating sequences with recurrent neural networks" (2013), without its centring; used by Mnih et
    al. (2015) and, with these values, by neural episodic control.

    Examples:
        >>> p = torch.zeros(1, requires_grad=True)
        >>> p.grad = torch.ones(1)
        >>> RMSpropEpsInside([p], lr=1.0).step()
        >>> round(p.item(), 4)
        -4.0825
    """

    def __init__(self, params: ParamsT, lr: float = 7.92468721e-6, alpha: float = 0.95, eps: float = 0.01) -> None:
        checks.arguments()
        _check_options({"lr": lr, "alpha": alpha, "eps": eps})
        with checks.noted(params=params):
            super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, which may have its own options; raise the errors of the constructor."""
        super().add_param_group(param_group)
        try:
            _check_options(self.param_groups[-1])
            for p in self.param_groups[-1]["params"]:
                if p.is_complex():  # of which s would be no mean square
                    raise RuntimeError(f"a parameter of shape {tuple(p.shape)} is complex: expected real ones")
        except Exception:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Call ``closure`` if there is one, take a step, and return the loss of ``closure``."""
        loss = None
        if closure is not None:
            with torch.enable_grad(), checks.noted(closure=closure):
                loss = closure()
        moving = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for p, _ in moving:  # before any of them moves
            if p.grad.is_sparse:
                raise RuntimeError(f"the gradient of a parameter of shape {tuple(p.shape)} is sparse: expected dense")
        for p, group in moving:
            self._step(p, p.grad, group["lr"], group["alpha"], group["eps"])
        return loss

    def _step(self, p: Tensor, g: Tensor, lr: float, alpha: float, eps: float) -> None:
        state = self.state[p]
        if not state:
            state["square_avg"] = torch.zeros_like(p)
        square_avg = state["square_avg"].mul_(alpha).addcmul_(g, g, value=1 - alpha)
        p.addcdiv_(g, (square_avg + eps).sqrt_(), value=-lr)


def _check_options(group: dict[str, Any]) -> None:
    checks.number("lr", group["lr"], minimum=0)
    checks.number("alpha", group["alpha"], minimum=0, maximum=1)
    checks.number("eps", group["eps"], above=0)
