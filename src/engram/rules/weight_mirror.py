"""Weight mirrors: between batches, layers send noise from which the feedback weights learn the forward weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.rules.chain import Activity, Chain, new_key, normal
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.feedback_mode import Convolution, Use
from engram.rules.loss import loss_and_error
from engram.rules.network import AnyNetwork
from engram.state import register_states


class WeightMirrorState(NamedTuple):
    """Feedback weights B by the name of W, the key of the next noise, and the noise phases due before training."""

    feedback: dict[str, Tensor]
    key: Int[Tensor, ""]
    due: Int[Tensor, ""]


register_states(WeightMirrorState)


class WeightMirror(LearningRule[WeightMirrorState]):
    """Feedback alignment whose feedback weights align with the forward weights in a noise phase after each batch.

        B' = B + rate G - decay B,   G = phi(W xi)^T xi / n,   xi ~ N(0, 1)

    In a chain of linear layers n is the batch size. With linear units B settles at rate / decay times W; with
    saturating ones it is smaller. In any other network each linear map and convolution is given noise by itself,
    without activations, in the shape of its input: n is the number of ``samples``, in a convolution times the number of
    positions where the kernel's tap meets its input rather than padding, so that E[G] = W.

    Args:
        rate: Learning rate of the mirror, above 0.
        decay: Share of B that is lost in a step, from 0 to 1.
        samples: Number of noise samples of a phase in networks that are no chain of linear layers.
        warm_up: Number of noise phases before the first update.

    Source: Akrout et al., "Deep learning without weight transport" (2019), section 3.1.

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), WeightMirror()
        >>> state = rule.init(model, torch.Generator())
        >>> mirrored = rule.update(model, torch.ones(4, 2), torch.ones(4, 1), state).state
        >>> bool((mirrored.feedback["2.weight"] != state.feedback["2.weight"]).any())
        True
    """

    properties = Properties(local=True, no_weight_transport=True, online=True, spikes=True)

    def __init__(self, rate: float = 0.01, decay: float = 0.01, samples: int = 8, warm_up: int = 0) -> None:
        self.rate = checks.number("rate", rate, above=0)
        self.decay = checks.number("decay", decay, minimum=0, maximum=1)
        self.samples = checks.size("samples", samples)
        self.warm_up = checks.size("warm_up", warm_up, minimum=0)

    def init(self, model: nn.Module, generator: torch.Generator) -> WeightMirrorState:
        """Random feedback weights."""
        checks.arguments()
        feedback = self._network(model).random_weights(generator)
        return WeightMirrorState(feedback, new_key(generator), torch.tensor(self.warm_up))

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"] | tuple[Tensor, ...],
        target: Shaped[Tensor, "_ *targets"],
        state: WeightMirrorState,
    ) -> Update:
        """The pseudo-gradients, and the feedback weights after a mirror phase.

        Args:
            model: The network, which is not changed.
            x: Its input, the batch first; several inputs in a tuple.
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: Feedback weights B, the key of the noise, and the phases that are due.
        """
        checks.arguments()
        network = self._network(model)
        network.check_feedback(state.feedback, "state.feedback")
        if isinstance(network, AnyNetwork):
            if state.due:
                uses = network.uses(x)
                for _ in range(int(state.due)):
                    state = self._mirror_maps(network.maps, state, uses)
            grads, loss, uses = network.learn_and_note(x, target, state.feedback)
            return checked_update(self, grads, self._mirror_maps(network.maps, state, uses), loss)
        activities = network.forward(checks.instance("x", x, Tensor))
        for _ in range(int(state.due)):
            state = self._mirror_layers(network, state, activities)
        loss, error = loss_and_error(activities[-1].output, target)
        mirrored = self._mirror_layers(network, state, activities)
        grads = network.backward(activities, error, state.feedback)
        return checked_update(self, grads, mirrored, loss)

    def _network(self, model: nn.Module) -> Chain | AnyNetwork:
        checks.instance("model", model, nn.Module)
        try:
            return Chain.from_module(model, self, linear=True, deterministic=True)
        except TypeError:
            return AnyNetwork.from_module(model, self)

    def _mirror_layers(self, network: Chain, state: WeightMirrorState, activities: list[Activity]) -> WeightMirrorState:
        generator = torch.Generator().manual_seed(int(state.key))
        feedback = {}
        for layer, activity in zip(network.layers[1:], activities[1:], strict=True):
            noise = normal(activity.input.shape, generator, activity.input)
            activity_of_noise = functional.linear(noise, layer.module.weight)
            for _, module in layer.after:
                activity_of_noise = module(activity_of_noise)
            decayed = state.feedback[layer.weight_name] * (1 - self.decay)
            noise, activity_of_noise = noise.flatten(0, -2), activity_of_noise.reshape(-1, layer.units)
            feedback[layer.weight_name] = decayed.addmm_(activity_of_noise.t(), noise, alpha=self.rate / len(noise))
        return self._after(state, feedback, generator)

    def _mirror_maps(
        self, maps: Mapping[str, Tensor], state: WeightMirrorState, uses: Mapping[str, Use]
    ) -> WeightMirrorState:
        generator = torch.Generator().manual_seed(int(state.key))
        feedback = dict(state.feedback)
        for name, weight in maps.items():
            if name in uses:
                estimate = mirror(weight, uses[name], self.samples, generator)
                feedback[name] = (feedback[name] * (1 - self.decay)).add_(estimate, alpha=self.rate)
        return self._after(state, feedback, generator)

    def _after(
        self, state: WeightMirrorState, feedback: dict[str, Tensor], generator: torch.Generator
    ) -> WeightMirrorState:
        return WeightMirrorState(feedback, new_key(generator), (state.due - 1).clamp(min=0))


def mirror(weight: Tensor, use: Use, samples: int, generator: torch.Generator) -> Tensor:
    """An estimate of the weights of a map from its response to noise, whose expectation they are.

    Args:
        weight: W.
        use: How the map is used.
        samples: Number of noise samples.
        generator: Source of the noise.
    """
    if use.form is None:
        noise = normal((samples, weight.shape[-1]), generator, weight)
        return weight @ (noise.t() @ noise) / samples
    if weight.numel() != math.prod(use.weights):
        raise TypeError(f"weights {tuple(weight.shape)}: a convolution uses {use.weights} of them; expected all")
    shape, weight = weight.shape, weight.reshape(use.weights)  # those of a linear layer may be a kernel of one pixel
    noise = normal((samples, *use.shape), generator, weight)
    if weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        noise = noise.contiguous(memory_format=torch.channels_last)  # faster, as the weights are
    sums: Tensor = use.form.backward(use.form.forward(noise, weight, None), noise, weight, [False, True, False])[1]
    one_channel = replace(use.form, groups=1)
    arguments = tuple(tuple(value) if isinstance(value, list) else value for value in vars(one_channel).values())
    meetings = _meetings(use.shape[1:], tuple(weight.shape[2:]), arguments).to(weight)
    return (sums / (samples * meetings).clamp(min=1)).reshape(shape)


@cache
def _meetings(sides: tuple[int, ...], kernel: tuple[int, ...], arguments: tuple[Any, ...]) -> Tensor:
    """How often each tap of a kernel meets an input rather than padding: as often as if all were ones."""
    values: list[Any] = [list(value) if isinstance(value, tuple) else value for value in arguments]
    form = Convolution(*values)
    ones, taps = torch.ones(1, 1, *sides), torch.ones(1, 1, *kernel)
    response = torch.ones_like(form.forward(ones, taps, None))
    meetings: Tensor = form.backward(response, ones, taps, [False, True, False])[1]
    return meetings
