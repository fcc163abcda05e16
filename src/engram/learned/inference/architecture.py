"""The network that is fitted: a layer, a hidden layer behind choices, or a recurrent network."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.learned.inference.feed_forward import NONLINEARITIES, Layer
from engram.learned.inference.hidden_layer import HiddenLayer
from engram.learned.inference.model import Model, TermsModel
from engram.learned.inference.recurrent import RecurrentNetwork
from engram.learned.inference.rule_layer import RuleLayer
from engram.learned.inference.series import Series
from engram.plasticity import PlasticityRule

RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, np.inf)}


class Architecture(NamedTuple):
    """What the rule is a part of.

    Attributes:
        nonlinearity: The name of f.
        units: Number of units whose weights change.
        inputs: Number of weights of each.
        readout: Weights of a fixed readout of choices, or None.
        input_weights: Fixed input weights of a recurrent network, or None.
    """

    nonlinearity: str
    units: int
    inputs: int
    readout: Float[np.ndarray, " unit"] | None
    input_weights: Float[np.ndarray, "unit input"] | None

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``recorded``."""
        return {
            "hidden": 0 if self.readout is None else self.units,
            "recurrent": self.input_weights is not None,
        }

    def check_units_of_activity(self, activity: Float[np.ndarray, "session step unit"]) -> None:
        """Warn if most of the recorded activity is none that the nonlinearity can give, even without noise."""
        low, high = RANGES.get(self.nonlinearity, (-np.inf, np.inf))
        seen = activity[~np.isnan(activity)]
        outside = float(((seen < low) | (seen > high)).mean()) if len(seen) else 0.0
        if outside > 0.75:
            said = (
                f"activity: {100 * outside:.0f} % is outside of {low:g} to {high:g}, the range of {self.nonlinearity!r}"
            )
            warnings.warn(f"{said}: scale it, or choose another nonlinearity", RuntimeWarning, stacklevel=5)

    def of_series(self, series: Series, eta: float) -> TermsModel:
        """The model with a series."""
        f = NONLINEARITIES[self.nonlinearity]
        if self.input_weights is not None:
            return RecurrentNetwork(series, f, eta, self.input_weights)
        layer = Layer(series, f, eta)
        return layer if self.readout is None else HiddenLayer(layer, self.readout)  # type: ignore[return-value]

    def of_rule(self, rule: PlasticityRule) -> Model:
        """The model with any rule.

        Raises:
            ValueError: The network is recurrent.
        """
        if self.input_weights is not None:
            raise ValueError(f"family = {rule}: expected 'taylor' with network = 'recurrent'")
        layer = RuleLayer(rule, self.nonlinearity)
        return layer if self.readout is None else HiddenLayer(layer, self.readout)


def architecture(
    network: str, nonlinearity: str | None, readout: Any, input_weights: Any, *, inputs: int, recorded: int
) -> Architecture:
    """The checked architecture.

    Args:
        network: See the estimator.
        nonlinearity: See the estimator.
        readout: See the estimator.
        input_weights: See the estimator.
        inputs: Number of inputs.
        recorded: Number of units of the recorded activity; 0 for choices.

    Raises:
        ValueError: What is given does not go together.
    """
    if readout is not None:
        if recorded or network == "recurrent":
            raise ValueError(f"readout = {checks.shown(readout)}: expected None unless a layer makes choices")
        v = checks.array("readout", readout, ("unit",))
        return Architecture(nonlinearity or "tanh", len(v), inputs, v, None)
    if network == "recurrent":
        if not recorded:
            raise ValueError("network = 'recurrent': expected activity, not choices")
        given = np.eye(recorded) if input_weights is None else input_weights
        U = checks.array("input_weights", given, (recorded, inputs))
        return Architecture(nonlinearity or "tanh", recorded, recorded, None, U)
    if input_weights is not None:
        raise ValueError(
            f"input_weights = {checks.shown(input_weights)}: expected None unless network = 'recurrent'; those of a "
            "layer are what is plastic"
        )
    return Architecture(nonlinearity or ("sigmoid" if recorded else "identity"), recorded or 1, inputs, None, None)
