"""The state of estimators in scikit-learn's style: their fitted attributes, without the parameters."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np

from engram import checks
from engram.state import check_state

_OPTIONAL = ("labels_", "feature_names_in_")  # the first is set only by ``fit``, the second only for data frames


class EstimatorState:
    """The base class of estimators that ``Saveable`` stores: it gives their parameters and fitted attributes."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that fitting has set, as arrays and plain values; empty before fitting."""
        parameters = self.get_params()  # type: ignore[attr-defined]
        state = {name: value for name, value in vars(self).items() if name not in parameters}
        if "feature_names_in_" in state:
            state["feature_names_in_"] = list(state["feature_names_in_"])
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a copy of the state that ``state_dict`` returned.

        Raises:
            TypeError, ValueError: It is the state of another class or of other parameters; the estimator is unchanged.
        """
        checks.arguments()
        if state:
            form = self._form(state) | {"n_features_in_": int, "feature_names_in_": list}
            check_state(state, {name: spec for name, spec in form.items() if name in state or name not in _OPTIONAL})
        for name in self.state_dict():
            delattr(self, name)
        for name, value in state.items():
            setattr(self, name, np.array(value, object) if name == "feature_names_in_" else copy.deepcopy(value))

    def _form(self, state: dict[str, Any]) -> dict[str, Any]:
        """The form of the fitted state, for ``check_state``."""
        raise NotImplementedError

    def _content(self) -> dict[str, Any]:
        return {"parameters": self.get_params(), "state": self.state_dict()}  # type: ignore[attr-defined]

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Self:
        model = cls(**content["parameters"])
        model.load_state_dict(content["state"])
        return model
