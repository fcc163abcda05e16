"""Local errors: each hidden layer predicts the target through a fixed random readout and learns from its own error."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules import chain
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.loss import output_error, output_loss
from engram.rules.output_feedback import OutputFeedback, draw_feedback, init_feedback


class LocalError(LearningRule[OutputFeedback]):
    """Each hidden layer learns from the error of its own fixed random readout C; no errors pass between layers.

        delta[l] = ((softmax(h[l] C[l]^T) - t) C[l]) phi'(a[l]),   C[l] ~ N(0, 1 / units of layer l)

    without the softmax if targets are values. The state is C, (outputs, units), of all hidden layers side by side,
    drawn at the first update.

    Source: Mostafa, Ramesh and Cauwenberghs, "Deep supervised learning using local errors" (2018), section 2.

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), LocalError()
        >>> state = rule.init(model, torch.Generator())
        >>> sorted(rule.update(model, torch.ones(4, 2), torch.ones(4, 1), state).grads)
        ['0.bias', '0.weight', '2.bias', '2.weight']
    """

    properties = Properties(local=True, no_weight_transport=True, one_phase=True, online=True, spikes=True)

    def init(self, model: nn.Module, generator: torch.Generator) -> OutputFeedback:
        """The key of the readouts, which are drawn at the first update."""
        checks.arguments()
        chain.Chain.from_module(model, self)
        return init_feedback(generator)

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"],
        target: Shaped[Tensor, "_ *targets"],
        state: OutputFeedback,
    ) -> Update:
        """The pseudo-gradients; after the first update the state stays as it is.

        Args:
            model: The network, which is not changed.
            x: Its input, the batch first.
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: Readouts C, empty before the first update, and the key from which they are drawn.
        """
        checks.arguments()
        network = chain.Chain.from_module(model, self)
        activities = network.forward(x)
        output = activities[-1].output
        hidden = [activity.output for activity in activities[:-1]]
        state, sizes = draw_feedback(state, hidden, activities[-1].output, "units")
        readouts = torch.split(state.weights, sizes, 1)
        errors = [
            output_error(activity.output.flatten(1) @ readout.t(), target) @ readout
            for activity, readout in zip(activities, readouts, strict=False)
        ]
        errors.append(output_error(output, target))
        grads: dict[str, Tensor] = {}
        for layer, activity, error in zip(network.layers, activities, errors, strict=True):
            grads |= layer.gradients(activity, error.reshape(activity.output.shape) / len(output))[1]
        return checked_update(self, grads, state, output_loss(output, target))
