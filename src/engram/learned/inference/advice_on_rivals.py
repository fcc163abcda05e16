"""What to make of rules that fit about as well, in words: what is certain, and which inputs would tell them apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from engram.learned.inference.averaging import Rival, Rivals
from engram.learned.inference.fitting import Data, Fit, loss_of
from engram.learned.inference.levenberg_marquardt import Problem, levenberg_marquardt
from engram.learned.inference.model import Model
from engram.learned.inference.profile_likelihood import designs
from engram.learned.inference.selection import AMBIGUOUS

NAMED = 6  # rivals that a report lists
COMPARED = 2  # rivals whose predictions it compares with those of the selected rule
ODDS = 20.0  # to one, at which two rules count as told apart
HOPELESS = 1000  # sessions that are no advice
STEPS = 20  # of the search of a fit to expected data
THIRDS = ("first", "middle", "last")


class Difference(NamedTuple):
    """Where the predictions of two rules differ at the recorded inputs.

    Attributes:
        whole: Root mean square of the difference, over all that was recorded.
        thirds: The same in the first, middle and last third of the sessions.
        unit: The unit where it is largest, and its share of the sum of squares; None for a single prediction a step.
    """

    whole: float
    thirds: tuple[float, float, float]
    unit: tuple[int, float] | None


def difference(data: Data, ours: Float[np.ndarray, "row step"], theirs: Float[np.ndarray, "row step"]) -> Difference:
    """The difference of two predictions.

    Args:
        data: What was fitted.
        ours: Predictions of activity, or probabilities of choice 1.
        theirs: The same of the other rule.
    """
    seen = ~np.isnan(data.observed)
    squares = np.where(seen, (ours - theirs) ** 2, 0.0)
    # Of a step, the share of its session that has passed; sessions may differ in length.
    ends = np.where(seen.any(axis=1), seen.shape[1] - np.argmax(seen[:, ::-1], axis=1), 1)
    third = np.minimum(3 * np.arange(seen.shape[1]) // ends[:, None], 2)
    parts = [float(squares[(third == k) & seen].mean()) if ((third == k) & seen).any() else 0.0 for k in range(3)]
    of_units = np.bincount(data.unit, squares.sum(axis=1))
    largest, total = int(of_units.argmax()), float(of_units.sum())
    unit = (largest, float(of_units[largest] / total)) if np.unique(data.unit).size > 1 and total else None
    first, middle, last = np.sqrt(parts).tolist()
    return Difference(float(np.sqrt(squares[seen].mean())), (first, middle, last), unit)


def sessions_needed(data: Data, true: tuple[Model, Fit], other: tuple[Model, Fit]) -> dict[str, float]:
    """By inputs, how many new sessions would make one of two rules twenty times as likely as the other, if it is true.

    The expected data of the first rule are fitted with the terms of the second, first weights, if unknown, too; what
    its log-likelihood still lacks, a session, is what tells the two apart. NaN where a run diverges.

    Args:
        data: What was fitted; choices so far and signals stay as they were.
        true: The first rule and its fit.
        other: The second.
    """
    (model, fit), (rival, start), needed = true, other, {}
    for name, inputs in designs(data.rows.inputs).items():
        rows = data.rows._replace(inputs=inputs, initial=fit.initial)
        path = model.run(fit.theta, rows)
        needed[name] = float("nan")
        if path is None:
            continue
        expected = np.where(np.isnan(data.observed), np.nan, _as_probability(data, path.activity))
        loss = loss_of(data._replace(observed=expected), fit.variance)
        problem = Problem(rival, rows, loss, data.block, data.size)
        if not np.isfinite(problem.value(start.theta, start.initial)):
            continue
        end = levenberg_marquardt(problem, start.theta, start.initial, STEPS, tol=1e-6)
        lacking = (end.loss - loss.value(path.activity)) / len(np.unique(data.session))
        needed[name] = float(np.log(ODDS) / lacking) if lacking > 0 else np.inf
    return needed


def sessions_to_tell_apart(data: Data, one: tuple[Model, Fit], other: tuple[Model, Fit]) -> dict[str, float]:
    """By inputs, how many new sessions would tell two rules apart, whichever is true.

    Of two rules of which one has all terms of the other, only the larger one can be shown to be true.

    Args:
        data: What was fitted.
        one: A rule and its fit.
        other: Another one.
    """
    terms, others = set(one[0].names), set(other[0].names)
    by = [sessions_needed(data, one, other)] if not terms <= others else []
    by += [sessions_needed(data, other, one)] if not others <= terms else []
    return {name: max(each[name] for each in by) for name in by[0]}


def lines_on_rivals(rivals: Rivals, data: Data, criterion: str) -> list[str]:
    """The lines of a report: which rules fit about as well, what they share, where they differ, and what would tell.

    Args:
        rivals: The rules that were fitted.
        data: What was fitted.
        criterion: The name of the criterion.
    """
    if not rivals.rules:
        return []
    (best, *others), equal, name = rivals.rules, rivals.equal, criterion.upper()
    if len(equal) == 1:
        next_ = (
            f"; the next, {_terms(others[0])}, is {others[0].criterion - best.criterion:.1f} above" if others else ""
        )
        return [f"no other rule is within {AMBIGUOUS:g} units of its {name}{next_}"]
    lines = [f"{len(equal)} rules fit about as well, within {AMBIGUOUS:g} units of the {name}; the data do not decide:"]
    width = max(len(_terms(each)) for each in equal[:NAMED])
    lines += [
        f"  {_terms(each):{width}}   {name} +{each.criterion - best.criterion:.1f}, weight {each.weight:.2f}"
        for each in equal[:NAMED]
    ]
    if len(equal) > NAMED:
        lines.append(f"  and {len(equal) - NAMED} more, see rivals_")
    shared = [term for term in best.coefficients if all(term in each.coefficients for each in equal)]
    doubtful = dict.fromkeys(term for each in equal for term in each.coefficients if term not in shared)
    lines.append(f"in all of them: {', '.join(shared) or 'no term'}; in some only: {', '.join(doubtful)}")
    lines.append("say of the latter that the data allow them, not that they show them; averaged over rivals these are")
    for term in doubtful:
        mean, low, high, weight = rivals.averages[term]
        lines.append(f"  {term}: {mean:.3f} [{low:.3f}, {high:.3f}], weight {weight:.2f}")
    for rival, fitted_to in list(zip(equal, rivals.fits, strict=False))[1 : 1 + COMPARED]:
        lines += _compared(data, rivals.fits[0], fitted_to, _terms(rival))
    return lines


def _compared(data: Data, ours: tuple[Model, Fit], theirs: tuple[Model, Fit], terms: str) -> list[str]:
    paths = [model.run(fit.theta, data.rows._replace(initial=fit.initial)) for model, fit in (ours, theirs)]
    first, second = (_as_probability(data, path.activity) for path in paths if path is not None)
    apart = difference(data, first, second)
    if data.binary:
        said = f"predicts probabilities of choice that differ by {apart.whole:.2g}"
    else:
        share = apart.whole / np.sqrt(ours[1].variance.mean())
        said = f"predicts activity that differs by {100 * share:.2g} % of the noise"
    third = int(np.argmax(apart.thirds))
    where = f", most in the {THIRDS[third]} third of sessions ({apart.thirds[third]:.2g})" if apart.whole else ""
    if apart.unit is not None and apart.unit[1] > 2 / len(np.unique(data.unit)):
        where += f" and in unit {apart.unit[0]}"
    lines = [f"{terms} {said}{where}"]
    needed = sessions_to_tell_apart(data, ours, theirs)
    useful = sorted((count, name) for name, count in needed.items() if count < HOPELESS)
    extra = [*set(ours[0].names) ^ set(theirs[0].names)]
    nested = set(ours[0].names) < set(theirs[0].names) or set(theirs[0].names) < set(ours[0].names)
    would = f"would show {', '.join(sorted(extra))}, if needed," if nested else "would tell the two apart"
    if not useful:
        return [*lines, f"  no inputs that were tried {would} in a thousand sessions"]
    count, name = useful[0]
    others = f"; as recorded {_sessions(needed['as recorded'])}" if name != "as recorded" else ", and no others sooner"
    return [*lines, f"  inputs {name} {would} (20 to 1) in about {_sessions(count)}{others}"]


def _terms(rival: Rival) -> str:
    return " + ".join(rival.coefficients) or "no change"


def _sessions(count: float) -> str:
    if not count < HOPELESS:
        return "more than a thousand sessions"
    whole = max(1, int(np.ceil(count)))
    return f"{whole} session{'s' * (whole > 1)}"


def _as_probability(data: Data, predicted: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * predicted)) if data.binary else predicted
