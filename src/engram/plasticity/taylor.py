"""A rule given by the terms of a Taylor series in input, activity, weight and signal; the form of inferred rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from operator import mul
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from engram import checks
from engram.plasticity.clipped_hebb import ClippedHebb
from engram.plasticity.hebb import Hebb
from engram.plasticity.instar import Instar
from engram.plasticity.oja import Oja
from engram.plasticity.rule import Coefficients, PlasticityRule, bounded, checked_bound, of_connections
from engram.plasticity.state import RuleState, TraceState

VARIABLES = "xywm"
MOST = 3  # the largest exponent
SERIES: dict[type[PlasticityRule], dict[str, float]] = {
    Hebb: {"x y": 1.0, "w": -1.0},
    Oja: {"x y": 1.0, "y^2 w": -1.0},
    Instar: {"x y": 1.0, "y w": -1.0},
    ClippedHebb: {"x y": 1.0},
}


class Exponents(NamedTuple):
    """The exponents of a term x^a y^b w^c m^d."""

    x: int = 0
    y: int = 0
    w: int = 0
    m: int = 0

    @classmethod
    def of(cls, term: str) -> Exponents:
        """The exponents of a named term, such as ``"x y"``, ``"y^2 w"`` or ``"1"``.

        Raises:
            ValueError: The term is not a product of x, y, w and m with exponents from 1 to 3, each at most once.

        Examples:
            >>> Exponents.of("y^2 w")
            Exponents(x=0, y=2, w=1, m=0)
        """
        powers: dict[str, int] = {}
        for factor in [] if term == "1" else term.split(" "):
            match = re.fullmatch(rf"([{VARIABLES}])(?:\^([1-{MOST}]))?", factor)
            if match is None or match[1] in powers:
                raise ValueError(
                    f"term = {term!r}: expected '1' or different ones of x, y, w and m, with exponents of at most "
                    f"{MOST} and spaces between them, as in 'y^2 w'"
                )
            powers[match[1]] = int(match[2] or 1)
        return cls(**powers)

    @property
    def name(self) -> str:
        """The name of the term, its factors in the order x, y, w, m."""
        factors = [v if k == 1 else f"{v}^{k}" for v, k in zip(VARIABLES, self, strict=True) if k]
        return " ".join(factors) or "1"


class TaylorRule(PlasticityRule):
    """A rule given by the terms of a Taylor series in input x, activity y, weight w and modulatory signal m.

        H'[j, i] = clip(H[j, i] + eta sum over terms of theta x[i]^a y[j]^b H[j, i]^c m[j]^d, -c, c)

    Many known rules have this form (``from_rule``), and ``engram.learned.PlasticityRuleInference`` finds one in data.
    If each term contains either x once and not w, or w once and not x, the recursion is linear and runs in kernels.
    Other rules run step by step, and nothing bounds them but ``clip``: outside the activity from which a rule was
    inferred its trace may grow without limit.

    Args:
        coefficients: theta by the names of the terms, such as ``{"x y": 1, "y^2 w": -1}``, which is Oja's rule and the
            default. ``"1"`` is the constant term; exponents are at most 3. Each is a scalar parameter.
        eta: Factor of all terms, a constant, since eta and theta are one scale.
        clip: Bound c of the trace; None: no bound.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Attributes:
        theta: The parameters by the names of their terms.
        modulated: Whether a term contains m.

    Raises:
        ValueError: There is no term, two names are of one term, a name is not a product of x, y, w and m, or a number
            is not finite.

    Source: Mehta, Tyulmankov, Rajagopalan, Turner, Fitzgerald and Funke, "Model-based inference of synaptic plasticity
    rules" (2024), where the series is called a Volterra expansion; the signal and the activity together are ours.

    Examples:
        >>> rule = TaylorRule({"x y": 1.0, "y^2 w": -1.0}, eta=0.5)
        >>> rule.update(rule.init(1, 2, 1), pre=torch.tensor([[1.0]]), post=torch.tensor([[2.0, 0.0]])).trace.tolist()
        [[[1.0], [0.0]]]
    """

    def __init__(
        self,
        coefficients: Mapping[str, float] | None = None,
        eta: float = 0.01,
        clip: float | None = None,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        checks.arguments()
        super().__init__(device, dtype)
        given = SERIES[Oja] if coefficients is None else coefficients
        terms = {Exponents.of(name): checks.number(f"coefficients[{name!r}]", value) for name, value in given.items()}
        if not terms or len(terms) < len(given):
            raise ValueError(f"coefficients = {dict(given)}: expected at least one term, and each term once")
        self.clip = checked_bound(clip)
        self.theta = nn.ParameterDict()  # which would sort a mapping that it is given
        for term, value in terms.items():
            theta = torch.tensor(value, device=device, dtype=dtype or torch.get_default_dtype())
            self.theta[term.name] = nn.Parameter(theta)
        rate = torch.tensor(checks.number("eta", eta), device=device, dtype=dtype or torch.get_default_dtype())
        self.register_buffer("eta", rate)
        self.terms = tuple(terms)
        self.modulated = any(term.m for term in terms)
        linear = all((term.x, term.w) in {(1, 0), (0, 1)} for term in terms)
        self.recursion = "linear" if linear else "own"

    @classmethod
    def from_rule(cls, rule: PlasticityRule) -> TaylorRule:
        """The same rule as a series, with its rate, bound, device and dtype: of Hebb, Oja, Instar or ClippedHebb.

        Raises:
            TypeError: The rule is of another class, or has a rate for each connection.

        Examples:
            >>> TaylorRule.from_rule(Hebb(eta=0.05)).extra_repr()
            '0.05 (x y - w)'
        """
        series = SERIES.get(type(rule))
        if series is None or rule.eta.dim():
            known = ", ".join(kind.__name__ for kind in SERIES)
            raise TypeError(f"rule = {rule}: expected one of {known}, with one rate for all connections")
        return cls(series, rule.eta.item(), rule.clip, device=rule.eta.device, dtype=rule.eta.dtype)

    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """D = -eta sum theta y^b m^d over the terms with w, M = eta, z = sum theta y^b m^d over those with x.

        With a signal for every connection, M is eta times the second sum, and z = 1.

        Raises:
            TypeError: The recursion is not linear.
            ValueError: A term contains m, and there is no signal.
        """
        checks.instance("post", post, Tensor)
        if modulator is not None:
            checks.instance("modulator", modulator, Tensor)
        if self.recursion != "linear":
            raise TypeError(f"{self} has terms that are not linear in x or w, so it has no coefficients")
        if self.modulated and modulator is None:
            raise ValueError("modulator = None: expected a tensor, because a term of the rule contains m")
        of_connection = modulator is not None and modulator.dim() == 3
        post_power = post.unsqueeze(2) if of_connection else post
        growth = torch.zeros_like(post_power if modulator is None else post_power * modulator)
        decay = growth
        for term in self.terms:
            added = self.theta[term.name] * _power(post_power, term.y)
            added = added if modulator is None else added * _power(modulator, term.m)
            growth, decay = (growth + added, decay) if term.x else (growth, decay - added)
        if of_connection:
            return Coefficients(self.eta * decay, self.eta * growth, torch.ones_like(post))
        return Coefficients(self.eta * decay, self.eta, growth)

    def update(self, state: RuleState, pre: Tensor, post: Tensor, modulator: Tensor | None = None) -> RuleState:
        """The state after one step; see ``PlasticityRule.update``.

        Args:
            state: The state before the step.
            pre: Presynaptic activity, (batch, pre).
            post: Postsynaptic activity, (batch, post).
            modulator: Neuromodulatory signal m, (batch, 1), (batch, post) or (batch, post, pre).
        """
        if self.recursion == "linear":
            return super().update(state, pre, post, modulator)
        self.check_step(state, pre, post, modulator)
        signal = None if modulator is None else of_connections(modulator)
        variables = pre.unsqueeze(1), post.unsqueeze(2), state.trace, signal
        trace = state.trace
        for term in self.terms:
            powers = [_power(v, k) for v, k in zip(variables, term, strict=True) if v is not None and k]
            trace = trace + reduce(mul, powers, self.eta * self.theta[term.name])
        return TraceState(bounded(trace, self.clip))

    def extra_repr(self) -> str:
        """The series as ``repr`` shows it."""
        parts = []
        for term in self.terms:
            value = self.theta[term.name].item()
            factors = [f"{abs(value):.4g}"] * (abs(value) != 1 or term.name == "1") + [term.name] * (term.name != "1")
            parts.append(f"{'-' if value < 0 else '+'} {' '.join(factors)}")
        text = " ".join(parts).removeprefix("+ ")
        return f"{self.eta.item():.4g} ({text})" + ("" if self.clip is None else f", clip={self.clip}")


def _power(base: Tensor, exponent: int) -> Tensor:
    """The power as products, since ``pow`` is slow and has no gradient at 0^0; 1 if the exponent is 0."""
    return reduce(mul, [base] * exponent) if exponent else torch.ones_like(base)
