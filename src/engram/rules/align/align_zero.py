"""Align-zero: the gradient of the initial network, given the current network's error."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.func import functional_call

from engram import checks
from engram.rules.align.initial import initial_parameters, output_gradient
from engram.rules.chain import refuse_changing
from engram.rules.contract import LearningRule, Properties, Update, called, checked_update, gradients
from engram.rules.draws import record_draws
from engram.state import check_state


class AlignZero(LearningRule[dict[str, Tensor]]):
    """Align-zero: the current network's error goes back through the initial network, with the latter's activity.

        dL/dW[l] = c[l] delta[l]^T h0[l-1],   delta[l] = (c[l+1] delta[l+1] W0[l+1]) phi'(a0[l]),   delta[L] = e

    where 0 marks the network at ``init`` and c[l] is the factor on W[l] in the forward pass. The first step is
    backpropagation's; a wide network in the neural tangent kernel parameterisation (``wide_mlp``) learns as with
    backpropagation. Any module can be trained, including recurrent ones. With weight decay the weights and the feedback
    drift apart, since the feedback does not decay.

    The state is the parameters at ``init``, by name.

    Source: Boopathy and Fiete, "How to train your wide neural network without backprop: an input-weight alignment
    perspective" (2022).

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(1, 1, bias=False)), AlignZero()
        >>> _ = nn.init.ones_(model[0].weight)
        >>> state = rule.init(model, torch.Generator())
        >>> rule.update(model, torch.tensor([[2.0]]), torch.tensor([[1.0]]), state).grads
        {'0.weight': tensor([[2.]])}
    """

    properties = Properties(no_weight_transport=True)

    def init(self, model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        """A copy of the current parameters."""
        return initial_parameters(model, self, repeated=True)

    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"] | tuple[Tensor, ...],
        target: Shaped[Tensor, "_ *targets"],
        state: dict[str, Tensor],
    ) -> Update:
        """The pseudo-gradients; the state stays as it is.

        Args:
            model: The network, which is not changed.
            x: Its input, as ``model`` takes it; several inputs in a tuple.
            target: Classes, int64, or values, as ``output_loss`` takes them.
            state: The parameters at ``init``, by name.
        """
        checks.arguments()
        refuse_changing(model, self, repeated=True)
        check_state(state, dict(model.named_parameters()))
        repeat = record_draws(model)
        with torch.no_grad():
            output = called(model, x)
        loss, error = output_gradient(output, target)
        trainable = {name for name, value in model.named_parameters() if value.requires_grad}
        frozen = {name: value.detach().requires_grad_(name in trainable) for name, value in state.items()}
        repeat()
        with torch.enable_grad():
            initial = functional_call(model, frozen, x if isinstance(x, tuple) else (x,))
        leaves = {name: value for name, value in frozen.items() if name in trainable}
        return checked_update(self, gradients([initial], leaves, [error]), state, loss)
