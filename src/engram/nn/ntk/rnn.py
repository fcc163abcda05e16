"""A recurrent network of ReLU units in the neural tangent kernel parameterisation, and one with a readout."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.types import Device

from engram import checks
from engram.nn.ntk.layers import NTKLinear
from engram.nn.sequence import full_precision, precise
from engram.state import register_states


class HiddenState(NamedTuple):
    """The activity of the units."""

    hidden: Float[Tensor, "batch hidden"]

    def detach(self) -> HiddenState:
        """The same state, detached from its autograd graph."""
        return HiddenState(self.hidden.detach())


register_states(HiddenState)


class NTKRNN(nn.Module):
    """A recurrent network of ReLU units in the neural tangent kernel parameterisation, called like ``nn.RNN``.

        h(t) = relu(W_ih x(t) + W_hh h(t-1) / sqrt(n) + b),   W ~ N(0, 1),   b = 0

    Args:
        input_size: Number of input features; their weights are not scaled.
        hidden_size: n, the number of units.
        batch_first: Whether input and output are (batch, time, features) rather than (time, batch, features).
        device: Device of the parameters.
        dtype: Data type of the parameters.
        generator: Source of the weights; torch's global one if None.

    Attributes:
        weight_ih, weight_hh, bias: W_ih, (hidden, input), W_hh, (post, pre), and b, (hidden,).
        scale: 1 / sqrt(n).

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range.

    Source: Boopathy and Fiete, "How to train your wide neural network without backprop" (2022), recurrent networks.

    Examples:
        >>> net = NTKRNN(1, 16, generator=torch.Generator().manual_seed(0))
        >>> output, state = net(torch.ones(5, 3, 1))
        >>> output.shape, state.hidden.shape
        (torch.Size([5, 3, 16]), torch.Size([3, 16]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        batch_first: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.input_size = checks.size("input_size", input_size)
        self.hidden_size = checks.size("hidden_size", hidden_size)
        self.batch_first = batch_first
        self.scale = 1 / math.sqrt(hidden_size)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size, device=device, dtype=dtype))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(hidden_size, device=device, dtype=dtype))
        nn.init.normal_(self.weight_ih, generator=generator)
        nn.init.normal_(self.weight_hh, generator=generator)

    def forward(
        self, input: Annotated[Tensor, "time batch input"], state: HiddenState | None = None
    ) -> tuple[Float[Tensor, "time batch hidden"], HiddenState]:
        """The activity at every step, and the state after the last; the activity starts at 0 if ``state`` is None.

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: Wrong shape, dtype or device, an empty batch, or a value that is not finite.
        """
        size = self.input_size
        axes = ("batch", "time") if self.batch_first else ("time", "batch")
        input = precise(input, self.weight_hh)
        checks.tensor("input", input, (*axes, size), like=self.weight_hh)
        checks.finite("input", input, (*axes, "feature"))
        sequence = input.transpose(0, 1) if self.batch_first else input
        batch = sequence.shape[1]
        if not batch:
            raise ValueError(f"input.shape = {tuple(input.shape)}: expected at least one sample")
        if state is None:
            state = HiddenState(self.weight_hh.new_zeros(batch, self.hidden_size))
        checks.instance("state", state, HiddenState)
        hidden = checks.tensor(
            "state.hidden", precise(state.hidden, self.weight_hh), (batch, self.hidden_size), like=self.weight_hh
        )
        activities, recurrent = [], (self.weight_hh * self.scale).t()
        drives = functional.linear(sequence, self.weight_ih, self.bias).to(self.weight_hh.dtype)
        with full_precision(sequence.device):
            for drive in drives:
                hidden = torch.addmm(drive, hidden, recurrent).relu()
                activities.append(hidden)
        output = torch.stack(activities) if activities else hidden.new_empty(0, batch, self.hidden_size)
        return output.transpose(0, 1) if self.batch_first else output, HiddenState(hidden)


class WideRNN(nn.Module):
    """An ``NTKRNN`` with a linear readout at every step; ``wide_rnn`` makes it.

    Args:
        core: The recurrent network.
        readout: The readout, with one input for each unit of the core.

    Raises:
        ValueError: The readout has another number of inputs, or the core takes the batch first.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> net = WideRNN(NTKRNN(1, 16, generator=generator), NTKLinear(16, 1, generator=generator))
        >>> net(torch.ones(5, 3, 1)).shape
        torch.Size([5, 3, 1])
    """

    def __init__(self, core: NTKRNN, readout: NTKLinear) -> None:
        super().__init__()
        self.core = checks.instance("core", core, NTKRNN)
        self.readout = checks.instance("readout", readout, NTKLinear)
        if readout.in_features != core.hidden_size:
            raise ValueError(f"readout.in_features = {readout.in_features}: expected {core.hidden_size}, core's units")
        if core.batch_first:
            raise ValueError("core.batch_first = True: expected a core that takes time first")

    def forward(self, input: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch output"]:
        """The output at every step.

        Raises:
            TypeError: The input is not a tensor.
            ValueError: Wrong shape, dtype or device, an empty batch, or a value that is not finite.
        """
        output: Tensor = self.readout(self.core(input)[0])
        return output
