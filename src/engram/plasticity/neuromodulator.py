"""Neuromodulator: one unit that reads the whole layer and gates the plasticity of its synapses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.types import Device

from engram import checks
from engram.nn.sequence import full_precision, precise
from engram.plasticity.rule import PlasticityRule

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]]
NONLINEARITIES = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "identity": nn.Identity()}


class Neuromodulator(nn.Module):
    """One unit that reads the activity y of a layer and emits the signal M that modulates its plasticity.

        M    = f(v . y + v0)
        m[j] = F[j] M + b[j]        with fan-out, else M for every receiving unit
        m[j, i] = F[j, i] M         with fan-out to connections

    Args:
        hidden_size: Number of units that it reads and, with fan-out, that it reaches.
        fan_out: Whether every receiving unit turns the signal into its own. As b is initially not zero, there is then
            plasticity even where M is zero. ``"connection"``: every connection of a recurrent layer does so; no kernel
            supports this.
        nonlinearity: f, ``"tanh"``, ``"sigmoid"`` or ``"identity"``, which leaves M unbounded, so traces soon saturate.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        generator: Source of the initial values; torch's global one if None.

    Attributes:
        weight: v, (1, hidden).
        bias: v0, (1,).
        fan_weight: F, (hidden, 1), or (hidden, hidden) to connections, or None without fan-out.
        fan_bias: b, (hidden,), or None without fan-out to units.

    All are initially as in ``nn.Linear``: weight and bias uniform within 1 / sqrt(hidden), the others within 1.

    Raises:
        TypeError, ValueError: ``hidden_size`` is not a positive int, or ``nonlinearity`` or ``fan_out`` is unknown.

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), section 3.1; fan-out as in its code.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> Neuromodulator(20)(torch.randn(3, 20)).shape, Neuromodulator(20, fan_out=True)(torch.randn(3, 20)).shape
        (torch.Size([3, 1]), torch.Size([3, 20]))
    """

    def __init__(
        self,
        hidden_size: int,
        fan_out: bool | str = False,
        *,
        nonlinearity: str = "tanh",
        device: Device = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__()
        self.hidden_size = checks.size("hidden_size", hidden_size, maximum=10**6)
        self.nonlinearity = checks.choice("nonlinearity", nonlinearity, NONLINEARITIES)
        self.weight = nn.Parameter(torch.empty(1, hidden_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.fan_out = checks.choice("fan_out", fan_out, (False, True, "connection"))
        to_units = bool(fan_out) and fan_out != "connection"
        shape = hidden_size, 1 if to_units else hidden_size
        self.fan_weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if fan_out else None
        self.fan_bias = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype)) if to_units else None
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw the initial values."""
        bound = self.hidden_size**-0.5
        self.weight.uniform_(-bound, bound, generator=generator)
        self.bias.uniform_(-bound, bound, generator=generator)
        for fan in (self.fan_weight, self.fan_bias):
            if fan is not None:
                fan.uniform_(-1, 1, generator=generator)

    def forward(self, activity: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch *signals"]:
        """The signal, (batch, 1), or with fan-out (batch, hidden) or (batch, hidden, hidden)."""
        checks.instance("activity", activity, Tensor)
        if activity.shape[-1:] != (self.hidden_size,):
            raise ValueError(f"activity.shape = {tuple(activity.shape)}: expected (batch, {self.hidden_size})")
        activity = precise(activity, self.weight)
        if activity.dtype != self.weight.dtype:
            checks.tensor("activity", activity, tuple(activity.shape), like=self.weight)
        with full_precision(activity.device):
            signal = NONLINEARITIES[self.nonlinearity](functional.linear(activity, self.weight, self.bias))
            if self.fan_weight is None:
                return signal
            if self.fan_out == "connection":
                return signal.unsqueeze(2) * self.fan_weight
            return functional.linear(signal, self.fan_weight, self.fan_bias)

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        return f"{self.hidden_size}, fan_out={self.fan_out!r}, nonlinearity={self.nonlinearity!r}"


def neuromodulator_for(
    rule: PlasticityRule | None,
    given: Neuromodulator | None,
    like: Tensor,
    *,
    fan_out: bool,
    generator: torch.Generator | None,
) -> Neuromodulator | None:
    """The neuromodulator that a layer needs for its rule: the given one, a new one, or None.

    Args:
        rule: The rule of the layer; None without plasticity.
        given: The neuromodulator that the layer was given, or None.
        like: A parameter of the layer, (..., hidden), which sets size, device and dtype.
        fan_out: Whether a new neuromodulator has a fan-out.
        generator: Source of its initial values.

    Raises:
        TypeError, ValueError: ``given`` is not a neuromodulator, has another size, or the rule is not modulated.
    """
    if rule is None or not rule.modulated:
        if given is not None:
            raise ValueError(f"neuromodulator = {given}: expected None, because rule = {rule} is not modulated")
        return None
    size = like.shape[-1]
    if given is None:
        return Neuromodulator(size, fan_out, device=like.device, dtype=like.dtype, generator=generator)
    checks.instance("neuromodulator", given, Neuromodulator)
    if given.hidden_size != size:
        raise ValueError(f"neuromodulator.hidden_size = {given.hidden_size}: expected {size}, as the layer has units")
    return given.to(device=like.device, dtype=like.dtype)
