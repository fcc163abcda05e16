"""A scikit-learn classifier that learns one task after another and holds on to what it knows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.continual.dhp_softmax import DHPSoftmax
from engram.continual.ewc import EWC, OnlineEWC
from engram.continual.l2_anchor import L2Anchor
from engram.continual.mas import MAS
from engram.continual.penalty import QuadraticPenalty
from engram.continual.replay import Replay
from engram.continual.si import SynapticIntelligence
from engram.nn.initial import uniform

Data = Annotated[Any, ArrayLike]  # whatever else it is, scikit-learn refuses it in its own words

PENALTIES: dict[str, Callable[..., QuadraticPenalty]] = {
    "ewc": EWC,
    "online-ewc": OnlineEWC,
    "si": SynapticIntelligence,
    "mas": MAS,
    "l2": L2Anchor,
}


class ContinualClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network with rectified hidden layers that learns a task at each call of ``partial_fit``, without the last ones.

    After each call it measures which weights matter, and from then on a penalty holds them; it can also keep samples
    of earlier calls and learn them beside the new ones. Features should be centred and scaled.

    Args:
        hidden: Units of each hidden layer.
        head: The last layer: ``"linear"``, or ``"dhp"``, a ``DHPSoftmax``.
        penalty: ``"ewc"``, ``"online-ewc"``, ``"si"``, ``"mas"``, ``"l2"`` or None.
        strength: Of the penalty, at least 0; which one is right differs from penalty to penalty by orders of
            magnitude.
        replay: Samples of earlier calls that are kept; 0: none.
        learning_rate: Of gradient descent, above 0.
        batch_size: Samples in a batch; as many again are replayed.
        epochs: How often a call sees each sample.
        random_state: Seed or generator of the weights, of the order of samples, and of what is replayed.

    Attributes:
        classes_: The classes.
        loss_curve_: Mean loss of each epoch so far.
        n_features_in_: Number of features.
        network_: The network.
        penalty_: The penalty, or None.
        replay_: The memory of samples, or None.

    Examples:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> X = X / 16
        >>> net = ContinualClassifier(replay=200, random_state=0)
        >>> for old, new in ((0, 5), (5, 10)):
        ...     task = (old <= y) & (y < new)
        ...     _ = net.partial_fit(X[task], y[task], classes=range(10))
        >>> net.score(X[y < 5], y[y < 5]) > 0.8
        True
    """

    # As scikit-learn demands, anything is accepted here and looked at by ``fit``.
    def __init__(
        self,
        hidden: Annotated[Any, tuple[int, ...]] = (100,),
        *,
        head: Annotated[Any, str] = "linear",
        penalty: Annotated[Any, str | None] = None,
        strength: Annotated[Any, float] = 1.0,
        replay: Annotated[Any, int] = 0,
        learning_rate: Annotated[Any, float] = 0.1,
        batch_size: Annotated[Any, int] = 32,
        epochs: Annotated[Any, int] = 20,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.head = head
        self.penalty = penalty
        self.strength = strength
        self.replay = replay
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.random_state = random_state

    def fit(self, X: Data, y: Data) -> ContinualClassifier:
        """Train a new network on a first task; see ``partial_fit``."""
        return self._learn(X, y, None, new=True)

    def partial_fit(self, X: Data, y: Data, classes: Data = None) -> ContinualClassifier:
        """Learn one more task.

        Args:
            X: Its samples, (samples, features).
            y: Their classes, (samples,).
            classes: All classes that there will be; needed at the first call.

        Raises:
            TypeError, ValueError: An argument here or of the constructor is of the wrong type or out of range, X and y
                are no valid data, or a class is none of ``classes``.
            FloatingPointError: It diverged; a lower ``learning_rate`` may help.
        """
        return self._learn(X, y, classes, new=not hasattr(self, "network_"), partial=True)

    def predict_proba(self, X: Data) -> np.ndarray:
        """Return the probability of each class, (samples, classes).

        Args:
            X: Samples, (samples, features).

        Raises:
            NotFittedError: Nothing was learned yet.
            ValueError: X is no valid data, or has another number of features.
        """
        check_is_fitted(self)
        samples = torch.tensor(validate_data(self, X, dtype=[np.float64, np.float32], reset=False))
        self.network_.eval()
        with torch.no_grad():
            output: Tensor = self.network_(samples.to(next(self.network_.parameters())))
        return output.softmax(1).numpy()

    def predict(self, X: Data) -> np.ndarray:
        """Return the most probable class of each sample; arguments as of ``predict_proba``."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(1)])

    def _learn(self, X: Data, y: Data, classes: Data, *, new: bool, partial: bool = False) -> ContinualClassifier:
        samples, labels = validate_data(self, X, y, dtype=[np.float64, np.float32], reset=new)
        check_classification_targets(labels)
        if new:
            if partial and classes is None:
                raise ValueError("classes = None: expected all classes at the first call of partial_fit")
            self.classes_ = np.unique(labels if classes is None else np.asarray(classes))
            if len(self.classes_) < 2:
                raise ValueError(f"y has 1 class, {self.classes_[0]!r}: a classifier expects at least two")
        if unknown := sorted(set(labels.tolist()) - set(self.classes_.tolist())):
            raise ValueError(f"y holds {unknown[0]!r}: expected classes among {self.classes_.tolist()}")
        if new:
            self._start(torch.tensor(samples).dtype)
        self._train(
            torch.tensor(samples).to(next(self.network_.parameters())),
            torch.tensor(np.searchsorted(self.classes_, labels), dtype=torch.int64),
        )
        return self

    def _start(self, dtype: torch.dtype) -> None:
        """Make a network, and what keeps it from forgetting."""
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=3)
        start, self._order, memory = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        hidden = [checks.size("hidden", units) for units in checks.instance("hidden", self.hidden, tuple)]
        sizes = [self.n_features_in_, *hidden]
        layers: list[nn.Module] = []
        for pre, post in pairwise(sizes):
            layers += [uniform(nn.Linear, pre, post, dtype=dtype, generator=start), nn.ReLU()]
        kind = checks.choice("head", self.head, ("linear", "dhp"))
        head: dict[str, Any] = {"dtype": dtype, "generator": start}
        last = sizes[-1], len(self.classes_)
        layers.append(uniform(nn.Linear, *last, **head) if kind == "linear" else DHPSoftmax(*last, **head))
        network = nn.Sequential(*layers)
        if self.penalty is not None:
            checks.choice("penalty", self.penalty, PENALTIES)
        strength = checks.number("strength", self.strength, least=0)
        self.penalty_ = None if self.penalty is None else PENALTIES[self.penalty](network, strength)
        capacity = checks.size("replay", self.replay, least=0)
        self.replay_ = Replay(capacity, memory) if capacity else None
        self.loss_curve_: list[float] = []
        self.network_ = network

    def _train(self, x: Tensor, y: Tensor) -> None:
        rate = checks.number("learning_rate", self.learning_rate, above=0)
        size, epochs = checks.size("batch_size", self.batch_size), checks.size("epochs", self.epochs)
        optimizer = torch.optim.SGD(self.network_.parameters(), lr=rate)
        if self.penalty_ is not None:
            self.penalty_.attach(optimizer)
        self.network_.train()
        for _ in range(epochs):
            losses = 0.0
            for rows in torch.split(torch.randperm(len(x), generator=self._order), size):
                inputs, labels = x[rows], y[rows]
                if self.replay_ is not None and len(self.replay_):
                    inputs, labels = map(torch.cat, zip((inputs, labels), self.replay_.sample(size), strict=True))
                loss = functional.cross_entropy(self._output(inputs, labels), labels)
                if not loss.isfinite():
                    raise FloatingPointError(f"the loss is {loss.item()}: is learning_rate = {rate} too high?")
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses += loss.item() * len(rows)
            self.loss_curve_.append(losses / len(x))
        if self.replay_ is not None:
            self.replay_.add(x, y)
        if self.penalty_ is not None:
            self.penalty_.detach()
            shuffled = torch.randperm(len(x), generator=self._order)
            measured = () if self.penalty in ("si", "l2") else ([(x[shuffled], y[shuffled])],)
            self.penalty_.consolidate(*measured)

    def _output(self, inputs: Tensor, labels: Tensor) -> Tensor:
        *body, head = self.network_
        features = nn.Sequential(*body)(inputs)
        output: Tensor = head(features, labels) if isinstance(head, DHPSoftmax) else head(features)
        return output
