"""A family of rules that are sums of named parts, each a fixed sum of terms in input, activity, weight and signal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from engram import checks
from engram.learned.inference.kernels import Terms
from engram.plasticity import TaylorRule
from engram.plasticity.taylor import Exponents

Part = str | Mapping[str, float | int]


class Powers(NamedTuple):
    """The powers that one step needs, from which every term is one product.

    Attributes:
        x, w: Powers 0, 1, ... of inputs and weights, (row, exponent, input).
        y, m: Those of activity and signal, (row, exponent).
        of_connection: x^a w^c for each pair of exponents in use, (row, pair, input).
        of_unit: y^b m^d for each pair of exponents in use, (row, pair).
    """

    x: Float[np.ndarray, "row exponent input"]
    w: Float[np.ndarray, "row exponent input"]
    y: Float[np.ndarray, "row exponent"]
    m: Float[np.ndarray, "row exponent"]
    of_connection: Float[np.ndarray, "row pair input"]
    of_unit: Float[np.ndarray, "row pair"]


class Series:
    """g(x, y, w, m) = sum over parts p of theta_p sum over terms q of C_pq x^a y^b w^c m^d, and its derivatives.

    Args:
        parts: By name: a term, or the coefficients of several terms whose sum has one coefficient theta.

    Attributes:
        names: Names of the parts.
        terms: All terms that occur in a part.
        matrix: C, (part, term).

    Raises:
        ValueError: A name is no term.

    Examples:
        >>> series = Series({"Oja": {"x y": 1.0, "y^2 w": -1.0}, "decay": {"w": -1.0}})
        >>> series.terms
        (Exponents(x=1, y=1, w=0, m=0), Exponents(x=0, y=2, w=1, m=0), Exponents(x=0, y=0, w=1, m=0))
        >>> series.coefficients(np.array([2.0, 0.5]))
        {'x y': 2.0, 'y^2 w': -2.0, 'w': -0.5}
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        sums = {name: {part: 1.0} if isinstance(part, str) else dict(part) for name, part in parts.items()}
        terms = dict.fromkeys(Exponents.of(term) for part in sums.values() for term in part)
        self.names, self.terms = tuple(sums), tuple(terms)
        self.matrix = np.zeros((len(sums), len(terms)))
        for row, part in zip(self.matrix, sums.values(), strict=True):
            for term, coefficient in part.items():
                row[self.terms.index(Exponents.of(term))] += checks.number(f"terms[{term!r}]", coefficient)
        self._plain = self.matrix.shape[0] == self.matrix.shape[1] and np.array_equal(self.matrix, np.eye(len(terms)))
        connection = tuple(dict.fromkeys((term.x, term.w) for term in self.terms))
        unit = tuple(dict.fromkeys((term.y, term.m) for term in self.terms))
        self._x, self._w = np.array(connection, dtype=int).reshape(-1, 2).T
        self._y, self._m = np.array(unit, dtype=int).reshape(-1, 2).T
        self._connection = np.array([connection.index((term.x, term.w)) for term in self.terms], dtype=int)
        self._unit = np.array([unit.index((term.y, term.m)) for term in self.terms], dtype=int)
        self._most = tuple(int(exponents.max(initial=0)) for exponents in (self._x, self._w, self._y, self._m))
        self.uses_weight, self.uses_activity = bool(self._w.any()), bool(self._y.any())
        self.uses_signal = bool(self._m.any())

    @classmethod
    def taylor(cls, variables: str, order: int) -> Series:
        """All terms in some of the variables x, y, w and m with exponents up to ``order``, by rising degree."""
        exponents = [
            Exponents(**dict(zip(variables, powers, strict=True)))
            for powers in itertools.product(range(order + 1), repeat=len(variables))
        ]
        return cls({term.name: term.name for term in sorted(exponents, key=lambda term: (sum(term), max(term)))})

    def part(self, kept: Sequence[int] | Int[np.ndarray, " kept"]) -> Series:
        """The family of some of the parts."""
        rows = {self.names[k]: {t.name: v for t, v in zip(self.terms, self.matrix[k], strict=True) if v} for k in kept}
        return Series(rows)

    def coefficients(self, theta: Float[np.ndarray, " part"]) -> dict[str, float]:
        """The coefficients of the terms, for ``TaylorRule``."""
        values = theta @ self.matrix
        return {term.name: float(value) for term, value in zip(self.terms, values, strict=True)}

    def rule(self, theta: Float[np.ndarray, " part"], eta: float) -> TaylorRule:
        """The rule with these coefficients; with none of them, one that changes nothing."""
        return TaylorRule(self.coefficients(theta) or {"x y": 0.0}, eta, dtype=torch.float64)

    def compiled(self, theta: Float[np.ndarray, " part"]) -> Terms:
        """The series as kernels take it."""
        part, term = np.nonzero(self.matrix)
        starts = np.searchsorted(part, np.arange(len(self.names) + 1))
        pairs = self._x, self._w, self._y, self._m, self._connection, self._unit
        return Terms(*pairs, theta @ self.matrix, starts, term, self.matrix[part, term])

    def powers(
        self,
        x: Float[np.ndarray, "row input"],
        y: Float[np.ndarray, " row"],
        w: Float[np.ndarray, "row input"],
        m: Float[np.ndarray, " row"],
    ) -> Powers:
        """The powers at one step.

        Args:
            x: Input of each row, a unit in a session.
            y: Its activity.
            w: Its weights.
            m: Its signal.
        """
        most = self._most
        tables = _table(x, most[0]), _table(w, most[1]), _table(y, most[2]), _table(m, most[3])
        of_connection = tables[0][:, self._x] * tables[1][:, self._w]
        return Powers(*tables, of_connection, tables[2][:, self._y] * tables[3][:, self._m])

    def terms_at(self, powers: Powers) -> Float[np.ndarray, "row part input"]:
        """The slopes dg / dtheta of each connection: the value of each part."""
        values: np.ndarray = powers.of_connection[:, self._connection] * powers.of_unit[:, self._unit, None]
        return values if self._plain else np.matmul(self.matrix, values)

    def change(self, theta: Float[np.ndarray, " part"], powers: Powers) -> Float[np.ndarray, "row input"]:
        """The change g of each connection."""
        factor = self._by_pair(theta, powers.of_unit)
        change: np.ndarray = np.matmul(factor[:, None, :], powers.of_connection)[:, 0]
        return change

    def slopes(
        self, theta: Float[np.ndarray, " part"], powers: Powers
    ) -> tuple[Float[np.ndarray, "row input"], Float[np.ndarray, "row input"]]:
        """The slopes dg / dw and dg / dy of each connection, from the same powers.

        Args:
            theta: Coefficients of the parts.
            powers: Those of ``powers``.
        """
        by_w, by_y = np.zeros((2, len(powers.of_unit), powers.of_connection.shape[2]))
        if self.uses_weight:
            slope = powers.x[:, self._x] * powers.w[:, np.maximum(self._w - 1, 0)]
            by_w = np.matmul((self._by_pair(theta, powers.of_unit) * self._w)[:, None, :], slope)[:, 0]
        if self.uses_activity:
            lower = powers.y[:, np.maximum(self._y - 1, 0)] * powers.m[:, self._m] * self._y
            by_y = np.matmul(self._by_pair(theta, lower)[:, None, :], powers.of_connection)[:, 0]
        return by_w, by_y

    def slope_of_input(self, theta: Float[np.ndarray, " part"], powers: Powers) -> Float[np.ndarray, "row input"]:
        """The slope dg / dx of each connection.

        Args:
            theta: Coefficients of the parts.
            powers: Those of ``powers``.
        """
        slope = powers.x[:, np.maximum(self._x - 1, 0)] * powers.w[:, self._w]
        by_x: np.ndarray = np.matmul((self._by_pair(theta, powers.of_unit) * self._x)[:, None, :], slope)[:, 0]
        return by_x

    def _by_pair(self, theta: np.ndarray, of_unit: np.ndarray) -> Float[np.ndarray, "row pair"]:
        """The factor of each x^a w^c: sum over b and d of theta_abcd y^b m^d."""
        grid = np.zeros((of_unit.shape[1], len(self._x)))
        grid[self._unit, self._connection] = theta @ self.matrix
        product: np.ndarray = of_unit @ grid
        return product


def _table(base: np.ndarray, most: int) -> np.ndarray:
    """The powers 0 to ``most``, along a new second axis."""
    table = np.ones((len(base), most + 1, *base.shape[1:]))
    for k in range(most):
        np.multiply(table[:, k], base, out=table[:, k + 1])
    return table


def series_of(terms: Mapping[str, Part] | Sequence[str] | None, variables: str, order: int) -> Series:
    """The series with certain terms, or with all of them.

    Args:
        terms: Its parts, or their terms (default: all terms).
        variables: The letters that all terms are made of.
        order: Their largest exponent.

    Raises:
        ValueError: There is no term, or one occurs twice.
    """
    if terms is None:
        return Series.taylor(variables, order)
    series = Series(terms if isinstance(terms, Mapping) else {term: term for term in terms})
    if not series.names or len(series.names) < len(terms):
        raise ValueError(f"terms = {checks.shown(terms)}: expected at least one, and each once")
    return series
