"""E-prop: eligibility traces run forward in time and are combined with the current learning signal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from engram import checks
from engram.nn.sequence import packed_rows, time_first
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.loss import output_error, output_loss, sample_losses
from engram.rules.temporal.readout_checks import check_network, check_sequences, padded, trained

FEEDBACKS = ("symmetric", "random", "adaptive")


@dataclass(frozen=True)
class EProp(LearningRule[Tensor | None]):
    """E-prop for a ``ReadoutNetwork`` of rates or spikes.

        eps[i](t) = alpha eps[i](t-1) + pre[i](t)        pre: the input of t, the activity of t-1, and 1
        e[j, i](t) = psi[j](t) eps[i](t)                 psi: derivative of the activity by the potential
        dL/dW[j, i] = mean over the batch of sum over t of  (error(t) B)[j]  f(t)[j, i],   f(t) = kappa f(t-1) + e(t)

    Later effects of an activity on the loss through other units are left out. Everything else is exact, so that without
    recurrent connections this is the gradient. The readout gets its true gradient.

    Args:
        feedback: B, (outputs, hidden). ``"symmetric"``: the readout's weights. ``"random"``: fixed random weights,
            normal with variance 1 / hidden. ``"adaptive"``: random at first, then changed as the readout is (Kolen and
            Pollack).
        decay: For ``"adaptive"``, the share of B and of the readout that decays at each step, and with it their
            difference.

    Raises:
        ValueError: An argument is unknown or out of range.

    Source: Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons" (2020),
    equations 3, 4, 13 and 28; Murray, "Local online learning in recurrent networks with random feedback" (2019).

    Examples:
        >>> from engram.nn import LeakyRNN, ReadoutNetwork
        >>> generator = torch.Generator().manual_seed(0)
        >>> net = ReadoutNetwork(LeakyRNN(8, 16, generator=generator), 2, generator=generator)
        >>> rule = EProp(feedback="random")
        >>> state = rule.init(net, generator)
        >>> list(rule.update(net, torch.ones(5, 3, 8), torch.tensor([0, 1, 1]), state).grads)
        ['core.weight_ih', 'core.weight_hh', 'core.bias', 'readout.weight', 'readout.bias']
    """

    feedback: str = "symmetric"
    decay: float = 1e-3

    properties = Properties(local=True, one_phase=True, online=True, spikes=True)

    def __post_init__(self) -> None:
        checks.choice("feedback", self.feedback, FEEDBACKS)
        checks.number("decay", self.decay, minimum=0, maximum=1)
        properties = replace(type(self).properties, no_weight_transport=self.feedback != "symmetric")
        object.__setattr__(self, "properties", properties)

    @classmethod
    def random(cls) -> EProp:
        """The rule with fixed random feedback."""
        return cls("random")

    @classmethod
    def adaptive(cls) -> EProp:
        """The rule whose feedback changes with the readout."""
        return cls("adaptive")

    def init(self, model: nn.Module, generator: torch.Generator) -> Float[Tensor, "outputs hidden"] | None:
        """B, or None if it is the readout's weights."""
        weight = check_network(model, "EProp").readout.weight
        if self.feedback == "symmetric":
            return None
        return nn.init.normal_(torch.empty_like(weight, requires_grad=False), 0, weight.shape[1] ** -0.5, generator)

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Annotated[Tensor, "time batch features"] | PackedSequence,
        target: Annotated[Tensor, "*time batch *outputs"] | PackedSequence,
        state: Tensor | None,
    ) -> Update:
        """The pseudo-gradients of a batch of whole sequences.

        Args:
            model: The network, which is not changed.
            x: Its input, (time, batch, features), or sequences of several lengths, packed by ``torch.nn.utils.rnn``.
            target: Classes, int64, or values: one for each sample or, if ``model.every_step``, at each of its steps,
                packed as ``x`` is.
            state: B, (outputs, hidden), or None if it is the readout's weights.
        """
        net = check_network(model, "EProp")
        core: Any = net.core
        readout, kappa = net.readout, net.kappa
        given = None  # the steps of packed sequences at which an output has a target
        if isinstance(x, PackedSequence):
            packed_rows("x", x, core.input_size, core.weight_ih)
            x, target, given = padded(net, x, target)
        x, target = time_first("x", x, core.input_size, core.weight_ih), checks.instance("target", target, Tensor)
        check_sequences(net, x, target)
        feedback = readout.weight if state is None else checks.instance("state", state, Tensor)
        core_state = core.init(x.shape[1])
        ones = x.new_ones(len(core_state.activity), 1)
        trace = torch.cat((0 * x[0], core_state.activity, 0 * ones), 1)
        filtered, eligibility = core_state.activity, None
        grads = {name: torch.zeros_like(value) for name, value in net.named_parameters()}
        loss, change = x.new_zeros(()), x.new_zeros(core.hidden_size, trace.shape[1])
        for t, drive in enumerate(core.drive(x)):
            previous, core_state = core_state, core.step(drive, core_state)
            trace = core.alpha * trace + torch.cat((x[t], previous.activity, ones), 1)
            slope = core.slope(previous, core_state)
            filtered = kappa * filtered + core_state.activity
            if kappa:  # each connection needs a trace; otherwise one of each presynaptic unit is enough
                increment = slope[:, :, None] * trace[:, None, :]
                eligibility = increment if eligibility is None else kappa * eligibility + increment
            if not net.every_step and (t < len(x) - 1 if given is None else not given[t].any()):
                continue
            output, step_target = readout(filtered), target[t] if net.every_step else target
            error = output_error(output, step_target)
            if given is None:
                loss += output_loss(output, step_target)
            else:
                error = error * given[t, :, None]
                loss += (sample_losses(output, step_target) * given[t]).mean()
            signal = error @ feedback
            if eligibility is None:
                change += (signal * slope).T @ trace
            else:
                change += torch.einsum("bj,bji->ji", signal, eligibility)
            grads["readout.weight"] += error.T @ filtered / len(error)
            if readout.bias is not None:
                grads["readout.bias"] += error.mean(0)
        grads.update(core_gradients(core, change / x.shape[1]))
        return checked_update(self, trained(net, grads), state, loss)

    def watched(self, state: Tensor | None) -> Collection[str]:
        """The name of the readout's weights if the feedback follows them."""
        return ("readout.weight",) if self.feedback == "adaptive" else ()

    def weight_decay(self, lr: float, momentum: float = 0.0) -> float:
        """The decay of the readout that matches that of adaptive feedback, decay (1 - momentum) / lr; otherwise 0.

        Args:
            lr: Learning rate, above 0.
            momentum: Momentum, from 0 to below 1.
        """
        decay = self.decay if self.feedback == "adaptive" else 0.0
        return super().weight_decay(lr, momentum) + decay * (1 - momentum) / lr

    def after_step(self, model: nn.Module, deltas: Mapping[str, Tensor], state: Tensor | None) -> Tensor | None:
        """B after the readout's step, which adaptive feedback follows; B of a frozen readout stays.

        Args:
            model: The network after the step.
            deltas: The step's change of ``"readout.weight"``.
            state: B before the step.
        """
        if self.feedback != "adaptive" or state is None:
            return state
        weight, delta = model.get_parameter("readout.weight"), deltas["readout.weight"]
        if not weight.requires_grad:
            return state
        return state + delta + self.decay * (weight.detach() - delta - state)


def core_gradients(core: Any, change: Float[Tensor, "hidden pre"]) -> dict[str, Tensor]:
    """The gradients of input weights, recurrent weights and bias, by name; some cores have no bias."""
    inputs, recurrent, bias = change.tensor_split((core.input_size, core.input_size + core.hidden_size), dim=1)
    grads = {"core.weight_ih": inputs, "core.weight_hh": core.connections(recurrent)}
    return grads | ({"core.bias": bias[:, 0]} if hasattr(core, "bias") else {})
