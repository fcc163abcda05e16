"""Linear probe: multinomial logistic regression on features, solved to convergence."""

from __future__ import annotations

import warnings
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from engram import checks
from engram.numeric.rounding import relative_rounding, varies
from engram.numeric.threads import single_threaded

Data = Annotated[Any, ArrayLike]  # scikit-learn refuses anything else


FAR = 1e100


class Standardisation(NamedTuple):
    """The mean of each feature, its standard deviation, or 1 if it is constant, and whether it changes."""

    mean: Float[np.ndarray, "features"]
    scale: Float[np.ndarray, "features"]
    changing: Bool[np.ndarray, "features"]


def standardisation(X: Float[np.ndarray, "samples features"]) -> Standardisation:
    """How the units of features are removed; features of 32 bits, also as 64, are constant up to their rounding."""
    is_single = relative_rounding(X) > relative_rounding(np.zeros(0))
    mean = X.mean(0)
    largest = np.abs(X - mean).max(0)
    # Of features as large or small as this, the squares would not be numbers.
    power = np.where((largest > FAR) | (largest < 1 / FAR), np.where(largest > 0, largest, 1.0), 1.0)
    std = power * (X / power).std(0)
    changing = varies(X.astype(np.float32) if is_single else X) & (std > 0)
    return Standardisation(mean, np.where(changing, std, 1.0), changing)


class LinearProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Multinomial logistic regression on standardised features, independent of the seed and the order of samples.

        min_{V, c}  1/n sum_i CE(V z_i + c, y_i) + l2/2 ||V||_F^2,   z = (h - mean) / std

    The units of features do not matter; those that are constant up to rounding are not used.

    It is solved by L-BFGS in float64 until no entry of the gradient is above ``tol``. The problem is convex, so
    errors of a probe come from the features or from too few samples, never from a lack of training.

    Args:
        l2: Strength of the penalty on weights, above 0; biases have none.
        max_iter: Maximum number of steps; a ``ConvergenceWarning`` tells if the gradient is still above ``tol`` then.
        tol: Magnitude that no entry of the gradient may exceed at the solution.

    Attributes:
        classes_: The classes.
        coef_: V, (classes, features), of standardised features.
        intercept_: c.
        mean_: Mean of each feature over the training samples.
        scale_: Standard deviation of each; 1 for a feature that is constant.
        n_iter_: Number of steps taken.
        gradient_norm_: Largest magnitude among the entries of the remaining gradient.
        n_features_in_: Number of features.

    Examples:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> LinearProbe().fit(X[:900], y[:900]).score(X[900:], y[900:]) > 0.9
        True
    """

    def __init__(
        self,
        l2: Annotated[Any, float] = 1e-2,
        *,
        max_iter: Annotated[Any, int] = 200,
        tol: Annotated[Any, float] = 1e-6,
    ) -> None:
        self.l2 = l2
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: Data, y: Data) -> LinearProbe:
        """Fit to features (samples, features) and labels (samples).

        Raises:
            ValueError: There are labels of one class only, or an option is out of range.
        """
        l2 = checks.number("l2", self.l2, above=0)
        max_iter, tol = checks.size("max_iter", self.max_iter), checks.number("tol", self.tol, above=0)
        with checks.restored_on_error(self):
            X, y = checks.samples(self, X, y, dtype=np.float64)
            classes, label_indices = np.unique(y, return_inverse=True)
            if len(classes) < 2:
                raise ValueError("y: expected at least two classes, found 1 class")
        mean, scale, changing = standardisation(X)
        if not changing.any() and len(X) > len(classes):
            warnings.warn("body outputs are constant: a probe can only guess", UserWarning, stacklevel=2)
        standardised = np.where(changing, (X - mean) / scale, 0.0)  # a constant's deviations are rounding errors
        Z, labels = torch.from_numpy(standardised), torch.from_numpy(label_indices)
        solution = Z.new_zeros(len(classes), X.shape[1] + 1)

        def closure() -> Tensor:
            loss, solution.grad = _loss(solution, Z, labels, l2)
            return loss

        solver: Any = torch.optim.LBFGS(
            [solution],
            max_iter=max_iter,
            max_eval=20 * max_iter,
            tolerance_grad=tol,
            tolerance_change=0.0,
            history_size=10,
            line_search_fn="strong_wolfe",
        )
        with single_threaded():  # several threads would wait for each other hundreds of times
            solver.step(closure)
            largest_gradient = _loss(solution, Z, labels, l2)[1].abs().max().item()
        self.classes_, self.mean_, self.scale_ = classes, mean, scale
        self.n_iter_, self.gradient_norm_ = max(1, solver.state[solution]["n_iter"]), largest_gradient
        if largest_gradient > tol:
            details = f"an entry of the gradient is {largest_gradient:.1e}, and tol = {tol:.1e}"
            warnings.warn(f"no convergence in max_iter = {max_iter} steps: {details}", ConvergenceWarning, stacklevel=2)
        self.coef_, self.intercept_ = solution[:, :-1].numpy().copy(), solution[:, -1].numpy().copy()
        return self

    def predict(self, X: Data) -> np.ndarray:
        """The most likely class of each sample."""
        check_is_fitted(self)
        X = checks.samples(self, X, dtype=np.float64, reset=False)
        logits = (X - self.mean_) / self.scale_ @ self.coef_.T + self.intercept_
        return np.asarray(self.classes_[logits.argmax(1)])


def _loss(
    unknowns: Float[Tensor, "classes unknowns"],
    Z: Float[Tensor, "samples features"],
    labels: Int[Tensor, " samples"],
    l2: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, "classes unknowns"]]:
    """The penalised loss and its gradient; the unknowns of a class are its row of V, then its c."""
    V, c = unknowns[:, :-1], unknowns[:, -1:]
    # The samples are the last axis, along which exponentials are fast.
    log_probability = torch.addmm(c, V, Z.T).log_softmax(0)
    of_labels = labels, torch.arange(len(Z))
    loss = l2 / 2 * V.square().sum() - log_probability[of_labels].mean()
    error = log_probability.exp()
    error[of_labels] -= 1
    error /= len(Z)
    return loss, torch.column_stack((torch.addmm(V, error, Z, beta=l2), error.sum(1)))
