"""Rules and neuromodulators as the numbers that all kernels take, and which of them kernels cannot run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels.codes import FORGETS, RECURSIONS, SQUASH
from engram.plasticity.neuromodulator import Neuromodulator
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.state import EligibilityState, RuleState, TraceState


class RuleNumbers(NamedTuple):
    """A rule in the numbers of the operators."""

    recursion: int
    clip: float
    trace_first: bool
    forgets: int


def rule_numbers(rule: PlasticityRule) -> RuleNumbers:
    """Return a rule, one that ``unsupported_rule`` lets pass, in the numbers of the operators."""
    assert rule.forgets is not None
    clip = math.inf if rule.clip is None else rule.clip
    return RuleNumbers(RECURSIONS[rule.recursion], clip, getattr(rule, "trace_first", False), FORGETS[rule.forgets])


class Signal(NamedTuple):
    """A neuromodulator: the parameters of f(v . y + v0) and of its fan-out, and the number of f."""

    v: Tensor
    v0: Tensor
    fan: Tensor
    base: Tensor
    squash: int


def signal(neuromodulator: nn.Module | None, weight: Float[Tensor, "_ hidden"]) -> Signal:
    """Return a neuromodulator of a layer as tensors; None emits zero, and one without fan-out fans out by ones."""
    size = weight.shape[1]
    none, one = weight.new_zeros(1), weight.new_ones(1)
    if not isinstance(neuromodulator, Neuromodulator):
        return Signal(none.expand(size), none, one.expand(size), none.expand(size), SQUASH["identity"])
    fan, base = one.expand(size), none.expand(size)
    if neuromodulator.fan_weight is not None and neuromodulator.fan_bias is not None:
        fan, base = neuromodulator.fan_weight.reshape(size), neuromodulator.fan_bias
    squash = SQUASH[neuromodulator.nonlinearity]
    return Signal(neuromodulator.weight.reshape(size), neuromodulator.bias, fan, base, squash)


def rate(rule: PlasticityRule, like: Tensor) -> Float[Tensor, "1"]:
    """Return the trained rate of a rule; zero for a rule without one."""
    return getattr(rule, "eta", like.new_zeros(1)).reshape(1)


def coefficients_of(alpha: Tensor | LowRank, size: int) -> Tensor:
    """Return plasticity coefficients for each connection or each of the receiving units."""
    alpha = alpha.dense() if isinstance(alpha, LowRank) else alpha
    return alpha.expand(size) if alpha.dim() == 0 else alpha


def eligibility_of(state: RuleState) -> Tensor:
    """Return the eligibility traces; nothing for a rule without."""
    return state.eligibility if isinstance(state, EligibilityState) else state.trace.new_empty(0)


def state_of(trace: Tensor, eligibility: Tensor) -> RuleState:
    """Return the state of a rule of what an operator returns."""
    return TraceState(trace) if eligibility.dim() == 1 else EligibilityState(trace, eligibility)


def refuse(reason: str | None) -> None:
    """Raise ValueError where there is a reason why no kernel can run what it is asked for."""
    if reason is not None:
        raise ValueError(f"backend = 'fused': {reason}")


def unsupported_rule(rule: PlasticityRule | None) -> str | None:
    """Return why no kernel can run a rule, as an error should say it; None if they can."""
    # A subclass may have changed anything, so that it is asked for a declaration of its own.
    if rule is None or "forgets" not in vars(type(rule)):
        names = "Hebb, Oja, ClippedHebb, Modulated, Retroactive, or a rule whose own class declares what it forgets"
        return f"rule = {rule}: expected {names}"
    if rule.recursion == "own" or rule.forgets is None:
        return f"rule = {rule}: expected only_half=False, strict=False and, of a retroactive rule, mode='clip'"
    return None


def unsupported_input(drive: Tensor, devices: tuple[str, ...] = ("cpu",)) -> str | None:
    """Return why no kernel can run on such a tensor, as an error should say it; None if they can."""
    if drive.device.type not in devices:
        return f"input.device = {drive.device}: expected {' or '.join(devices)}"
    if drive.dtype not in (torch.float32, torch.float64):
        return f"input.dtype = {drive.dtype}: expected torch.float32 or torch.float64"
    return None


def unsupported_modulation(rule: PlasticityRule, neuromodulator: Any) -> str | None:
    """Return why no kernel can run a rule with a neuromodulator, as an error should say it; None if they can."""
    if neuromodulator is not None and type(neuromodulator) is not Neuromodulator:
        return f"neuromodulator is a {type(neuromodulator).__name__}: expected a Neuromodulator, and no subclass"
    if (neuromodulator is None) == rule.modulated:
        return f"neuromodulator = {neuromodulator}: expected {'one' if rule.modulated else 'None'} for {rule}"
    return None


def transformed(*given: Tensor | nn.Module | Iterable[Tensor] | None) -> str | None:
    """Return why an operator cannot run where a transform of ``torch.func`` is at work on a tensor; None if none is."""
    if torch.compiler.is_compiling() or all(torch.func.debug_unwrap(t) is t for g in given for t in _tensors(g)):
        return None
    return "expected a call that no transform of torch.func is at work on; backend = 'auto' can be transformed"


def _tensors(given: Tensor | nn.Module | Iterable[Tensor] | None) -> Iterable[Tensor]:
    if isinstance(given, nn.Module):
        return given.parameters(recurse=False)
    return [given] if isinstance(given, Tensor) else given or ()
