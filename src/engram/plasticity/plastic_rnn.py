"""A recurrent network whose connections change with activity while it runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.types import Device

from engram import checks
from engram.nn.hooks import alteration
from engram.nn.packed import run_packed
from engram.nn.sequence import AXES, autocast, check_precision
from engram.plasticity.alpha import LowRank, draw, kind, make_alpha
from engram.plasticity.hebb import Hebb
from engram.plasticity.kernels.dispatch import BACKENDS, RNN, fastest, run_scan
from engram.plasticity.kernels.projection import projected
from engram.plasticity.kernels.rnn import any_rule
from engram.plasticity.kernels.rnn.step import step_scan, stepper
from engram.plasticity.layers import (
    check_activity,
    check_layers,
    checked_input,
    dropped,
    layer_results,
    layer_states,
    stacked,
    upper_layers,
)
from engram.plasticity.neuromodulator import Neuromodulator, neuromodulator_for
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.state import PlasticState, TraceState

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


class PlasticRNN(nn.Module):
    """A recurrent network in which every connection has a fixed weight and a Hebbian trace; called like ``nn.RNN``.

        u(t) = W_ih input(t) + b
        y(t) = f(u(t) + (W_hh + alpha * H(t-1)) y(t-1))    or, where clamped, u(t)
        m(t) = neuromodulator(y(t))                         if the rule is modulated
        H(t) = rule(H(t-1), x = y(t-1), y = y(t), m = m(t))

    The trace is the memory of one episode and starts at zero. How much of it each connection uses (alpha), how fast it
    changes (``rule.eta``, or the neuromodulator) and the fixed weights are parameters, trained by backpropagation
    through the whole episode.

    Args:
        input_size: Number of input features.
        hidden_size: Number of units of each layer.
        num_layers: Number of layers; each further layer takes the output of the one below as its input, and has its own
            copies of rule and neuromodulator.
        dropout: Probability of dropout after each layer but the last while training, as in ``nn.RNN``; must be 0 for
            one layer.
        bidirectional: As in ``nn.RNN``, but must be False, because an episode cannot be run from its end.
        rule: The plasticity rule; ``Hebb()`` if None. It becomes part of the network, in its dtype and on its device.
        alpha: Plasticity coefficients: ``"connection"`` (one for each connection), ``"post"`` (for each receiving
            unit), ``"homogeneous"`` (one), the rank of a product of two factors, or None: no plasticity, no rule,
            and an empty trace, at the cost of an ordinary recurrent network.
        neuromodulator: The module that modulates a modulated rule; it too becomes part of the network. If None, one
            without fan-out is made.
        nonlinearity: f, ``"tanh"`` or ``"relu"``.
        batch_first: Whether input, output and clamp are (batch, time, features) rather than (time, batch, features).
        backend: ``"eager"`` for the plain loop, ``"fused"`` for the kernel, ``"auto"`` for the faster of the two.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        generator: Source of the initial values; torch's global one if None.

    Attributes:
        weight_ih, bias: Input weights, (hidden, input), and bias, (hidden,); initially as in ``nn.Linear``.
        weight_hh: Fixed recurrent weights W_hh as (post, pre); initially normal with standard deviation 0.01.
        alpha: (hidden, hidden) as (post, pre), (hidden,), (), or a module with the factors ``alpha.post`` and
            ``alpha.pre``, (rank, hidden) each; initially normal with standard deviation 0.01, and 0.01 if homogeneous.
        rule, neuromodulator: The modules with the other parameters; None where there is none.
        upper: The layers above the first, each a ``PlasticRNN``; all other attributes are those of the first layer.
            They are not called as modules, so hooks on them are refused.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range or unknown, or a rule or neuromodulator has nothing to act on.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), equations 1 and 2; initial values of
    ``weight_hh``, ``alpha`` and ``eta`` as in its binary pattern experiment, where alpha is 0 from a unit to itself.
    Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), equations 1 to 5.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> net = PlasticRNN(10, 20, rule=Hebb(eta=0.05))
        >>> output, state = net(torch.randn(5, 3, 10))
        >>> output.shape, state.hidden.shape, state.trace.shape
        (torch.Size([5, 3, 20]), torch.Size([1, 3, 20]), torch.Size([1, 3, 20, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
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
        checks.arguments()
        super().__init__()
        self.input_size = checks.size("input_size", input_size)
        self.hidden_size = checks.size("hidden_size", hidden_size)
        self.num_layers = checks.size("num_layers", num_layers)
        self.dropout = check_layers(num_layers, dropout, bidirectional)
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
        self.upper: nn.ModuleList | tuple[()] = ()
        self.reset_parameters(generator)
        self.neuromodulator = neuromodulator_for(
            self.rule, neuromodulator, self.bias, fan_out=False, generator=generator
        )
        self.upper = upper_layers(
            PlasticRNN,
            num_layers - 1,
            hidden_size,
            rule=self.rule,
            alpha=alpha,
            neuromodulator=neuromodulator,
            nonlinearity=nonlinearity,
            backend=backend,
            device=device,
            dtype=dtype,
            generator=generator,
        )

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw the initial weights and alpha; rule and neuromodulator keep their parameters."""
        bound = self.input_size**-0.5
        self.weight_ih.uniform_(-bound, bound, generator=generator)
        self.bias.uniform_(-bound, bound, generator=generator)
        self.weight_hh.normal_(std=0.01, generator=generator)
        if self.alpha is not None:
            draw(self.alpha, 0.01, generator, normal=True)
        for layer in self.upper:
            layer.reset_parameters(generator)  # type: ignore[operator]

    def forward(
        self,
        input: Annotated[Tensor, "time batch input"] | PackedSequence,
        state: PlasticState | None = None,
        *,
        clamp: Annotated[Tensor, "time batch hidden"] | None = None,
    ) -> tuple[Float[Tensor, "*time_batch hidden"] | PackedSequence, PlasticState]:
        """Run the network over sequences.

        Args:
            input: (time, batch, input), or (batch, time, input) if ``batch_first``; or one sequence, (time, input); or
                sequences of several lengths, packed by ``torch.nn.utils.rnn``.
            state: The state that an earlier call returned; if None, an episode starts with zero activity and traces.
            clamp: Boolean, broadcastable to the output's shape: where the activity is the external input u; only for
                networks of one layer and sequences that are not packed.

        Returns:
            The activity of the last layer at every step, in the form of the input, and the state of each sequence
            after its own last step: ``state.hidden`` (layers, batch, hidden) as in ``nn.RNN`` and ``state.trace``
            (layers, batch, hidden, hidden), for one sequence without the batch axis.

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: Wrong shape, dtype or device, an empty batch, input or activity that is not finite, a layer with
                hooks above the first, or ``backend="fused"`` where the kernel cannot run.
            RuntimeError: The caller is ``torch.jit.trace``.

        Warns:
            RuntimeWarning: A clamped activity is outside [-1, 1], or traces may grow without bound or are at theirs.
        """
        sequence = checked_input(self, input)
        clamp = None if clamp is None else self._clamp(clamp, input)
        states = layer_states(self, input, sequence, state)
        for k, layer in enumerate((self, *self.upper)):
            sequence = dropped(self, k, sequence)
            if isinstance(input, PackedSequence):
                sequence, states[k] = run_packed(layer._run_layer, sequence, input.batch_sizes, states[k])
            else:
                sequence, states[k] = layer._run_layer(sequence, states[k], clamp)
            check_activity(self, k, sequence)
        return layer_results(self, input, sequence, states)

    def _run_layer(
        self,
        sequence: Float[Tensor, "time batch features"],
        state: PlasticState,
        clamp: Bool[Tensor, "time batch hidden"] | None = None,
    ) -> tuple[Float[Tensor, "time batch hidden"], PlasticState]:
        """The output and state of this layer alone, for a sequence and a state that are already checked.

        Args:
            sequence: Input of the layer.
            state: Its state before the first step.
            clamp: Where the activity is the external input.
        """
        # Fetching a parameter from a module takes about as long as checking it, so each is fetched once.
        weight_hh, rule = self.weight_hh, self.rule
        if rule is not None:
            check_precision(weight_hh)
            rule.warn_if_unstable()
        drive = projected(sequence, self.weight_ih, self.bias, self.backend).to(weight_hh.dtype)
        if clamp is not None and checks.readable(drive) and (clamp & (drive.abs() > 1)).any():
            message = "a clamped activity is outside [-1, 1], the range of tanh units; the rule uses it as it is"
            warnings.warn(message, RuntimeWarning, stacklevel=3)
        options = {"neuromodulator": self.neuromodulator, "nonlinearity": NONLINEARITIES[self.nonlinearity]}
        return run_scan(RNN, self.backend, drive, weight_hh, self.alpha, rule, state, clamp=clamp, **options)

    @torch.no_grad()
    def acting(self, batch_size: int) -> Callable[[Float[Tensor, "batch input"]], Float[Tensor, "batch hidden"]]:
        """The network as a function of one input at a time, for acting agents.

        It returns the same as ``forward``, step by step and without a graph, and raises the same errors. What depends
        on the parameters alone, most of the work of a step, is done once, so the parameters must not change meanwhile.

        Args:
            batch_size: Number of episodes that run side by side.

        Raises:
            ValueError: ``batch_size`` is below 1.

        Examples:
            >>> _ = torch.manual_seed(0)
            >>> net = PlasticRNN(10, 20)
            >>> act, sequence = net.acting(batch_size=3), torch.randn(2, 3, 10)
            >>> torch.allclose(torch.stack([act(input) for input in sequence]), net(sequence)[0], atol=1e-6)
            True
        """
        checks.size("batch_size", batch_size)
        if self.rule is not None:
            self.rule.warn_if_unstable()
        start = self.init_layer(batch_size)
        layer: Any = (self.weight_hh, self.alpha, self.rule, start)
        options: Any = {"neuromodulator": self.neuromodulator, "nonlinearity": NONLINEARITIES[self.nonlinearity]}
        makers: dict[Callable[..., Any] | None, Callable[..., Any]]
        makers = {step_scan: stepper, any_rule.any_rule_scan: any_rule.stepper}
        scan: Callable[..., Any] | None = step_scan
        if self.alpha is not None:
            scan = None if self.backend == "eager" else fastest(RNN, start.hidden[None], *layer, **options)
        if self.backend == "fused" and scan is any_rule.any_rule_scan:
            scan = None  # not the kernel that was asked for, so ``forward`` says why that one cannot run
        # A hook or a forward of a subclass may do more than the parameters tell.
        is_plain = type(self).forward is PlasticRNN.forward and not alteration(self)
        if self.upper or scan not in makers or autocast(self.bias.device) or not is_plain:
            time, state = int(self.batch_first), self.init(batch_size)

            @torch.no_grad()
            def forward(input: Annotated[Tensor, "batch input"]) -> Float[Tensor, "batch hidden"]:
                nonlocal state
                output, state = self(input.unsqueeze(time), state)
                return output.squeeze(time)  # type: ignore[no-any-return]

            return forward
        step, weight, bias = makers[scan](*layer, **options), self.weight_ih, self.bias
        shape = (batch_size, self.input_size)

        @torch.no_grad()
        def act(input: Annotated[Tensor, "batch input"]) -> Float[Tensor, "batch hidden"]:
            checks.tensor("input", input, shape, weight)
            sequence = input.unsqueeze(0)
            checks.finite("input", sequence, AXES)
            output = step(projected(sequence, weight, bias, "auto").to(weight.dtype))
            checks.finite("activity", output, AXES)
            return output[0].clone()  # type: ignore[no-any-return]  # the network goes on from its own copy

        return act

    def init(self, batch_size: int) -> PlasticState:
        """The state at the start of an episode, of all layers."""
        return stacked([layer.init_layer(batch_size) for layer in (self, *self.upper)])  # type: ignore[no-any-return]

    def init_layer(self, batch_size: int) -> PlasticState:
        """As ``init``, for this layer alone and without the layer axis."""
        checks.size("batch_size", batch_size)
        hidden = self.weight_hh.new_zeros(batch_size, self.hidden_size)
        if self.rule is None:
            return PlasticState(hidden, TraceState(hidden.new_empty(batch_size, 0, 0)))
        return PlasticState(hidden, self.rule.init(batch_size, self.hidden_size, self.hidden_size))

    def check_state(self, state: PlasticState, shape: tuple[int, ...]) -> None:
        """Raise unless ``state`` is a state of the network with the leading axes ``shape``."""
        checks.arguments()
        like, rule = self.weight_hh, self.rule
        checks.instance("state", state, PlasticState)
        checks.tensor("state.hidden", state.hidden, (*shape, self.hidden_size), like)
        if rule is None:
            checks.tensor("state.trace", state.trace, (*shape, 0, 0), like)
        else:
            rule.check_state(state.rule, (*shape, self.hidden_size, self.hidden_size), like)

    def _clamp(self, clamp: Tensor, input: Tensor | PackedSequence) -> Bool[Tensor, "time batch hidden"]:
        checks.instance("clamp", clamp, Tensor)
        if self.upper or isinstance(input, PackedSequence):
            reason = "the sequences are packed" if not self.upper else f"num_layers = {self.num_layers}"
            raise ValueError(f"clamp is given: expected None, because {reason}")
        if clamp.dtype != torch.bool:
            raise ValueError(f"clamp.dtype = {clamp.dtype}: expected torch.bool")
        if clamp.device != input.device:
            raise ValueError(f"clamp.device = {clamp.device}: expected {input.device}, where the parameters are")
        shape = (*input.shape[:-1], self.hidden_size)
        if clamp.dim() > len(shape) or any(
            size not in (1, full) for size, full in zip(reversed(clamp.shape), reversed(shape), strict=False)
        ):
            raise ValueError(f"clamp.shape = {tuple(clamp.shape)}: expected to be broadcastable to {shape}")
        clamp = clamp.expand(shape)
        if len(shape) == 2:
            return clamp.unsqueeze(1)
        return clamp.transpose(0, 1) if self.batch_first else clamp

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        layers = f"num_layers={self.num_layers}, dropout={self.dropout}, " if self.upper else ""
        return (
            f"{self.input_size}, {self.hidden_size}, {layers}alpha={kind(self.alpha)!r}, "
            f"nonlinearity={self.nonlinearity!r}, "
            f"batch_first={self.batch_first}, backend={self.backend!r}"
        )
