"""Only the last layer learns: the baseline that every rule should beat."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from engram import checks
from engram.nn.hooks import alteration
from engram.rules.chain import Chain, refuse_autocast
from engram.rules.contract import LearningRule, Properties, Update, called, checked_update, gradients
from engram.rules.loss import loss_and_error, output_loss


class LastLayerOnly(LearningRule[None]):
    """The delta rule for the last layer; hidden layers keep their initial weights.

        dL/dW[L] = e^T h[L-1] / B

    In an ``nn.Sequential`` that is no chain of layers, the last layer is its last child with weights. In any other
    module it is the module that owns the trainable parameters nearest to the output, by the graph of the call.

    Source: Widrow and Hoff, "Adaptive switching circuits" (1960).

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), LastLayerOnly()
        >>> sorted(rule.update(model, torch.ones(4, 2), torch.ones(4, 1), rule.init(model, torch.Generator())).grads)
        ['2.bias', '2.weight']
    """

    properties = Properties(local=True, no_weight_transport=True, one_phase=True, online=True, spikes=True)

    def init(self, model: nn.Module, generator: torch.Generator) -> None:
        """No state.

        Raises:
            TypeError: The network has no trainable parameters.
        """
        checks.arguments()
        self._network(model)

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"] | tuple[Tensor, ...],
        target: Shaped[Tensor, "_ *targets"],
        state: None,
    ) -> Update:
        """The gradients of the last layer's parameters.

        Args:
            model: The network, which is not changed.
            x: Its input, the batch first; several inputs in a tuple, for a module that takes them.
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: None: the rule has no state.
        """
        checks.arguments()
        network = self._network(model)
        if network is None or isinstance(x, tuple):
            with torch.enable_grad():
                loss = output_loss(called(model, x), target)
            grads = gradients([loss], _nearest(model, loss), [None])
            return checked_update(self, grads, None, loss.detach())
        if not isinstance(network, Chain):
            refuse_autocast(x.device)
            hidden = network[0](x)
            with torch.enable_grad():
                loss = output_loss(network[1](hidden), target)
            parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
            return checked_update(self, gradients([loss], parameters, [None]), None, loss.detach())
        last = network.forward(x)[-1]
        loss, error = loss_and_error(last.output, target)
        grads = network.layers[-1].gradients(last, error)[1]
        return checked_update(self, grads, None, loss)

    def _network(self, model: nn.Module) -> Chain | tuple[nn.Sequential, nn.Sequential] | None:
        """A chain of layers, or the modules below the last one with weights, and the others; None: any other module."""
        checks.instance("model", model, nn.Module)
        try:
            return Chain.from_module(model, self, scaled=True)
        except TypeError:
            # ``children`` would leave out a module that occurs again.
            is_sequential = type(model).forward is nn.Sequential.forward and not alteration(model)
            children = [*model] if is_sequential else []  # type: ignore[misc]
            holding = [number for number, child in enumerate(children) if [*child.parameters()]]
            if not holding:
                if children or not any(parameter.requires_grad for parameter in model.parameters()):
                    raise
                return None
            return nn.Sequential(*children[: holding[-1]]), nn.Sequential(*children[holding[-1] :])


def _nearest(model: nn.Module, loss: Tensor) -> dict[str, nn.Parameter]:
    """The trainable parameters of the module that owns the first one met on the way back from the loss, level by level.

    Args:
        model: The network.
        loss: Its loss, with a graph.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    level: list[Any] = [loss.grad_fn] if loss.grad_fn is not None else []
    seen = {*level}
    while level:
        met = [names[id(node.variable)] for node in level if id(getattr(node, "variable", None)) in names]
        if met:
            owner = met[0].rpartition(".")[0]
            own = model.get_submodule(owner).named_parameters(prefix=owner, recurse=False)
            return {name: parameter for name, parameter in own if parameter.requires_grad}
        above = dict.fromkeys(node for below in level for node, _ in below.next_functions if node is not None)
        level = [node for node in above if node not in seen]
        seen.update(level)
    return {}
