"""Samples from an unknown dictionary, and the errors of the learned dictionary and codes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Float

from engram.lab import Run, setting, settings
from engram.memory import NOODL, match_dictionaries, relative_error
from engram.numeric.unit_rows import unit_rows
from engram.studies.experiments.noodl.learner import Learner, build_learner, learn
from engram.tasks import make_sparse_dictionary_data, perturb_dictionary, turn_dictionary

FOUND = 0.99  # the smallest cosine at which an atom counts as found


@settings
class Synthetic(Learner):
    """The settings of a learner, its initialisation and the samples."""

    n_features: int = setting(200, "features of a sample", ge=2)
    n_nonzero: int = setting(8, "largest number of atoms in a sample", ge=1)
    exact: bool = setting(False, "whether every sample has exactly this number")
    start: Literal["near", "samples"] = setting(
        "near", "initialisation: near the true dictionary, or samples of the first batch"
    )
    start_radius: float = setting(2.0, "distance of a near initialisation, in units of 1 / log(n_features)", ge=0)
    noise: float = setting(0.0, "standard deviation of noise in each feature", ge=0)
    drift: float = setting(0.0, "rotation of every true atom between batches, in degrees", ge=0, le=90)
    chosen: tuple[str, ...] = setting((), "settings to be chosen one after another on another dictionary")

    def __post_init__(self) -> None:
        if self.n_nonzero > self.n_components:
            raise ValueError(f"n_nonzero = {self.n_nonzero}: expected at most n_components = {self.n_components}")
        if unknown := set(self.chosen) - set(GRIDS):
            raise ValueError(f"chosen = {self.chosen}: expected some of {', '.join(GRIDS)}, not {', '.join(unknown)}")


def step_for(arm: Synthetic) -> float:
    """The step size of the dictionary, from the number of atoms and their mean number in a sample."""
    return 0.5 * arm.n_components / (arm.n_nonzero if arm.exact else (arm.n_nonzero + 1) / 2)


GRIDS = {"dict_step": (1.0, 2.0, 4.0, 8.0, 16.0), "forgetting": (0.2, 0.4, 0.8)}
ALPHAS = (0.01, 0.03, 0.1, 0.3)  # penalties of the lasso
NOISES = (0.01, 0.03, 0.1)
DRIFT: dict[str, Any] = {"drift": 0.5, "updates": 100, "dict_step": step_for}
START: dict[str, Any] = {"updates": 400, "dict_step": step_for}  # from afar, some atoms are found late
LARGE: dict[str, Any] = {  # the published TensorFlow demonstration
    "n_features": 1000,
    "n_components": 1500,
    "n_nonzero": 100,
    "batch_size": 2000,
    "updates": 50,
    "start_radius": 1.0,
}
BLIND: dict[str, Any] = {"n_features": 64, "exact": True, "start": "samples", "updates": 100, "dict_step": step_for}
arms: dict[str, dict[str, Any]] = {
    "noodl": {},
    "noodl-iht": {"method": "iht"},
    "noodl-unpruned": {"method": "iht-ls-unpruned"},
    **{arm: {"method": arm, "chosen": ("dict_step",)} for arm in ("arora-biased", "arora-unbiased")},
    **{f"lasso-{alpha}": {"method": "lasso", "lasso_alpha": alpha} for alpha in ALPHAS},
    "drift": DRIFT,
    "drift-lasso": {**DRIFT, "method": "lasso", "lasso_alpha": 0.03, "chosen": ("forgetting",)},
    **{
        f"{start}-{atoms}-{nonzero}": {
            **BLIND,
            "n_components": atoms,
            "n_nonzero": nonzero,
            "code_step": 0.0 if nonzero == 5 else 0.2,
            "mend": start == "mended",
        }
        for atoms, nonzero in ((64, 3), (96, 3), (96, 5))
        for start in ("blind", "mended")
    },
    **{f"nonzero-{nonzero}": {"n_nonzero": nonzero, "updates": 80, "dict_step": step_for} for nonzero in (4, 16, 32)},
    **{f"start-{radius}": {**START, "start_radius": radius} for radius in (1, 4, 6, 10, 14)},
    **{f"start-{radius}-nonzero-16": {**START, "start_radius": radius, "n_nonzero": 16} for radius in (4, 10, 14)},
    **{f"batch-{size}": {"batch_size": size, "updates": 120, "dict_step": 0.0} for size in (250, 100, 50)},
    "batch-100-fixed": {"batch_size": 100, "updates": 120, "dict_step": step_for},
    **{f"noise-{noise}": {"noise": noise, "updates": 35} for noise in NOISES},
    "large": LARGE,
    "large-iht": {**LARGE, "method": "iht"},
}


def draw(
    config: Synthetic, dictionary: Float[np.ndarray, "atoms features"], rng: np.random.Generator, count: int
) -> tuple[Float[np.ndarray, "samples features"], Float[np.ndarray, "samples atoms"]]:
    """New samples, ``count`` of them, and their codes.

    Args:
        config: The settings.
        dictionary: The dictionary that generates the samples.
        rng: Source of the codes and of the noise.
        count: Number of samples.
    """
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


class Problem:
    """An unknown dictionary, which may rotate, and an initialisation.

    Args:
        config: The settings.
        rng: The source of the dictionary and the samples.
    """

    def __init__(self, config: Synthetic, rng: np.random.Generator) -> None:
        self.config, self.rng = config, rng
        self.first = unit_rows(rng.standard_normal((config.n_components, config.n_features)))
        self.towards = rng.standard_normal(self.first.shape)
        if config.start == "near":
            self.start = perturb_dictionary(self.first, config.start_radius / math.log(config.n_features), rng)
        else:
            self.start = unit_rows(draw(config, self.first, rng, config.n_components)[0])

    def true(self, step: int) -> Float[np.ndarray, "atoms features"]:
        """The true dictionary at a batch."""
        return turn_dictionary(self.first, self.towards, step * self.config.drift)

    def batch(self, step: int) -> tuple[Float[np.ndarray, "samples features"], Float[np.ndarray, "samples atoms"]]:
        """New samples and their codes."""
        return draw(self.config, self.true(step), self.rng, self.config.batch_size)


def score(config: Synthetic, rng: np.random.Generator, name: str, value: Any) -> float:
    """The negative error on another dictionary: the smaller of those of the last and the average estimate.

    Args:
        config: The settings.
        rng: Draws the dictionary and the samples.
        name: Name of the setting to be chosen.
        value: A candidate for it.
    """
    config = replace(config, **{name: value})
    problem = Problem(config, rng)
    model, average = build_learner(config, problem.start), np.zeros_like(problem.first)
    for step in range(config.updates):
        try:
            learn(model, problem.batch(step)[0])
        except RuntimeError:  # it diverges
            return math.nan
        if step >= config.updates // 2:
            average += model.components_
    true = problem.true(config.updates - 1)
    return -min(relative_error(model.components_, true), match_dictionaries(average, true).error)


def trial(config: Synthetic, run: Run) -> dict[str, Any]:
    """Learn from new batches; the results are the errors of dictionary and codes."""
    # Drawn before any choice, so that all arms have the same problem; choices use a separate generator.
    problem, other_rng = Problem(config, run.rng), run.rng.spawn(1)[0]
    for name in config.chosen:
        upper = 1.0 if name == "forgetting" else math.inf
        score_of = partial(score, config, other_rng, name)
        value: Any = run.choose(name, GRIDS[name], score_of, bounds=(0.0, upper), others=other_rng)
        config = replace(config, **{name: value})
    model = build_learner(config, problem.start)
    average, has_diverged = np.zeros_like(problem.first), np.zeros(1)
    for step in run.steps(config.updates, learner=model, average=average, broken=has_diverged):
        X, code = problem.batch(step)
        values: dict[str, Any] = {}
        has_codes = isinstance(model, NOODL) and step > 0
        if not has_diverged:
            try:
                if has_codes:
                    estimate = model.transform(X)
                    values["code_error"] = relative_error(estimate, code)
                    values["support"] = float((np.sign(estimate) == np.sign(code)).all(axis=1).mean())
                learn(model, X)
            except RuntimeError:  # it diverges and is left unchanged
                has_diverged[0] = 1
        if has_codes:
            values["iterations"] = model.code_iterations_
        components, true = model.components_, problem.true(step)
        if step >= config.updates // 2:
            average += components
        if config.start == "near":
            values["dictionary_error"] = relative_error(components, true)
        elif (step + 1) % 10 == 0 or step + 1 == config.updates:
            values["dictionary_error"] = match_dictionaries(components, true).error
        run.log(step + 1, **values)
    run.keep(learner=model)
    true = problem.true(config.updates - 1)
    match = match_dictionaries(model.components_, true)
    return {
        "error": relative_error(model.components_, true),
        "matched_error": match.error,
        "found": float((match.cosine >= FOUND).mean()),
        "averaged_error": match_dictionaries(average, true).error if average.any() else match.error,
        **of_curves(run.metrics(), aligned=config.start == "near"),
        "broken": bool(has_diverged),
    }


def of_curves(metrics: pl.DataFrame, aligned: bool) -> dict[str, float]:
    """A summary of the curves of a trial, with the dictionary's error only if atoms keep their initial order."""
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
            residuals = logs - (slope * steps[window] + offset)
            result["slope"], result["linearity"] = float(slope), float(1 - residuals.var() / max(logs.var(), 1e-300))
    if "code_error" in curves:
        result["code_error"] = float(curves["code_error"][1][-1])
        steps, support = curves["support"]
        result["support"] = float(support[steps >= 6].min()) if (steps >= 6).any() else float(support[-1])
    if "iterations" in curves:
        result["iterations"] = float(curves["iterations"][1].mean())
    return result
