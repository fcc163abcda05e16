"""Backpropagation: the exact gradient, the reference for all other rules."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules.contract import LearningRule, Properties, Update, called, checked_update, gradients
from engram.rules.loss import output_loss


class Backprop(LearningRule[None]):
    """The gradient of the loss by automatic differentiation, for any module.

        dL/dW[l] = delta[l]^T h[l-1] / B,   delta[l] = (delta[l+1] W[l+1]) phi'(a[l])

    Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors" (1986).

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 1, bias=False)), Backprop()
        >>> state = rule.init(model, torch.Generator())
        >>> _ = nn.init.ones_(model[0].weight)
        >>> rule.update(model, torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0]]), state).grads
        {'0.weight': tensor([[2., 4.]])}
    """

    properties = Properties(one_phase=True)
    trains_complex = True

    def init(self, model: nn.Module, generator: torch.Generator) -> None:
        """No state."""

    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "*batch_features"] | tuple[Tensor, ...],
        target: Shaped[Tensor, "*batch_targets"],
        state: None,
    ) -> Update:
        """The gradients of the parameters that require them.

        Args:
            model: The network, which is not changed.
            x: Its input, as ``model`` takes it; several inputs in a tuple.
            target: Classes, int64, or values, as ``output_loss`` takes them.
            state: None: the rule has no state.
        """
        checks.arguments()
        parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        with torch.enable_grad():
            loss = output_loss(called(model, x), target)
        return checked_update(self, gradients([loss], parameters, [None]), None, loss.detach())
