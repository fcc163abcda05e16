"""Direct feedback alignment: each hidden layer gets the output error through its own fixed random weights."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules import chain
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.loss import loss_and_error
from engram.rules.output_feedback import OutputFeedback, draw_feedback, init_feedback


class DirectFeedbackAlignment(LearningRule[OutputFeedback]):
    """Direct feedback alignment: the error at the output reaches each hidden layer through fixed random weights.

        delta[l] = (e D[l]) phi'(a[l]),   D ~ N(0, 1 / outputs)

    or N(0, 1 / units) in the neural tangent kernel parameterisation, where the errors of wide layers are that small.
    The last layer is trained by the error itself. The state is D, (outputs, units), of all hidden layers side by side,
    so that one product gives all their errors; it is drawn at the first update.

    Source: Nøkland, "Direct feedback alignment provides learning in deep neural networks" (2016), equation 7.

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), DirectFeedbackAlignment()
        >>> state = rule.init(model, torch.Generator())
        >>> rule.update(model, torch.ones(4, 2), torch.ones(4, 1), state).state.weights.shape
        torch.Size([1, 3])
    """

    properties = Properties(local=True, no_weight_transport=True, one_phase=True, online=True, spikes=True)

    def init(self, model: nn.Module, generator: torch.Generator) -> OutputFeedback:
        """The key of the feedback, which is drawn at the first update."""
        checks.arguments()
        chain.Chain.from_module(model, self, scaled=True)
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
            state: Feedback weights D, empty before the first update, and the key from which they are drawn.
        """
        checks.arguments()
        network = chain.Chain.from_module(model, self, scaled=True)
        activities = network.forward(x)
        scaled = any(layer.scale != 1 for layer in network.layers)
        state, sizes = draw_feedback(state, activities, "units" if scaled else "outputs")
        loss, error = loss_and_error(activities[-1].output, target)
        errors = [*torch.split(error @ state.weights, sizes, 1), error]
        grads: dict[str, Tensor] = {}
        for layer, activity, delta in zip(network.layers, activities, errors, strict=True):
            grads |= layer.gradients(activity, delta.reshape(activity.output.shape))[1]
        return checked_update(self, grads, state, loss)
