"""The state of scikit-learn style estimators: what fitting has set, beside the parameters."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from engram import checks


class EstimatorState:
    """An estimator's content for ``engram.storage.saveable.Saveable``: its parameters and all other attributes."""

    def state_dict(self) -> dict[str, Any]:
        """All that learning has changed, as arrays and plain values; empty before any learning."""
        parameters = self.get_params()  # type: ignore[attr-defined]
        state = {name: value for name, value in vars(self).items() if name not in parameters}
        if "feature_names_in_" in state:
            state["feature_names_in_"] = list(state["feature_names_in_"])
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state that ``state_dict`` returned."""
        checks.arguments()
        for name in self.state_dict():
            delattr(self, name)
        for name, value in state.items():
            setattr(self, name, np.array(value, object) if name == "feature_names_in_" else value)

    def _content(self) -> dict[str, Any]:
        return {"parameters": self.get_params(), "state": self.state_dict()}  # type: ignore[attr-defined]

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Self:
        model = cls(**content["parameters"])
        model.load_state_dict(content["state"])
        return model
