"""What learns a dictionary from batches: NOODL, a rule of Arora et al., or scikit-learn's lasso."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt
from jaxtyping import Float
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning

from engram.memory import NOODL


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
    mend: bool = False
    """Mixtures of true atoms are mended."""


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


def build_learner(config: Learner, start: Float[np.ndarray, "atoms features"]) -> NOODL | Lasso:
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
        reinit="mixtures" if config.mend else None,
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
