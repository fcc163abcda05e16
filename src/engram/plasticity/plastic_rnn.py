"""A recurrent network whose connections change with activity while it runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from engram.plasticity.hebb import Hebb
from engram.plasticity.rule import PlasticityRule, TraceState
from engram.plasticity.scan import PlasticState, alpha_shape, plastic_scan
from engram.plasticity.validation import (
    check_choice,
    check_size,
    check_tensor,
    check_type,
    readable,
    time_first,
)

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


class PlasticRNN(nn.Module):
    """A recurrent network in which every connection has a fixed weight and a Hebbian trace; called like ``nn.RNN``.

        u(t) = W_ih input(t) + b
        y(t) = f(u(t) + (W_hh + alpha * H(t-1)) y(t-1))    or, where clamped, u(t)
        H(t) = rule(H(t-1), x = y(t-1), y = y(t))

    The trace is the memory of one episode and starts at nothing; how much of it each connection uses (alpha), how
    fast it changes (``rule.eta``) and the fixed weights are parameters, trained through the whole episode.

    Args:
        input_size: Number of input features.
        hidden_size: Number of units.
        rule: How the traces change; ``Hebb`` with its defaults if None. It becomes part of the network and is
            moved to its dtype and device.
        alpha: Plasticity coefficients: ``"connection"`` (one for each connection), ``"post"`` (one for each
            receiving unit), ``"homogeneous"`` (one), or None for the same network without plasticity, which has no
            rule, keeps no trace (``state.trace`` is empty) and costs what an ordinary recurrent network costs.
        nonlinearity: f, ``"tanh"`` or ``"relu"``.
        batch_first: Whether input, output and clamp are (batch, time, features) rather than (time, batch, features).
        device: Where the parameters live.
        dtype: Their dtype.
        generator: Source of the initial values; torch's global one if None.

    Attributes:
        weight_ih: Input weights, (hidden, input); initially as in ``nn.Linear``.
        bias: (hidden,); initially as in ``nn.Linear``.
        weight_hh: Fixed recurrent weights W_hh as (post, pre); initially normal with standard deviation 0.01.
        alpha: (hidden, hidden) as (post, pre), (hidden,) or (); initially normal with standard deviation 0.01, and
            0.01 if homogeneous.
        rule: The plasticity rule, with the parameter ``rule.eta``.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A size is less than one, ``alpha`` or ``nonlinearity`` is unknown, or a rule is given to a network
            without plasticity.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), equations 1 and 2; initial values of
    ``weight_hh``, ``alpha`` and ``eta`` as in its binary pattern experiment.

    Examples:
        >>> net = PlasticRNN(10, 20, rule=Hebb(eta=0.05))
        >>> output, state = net(torch.randn(5, 3, 10))
        >>> output.shape, state.hidden.shape, state.trace.shape
        (torch.Size([5, 3, 20]), torch.Size([3, 20]), torch.Size([3, 20, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        rule: PlasticityRule | None = None,
        alpha: str | None = "connection",
        nonlinearity: str = "tanh",
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_size("input_size", input_size)
        check_size("hidden_size", hidden_size)
        check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.nonlinearity = nonlinearity
        self.batch_first = batch_first
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size, device=device, dtype=dtype))
        self.alpha: nn.Parameter | None = None
        self.rule: PlasticityRule | None = None
        if alpha is not None:
            shape = alpha_shape(alpha, hidden_size, hidden_size)
            self.alpha = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            rule = Hebb() if rule is None else rule
            check_type("rule", rule, PlasticityRule)
            self.rule = rule.to(device=self.alpha.device, dtype=self.alpha.dtype)
        elif rule is not None:
            raise ValueError(f"rule = {rule}: expected None, because alpha = None means no plasticity")
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the initial weights and alpha anew; the rule keeps its parameters.

        Args:
            generator: Source of the values; torch's global one if None.
        """
        bound = self.input_size**-0.5
        self.weight_ih.uniform_(-bound, bound, generator=generator)
        self.bias.uniform_(-bound, bound, generator=generator)
        self.weight_hh.normal_(std=0.01, generator=generator)
        if self.alpha is not None and self.alpha.dim() == 0:
            self.alpha.fill_(0.01)
        elif self.alpha is not None:
            self.alpha.normal_(std=0.01, generator=generator)

    def forward(
        self,
        input: Annotated[Tensor, "time batch input"],
        state: PlasticState | None = None,
        *,
        clamp: Annotated[Tensor, "time batch hidden"] | None = None,
    ) -> tuple[Float[Tensor, "time batch hidden"], PlasticState]:
        """Run the network over a sequence.

        Args:
            input: (time, batch, input), or (batch, time, input) if ``batch_first``.
            state: What an earlier call returned; the start of an episode if None: no activity, no trace.
            clamp: Boolean, broadcastable to the shape of the output. Where true, the unit takes its external input
                u as its activity, whatever the other units say.

        Returns:
            The activity at every step, (time, batch, hidden) or (batch, time, hidden), and the state after the last.

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: Wrong shape, dtype or device, an empty batch, or input that is not finite.
        """
        sequence = time_first("input", input, self.input_size, self.weight_ih, self.batch_first)
        state = self._initial(sequence.shape[1]) if state is None else self._checked(state, sequence.shape[1])
        drive = functional.linear(sequence, self.weight_ih, self.bias)
        if self.rule is not None:
            self.rule.warn_if_unstable()
        output, state = plastic_scan(
            drive,
            self.weight_hh,
            self.alpha,
            self.rule,
            state,
            clamp=None if clamp is None else self._clamp(clamp, drive),
            nonlinearity=NONLINEARITIES[self.nonlinearity],
        )
        return (output.transpose(0, 1) if self.batch_first else output), state

    def _initial(self, batch_size: int) -> PlasticState:
        hidden = self.weight_hh.new_zeros(batch_size, self.hidden_size)
        if self.rule is None:
            return PlasticState(hidden, TraceState(hidden.new_empty(batch_size, 0, 0)))
        return PlasticState(hidden, self.rule.init(batch_size, self.hidden_size, self.hidden_size))

    def _checked(self, state: PlasticState, batch_size: int) -> PlasticState:
        check_type("state", state, PlasticState)
        check_tensor("state.hidden", state.hidden, (batch_size, self.hidden_size), self.weight_hh)
        traces = 0 if self.rule is None else self.hidden_size
        check_tensor("state.trace", state.trace, (batch_size, traces, traces), self.weight_hh)
        return state

    def _clamp(
        self, clamp: Annotated[Tensor, "..."], drive: Float[Tensor, "time batch hidden"]
    ) -> Bool[Tensor, "time batch hidden"]:
        check_type("clamp", clamp, Tensor)
        if clamp.dtype != torch.bool:
            raise ValueError(f"clamp.dtype = {clamp.dtype}: expected torch.bool")
        if clamp.device != drive.device:
            raise ValueError(f"clamp.device = {clamp.device}: expected {drive.device}, where the parameters are")
        shape = (drive.transpose(0, 1) if self.batch_first else drive).shape
        if clamp.dim() > 3 or any(
            size not in (1, full) for size, full in zip(reversed(clamp.shape), reversed(shape), strict=False)
        ):
            raise ValueError(f"clamp.shape = {tuple(clamp.shape)}: expected to be broadcastable to {tuple(shape)}")
        clamp = clamp.expand(shape)
        clamp = clamp.transpose(0, 1) if self.batch_first else clamp
        if readable(drive) and (clamp & (drive.abs() > 1)).any():
            warnings.warn(
                "a clamped activity is outside [-1, 1], the range of the units; the rule uses it as it is",
                RuntimeWarning,
                stacklevel=2,
            )
        return clamp

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the arguments."""
        kind = None if self.alpha is None else ("homogeneous", "post", "connection")[self.alpha.dim()]
        return (
            f"{self.input_size}, {self.hidden_size}, alpha={kind!r}, nonlinearity={self.nonlinearity!r}, "
            f"batch_first={self.batch_first}"
        )
