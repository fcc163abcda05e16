"""Known returns of named tasks in the space, and diagnoses of tasks drawn at random."""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np
from scipy.stats import chi2

from engram.lab import Run, setting, settings
from engram.studies.experiments.meta_task_space.known_returns import exact_returns, returns_of_extensions
from engram.tasks.meta import diagnose, digest, named, reference_criteria, sample
from engram.tasks.meta.diagnose import COSMETIC, DEGENERACIES


@settings
class Anchors:
    """The settings for measuring known returns of named tasks."""

    tasks: Literal["literature", "extensions"] = setting(
        "literature", "which named tasks: those of the literature, or the paper's extensions on grids"
    )
    lifetimes: int = setting(10_000, "lifetimes over which a return is measured", ge=8)


@settings
class Generator:
    """The settings for random tasks and their diagnoses."""

    attempts: int = setting(20_000, "draws of the published generator", ge=20)
    accepted: int = setting(1500, "tasks accepted by the published criteria and diagnosed", ge=2)


def measure_anchors(config: Anchors, run: Run) -> dict[str, Any]:
    """Measure known returns; the result is whether all deviations together are compatible with chance."""
    returns = exact_returns() if config.tasks == "literature" else returns_of_extensions()
    measured, off = np.zeros((len(returns), 2)), np.zeros(len(returns))
    seed = int(run.rng.integers(2**31))
    for i in run.steps(len(returns), measured=measured, off=off):
        known_return = list(returns.values())[i]
        # Lifetime k of an environment has the seed + k: no seed is used twice, so deviations are independent.
        value, error = measured[i] = known_return.measure(config.lifetimes, seed + i * config.lifetimes)
        gap = known_return.off(value)
        off[i] = gap / error if error else (0.0 if gap < 1e-9 else np.inf)  # deterministic returns have no error
        run.log(i + 1, off=off[i])
    return {
        "exact_p": float(chi2.sf((off**2).sum(), np.count_nonzero(measured[:, 1]))),
        "returns": dict(zip(returns, measured.round(6).tolist(), strict=True)),
    }


PARTS = 10


def measure_generator(config: Generator, run: Run) -> dict[str, Any]:
    """Draw tasks and diagnose them; the results are the shares of each diagnosis."""
    n_attempts, n_diagnosed = PARTS * (config.attempts // PARTS), PARTS * max(1, config.accepted // PARTS)
    codes_known = sorted(DEGENERACIES + COSMETIC)
    accepted, codes, n_worth = np.zeros(1), np.zeros(len(codes_known)), np.zeros(1)
    hashes = np.zeros(n_diagnosed, dtype=np.int64)
    for part in run.steps(PARTS, accepted=accepted, codes=codes, good=n_worth, hashes=hashes):
        for _ in range(n_attempts // PARTS):
            accepted += all(reference_criteria(sample(run.rng, accept=None, reference_quirks=True)))
        for i in range(part * n_diagnosed // PARTS, (part + 1) * n_diagnosed // PARTS):
            task = sample(run.rng, accept="reference", reference_quirks=True)
            diagnosis = diagnose(task)
            codes += [code in diagnosis.codes for code in codes_known]
            n_worth += (diagnosis.gap > 0.02 or bool(diagnosis.ambiguous)) and "TRIVIAL" not in diagnosis.codes
            hashes[i] = int(digest(task)[:15], 16)
        run.log(part + 1, accepted=accepted[0] / ((part + 1) * n_attempts // PARTS))
    shares = dict(zip(codes_known, (codes / n_diagnosed).tolist(), strict=True))
    return {
        "attempts": n_attempts,
        "accepted": float(accepted[0]) / n_attempts,
        "diagnosed": n_diagnosed,
        "codes": {code: share for code, share in shares.items() if share},
        "single_optimum": shares["SINGLE_OPTIMUM"],
        "worth": float(n_worth[0]) / n_diagnosed,
        "distinct": len(np.unique(hashes)) / n_diagnosed,
        **of_named_tasks(),
    }


@functools.cache
def of_named_tasks() -> dict[str, float | int]:
    """The number of degeneracies diagnosed in named tasks, and the share of planted defects that are found."""
    return {
        "false_alarms": sum(len(diagnose(task).degeneracies) for task in named.catalogue().values()),
        "detected": float(np.mean([code in diagnose(task).codes for task, code in named.degenerate().values()])),
    }
