from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from engram.storage import CorruptFileError
from engram.storage.estimator_state import EstimatorState
from engram.storage.saveable import Saveable


class Mean(EstimatorState, Saveable, BaseEstimator):
    """The mean of what it was given; of tables with named columns their names, and of weighted ones the weight."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift

    def fit(self, x: np.ndarray, names: list[str] | None = None, weight: float | None = None) -> Mean:
        self.mean_, self.n_features_in_ = x.mean(0) + self.shift, x.shape[1]
        if names is not None:
            self.feature_names_in_ = np.array(names, object)
        if weight is not None:
            self.weight_ = weight
        return self

    def _form(self, state):
        return {"mean_": np.ndarray} | ({"weight_": float} if "weight_" in state else {})


X = np.arange(6.0).reshape(3, 2)


def test_what_fitting_has_set_comes_back_beside_the_parameters(tmp_path):
    Mean(shift=2.0).fit(X, names=["a", "b"], weight=0.5).save(tmp_path / "m")
    again = Mean.load(tmp_path / "m")
    assert (again.shift, again.weight_) == (2.0, 0.5)
    assert again.mean_.tolist() == [4.0, 5.0]
    assert (again.feature_names_in_.tolist(), again.feature_names_in_.dtype) == (["a", "b"], np.dtype(object))


def test_nothing_of_an_earlier_fit_outlives_a_state_that_is_loaded():
    model = Mean().fit(X, names=["a", "b"], weight=0.5)
    model.load_state_dict(Mean().fit(2 * X).state_dict())
    assert set(model.state_dict()) == {"mean_", "n_features_in_"}
    assert model.mean_.tolist() == [4.0, 6.0]
    model.load_state_dict(Mean().state_dict())
    assert model.state_dict() == {}
    assert model.shift == 0.0, "parameters are no part of the state"


def test_what_is_no_path_is_named():
    with pytest.raises(TypeError, match="path = 3: expected str"):
        Mean.load(3)


def test_a_file_of_another_class_is_refused(tmp_path):
    class Median(Mean):
        pass

    Mean().fit(X).save(tmp_path / "m")
    with pytest.raises(CorruptFileError, match="it holds no Median"):
        Median.load(tmp_path / "m")
