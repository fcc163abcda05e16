"""Monitoring of surprisal as numba loops: one stream n after another, each with its own statistics."""

import math

import numpy as np

from engram.memory.kernels import chance, number
from engram.numeric.jit import inline, jit

ZSCORE, RATIO, UNIFORM, RANDOM = 0, 1, 2, 3
UNIT = 2.0**-53


@inline
def moments(count, mean, squares, ring):
    """Mean and standard deviation (n - 1) of the samples that count: all of them, or those in a ring."""
    if not ring.size:
        return mean, math.sqrt(squares / (count - 1)) if count > 1 else 0.0
    filled = min(count, ring.size)
    total = 0.0
    for i in range(filled):
        total += ring[i]
    mean = total / filled if filled else 0.0
    total = 0.0
    for i in range(filled):
        total += (ring[i] - mean) ** 2
    return mean, math.sqrt(total / (filled - 1)) if filled > 1 else 0.0


def _observe(x, armed, criterion, numbers, options, seed, state, rings, triggered, statistic):
    threshold, std_floor = numbers
    min_samples, append_on_trigger, reset_on_trigger, skip_repeats = options
    counts, means, squares, since, draws, previous = state
    for n in range(x.size):
        triggered[n], statistic[n] = False, np.nan
        repeated = skip_repeats and x[n] == previous[n]
        previous[n] = x[n]
        if repeated:
            continue
        since[n] += 1
        mean, std = moments(counts[n], means[n], squares[n], rings[n])
        enough = min(counts[n], rings.shape[1]) if rings.shape[1] else counts[n]
        fires = False
        if criterion == ZSCORE:
            if std > std_floor:
                statistic[n] = (x[n] - mean) / std
                fires = statistic[n] > threshold
        elif criterion == RATIO:
            if mean > 0:
                statistic[n] = x[n] / mean
                fires = x[n] >= threshold * mean
        elif criterion == UNIFORM:
            statistic[n] = since[n]
            fires = since[n] >= threshold
        else:
            statistic[n] = chance(number(seed[n], draws[n])) * UNIT
            draws[n] += 1
            fires = statistic[n] < threshold
        if fires and armed[n] and enough >= min_samples:
            triggered[n] = True
            since[n] = 0
            if reset_on_trigger:
                counts[n], means[n], squares[n] = 0, 0.0, 0.0
            if not append_on_trigger:
                continue
        if rings.shape[1]:
            rings[n, counts[n] % rings.shape[1]] = x[n]
        counts[n] += 1
        change = x[n] - means[n]
        means[n] += change / counts[n]
        squares[n] += change * (x[n] - means[n])


observe = jit(_observe)


def _scan(x, criterion, numbers, options, seed, state, rings, triggered, statistic):
    """The index of the first of successive samples of one stream that fires, or -1; later ones are not read."""
    armed = np.ones(1, np.bool_)
    for t in range(x.size):
        observe(x[t : t + 1], armed, criterion, numbers, options, seed, state, rings, triggered, statistic)
        if triggered[0]:
            return t
    return -1


scan = jit(_scan)
