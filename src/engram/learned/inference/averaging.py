"""Rules that fit about as well as the selected one: their weights, and coefficients averaged over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from engram.learned.inference.fitting import Fit, intervals
from engram.learned.inference.model import Model
from engram.learned.inference.selection import AMBIGUOUS, NEARBY, Selection

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HALVINGS = 60
SHOWN = 30
DARK, LIGHT = "#0072B2", "#56B4E9"  # of Okabe and Ito's colours, which colour-blind readers can distinguish


class Rival(NamedTuple):
    """A rule that was fitted in a selection, within six units of the smallest criterion.

    Attributes:
        coefficients: theta by the name of each term.
        intervals: (low, high) of each, in which theta lies with 95 % if these are the right terms.
        criterion: -2 log likelihood plus the price of the terms.
        weight: exp(-criterion / 2) as a share of the sum over all rivals: for the BIC, about the probability of each if
            one of them is right and all were as likely before.
    """

    coefficients: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    criterion: float
    weight: float


class Averaged(NamedTuple):
    """A coefficient averaged over rivals; it is zero in those without its term.

    Attributes:
        coefficient: The mean by weight.
        low, high: The 95 % interval over all rivals: it holds whichever of them is right.
        weight: The summed weight of the rivals with the term.
    """

    coefficient: float
    low: float
    high: float
    weight: float


def weights_of(criteria: Sequence[float]) -> Float[np.ndarray, " rival"]:
    """exp(-criterion / 2) of each, as a share of their sum.

    Args:
        criteria: The criterion of each rival.

    Source: Burnham and Anderson, "Multimodel inference: understanding AIC and BIC in model selection" (2004).

    Examples:
        >>> weights_of([100.0, 102.0]).round(3).tolist()
        [0.731, 0.269]
    """
    values = np.asarray(criteria, dtype=float)
    shares: np.ndarray = np.exp((values.min() - values) / 2)
    weights: np.ndarray = shares / shares.sum()
    return weights


def average(
    theta: Float[np.ndarray, " rival"],
    errors: Float[np.ndarray, " rival"],
    weights: Float[np.ndarray, " rival"],
    confidence: float,
) -> Averaged:
    """The mean and interval of a coefficient whose distribution is a mixture of a normal one for each rival.

    P(coefficient <= v) = sum over rivals of weight Phi((v - theta) / error), a step at zero for those without the term

    Args:
        theta: The coefficient in each rival, NaN in those without its term.
        errors: Its standard error in each; any number in those without.
        weights: The weight of each rival.
        confidence: How often the interval should contain the coefficient.

    Source: Hoeting, Madigan, Raftery and Volinsky, "Bayesian model averaging: a tutorial" (1999).

    Examples:
        >>> one = average(np.array([2.0]), np.array([0.5]), np.ones(1), 0.95)
        >>> round(one.low, 2), round(one.high, 2)
        (1.02, 2.98)
        >>> average(np.array([2.0, np.nan]), np.array([0.5, 1.0]), np.array([0.9, 0.1]), 0.95).low
        0.0
    """
    present = ~np.isnan(theta)
    known, spread, shares = theta[present], errors[present], weights[present]
    absent = float(weights[~present].sum())
    ends = []
    for level in ((1 - confidence) / 2, (1 + confidence) / 2):
        vague = ~np.isfinite(spread)
        if shares[vague].sum() / 2 > min(level, 1 - level):
            ends.append(np.inf if level > 0.5 else -np.inf)
            continue
        reach = 10 * float(spread[~vague].max(initial=0.0)) + 1.0
        low, high = float(known.min(initial=0.0)) - reach, float(known.max(initial=0.0)) + reach
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = shares @ stats.norm.cdf(middle, known, np.maximum(spread, np.finfo(float).tiny))
            if below + absent * (middle >= 0) < level:
                low = middle
            else:
                high = middle
        # The step at zero is met from both sides to within rounding.
        ends.append(0.0 if abs(high) < 1e-12 * reach else high)
    return Averaged(float(np.nansum(weights * theta)), ends[0], ends[1], float(shares.sum()))


class Rivals(NamedTuple):
    """All rules that were fitted within six units of the smallest criterion.

    Attributes:
        rules: The rules, the best first.
        averages: Every coefficient that occurs in one, averaged over all.
        fits: Their models and fits.
    """

    rules: tuple[Rival, ...]
    averages: dict[str, Averaged]
    fits: tuple[tuple[Model, Fit], ...]

    @property
    def equal(self) -> tuple[Rival, ...]:
        """Those within two units, which are not to be told from the best one."""
        return tuple(rule for rule in self.rules if rule.criterion <= self.rules[0].criterion + AMBIGUOUS)


def rivals_of(selection: Selection | None, confidence: float) -> Rivals:
    """The rules that were fitted in a selection, their weights, and coefficients averaged over them.

    Args:
        selection: The search; None: there was none.
        confidence: Of the intervals.
    """
    if selection is None:
        return Rivals((), {}, ())
    names, near, rules = selection.model.names, selection.near(NEARBY), []
    weights = weights_of([each.criterion for each in near])
    theta, errors = np.full((2, len(near), len(names)), np.nan)
    for number, (support, criterion, fit) in enumerate(near):
        own = [names[k] for k in support]
        ends = by_name(own, intervals(selection.data, fit, confidence))
        rules.append(Rival(dict(zip(own, fit.theta.tolist(), strict=True)), ends, criterion, float(weights[number])))
        theta[number, list(support)], errors[number, list(support)] = fit.theta, fit.standard_errors
    averages = {
        name: average(theta[:, place], errors[:, place], weights, confidence)
        for place, name in enumerate(names)
        if not np.isnan(theta[:, place]).all()
    }
    return Rivals(tuple(rules), averages, tuple((selection.model.part(each.support), each.fit) for each in near))


def by_name(names: Sequence[str], ends: Float[np.ndarray, "part 2"]) -> dict[str, tuple[float, float]]:
    """Intervals by the name of their coefficient."""
    return {name: (low, high) for name, (low, high) in zip(names, ends.tolist(), strict=True)}


def rivals_figure(rivals: Sequence[Rival], criterion: str) -> Figure:
    """The rules by their criterion over that of the best, with their weights; those within two units are dark.

    Args:
        rivals: The rules, the best first.
        criterion: The name of the criterion.
    """
    import plotly.graph_objects as go

    shown = rivals[:SHOWN]
    behind = np.array([each.criterion - rivals[0].criterion for each in shown])
    names = [" + ".join(each.coefficients) or "no change" for each in shown]
    plot = go.Figure(
        layout={
            "title": f"{len(rivals)} rules within {NEARBY:g} units of the smallest {criterion.upper()}",
            "xaxis_title": f"{criterion.upper()} above the smallest",
            "yaxis": {"autorange": "reversed", "automargin": True},
        }
    )
    plot.add_scatter(
        x=behind,
        y=names,
        mode="markers+text",
        text=[f"{each.weight:.2f}" for each in shown],
        textposition="middle right",
        marker={"size": 12, "color": np.where(behind <= AMBIGUOUS, DARK, LIGHT).tolist()},
        hovertext=["<br>".join(f"{name} {theta:.3f}" for name, theta in each.coefficients.items()) for each in shown],
        name="weight",
    )
    return plot.add_vline(AMBIGUOUS, line_dash="dot", annotation_text="no preference to the left")
