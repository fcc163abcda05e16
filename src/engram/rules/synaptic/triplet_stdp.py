"""Spike-timing dependent plasticity of pairs and triplets of spikes, which also depends on firing rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.nn.sequence import check_precision
from engram.rules.contract import SynapticRule, SynapticUpdate
from engram.rules.synaptic.activities import check_activities
from engram.rules.synaptic.pair_stdp import BOUNDS, bounded, check_traces, decayed, mean_product
from engram.rules.synaptic.slow_weights import HEBBIAN
from engram.state import register_states


class TripletTraces(NamedTuple):
    """A fast and a slow trace of the spikes on both sides of a layer; a batch of 1 as in ``SpikeTraces``."""

    pre: Float[Tensor, "batch pre"]
    post: Float[Tensor, "batch post"]
    slow_pre: Float[Tensor, "batch pre"]
    slow_post: Float[Tensor, "batch post"]


register_states(TripletTraces)


@dataclass(frozen=True)
class TripletSTDP(SynapticRule[TripletTraces]):
    """Triplet STDP: as ``PairSTDP``, with amplitudes increased by a slow trace of earlier spikes on the same side.

        dW = mean over the batch of  post (A2_plus + A3_plus y2) x - pre (A2_minus + A3_minus x2) y

    At each step x, y and the slow x2, y2 first decay, are then used as above, and are incremented by its spikes last.

    Args:
        a2_plus: Growth by pairs; 0 or more, like all amplitudes.
        a2_minus: Decay by pairs.
        a3_plus: Growth by triplets of post, pre, post.
        a3_minus: Decay by triplets of pre, post, pre.
        tau_plus: Time constant of x, in steps.
        tau_minus: Time constant of y.
        tau_x: Time constant of x2.
        tau_y: Time constant of y2.
        bounds: ``"none"``, ``"hard"`` or ``"soft"``; see ``PairSTDP``.
        w_max: Largest weight.

    Raises:
        ValueError: An argument is out of range or unknown, or the batch size differs from that of the traces.

    Source: Pfister and Gerstner, "Triplets of spikes in a model of spike timing-dependent plasticity" (2006), equations
    1 to 4; by default the all-to-all fit to visual cortex of its table 4, in steps of 1 ms.

    Examples:
        >>> import torch
        >>> rule, W, on, off = TripletSTDP(), torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1, 1)
        >>> _, state = rule.update(on, off, W, rule.init(W))
        >>> bool(rule.update(off, on, W, state).grad < 0)
        True
    """

    a2_plus: float = 5e-10
    a2_minus: float = 7e-3
    a3_plus: float = 6.2e-3
    a3_minus: float = 2.3e-4
    tau_plus: float = 16.8
    tau_minus: float = 33.7
    tau_x: float = 101.0
    tau_y: float = 125.0
    bounds: str = "none"
    w_max: float = 1.0

    properties = HEBBIAN

    def __post_init__(self) -> None:
        for name in ("a2_plus", "a2_minus", "a3_plus", "a3_minus"):
            checks.number(name, getattr(self, name), minimum=0)
        for name in ("tau_plus", "tau_minus", "tau_x", "tau_y", "w_max"):
            checks.number(name, getattr(self, name), above=0)
        checks.choice("bounds", self.bounds, BOUNDS)

    def init(self, weight: Float[Tensor, "post pre"]) -> TripletTraces:
        """Traces of 0."""
        checks.arguments()
        check_precision(weight)
        pre, post = weight.new_zeros(1, weight.shape[1]), weight.new_zeros(1, weight.shape[0])
        return TripletTraces(pre, post, pre.clone(), post.clone())

    @torch.no_grad()
    def update(
        self,
        pre: Annotated[Tensor, "batch pre"],
        post: Annotated[Tensor, "batch post"],
        weight: Annotated[Tensor, "post pre"],
        state: TripletTraces,
    ) -> SynapticUpdate:
        """Minus the change by the spikes of this step, and the traces after it.

        Args:
            pre: Presynaptic spikes, 0 or 1.
            post: Postsynaptic spikes, 0 or 1.
            weight: W.
            state: The traces before the step.
        """
        check_activities(pre, post, weight)
        checks.instance("state", state, TripletTraces)
        check_traces(state, pre, post)
        x, y = decayed(state.pre, self.tau_plus), decayed(state.post, self.tau_minus)
        x2, y2 = decayed(state.slow_pre, self.tau_x), decayed(state.slow_post, self.tau_y)
        growth = mean_product(post * (self.a2_plus + self.a3_plus * y2), x)
        decay = mean_product(y, pre * (self.a2_minus + self.a3_minus * x2))
        change = bounded(growth, decay, weight, self.bounds, self.w_max)
        return SynapticUpdate(-change, TripletTraces(x + pre, y + post, x2 + pre, y2 + post))
