"""Align-prop: feedback alignment with the initial weights as feedback."""

from __future__ import annotations

import math

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.nn.ntk import WideRNN
from engram.rules import chain
from engram.rules.align.initial import inject, output_gradient
from engram.rules.contract import LearningRule, Properties, Update, checked_update, gradients
from engram.rules.network import AnyNetwork, network_of
from engram.rules.temporal.readout_checks import check_as_defined
from engram.state import check_state

RECURRENT, READOUT = "core.weight_hh", "readout.weight"


class AlignProp(LearningRule[dict[str, Tensor]]):
    """Align-prop: errors go back through the initial weights; everything else is taken from the current network.

        delta[l] = (delta[l+1] V[l+1]) phi'(a[l]),   V = rho W0 + sqrt(1 - rho^2) B,   B ~ N(0, 1 / fan-in)

    or, in the neural tangent kernel parameterisation, N(0, 1) scaled as W is.

    With rho = 1 the first step is backpropagation's; with rho = 0 it is feedback alignment.

    Args:
        rho: Correlation of feedback and initial weights, from 0 to 1.

    The state is V, by the name of the weights W of each layer but the first, scaled as in the forward pass. The rule
    trains an ``nn.Sequential`` of linear layers and convolutions, in either parameterisation, and ``WideRNN``; also any
    other network in the standard one, with a V for every linear map and convolution.

    Source: Boopathy and Fiete, "How to train your wide neural network without backprop" (2022); rho from Bordelon and
    Pehlevan, "The influence of learning rule on representation dynamics in wide neural networks" (2023).

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), AlignProp()
        >>> torch.equal(rule.init(model, torch.Generator())["2.weight"], model[2].weight)
        True
    """

    properties = Properties(local=True, no_weight_transport=True, one_phase=True, online=True)

    def __init__(self, rho: float = 1.0) -> None:
        self.rho = checks.number("rho", rho, minimum=0, maximum=1)

    def init(self, model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        """V, a mixture of the current weights and random ones."""
        checks.arguments()
        if isinstance(model, WideRNN):
            check_as_defined("AlignProp", {"": model, "core": model.core, "readout": model.readout})
            layers: dict[str, tuple[Tensor, float]] = {RECURRENT: (model.core.weight_hh, model.core.scale)}
            layers[READOUT] = model.readout.weight, model.readout.scale
            weights = {name: weight * scale for name, (weight, scale) in layers.items()}
            noise = {name: chain.normal(W.shape, generator, W) * scale for name, (W, scale) in layers.items()}
        else:
            network = network_of(model, self, scaled=True)
            weights, noise = network.weights(), network.random_weights(generator)
        noise_share = math.sqrt(1 - self.rho**2)
        return {name: self.rho * weight.detach() + noise_share * noise[name] for name, weight in weights.items()}

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
            x: Its input, the batch first; (time, batch, features) for a ``WideRNN``.
            target: Classes, int64, or values, as ``output_loss`` takes them.
            state: V, by the name of W.
        """
        checks.arguments()
        if isinstance(model, WideRNN):
            check_as_defined("AlignProp", {"": model, "core": model.core, "readout": model.readout})
            check_state(state, {RECURRENT: model.core.weight_hh, READOUT: model.readout.weight})
            return self._in_time(model, checks.instance("x", x, Tensor), target, state)
        network = network_of(model, self, scaled=True)
        network.check_feedback(state)
        if isinstance(network, AnyNetwork):
            with torch.no_grad():
                grads, loss = network.learn(x, target, state)
            return checked_update(self, grads, state, loss)
        with torch.no_grad():
            activities = network.forward(checks.instance("x", x, Tensor))
            loss, error = output_gradient(activities[-1].output, target)
            return checked_update(self, network.backward(activities, error, state), state, loss)

    def _in_time(self, model: WideRNN, x: Tensor, target: Tensor, state: dict[str, Tensor]) -> Update:
        parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        core, activities = model.core, []
        recurrent, feedback = (core.weight_hh * core.scale).t(), state[RECURRENT].t()
        with torch.enable_grad():
            hidden = core.weight_hh.new_zeros(x.shape[1], core.hidden_size)
            for drive in functional.linear(x, core.weight_ih, core.bias):
                hidden = inject(torch.addmm(drive, hidden.detach(), recurrent), hidden @ feedback).relu()
                activities.append(hidden)
            activity = torch.stack(activities)
            output = inject(model.readout(activity.detach()), activity @ state[READOUT].t())
        loss, error = output_gradient(output, target)
        return checked_update(self, gradients([output], parameters, [error]), state, loss)
