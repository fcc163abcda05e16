"""Samples of a dictionary that nobody knows: how near the learned dictionary and codes come to the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from annotated_types import Ge, Le
from jaxtyping import Float

from engram.experiments.noodl.learner import Learner, build_learner, learn
from engram.lab import Run
from engram.memory import NOODL, match_dictionaries, relative_error
from engram.numeric.unit_rows import unit_rows
from engram.tasks import make_sparse_dictionary_data, perturb_dictionary, turn_dictionary

FOUND = 0.99  # cosine from which an atom counts as found


@dataclass(frozen=True)
class Synthetic(Learner):
    """A learner, where it starts, and the samples."""

    n_features: Annotated[int, Ge(2)] = 200
    """Features of a sample."""
    n_nonzero: Annotated[int, Ge(1)] = 8
    """Largest number of atoms in a sample."""
    exact: bool = False
    """Every sample has as many."""
    start: Literal["near", "samples"] = "near"
    """Start near the true dictionary, or from samples of the first batch."""
    start_radius: Annotated[float, Ge(0)] = 2.0
    """Distance of a near start, in units of 1 / log(n_features)."""
    noise: Annotated[float, Ge(0)] = 0.0
    """Standard deviation of noise in each feature."""
    drift: Annotated[float, Ge(0), Le(90)] = 0.0
    """Degrees by which every true atom turns between batches."""

    def __post_init__(self) -> None:
        if self.n_nonzero > self.n_components:
            raise ValueError(f"n_nonzero = {self.n_nonzero}: expected at most n_components = {self.n_components}")


def draw(
    config: Synthetic, dictionary: Float[np.ndarray, "atoms features"], rng: np.random.Generator, count: int
) -> tuple[Float[np.ndarray, "samples features"], Float[np.ndarray, "samples atoms"]]:
    """Return fresh samples and their codes."""
    X, _, code = make_sparse_dictionary_data(
        count,
        n_nonzero=config.n_nonzero,
        exact=config.exact,
        coef_min=config.coef_min,
        noise=config.noise,
        dictionary=dictionary,
        random_state=rng,
    )
    return X, code


def trial(config: Synthetic, run: Run) -> dict[str, Any]:
    """Learn from fresh batches; the result is how near dictionary and codes are to the truth."""
    rng = run.rng
    first = unit_rows(rng.standard_normal((config.n_components, config.n_features)))
    towards = rng.standard_normal(first.shape)
    if config.start == "near":
        start = perturb_dictionary(first, config.start_radius / math.log(config.n_features), rng)
    else:
        start = unit_rows(draw(config, first, rng, config.n_components)[0])
    model = build_learner(config, start)
    average, broken = np.zeros_like(first), np.zeros(1)
    for step in run.steps(config.updates, learner=model, average=average, broken=broken):
        true = turn_dictionary(first, towards, step * config.drift)
        X, code = draw(config, true, rng, config.batch_size)
        values: dict[str, Any] = {}
        coded = isinstance(model, NOODL) and step > 0
        if not broken:
            try:
                if coded:
                    found = model.transform(X)
                    values["code_error"] = relative_error(found, code)
                    values["support"] = float((np.sign(found) == np.sign(code)).all(axis=1).mean())
                learn(model, X)
            except RuntimeError:  # it diverges, and stays what it was
                broken[0] = 1
        if coded:
            values["iterations"] = model.code_iterations_
        components = model.components_
        if step >= config.updates // 2:
            average += components
        if config.start == "near":
            values["dictionary_error"] = relative_error(components, true)
        elif (step + 1) % 10 == 0 or step + 1 == config.updates:
            values["dictionary_error"] = match_dictionaries(components, true).error
        run.log(step + 1, **values)
    true = turn_dictionary(first, towards, (config.updates - 1) * config.drift)
    match = match_dictionaries(model.components_, true)
    return {
        "error": relative_error(model.components_, true),
        "matched_error": match.error,
        "found": float((match.cosine >= FOUND).mean()),
        "averaged_error": match_dictionaries(average, true).error if average.any() else match.error,
        **of_curves(run.metrics(), aligned=config.start == "near"),
        "broken": bool(broken),
    }


def of_curves(metrics: pl.DataFrame, aligned: bool) -> dict[str, float]:
    """Return what the curves of a trial say; of the error only where atoms keep their places from the start."""
    curves = {
        str(name): (rows["step"].to_numpy(), rows["value"].to_numpy())
        for (name,), rows in metrics.group_by("metric", maintain_order=True)
    }
    result = {}
    if aligned:
        steps, errors = curves["dictionary_error"]
        for early in (5, 10):
            result[f"error_{early}"] = float(errors[steps == early].mean() if early in steps else errors[-1])
        result["late_error"] = float(errors[-max(1, len(errors) // 5) :].mean())
        window = (steps >= 5) & (steps <= 45)
        if window.sum() > 2 and (errors > 0).all():
            logs = np.log10(errors[window])
            slope, offset = np.polyfit(steps[window], logs, 1)
            rest = logs - (slope * steps[window] + offset)
            result["slope"], result["linearity"] = float(slope), float(1 - rest.var() / max(logs.var(), 1e-300))
    if "code_error" in curves:
        result["code_error"] = float(curves["code_error"][1][-1])
        steps, support = curves["support"]
        result["support"] = float(support[steps >= 6].min()) if (steps >= 6).any() else float(support[-1])
    if "iterations" in curves:
        result["iterations"] = float(curves["iterations"][1].mean())
    return result
