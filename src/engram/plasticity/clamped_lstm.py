"""An LSTM whose first units are forced to follow the input, the baseline of the binary pattern experiment."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from engram import checks
from engram.nn.sequence import full_precision, time_first
from engram.state import register_states


class LSTMState(NamedTuple):
    """The state of an LSTM, shaped as in ``nn.LSTM``."""

    hidden: Float[Tensor, "1 batch hidden"]
    cell: Float[Tensor, "1 batch hidden"]

    def detach(self) -> LSTMState:
        """The same state, detached from its graph, for truncated back-propagation."""
        return LSTMState(self.hidden.detach(), self.cell.detach())


register_states(LSTMState)


class ClampedLSTM(nn.LSTM):
    """An LSTM whose first units, one for each input feature, are forced to follow the input.

    The input is multiplied by 100. Unit k < input_size receives feature k through its cell input with weight 10 and
    bias 0, opens its input and output gates with bias 10, and closes its forget gate with bias -1000, so that its
    output has the sign of the feature. Each forward pass uses these clamped values in place of the parameters, which
    do not change; the clamped entries get no gradient. All of ``bias_hh_l0`` is clamped to 0, for the free units too,
    and frozen, since ``bias_ih_l0`` has the same effect.

    The input weights of the gates stay free and see the same large input. The narrower the network, the larger they
    are at first, and the more often they close a gate of a clamped unit against its bias: of 50 random bits, 73 % get
    through with more than half strength in an untrained network of 2000 units, and 40 % in one of 200.

    Args:
        input_size: Number of input features.
        hidden_size: Number of units, at least ``input_size`` (else ValueError).
        batch_first: Whether input and output are (batch, time, features).
        device: Device of the parameters.
        dtype: Data type of the parameters.
        generator: Source of the initial values; torch's global one if None.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), the LSTM of the binary pattern experiment.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> lstm = ClampedLSTM(2, 8)
        >>> output, state = lstm(torch.tensor([[[1.0, -1.0]]]))
        >>> output[0, 0, :2].sign().tolist(), state.hidden.shape
        ([1.0, -1.0], torch.Size([1, 1, 8]))
    """

    weight_ih_l0: nn.Parameter
    weight_hh_l0: nn.Parameter
    bias_ih_l0: nn.Parameter
    bias_hh_l0: nn.Parameter

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
        checks.size("input_size", input_size)
        if checks.size("hidden_size", hidden_size) < input_size:
            raise ValueError(f"hidden_size = {hidden_size}: expected at least input_size = {input_size}")
        # On the meta device first, so that torch's own initialisation draws nothing from the global generator.
        super().__init__(input_size, hidden_size, batch_first=batch_first, device="meta", dtype=dtype)
        self.to_empty(device=torch.get_default_device() if device is None else device)
        self.bias_hh_l0.requires_grad_(False)
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw the initial weights, as ``nn.LSTM`` does, and set ``bias_hh_l0`` to zero."""
        bound = self.hidden_size**-0.5
        for weight in (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0):
            weight.uniform_(-bound, bound, generator=generator)
        self.bias_hh_l0.zero_()

    def clamped_weights(self) -> list[Tensor]:
        """The weights that a forward pass uses, in the order of ``nn.LSTM``: ih, hh, bias_ih, bias_hh."""
        clamped = self.input_size
        weight_ih = self.weight_ih_l0.reshape(4, self.hidden_size, clamped)
        bias_ih = self.bias_ih_l0.view(4, self.hidden_size)
        # torch keeps the gates in the order input, forget, cell, output.
        one_hot = torch.eye(clamped, device=weight_ih.device, dtype=weight_ih.dtype)
        biases = bias_ih.new_tensor([[10.0], [-1000.0], [0.0], [10.0]]).expand(4, clamped)
        return [
            torch.cat((weight_ih[0], weight_ih[1], 10 * one_hot, weight_ih[2, clamped:], weight_ih[3])),
            self.weight_hh_l0,
            torch.cat((biases, bias_ih[:, clamped:]), dim=1).flatten(),
            torch.zeros_like(self.bias_hh_l0),
        ]

    def forward(  # type: ignore[override]
        self, input: Annotated[Tensor, "time batch input"], state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Float[Tensor, "time batch hidden"], LSTMState]:
        """As ``PlasticRNN.forward``, for batches of sequences of one length, without ``clamp``.

        Hidden and cell of the state are (1, batch, hidden) each.
        """
        sequence = time_first("input", input, self.input_size, self.weight_ih_l0, self.batch_first)
        shape = (1, sequence.shape[1], self.hidden_size)
        if state is None:
            zeros = sequence.new_zeros(shape)
            state = LSTMState(zeros, zeros.clone())
        if not isinstance(state, tuple) or len(state) != 2:
            raise TypeError(f"state is a {type(state).__name__}: expected hidden and cell state")
        for name, tensor in zip(LSTMState._fields, state, strict=True):
            checks.tensor(f"state.{name}", tensor, shape, self.weight_ih_l0)
        if len(sequence) == 0:
            output, *last = sequence.new_zeros(0, *shape[1:]), *state
        else:
            # The functional form, because nn.LSTM's own forward reads the parameters and nothing else.
            constants = self.bias, self.num_layers, self.dropout, self.training, self.bidirectional, False
            weights = self.clamped_weights()
            if sequence.is_cuda:  # cuDNN wants them in one piece of memory
                sizes = [weight.numel() for weight in weights]
                pieces = torch.split(torch.cat([weight.flatten() for weight in weights]), sizes)
                weights = [piece.view_as(weight) for piece, weight in zip(pieces, weights, strict=True)]
            with full_precision(sequence.device):
                output, *last = torch.lstm(100 * sequence, state, weights, *constants)
        return (output.transpose(0, 1) if self.batch_first else output), LSTMState(*last)
