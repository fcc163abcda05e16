"""Feedback alignment: errors go back through fixed random weights instead of the forward weights."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.network import network_of


class FeedbackAlignment(LearningRule[dict[str, Tensor]]):
    """Feedback alignment: errors go back through fixed random weights B, with the shapes of W.

        delta[l] = (delta[l+1] B[l+1]) phi'(a[l]),   B ~ N(0, 1 / fan-in of W)

    or, in the neural tangent kernel parameterisation, N(0, 1) scaled as W is. The state is B, by the name of the
    weights W of each layer but the first; in a network that is no chain of layers, of every linear map and convolution.

    Source: Lillicrap et al., "Random synaptic feedback weights support error backpropagation for deep learning"
    (2016), equation 2.

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), FeedbackAlignment()
        >>> {name: tuple(B.shape) for name, B in rule.init(model, torch.Generator()).items()}
        {'2.weight': (1, 3)}
    """

    properties = Properties(local=True, no_weight_transport=True, one_phase=True, online=True, spikes=True)

    def init(self, model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        """Random feedback weights."""
        checks.arguments()
        return network_of(model, self, scaled=True).random_weights(generator)

    @torch.no_grad()
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
            x: Its input, the batch first; several inputs in a tuple.
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: Feedback weights B, by the name of W.
        """
        checks.arguments()
        network = network_of(model, self, scaled=True)
        network.check_feedback(state)
        grads, loss = network.learn(x, target, state)
        return checked_update(self, grads, state, loss)
