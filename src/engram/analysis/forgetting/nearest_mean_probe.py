"""Nearest-mean probe: assigns the class whose mean is nearest."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from engram import checks
from engram.analysis.forgetting.linear_probe import standardisation

Data = Annotated[Any, ArrayLike]


class NearestMeanProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classification by the nearest class mean of standardised features: one example of each class is enough.

    scikit-learn's ``NearestCentroid`` divides by samples minus classes, and so by zero with one example of each class.

    Args:
        standardize: Divide each feature by its standard deviation over the training samples, so that its unit does not
            matter. False: distances are those of the features as they are.

    Attributes:
        classes_: The classes.
        means_: Mean features of each class, (classes, features).
        scale_: What each feature is divided by.
        n_features_in_: Number of features.

    Examples:
        >>> NearestMeanProbe().fit([[0.0], [4.0]], ["low", "high"]).predict([[1.0]]).tolist()
        ['low']
    """

    def __init__(self, standardize: Annotated[Any, bool] = True) -> None:
        self.standardize = standardize

    def fit(self, X: Data, y: Data) -> NearestMeanProbe:
        """Compute the mean of each class from features X, (samples, features), and labels y, (samples,)."""
        checks.instance("standardize", self.standardize, bool)
        X, y = checks.samples(self, X, y, dtype=np.float64)
        self.scale_ = standardisation(X).scale if self.standardize else np.ones(X.shape[1])
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == label].mean(0) for label in self.classes_])
        return self

    def predict(self, X: Data) -> np.ndarray:
        """The class whose mean is nearest to each sample."""
        check_is_fitted(self)
        X = checks.samples(self, X, dtype=np.float64, reset=False)
        return np.asarray(self.classes_[cdist(X / self.scale_, self.means_ / self.scale_).argmin(1)])
