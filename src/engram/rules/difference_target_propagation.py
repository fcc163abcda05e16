"""Difference target propagation: targets, not errors, go back through learned approximate inverses of the layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules import chain
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.loss import output_error, output_loss
from engram.state import check_state, register_states


class Inverse(NamedTuple):
    """The weights V, (units below, units), and the bias c of an approximate inverse of a layer."""

    weight: Tensor
    bias: Tensor


class InverseState(NamedTuple):
    """Approximate inverses of all layers but the first and the last, by the name of their weights; the noise's key."""

    inverses: dict[str, Inverse]
    key: Int[Tensor, ""]


register_states(Inverse, InverseState)


class DifferenceTargetPropagation(LearningRule[InverseState]):
    """Difference target propagation: each hidden layer gets a target through an approximate inverse of the one above.

        t[L-1] = h[L-1] - gamma e W[L],   t[l-1] = h[l-1] + g[l](t[l]) - g[l](h[l]),   g[l](h) = phi[l-1](V[l] h + c[l])
        delta[l] = (h[l] - t[l]) phi'(a[l]) / gamma

    Before that the inverses learn by gradient descent on the mean over the batch of

        |g[l](f[l](h + noise)) - (h + noise)|^2 / 2

    Args:
        gamma: Size of the step against the error that gives the top hidden layer's target, above 0.
        noise: Standard deviation of the noise at h[l-1], at least 0.
        rate: Learning rate of the inverses, above 0.
        inverse_steps: Number of steps of the inverses for each batch.

    Source: Lee, Zhang, Fischer and Bengio, "Difference target propagation" (2015), section 2.3. With the step divided
    by gamma, the top hidden layer has backpropagation's gradient.

    Examples:
        >>> layers = nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1)
        >>> model, rule = nn.Sequential(*layers), DifferenceTargetPropagation()
        >>> list(rule.init(model, torch.Generator()).inverses)
        ['2.weight']
    """

    properties = Properties()

    def __init__(self, gamma: float = 0.1, noise: float = 0.05, *, rate: float = 0.2, inverse_steps: int = 2) -> None:
        self.gamma = checks.number("gamma", gamma, above=0)
        self.noise = checks.number("noise", noise, minimum=0)
        self.rate = checks.number("rate", rate, above=0)
        self.inverse_steps = checks.size("inverse_steps", inverse_steps, minimum=0)

    def init(self, model: nn.Module, generator: torch.Generator) -> InverseState:
        """Inverses with V ~ N(0, 1 / fan-in) and c = 0."""
        checks.arguments()
        inverses = {}
        for layer in self._read(model).layers[1:-1]:
            weight = layer.module.weight.detach()
            inverse_weight = chain.normal(weight.t().shape, generator, weight) / len(weight) ** 0.5
            inverses[layer.weight_name] = Inverse(inverse_weight, weight.new_zeros(weight.shape[1]))
        return InverseState(inverses, chain.new_key(generator))

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"],
        target: Shaped[Tensor, "_ *targets"],
        state: InverseState,
    ) -> Update:
        """The pseudo-gradients, and the inverses from which the targets were computed.

        Args:
            model: The network, which is not changed.
            x: Its input, (batch, features).
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: The inverses, and the key of the noise.
        """
        checks.arguments()
        network = self._read(model)
        weights = {layer.weight_name: layer.module.weight for layer in network.layers[1:-1]}
        check_state(
            state.inverses, {name: (weight.t(), weight[0]) for name, weight in weights.items()}, "state.inverses"
        )
        activities = network.forward(x)
        output = activities[-1].output
        error = output_error(output, target)
        state = self._train_inverses(network, activities, state)
        last = network.layers[-1]
        top = last.back(last.through(activities[-1], error), last.module.weight, activities[-1].input)
        targets = difference_targets(network, activities, self.gamma * top, state.inverses)
        scale = 1 / (self.gamma * len(output))
        errors = [(a.output - t) * scale for a, t in zip(activities, targets, strict=False)]
        grads: dict[str, Tensor] = {}
        for layer, activity, layer_error in zip(
            network.layers, activities, [*errors, error / len(output)], strict=True
        ):
            grads |= layer.gradients(activity, layer_error)[1]
        return checked_update(self, grads, state, output_loss(output, target))

    def _read(self, model: nn.Module) -> chain.Chain:
        network = chain.Chain.from_module(model, self, linear=True, deterministic=True)
        for layer in network.layers[:-1]:
            for name, module in layer.after:
                if isinstance(module, nn.Flatten | nn.Unflatten | nn.Softmax | nn.LayerNorm | nn.GroupNorm):
                    kind = type(module).__name__
                    raise TypeError(
                        f"DifferenceTargetPropagation cannot train layer {name!r}, a {kind}: it has no inverse;"
                        " expected an activation that works on each unit alone"
                    )
        return network

    def _train_inverses(
        self, network: chain.Chain, activities: Sequence[chain.Activity], state: InverseState
    ) -> InverseState:
        """The inverses after their learning steps."""
        generator = chain.generator_of(state.key, activities[0].pre)
        inverses = dict(state.inverses)
        for _ in range(self.inverse_steps):
            for below, layer, activity in zip(network.layers, network.layers[1:-1], activities, strict=False):
                h = activity.output
                noisy = h + self.noise * chain.normal(h.shape, generator, h)
                above = layer.forward(noisy).output
                inverse = inverses[layer.weight_name]
                reconstruction = _activity(below, above, inverse)
                delta = below.through(reconstruction, reconstruction.output - noisy) * (self.rate / len(h))
                inverses[layer.weight_name] = Inverse(
                    torch.addmm(inverse.weight, delta.t(), above, alpha=-1), inverse.bias - delta.sum(0)
                )
        return InverseState(inverses, chain.new_key(generator))


def difference_targets(
    network: chain.Chain,
    activities: Sequence[chain.Activity],
    step: Tensor,
    inverses: dict[str, Inverse],
) -> list[Tensor]:
    """The targets of all hidden layers.

    Args:
        network: The chain.
        activities: Activities of its forward pass.
        step: The output of the top hidden layer minus its target: gamma e W[L].
        inverses: g[l] by the name of W[l].
    """
    targets = [activities[-2].output - step] if len(activities) > 1 else []
    for index in range(len(activities) - 3, -1, -1):
        below, above = network.layers[index], activities[index + 1]
        inverse = inverses[network.layers[index + 1].weight_name]
        from_target, from_output = (_activity(below, h, inverse).output for h in (targets[0], above.output))
        targets.insert(0, activities[index].output + (from_target - from_output))
    return targets


def _activity(below: chain.Layer, above: Tensor, inverse: Inverse) -> chain.Activity:
    """The activity of an inverse, whose units are those of the layer below."""
    return below.activated(above, torch.addmm(inverse.bias, above, inverse.weight.t()))
