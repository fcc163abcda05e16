"""Weight mirrors: between batches, layers send noise from which the feedback weights learn the forward weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.rules import chain
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.loss import loss_and_error
from engram.state import register_states


class WeightMirrorState(NamedTuple):
    """Feedback weights B by the name of W, and the key of the next noise."""

    feedback: dict[str, Tensor]
    key: Int[Tensor, ""]


register_states(WeightMirrorState)


class WeightMirror(LearningRule[WeightMirrorState]):
    """Feedback alignment whose feedback weights align with the forward weights in a noise phase after each batch.

        B' = B + rate phi(W xi)^T xi / B - decay B,   xi ~ N(0, 1), as many samples as the batch has

    where the divisor is the batch size. With linear units B settles at rate / decay times W; with saturating ones it is
    smaller.

    Args:
        rate: Learning rate of the mirror, above 0.
        decay: Share of B that is lost in a step, from 0 to 1.

    Source: Akrout et al., "Deep learning without weight transport" (2019), section 3.1.

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), WeightMirror()
        >>> state = rule.init(model, torch.Generator())
        >>> mirrored = rule.update(model, torch.ones(4, 2), torch.ones(4, 1), state).state
        >>> bool((mirrored.feedback["2.weight"] != state.feedback["2.weight"]).any())
        True
    """

    properties = Properties(local=True, no_weight_transport=True, online=True, spikes=True)

    def __init__(self, rate: float = 0.01, decay: float = 0.01) -> None:
        self.rate = checks.number("rate", rate, above=0)
        self.decay = checks.number("decay", decay, minimum=0, maximum=1)

    def init(self, model: nn.Module, generator: torch.Generator) -> WeightMirrorState:
        """Random feedback weights."""
        checks.arguments()
        feedback = chain.Chain.from_module(model, self, linear=True, deterministic=True).random_weights(generator)
        return WeightMirrorState(feedback, chain.new_key(generator))

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"],
        target: Shaped[Tensor, "_ *targets"],
        state: WeightMirrorState,
    ) -> Update:
        """The pseudo-gradients, and the feedback weights after a mirror phase.

        Args:
            model: The network, which is not changed.
            x: Its input, (batch, features).
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: Feedback weights B, and the key of the noise.
        """
        checks.arguments()
        network = chain.Chain.from_module(model, self, linear=True, deterministic=True)
        network.check_feedback(state.feedback, "state.feedback")
        activities = network.forward(x)
        loss, error = loss_and_error(activities[-1].output, target)
        mirrored = self._mirrored(network, state, activities)
        grads = network.backward(activities, error, state.feedback)
        return checked_update(self, grads, mirrored, loss)

    def _mirrored(
        self, network: chain.Chain, state: WeightMirrorState, activities: list[chain.Activity]
    ) -> WeightMirrorState:
        generator = torch.Generator().manual_seed(int(state.key))
        feedback = {}
        for layer, activity in zip(network.layers[1:], activities[1:], strict=True):
            noise = chain.normal(activity.input.shape, generator, activity.input)
            activity_of_noise = functional.linear(noise, layer.module.weight)
            for _, module in layer.after:
                activity_of_noise = module(activity_of_noise)
            decayed = state.feedback[layer.weight_name] * (1 - self.decay)
            feedback[layer.weight_name] = decayed.addmm_(activity_of_noise.t(), noise, alpha=self.rate / len(noise))
        return WeightMirrorState(feedback, chain.new_key(generator))
