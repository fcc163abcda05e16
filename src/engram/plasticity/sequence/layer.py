"""A sequence layer whose memory is a matrix of fast weights, written at each step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence
from torch.types import Device

from engram import checks
from engram.nn.packed import each, ordered, run_packed
from engram.nn.sequence import AXES, ROWS, check_precision, full_precision, packed_rows, time_first
from engram.plasticity.sequence.delta_write import DeltaWrite
from engram.plasticity.sequence.gated_delta_write import GatedDeltaWrite
from engram.plasticity.sequence.gradient_write import GradientWrite
from engram.plasticity.sequence.least_squares_write import LeastSquaresWrite
from engram.plasticity.sequence.linear_writes import DecayedWrite, HebbianWrite
from engram.plasticity.sequence.momentum_delta_write import MomentumDeltaWrite
from engram.plasticity.sequence.write_rule import State, WriteRule, check_state

WRITE_RULES: dict[str, Callable[[], WriteRule]] = {
    "hebbian": HebbianWrite,
    "decayed": DecayedWrite,
    "delta": DeltaWrite,
    "gated-delta": GatedDeltaWrite,
    "momentum-delta": MomentumDeltaWrite,
    "gradient": GradientWrite,
    "least-squares": LeastSquaresWrite,
}
EPS = 1e-6  # of the mean square in the norm of the output
DECAY_BIAS = -4.0  # softplus of it is 0.018: at first a memory keeps 98 % of its weights at each step
START_STD = 0.02  # of the trained matrix at the start of a sequence, as TTT has it
LENGTH_EPS = 1e-6  # of the square of a length; inside the root, so that the gradient at 0 is finite


class FastWeightLayer(nn.Module):
    """A sequence layer whose memory is a matrix of fast weights, written at each step; called like ``nn.RNN``.

        q(t), k(t), v(t), signals(t) = linear maps of x(t), for each head; feature maps of q and k
        S(t) = rule(S(t-1), k(t), v(t), signals(t))
        o(t) = S(t) q(t)                                   what is recalled after the write
        y(t) = W_out (RMSnorm(o(t)) * SiLU(gate(t)))       norm for each head, gate if there is one

    The signals are the strength of the write, beta = sigmoid(linear), or twice that with ``negative_eigenvalues``;
    the decay of old weights, alpha = exp(-exp(a) softplus(linear)); and the decay of momentum, eta = sigmoid(linear);
    each rule takes some of them. Sequences are computed in chunks, with the result of the steps.

    Args:
        input_size: Number of input features.
        output_size: Number of output features; ``input_size`` if None.
        heads: Number of memories side by side.
        key_size: Features of a query and a key, for each head; ``output_size`` / ``heads`` if None.
        value_size: Features of a value, for each head; as long as a key if None.
        rule: What is written, a ``WriteRule``, which becomes part of the layer, or the name of one: ``"hebbian"``,
            ``"decayed"``, ``"delta"``, ``"gated-delta"``, ``"momentum-delta"``, ``"gradient"``, ``"least-squares"``.
        feature_map: ``"l2-silu"`` (SiLU, then unit length), ``"elu+1"``, ``"softmax"`` or ``"identity"``. The rules
            that correct an error are stable for keys of at most unit length.
        output_norm: Whether what is recalled is divided by its root mean square, and multiplied by ``norm_weight``.
        gate: Whether the output has a gate.
        negative_eigenvalues: Whether beta may exceed 1, so that a write can reverse a component of the memory.
        batch_first: Whether input and output are (batch, time, features) rather than (time, batch, features).
        generator: Source of the initial values; torch's global one if None.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Attributes:
        weight_in, bias_in: The linear maps of the input, of each head for queries, keys, values, gate and signals in
            this order, (features, input) and (features,); initially uniform as in ``nn.Linear``, with bias 0,
            and of decay -4.
        weight_out: W_out, (output, heads * value); initially as in ``nn.Linear``.
        norm_weight: (heads, value), or None without ``output_norm``; initially 1.
        log_rate: a, (heads,), or None for a rule without decay; initially 0.
        start: The matrix at the start of a sequence, (heads, value, key), if the rule trains it, else None, which is 0;
            initially normal with standard deviation 0.02.
        rule: The write rule.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range or unknown, ``heads`` does not divide ``output_size``, or a value is not
            as long as a key where the rule needs that.

    Source: Schlag, Irie and Schmidhuber, "Linear transformers are secretly fast weight programmers" (2021); norm, gate
    and decay as in Yang, Kautz and Hatamizadeh, "Gated delta networks" (2025), without its convolution.

    Examples:
        >>> layer = FastWeightLayer(10, 8, heads=2, generator=torch.Generator().manual_seed(0))
        >>> output, state = layer(torch.ones(5, 3, 10))
        >>> output.shape, state.weight.shape
        (torch.Size([5, 3, 8]), torch.Size([3, 2, 4, 4]))
    """

    def __init__(
        self,
        input_size: int,
        output_size: int | None = None,
        *,
        heads: int = 1,
        key_size: int | None = None,
        value_size: int | None = None,
        rule: WriteRule | str = "delta",
        feature_map: str = "l2-silu",
        output_norm: bool = True,
        gate: bool = False,
        negative_eigenvalues: bool = False,
        batch_first: bool = False,
        generator: torch.Generator | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        checks.arguments()
        super().__init__()
        self.input_size = checks.size("input_size", input_size)
        self.output_size = checks.size("output_size", input_size if output_size is None else output_size)
        self.heads = checks.size("heads", heads)
        if key_size is None and self.output_size % heads:
            raise ValueError(
                f"heads = {heads}: expected a divisor of output_size = {self.output_size}, because key_size = None"
            )
        self.key_size = checks.size("key_size", self.output_size // heads if key_size is None else key_size)
        self.value_size = checks.size("value_size", self.key_size if value_size is None else value_size)
        self.feature_map = checks.choice("feature_map", feature_map, FEATURE_MAPS)
        self.batch_first, self.negative_eigenvalues = batch_first, negative_eigenvalues
        if isinstance(rule, str):
            rule = WRITE_RULES[checks.choice("rule", rule, WRITE_RULES)]()
        if rule.square and self.value_size != self.key_size:
            raise ValueError(
                f"value_size = {self.value_size}: expected key_size = {self.key_size}, because rule = {rule} adds "
                "what is recalled to the key"
            )
        if negative_eigenvalues and not rule.corrects:
            raise ValueError(f"negative_eigenvalues = True: expected False, because rule = {rule} corrects no error")
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        values = heads * self.value_size
        # Of each head: queries and keys, values, gates, signals.
        self._sizes = [2 * self.key_size, self.value_size, self.value_size if gate else 0, len(rule.signals)]
        values, features = heads * self.value_size, heads * sum(self._sizes)
        self.gate = gate
        self.weight_in = nn.Parameter(torch.empty(features, input_size, **options))
        self.bias_in = nn.Parameter(torch.empty(features, **options))
        self.weight_out = nn.Parameter(torch.empty(self.output_size, values, **options))
        decays, starts = "log_decay" in rule.signals, rule.trains_start
        self.norm_weight = nn.Parameter(torch.empty(heads, self.value_size, **options)) if output_norm else None
        self.log_rate = nn.Parameter(torch.empty(heads, **options)) if decays else None
        matrix = heads, self.value_size, self.key_size
        self.start = nn.Parameter(torch.empty(matrix, **options)) if starts else None
        self.rule = rule.to(device=self.weight_in.device, dtype=self.weight_in.dtype)
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw the initial weights; the rule keeps its parameters."""
        for weight in (self.weight_in, self.weight_out):
            bound = weight.shape[1] ** -0.5
            weight.uniform_(-bound, bound, generator=generator)
        self.bias_in.zero_()
        if self.log_rate is not None:
            signals = self.bias_in.view(self.heads, -1)[:, -len(self.rule.signals) :]
            signals[:, self.rule.signals.index("log_decay")] = DECAY_BIAS
            self.log_rate.zero_()
        if self.norm_weight is not None:
            self.norm_weight.fill_(1.0)
        if self.start is not None:
            self.start.normal_(std=START_STD, generator=generator)

    def forward(
        self, input: Annotated[Tensor, "time batch input"] | PackedSequence, state: State | None = None
    ) -> tuple[Float[Tensor, "*time_batch output"] | PackedSequence, State]:
        """Run the layer over sequences.

        Args:
            input: (time, batch, input), or (batch, time, input) if ``batch_first``; or one sequence, (time, input); or
                sequences of several lengths, packed by ``torch.nn.utils.rnn``.
            state: The state that an earlier call returned; if None, nothing has been written yet.

        Returns:
            The output at every step, in the form of the input, and the state of each sequence after its own last step,
            such as ``state.weight``, (batch, heads, value, key), for one sequence without the batch axis.

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: Wrong shape, dtype or device, an empty batch, half precision, an input, state or output that is
                not finite, or a state of another layer.
        """
        weight = self.weight_in
        check_precision(weight)
        if isinstance(input, PackedSequence):
            rows = packed_rows("input", input, self.input_size, weight)
            with full_precision(rows.device):
                return self._run_packed(rows, input, state)
        sequence = time_first("input", input, self.input_size, weight, self.batch_first, unbatched=True)
        unbatched = input.dim() == 2
        start = self._start_of(state, () if unbatched else (sequence.shape[1],))
        with full_precision(sequence.device):
            output, last = self._run(sequence, start)
        checks.finite("output", output, AXES)
        if unbatched:
            return output.squeeze(1), each(lambda t: t.squeeze(0), last)
        return (output.transpose(0, 1) if self.batch_first else output), last

    def init(self, batch_size: int) -> State:
        """The state in which nothing has been written yet.

        Args:
            batch_size: Number of sequences.

        Raises:
            ValueError: ``batch_size`` is below 1.
        """
        checks.size("batch_size", batch_size)
        shape = batch_size, self.heads, self.value_size, self.key_size
        start = self.weight_in.new_zeros(shape) if self.start is None else self.start.repeat(batch_size, 1, 1, 1)
        return self.rule.init(start)

    def _run_packed(
        self, rows: Float[Tensor, "row input"], input: PackedSequence, state: State | None
    ) -> tuple[PackedSequence, State]:
        start = self._start_of(state, (int(input.batch_sizes[0]),))
        start = start if state is None else ordered(start, input.sorted_indices)
        output, last = run_packed(self._run, rows, input.batch_sizes, start)
        checks.finite("output", output, ROWS)
        packed = PackedSequence(output, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
        return packed, ordered(last, input.unsorted_indices)

    def _start_of(self, state: State | None, shape: tuple[int, ...]) -> State:
        """The checked state with a batch axis; ``shape`` is the batch, or () for one sequence."""
        if state is None:
            return self.init(*(shape or (1,)))
        check_state(self.rule, state, shape, (self.heads, self.value_size, self.key_size), self.weight_in)
        return state if shape else each(lambda t: t.unsqueeze(0), state)

    def _run(
        self, sequence: Float[Tensor, "time batch input"], state: State
    ) -> tuple[Float[Tensor, "time batch output"], State]:
        """Output and state for a sequence and a state that are checked."""
        if len(sequence) == 1:
            return self._step(sequence, state)
        projected = functional.linear(sequence, self.weight_in, self.bias_in)
        by_head = projected.view(*sequence.shape[:2], self.heads, sum(self._sizes)).permute(1, 2, 0, 3)
        keys, value, gate, signals = torch.split(by_head, self._sizes, -1)
        features = FEATURE_MAPS[self.feature_map](keys.unflatten(-1, (2, self.key_size)))  # type: ignore[no-untyped-call]
        query, key = features.unbind(-2)
        rule = self.rule
        recalled, state = rule._run(state, query, key, value, *self._signals(rule, signals.unbind(-1)))
        if self.norm_weight is not None:
            recalled = normalised(recalled) * self.norm_weight.unsqueeze(1)
        if self.gate:
            recalled = recalled * functional.silu(gate)
        return functional.linear(recalled.permute(2, 0, 1, 3).flatten(2), self.weight_out), state

    def _step(
        self, sequence: Float[Tensor, "1 batch input"], state: State
    ) -> tuple[Float[Tensor, "1 batch output"], State]:
        """As ``_run`` for one step, in which a change of layout takes as long as a product."""
        # A module looks up what it owns each time.
        rule, norm_weight, batch, heads = self.rule, self.norm_weight, sequence.shape[1], self.heads
        projected = functional.linear(sequence, self.weight_in, self.bias_in).view(batch, heads, -1)
        keys, value, gate, signals = projected.split_with_sizes(self._sizes, -1)
        query, key = FEATURE_MAPS[self.feature_map](keys.view(batch, heads, 2, -1)).unbind(2)
        state = rule._write(state, key, value, *self._signals(rule, signals.unbind(-1)))
        recalled = rule._recall(state, query)
        if norm_weight is not None:
            recalled = normalised(recalled) * norm_weight
        if self.gate:
            recalled = recalled * functional.silu(gate)
        return functional.linear(recalled.reshape(1, batch, -1), self.weight_out), state

    def _signals(
        self, rule: WriteRule, linear: tuple[Float[Tensor, "batch heads *time"], ...]
    ) -> list[Float[Tensor, "batch heads *time"]]:
        """The rule's signals, from what is linear in the input."""
        signals = []
        for name, value in zip(rule.signals, linear, strict=True):
            if name == "beta":
                beta = torch.sigmoid(value)
                signals.append(beta * 2 if self.negative_eigenvalues else beta)
            elif name == "log_momentum":
                signals.append(functional.logsigmoid(value))
            else:
                rate: Tensor = self.log_rate  # type: ignore[assignment]  # a rule with decay has one
                signals.append(-functional.softplus(value) * rate.exp().view(-1, *(1,) * (value.dim() - 2)))
        return signals

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        return (
            f"{self.input_size}, {self.output_size}, heads={self.heads}, key_size={self.key_size}, "
            f"value_size={self.value_size}, feature_map={self.feature_map!r}, "
            f"output_norm={self.norm_weight is not None}, gate={self.gate}, "
            f"negative_eigenvalues={self.negative_eigenvalues}, batch_first={self.batch_first}"
        )


def normalised(recalled: Float[Tensor, "... value"]) -> Float[Tensor, "... value"]:
    """What is recalled over its root mean square."""
    return recalled * recalled.square().mean(-1, keepdim=True).add_(EPS).rsqrt_()


def unit_silu(features: Tensor) -> Tensor:
    """SiLU, then unit length."""
    features = functional.silu(features)
    return features * features.square().sum(-1, keepdim=True).add_(LENGTH_EPS).rsqrt_()


def elu_plus_one(features: Tensor) -> Tensor:
    """ELU + 1, which is positive."""
    return functional.elu(features) + 1


def softmax(features: Tensor) -> Tensor:
    """Softmax over the features."""
    return torch.softmax(features, -1)


def identity(features: Tensor) -> Tensor:
    """The features themselves."""
    return features


FEATURE_MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "l2-silu": unit_silu,
    "elu+1": elu_plus_one,
    "softmax": softmax,
    "identity": identity,
}


hebbian = partial(FastWeightLayer, rule="hebbian")
decayed = partial(FastWeightLayer, rule="decayed")
delta = partial(FastWeightLayer, rule="delta")
gated_delta = partial(FastWeightLayer, rule="gated-delta")
momentum_delta = partial(FastWeightLayer, rule="momentum-delta")
gradient = partial(FastWeightLayer, rule="gradient")
least_squares = partial(FastWeightLayer, rule="least-squares")
