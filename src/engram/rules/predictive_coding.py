"""Predictive coding: activities settle to minimise prediction errors between layers, then weights learn."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules import chain
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.loss import loss_and_error, output_error, output_loss


class PredictiveCoding(LearningRule[None]):
    """Predictive coding: the values v of hidden layers descend an energy of prediction errors before weights learn.

        F = sum_l |eps[l]|^2 / 2 + loss,   eps[l] = v[l] - f[l](v[l-1]),   eps[L] = -e
        v[l] += rate (-eps[l] + J[l+1]^T eps[l+1]),   dF/dtheta[l] = -eps[l] df[l]/dtheta,   J = df/dv

    where v starts from the forward pass. If predictions and J are fixed there, with a rate of 1, one sweep from the top
    down settles the errors, eps[l] = J[l+1]^T eps[l+1], and the result is backpropagation's.

    Args:
        variant: ``"fixed"``: predictions fixed at the forward pass. ``"strict"``: the full energy.
        steps: Number of steps of the strict variant.
        rate: Step size of the strict variant; a step that would raise the energy is skipped, and the rate is halved.

    ``info`` of the strict variant has ``energy``, the mean over samples at the start and after each step, and
    ``halvings``, how often the rate was halved.

    Source: Whittington and Bogacz, "An approximation of the error backpropagation algorithm in a predictive coding
    network" (2017); Millidge, Tschantz and Buckley, "Predictive coding approximates backprop along arbitrary
    computation graphs" (2022), for the fixed predictions.

    Examples:
        >>> from engram.rules import Backprop
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), PredictiveCoding()
        >>> batch = torch.eye(2), torch.ones(2, 1)
        >>> ours, theirs = (r.update(model, *batch, None).grads["0.weight"] for r in (rule, Backprop()))
        >>> torch.allclose(ours, theirs)
        True
    """

    properties = Properties(local=True)

    def __init__(self, variant: Literal["fixed", "strict"] = "fixed", *, steps: int = 20, rate: float = 0.1) -> None:
        checks.arguments()
        self.variant = checks.choice("variant", variant, ("fixed", "strict"))
        self.steps = checks.size("steps", steps)
        self.rate = checks.number("rate", rate, above=0)

    @classmethod
    def strict(cls) -> PredictiveCoding:
        """The strict variant."""
        return cls("strict")

    def init(self, model: nn.Module, generator: torch.Generator) -> None:
        """No state."""
        checks.arguments()
        chain.Chain.from_module(model, self, deterministic=True)

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"],
        target: Shaped[Tensor, "_ *targets"],
        state: None,
    ) -> Update:
        """The pseudo-gradients at the settled values.

        Args:
            model: The network, which is not changed.
            x: Its input, the batch first.
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: None: the rule has no state.
        """
        checks.arguments()
        network = chain.Chain.from_module(model, self, deterministic=True)
        activities = network.forward(x)
        output = activities[-1].output
        loss, error = loss_and_error(output, target)
        if self.variant == "fixed":
            # The sweep runs on the errors themselves: computing v - f(v) would lose digits to the size of v.
            return checked_update(self, network.backward(activities, error, network.weights()), None, loss)
        settled = _Settling(network, target, activities, [activity.output for activity in activities[:-1]])
        rate, halvings, energies = self.rate, 0, [settled.energy()]
        for _ in range(self.steps):
            proposed = settled.moved(rate)
            if (energy := proposed.energy()) > energies[-1]:
                rate, halvings = rate / 2, halvings + 1
                energies.append(energies[-1])
            else:
                settled = proposed
                energies.append(energy)
        info = {"energy": torch.stack(energies) / len(output), "halvings": torch.tensor(halvings)}
        return checked_update(self, settled.gradients(), None, loss, **info)


class _Settling:
    """Values of hidden layers as they descend the energy, with the predictions that they make."""

    def __init__(
        self, network: chain.Chain, target: Tensor, activities: list[chain.Activity], values: list[Tensor]
    ) -> None:
        self.network, self.target, self.activities, self.values = network, target, activities, values
        self.output = activities[-1].output
        self.errors = [value - activity.output for value, activity in zip(values, activities, strict=False)]
        self.errors.append(-output_error(self.output, target))
        self.downhill: list[Tensor] | None = None

    def energy(self) -> Tensor:
        """The energy F, a sum over samples."""
        loss = output_loss(checks.widened(self.output), checks.widened(self.target)) * len(self.output)
        return loss + sum(checks.widened(error).square().sum() / 2 for error in self.errors[:-1])

    def moved(self, rate: float) -> _Settling:
        """The state after a step of this size."""
        if self.downhill is None:
            layers_above = zip(self.network.layers, self.activities, self.errors, strict=True)
            backward_errors = [
                layer.back(layer.through(activity, error), layer.module.weight, activity.input)
                for layer, activity, error in list(layers_above)[1:]
            ]
            self.downhill = [back - error for back, error in zip(backward_errors, self.errors, strict=False)]
        values = [value + rate * step for value, step in zip(self.values, self.downhill, strict=True)]
        inputs = [self.activities[0].input, *values]
        activities = [layer.forward(input) for layer, input in zip(self.network.layers, inputs, strict=True)]
        return _Settling(self.network, self.target, activities, values)

    def gradients(self) -> dict[str, Tensor]:
        """The gradients dF/dtheta, means over the batch."""
        # The layers run again, since a proposal from here that was refused has used up their graphs.
        inputs = [self.activities[0].input, *self.values]
        grads: dict[str, Tensor] = {}
        for layer, input, error in zip(self.network.layers, inputs, self.errors, strict=True):
            grads |= layer.gradients(layer.forward(input), error / -len(error))[1]
        return grads
