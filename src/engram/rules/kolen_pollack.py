"""The Kolen-Pollack rule: feedback weights get the same changes and the same decay as the forward weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.network import network_of


class KolenPollack(LearningRule[dict[str, Tensor]]):
    """Feedback alignment with learned feedback weights: they get the change u and the decay of the forward weights.

        W' = W + u - decay W,   B' = B + u - decay B,   W' - B' = (1 - decay) (W - B)

    ``after_step`` gets what the optimiser added to W, including its decay, so that the rule works with any optimiser; u
    is this change without the decay. The optimiser must decay the weights itself, or B would approach W by reading it:
    ``torch.optim.SGD`` does so with ``weight_decay = rule.weight_decay(lr, momentum)``. The state is B, by the name of
    the weights W of each layer but the first.

    Args:
        decay: Share of B that is lost in a step, from 0 to 1.

    Source: Kolen and Pollack, "Backpropagation without weight transport" (1994); Akrout et al., "Deep learning without
    weight transport" (2019), section 3.2.

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), KolenPollack(decay=1.0)
        >>> state = rule.after_step(model, {}, rule.init(model, torch.Generator()))
        >>> torch.equal(state["2.weight"], model[2].weight)
        True
    """

    properties = Properties(local=True, no_weight_transport=True, one_phase=True, online=True, spikes=True)

    def __init__(self, decay: float = 1e-3) -> None:
        self.decay = checks.number("decay", decay, minimum=0, maximum=1)

    def init(self, model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        """Random feedback weights."""
        checks.arguments()
        return network_of(model, self).random_weights(generator)

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"] | tuple[Tensor, ...],
        target: Shaped[Tensor, "_ *targets"],
        state: dict[str, Tensor],
    ) -> Update:
        """The pseudo-gradients; the state changes in ``after_step``.

        Args:
            model: The network, which is not changed.
            x: Its input, the batch first; several inputs in a tuple.
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: Feedback weights B, by the name of W.
        """
        checks.arguments()
        network = network_of(model, self)
        network.check_feedback(state)
        grads, loss = network.learn(x, target, state)
        return checked_update(self, grads, state, loss)

    def watched(self, state: dict[str, Tensor]) -> Collection[str]:
        """The names of the weights that have feedback."""
        return state

    def weight_decay(self, lr: float, momentum: float = 0.0) -> float:
        """The decay of W in ``torch.optim.SGD`` that matches the rule's decay of B: decay (1 - momentum) / lr.

        Args:
            lr: Learning rate, above 0.
            momentum: Momentum, from 0 to below 1.

        Examples:
            >>> KolenPollack(decay=0.001).weight_decay(0.1)
            0.01
        """
        return super().weight_decay(lr, momentum) + self.decay * (1 - momentum) / lr

    @torch.no_grad()
    def after_step(self, model: nn.Module, deltas: Mapping[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
        """B after the step: B + u - decay B, where u is the change of W without its decay.

        Args:
            model: The network after the step.
            deltas: The step's change of each W, by name; one that is missing has not changed.
            state: B before the step.
        """
        checks.arguments()
        weights, next_feedback = network_of(model, self).weights(), {}
        for name, feedback in state.items():
            delta = deltas.get(name, feedback.new_zeros(()))  # missing if W has not changed
            next_feedback[name] = torch.lerp(feedback, weights[name] - delta, self.decay).add_(delta)
        return next_feedback
