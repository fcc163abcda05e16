"""How many seeds a verdict takes: the power of a t test, of an exact test of a share, and of looks at any time."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import special

from engram.lab.claims.inference import POWER

MOST_SIMULATED, TABLES = 100, 2000
REASON = 10_000  # seeds; where more are needed, none within reason decide

Column = Float[np.ndarray, " tables"]


def t_power(shift: float, freedom: float, critical: float) -> float:
    """The probability that a t statistic exceeds a critical value.

    Args:
        shift: The distance from the threshold in standard errors.
        freedom: The degrees of freedom.
        critical: The critical value.
    """
    if math.isinf(critical):
        return 0.0
    power = 1 - float(special.nctdtr(freedom, shift, critical))
    if math.isnan(power):  # of a large shift: normal, with the variance of the estimated error
        power = float(special.ndtr((shift - critical) / math.sqrt(1 + critical**2 / (2 * freedom))))
    return power


def guarded_power(shift: float, seeds: int, critical: float, guard: float, samples: int = 1) -> float:
    """The power of a t test whose statistic must also exceed the critical value after Hall's transformation.

    Of up to 100 seeds it is the share of 2,000 tables of normal values, always the same ones; of more, whose skewness
    is small, that of the t test alone.

    Args:
        shift: The distance from the threshold in standard errors.
        seeds: The number of values in each sample.
        critical: The critical value.
        guard: How many times the skewness of the values is corrected for.
        samples: 1, or 2 for a difference of means.
    """
    if not guard or seeds > MOST_SIMULATED or math.isinf(critical):
        return t_power(shift, samples * (seeds - 1), critical)
    means, errors, skewness = _normal_tables(seeds, samples)
    t, g = (means + shift) / errors, guard * skewness
    transformed = t + g * t**2 / 3 + g**2 * t**3 / 27 + g / 6
    return float(np.mean((t > critical) & (transformed > critical)))


@functools.cache
def _normal_tables(seeds: int, samples: int) -> tuple[Column, Column, Column]:
    """Of many tables the estimate and its error, in true standard errors, and its skewness."""
    rng = np.random.default_rng([seeds, samples])
    values = rng.normal(size=(TABLES, samples, seeds))
    centred = values - values.mean(2, keepdims=True)
    variance = (centred**2).sum((1, 2)) / (seeds - 1) / seeds
    third = (centred**3).sum((1, 2)) / ((seeds - 1) * (seeds - 2)) / seeds
    unit = math.sqrt(samples / seeds)
    return values.mean(2).sum(1) / unit, np.sqrt(variance) / unit, third / variance**1.5


def seeds_needed(power_of: Callable[[int], float], seeds: int) -> int | None:
    """The smallest number of seeds, above the present one, that decides four times in five; None beyond reason.

    Args:
        power_of: The power of a number of seeds.
        seeds: The present number.

    Examples:
        >>> seeds_needed(lambda n: t_power(1.0 * n**0.5, n - 1, float(special.stdtrit(n - 1, 0.975))), 3)
        10
    """
    few, many = seeds, max(seeds + 1, 3)
    while power_of(many) < POWER:
        if many >= REASON:
            return None
        few, many = many, min(2 * many, REASON)
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if power_of(middle) >= POWER else (middle, many)
    return many


def smallest_distance(power_of: Callable[[float], float], error: float) -> float:
    """The distance from a threshold that is decided four times in five; infinite where none is.

    Args:
        power_of: The power at a distance in standard errors.
        error: The standard error.
    """
    low, high = 0.0, 4.0
    while power_of(high) < POWER:
        if high > 1e4:
            return math.inf
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if power_of(middle) >= POWER else (middle, high)
    return high * error


def share_power(share: float, trials: int, decides: Callable[[int, int], bool]) -> float:
    """The probability that a number of successes decides.

    Args:
        share: The true share.
        trials: The number of independent trials.
        decides: Whether so many successes of so many trials decide; it holds from one number on, or up to one.
    """
    low, high = -1, trials + 1  # decides at the end nearer to the share, if anywhere
    is_high = decides(trials, trials)
    if not is_high and not decides(0, trials):
        return 0.0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle, trials) == is_high else (middle, high)
    upper = 1.0 if high == 0 else float(special.bdtrc(high - 1, trials, share))
    return upper if is_high else float(np.clip(1 - upper, 0.0, 1.0))
