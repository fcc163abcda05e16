"""Spike-timing dependent plasticity of spike pairs: growth if the presynaptic spike came first, otherwise decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.nn.sequence import check_precision
from engram.rules.contract import SynapticRule, SynapticUpdate
from engram.rules.synaptic.activities import check_activities
from engram.rules.synaptic.slow_weights import HEBBIAN
from engram.state import register_states

BOUNDS = ("none", "hard", "soft")


class SpikeTraces(NamedTuple):
    """Traces of the spikes on both sides of a layer; a batch of 1 stands for any number of samples."""

    pre: Float[Tensor, "batch pre"]
    post: Float[Tensor, "batch post"]


register_states(SpikeTraces)


@dataclass(frozen=True)
class PairSTDP(SynapticRule[SpikeTraces]):
    """Pair-based STDP over all pairs of spikes, computed from traces; each update is one time step.

        x' = exp(-1 / tau_plus) x     y' = exp(-1 / tau_minus) y
        dW = mean over the batch of  A_plus post x' - A_minus y' pre
        x'' = x' + pre                y'' = y' + post

    where pre and post are the spikes of the step, 0 or 1. Spikes of a step use the traces from before it, so that
    simultaneous spikes do not change their weight.

    Args:
        a_plus: A_plus, the growth of a weight if the spikes are almost simultaneous; 0 or more.
        a_minus: A_minus, the corresponding decay.
        tau_plus: Time constant of the presynaptic trace, in steps.
        tau_minus: Time constant of the postsynaptic trace, in steps.
        bounds: How a weight is kept between 0 and ``w_max``. ``"hard"``: the change stops there. ``"soft"``: growth is
            also multiplied by w_max - W first, decay by W. Both need plain gradient descent with a learning rate of at
            most 1, at which A_plus and A_minus are the published amplitudes. ``"none"``: not at all.
        w_max: Largest weight.

    Raises:
        ValueError: An argument is out of range or unknown, or the batch size differs from that of the traces.

    Source: Song, Miller and Abbott, "Competitive Hebbian learning through spike-timing-dependent synaptic plasticity"
    (2000), for the hard bounds; van Rossum, Bi and Turrigiano (2000) for bounds that depend on the weight; Morrison,
    Diesmann and Gerstner, "Phenomenological models of synaptic plasticity based on spike timing" (2008), section 4.1.

    Examples:
        >>> import torch
        >>> rule, W, on, off = PairSTDP(), torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1, 1)
        >>> _, state = rule.update(on, off, W, rule.init(W))
        >>> rule.update(off, on, W, state).grad  # post one step after pre: -0.01 exp(-1 / 20)
        tensor([[-0.0095]])
    """

    a_plus: float = 0.01
    a_minus: float = 0.0105
    tau_plus: float = 20.0
    tau_minus: float = 20.0
    bounds: str = "none"
    w_max: float = 1.0

    properties = HEBBIAN

    def __post_init__(self) -> None:
        for name in ("a_plus", "a_minus"):
            checks.number(name, getattr(self, name), minimum=0)
        for name in ("tau_plus", "tau_minus", "w_max"):
            checks.number(name, getattr(self, name), above=0)
        checks.choice("bounds", self.bounds, BOUNDS)

    def init(self, weight: Float[Tensor, "post pre"]) -> SpikeTraces:
        """Traces of 0."""
        checks.arguments()
        check_precision(weight)
        return SpikeTraces(weight.new_zeros(1, weight.shape[1]), weight.new_zeros(1, weight.shape[0]))

    @torch.no_grad()
    def update(
        self,
        pre: Annotated[Tensor, "batch pre"],
        post: Annotated[Tensor, "batch post"],
        weight: Annotated[Tensor, "post pre"],
        state: SpikeTraces,
    ) -> SynapticUpdate:
        """Minus the change by the spikes of this step, and the traces after it.

        Args:
            pre: Presynaptic spikes, 0 or 1.
            post: Postsynaptic spikes, 0 or 1.
            weight: W.
            state: The traces before the step.
        """
        check_activities(pre, post, weight)
        checks.instance("state", state, SpikeTraces)
        check_traces(state, pre, post)
        pre_trace = decayed(state.pre, self.tau_plus)
        post_trace = decayed(state.post, self.tau_minus)
        growth = self.a_plus * mean_product(post, pre_trace)
        decay = self.a_minus * mean_product(post_trace, pre)
        change = bounded(growth, decay, weight, self.bounds, self.w_max)
        return SynapticUpdate(-change, SpikeTraces(pre_trace + pre, post_trace + post))


def check_traces(state: Any, pre: Tensor, post: Tensor) -> None:
    """Raise an error unless traces fit the units and the samples of the spikes.

    Args:
        state: The traces, in fields whose names end in "pre" or "post".
        pre: Presynaptic spikes.
        post: Postsynaptic spikes.
    """
    if len(state.pre) not in (1, len(pre)):
        raise ValueError(f"state has traces of {len(state.pre)} samples: expected {len(pre)}, as pre and post have")
    for name, trace in zip(state._fields, state, strict=True):
        like = pre if name.endswith("pre") else post
        checks.tensor(f"state.{name}", trace, (len(state.pre), like.shape[1]), like)


def decayed(trace: Float[Tensor, "batch units"], tau: float) -> Float[Tensor, "batch units"]:
    """A trace one step later."""
    return trace * math.exp(-1 / tau)


def mean_product(post: Float[Tensor, "#batch post"], pre: Float[Tensor, "#batch pre"]) -> Float[Tensor, "post pre"]:
    """The mean over the batch of the product of a post- and a presynaptic factor."""
    size = max(len(post), len(pre))
    return post.expand(size, -1).T @ pre.expand(size, -1) / size


def bounded(
    growth: Float[Tensor, "post pre"],
    decay: Float[Tensor, "post pre"],
    weight: Float[Tensor, "post pre"],
    bounds: str,
    w_max: float,
) -> Float[Tensor, "post pre"]:
    """The change of weights by growth and decay, under the bounds of ``PairSTDP``.

    Args:
        growth: Increase by pairs in causal order.
        decay: Decrease by pairs in the other order.
        weight: W.
        bounds: ``"none"``, ``"hard"`` or ``"soft"``.
        w_max: Largest weight.
    """
    if bounds == "soft":
        return (growth * (w_max - weight) - decay * weight).clamp(-weight, w_max - weight)
    change = growth - decay
    return (weight + change).clamp(0, w_max) - weight if bounds == "hard" else change
