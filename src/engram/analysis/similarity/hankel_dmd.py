"""Hankel dynamic mode decomposition (HAVOK): a linear operator of whitened, delay-embedded trials."""

from __future__ import annotations

import warnings
from itertools import pairwise
from numbers import Integral, Real
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import linalg
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from engram import checks
from engram.analysis.similarity.delay_embedding import delay_embedding, lagged_moments
from engram.analysis.similarity.trials import (
    Data,
    Recording,
    as_trials,
    is_trials,
    opened,
    refuse_ambiguous,
    refuse_gaps,
    refuse_shorter,
)
from engram.numeric.rounding import FEW, varies

ILL_CONDITIONED = 1e-4  # S_r / S_1 below which singular values cannot be computed from their squares
UNSTABLE = 1.05
COUNT = Interval(Integral, 1, None, closed="left")
Square = Float[np.ndarray, "rank rank"]


def departure_from_normality(operator: Float[np.ndarray, "rank rank"]) -> float:
    """The departure of an operator from normality, from 0 to 1: how much of the dynamics its eigenvalues do not show.

        sqrt(||A||_F^2 - sum |lambda|^2) / ||A||_F

    Source: Henrici, "Bounds for iterates, inverses, spectral variation and fields of values" (1962).

    Examples:
        >>> departure_from_normality(np.array([[0.0, 1.0], [0.0, 0.0]]))
        1.0
    """
    checks.arguments()
    operator = checks.array("operator", operator, ("rank", "rank"))
    norm = float(np.linalg.norm(operator))
    if norm == 0:
        raise ValueError("operator is zero: expected an operator with a norm")
    normal_part = float((np.abs(np.linalg.eigvals(operator)) ** 2).sum())
    return float(np.sqrt(max(norm**2 - normal_part, 0.0)) / norm)


class HankelDMD(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A linear operator that predicts the next step of delay-embedded, whitened activity.

        H = V S U^T                                                 thin SVD of the delay embedding of all trials
        A^T = (V_-^T V_- + reg I)^-1 V_-^T V_+                      V: its first r columns, V_+: ``steps_ahead`` later

    so that v(t + h) ~ A v(t). Both samples of a pair come from the same trial.

    Args:
        n_delays: Samples in a row of the embedding, p.
        delay_interval: Steps from one of these samples to the next.
        rank: Number of coordinates r, which ``choose_delays`` can choose. None: the numerical rank, at most a quarter
            of the number of rows; an int; a float below 1: the smallest number that explains this share of the
            variance; ``"svht"``: the number of singular values above the hard threshold of Gavish and Donoho;
            ``"full"``: all, including zero singular values, as published.
        reg: Ridge penalty of the regression.
        steps_ahead: Number of steps h by which one application of the operator advances.
        method: ``"pcr"``, principal component regression as above; ``"rrr"``, reduced-rank regression: V has
            all columns of nonzero singular value, and the operator has rank r.
        center: None as published; ``"global"`` subtracts the mean over all trials, ``"trial"`` the mean of each trial.
        rank_threshold: Singular values up to this one count as zero, as do those that are zero up to rounding.

    Attributes:
        operator_: A.
        singular_values_: Those of the delay embedding, descending.
        rank_: r.
        spectral_radius_: Largest modulus of the eigenvalues of A; above 1.05, ``fit`` warns.
        non_normality_: Departure of A from normality.

    Source: Ostrow et al., "Beyond Geometry" (2023); Brunton et al., "Chaos as an intermittently forced linear system"
    (2017); Gavish and Donoho, "The optimal hard threshold for singular values is 4/sqrt(3)" (2014).

    Examples:
        >>> t = np.arange(200)
        >>> dmd = HankelDMD(n_delays=4).fit(np.sin(0.1 * t)[:, None])
        >>> dmd.rank_, np.abs(np.angle(np.linalg.eigvals(dmd.operator_))).round(6).tolist()
        (2, [0.1, 0.1])
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012  scikit-learn's name and form
        "n_delays": [COUNT],
        "delay_interval": [COUNT],
        "rank": [None, COUNT, Interval(Real, 0, 1, closed="neither"), StrOptions({"svht", "full"})],
        "reg": [Interval(Real, 0, None, closed="left")],
        "steps_ahead": [COUNT],
        "method": [StrOptions({"pcr", "rrr"})],
        "center": [None, StrOptions({"global", "trial"})],
        "rank_threshold": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_delays: Annotated[Any, int] = 1,
        delay_interval: Annotated[Any, int] = 1,
        rank: Annotated[Any, int | float | Literal["svht", "full"] | None] = None,
        *,
        reg: Annotated[Any, float] = 1e-8,
        steps_ahead: Annotated[Any, int] = 1,
        method: Annotated[Any, Literal["pcr", "rrr"]] = "pcr",
        center: Annotated[Any, Literal["global", "trial"] | None] = None,
        rank_threshold: Annotated[Any, float] = 0.0,
    ) -> None:
        self.n_delays = n_delays
        self.delay_interval = delay_interval
        self.rank = rank
        self.reg = reg
        self.steps_ahead = steps_ahead
        self.method = method
        self.center = center
        self.rank_threshold = rank_threshold

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Data, y: object = None) -> HankelDMD:
        """Fit the operator to one trial (time, features), (trials, time, features), or a list of trials of any lengths.

        A cell array of MATLAB is a list of trials. ``y`` is ignored.

        Raises:
            ValueError: A parameter is out of range; X is not finite or all zero; a trial is shorter than (n_delays - 1)
                delay_interval + steps_ahead + 1; or the rank is larger than the data allow.
        """
        with checks.restored_on_error(self):
            self._fit(self._checked(X, reset=True))
        return self

    def _fit(self, trials: list[Recording]) -> None:
        self._mean = _means(np.concatenate(trials)) if self.center == "global" else np.zeros(trials[0].shape[1])
        trials = [self._centred(trial) for trial in trials]
        delayed = self.n_delays * trials[0].shape[1]
        rows = sum(len(trial) - self._span for trial in trials)
        # The moments are much faster, but give the squares of singular values, too inexact where these are small.
        moments = lagged_moments(trials, self.n_delays, self.delay_interval, self.steps_ahead)
        squares, U = np.linalg.eigh(moments.whole)
        S, U = np.sqrt(np.maximum(squares[::-1], 0)), U[:, ::-1]
        uses_svd = self._needs_all(S, rows)
        if uses_svd:
            embedded = [delay_embedding(trial, self.n_delays, self.delay_interval) for trial in trials]
            V, S, transposed = linalg.svd(np.concatenate(embedded), full_matrices=False, check_finite=False)
            U = transposed.T
        self.singular_values_ = S[: min(rows, delayed)]
        zero_threshold = max(S[0] * max(rows, delayed) * np.finfo(float).eps, self.rank_threshold)
        numerical_rank = max(1, int((self.singular_values_ > zero_threshold).sum()))
        self.rank_ = self._chosen_rank(rows, delayed, numerical_rank)
        n_columns = numerical_rank if self.method == "rrr" else self.rank_
        if uses_svd:
            borders = np.cumsum([0, *(len(trial) - self._span for trial in trials)])
            V_of_trials = [V[start:stop, :n_columns] for start, stop in pairwise(borders)]
            V_before = np.concatenate([V_of_trial[: -self.steps_ahead] for V_of_trial in V_of_trials])
            V_after = np.concatenate([V_of_trial[self.steps_ahead :] for V_of_trial in V_of_trials])
            before, cross = V_before.T @ V_before, V_before.T @ V_after
        else:
            whitening = U[:, :n_columns] / S[:n_columns]
            before, cross = whitening.T @ moments.before @ whitening, whitening.T @ moments.cross @ whitening
        self._basis, self._scale = U[:, :n_columns], S[:n_columns]
        self.operator_ = self._regress(before, cross)
        self.spectral_radius_ = float(np.abs(np.linalg.eigvals(self.operator_)).max())
        self.non_normality_ = departure_from_normality(self.operator_) if self.operator_.any() else 0.0
        if self.spectral_radius_ > UNSTABLE:
            detail = f"spectral_radius_ = {self.spectral_radius_:.3f}; a lower rank or a larger reg may help"
            warnings.warn(f"the fitted operator is unstable: {detail}", RuntimeWarning, stacklevel=4)

    def transform(self, X: Data) -> Any:
        """The eigen-time-delay coordinates v(t) = S^-1 U^T H(t) of one trial or several, as ``fit`` takes them.

        For one trial, an array (time - (n_delays - 1) delay_interval, size of A); for several, a list of such arrays.
        """
        check_is_fitted(self)
        coordinates = [self._coordinates(trial) for trial in self._checked(X, reset=False)]
        return coordinates if is_trials(X) else coordinates[0]

    def predict(self, X: Data, steps: int = 1) -> Any:
        """The samples that the operator predicts when it is applied ``steps`` times.

        Row i of a trial's predictions, (rows, features), is predicted from the samples up to i + (n_delays - 1)
        delay_interval, for ``steps`` times ``steps_ahead`` steps later; for several trials, a list of these.
        """
        check_is_fitted(self)
        power = np.linalg.matrix_power(self.operator_, checks.size("steps", steps)).T
        to_features = (self._basis[: self.n_features_in_] * self._scale).T
        predictions = []
        for trial in self._checked(X, reset=False):
            offset = _means(trial) if self.center == "trial" else self._mean
            predictions.append(self._coordinates(trial) @ power @ to_features + offset)
        return predictions if is_trials(X) else predictions[0]

    def score(self, X: Data, y: object = None) -> float:
        """The score 1 - MASE of trials X: 1 is perfect, 0 no better than predicting that nothing changes.

        1 - sum |prediction of x(t + h) - x(t + h)| / sum |x(t) - x(t + h)|
        """
        check_is_fitted(self)
        trials = self._checked(X, reset=False)
        refuse_shorter(trials, self._span + self.steps_ahead + 1, "to hold a prediction and its target")
        error = change = noise = 0.0
        for trial, predicted in zip(trials, self.predict(trials), strict=True):
            actual = trial[self._span :]
            error += float(np.abs(predicted[: -self.steps_ahead] - actual[self.steps_ahead :]).sum())
            change += float(np.abs(actual[: -self.steps_ahead] - actual[self.steps_ahead :]).sum())
            noise += float(rounding(actual[self.steps_ahead :]).sum())
        if change <= noise:
            return 1.0 if error <= noise else -np.inf
        return 1.0 - error / change

    @property
    def _span(self) -> int:
        """The number of rows by which the embedding of a trial is shorter than the trial."""
        return int((self.n_delays - 1) * self.delay_interval)

    @property
    def _n_features_out(self) -> int:
        return len(self._scale)

    def _checked(self, X: Data, reset: bool) -> list[Recording]:
        X = opened(X)
        refuse_ambiguous(X, "X")
        if is_trials(X):
            trials = as_trials(X)
            if reset:
                self.n_features_in_ = trials[0].shape[1]
            elif trials[0].shape[1] != self.n_features_in_:
                raise ValueError(f"X has {trials[0].shape[1]} features: expected {self.n_features_in_}, as in fit")
        else:
            trials = [checks.samples(self, X, dtype=np.float64, reset=reset, ensure_all_finite=False)]
            refuse_gaps("X", trials[0])
        horizon = self.steps_ahead if reset else 0
        refuse_shorter(trials, self._span + horizon + 1, f"(n_delays - 1) delay_interval + {horizon} + 1")
        return trials

    def _centred(self, trial: Recording) -> Recording:
        mean = _means(trial) if self.center == "trial" else self._mean
        deviation = trial - mean
        return np.where(np.abs(deviation) <= rounding(mean), 0.0, deviation)  # a constant has no dynamics

    def _coordinates(self, trial: Recording) -> Float[np.ndarray, "rows rank"]:
        embedded = delay_embedding(self._centred(trial), self.n_delays, self.delay_interval)
        return np.asarray(embedded @ (self._basis / self._scale))

    def _needs_all(self, S: Float[np.ndarray, " delayed"], rows: int) -> bool:
        """Whether any singular value that is needed is too small to be computed from its square."""
        if S[0] == 0:
            centred = "" if self.center is None else " after its mean is subtracted"
            raise ValueError(f"X is zero everywhere{centred}: expected data that change")
        if rows < len(S) or self.method == "rrr" or self.rank in (None, "full"):
            n_needed = len(S)
        elif isinstance(self.rank, Integral):
            n_needed = min(int(self.rank), len(S))
        else:
            n_needed = len(S) // 2 + 1 if self.rank == "svht" else int(np.searchsorted(explained(S), self.rank)) + 1
        return bool(S[min(n_needed, len(S)) - 1] < ILL_CONDITIONED * S[0])

    def _chosen_rank(self, rows: int, delayed: int, numerical_rank: int) -> int:
        values = self.singular_values_
        match self.rank:
            case None:
                return max(1, min(numerical_rank, rows // 4))
            case "full":
                if rows < delayed:
                    raise ValueError(
                        f'rank = "full": expected at least {delayed} rows, one for each column, found {rows}'
                    )
                return delayed
            case "svht":
                aspect = min(rows, delayed) / max(rows, delayed)
                omega = 0.56 * aspect**3 - 0.95 * aspect**2 + 1.82 * aspect + 1.43
                return max(1, min(int((values > omega * np.median(values)).sum()), numerical_rank))
            case Integral():
                if int(self.rank) > numerical_rank:
                    raise ValueError(f"rank = {self.rank}: expected at most {numerical_rank}, the numerical rank")
                return int(self.rank)
            case _:
                return min(int(np.searchsorted(explained(values), self.rank)) + 1, numerical_rank)

    def _regress(self, before: Square, cross: Square) -> Square:
        coefficients = linalg.solve(before + self.reg * np.eye(len(before)), cross, assume_a="pos", check_finite=False)
        if self.method == "rrr" and self.rank_ < len(before):
            leading = np.linalg.eigh(cross.T @ coefficients)[1][:, -self.rank_ :]
            coefficients = coefficients @ leading @ leading.T
        return np.ascontiguousarray(coefficients.T)


def explained(S: Float[np.ndarray, " values"]) -> Float[np.ndarray, " values"]:
    """The share of variance that the leading singular values explain together; the last entry is 1."""
    total = np.cumsum(S**2)
    return np.asarray(total / total[-1])


def rounding(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The largest differences from 64-bit numbers that their rounding explains."""
    return np.asarray(FEW * np.finfo(float).eps * np.abs(values))


def _means(trial: Recording) -> Float[np.ndarray, " features"]:
    """The mean of each feature; of a constant feature its own value."""
    return np.asarray(np.where(varies(trial), trial.mean(0), trial[0]))
