"""A feed-forward layer whose connections change with activity while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from engram import checks
from engram.nn.sequence import AXES, check_precision, time_first
from engram.plasticity.alpha import draw, kind, make_alpha
from engram.plasticity.hebb import Hebb
from engram.plasticity.kernels.dispatch import BACKENDS, LINEAR, run_scan
from engram.plasticity.kernels.projection import projected
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.scan import identity, softmax
from engram.plasticity.state import RuleState

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {"identity": identity, "tanh": torch.tanh, "softmax": softmax}


class PlasticLinear(nn.Module):
    """A feed-forward layer in which every connection has a fixed weight and a Hebbian trace.

        y(t) = f((W + alpha * H(t-1)) x(t) + b + d(t))
        H(t) = rule(H(t-1), x = x(t), y = y(t), m = m(t))

    A modulated rule gets its signal m from outside.

    Args:
        in_features: Number of sending units.
        out_features: Number of receiving units.
        bias: Whether there is a bias.
        nonlinearity: f, ``"identity"``, ``"tanh"`` or ``"softmax"`` (over the receiving units).
        rule: The plasticity rule; ``Hebb()`` if None. It becomes part of the layer.
        alpha: Plasticity coefficients: ``"connection"``, ``"post"``, ``"homogeneous"``, or the rank of a product.
        batch_first: Whether sequences are (batch, time, features).
        backend: ``"eager"``, ``"fused"`` or ``"auto"``, as in ``PlasticRNN``.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        generator: Source of the initial values; torch's global one if None.

    Attributes:
        weight: Fixed weights W, (out, in); initially normal with standard deviation 0.01.
        bias: (out,) or None; initially as in ``nn.Linear``.
        alpha: (out, in), (out,), (), or a module with the factors ``alpha.post``, (rank, out), and ``alpha.pre``,
            (rank, in); initially uniform in [0, 0.01), a product within this range, and 0.01 if homogeneous.
        rule: The plasticity rule.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), the plastic output layer for Omniglot, with
    its initial values.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> layer = PlasticLinear(64, 5, bias=False, nonlinearity="softmax")
        >>> output, state = layer(torch.randn(6, 3, 64))
        >>> output.shape, state.trace.shape
        (torch.Size([6, 3, 5]), torch.Size([3, 5, 64]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rule: PlasticityRule | None = None,
        alpha: str | int = "connection",
        bias: bool = True,
        nonlinearity: str = "identity",
        batch_first: bool = False,
        backend: str = "auto",
        device: Device = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__()
        self.in_features = checks.size("in_features", in_features)
        self.out_features = checks.size("out_features", out_features)
        self.nonlinearity = checks.choice("nonlinearity", nonlinearity, NONLINEARITIES)
        self.batch_first = batch_first
        self.backend = checks.choice("backend", backend, BACKENDS)
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.alpha = make_alpha(alpha, out_features, in_features, device=device, dtype=dtype)
        rule = checks.instance("rule", Hebb() if rule is None else rule, PlasticityRule)  # type: ignore[type-abstract]
        self.rule = rule.to(device=self.weight.device, dtype=self.weight.dtype)
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw the initial weights and alpha; the rule keeps its parameters."""
        self.weight.normal_(std=0.01, generator=generator)
        if self.bias is not None:
            bound = self.in_features**-0.5
            self.bias.uniform_(-bound, bound, generator=generator)
        draw(self.alpha, 0.01, generator)

    def forward(
        self,
        input: Annotated[Tensor, "time batch in"],
        state: RuleState | None = None,
        *,
        drive: Annotated[Tensor, "time batch out"] | None = None,
        modulator: Annotated[Tensor, "time batch out"] | None = None,
    ) -> tuple[Float[Tensor, "time batch out"], RuleState]:
        """The activity at every step, in the form of the input, and the traces after the last step.

        Args:
            input: x, (time, batch, in), or (batch, time, in) if ``batch_first``.
            state: The state from an earlier call; if None, traces of zero.
            drive: d, the external input to the receiving units, such as a label to be learned; shaped like the output.
            modulator: m, shaped like the output or with one feature; only for a modulated rule.

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: Wrong shape, dtype or device, an empty batch, input or activity that is not finite, a signal
                that is missing or not needed, or ``backend="fused"`` where the kernel cannot run.
        """
        check_precision(self.weight)
        sequence = time_first("input", input, self.in_features, self.weight, self.batch_first)
        length, batch_size, _ = sequence.shape
        shape = batch_size, self.out_features, self.in_features
        state = self.rule.init(*shape) if state is None else state
        self.rule.check_state(state, shape, self.weight)
        current = projected(sequence, self.weight, self.bias, self.backend).to(self.weight.dtype)
        if drive is not None:
            drive = time_first("drive", drive, self.out_features, self.weight, self.batch_first)
            checks.tensor("drive", drive, (length, batch_size, self.out_features), self.weight)
            current = current + drive
        if modulator is None and self.rule.modulated:
            raise ValueError(f"modulator = None: expected a tensor, because rule = {self.rule} is modulated")
        if modulator is not None:
            if not self.rule.modulated:
                raise ValueError(f"modulator is given: expected None, because rule = {self.rule} is not modulated")
            checks.instance("modulator", modulator, Tensor)
            signals = 1 if modulator.shape[-1:] == (1,) else self.out_features
            modulator = time_first("modulator", modulator, signals, self.weight, self.batch_first)
            checks.tensor("modulator", modulator, (length, batch_size, signals), self.weight)
        self.rule.warn_if_unstable()
        options = {"modulator": modulator, "nonlinearity": NONLINEARITIES[self.nonlinearity]}
        output, state = run_scan(LINEAR, self.backend, sequence, current, self.alpha, self.rule, state, **options)
        checks.finite("activity", output, AXES)
        return (output.transpose(0, 1) if self.batch_first else output), state

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        return (
            f"{self.in_features}, {self.out_features}, alpha={kind(self.alpha)!r}, bias={self.bias is not None}, "
            f"nonlinearity={self.nonlinearity!r}, batch_first={self.batch_first}, backend={self.backend!r}"
        )
