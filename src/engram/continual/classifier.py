"""A scikit-learn classifier that learns one task after another, with less forgetting."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain, pairwise
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from engram import checks
from engram.continual.dhp_softmax import DHPSoftmax
from engram.continual.method import ContinualMethod
from engram.continual.task import TaskData
from engram.continual.train_on_tasks import train_on_tasks
from engram.nn.initial import uniform

Data = Annotated[Any, ArrayLike]  # scikit-learn checks it and raises its own errors


class ContinualClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network with ReLU layers that learns a task at each call of ``partial_fit``, without data of earlier ones.

    Features should be centred and scaled.

    Args:
        hidden: Units of each hidden layer.
        head: The last layer: ``"linear"``, or ``"dhp"``, a ``DHPSoftmax``.
        method: Makes the continual method: ``EWC``, ``partial(EWC, strength=10.0)``, your own subclass of
            ``ContinualMethod``, or another callable with the network and ``generator=``.
        learning_rate: Learning rate of gradient descent, above 0.
        batch_size: Samples in a batch.
        epochs: Passes over the samples in a call.
        random_state: Seed or ``numpy.random.RandomState`` of the weights, of the order of samples, and of the method's
            random numbers.

    Attributes:
        classes_: The classes.
        loss_curve_: Mean loss of each epoch so far, without the terms that the method adds.
        method_: The method.
        n_features_in_: Number of features.
        network_: The network.

    Examples:
        >>> from functools import partial
        >>> from sklearn.datasets import load_digits
        >>> from engram.continual import Replay
        >>> X, y = load_digits(return_X_y=True)
        >>> X = X / 16
        >>> net = ContinualClassifier(method=partial(Replay, capacity=200), random_state=0)
        >>> for old, new in ((0, 5), (5, 10)):
        ...     task = (old <= y) & (y < new)
        ...     _ = net.partial_fit(X[task], y[task], classes=range(10))
        >>> net.score(X[y < 5], y[y < 5]) > 0.8
        True
    """

    # As scikit-learn demands, anything is accepted here and checked by ``fit``.
    def __init__(
        self,
        hidden: Annotated[Any, tuple[int, ...]] = (100,),
        *,
        head: Annotated[Any, str] = "linear",
        method: Annotated[Any, Callable[..., ContinualMethod]] = ContinualMethod,
        learning_rate: Annotated[Any, float] = 0.1,
        batch_size: Annotated[Any, int] = 32,
        epochs: Annotated[Any, int] = 20,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.head = head
        self.method = method
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.random_state = random_state

    def fit(self, X: Data, y: Data) -> ContinualClassifier:
        """Train a new network on a first task.

        Args:
            X: Its samples, (samples, features).
            y: Their classes, (samples,); there will be no others.
        """
        return self._learn(X, y, None, new=True)

    def partial_fit(self, X: Data, y: Data, classes: Data = None) -> ContinualClassifier:
        """Learn one more task.

        Args:
            X: Its samples, (samples, features).
            y: Their classes, (samples,).
            classes: All classes that will occur; needed in the first call.

        Raises:
            TypeError, ValueError: An argument here or of the constructor is of the wrong type or out of range, X and y
                are not valid data, or a class is not among ``classes``.
            FloatingPointError: Training diverged; a lower ``learning_rate`` may help.
        """
        return self._learn(X, y, classes, new=not hasattr(self, "network_"), partial=True)

    def predict_proba(self, X: Data) -> np.ndarray:
        """The probability of each class, (samples, classes).

        Args:
            X: Samples, (samples, features).

        Raises:
            NotFittedError: Nothing was learned yet.
            ValueError: X is invalid, or has another number of features.
        """
        check_is_fitted(self, "network_")
        samples = torch.tensor(checks.samples(self, X, dtype=[np.float64, np.float32], reset=False))
        self.network_.eval()
        with torch.no_grad():
            output: Tensor = self.network_(samples.to(next(self.network_.parameters())))
        return output.softmax(1).numpy()

    def predict(self, X: Data) -> np.ndarray:
        """The most probable class of each sample.

        Args:
            X: Samples, (samples, features).
        """
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(1)])

    def _learn(self, X: Data, y: Data, classes: Data, *, new: bool, partial: bool = False) -> ContinualClassifier:
        started = copy.copy(self)  # so that a call that is refused changes neither an earlier network nor its width
        samples, labels = checks.samples(started, X, y, dtype=[np.float64, np.float32], reset=new)
        if new and partial and classes is None:
            raise ValueError("classes = None: expected all classes at the first call of partial_fit")
        classes = None if classes is None else np.asarray(checks.as_array(classes))
        known_classes = np.unique(labels if classes is None else classes) if new else self.classes_
        if len(known_classes) < 2:
            name = "y" if classes is None else "classes"
            held = f"1 class, {known_classes[0]!r}" if len(known_classes) else "no class"
            raise ValueError(f"{name} holds {held}: a classifier expects at least two")
        if classes is not None and not np.array_equal(np.unique(classes), known_classes):
            raise ValueError(f"classes = {classes!r}: expected {known_classes.tolist()}, as in the first call")
        if unknown := sorted(set(labels.tolist()) - set(known_classes.tolist())):
            raise ValueError(f"y holds {unknown[0]!r}: expected classes among {known_classes.tolist()}")
        checks.number("learning_rate", self.learning_rate, above=0)
        checks.size("batch_size", self.batch_size)
        checks.size("epochs", self.epochs)
        if new:
            started._start(known_classes, torch.tensor(samples).dtype)
            self.__dict__ = started.__dict__
        self._train(
            torch.tensor(samples).to(next(self.network_.parameters())),
            torch.tensor(np.searchsorted(self.classes_, labels), dtype=torch.int64),
        )
        return self

    def _start(self, classes: np.ndarray, dtype: torch.dtype) -> None:
        """Make a network, and its method against forgetting."""
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=3)
        initial_generator, order_generator, method_generator = (
            torch.Generator().manual_seed(int(seed)) for seed in seeds
        )
        hidden = [checks.size("hidden", units) for units in checks.instance("hidden", self.hidden, tuple)]
        sizes = [self.n_features_in_, *hidden]
        layers: list[nn.Module] = []
        for pre, post in pairwise(sizes):
            layers += [uniform(nn.Linear, pre, post, dtype=dtype, generator=initial_generator), nn.ReLU()]
        kind = checks.choice("head", self.head, ("linear", "dhp"))
        head_options: dict[str, Any] = {"dtype": dtype, "generator": initial_generator}
        output_sizes = sizes[-1], len(classes)
        layers.append(
            uniform(nn.Linear, *output_sizes, **head_options)
            if kind == "linear"
            else DHPSoftmax(*output_sizes, **head_options)
        )
        network = _Network(*layers)
        if not callable(self.method):
            raise TypeError(f"method = {self.method!r}: expected a callable that makes a ContinualMethod for a network")
        self.method_ = checks.instance("method", self.method(network, generator=method_generator), ContinualMethod)
        self.classes_, self.network_, self._order = classes, network, order_generator
        self.loss_curve_: list[float] = []

    def _train(self, x: Tensor, y: Tensor) -> None:
        rate, size, epochs = float(self.learning_rate), int(self.batch_size), int(self.epochs)
        orders = [torch.split(torch.randperm(len(x), generator=self._order), size) for _ in range(epochs)]
        batches = list(chain.from_iterable(orders))
        shuffled = torch.randperm(len(x), generator=self._order)  # importances are measured on the first samples
        training = train_on_tasks(
            self.network_,
            [TaskData((x[shuffled], y[shuffled]))],
            self.method_,
            torch.optim.SGD(self.network_.parameters(), lr=rate),
            steps=len(batches),
            draw=lambda task, step: (x[batches[step]], y[batches[step]]),
            labelled=isinstance(self.network_[-1], DHPSoftmax),
        )
        total = 0.0
        for step in training:
            if not step.loss.isfinite():
                raise FloatingPointError(f"the loss is {step.loss.item()}: is learning_rate = {rate} too high?")
            total += step.loss.item() * len(batches[step.step])
            if (step.step + 1) % len(orders[0]) == 0:
                self.loss_curve_.append(total / len(x))
                total = 0.0


class _Network(nn.Sequential):
    """Layers; the last one may take the labels."""

    def forward(self, input: Tensor, labels: Tensor | None = None) -> Tensor:
        """The logits."""
        *body, head = self
        for layer in body:
            input = layer(input)
        return head(input) if labels is None else head(input, labels)  # type: ignore[no-any-return]
