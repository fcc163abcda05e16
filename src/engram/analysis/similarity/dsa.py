"""Dynamical similarity analysis: distances between systems by the operators fitted to their activity."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from engram import checks
from engram.analysis.similarity.hankel_dmd import HankelDMD
from engram.analysis.similarity.operator_distance import OperatorComparison, compare_operators, operator_bounds
from engram.analysis.similarity.permutation_test import PermutationTest
from engram.analysis.similarity.spectral_distance import eigenvalue_distance
from engram.analysis.similarity.trials import Data, are_arrays_of_one_dimension, as_trials, dimensions, opened


class DSA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Dynamical similarity analysis: do systems follow the same dynamics, whatever the shape of their activity?

    ``HankelDMD`` fits an operator to each system; ``operator_distance`` compares operators up to an orthogonal change
    of coordinates, or ``spectral_distance`` compares their eigenvalues.

    Args:
        dmd: A ``HankelDMD``, or an estimator with ``fit`` and ``operator_``; None: ``HankelDMD()``. It is cloned.
        metric: ``"angular"``, ``"euclidean"`` or ``"squared"``, distances after the best orthogonal change of
            coordinates (``operator_distance``); ``"bound"``, the lower bound of the angle in closed form; or
            ``"spectral"``, between eigenvalues (``spectral_distance``).
        rank: None: the rank of ``dmd``. ``"common"``: the smallest rank that ``dmd`` finds in any of the systems, for
            all of them and for those that are transformed later. An operator of that rank in more coordinates
            (``method="rrr"``) is restricted to its range.
        restarts: Number of random starts of the search; None: 1500 / n, from 12 to 100.
        random_state: Seed of the random starts, or a RandomState.
        budget: Seconds for the refinement of the distances, after which pairs keep their best start; None: no limit.
        n_jobs: Number of threads, counted as joblib does.

    Attributes:
        operators_: Operators of the systems.
        distances_: Distances between them.
        bounds_: Lower bounds of the true distances; the same as ``distances_`` if the metric is in closed form.
        refined_: Whether the search was completed within the budget, for each pair.
        rank_: The common rank, or None.

    Source: Ostrow et al., "Beyond Geometry: Comparing the Temporal Structure of Computation in Neural Circuits with
    Dynamical Similarity Analysis" (2023).

    Examples:
        >>> t = np.linspace(0, 60, 600)
        >>> slow, fast = (np.stack([np.sin(f * t), np.cos(f * t)], 1) for f in (1, 7))
        >>> DSA(HankelDMD(rank=2)).fit_transform([slow, 2 * slow[:, ::-1], fast]).round(2).tolist()
        [[0.0, 0.0, 0.6], [0.0, 0.0, 0.6], [0.6, 0.6, 0.0]]
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012  scikit-learn's name and form
        "dmd": [None, HasMethods(["fit"])],
        "metric": [StrOptions({"angular", "euclidean", "squared", "bound", "spectral"})],
        "rank": [None, StrOptions({"common"})],
        "restarts": [None, Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
        "budget": [None, Interval(Real, 0, None, closed="left")],
        "n_jobs": [None, Integral],
    }

    def __init__(
        self,
        dmd: Annotated[Any, HankelDMD | None] = None,
        metric: Annotated[Any, Literal["angular", "euclidean", "squared", "bound", "spectral"]] = "angular",
        *,
        rank: Annotated[Any, Literal["common"] | None] = None,
        restarts: Annotated[Any, int | None] = None,
        random_state: Annotated[Any, int | np.random.RandomState | None] = 0,
        budget: Annotated[Any, float | None] = None,
        n_jobs: Annotated[Any, int | None] = None,
    ) -> None:
        self.dmd = dmd
        self.metric = metric
        self.rank = rank
        self.restarts = restarts
        self.random_state = random_state
        self.budget = budget
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Data, y: object = None) -> DSA:
        """Fit the operators of all systems X, at least two, and compare them; ``y`` is ignored.

        X is a list with the data of each system, in any form that ``HankelDMD.fit`` takes, or an array whose first axis
        is the system. Each row of a two-dimensional array, and each array of one dimension in a list, is a system with
        one trial of one feature. If ``rank`` is None, the fitted ranks must not differ.
        """
        with checks.restored_on_error(self):
            systems = self._systems(X, reset=True)
            if len(systems) < 2:
                raise ValueError(f"X has n_samples = {len(systems)}: expected at least two systems")
            fitted = [self._fit(system, number, None) for number, system in enumerate(systems)]
            self.rank_ = None
            if self.rank == "common":
                self.rank_ = min(int(dmd.rank_) for dmd in fitted)
                fitted = [
                    dmd if dmd.rank_ == self.rank_ else self._fit(system, number, self.rank_)
                    for number, (dmd, system) in enumerate(zip(fitted, systems, strict=True))
                ]
            self.operators_ = [within_range(np.asarray(dmd.operator_), self.rank_) for dmd in fitted]
            self.distances_, self.bounds_, self.refined_ = self._compare(self.operators_, None)
        return self

    def fit_transform(self, X: Data, y: object = None) -> Float[np.ndarray, "systems systems"]:
        """``distances_`` after ``fit``, for ``MDS`` or a classifier with ``metric="precomputed"``."""
        return np.asarray(self.fit(X).distances_)

    def transform(self, X: Data) -> Float[np.ndarray, "systems fitted"]:
        """The distances of other systems, in any form that ``fit`` takes, to the fitted ones."""
        check_is_fitted(self)
        fitted = (self._fit(system, i, self.rank_) for i, system in enumerate(self._systems(X, reset=False)))
        operators = [within_range(np.asarray(dmd.operator_), self.rank_) for dmd in fitted]
        return self._compare(operators, self.operators_).distances

    @property
    def _n_features_out(self) -> int:
        return len(self.operators_)

    def _systems(self, X: Data, reset: bool) -> list[Any]:
        X = opened(X)
        if dimensions(X) > 2:
            return list(X)
        if are_arrays_of_one_dimension(X):  # of any lengths
            return [np.asarray(checks.as_array(row))[:, None] for row in X]
        rows = checks.samples(self, X, dtype=np.float64, reset=reset, ensure_all_finite=False)
        checks.finite("X", rows)
        if rows.shape[1] < 2:
            raise ValueError("X has n_features = 1: expected rows of at least two samples in time")
        return [row[:, None] for row in rows]

    def _fit(self, system: Data, number: int, rank: int | None) -> Any:
        dmd = HankelDMD() if self.dmd is None else clone(self.dmd)
        if rank is not None:
            dmd.set_params(rank=rank)
        try:
            return dmd.fit(system)
        except ValueError as error:
            raise ValueError(f"X, system {number}: {error}") from error

    def _compare(self, operators: list[np.ndarray], other_operators: list[np.ndarray] | None) -> OperatorComparison:
        expected = len((other_operators or operators)[0])
        for number, operator in enumerate(operators):
            if len(operator) != expected:
                actual = f"system {number} has an operator of rank {len(operator)}"
                raise ValueError(
                    f'{actual}: expected {expected}, as for the first; set rank = "common", or that of dmd'
                )
        if self.metric not in ("bound", "spectral"):
            search = {name: getattr(self, name) for name in ("restarts", "n_jobs", "budget")}
            seed = self.random_state
            if not isinstance(seed, Integral):
                seed = check_random_state(seed).randint(2**31)
            return compare_operators(operators, other_operators, self.metric, seed=int(seed), **search)
        if self.metric == "bound":
            values = operator_bounds(operators, other_operators)
        else:
            points, other_points = (
                [np.linalg.eigvals(A) for A in compared] for compared in (operators, other_operators or operators)
            )
            values = np.array([[eigenvalue_distance(a, b) for b in other_points] for a in points])
        return OperatorComparison(values, values, np.ones(values.shape, dtype=bool))


def within_range(operator: Float[np.ndarray, "n n"], rank: int | None) -> Float[np.ndarray, "rank rank"]:
    """The operator in an orthonormal basis of its range of ``rank`` dimensions, which keeps its nonzero eigenvalues.

    L^T A L,   where A L = L (L^T A L)
    """
    if rank is None or len(operator) <= rank:
        return operator
    basis = np.linalg.svd(operator)[0][:, :rank]
    return np.asarray(basis.T @ operator @ basis)


def split_half_floor(
    systems: Sequence[Data], rng: np.random.Generator, dsa: DSA | None = None, n_splits: int = 10
) -> Float[np.ndarray, "systems splits"]:
    """The distances between the two halves of each system's trials, split at random ``n_splits`` times.

    The data cannot distinguish two systems whose distance is not larger than these.

    Args:
        systems: At least two trials of each system, (trials, time, features) or a list of trials.
        rng: Source of the splits.
        dsa: Estimator of the distance, which is cloned; None: ``DSA(rank="common")``.
        n_splits: Number of splits of each system.

    Raises:
        ValueError: A system has one trial or is not finite, ``n_splits`` is below 1, or ``dsa`` cannot compare the
            halves.

    Examples:
        >>> system = np.random.default_rng(0).normal(size=(6, 100, 2)).cumsum(1)
        >>> split_half_floor([system], np.random.default_rng(0), n_splits=3).shape
        (1, 3)
    """
    checks.arguments()
    floors = np.empty((len(systems), checks.size("n_splits", n_splits)))
    for i, system in enumerate(systems):
        trials = as_trials(system, f"systems[{i}]")
        if len(trials) < 2:
            raise ValueError(f"systems[{i}] has 1 trial: expected at least two, to be split")
        for split in range(n_splits):
            order = rng.permutation(len(trials))
            halves = [[trials[k] for k in indices] for indices in np.array_split(order, 2)]
            floors[i, split] = clone(dsa or DSA(rank="common")).fit_transform(halves)[0, 1]
    return floors


def trial_permutation_test(
    first: Data, second: Data, rng: np.random.Generator, dsa: DSA | None = None, n_permutations: int = 199
) -> PermutationTest:
    """Test whether two recordings of the same units are further apart than a random division of all their trials.

        p = (1 + number of divisions with a distance at least as large) / (1 + divisions)

    Under the null hypothesis the trials of both recordings can be exchanged, which needs the same units in the same
    order, as under two conditions. For recordings of different units, compare their distance with that of
    ``split_half_floor`` instead.

    Args:
        first: At least two trials, (trials, time, features) or a list of trials, which may differ in length.
        second: The same of the other recording, with the same features.
        rng: Source of the divisions.
        dsa: Estimator of the distance, which is cloned; None: ``DSA(rank="common")``.
        n_permutations: Number of divisions, each of which takes as long as one distance.

    Raises:
        ValueError: A recording has one trial, or the recordings differ in their number of features.

    Source: Phipson and Smyth, "Permutation p-values should never be zero" (2010).

    Examples:
        >>> from scipy.signal import lfilter
        >>> from engram.analysis import HankelDMD
        >>> rng, dsa = np.random.default_rng(0), DSA(HankelDMD(1, rank=2))
        >>> noise = rng.normal(size=(2, 5, 80)) + 1j * rng.normal(size=(2, 5, 80))
        >>> turning = [lfilter([1], [1, -0.98 * np.exp(1j * speed)], z) for speed, z in zip((0.2, 0.9), noise)]
        >>> slow, fast = (np.stack([z.real, z.imag], axis=-1) for z in turning)
        >>> trial_permutation_test(slow, fast, rng, dsa, n_permutations=19).p_value
        0.05
    """
    checks.arguments()
    checks.size("n_permutations", n_permutations)
    trials = {"first": as_trials(first, "first"), "second": as_trials(second, "second")}
    for name, own in trials.items():
        if len(own) < 2:
            raise ValueError(f"{name} has 1 trial: expected at least two, to be exchanged")
    pooled, features = [*trials["first"], *trials["second"]], trials["first"][0].shape[1]
    if trials["second"][0].shape[1] != features:
        raise ValueError(
            f"second has {trials['second'][0].shape[1]} features: expected {features}, as first, because the trials of "
            "both are exchanged; for other units compare the distance with split_half_floor"
        )
    n_first = len(trials["first"])

    def distance(order: np.ndarray) -> float:
        parts = [[pooled[k] for k in indices] for indices in np.split(order, [n_first])]
        return float(clone(dsa or DSA(rank="common")).fit_transform(parts)[0, 1])

    observed = distance(np.arange(len(pooled)))
    null = np.array([distance(rng.permutation(len(pooled))) for _ in range(n_permutations)])
    # The tolerance makes divisions that only swap the recordings count, in spite of rounding errors.
    n_as_large = int((null >= observed - 1e-12 * abs(observed)).sum())
    return PermutationTest(observed, (1 + n_as_large) / (1 + n_permutations), null)
