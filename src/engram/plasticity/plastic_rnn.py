"""A recurrent network whose connections change with activity while it runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.types import Device

from engram import checks
from engram.plasticity.alpha import LowRank, draw, kind, make_alpha
from engram.plasticity.hebb import Hebb
from engram.plasticity.kernels.dispatch import BACKENDS, fastest, run_layer
from engram.plasticity.kernels.projection import projected
from engram.plasticity.kernels.rnn.step import step_scan, stepper
from engram.plasticity.neuromodulator import Neuromodulator, neuromodulator_for
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.scan import plastic_scan
from engram.plasticity.sequence import AXES, autocast, check_precision, time_first
from engram.plasticity.state import PlasticState, TraceState

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


class PlasticRNN(nn.Module):
    """A recurrent network in which every connection has a fixed weight and a Hebbian trace; called like ``nn.RNN``.

        u(t) = W_ih input(t) + b
        y(t) = f(u(t) + (W_hh + alpha * H(t-1)) y(t-1))    or, where clamped, u(t)
        m(t) = neuromodulator(y(t))                         if the rule is modulated
        H(t) = rule(H(t-1), x = y(t-1), y = y(t), m = m(t))

    The trace is the memory of one episode and starts at nothing; how much of it each connection uses (alpha), how
    fast it changes (``rule.eta``, or the neuromodulator) and the fixed weights are parameters, trained through the
    whole episode.

    Args:
        input_size: Number of input features.
        hidden_size: Number of units.
        rule: How the traces change; ``Hebb()`` if None. It becomes part of the network, in its dtype and on its device.
        alpha: Plasticity coefficients: ``"connection"`` (one for each connection), ``"post"`` (for each receiving
            unit), ``"homogeneous"`` (one), the rank of a product of two factors, or None: no plasticity, no rule,
            and an empty trace, at the cost of an ordinary recurrent network.
        neuromodulator: What modulates a modulated rule, taken in as the rule is; if None, one without fan-out is made.
        nonlinearity: f, ``"tanh"`` or ``"relu"``.
        batch_first: Whether input, output and clamp are (batch, time, features) rather than (time, batch, features).
        backend: ``"eager"`` for the plain loop, ``"fused"`` for the kernel, ``"auto"`` for the faster of the two.
        device: Of the parameters.
        dtype: Of the parameters.
        generator: Source of the initial values; torch's global one if None.

    Attributes:
        weight_ih, bias: Input weights, (hidden, input), and bias, (hidden,); initially as in ``nn.Linear``.
        weight_hh: Fixed recurrent weights W_hh as (post, pre); initially normal with standard deviation 0.01.
        alpha: (hidden, hidden) as (post, pre), (hidden,), (), or a module with the factors ``alpha.post`` and
            ``alpha.pre``, (rank, hidden) each; initially normal with standard deviation 0.01, and 0.01 if homogeneous.
        rule, neuromodulator: The modules with the other parameters; None where there is none.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: One is out of range or unknown, or a rule or neuromodulator has nothing to act on.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), equations 1 and 2; initial values of
    ``weight_hh``, ``alpha`` and ``eta`` as in its binary pattern experiment. Miconi, Rawal, Clune and Stanley,
    "Backpropamine" (2019), equations 1 to 5.

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
        alpha: str | int | None = "connection",
        neuromodulator: Neuromodulator | None = None,
        nonlinearity: str = "tanh",
        batch_first: bool = False,
        backend: str = "auto",
        device: Device = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.input_size = checks.size("input_size", input_size)
        self.hidden_size = checks.size("hidden_size", hidden_size)
        self.nonlinearity = checks.choice("nonlinearity", nonlinearity, NONLINEARITIES)
        self.batch_first = batch_first
        self.backend = checks.choice("backend", backend, BACKENDS)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size, device=device, dtype=dtype))
        self.alpha: nn.Parameter | LowRank | None = None
        self.rule: PlasticityRule | None = None
        if alpha is not None:
            self.alpha = make_alpha(alpha, hidden_size, hidden_size, device=device, dtype=dtype)
            rule = checks.instance("rule", Hebb() if rule is None else rule, PlasticityRule)  # type: ignore[type-abstract]
            self.rule = rule.to(device=self.bias.device, dtype=self.bias.dtype)
        elif rule is not None:
            raise ValueError(f"rule = {rule}: expected None, because alpha = None means no plasticity")
        self.reset_parameters(generator)
        self.neuromodulator = neuromodulator_for(
            self.rule, neuromodulator, self.bias, fan_out=False, generator=generator
        )

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the initial weights and alpha anew; rule and neuromodulator keep their parameters."""
        bound = self.input_size**-0.5
        self.weight_ih.uniform_(-bound, bound, generator=generator)
        self.bias.uniform_(-bound, bound, generator=generator)
        self.weight_hh.normal_(std=0.01, generator=generator)
        if self.alpha is not None:
            draw(self.alpha, 0.01, generator, normal=True)

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
            clamp: Boolean, broadcastable to the output's shape: where the activity is the external input u.

        Returns:
            The activity at every step, (time, batch, hidden) or (batch, time, hidden), and the state after the last.

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: Wrong shape, dtype or device, an empty batch, or input or activity that is not finite.
        """
        # A parameter takes as long to fetch from a module as many a check of it takes, so each is fetched once.
        weight_ih, weight_hh, rule = self.weight_ih, self.weight_hh, self.rule
        if rule is not None:
            check_precision(weight_hh)
            rule.warn_if_unstable()
        sequence = time_first("input", input, self.input_size, weight_ih, self.batch_first)
        batch_size = sequence.shape[1]
        state = self._initial(batch_size) if state is None else self._checked(state, batch_size, weight_hh, rule)
        drive = projected(sequence, weight_ih, self.bias, self.backend).to(weight_hh.dtype)
        clamp = None if clamp is None else self._clamp(clamp, drive)
        options = {"neuromodulator": self.neuromodulator, "nonlinearity": NONLINEARITIES[self.nonlinearity]}
        return run_layer(self, plastic_scan, drive, weight_hh, state, clamp=clamp, **options)

    @torch.no_grad()
    def acting(self, batch_size: int) -> Callable[[Float[Tensor, "batch input"]], Float[Tensor, "batch hidden"]]:
        """Return the network as a function of one input after another, as an agent uses it that acts.

        It gives what ``forward`` gives, step by step and without a graph, and raises what it raises. What depends on
        the parameters alone is done once, which is most of the time of a step; they must not change meanwhile.

        Args:
            batch_size: Number of samples that go through the episode together.

        Examples:
            >>> net = PlasticRNN(10, 20)
            >>> act, sequence = net.acting(batch_size=3), torch.randn(2, 3, 10)
            >>> torch.allclose(torch.stack([act(input) for input in sequence]), net(sequence)[0], atol=1e-6)
            True
        """
        checks.size("batch_size", batch_size)
        if self.rule is not None:
            self.rule.warn_if_unstable()
        start = self._initial(batch_size)
        layer: Any = (self.weight_hh, self.alpha, self.rule, start)
        options: Any = {"neuromodulator": self.neuromodulator, "nonlinearity": NONLINEARITIES[self.nonlinearity]}
        prepared = self.alpha is None or (
            self.backend != "eager" and fastest(plastic_scan, start.hidden[None], *layer, **options) is step_scan
        )
        if not prepared or autocast(self.bias.device):
            time, state = int(self.batch_first), start

            @torch.no_grad()
            def forward(input: Annotated[Tensor, "batch input"]) -> Float[Tensor, "batch hidden"]:
                nonlocal state
                output, state = self(input.unsqueeze(time), state)
                return output.squeeze(time)  # type: ignore[no-any-return]

            return forward
        step, weight, bias = stepper(*layer, **options), self.weight_ih, self.bias
        shape = (batch_size, self.input_size)

        @torch.no_grad()
        def act(input: Annotated[Tensor, "batch input"]) -> Float[Tensor, "batch hidden"]:
            checks.tensor("input", input, shape, weight)
            sequence = input.unsqueeze(0)
            checks.finite("input", sequence, AXES)
            output = step(projected(sequence, weight, bias, "auto").to(weight.dtype))
            checks.finite("activity", output, AXES)
            return output.squeeze(0)

        return act

    def _initial(self, batch_size: int) -> PlasticState:
        hidden = self.weight_hh.new_zeros(batch_size, self.hidden_size)
        if self.rule is None:
            return PlasticState(hidden, TraceState(hidden.new_empty(batch_size, 0, 0)))
        return PlasticState(hidden, self.rule.init(batch_size, self.hidden_size, self.hidden_size))

    def _checked(self, state: PlasticState, batch_size: int, like: Tensor, rule: PlasticityRule | None) -> PlasticState:
        checks.instance("state", state, PlasticState)
        checks.tensor("state.hidden", state.hidden, (batch_size, self.hidden_size), like)
        if rule is None:
            checks.tensor("state.trace", state.trace, (batch_size, 0, 0), like)
        else:
            rule.check_state(state.rule, (batch_size, self.hidden_size, self.hidden_size), like)
        return state

    def _clamp(self, clamp: Tensor, drive: Float[Tensor, "time batch hidden"]) -> Bool[Tensor, "time batch hidden"]:
        checks.instance("clamp", clamp, Tensor)
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
        if checks.readable(drive) and (clamp & (drive.abs() > 1)).any():
            message = "a clamped activity is outside [-1, 1], the range of the units; the rule uses it as it is"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return clamp

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the arguments."""
        return (
            f"{self.input_size}, {self.hidden_size}, alpha={kind(self.alpha)!r}, nonlinearity={self.nonlinearity!r}, "
            f"batch_first={self.batch_first}, backend={self.backend!r}"
        )
