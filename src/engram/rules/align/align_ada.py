"""Align-ada: errors go back through the initial network and are combined with the current network's activity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.nn.ntk import BatchOnlyNorm, WideRNN
from engram.rules import chain
from engram.rules.align.initial import call, initial_parameters, inject, output_gradient
from engram.rules.contract import LearningRule, Properties, Update, checked_update, gradients
from engram.rules.temporal.readout_checks import check_as_defined
from engram.state import check_state

_NORMS = (BatchOnlyNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
_Modules = tuple[tuple[str, nn.Module], ...]


class AlignAda(LearningRule[dict[str, Tensor]]):
    """Align-ada: errors go back through the initial network and are combined with the current network's activity.

        dL/dW[l] = c[l] (g[l] phi'(a[l]))^T h[l-1],   g[l] = c[l+1] (g[l+1] phi'(a0[l+1])) W0[l+1],   g[L] = e

    where 0 marks the network at ``init`` and c[l] is the factor on W[l] in the forward pass. The first step is
    backpropagation's.

    Args:
        local_derivative: Where phi' in a layer's own update, and the derivative of its normalisation, are evaluated:
            ``"current"``, as above; ``"initial"``, phi'(a0[l]); or ``"author"`` (default), as in the authors' code:
            phi'(a0[l]) after a current normalisation, but all current in the last hidden layer, and in a recurrent
            network as ``"current"``. In wide networks all three give the same.
        author_readout: In a recurrent network, whether a unit gets only the errors of later steps, not that of its own
            step, as in the authors' code, whose first step is therefore not backpropagation's.

    Raises:
        ValueError: ``local_derivative`` is none of these, or ``"initial"`` together with ``author_readout``.

    The state is the parameters at ``init``, by name. The rule trains an ``nn.Sequential`` of linear layers and
    convolutions, in either parameterisation, and ``WideRNN``.

    Source: Boopathy and Fiete, "How to train your wide neural network without backprop" (2022).

    Examples:
        >>> from engram.rules import Backprop
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), AlignAda()
        >>> batch = torch.eye(2), torch.ones(2, 1)
        >>> ours = rule.update(model, *batch, rule.init(model, torch.Generator())).grads["0.weight"]
        >>> torch.equal(ours, Backprop().update(model, *batch, None).grads["0.weight"])
        True
    """

    properties = Properties(no_weight_transport=True)

    def __init__(
        self, local_derivative: Literal["author", "initial", "current"] = "author", *, author_readout: bool = False
    ) -> None:
        choices: tuple[Literal["author", "initial", "current"], ...] = ("author", "initial", "current")
        self.local_derivative = checks.choice("local_derivative", local_derivative, choices)
        if author_readout and local_derivative == "initial":
            raise ValueError("author_readout = True: expected local_derivative = 'author' or 'current'")
        self.author_readout = author_readout

    def init(self, model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        """The parameters as they are now."""
        checks.arguments()
        if isinstance(model, WideRNN):
            check_as_defined("AlignAda", {"": model, "core": model.core, "readout": model.readout})
        else:
            self._read(model)
        return initial_parameters(model, self)

    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"],
        target: Shaped[Tensor, "_ *targets"],
        state: dict[str, Tensor],
    ) -> Update:
        """The pseudo-gradients; the state stays as it is.

        Args:
            model: The network, which is not changed.
            x: Its input, the batch first; (time, batch, features) for a ``WideRNN``.
            target: Classes, int64, or values, as ``output_loss`` takes them.
            state: The parameters at ``init``, by name.
        """
        checks.arguments()
        chain.refuse_changing(model, self)
        check_state(state, dict(model.named_parameters()))
        parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        with torch.enable_grad():
            if isinstance(model, WideRNN):
                check_as_defined("AlignAda", {"": model, "core": model.core, "readout": model.readout})
                initial, output = self._in_time(model, x, state)
            else:
                initial, output = self._forward(self._read(model), x, state)
        loss, error = output_gradient(output, target)
        # The last layer gets its gradient from the output, all others from the output of the initial network.
        unreached = {name: torch.zeros_like(value) for name, value in parameters.items()}
        grads = unreached | gradients([output, initial], parameters, [error, error])
        return checked_update(self, grads, state, loss)

    def _read(self, model: nn.Module) -> chain.Chain:
        network = chain.Chain.from_module(model, self, scaled=True)
        for index, layer in enumerate(network.layers[:-1]):
            for name, module in layer.after[self._reached(layer, index, len(network.layers)) :]:
                if any(parameter.requires_grad for parameter in module.parameters()):
                    kind, why = type(module).__name__, "no error reaches its weights"
                    raise TypeError(
                        f"model: AlignAda cannot train layer {name!r}, a {kind}: {why}; expected it without weights, "
                        "or local_derivative = 'current'"
                    )
        return network

    def _reached(self, layer: chain.Layer, index: int, depth: int) -> int:
        """The number of modules after a layer that the error reaches."""
        if self.local_derivative == "initial":
            return 0
        if self.local_derivative == "author" and index < depth - 2:
            return _number_of_norms(layer)
        return len(layer.after)

    def _forward(self, network: chain.Chain, x: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The outputs of the initial network, into which the current one is injected, and of the current network."""
        initial = live = network.enter(x)
        for index, layer in enumerate(network.layers):
            initial = call(layer.name, layer.module, state, initial)
            live = layer.module(live.detach())
            if index == len(network.layers) - 1:
                break
            if self.local_derivative == "initial":
                initial, live = _run(layer.after, inject(initial, live), state), _run(layer.after, live)
                continue
            n_norms = _number_of_norms(layer)
            initial, live = _run(layer.after[:n_norms], initial, state), _run(layer.after[:n_norms], live)
            after_norms = layer.after[n_norms:]
            if self.local_derivative == "author" and index < len(network.layers) - 2:
                initial, live = _run(after_norms, inject(initial, live), state), _run(after_norms, live.detach())
            else:
                live = _run(after_norms, live)
                initial = inject(_run(after_norms, initial, state), live)
        return _run(layer.after, initial, state), _run(layer.after, live)

    def _in_time(self, model: WideRNN, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        core, live_activities, initial_activities = model.core, [], []
        recurrent, initial_recurrent = ((w * core.scale).t() for w in (core.weight_hh, state["core.weight_hh"]))
        live = initial = injected = core.weight_hh.new_zeros(x.shape[1], core.hidden_size)
        drives = functional.linear(x, core.weight_ih, core.bias)
        for drive, initial_drive in zip(
            drives, functional.linear(x, state["core.weight_ih"], state["core.bias"]), strict=True
        ):
            live = torch.addmm(drive, live.detach(), recurrent)
            initial = torch.addmm(initial_drive, injected, initial_recurrent)
            if self.local_derivative == "initial":
                initial = inject(initial, live).relu()
                live, injected = live.relu(), initial
            else:
                initial, live = initial.relu(), live.relu()
                injected = inject(initial, live)
            live_activities.append(live)
            initial_activities.append(initial if self.author_readout else injected)
        output = model.readout(torch.stack(live_activities).detach())
        return call("readout", model.readout, state, torch.stack(initial_activities)), output


def _run(modules: _Modules, value: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
    """The output of modules, with other parameters if given."""
    for name, module in modules:
        if getattr(module, "inplace", False):
            value = value.clone()
        value = module(value) if parameters is None else call(name, module, parameters, value)
    return value


def _number_of_norms(layer: chain.Layer) -> int:
    """The number of norm layers that follow a layer before any other module."""
    return next((i for i, (_, module) in enumerate(layer.after) if not isinstance(module, _NORMS)), len(layer.after))
