"""A layer read back from the numbers of an operator, so that the plain scan runs what the kernel ran."""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor

from engram.plasticity.kernels.constants import FIXED, FORGETS, RECURSIONS, SQUASH
from engram.plasticity.neuromodulator import Neuromodulator
from engram.plasticity.rule import (
    Coefficients,
    PlasticityRule,
    accumulated,
    bounded,
    of_connections,
    softly_accumulated,
)
from engram.plasticity.state import EligibilityState, RuleState, TraceState

_RECURSION_NAMES: dict[int, Any] = {code: name for name, code in RECURSIONS.items()}
_FORGETS_NAMES: dict[int, Any] = {code: name for name, code in FORGETS.items()}
_SQUASH_NAMES = {code: name for name, code in SQUASH.items()}


class DecodedRule(PlasticityRule):
    """A rule as the kernels know it: a recursion, what it forgets, its bound and its rate.

    Args:
        recursion: Code of the recursion.
        clip: Bound of the traces, infinite if there is none.
        trace_first: Whether a retroactive signal acts on the eligibility trace after its update.
        forgets: Code of what a step forgets.
        eta: The rate, which may have a graph.
        modulated: Whether there is a neuromodulatory signal.
    """

    def __init__(
        self, recursion: int, clip: float, trace_first: bool, forgets: int, eta: Float[Tensor, "1"], modulated: bool
    ) -> None:
        super().__init__(eta.device, eta.dtype)
        self.recursion, self.forgets = _RECURSION_NAMES[recursion], _FORGETS_NAMES[forgets]
        self.clip = clip if math.isfinite(clip) else None
        self.trace_first, self.modulated, self.rate = trace_first, modulated, eta.reshape(())
        self.state_type = EligibilityState if self.recursion == "retroactive" else TraceState

    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """D, M and z = y, as ``forgets`` says, with the signal in the place of the rate if it is not retroactive."""
        by_signal = modulator is not None and self.modulated and self.recursion != "retroactive"
        rate = modulator if by_signal and modulator is not None else self.rate
        rate = rate.clamp(0, 1) if self.forgets == "share" else rate
        forgotten = {"nothing": rate.new_zeros(()), "oja": rate * post.square()}.get(str(self.forgets), rate)
        return Coefficients(forgotten, rate, post)

    def update(self, state: RuleState, pre: Tensor, post: Tensor, modulator: Tensor | None = None) -> RuleState:
        """The state after one step; see ``PlasticityRule.update``.

        Args:
            state: The state before the step.
            pre: Presynaptic activity, (batch, pre).
            post: Postsynaptic activity, (batch, post).
            modulator: Neuromodulatory signal m, (batch, post).
        """
        coefficients = self.coefficients(post, modulator)
        if not isinstance(state, EligibilityState):
            add = softly_accumulated if self.recursion == "soft" else accumulated
            return TraceState(bounded(add(state.trace, coefficients, pre), self.clip))
        assert modulator is not None
        eligibility = accumulated(state.eligibility, coefficients, pre)
        credited = eligibility if self.trace_first else state.eligibility
        trace = state.trace + of_connections(modulator) * credited
        return EligibilityState(bounded(trace, self.clip), eligibility)


def rule_of(
    recursion: int, clip: float, trace_first: bool, forgets: int, eta: Float[Tensor, "1"], modulated: bool
) -> DecodedRule | None:
    """The rule that ``rule_encoding.rule_numbers`` encoded, with the arguments of ``DecodedRule``; None for none."""
    return None if recursion == FIXED else DecodedRule(recursion, clip, trace_first, forgets, eta, modulated)


def neuromodulator_of(
    squash: int,
    v: Float[Tensor, " hidden"],
    v0: Float[Tensor, "1"],
    fan: Float[Tensor, " hidden"],
    base: Float[Tensor, " hidden"],
) -> Neuromodulator:
    """The neuromodulator that ``rule_encoding.recurrent`` encoded, which always fans out.

    Args:
        squash: Code of its nonlinearity.
        v: Its weights.
        v0: Its bias.
        fan: Weights of its fan-out.
        base: Biases of its fan-out.
    """
    decoded = Neuromodulator(len(v), fan_out=True, nonlinearity=_SQUASH_NAMES[squash], device="meta", dtype=v.dtype)
    tensors = {"weight": v.unsqueeze(0), "bias": v0, "fan_weight": fan.unsqueeze(1), "fan_bias": base}
    for name, values in tensors.items():
        delattr(decoded, name)  # a parameter, which has no graph
        setattr(decoded, name, values)
    return decoded
