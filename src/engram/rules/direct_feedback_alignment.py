"""Direct feedback alignment: each hidden layer gets the output error through its own fixed random weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules.chain import Chain
from engram.rules.contract import LearningRule, Properties, Update, checked_update, gradients
from engram.rules.loss import loss_and_error
from engram.rules.output_feedback import OutputFeedback, draw_feedback, init_feedback
from engram.rules.points import Points


class DirectFeedbackAlignment(LearningRule[OutputFeedback]):
    """Direct feedback alignment: the error at the output reaches each hidden layer through fixed random weights.

        delta[l] = (e D[l]) phi'(a[l]),   D ~ N(0, 1 / outputs)

    or N(0, 1 / units) in the neural tangent kernel parameterisation, where the errors of wide layers are that small.
    The last layer is trained by the error itself. The state is D, (outputs, units), of all hidden layers side by side,
    so that one product gives all their errors; it is drawn at the first update.

    A chain of layers is trained as above. Any other network is cut at *points*, modules of it: the output of each gets
    an error e D, which goes on to its input by the exact derivative, and no further. What follows the last point is
    trained by the error itself. In a transformer the points are blocks ("macro") or their sublayers ("micro").

    Args:
        points: Names of the points in ``model.named_modules()``; an error arrives after an activation if the point is
            an ``nn.Sequential`` that ends with it. None: the layers of a chain; in another ``nn.Sequential`` its
            children with weights, but for the last.

    Raises:
        TypeError: ``points`` is not a list of names.

    Source: Nøkland, "Direct feedback alignment provides learning in deep neural networks" (2016), equation 7; points:
    Launay et al., "Direct feedback alignment scales to modern deep learning tasks and architectures" (2020), section 3.

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), DirectFeedbackAlignment()
        >>> state = rule.init(model, torch.Generator())
        >>> rule.update(model, torch.ones(4, 2), torch.ones(4, 1), state).state.weights.shape
        torch.Size([1, 3])
    """

    properties = Properties(local=True, no_weight_transport=True, one_phase=True, online=True, spikes=True)

    def __init__(self, points: Sequence[str] | None = None) -> None:
        is_list = isinstance(points, Sequence) and not isinstance(points, str)
        if points is not None and not (is_list and all(isinstance(name, str) for name in points)):
            raise TypeError(f"points = {points!r}: expected a list of names of modules")
        self.points = None if points is None else tuple(points)

    def init(self, model: nn.Module, generator: torch.Generator) -> OutputFeedback:
        """The key of the feedback, which is drawn at the first update."""
        checks.arguments()
        self._network(model)
        return init_feedback(generator)

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"] | tuple[Tensor, ...],
        target: Shaped[Tensor, "_ *targets"],
        state: OutputFeedback,
    ) -> Update:
        """The pseudo-gradients; after the first update the state stays as it is.

        Args:
            model: The network, which is not changed.
            x: Its input, the batch first; several inputs in a tuple.
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: Feedback weights D, empty before the first update, and the key from which they are drawn.
        """
        checks.arguments()
        network = self._network(model)
        if isinstance(network, Points):
            return self._at_points(network, x, target, state)
        activities = network.forward(checks.instance("x", x, Tensor))
        scaled = any(layer.scale != 1 for layer in network.layers)
        *hidden, output = (activity.output for activity in activities)
        state, sizes = draw_feedback(state, hidden, output, "units" if scaled else "outputs")
        loss, error = loss_and_error(output, target)
        errors = [*torch.split(error @ state.weights, sizes, 1), error]
        grads: dict[str, Tensor] = {}
        for layer, activity, delta in zip(network.layers, activities, errors, strict=True):
            grads |= layer.gradients(activity, delta.reshape(activity.output.shape))[1]
        return checked_update(self, grads, state, loss)

    def _network(self, model: nn.Module) -> Chain | Points:
        checks.instance("model", model, nn.Module)
        if self.points is not None:
            return Points.from_module(model, self, self.points)
        try:
            return Chain.from_module(model, self, scaled=True)
        except TypeError:
            return Points.from_module(model, self)

    def _at_points(
        self, network: Points, x: Tensor | tuple[Tensor, ...], target: Tensor, state: OutputFeedback
    ) -> Update:
        parameters = {name: value for name, value in network.model.named_parameters() if value.requires_grad}
        outputs, output = network.forward(x)
        hidden = [value for _, value in outputs]
        loss, error = loss_and_error(output.detach(), target)
        state, sizes = draw_feedback(state, hidden, output.detach(), "outputs")
        parts = torch.split(error @ state.weights, sizes, 1)
        errors = [part.reshape(h.shape) for part, h in zip(parts, hidden, strict=True)]
        grads = gradients([*hidden, output], parameters, [*errors, error])
        return checked_update(self, grads, state, loss)
