"""Nearest-mean probe: assigns the class whose mean is nearest."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from engram import checks

Data = Annotated[Any, ArrayLike]


class NearestMeanProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classification by the nearest class mean: only means are fitted, so one example of each class is enough.

    scikit-learn's ``NearestCentroid`` divides by samples minus classes, and so by zero with one example of each class.

    Attributes:
        classes_: The classes.
        means_: Mean features of each class, (classes, features).
        n_features_in_: Number of features.

    Examples:
        >>> NearestMeanProbe().fit([[0.0], [4.0]], ["low", "high"]).predict([[1.0]]).tolist()
        ['low']
    """

    def fit(self, X: Data, y: Data) -> NearestMeanProbe:
        """Compute the mean of each class from features X, (samples, features), and labels y, (samples,)."""
        X, y = checks.samples(self, X, y, dtype=np.float64)
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == label].mean(0) for label in self.classes_])
        return self

    def predict(self, X: Data) -> np.ndarray:
        """The class whose mean is nearest to each sample."""
        check_is_fitted(self)
        X = checks.samples(self, X, dtype=np.float64, reset=False)
        return np.asarray(self.classes_[cdist(X, self.means_).argmin(1)])
