"""Neuromodulated rule."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.types import Device

from engram import checks
from engram.plasticity.rule import (
    Coefficients,
    PlasticityRule,
    bounded,
    checked_bound,
    first_half,
    softly_accumulated,
    trained_rate,
)
from engram.plasticity.state import RuleState, TraceState


class Modulated(PlasticityRule):
    """Neuromodulated rule: a signal m of the network sets when, how much and with which sign its synapses change.

        H'[j, i] = clip(H[j, i] + m[j] y[j] x[i], -c, c)                            mode "clip"
        H'[j, i] = clip((1 - |d|) H[j, i] + d, -c, c),  d = m[j] y[j] x[i]          mode "soft"
        H'[j, i] = clip((1 - m[j]) H[j, i] + m[j] y[j] x[i], -c, c)                 mode "decay"

    The signal takes the place of the plasticity rate, so the rule has no parameter of its own. A ``Neuromodulator``
    computes it after the activity of the same step, and it gates the change that this activity causes. With
    ``only_half`` it reaches the first floor(N / 2) receiving units only; for the others ``hebb_eta`` takes its place,
    so that they follow ``ClippedHebb``. ``device`` and ``dtype`` are also those of the states.

    Args:
        clip: Bound c of the trace; None: no bound. The published plastic LSTM, and one simple maze, use 2.
        mode: How the trace is kept from growing. ``"soft"``: the nearer it is to 1, the less is added; a trace
            within [-1, 1] stays there as long as no increment exceeds 1. ``"decay"``: the signal sets both how much is
            forgotten and how much is added, and is first clamped to [0, 1].
        strict: Whether a signal outside [0, 1] is an error in mode ``"decay"``, rather than clamped.
        only_half: Whether only the first half of the receiving units is modulated; only in mode ``"clip"``.
        hebb_eta: Initial plasticity rate of the other half, per step; a scalar parameter, trained without constraint.
            The rule has it only if ``only_half``.
        device: Device of ``hebb_eta``.
        dtype: Data type of ``hebb_eta``.

    Raises:
        ValueError: An argument is out of range or unknown, or ``only_half`` is not available in the mode.

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), equation 3; the modes as in its code.

    Examples:
        >>> rule, one = Modulated(), torch.ones(1, 1)
        >>> rule.update(rule.init(1, 1, 1), pre=one, post=0.5 * one, modulator=-one).trace.tolist()
        [[[-0.5]]]
    """

    modulated = True
    forgets = None  # set by the constructor

    def __init__(
        self,
        clip: float | None = 1.0,
        mode: str = "clip",
        *,
        strict: bool = False,
        only_half: bool = False,
        hebb_eta: float = 0.01,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        checks.arguments()
        super().__init__(device, dtype)
        self.clip = checked_bound(clip)
        self.mode = checks.choice("mode", mode, ("clip", "soft", "decay"))
        self.strict = strict
        if only_half and mode != "clip":
            raise ValueError(f"only_half = True: expected False in mode {mode!r}")
        self.only_half = only_half
        if only_half:
            self.hebb_eta = trained_rate(hebb_eta, device, dtype)
        self.recursion = "soft" if mode == "soft" else "linear"
        if not (strict or only_half):
            self.forgets = "share" if mode == "decay" else "nothing"

    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """D = 0, M = m, z = y; in mode ``"decay"``, D = M = m; with ``only_half``, M = hebb_eta in the second half.

        Raises:
            ValueError: There is no signal, or, if ``strict`` in mode ``"decay"``, one outside [0, 1].
        """
        if modulator is None:
            raise ValueError("modulator = None: expected a tensor, because Modulated is modulated")
        checks.instance("modulator", modulator, Tensor)
        if self.only_half:
            first = first_half(post)
            modulator = torch.where(first if modulator.dim() == 2 else first.unsqueeze(1), modulator, self.hebb_eta)
        if self.mode != "decay":
            return Coefficients(decay=modulator.new_zeros(()), gain=modulator, post=post)
        if self.strict and checks.readable(modulator) and not ((modulator >= 0) & (modulator <= 1)).all():
            low, high = modulator.min().item(), modulator.max().item()
            raise ValueError(f"modulator is between {low} and {high}: expected within [0, 1] in mode 'decay'")
        share = modulator.clamp(0, 1)
        return Coefficients(decay=share, gain=share, post=post)

    def update(self, state: RuleState, pre: Tensor, post: Tensor, modulator: Tensor | None = None) -> RuleState:
        """The state after one step; see ``PlasticityRule.update``.

        Args:
            state: The state before the step.
            pre: Presynaptic activity, (batch, pre).
            post: Postsynaptic activity, (batch, post).
            modulator: Neuromodulatory signal m, (batch, 1), (batch, post) or (batch, post, pre).
        """
        if self.mode != "soft":
            return super().update(state, pre, post, modulator)
        self.check_step(state, pre, post, modulator)
        trace = softly_accumulated(state.trace, self.coefficients(post, modulator), pre)
        return TraceState(bounded(trace, self.clip))

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        return f"clip={self.clip}, mode={self.mode!r}, strict={self.strict}, only_half={self.only_half}"
