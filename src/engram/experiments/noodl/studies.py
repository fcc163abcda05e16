"""Dictionaries learned from batches, of samples whose dictionary nobody knows and of a photograph's patches."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning

from engram.lab import Run
from engram.memory import NOODL, explained_share, match_dictionaries, relative_error
from engram.tasks import make_sparse_dictionary_data, perturb_dictionary, photograph_patches, turn_dictionary
from engram.unit_rows import unit_rows

FOUND = 0.99  # cosine from which an atom counts as found
PATCH = 8
NONZEROS = (4, 8)  # coefficients with which patches are reconstructed


@dataclass(frozen=True)
class Learner:
    """A learner and the batches that it gets; the config of each study is a subclass."""

    method: Literal["iht-ls", "iht", "iht-ls-unpruned", "arora-biased", "arora-unbiased", "lasso"] = "iht-ls"
    """NOODL with a solver of its codes, a rule of Arora et al., or a lasso (scikit-learn)."""
    n_components: Annotated[int, Ge(2)] = 250
    """Atoms of the dictionary."""
    batch_size: Annotated[int, Ge(1)] = 500
    """Samples in a batch."""
    updates: Annotated[int, Ge(6)] = 60
    """Batches, each of fresh samples and a step of the dictionary."""
    dict_step: Annotated[float, Ge(0)] = 15.0
    """Step size of the dictionary; 0: automatic."""
    code_step: Annotated[float, Ge(0)] = 0.2
    """Step size of the codes; 0: automatic."""
    coef_min: Annotated[float, Gt(0)] = 1.0
    """Least size of a coefficient; the synthetic ones have it."""
    threshold: Annotated[float, Ge(0)] = 0.1
    """Threshold of the codes."""
    lasso_alpha: Annotated[float, Ge(0)] = 0.0
    """Penalty of the lasso."""


class Lasso(MiniBatchDictionaryLearning):  # type: ignore[misc]
    """scikit-learn's online dictionary learning, with its state at hand so that a killed trial goes on exactly."""

    def state_dict(self) -> dict[str, Any]:
        """Return all but the arguments."""
        state = {name: held for name, held in vars(self).items() if name not in self.get_params()}
        if "_random_state" in state:
            state["_random_state"] = state["_random_state"].get_state(legacy=False)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name, held in state.items():
            setattr(self, name, np.asfortranarray(held) if name == "components_" else held)
        if "_random_state" in state:
            self._random_state = np.random.RandomState()
            self._random_state.set_state(state["_random_state"])


def build_learner(config: Learner, start: Float[np.ndarray, "atoms features"], reinit: bool = False) -> NOODL | Lasso:
    """Make what learns in a trial, from a dictionary to start with."""
    if config.method == "lasso":
        return Lasso(
            config.n_components,
            alpha=config.lasso_alpha,
            batch_size=config.batch_size,
            fit_algorithm="cd",
            dict_init=start.copy(),  # it writes into the start that it is given
            random_state=0,
        )
    neural = config.method.startswith("arora")
    return NOODL(
        config.n_components,
        coef_min=config.coef_min,
        threshold=config.threshold,
        code_step=config.code_step or "auto",
        dict_step=config.dict_step or "auto",
        solver="iht-ls" if neural else config.method,
        update=config.method if neural else "noodl",
        dict_init=start,
        reinit="both" if reinit else None,
    )


def learn(learner: NOODL | Lasso, X: Float[np.ndarray, "samples features"]) -> None:
    """Take one step; that an arm's step is too large is seen in its results."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        learner.partial_fit(X)


def seconds(config: Learner, n_features: int) -> float:
    """Time of a trial on one core: drawing and coding the samples, and the steps of the dictionary."""
    entries = config.batch_size * config.n_components
    products = entries * n_features
    each = {
        "iht-ls": 40e-9 * entries + 0.15e-9 * products,
        "iht-ls-unpruned": 40e-9 * entries + 0.15e-9 * products,
        "iht": 250e-9 * entries,
        "arora-biased": 40e-9 * entries + 0.1e-9 * products,
        "arora-unbiased": 100e-9 * entries + 1e-9 * products,
        "lasso": (600e-9 + 36e-9 / max(config.lasso_alpha, 1e-3)) * entries,
    }[config.method]
    return 0.3 + config.updates * (2e-3 + 30e-9 * entries + each)


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
    reinit: bool = False
    """Replace unused and duplicate atoms by samples."""

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


def synthetic(config: Synthetic, run: Run) -> dict[str, Any]:
    """Learn from fresh batches; the result is how near dictionary and codes are to the truth."""
    rng = run.rng
    first = unit_rows(rng.standard_normal((config.n_components, config.n_features)))
    towards = rng.standard_normal(first.shape)
    if config.start == "near":
        start = perturb_dictionary(first, config.start_radius / math.log(config.n_features), rng)
    else:
        start = unit_rows(draw(config, first, rng, config.n_components)[0])
    model = build_learner(config, start, config.reinit)
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


@dataclass(frozen=True)
class Patches(Learner):
    """A learner of patches."""

    learning: bool = True
    """Whether it learns; if not, its atoms are random patches."""
    held_out: Annotated[int, Ge(1)] = 2000
    """Patches on which atoms are judged."""


def patches(config: Patches, run: Run) -> dict[str, Any]:
    """Learn from patches; the result is how well new ones are reconstructed from a few atoms."""
    rng = run.rng
    samples = photograph_patches(50 * config.batch_size, PATCH, "train", rng)
    held_out = photograph_patches(config.held_out, PATCH, "test", rng)
    start = unit_rows(samples[rng.choice(len(samples), config.n_components, replace=False)])
    model = build_learner(config, start)
    for step in run.steps(config.updates, learner=model):
        batch = samples[rng.choice(len(samples), config.batch_size, replace=False)]
        if config.learning:
            learn(model, batch)
        if (step + 1) % max(1, config.updates // 10) == 0:
            atoms = getattr(model, "components_", start)
            run.log(step + 1, unexplained=1 - explained_share(atoms, held_out, NONZEROS[0]))
    components = unit_rows(getattr(model, "components_", start))
    result = {f"explained_{nonzero}": explained_share(components, held_out, nonzero) for nonzero in NONZEROS}
    if isinstance(model, NOODL) and config.learning:
        result["mean_support"] = model.mean_support_
    return result
