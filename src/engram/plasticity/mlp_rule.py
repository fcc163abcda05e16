"""A rule that is a small network of input, activity, weight and signal."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.types import Device

from engram import checks
from engram.plasticity.rule import PlasticityRule, bounded, checked_bound, of_connections
from engram.plasticity.state import RuleState, TraceState


class MLPRule(PlasticityRule):
    """A rule that is a small network of input x, activity y, weight w and, if modulated, signal m.

        H'[j, i] = clip(H[j, i] + eta g(x[i], y[j], H[j, i], m[j]), -c, c)
        g = b2 + sum over units k of v[k] leaky_relu(U[k] . (x, y, w, m) + b1[k])

    Every connection uses the same network. Its output is linear, so the change of a weight has no bound; the published
    one ends in tanh and cannot represent a change larger than ``eta``.

    Args:
        hidden: Number of units.
        modulated: Whether m is one of the inputs.
        eta: Factor of the output, a constant.
        clip: Bound c of the trace; None: no bound.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        generator: Source of the initial values, as of ``nn.Linear`` with an output ten times smaller, but b2 = 0;
            torch's global one if None.

    Raises:
        ValueError: ``hidden`` is below 1, ``eta`` is not finite, or ``clip`` is not positive and finite.

    Source: Mehta, Tyulmankov, Rajagopalan, Turner, Fitzgerald and Funke, "Model-based inference of synaptic plasticity
    rules" (2024).

    Examples:
        >>> rule = MLPRule(generator=torch.Generator().manual_seed(0))
        >>> sum(parameter.numel() for parameter in rule.parameters())
        51
    """

    def __init__(
        self,
        hidden: int = 10,
        *,
        modulated: bool = False,
        eta: float = 0.01,
        clip: float | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__(device, dtype)
        self.hidden = checks.size("hidden", hidden)
        self.modulated, self.clip = modulated, checked_bound(clip)
        inputs = 3 + modulated
        self.weight_in = nn.Parameter(torch.empty(hidden, inputs, device=device, dtype=dtype))
        self.bias_in = nn.Parameter(torch.empty(hidden, device=device, dtype=dtype))
        self.weight_out = nn.Parameter(torch.empty(hidden, device=device, dtype=dtype))
        self.bias_out = nn.Parameter(torch.zeros((), device=device, dtype=dtype))
        rate = torch.tensor(checks.number("eta", eta), device=device, dtype=dtype or torch.get_default_dtype())
        self.register_buffer("eta", rate)
        with torch.no_grad():
            for parameter, fan_in in (
                (self.weight_in, inputs),
                (self.bias_in, inputs),
                (self.weight_out, 100 * hidden),
            ):
                parameter.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)

    def update(self, state: RuleState, pre: Tensor, post: Tensor, modulator: Tensor | None = None) -> RuleState:
        """The state after one step; see ``PlasticityRule.update``.

        Args:
            state: The state before the step.
            pre: Presynaptic activity, (batch, pre).
            post: Postsynaptic activity, (batch, post).
            modulator: Neuromodulatory signal m, (batch, 1), (batch, post) or (batch, post, pre).
        """
        self.check_step(state, pre, post, modulator)
        variables = [pre.unsqueeze(1), post.unsqueeze(2), state.trace]
        if self.modulated and modulator is not None:
            variables.append(of_connections(modulator))
        seen = torch.stack([variable.expand_as(state.trace) for variable in variables], dim=3)
        output = leaky_relu(seen @ self.weight_in.T + self.bias_in) @ self.weight_out + self.bias_out
        return TraceState(bounded(state.trace + self.eta * output, self.clip))

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        return f"hidden={self.hidden}, modulated={self.modulated}, eta={self.eta.item():.4g}, clip={self.clip}"
