"""A recurrent core with a linear readout: the network that temporal learning rules train."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from engram import checks
from engram.nn.initial import lecun
from engram.nn.leaky_rnn import LeakyRNN
from engram.nn.lif import LIFNetwork
from engram.nn.sequence import full_precision


class ReadoutNetwork(nn.Module):
    """A recurrent core with a readout of its filtered activity r, after the last step of a sequence or at every step.

        f(t) = kappa f(t-1) + r(t),   y(t) = W f(t) + b

    ``EProp`` and ``RTRL`` train this network, and so does ``Backprop``, by backpropagation through time, with surrogate
    gradients if the core has spikes. Their ``x`` is (time, batch, features). Their ``target`` belongs to the last step
    or, if ``every_step``, is (time, batch) classes or (time, batch, outputs) values, whose losses are summed over time.
    ``EProp`` also takes packed sequences, with targets at every step packed in the same way.

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

    def forward(
        self, input: Annotated[Tensor, "time batch input"] | PackedSequence
    ) -> Float[Tensor, "*time batch outputs"] | PackedSequence:
        """The outputs, (batch, outputs) after the last step or (time, batch, outputs).

        Of packed sequences the last step is each sequence's own; outputs at every step are packed like the input.

        Raises:
            TypeError: The input is not a tensor.
            ValueError: There is no step; wrong shape, dtype or device, an empty batch, or a value that is not finite.
        """
        activity, _ = self.core(input)
        device = self.readout.weight.device
        if isinstance(activity, PackedSequence):
            padded, lengths = pad_packed_sequence(activity)
            with full_precision(device):
                outputs = self.readout(torch.stack(self._filtered(padded)))
            if self.every_step:
                # Rows in the order of the input: to pack again might order sequences of equal length otherwise.
                sizes, order = activity.batch_sizes, activity.sorted_indices
                by_length = outputs if order is None else outputs.index_select(1, order)
                running = torch.arange(len(lengths)) < sizes[:, None]
                return activity._replace(data=by_length[running.to(device)])
            return outputs[lengths - 1, torch.arange(len(lengths))]  # type: ignore[no-any-return]
        if not len(activity):
            raise ValueError(f"input.shape = {tuple(input.shape)}: expected at least one time step")  # type: ignore[union-attr]
        with full_precision(device):
            if self.every_step:
                return self.readout(torch.stack(self._filtered(activity)) if self.kappa else activity)  # type: ignore[no-any-return]
            precise = checks.widened(activity)  # half precision has too few digits for long lags and sums
            lags = torch.arange(len(activity), device=device, dtype=precise.dtype)
            filtered = torch.einsum("t,tbn->bn", self.kappa ** lags.flip(0), precise)
            return self.readout(filtered.to(activity.dtype))  # type: ignore[no-any-return]

    def _filtered(self, activity: Float[Tensor, "time batch hidden"]) -> list[Float[Tensor, "batch hidden"]]:
        """The filtered activity f at every step, summed in single precision at least."""
        precise = checks.widened(activity)
        filtered = [precise[0]]
        for current in precise[1:]:
            filtered.append(torch.add(current, filtered[-1], alpha=self.kappa))
        return [step.to(activity.dtype) for step in filtered]
