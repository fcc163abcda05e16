"""A recurrent network of leaky rate units."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence
from torch.types import Device

from engram import checks
from engram.nn.run_core import check_features, check_step, run_core
from engram.state import register_states


class LeakyState(NamedTuple):
    """The potentials x of leaky units, in single precision at least, and their activities r."""

    potential: Float[Tensor, "batch hidden"]
    activity: Float[Tensor, "batch hidden"]

    def detach(self) -> LeakyState:
        """The same state, detached from its autograd graph."""
        return LeakyState(self.potential.detach(), self.activity.detach())


register_states(LeakyState)


class LeakyRNN(nn.Module):
    """A recurrent network of leaky rate units, called like ``nn.RNN``.

        x(t) = alpha x(t-1) + W r(t-1) + U input(t) + b,   r = tanh(x)

    Args:
        input_size: Number of input features.
        hidden_size: Number of units.
        alpha: Fraction of a potential that remains after a step, from 0 to 1.
        gain: g; W is initially normal with variance g^2 / hidden_size.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        generator: Source of the initial values; torch's global one if None.

    Attributes:
        weight_ih, bias: U, (hidden, input), initially normal with variance 1 / input_size; and b, (hidden,), 0.
        weight_hh: W, as (post, pre).

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range.

    Source: Sompolinsky, Crisanti and Sommers, "Chaos in random neural networks" (1988), in discrete time.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> net = LeakyRNN(8, 32)
        >>> output, state = net(torch.randn(5, 3, 8))
        >>> output.shape, state.potential.shape
        (torch.Size([5, 3, 32]), torch.Size([3, 32]))
    """

    batch_first = False  # as ``nn.RNN`` has it

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        alpha: float = 0.5,
        gain: float = 0.9,
        device: Device = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__()
        self.input_size = checks.size("input_size", input_size)
        self.hidden_size = checks.size("hidden_size", hidden_size)
        self.alpha = checks.number("alpha", alpha, minimum=0, maximum=1)
        checks.number("gain", gain, minimum=0)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size, device=device, dtype=dtype))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(hidden_size, device=device, dtype=dtype))
        nn.init.normal_(self.weight_ih, std=input_size**-0.5, generator=generator)
        nn.init.normal_(self.weight_hh, std=gain * hidden_size**-0.5, generator=generator)

    def forward(
        self, input: Annotated[Tensor, "time batch input"] | PackedSequence, state: LeakyState | None = None
    ) -> tuple[Float[Tensor, "time batch hidden"] | PackedSequence, LeakyState]:
        """The rates at every step, and the state after the last; potentials start at 0 if ``state`` is None.

        The input may also be sequences of several lengths, packed by ``torch.nn.utils.rnn``. Then the activity is
        packed in the same way, and the state is that of each sequence after its own last step.

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: Wrong shape, dtype or device, an empty batch, or a value that is not finite.
        """
        return run_core(self, input, state)

    def init(self, batch_size: int) -> LeakyState:
        """The state at the start of a sequence."""
        zeros = self.weight_hh.new_zeros(checks.size("batch_size", batch_size), self.hidden_size)
        return LeakyState(checks.widened(zeros), zeros.clone())  # half precision would lose small drives

    def drive(self, input: Float[Tensor, "*time batch input"]) -> Float[Tensor, "*time batch hidden"]:
        """The drive U input + b."""
        checks.arguments()
        check_features(input, self.weight_ih)
        return functional.linear(input, self.weight_ih, self.bias)

    def connections(self, values: Float[Tensor, "hidden hidden"]) -> Float[Tensor, "hidden hidden"]:
        """``values`` unchanged, since all recurrent connections exist."""
        return values

    def step(self, drive: Float[Tensor, "batch hidden"], state: LeakyState) -> LeakyState:
        """The state one step later, given U input + b."""
        check_step(drive, state, LeakyState)
        potential = self.alpha * state.potential + functional.linear(state.activity, self.weight_hh) + drive
        return LeakyState(potential, potential.tanh().to(self.weight_hh.dtype))

    def slope(self, before: LeakyState, after: LeakyState) -> Float[Tensor, "batch hidden"]:
        """The derivative of each unit's activity with respect to its potential after a step."""
        checks.instance("after", after, LeakyState)
        return 1 - after.activity.square()
