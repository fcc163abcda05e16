"""Exploration: policies over the values of actions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from engram import checks

ActionValues = Float[np.ndarray, "actions"]


@runtime_checkable
class Exploration(Protocol):
    """A policy that chooses an action from the values of all actions."""

    def __call__(self, values: ActionValues, step: int, rng: np.random.Generator) -> int:
        """The index of the chosen action.

        Args:
            values: Value of each action, (actions,).
            step: Number of steps before this one, from 0.
            rng: Source of all randomness.
        """


def greedy(values: ActionValues, rng: np.random.Generator) -> int:
    """The action with the largest value; a random one of them if there are several; ValueError if one is NaN.

    Examples:
        >>> greedy(np.array([1.0, 3.0, 2.0]), np.random.default_rng(0))
        1
    """
    numbers = values.tolist()
    best = max(numbers)
    if not all(number <= best for number in numbers):
        raise ValueError(f"values = {values}: expected no NaN")
    if numbers.count(best) == 1:
        return int(numbers.index(best))
    return int(rng.choice(np.flatnonzero(values == best)))


@dataclass(frozen=True)
class EpsilonGreedy:
    """Epsilon-greedy: a random action with probability epsilon, which is 1 at first and then falls linearly.

    Args:
        final: Epsilon from step ``end`` on, from 0 to 1.
        start: Last step at which epsilon is 1.
        end: Step at which epsilon reaches ``final``; not before ``start``.

    Source: Agostinelli et al. (2019), code; its final epsilon is 0.005 for MFEC, 0.001 for NEC.

    Examples:
        >>> EpsilonGreedy(final=0.005).epsilon(15_000)
        0.5025
    """

    final: float = 0.005
    start: int = 5000
    end: int = 25_000

    def __post_init__(self) -> None:
        checks.arguments()
        checks.number("final", self.final, minimum=0, maximum=1)
        if not 0 <= self.start <= self.end:
            raise ValueError(f"start = {self.start}, end = {self.end}: expected 0 <= start <= end")

    def epsilon(self, step: int) -> float:
        """Epsilon after ``step`` steps."""
        if checks.size("step", step, minimum=0, maximum=None) <= self.start:
            return 1.0
        remaining = max(0.0, (self.end - step) / (self.end - self.start)) if step < self.end else 0.0
        return self.final + (1 - self.final) * remaining

    def __call__(self, values: ActionValues, step: int, rng: np.random.Generator) -> int:
        """The index of the chosen action; ValueError unless ``values`` are (actions,), at least one."""
        if values.ndim != 1 or not len(values):
            raise ValueError(f"values.shape = {values.shape}: expected (actions,), of one action at least")
        if rng.random() < self.epsilon(step):
            return int(rng.integers(len(values)))
        return greedy(values, rng)


@dataclass(frozen=True)
class MaxEntMellowmax:
    """The most random policy whose expected value is the mellowmax of all values.

        mm = log(mean_a exp(omega q_a)) / omega
        sum_a exp(beta (q_a - mm)) (q_a - mm) = 0,  pi = softmax(beta q)

    Values that all lie within 0.001 of mm count as equal; an action of value -inf is never taken.

    Args:
        omega: Above 0; the larger, the greedier.

    Source: Asadi and Littman, "An alternative softmax operator for reinforcement learning" (2017); used with episodic
    control by Sarrico et al. (2019, arXiv 1911.09615), with omega from 25 to 60 by game and beta within [-100, 100].

    Examples:
        >>> MaxEntMellowmax(omega=5.0).probabilities(np.array([1.0, 1.0])).tolist()
        [0.5, 0.5]
    """

    omega: float = 25.0

    def __post_init__(self) -> None:
        checks.number("omega", self.omega, above=0)

    def probabilities(self, values: ActionValues) -> ActionValues:
        """The probability of each action; ValueError if none is possible, or a value is NaN or infinite."""
        from scipy.special import logsumexp, softmax  # takes as long to import as all of engram.agents

        checks.instance("values", values, np.ndarray)
        if values.ndim != 1 or not (values < np.inf).all():
            raise ValueError(f"values = {values}: expected one for each action, not NaN or infinite")
        possible = ~np.isneginf(values)
        if not possible.any():
            raise ValueError(f"values = {values}: expected at least one above -inf")
        if not possible.all():  # an action of value -inf is never taken
            probabilities = np.zeros(len(values))
            probabilities[possible] = self.probabilities(values[possible])
            return probabilities
        mellowmax = (logsumexp(self.omega * values) - math.log(len(values))) / self.omega
        advantages = values - mellowmax
        if (np.abs(advantages) < 1e-3).all():
            return np.full(len(values), 1 / len(values))

        from scipy.optimize import brentq

        def excess(beta: float) -> float:
            scaled = beta * advantages
            return float(np.sum(np.exp(scaled - scaled.max()) * advantages))  # the root of the equation, no overflow

        # For a large omega the root may lie beyond the published interval; its end is then the greediest policy.
        beta = 100.0 if excess(100.0) < 0 else brentq(excess, -100.0, 100.0)
        return np.asarray(softmax(beta * values))

    def __call__(self, values: ActionValues, step: int, rng: np.random.Generator) -> int:
        """An action; ``step`` is ignored."""
        return int(rng.choice(len(values), p=self.probabilities(values)))
