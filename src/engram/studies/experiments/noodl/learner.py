"""The learners of a dictionary from batches: NOODL, a rule of Arora et al., or scikit-learn's lasso."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning

from engram.lab import setting, settings
from engram.memory import NOODL


@settings
class Learner:
    """The settings of a learner and its batches, the base of each study's config."""

    method: Literal["iht-ls", "iht", "iht-ls-unpruned", "arora-biased", "arora-unbiased", "lasso"] = setting(
        "iht-ls", "NOODL with a solver of its codes, a rule of Arora et al., or a lasso (scikit-learn)"
    )
    n_components: int = setting(250, "atoms of the dictionary", ge=2)
    batch_size: int = setting(500, "samples in a batch", ge=1)
    updates: int = setting(60, "batches of new samples, each with one step of the dictionary", ge=6)
    dict_step: float = setting(15.0, "step size of the dictionary; 0: automatic", ge=0)
    code_step: float = setting(0.2, "step size of the codes; 0: automatic", ge=0)
    coef_min: float = setting(1.0, "smallest absolute value of a coefficient, as in the synthetic data", gt=0)
    threshold: float = setting(0.1, "threshold of the codes", ge=0)
    lasso_alpha: float = setting(0.0, "penalty of the lasso", ge=0)
    forgetting: float = setting(0.0, "share of its statistics that a lasso forgets at each batch", ge=0, le=1)
    mend: bool = setting(False, "whether mixtures of true atoms are repaired")


class Lasso(MiniBatchDictionaryLearning):  # type: ignore[misc]
    """scikit-learn's online dictionary learning with an accessible state, so that a killed trial resumes exactly.

    Attributes:
        forgetting: Share of its statistics forgotten at each batch; at 0 all batches have equal weights in the end.
    """

    forgetting = 0.0

    def _update_inner_stats(
        self,
        X: Float[np.ndarray, "samples features"],
        code: Float[np.ndarray, "samples atoms"],
        batch_size: int,
        step: int,
    ) -> None:
        """Add a batch to the statistics from which the dictionary is learned."""
        if self.forgetting:
            self._A *= 1 - self.forgetting
            self._A += code.T @ code / batch_size
            self._B *= 1 - self.forgetting
            self._B += X.T @ code / batch_size
        else:
            super()._update_inner_stats(X, code, batch_size, step)

    def state_dict(self) -> dict[str, Any]:
        """All attributes except the constructor's arguments."""
        state = {name: value for name, value in vars(self).items() if name not in self.get_params()}
        if "_random_state" in state:
            state["_random_state"] = state["_random_state"].get_state(legacy=False)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state."""
        for name, value in state.items():
            setattr(self, name, np.asfortranarray(value) if name == "components_" else value)
        if "_random_state" in state:
            self._random_state = np.random.RandomState()
            self._random_state.set_state(state["_random_state"])


def build_learner(config: Learner, start: Float[np.ndarray, "atoms features"]) -> NOODL | Lasso:
    """The learner of a trial, with an initial dictionary."""
    if config.method == "lasso":
        lasso = Lasso(
            config.n_components,
            alpha=config.lasso_alpha,
            batch_size=config.batch_size,
            fit_algorithm="cd",
            dict_init=start.copy(),  # copied, since it is modified in place
            random_state=0,
        )
        lasso.forgetting = config.forgetting
        return lasso
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
    """Take one step, without warnings: a step size that is too large shows in the results."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        learner.partial_fit(X)
