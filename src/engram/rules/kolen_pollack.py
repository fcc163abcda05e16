"""The Kolen-Pollack rule: feedback weights get the same changes and the same decay as the forward weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.network import network_of


class KolenPollack(LearningRule[dict[str, Tensor]]):
    """Feedback alignment with learned feedback weights: they get the change u and the decay of the forward weights.

        W' = W + u - decay W,   B' = B + u - decay B,   W' - B' = (1 - decay) (W - B)

    ``after_step`` gets what the optimiser added to W, including its decay, so that the rule works with any optimiser; u
    is this change without the decay. The optimiser must decay the weights itself, or B would approach W by reading it:
    ``torch.optim.SGD`` does so with ``weight_decay = rule.weight_decay(lr, momentum)``. The state is B, by the name of
    the weights W of each layer but the first; in a network that is no chain of layers, of every linear map and
    convolution.

    With ``decay="optimizer"`` it is that of W in the very step, whatever the schedule of the learning rate is:

        SGD: decay = weight_decay lr / (1 - momentum)        AdamW: decay = weight_decay lr

    Args:
        decay: Share of B that is lost in a step, from 0 to 1; or ``"optimizer"``, for which ``train_step`` or ``at``
            must be used.

    Source: Kolen and Pollack, "Backpropagation without weight transport" (1994); Akrout et al., "Deep learning without
    weight transport" (2019), section 3.2.

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), KolenPollack(decay=1.0)
        >>> state = rule.after_step(model, {}, rule.init(model, torch.Generator()))
        >>> torch.equal(state["2.weight"], model[2].weight)
        True
    """

    properties = Properties(local=True, no_weight_transport=True, one_phase=True, online=True, spikes=True)

    def __init__(self, decay: float | Literal["optimizer"] = 1e-3) -> None:
        self.decay = decay if decay == "optimizer" else checks.number("decay", decay, minimum=0, maximum=1)

    def init(self, model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        """Random feedback weights."""
        checks.arguments()
        return network_of(model, self).random_weights(generator)

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"] | tuple[Tensor, ...],
        target: Shaped[Tensor, "_ *targets"],
        state: dict[str, Tensor],
    ) -> Update:
        """The pseudo-gradients; the state changes in ``after_step``.

        Args:
            model: The network, which is not changed.
            x: Its input, the batch first; several inputs in a tuple.
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: Feedback weights B, by the name of W.
        """
        checks.arguments()
        network = network_of(model, self)
        network.check_feedback(state)
        grads, loss = network.learn(x, target, state)
        return checked_update(self, grads, state, loss)

    def at(self, optimizer: torch.optim.Optimizer) -> KolenPollack:
        """The rule with the decay of the optimiser's next step, if its decay is ``"optimizer"``.

        Args:
            optimizer: ``torch.optim.SGD``, without Nesterov momentum and dampening, or ``torch.optim.AdamW``, which
                decays all weights with two or more axes by the same share.

        Raises:
            ValueError: It is another optimiser, or decays them by different shares.

        Examples:
            >>> weights = [nn.Parameter(torch.ones(2, 2))]
            >>> KolenPollack("optimizer").at(torch.optim.SGD(weights, lr=0.5, momentum=0.5, weight_decay=0.25))
            KolenPollack(decay=0.25)
        """
        if self.decay != "optimizer":
            return self
        # Biases and norms often have a group without decay; only matrices have feedback.
        groups = [group for group in optimizer.param_groups if any(weight.ndim > 1 for weight in group["params"])]
        decays = {_decay_of(optimizer, group) for group in groups or optimizer.param_groups}
        if len(decays) > 1:
            raise ValueError(f"optimizer decays weights by {sorted(decays)}: expected the same share in all its groups")
        return KolenPollack(min(1.0, *decays))

    def watched(self, state: dict[str, Tensor]) -> Collection[str]:
        """The names of the weights that have feedback."""
        return state

    def weight_decay(self, lr: float, momentum: float = 0.0) -> float:
        """The decay of W in ``torch.optim.SGD`` that matches the rule's decay of B: decay (1 - momentum) / lr.

        It is 0 if the rule follows the optimiser.

        Args:
            lr: Learning rate, above 0.
            momentum: Momentum, from 0 to below 1.

        Examples:
            >>> KolenPollack(decay=0.001).weight_decay(0.1)
            0.01
        """
        others = super().weight_decay(lr, momentum)
        return others + (0.0 if self.decay == "optimizer" else self.decay * (1 - momentum) / lr)

    @torch.no_grad()
    def after_step(self, model: nn.Module, deltas: Mapping[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
        """B after the step: B + u - decay B, where u is the change of W without its decay; B of a frozen W stays.

        Args:
            model: The network after the step.
            deltas: The step's change of each W, by name; one that is missing has not changed.
            state: B before the step.

        Raises:
            ValueError: ``decay`` is ``"optimizer"``, so that only the rule of ``at`` knows it.
        """
        checks.arguments()
        if self.decay == "optimizer":
            raise ValueError(
                "decay = 'optimizer': expected the step to be taken by train_step, or by rule.at(optimizer)"
            )
        weights, next_feedback = network_of(model, self).weights(), {}
        for name, feedback in state.items():
            if not model.get_parameter(name).requires_grad:
                next_feedback[name] = feedback
                continue
            delta = deltas.get(name, feedback.new_zeros(()))  # missing if W has not changed
            next_feedback[name] = torch.lerp(feedback, weights[name] - delta, self.decay).add_(delta)
        return next_feedback


def _decay_of(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> float:
    """The share of the weights of a group that the next step takes away."""
    if isinstance(optimizer, torch.optim.AdamW):
        return float(group["weight_decay"] * group["lr"])
    if isinstance(optimizer, torch.optim.SGD) and not group["nesterov"] and not group["dampening"]:
        return float(group["weight_decay"] * group["lr"] / (1 - group["momentum"]))
    options = ", with Nesterov momentum or dampening" if isinstance(optimizer, torch.optim.SGD) else ""
    raise ValueError(
        f"optimizer is a {type(optimizer).__name__}{options}: expected torch.optim.SGD without "
        "Nesterov momentum and dampening, or torch.optim.AdamW, since decay = 'optimizer' needs the share of the "
        "weights that a step takes away"
    )
