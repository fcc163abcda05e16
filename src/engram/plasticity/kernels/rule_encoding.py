"""Encoding of rules and neuromodulators as numbers for the kernels, and the reasons why kernels cannot run some."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.nn.hooks import alteration
from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels.constants import FIXED, FORGETS, NOTHING, RECURSIONS, SQUASH
from engram.plasticity.neuromodulator import Neuromodulator
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.state import EligibilityState, RuleState, TraceState


def rule_numbers(rule: PlasticityRule | None) -> tuple[int, float, bool, int]:
    """Recursion, bound, ``trace_first`` and forgetting of a rule that ``unsupported_rule`` accepts, or of none."""
    if rule is None:
        return FIXED, math.inf, False, NOTHING
    assert rule.forgets is not None
    return RECURSIONS[rule.recursion], bound_of(rule), getattr(rule, "trace_first", False), FORGETS[rule.forgets]


def bound_of(rule: PlasticityRule) -> float:
    """The bound of a rule's traces, infinite for one without."""
    return math.inf if rule.clip is None else rule.clip


def recurrent(
    weight: Float[Tensor, "_ hidden"],
    alpha: Tensor | LowRank | None,
    rule: PlasticityRule | None,
    neuromodulator: nn.Module | None,
) -> tuple[list[Tensor], int]:
    """Weight, alpha, eta, v, v0, fan and base of a recurrent layer, and the numeric code of f.

    If there is no neuromodulator, f(v . y + v0), it is encoded as one that emits zero; if it has no fan-out, as one
    that fans out with weights of 1.

    Args:
        weight: Fixed weights W.
        alpha: Plasticity coefficients, or None.
        rule: The plasticity rule, or None.
        neuromodulator: The module that modulates it, or None.
    """
    size = weight.shape[1]
    zero, one = weight.new_zeros(1), weight.new_ones(1)
    v, v0, fan, base, squash = zero.expand(size), zero, one.expand(size), zero.expand(size), SQUASH["identity"]
    if isinstance(neuromodulator, Neuromodulator):
        v, v0, squash = neuromodulator.weight.reshape(size), neuromodulator.bias, SQUASH[neuromodulator.nonlinearity]
        if neuromodulator.fan_weight is not None and neuromodulator.fan_bias is not None:
            fan, base = neuromodulator.fan_weight.reshape(size), neuromodulator.fan_bias
    coefficients = zero.expand(size) if alpha is None else coefficients_of(alpha, size)
    return [weight, coefficients, rate(rule, weight), v, v0, fan, base], squash


def rate(rule: PlasticityRule | None, like: Tensor) -> Float[Tensor, "1"]:
    """The trained rate of a rule; zero for a rule without one, or for none."""
    return getattr(rule, "eta", like.new_zeros(1)).reshape(1)


def coefficients_of(alpha: Tensor | LowRank, size: int) -> Tensor:
    """Plasticity coefficients for each connection or for each receiving unit."""
    alpha = alpha.dense() if isinstance(alpha, LowRank) else alpha
    return alpha.expand(size) if alpha.dim() == 0 else alpha


def traces_of(state: RuleState) -> tuple[Tensor, Tensor]:
    """The Hebbian and the eligibility traces; for a rule without the latter, an empty tensor in their place."""
    return state if isinstance(state, EligibilityState) else (state.trace, state.trace.new_empty(0))


def state_of(trace: Tensor, eligibility: Tensor) -> RuleState:
    """The state of a rule from the return values of an operator."""
    return TraceState(trace) if eligibility.dim() == 1 else EligibilityState(trace, eligibility)


def unsupported_rule(rule: PlasticityRule | None) -> str | None:
    """Why no kernel can run a rule, as part of an error message; None if a kernel can."""
    # A subclass may have changed anything, so it needs its own declaration.
    if rule is None or "forgets" not in vars(type(rule)):
        names = "Hebb, Oja, ClippedHebb, Modulated, Retroactive, or a rule whose own class declares what it forgets"
        return f"rule = {rule}: expected {names}"
    for name in ("coefficients", "update"):
        if name in vars(rule):
            return f"rule = {rule} has its own {name!r}: expected those of its class"
    if rule.recursion == "own" or rule.forgets is None:
        return f"rule = {rule}: expected only_half=False, strict=False and, of a retroactive rule, mode='clip'"
    if rule.recursion == "soft" and rule.forgets != "nothing":  # which the kernels would leave out
        return f"forgets = {rule.forgets!r} of {rule}: expected 'nothing' with recursion = 'soft'"
    if getattr(getattr(rule, "eta", None), "ndim", 0) > 0:
        return f"rule = {rule}: expected connections=None"
    return None


def unsupported_input(drive: Tensor, devices: tuple[str, ...] = ("cpu",)) -> str | None:
    """Why no kernel can run on such a tensor, as part of an error message; None if a kernel can."""
    if drive.device.type not in devices:
        return f"input.device = {drive.device}: expected {' or '.join(devices)}"
    if drive.dtype not in (torch.float32, torch.float64):
        return f"input.dtype = {drive.dtype}: expected torch.float32 or torch.float64"
    return None


def unsupported_modulation(rule: PlasticityRule | None, neuromodulator: Any) -> str | None:
    """Why no kernel can run a rule with a neuromodulator, as part of an error message; None if a kernel can.

    Raises:
        ValueError: The neuromodulator has hooks, or a forward of its own.
    """
    if neuromodulator is not None and (reason := alteration(neuromodulator)):
        raise ValueError(f"neuromodulator {reason}, which kernels do not call: expected none, or backend = 'eager'")
    if neuromodulator is not None and type(neuromodulator) is not Neuromodulator:
        return f"neuromodulator is a {type(neuromodulator).__name__}: expected a Neuromodulator, and no subclass"
    if getattr(neuromodulator, "fan_out", False) == "connection":
        return f"neuromodulator = {neuromodulator}: expected fan_out=True or False"
    if rule is not None and (neuromodulator is None) == rule.modulated:
        return f"neuromodulator = {neuromodulator}: expected {'one' if rule.modulated else 'None'} for {rule}"
    return None


def transformed(*arguments: Tensor | nn.Module | Iterable[Tensor] | None) -> str | None:
    """Why an operator cannot run, if a transform of ``torch.func`` is applied to an argument; else None."""
    if torch.compiler.is_compiling() or all(torch.func.debug_unwrap(t) is t for g in arguments for t in _tensors(g)):
        return None
    return "expected a call that no transform of torch.func is at work on; backend = 'auto' can be transformed"


def _tensors(argument: Tensor | nn.Module | Iterable[Tensor] | None) -> Iterable[Tensor]:
    if isinstance(argument, nn.Module):
        return argument.parameters(recurse=False)
    return [argument] if isinstance(argument, Tensor) else argument or ()
