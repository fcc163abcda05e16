"""Retroactive neuromodulation: a signal consolidates an eligibility trace of recent activity."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.types import Device

from engram import checks
from engram.plasticity import rule as rules
from engram.plasticity.rule import Coefficients, RatedRule, accumulated
from engram.plasticity.state import EligibilityState, RuleState


class Retroactive(RatedRule):
    """Retroactive neuromodulation: a signal m consolidates an eligibility trace E of recent activity.

        H'[j, i] = clip(H[j, i] + m[j] E[j, i], -c, c)
        E'[j, i] = (1 - eta) E[j, i] + eta y[j] x[i]

    in this order, so that the signal acts on coincidences of earlier steps, as dopamine is thought to. A
    ``Neuromodulator`` computes it. In mode "soft", with d[j, i] = m[j] E[j, i],

        H'[j, i] = clip((1 - |d|) H[j, i] + d, -c, c)

    Args:
        eta: Initial rate of the eligibility trace, per step; a scalar parameter.
        clip: Bound c of the Hebbian trace; None: no bound. The eligibility trace has no bound. In mode ``"soft"`` the
            published code uses 0.99999.
        mode: How the Hebbian trace is kept from growing: ``"clip"``; or ``"soft"``, where the nearer it is to 1, the
            less is added.
        trace_first: Whether the eligibility trace is updated first, so that the signal acts on E'.
        only_half: Whether only the second half of the receiving units is modulated. The first floor(N / 2) follow
            ``ClippedHebb``, H' = clip(H + hebb_eta y x), in every mode.
        hebb_eta: Initial plasticity rate of the first half, per step; a scalar parameter, trained without constraint.
            The rule has it only if ``only_half``.
        eta_param: ``"raw"`` or ``"sigmoid"``, see ``Hebb``.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        ValueError: An argument is out of range or unknown.

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), equations 4 and 5; the options as in its code.

    Examples:
        >>> rule, one = Retroactive(eta=0.5), torch.ones(1, 1)
        >>> first = rule.update(rule.init(1, 1, 1), pre=one, post=one, modulator=one)
        >>> second = rule.update(first, pre=one, post=one, modulator=one)
        >>> [state.trace.item() for state in (first, second)], second.eligibility.item()
        ([0.0, 0.5], 0.75)
    """

    modulated = True
    forgets = "rate"
    state_type = EligibilityState

    def __init__(
        self,
        eta: float = 0.01,
        clip: float | None = 1.0,
        mode: str = "clip",
        *,
        trace_first: bool = False,
        only_half: bool = False,
        hebb_eta: float = 0.01,
        eta_param: str = "raw",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        checks.arguments()
        super().__init__(eta, eta_param=eta_param, device=device, dtype=dtype)
        self.clip = rules.checked_bound(clip)
        self.mode = checks.choice("mode", mode, ("clip", "soft"))
        self.trace_first = trace_first
        self.only_half = only_half
        if only_half:
            self.hebb_eta = rules.trained_rate(hebb_eta, device, dtype)
        self.recursion = "own" if only_half or mode == "soft" else "retroactive"

    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """Coefficients of the eligibility trace: D = M = eta, z = y."""
        return Coefficients(decay=self.eta, gain=self.eta, post=post)

    def update(self, state: RuleState, pre: Tensor, post: Tensor, modulator: Tensor | None = None) -> RuleState:
        """The state after one step; see ``PlasticityRule.update``.

        Args:
            state: The state before the step.
            pre: Presynaptic activity, (batch, pre).
            post: Postsynaptic activity, (batch, post).
            modulator: Neuromodulatory signal m, (batch, 1), (batch, post) or (batch, post, pre).
        """
        self.check_step(state, pre, post, modulator)
        assert isinstance(state, EligibilityState)
        assert modulator is not None
        eligibility = accumulated(state.eligibility, self._checked(self.coefficients(post, modulator)), pre)
        credited = eligibility if self.trace_first else state.eligibility
        if self.mode == "soft":
            increment = rules.of_connections(modulator) * credited
            trace = torch.addcmul(increment, 1 - increment.abs(), state.trace)
        else:
            trace = torch.addcmul(state.trace, rules.of_connections(modulator), credited)
        if self.only_half:
            clipped = Coefficients(torch.zeros_like(self.hebb_eta), self.hebb_eta, post)
            trace = torch.where(rules.first_half(post).unsqueeze(1), accumulated(state.trace, clipped, pre), trace)
        return EligibilityState(rules.bounded(trace, self.clip), eligibility)

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        options = f"clip={self.clip}, mode={self.mode!r}, trace_first={self.trace_first}, only_half={self.only_half}"
        return f"{super().extra_repr()}, {options}"
