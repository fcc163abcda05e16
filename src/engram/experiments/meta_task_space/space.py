"""Known returns of named tasks in the space, and diagnoses of tasks drawn at random."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy.stats import chi2

from engram.experiments.meta_task_space.known_returns import exact_returns
from engram.lab import Run, setting, settings
from engram.tasks.meta import diagnose, digest, named, reference_criteria, sample
from engram.tasks.meta.diagnose import COSMETIC, DEGENERACIES


@settings
class Anchors:
    """The settings for measuring known returns of named tasks."""

    lifetimes: int = setting(10_000, "lifetimes over which a return is measured", ge=8, scales=True)


@settings
class Generator:
    """The settings for random tasks and their diagnoses."""

    attempts: int = setting(20_000, "draws of the published generator", ge=20)
    accepted: int = setting(1500, "tasks accepted by the published criteria and diagnosed", ge=2, scales=True)


def measure_anchors(config: Anchors, run: Run) -> dict[str, Any]:
    """Measure known returns; the result is whether all deviations together are compatible with chance."""
    every = exact_returns()
    measured, off = np.zeros((len(every), 2)), np.zeros(len(every))
    seed = int(run.rng.integers(2**31))
    for i in run.steps(len(every), measured=measured, off=off):
        known_return = list(every.values())[i]
        # Lifetime k of an environment has the seed + k: no seed is used twice, so deviations are independent.
        value, error = measured[i] = known_return.measure(config.lifetimes, seed + i * config.lifetimes)
        far = known_return.off(value)
        off[i] = far / error if error else (0.0 if far < 1e-9 else np.inf)  # some returns are deterministic
        run.log(i + 1, off=off[i])
    return {
        "exact_p": float(chi2.sf((off**2).sum(), np.count_nonzero(measured[:, 1]))),
        "returns": dict(zip(every, measured.round(6).tolist(), strict=True)),
    }


PARTS = 10


def measure_generator(config: Generator, run: Run) -> dict[str, Any]:
    """Draw tasks and diagnose them; the results are the shares of each diagnosis."""
    attempts, diagnosed = PARTS * (config.attempts // PARTS), PARTS * max(1, config.accepted // PARTS)
    codes_known = sorted(DEGENERACIES + COSMETIC)
    accepted, codes, good = np.zeros(1), np.zeros(len(codes_known)), np.zeros(1)
    hashes = np.zeros(diagnosed, dtype=np.int64)
    for part in run.steps(PARTS, accepted=accepted, codes=codes, good=good, hashes=hashes):
        for _ in range(attempts // PARTS):
            accepted += all(reference_criteria(sample(run.rng, accept=None, reference_quirks=True)))
        for i in range(part * diagnosed // PARTS, (part + 1) * diagnosed // PARTS):
            task = sample(run.rng, accept="reference", reference_quirks=True)
            about = diagnose(task)
            codes += [code in about.codes for code in codes_known]
            good += (about.gap > 0.02 or bool(about.ambiguous)) and "TRIVIAL" not in about.codes
            hashes[i] = int(digest(task)[:15], 16)
        run.log(part + 1, accepted=accepted[0] / ((part + 1) * attempts // PARTS))
    shares = dict(zip(codes_known, (codes / diagnosed).tolist(), strict=True))
    return {
        "attempts": attempts,
        "accepted": float(accepted[0]) / attempts,
        "diagnosed": diagnosed,
        "codes": {code: share for code, share in shares.items() if share},
        "single_optimum": shares["SINGLE_OPTIMUM"],
        "worth": float(good[0]) / diagnosed,
        "distinct": len(np.unique(hashes)) / diagnosed,
        **of_named_tasks(),
    }


@functools.cache
def of_named_tasks() -> dict[str, float | int]:
    """The number of degeneracies diagnosed in named tasks, and the share of planted defects that are found."""
    return {
        "false_alarms": sum(len(diagnose(task).degeneracies) for task in named.catalogue().values()),
        "detected": float(np.mean([code in diagnose(task).codes for task, code in named.degenerate().values()])),
    }
