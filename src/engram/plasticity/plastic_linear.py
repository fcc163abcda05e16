"""A feed-forward layer whose connections change with activity while it runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram.plasticity.hebb import Hebb
from engram.plasticity.rule import PlasticityRule, TraceState
from engram.plasticity.scan import alpha_shape, plastic_linear_scan
from engram.plasticity.validation import check_choice, check_size, check_tensor, check_type, time_first

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda current: current,
    "tanh": torch.tanh,
    "softmax": partial(torch.softmax, dim=-1),
}


class PlasticLinear(nn.Module):
    """A feed-forward layer in which every connection has a fixed weight and a Hebbian trace.

        y(t) = f((W + alpha * H(t-1)) x(t) + b + d(t))
        H(t) = rule(H(t-1), x = x(t), y = y(t))

    Args:
        in_features: Number of sending units.
        out_features: Number of receiving units.
        rule: How the traces change; ``Hebb`` with its defaults if None. It becomes part of the layer and is
            moved to its dtype and device.
        alpha: Plasticity coefficients: ``"connection"`` (one for each connection), ``"post"`` (one for each
            receiving unit) or ``"homogeneous"`` (one).
        bias: Whether there is a bias.
        nonlinearity: f, ``"identity"``, ``"tanh"`` or ``"softmax"`` (over the receiving units).
        batch_first: Whether input, output and drive are (batch, time, features) rather than (time, batch, features).
        device: Where the parameters live.
        dtype: Their dtype.
        generator: Source of the initial values; torch's global one if None.

    Attributes:
        weight: Fixed weights W, (out, in); initially normal with standard deviation 0.01.
        bias: (out,) or None; initially as in ``nn.Linear``.
        alpha: (out, in), (out,) or (); initially uniform in [0, 0.01), and 0.01 if homogeneous.
        rule: The plasticity rule, with the parameter ``rule.eta``.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A size is less than one, or ``alpha`` or ``nonlinearity`` is unknown.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), the plastic output layer for Omniglot, with
    its initial values.

    Examples:
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
        alpha: str = "connection",
        bias: bool = True,
        nonlinearity: str = "identity",
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_size("in_features", in_features)
        check_size("out_features", out_features)
        check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
        shape = alpha_shape(alpha, out_features, in_features)
        self.in_features = in_features
        self.out_features = out_features
        self.nonlinearity = nonlinearity
        self.batch_first = batch_first
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.alpha = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        rule = Hebb() if rule is None else rule
        check_type("rule", rule, PlasticityRule)
        self.rule = rule.to(device=self.alpha.device, dtype=self.alpha.dtype)
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the initial weights and alpha anew; the rule keeps its parameters.

        Args:
            generator: Source of the values; torch's global one if None.
        """
        self.weight.normal_(std=0.01, generator=generator)
        if self.bias is not None:
            bound = self.in_features**-0.5
            self.bias.uniform_(-bound, bound, generator=generator)
        if self.alpha.dim() == 0:
            self.alpha.fill_(0.01)
        else:
            self.alpha.uniform_(0, 0.01, generator=generator)

    def forward(
        self,
        input: Annotated[Tensor, "time batch in"],
        state: TraceState | None = None,
        *,
        drive: Annotated[Tensor, "time batch out"] | None = None,
    ) -> tuple[Float[Tensor, "time batch out"], TraceState]:
        """Run the layer over a sequence.

        Args:
            input: (time, batch, in), or (batch, time, in) if ``batch_first``.
            state: What an earlier call returned; the start of an episode if None: no trace.
            drive: External input d to the receiving units, of the shape of the output; a label that shall be
                learned, for instance.

        Returns:
            The activity at every step, (time, batch, out) or (batch, time, out), and the state after the last.

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: Wrong shape, dtype or device, an empty batch, or a value that is not finite.
        """
        sequence = time_first("input", input, self.in_features, self.weight, self.batch_first)
        length, batch_size, _ = sequence.shape
        state = self._initial(batch_size) if state is None else self._checked(state, batch_size)
        current = functional.linear(sequence, self.weight, self.bias)
        if drive is not None:
            drive = time_first("drive", drive, self.out_features, self.weight, self.batch_first)
            check_tensor("drive", drive, (length, batch_size, self.out_features), self.weight)
            current = current + drive
        self.rule.warn_if_unstable()
        output, state = plastic_linear_scan(
            sequence, current, self.alpha, self.rule, state, nonlinearity=NONLINEARITIES[self.nonlinearity]
        )
        return (output.transpose(0, 1) if self.batch_first else output), state

    def _initial(self, batch_size: int) -> TraceState:
        return self.rule.init(batch_size, self.out_features, self.in_features)

    def _checked(self, state: TraceState, batch_size: int) -> TraceState:
        check_type("state", state, TraceState)
        check_tensor("state.trace", state.trace, (batch_size, self.out_features, self.in_features), self.weight)
        return state

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the arguments."""
        kind = ("homogeneous", "post", "connection")[self.alpha.dim()]
        return (
            f"{self.in_features}, {self.out_features}, alpha={kind!r}, bias={self.bias is not None}, "
            f"nonlinearity={self.nonlinearity!r}, batch_first={self.batch_first}"
        )
