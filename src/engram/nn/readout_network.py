"""A recurrent core with a linear readout: the network that temporal learning rules train."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.nn.initial import lecun
from engram.nn.leaky_rnn import LeakyRNN
from engram.nn.lif import LIFNetwork


class ReadoutNetwork(nn.Module):
    """A recurrent core with a readout of its filtered activity r, after the last step of a sequence or at every step.

        f(t) = kappa f(t-1) + r(t),   y(t) = W f(t) + b

    ``EProp`` and ``RTRL`` train this network, and so does ``Backprop``, by backpropagation through time, with surrogate
    gradients if the core has spikes. Their ``x`` is (time, batch, features). Their ``target`` belongs to the last step
    or, if ``every_step``, is (time, batch) classes or (time, batch, outputs) values, whose losses are summed over time.

    Args:
        core: The recurrent network; it becomes part of this one.
        outputs: Number of outputs.
        kappa: Fraction of the filtered activity that remains after a step, at least 0 and below 1.
        every_step: Whether there is an output at every step.
        generator: Source of the initial values; torch's global one if None.

    Attributes:
        core: The recurrent network.
        readout: ``nn.Linear`` with W, initially normal with variance 1 / hidden_size, and b, initially 0.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range.

    Source: Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons" (2020),
    equation 11; here the bias is not filtered.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> net = ReadoutNetwork(LeakyRNN(8, 32, generator=generator), 10, generator=generator)
        >>> net(torch.rand(5, 3, 8)).shape
        torch.Size([3, 10])
    """

    def __init__(
        self,
        core: LeakyRNN | LIFNetwork,
        outputs: int,
        *,
        kappa: float = 0.0,
        every_step: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__()
        checks.instance("core", core, LeakyRNN | LIFNetwork)  # type: ignore[arg-type]
        checks.size("outputs", outputs)
        self.core = core
        self.kappa = checks.number("kappa", kappa, minimum=0, below=1)
        self.every_step = every_step
        like_core = {"device": core.weight_hh.device, "dtype": core.weight_hh.dtype}
        self.readout = lecun(nn.Linear, core.hidden_size, outputs, generator=generator, **like_core)

    def forward(self, input: Annotated[Tensor, "time batch input"]) -> Float[Tensor, "*time batch outputs"]:
        """The outputs, (batch, outputs) after the last step or (time, batch, outputs).

        Raises:
            TypeError: The input is not a tensor.
            ValueError: There is no step; wrong shape, dtype or device, an empty batch, or a value that is not finite.
        """
        activity, _ = self.core(input)
        if not len(activity):
            raise ValueError(f"input.shape = {tuple(input.shape)}: expected at least one time step")
        lags = torch.arange(len(activity), device=activity.device, dtype=activity.dtype)
        if not self.every_step:
            weights = self.kappa ** lags.flip(0)
            return self.readout(torch.einsum("t,tbn->bn", weights, activity))  # type: ignore[no-any-return]
        weights = torch.tril(self.kappa ** (lags[:, None] - lags).clamp(min=0))
        return self.readout(torch.einsum("ts,sbn->tbn", weights, activity))  # type: ignore[no-any-return]
