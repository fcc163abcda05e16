"""What the space holds: known returns of named tasks, and what is wrong with tasks that are drawn at random."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy.stats import chi2

from engram.experiments.meta_task_space.known_returns import exact_returns, ideal_returns
from engram.lab import Run, setting, settings
from engram.tasks.meta import diagnose, digest, named, reference_criteria, sample
from engram.tasks.meta.diagnose import COSMETIC, DEGENERACIES


@settings
class Anchors:
    """Known returns of named tasks."""

    lifetimes: int = setting(10_000, "lifetimes by which a return is measured", ge=8, scales=True)


@settings
class Generator:
    """Random tasks and their diagnoses."""

    attempts: int = setting(20_000, "draws of the published generator", ge=20)
    accepted: int = setting(1500, "tasks accepted by the published criteria that are diagnosed", ge=2, scales=True)


def measure_anchors(config: Anchors, run: Run) -> dict[str, Any]:
    """Measure known returns; the result is how far off they are."""
    exact, ideal = exact_returns(), ideal_returns()
    every = exact | ideal
    names = list(every)
    measured, off = np.zeros((len(names), 2)), np.zeros((len(names), 2))
    seed = int(run.rng.integers(2**31))
    for i in run.steps(len(names), measured=measured, off=off):
        known = every[names[i]]
        # Lifetime k of an environment has the seed + k: none is lived twice, so that deviations are independent.
        value, error = measured[i] = known.measure(config.lifetimes, seed + i * config.lifetimes)
        far = known.off(value)
        errors = far / error if error else (0.0 if far < 1e-9 else np.inf)  # some returns are always the same
        off[i] = errors, far / known.value if known.value else 0.0
        run.log(i + 1, off=errors)
    pooled = (off[: len(exact), 0] ** 2).sum()
    return {
        "exact_p": float(chi2.sf(pooled, np.count_nonzero(measured[: len(exact), 1]))),
        "ideal_off": float(off[len(exact) :, 1].max()),  # as a share
        "returns": dict(zip(names, measured.round(6).tolist(), strict=True)),
    }


CRITERIA = {"variation": 0.5289, "control": 0.6664, "leaves": 0.9153, "entered": 0.5544}
PARTS = 10


def measure_generator(config: Generator, run: Run) -> dict[str, Any]:
    """Draw tasks and diagnose them; the result is how many of them are what."""
    attempts, diagnosed = PARTS * (config.attempts // PARTS), PARTS * max(1, config.accepted // PARTS)
    known = sorted(DEGENERACIES + COSMETIC)
    met, accepted, codes, good = np.zeros(4), np.zeros(1), np.zeros(len(known)), np.zeros(1)
    hashes = np.zeros(diagnosed, dtype=np.int64)
    for part in run.steps(PARTS, met=met, accepted=accepted, codes=codes, good=good, hashes=hashes):
        for _ in range(attempts // PARTS):
            passed = reference_criteria(sample(run.rng, accept=None, reference_quirks=True))
            met += passed
            accepted += all(passed)
        for i in range(part * diagnosed // PARTS, (part + 1) * diagnosed // PARTS):
            task = sample(run.rng, accept="reference", reference_quirks=True)
            about = diagnose(task)
            codes += [code in about.codes for code in known]
            good += (about.gap > 0.02 or bool(about.ambiguous)) and "TRIVIAL" not in about.codes
            hashes[i] = int(digest(task)[:15], 16)
        run.log(part + 1, accepted=accepted[0] / ((part + 1) * attempts // PARTS))
    shares = dict(zip(known, (codes / diagnosed).tolist(), strict=True))
    return {
        "attempts": attempts,
        "accepted": float(accepted[0]) / attempts,
        **dict(zip(CRITERIA, (met / attempts).tolist(), strict=True)),
        "diagnosed": diagnosed,
        "codes": {code: share for code, share in shares.items() if share},
        "single_optimum": shares["SINGLE_OPTIMUM"],
        "worth": float(good[0]) / diagnosed,
        "distinct": len(np.unique(hashes)) / diagnosed,
        **of_named_tasks(),
    }


@functools.cache
def of_named_tasks() -> dict[str, float | int]:
    """How many degeneracies named tasks have by diagnosis, and the share of planted defects that it finds."""
    return {
        "false_alarms": sum(len(diagnose(task).degeneracies) for task in named.catalogue().values()),
        "detected": float(np.mean([code in diagnose(task).codes for task, code in named.degenerate().values()])),
    }
