"""A recurrent network of leaky integrate-and-fire neurons."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence
from torch.types import Device

from engram import checks
from engram.nn.run_core import check_features, check_step, run_core
from engram.nn.surrogates import derivative, triangle
from engram.state import register_states


class LIFState(NamedTuple):
    """The state of leaky integrate-and-fire neurons.

    Attributes:
        potential: v, in single precision at least, as ``rest``.
        activity: z, 1 where there was a spike, else 0.
        rest: Number of steps left in which the neuron cannot spike.
    """

    potential: Float[Tensor, "batch hidden"]
    activity: Float[Tensor, "batch hidden"]
    rest: Float[Tensor, "batch hidden"]

    def detach(self) -> LIFState:
        """The same state, detached from its autograd graph."""
        return LIFState(*(tensor.detach() for tensor in self))


register_states(LIFState)


class LIFNetwork(nn.Module):
    """Recurrently connected leaky integrate-and-fire neurons without self-connections, called like ``nn.RNN``.

        v(t) = alpha v(t-1) + U input(t) + W z(t-1) - threshold z(t-1)
        z(t) = 1 where v(t) > threshold and none of the last ``refractory`` steps had a spike, else 0

    In the backward pass a spike has a surrogate derivative, which is 0 in the refractory period; no gradient passes
    through the reset.

    Args:
        input_size: Number of input features.
        hidden_size: Number of neurons.
        alpha: Fraction of a potential that remains after a step, from 0 to 1: exp(-dt / tau), by default with tau = 20
            steps.
        threshold: Potential above which a neuron fires.
        refractory: Number of steps after a spike in which the neuron cannot fire.
        surrogate: Function from v - threshold to spikes, such as those of ``surrogates``; if None, a triangle of height
            0.3 / threshold and half-width ``threshold``.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        generator: Source of the initial values; torch's global one if None.

    Attributes:
        weight_ih: U, (hidden, input), initially normal with variance 1 / input_size.
        weight_hh: W, as (post, pre), initially normal with variance 1 / hidden_size; its diagonal is not used.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range.

    Source: Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons" (2020),
    equations 6 to 8 and 23.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> net = LIFNetwork(8, 32)
        >>> spikes, state = net(torch.rand(5, 3, 8))
        >>> spikes.shape, spikes.unique().tolist()
        (torch.Size([5, 3, 32]), [0.0, 1.0])
    """

    batch_first = False  # as ``nn.RNN`` has it

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        alpha: float = math.exp(-1 / 20),
        threshold: float = 0.62,
        refractory: int = 0,
        surrogate: Callable[[Tensor], Tensor] | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__()
        self.input_size = checks.size("input_size", input_size)
        self.hidden_size = checks.size("hidden_size", hidden_size)
        self.alpha = checks.number("alpha", alpha, minimum=0, maximum=1)
        self.threshold = checks.number("threshold", threshold, above=0)
        self.refractory = checks.size("refractory", refractory, minimum=0)
        self.surrogate = surrogate or partial(triangle, gamma=0.3 / threshold, width=threshold)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size, device=device, dtype=dtype))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size, device=device, dtype=dtype))
        nn.init.normal_(self.weight_ih, std=input_size**-0.5, generator=generator)
        nn.init.normal_(self.weight_hh, std=hidden_size**-0.5, generator=generator)

    def forward(
        self, input: Annotated[Tensor, "time batch input"] | PackedSequence, state: LIFState | None = None
    ) -> tuple[Float[Tensor, "time batch hidden"] | PackedSequence, LIFState]:
        """The spikes of every step, and the state after the last; potentials start at 0 if ``state`` is None.

        The input may also be sequences of several lengths, packed by ``torch.nn.utils.rnn``. Then the activity is
        packed in the same way, and the state is that of each sequence after its own last step.

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: Wrong shape, dtype or device, an empty batch, or a value that is not finite.
        """
        return run_core(self, input, state)

    def init(self, batch_size: int) -> LIFState:
        """The state at the start of a sequence."""
        zeros = self.weight_hh.new_zeros(checks.size("batch_size", batch_size), self.hidden_size)
        precise = checks.widened(zeros)  # half precision counts to 256 or 2048, and would lose small drives
        return LIFState(precise, zeros.clone(), precise.clone())

    def drive(self, input: Float[Tensor, "*time batch input"]) -> Float[Tensor, "*time batch hidden"]:
        """The drive U input."""
        checks.arguments()
        check_features(input, self.weight_ih)
        return functional.linear(input, self.weight_ih)

    def connections(self, values: Float[Tensor, "hidden hidden"]) -> Float[Tensor, "hidden hidden"]:
        """The values of the recurrent connections, with 0 on the diagonal."""
        checks.instance("values", values, Tensor)
        checks.has_shape("values", values.shape, (self.hidden_size, self.hidden_size))
        return values - values.diag().diag()

    def step(self, drive: Float[Tensor, "batch hidden"], state: LIFState) -> LIFState:
        """The state one step later, given U input."""
        check_step(drive, state, LIFState)
        recurrent = functional.linear(state.activity, self.connections(self.weight_hh))
        potential = self.alpha * state.potential + drive + recurrent - self.threshold * state.activity.detach()
        spikes = (self.surrogate(potential - self.threshold) * (state.rest == 0)).to(self.weight_hh.dtype)
        steps_left = torch.where(spikes.detach() > 0, float(self.refractory), (state.rest - 1).clamp(min=0))
        return LIFState(potential, spikes, steps_left)

    def slope(self, before: LIFState, after: LIFState) -> Float[Tensor, "batch hidden"]:
        """The surrogate derivative of each neuron's spike with respect to its potential after a step."""
        checks.instance("before", before, LIFState)
        checks.instance("after", after, LIFState)
        return derivative(self.surrogate, after.potential - self.threshold) * (before.rest == 0)
