"""Equilibrium propagation: a network settles freely, then nudged to the target; weights learn from the difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules import chain
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.loss import output_error, output_loss

LOOK_EVERY = 5  # steps of the free phase between two tests of whether it has settled


class _Units(NamedTuple):
    """The units of a layer: rho, its derivative as a function of rho, and the range to which states are clamped."""

    rho: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor | float]
    minimum: float | None = None
    maximum: float | None = None


class EquilibriumPropagation(LearningRule[None]):
    """Equilibrium propagation in a network with symmetric connections, whose weights are those of the chain.

        E = sum_l |s[l]|^2 / 2 - rho(s[l])^T W[l] rho(s[l-1]) - b[l]^T rho(s[l]),   rho(s[0]) = x
        s += epsilon (-dE/ds - beta dC/ds),   C: the loss of y = rho(s[L])
        dL/dW = -(R(beta) - R(-beta)) / (2 beta),   R = rho(s[l]) rho(s[l-1])^T where it has settled

    The free phase starts from zero, and the nudged phases start from where it ended. The network's prediction is y of
    the free phase (``predict``), not of the forward pass. Units are ``nn.Tanh``, ``nn.Sigmoid`` or ``nn.Hardtanh``,
    whose states are clamped to its range; ``nn.Hardtanh(0, 1)`` is the literature's hard sigmoid. A layer without an
    activation is linear.

    Args:
        beta: Strength of the nudge, above 0.
        symmetric: Whether to nudge both ways; if not, dL/dW = -(R(beta) - R(0)) / beta, with a bias of order beta.
        free_steps: Number of steps of the free phase.
        nudge_steps: Number of steps of a nudged phase.
        epsilon: Step size, above 0 and at most 1.
        tolerance: The free phase ends early when the residual, checked every fifth step, is at most this; 0: never.

    ``info`` has ``residual``, the largest abs(ds) / epsilon at the end of the free phase; above 1e-3 it has not
    settled.

    Source: Scellier and Bengio, "Equilibrium propagation: bridging the gap between energy-based models and
    backpropagation" (2017); Laborieux et al., "Scaling equilibrium propagation to deep convnets" (2021), equation 6,
    for the symmetric estimate.

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), EquilibriumPropagation()
        >>> batch = torch.eye(2), torch.ones(2, 1)
        >>> sorted(rule.update(model, *batch, rule.init(model, torch.Generator())).info)
        ['loss', 'residual']
    """

    properties = Properties(local=True, spikes=True)

    def __init__(
        self,
        beta: float = 0.5,
        *,
        symmetric: bool = True,
        free_steps: int = 20,
        nudge_steps: int = 5,
        epsilon: float = 0.5,
        tolerance: float = 0.0,
    ) -> None:
        self.beta = checks.number("beta", beta, above=0)
        self.symmetric = symmetric
        self.free_steps = checks.size("free_steps", free_steps)
        self.nudge_steps = checks.size("nudge_steps", nudge_steps)
        self.epsilon = checks.number("epsilon", epsilon, above=0, maximum=1)
        self.tolerance = checks.number("tolerance", tolerance, minimum=0)

    @classmethod
    def one_sided(cls, **options: Any) -> EquilibriumPropagation:
        """The rule that nudges one way only, with these options."""
        return cls(symmetric=False, **options)

    def init(self, model: nn.Module, generator: torch.Generator) -> None:
        """No state."""
        checks.arguments()
        self._read(model)

    @torch.no_grad()
    def predict(
        self, model: nn.Module, x: Shaped[Tensor, "batch *features"] | tuple[Tensor, ...]
    ) -> Float[Tensor, "batch outputs"]:
        """The outputs y of the free phase, for a single input."""
        checks.arguments()
        network, units = self._read(model)
        activity = network.layers[0].forward(network.enter(checks.instance("x", x, Tensor)))
        return units[-1].rho(self._free(network, units, activity)[0][-1])

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"],
        target: Shaped[Tensor, "_ *targets"],
        state: None,
    ) -> Update:
        """The pseudo-gradients computed from the phases.

        Args:
            model: The network, which is not changed.
            x: Its input, (batch, features).
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: None: the rule has no state.
        """
        checks.arguments()
        network, units = self._read(model)
        activity = network.layers[0].forward(network.enter(x))
        free, residual = self._free(network, units, activity)
        output = units[-1].rho(free[-1])
        loss, size = output_loss(output, target), len(output)
        signs = output.new_ones(2 * size if self.symmetric else size, 1)
        signs[size:] = -1
        nudged = [torch.cat((s, s)) for s in free] if self.symmetric else free
        targets = torch.cat((target, target)) if self.symmetric else target
        drive = torch.cat((activity.pre, activity.pre)) if self.symmetric else activity.pre
        for _ in range(self.nudge_steps):
            nudge = output_error(units[-1].rho(nudged[-1]), targets) * (self.beta * signs)
            nudged = self._step(network, units, nudged, drive, nudge)
        if not self.symmetric:
            nudged = [torch.cat(pair) for pair in zip(nudged, free, strict=True)]
            signs = torch.cat((signs, -signs))
        scale = -1 / ((2 if self.symmetric else 1) * self.beta * size)
        active = [
            torch.cat((activity.input, activity.input)),
            *(unit.rho(s) for unit, s in zip(units, nudged, strict=True)),
        ]
        grads: dict[str, Tensor] = {}
        for layer, pre, post in zip(network.layers, active[:-1], active[1:], strict=True):
            grads |= layer.weight_gradients(pre, signs * scale * post)
        return checked_update(self, grads, None, loss, residual=residual)

    def _read(self, model: nn.Module) -> tuple[chain.Chain, list[_Units]]:
        network = chain.Chain.from_module(model, self, linear=True, deterministic=True)
        return network, [_units(layer) for layer in network.layers]

    def _free(
        self, network: chain.Chain, units: list[_Units], first: chain.Activity
    ) -> tuple[list[Tensor], Float[Tensor, ""]]:
        """The states at the end of the free phase, and its residual."""
        states = [first.pre.new_zeros(len(first.pre), layer.units) for layer in network.layers]
        previous = states

        def residual() -> Tensor:
            return (
                torch.stack([(s - b).abs().max() for s, b in zip(states, previous, strict=True)]).max() / self.epsilon
            )

        for step in range(1, self.free_steps + 1):
            previous, states = states, self._step(network, units, states, first.pre, None)
            if self.tolerance and step % LOOK_EVERY == 0 and residual() <= self.tolerance:
                break
        return states, residual()

    def _step(
        self, network: chain.Chain, units: list[_Units], states: list[Tensor], drive: Tensor, nudge: Tensor | None
    ) -> list[Tensor]:
        """The states one step later; all layers move at once."""
        active = [unit.rho(s) for unit, s in zip(units, states, strict=True)]
        next_states = []
        for index, (unit, s, y) in enumerate(zip(units, states, active, strict=True)):
            force = network.layers[index].module(active[index - 1]) if index else drive
            if index + 1 < len(states):
                force = force + active[index + 1] @ network.layers[index + 1].module.weight
            elif nudge is not None:
                force = force - nudge
            next_state = torch.lerp(s, unit.slope(y) * force, self.epsilon)
            next_states.append(next_state if unit.minimum is None else next_state.clamp(unit.minimum, unit.maximum))
        return next_states


def _units(layer: chain.Layer) -> _Units:
    """The units of a layer; TypeError if the energy does not allow them."""
    kinds = [type(module) for _, module in layer.after]
    if kinds in ([], [nn.Identity]):
        return _Units(lambda s: s, lambda y: 1.0)
    if kinds == [nn.Tanh]:
        return _Units(torch.tanh, lambda y: 1 - y * y)
    if kinds == [nn.Sigmoid]:
        return _Units(torch.sigmoid, lambda y: y * (1 - y))
    if kinds == [nn.Hardtanh]:
        module = layer.after[0][1]
        assert isinstance(module, nn.Hardtanh)
        return _Units(lambda s: s, lambda y: 1.0, module.min_val, module.max_val)
    name, module = next(pair for pair in layer.after if len(kinds) > 1 or type(pair[1]) is kinds[0])
    raise TypeError(
        f"EquilibriumPropagation cannot train layer {name!r}, a {type(module).__name__}: the energy needs bounded"
        " units; expected one nn.Tanh, nn.Sigmoid or nn.Hardtanh after each nn.Linear, or none"
    )
