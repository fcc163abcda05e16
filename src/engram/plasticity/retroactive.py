"""Retroactive neuromodulation: a signal makes permanent what an eligibility trace remembers of recent activity."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from engram.plasticity.rule import (
    Coefficients,
    EligibilityState,
    PlasticityRule,
    RuleState,
    accumulated,
    bounded,
    checked_bound,
    trained_rate,
)


class Retroactive(PlasticityRule):
    """Retroactive neuromodulation: a signal m makes permanent what an eligibility trace E remembers of activity.

        H'[j, i] = clip(H[j, i] + m[j] E[j, i], -c, c)
        E'[j, i] = (1 - eta) E[j, i] + eta y[j] x[i]

    in this order, so that the signal acts on coincidences of earlier steps, as dopamine is thought to. A
    ``Neuromodulator`` computes it.

    Args:
        eta: Initial rate of the eligibility trace, per step; a scalar parameter, trained without constraint.
        clip: Bound c of the Hebbian trace; None for none. The eligibility trace has none.
        trace_first: Whether the eligibility trace is updated first, so that the signal acts on E'.
        device: Where the parameter lives.
        dtype: Its dtype.

    Raises:
        ValueError: ``eta`` is not finite, or ``clip`` is not positive and finite.

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), equations 4 and 5.

    Examples:
        >>> rule, one = Retroactive(eta=0.5), torch.ones(1, 1)
        >>> first = rule.update(rule.init(1, 1, 1), pre=one, post=one, modulator=one)
        >>> second = rule.update(first, pre=one, post=one, modulator=one)
        >>> [state.trace.item() for state in (first, second)], second.eligibility.item()
        ([0.0, 0.5], 0.75)
    """

    modulated = True
    state_type = EligibilityState
    recursion = "retroactive"

    def __init__(
        self,
        eta: float = 0.01,
        clip: float | None = 1.0,
        *,
        trace_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(device, dtype)
        self.clip = checked_bound(clip)
        self.trace_first = trace_first
        self.eta = trained_rate(eta, device, dtype)

    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """Return the coefficients of the eligibility trace, A = 1 - eta, M = eta, z = y."""
        return Coefficients(keep=1 - self.eta, gain=self.eta, post=post)

    def update(
        self,
        state: RuleState,
        pre: Annotated[Tensor, "batch pre"],
        post: Annotated[Tensor, "batch post"],
        modulator: Annotated[Tensor, "batch post"] | None = None,
    ) -> EligibilityState:
        """Return the state after one step; see ``PlasticityRule.update``."""
        self.check_step(state, pre, post, modulator)
        assert isinstance(state, EligibilityState)
        assert modulator is not None
        eligibility = accumulated(state.eligibility, self.coefficients(post, modulator), pre)
        trace = torch.addcmul(
            state.trace, modulator.unsqueeze(2), eligibility if self.trace_first else state.eligibility
        )
        return EligibilityState(bounded(trace, self.clip), eligibility)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the arguments."""
        return f"clip={self.clip}, trace_first={self.trace_first}"
