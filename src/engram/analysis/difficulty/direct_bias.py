"""Inductive bias of a model class, measured directly: the share of its fitting hypotheses that generalise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh
from scipy.stats import ncx2
from sklearn.gaussian_process.kernels import RBF

from engram import checks
from engram.analysis.difficulty.chi_square import noncentral_chi2_logcdf, saddlepoint_logcdf
from engram.analysis.difficulty.nearest_neighbours import as_points, distinct_up_to_rounding
from engram.numeric.rounding import relative_rounding, varies

Kernel = Callable[..., np.ndarray]

LARGEST_SHIFT = 1e12  # non-centrality up to which NumPy draws the non-central chi-square distribution


@dataclass(frozen=True)
class FittedBias:
    """-log2 of the probability of an error of at most the target, and the fitted distribution scale chi^2(df, nc)."""

    bits: float
    df: float
    nc: float
    scale: float


def sampled_bias(test_errors: Float[np.ndarray, " hypotheses"], target: float | int) -> FittedBias:
    """The bits needed to choose a generalising hypothesis among those that fit the training data.

    I = -log2 P(error <= target), where the distribution scale chi^2(df, nc) is fitted to the errors by maximum
    likelihood, so that the target may be below all of them. It gives too few bits for errors that are more skewed than
    any such distribution, as those of a Gaussian process on digits (8.7 instead of 9.9).

    Args:
        test_errors: Mean squared test errors of sampled hypotheses that fit the training data, at least 10, above 0.
        target: Target error, above 0.

    Raises:
        ValueError: There are fewer than 10 errors, one is not finite or not above 0, all are equal up to rounding, or
            ``target`` is not above 0.

    Source: Boopathy et al., "Towards Exact Computation of Inductive Bias" (2024), in the form of the authors' script,
    whose results are in nats and whose tail is an approximation; here they are bits, and the tail is exact.

    Examples:
        >>> errors = np.random.default_rng(0).chisquare(8, size=1000) / 8
        >>> sampled_bias(errors, 0.01).bits > 15  # it takes 18 bits
        True
    """
    checks.arguments()
    checks.size("len(test_errors)", len(test_errors), 10)
    checks.finite("test_errors", test_errors)
    checks.number("min(test_errors)", test_errors.min(), above=0)
    if not varies(test_errors):
        raise ValueError(f"test_errors are all {test_errors[0]}, up to rounding: expected errors that differ")
    checks.number("target", target, above=0)
    mean = float(test_errors.mean())
    initial_df = 2 / float(np.var(test_errors / mean))  # degrees of freedom if it were central
    df, nc, _, scale = ncx2.fit(test_errors / mean, initial_df, initial_df / 100, floc=0, scale=1 / initial_df)
    df, nc, scale = abs(float(df)), abs(float(nc)), float(scale) * mean
    return FittedBias(-noncentral_chi2_logcdf(target / scale, df, nc) / math.log(2), df, nc, scale)


@dataclass(frozen=True, eq=False)
class TestError:
    """The distribution of the test error over the functions of a Gaussian process that fit the training data.

    The mean squared error is sum_i weights_i chi^2(outputs, nc_i), where weights_i nc_i = shifts_i.
    """

    __test__ = False  # so that pytest does not collect it

    weights: Float[np.ndarray, " directions"]
    shifts: Float[np.ndarray, " directions"]
    outputs: int

    def bits(self, target: float | int) -> float:
        """Minus log2 of the probability of an error of at most ``target``; inf if no function reaches it."""
        checks.number("target", target, above=0)
        return -saddlepoint_logcdf(target, self.weights, self.shifts, self.outputs) / math.log(2)

    def sample(self, size: int, rng: np.random.Generator) -> Float[np.ndarray, " size"]:
        """Draw ``size`` test errors."""
        checks.arguments()
        total = np.zeros(checks.size("size", size))
        for weight, shift in zip(self.weights, self.shifts, strict=True):
            if weight == 0:
                total += shift
            elif shift < LARGEST_SHIFT * weight:
                total += weight * rng.noncentral_chisquare(self.outputs, shift / weight, size)
            else:  # where NumPy's draws are wrong
                total += (math.sqrt(weight) * rng.standard_normal(size) + math.sqrt(shift)) ** 2
                total += weight * rng.chisquare(self.outputs - 1, size) if self.outputs > 1 else 0.0
        return total


def gaussian_process_test_error(
    X: Float[np.ndarray, "train features"],
    y: Float[np.ndarray, "_train outputs"],
    X_test: Float[np.ndarray, "test _features"],
    y_test: Float[np.ndarray, "_test _outputs"],
    kernel: Kernel | None = None,
    *,
    jitter: float | int | None = None,
) -> TestError:
    """The distribution of the mean squared test error over the functions of a Gaussian process that fit the data.

    Conditioned on the training data, the process has, for each output (a column of y),

        mean = K_*t K_tt^-1 y,   cov = K_** - K_*t K_tt^-1 K_t*

    so that the error is a weighted sum of chi-squares: its weights are the eigenvalues of cov divided by the number of
    errors that are averaged, its shifts come from mean - y_test along the eigenvectors. Nothing is sampled.

    Args:
        X: Training inputs.
        y: Training targets; inputs that are equal up to rounding must have equal targets.
        X_test: Test inputs.
        y_test: Test targets.
        kernel: Covariance function, called with one or two arrays of inputs; None: scikit-learn's ``RBF(1.0)``.
        jitter: Variance added at the training inputs, at least 0; None: 1e-10 times their mean variance.

    Raises:
        ValueError: Shapes do not match, an array is empty or not finite, equal inputs have different targets,
            ``jitter`` is negative, or the kernel's matrix is singular.

    Source: Boopathy et al. (2024), kernel space, where the processes are sampled; the exact distribution is ours.

    Examples:
        >>> x = np.linspace(0, 3, 12)[:, None]
        >>> fitted = gaussian_process_test_error(x[::3], np.sin(x[::3]), x, np.sin(x))
        >>> fitted.bits(1e-4) > fitted.bits(1e-3) > 0
        True
    """
    checks.arguments()
    if jitter is not None:
        checks.number("jitter", jitter, minimum=0)
    for name, points in {"X": X, "y": y, "X_test": X_test, "y_test": y_test}.items():
        as_points(points, name)
    if len(X) != len(y) or len(X_test) != len(y_test) or X.shape[1] != X_test.shape[1] or y.shape[1] != y_test.shape[1]:
        shapes = f"{X.shape}, {y.shape}, {X_test.shape} and {y_test.shape}"
        raise ValueError(
            f"X, y, X_test, y_test have shapes {shapes}: expected one row of y for each row of X, and as many columns "
            "in X as in X_test, and in y as in y_test"
        )
    first_rows, group = distinct_up_to_rounding(np.ascontiguousarray(X), X.dtype)
    targets = y[first_rows[group]]
    rounding = relative_rounding(y) * np.maximum(np.abs(y), np.abs(targets))
    differs = np.flatnonzero((np.abs(y - targets) > rounding).any(1))
    if len(differs):
        pair = f"{first_rows[group[differs[0]]]} and {differs[0]}"
        why = "are equal, up to rounding, and have different targets; no function fits both"
        raise ValueError(f"X: samples {pair} {why}")
    kernel = RBF(1.0) if kernel is None else kernel
    K = np.array(kernel(X[first_rows]), dtype=float)
    K[np.diag_indices(len(K))] += 1e-10 * np.trace(K) / len(K) if jitter is None else jitter
    try:
        factor = cho_factor(K, lower=True)
    except LinAlgError:
        reason = f"the kernel's matrix is singular (condition {np.linalg.cond(K):.1g})"
        raise ValueError(f"jitter = {jitter}: {reason}: expected a larger jitter") from None
    K_test = kernel(X_test, X[first_rows])
    residual = K_test @ cho_solve(factor, y[first_rows]) - y_test
    variances, directions = eigh(kernel(X_test) - K_test @ cho_solve(factor, K_test.T))
    shifts = ((directions.T @ residual) ** 2).sum(1)
    return TestError(np.maximum(variances, 0) / y_test.size, shifts / y_test.size, y.shape[1])
