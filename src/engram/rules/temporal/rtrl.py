"""Real-time recurrent learning: the exact gradient, computed forward in time, for small networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from engram.nn.sequence import time_first
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.loss import output_error, output_loss
from engram.rules.temporal.eprop import core_gradients
from engram.rules.temporal.readout_checks import check_network, check_sequences, trained

MAX_UNITS = 64


@dataclass(frozen=True)
class RTRL(LearningRule[None]):
    """Real-time recurrent learning for a ``ReadoutNetwork`` of at most 64 units.

        P(t) = (alpha I + W diag(psi(t-1))) P(t-1) + dx(t)/dtheta with a fixed past,   P(t) = dx(t)/dtheta
        dL/dtheta = mean over the batch of sum over t of  error(t) V Q(t),   Q(t) = kappa Q(t-1) + diag(psi(t)) P(t)

    with potentials x, derivatives psi of the activities with respect to them, recurrent weights W and readout V. The
    result equals that of backpropagation through time. The past is kept in P and Q alone, N^2 (N + inputs)
    numbers each for every sample, at N^3 (N + inputs) operations per step: a reference for rules that approximate it.

    Source: Williams and Zipser, "A learning algorithm for continually running fully recurrent neural networks" (1989).

    Examples:
        >>> from engram.rules import Backprop
        >>> from engram.nn import LeakyRNN, ReadoutNetwork
        >>> generator = torch.Generator().manual_seed(0)
        >>> net = ReadoutNetwork(LeakyRNN(8, 16, generator=generator), 2, generator=generator)
        >>> x, target = torch.randn(5, 3, 8, generator=generator), torch.tensor([0, 1, 1])
        >>> exact, online = (rule.update(net, x, target, None).grads for rule in (Backprop(), RTRL()))
        >>> all(torch.allclose(exact[name], online[name], atol=1e-6) for name in exact)
        True
    """

    properties = Properties(one_phase=True, online=True, spikes=True)

    def init(self, model: nn.Module, generator: torch.Generator) -> None:
        """No state.

        Raises:
            TypeError: The network is no ``ReadoutNetwork``, or its core has more than 64 units.
        """
        units = check_network(model, "RTRL").core.hidden_size
        if units > MAX_UNITS:
            raise TypeError(f"RTRL cannot train model.core, of hidden_size = {units}: expected at most {MAX_UNITS}")

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Annotated[Tensor, "time batch features"],
        target: Annotated[Tensor, "*time batch *outputs"],
        state: None,
    ) -> Update:
        """The gradients of a batch of whole sequences.

        Args:
            model: The network, which is not changed.
            x: Its input, (time, batch, features).
            target: Classes, int64, or values: one for each sample or, if ``model.every_step``, at each of its steps.
            state: None: the rule has no state.
        """
        net = check_network(model, "RTRL")
        core: Any = net.core
        readout = net.readout
        x = time_first("x", x, core.input_size, core.weight_ih)
        check_sequences(net, x, target)
        (batch, units), core_state = (x.shape[1], core.hidden_size), core.init(x.shape[1])
        weights, ones = core.connections(core.weight_hh), x.new_ones(batch, 1)
        # Derivatives of each unit's potential and filtered activity with respect to each weight of each unit.
        by_weight = x.new_zeros(batch, units, units, core.input_size + units + 1)
        filtered_by_weight, filtered, slope = (
            torch.zeros_like(by_weight),
            core_state.activity,
            torch.zeros_like(core_state.activity),
        )
        grads = {name: torch.zeros_like(value) for name, value in net.named_parameters()}
        loss, change = x.new_zeros(()), x.new_zeros(by_weight.shape[2:])
        for t, drive in enumerate(core.drive(x)):
            previous, core_state = core_state, core.step(drive, core_state)
            recurrent = torch.einsum("kl,bl,blji->bkji", weights, slope, by_weight)
            by_weight = core.alpha * by_weight + recurrent
            direct = torch.cat((x[t], previous.activity, ones), 1)
            by_weight.diagonal(dim1=1, dim2=2).add_(direct[:, :, None])
            slope = core.slope(previous, core_state)
            filtered = net.kappa * filtered + core_state.activity
            filtered_by_weight = net.kappa * filtered_by_weight + slope[:, :, None, None] * by_weight
            if not net.every_step and t < len(x) - 1:
                continue
            output, step_target = readout(filtered), target[t] if net.every_step else target
            error = output_error(output, step_target)
            loss += output_loss(output, step_target)
            change += torch.einsum("bk,bkji->ji", error @ readout.weight, filtered_by_weight)
            grads["readout.weight"] += error.T @ filtered / batch
            if readout.bias is not None:
                grads["readout.bias"] += error.mean(0)
        grads.update(core_gradients(core, change / batch))
        return checked_update(self, trained(net, grads), None, loss)
