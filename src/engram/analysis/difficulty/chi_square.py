"""Logarithms of chi-square distribution functions, even where the probabilities themselves underflow to 0."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import gammainc, gammaln, hyp1f1, log_ndtr, logsumexp

from engram import checks

CERTAIN = 1e12  # times the mean, beyond which the probability is 1
NEAR_MEAN = 1e-3  # standard deviations from the mean within which the limit of the correction is used
UNDERFLOW = 1e-280  # below this, probabilities are computed as logarithms
MOST_TERMS = 1e8  # largest ``nc``; all terms of the mixture are added up


def weighted_chi2_logcdf(
    x: float | int,
    weights: Float[np.ndarray, " terms"],
    nc: Float[np.ndarray, " terms"] | None = None,
    df: float | int = 1.0,
) -> float:
    """The logarithm of the probability that a weighted sum of chi-squares is at most x; -inf where x <= 0.

    The sum is sum_i w_i chi^2(df, nc_i), with the cumulant generating function

        K(t) = sum_i -df / 2 log(1 - 2 w_i t) + w_i nc_i t / (1 - 2 w_i t)

    The result is the saddlepoint approximation of Lugannani and Rice, at the root of K'(t) = x:

        P = Phi(r) + phi(r) (1 / r - 1 / u),   r = sign(t) sqrt(2 (t x - K)),   u = t sqrt(K''(t))

    Args:
        x: The value of the sum.
        weights: w, above 0.
        nc: Non-centrality of each term, at least 0; None: 0 for all.
        df: Degrees of freedom of each term, above 0.

    Raises:
        ValueError: There is no weight, a weight or ``df`` is not above 0, ``nc`` has another length or a number below
            0, one of these is not finite, or ``x`` is NaN.

    Source: Lugannani and Rice, "Saddle point approximation for the distribution of the sum of independent random
    variables" (1980).

    Examples:
        >>> round(weighted_chi2_logcdf(1e-3, np.ones(50)), 1)  # exactly -248.03
        -248.0
    """
    checks.arguments()
    nc = np.zeros(len(weights)) if nc is None else nc
    if not (len(weights) and np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError(f"weights = {weights}: expected finite numbers above 0")
    if nc.shape != weights.shape or not (np.isfinite(nc).all() and (nc >= 0).all()):
        raise ValueError(f"nc = {nc}: expected {len(weights)} finite numbers, at least 0")
    checks.number("df", df, above=0)
    if math.isnan(x):
        raise ValueError(f"x = {x}: expected a number")
    return saddlepoint_logcdf(x, weights, weights * nc, df)


def saddlepoint_logcdf(
    x: float | int, weights: Float[np.ndarray, " terms"], shifts: Float[np.ndarray, " terms"], df: float | int
) -> float:
    """``weighted_chi2_logcdf`` with shifts = weights * nc in place of nc; the term of a weight of 0 is a constant.

    Symbols are those of ``weighted_chi2_logcdf``; K2 and K3 are the second and the third derivative of K.

    Args:
        x: The value of the sum.
        weights: w, at least 0.
        shifts: w_i nc_i of each term, at least 0.
        df: Degrees of freedom of each term, above 0.
    """
    if not x > shifts[weights == 0].sum():
        return -math.inf
    scale = float((df * weights + shifts).sum())  # the mean
    x, weights, shifts = x / scale, weights / scale, shifts / scale
    if not weights.any() or x > CERTAIN:
        return 0.0

    def cumulants(t: float) -> tuple[float, float, float, float]:
        tilt = 1 / (1 - 2 * weights * t)
        tilted_weights = weights * tilt
        return (
            float((df / 2 * np.log(tilt) + shifts * tilt * t).sum()),
            float((df * tilted_weights + shifts * tilt**2).sum()),
            float((2 * df * tilted_weights**2 + 4 * shifts * tilted_weights * tilt**2).sum()),
            float((8 * df * tilted_weights**3 + 24 * shifts * tilted_weights**2 * tilt**2).sum()),
        )

    def scaled_variance(t: float) -> float:
        """The second derivative times t^2, for t so far below 0 that the second derivative vanishes."""
        tilt = 1 / (1 - 2 * weights * t)
        step = t * tilt
        return float((2 * df * (weights * step) ** 2 + 4 * shifts * tilt * weights * step**2).sum())

    t = _saddlepoint(x, lambda t: cumulants(t)[1], float(weights.max()))
    K, _, K2, K3 = cumulants(t)
    r = math.copysign(math.sqrt(max(2 * (t * x - K), 0.0)), t)
    if abs(r) < NEAR_MEAN:
        correction = K3 / (6 * K2**1.5)
    else:
        u = -math.sqrt(scaled_variance(t)) if np.finfo(float).tiny > K2 else t * math.sqrt(K2)
        correction = 1 / r - 1 / u
    log_phi = -(r**2) / 2 - math.log(2 * math.pi) / 2
    log_Phi = float(log_ndtr(r))
    return min(log_Phi + math.log1p(math.exp(log_phi - log_Phi) * correction), 0.0)


def _saddlepoint(x: float, mean_at: Callable[[float], float], largest_weight: float) -> float:
    """The t at which the tilted mean is x, below the pole at 1 / (2 largest weight)."""
    if x == mean_at(0.0):
        return 0.0
    if x < mean_at(0.0):
        low, high = -1.0, 0.0
        while mean_at(low) > x:
            low, high = 8 * low, low
    else:
        pole = 0.5 / largest_weight
        low, high = 0.0, pole / 2
        while mean_at(high) < x:
            low, high = high, (high + pole) / 2
    return float(brentq(lambda t: math.log(mean_at(t) / x), low, high, xtol=1e-300, rtol=1e-14))


def noncentral_chi2_logcdf(x: float | int, df: float | int, nc: float | int) -> float:
    """The logarithm of the non-central chi-square distribution function, accurate also where it is below 1e-308.

    It is a mixture of central distributions with df + 2 j degrees of freedom, by a Poisson distribution of mean nc / 2:

        P = sum_j exp(-nc / 2) (nc / 2)^j / j! gamma(df / 2 + j, x / 2) / Gamma(df / 2 + j)

    Args:
        x: The value of the variable; the result is -inf where it is not above 0.
        df: Degrees of freedom, above 0.
        nc: Non-centrality, at least 0.

    Raises:
        ValueError: ``df`` is not above 0 or is above 1e280, ``nc`` is negative or above 1e8, or ``x`` is not finite.

    Examples:
        >>> round(noncentral_chi2_logcdf(1e-6, 200, 3.0), 1)
        -1816.1
    """
    checks.number("df", df, above=0, maximum=1 / UNDERFLOW)
    checks.number("nc", nc, minimum=0, maximum=MOST_TERMS)
    checks.number("x", x)
    if x <= 0:
        return -math.inf
    z, half_nc = x / 2, nc / 2
    j = np.arange(math.ceil(half_nc + 40 * math.sqrt(half_nc) + 40)) if half_nc else np.zeros(1)
    poisson = j * math.log(half_nc) - half_nc - gammaln(j + 1) if half_nc else np.zeros(1)
    a = df / 2 + j
    central = gammainc(a, z)
    underflows = central < UNDERFLOW
    log_central = np.log(np.where(underflows, 1.0, central))
    # gamma(a, z) / Gamma(a) = z^a exp(-z) / Gamma(a + 1) 1F1(1, a + 1, z), where 1F1 is near 1, since a is far above z
    a = a[underflows]
    log_central[underflows] = a * math.log(z) - z - gammaln(a + 1) + np.log(hyp1f1(1, a + 1, z))
    return min(float(logsumexp(poisson + log_central)), 0.0)
