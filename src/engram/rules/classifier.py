"""A scikit-learn classifier: a network with hidden layers, or one of one's own, trained by any learning rule."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from engram import checks, registry
from engram.copying import copied
from engram.nn.initial import lecun
from engram.rules.contract import LearningRule, train_step

Data = Annotated[Any, ArrayLike]  # scikit-learn refuses anything else in its own words

ACTIVATIONS = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "relu": nn.ReLU}


class RuleClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A feed-forward network that is trained by any rule of ``engram.rules``, using SGD with momentum.

    Weights start from N(0, 1 / fan-in) and biases from 0, and are the same for all rules, since a rule draws its random
    numbers from its own seed. Features should be centred and scaled, as for other networks.

    Args:
        rule: A name in ``registry.names("learning_rules")``, or a rule.
        network: A network of one's own, from samples to an output for each class; a copy of it is trained, from the
            weights and in the mode that it has, and predicts in eval mode. None: a network of linear layers, as
            ``hidden`` and ``activation`` say.
        hidden: Number of units of each hidden layer.
        activation: ``"tanh"``, ``"sigmoid"`` (which ``"reinforce"`` requires) or ``"relu"``.
        learning_rate: Learning rate of gradient descent, above 0.
        momentum: Momentum of gradient descent, from 0 to below 1.
        weight_decay: Weight decay of ``torch.optim.SGD``; None: the value that the rule needs, which is 0 except for
            rules whose feedback decays, such as ``"kolen-pollack"``.
        batch_size: Number of samples in a batch.
        epochs: Number of passes over the samples.
        random_state: Seed or ``numpy.random.RandomState`` of the weights, the rule's draws, and the order of samples.

    Attributes:
        classes_: The classes.
        loss_curve_: Mean loss of each epoch.
        n_features_in_: Number of features.
        network_: The trained network.
        rule_: The rule in use.
        state_: The rule's state after the last step.

    Examples:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> X = X / 16 - 0.3
        >>> RuleClassifier(rule="dfa", epochs=4, random_state=0).fit(X[:900], y[:900]).score(X[900:], y[900:]) > 0.7
        True
    """

    # scikit-learn demands that the constructor accepts anything and that ``fit`` checks it.
    def __init__(
        self,
        rule: Annotated[Any, str | LearningRule[Any]] = "backprop",
        hidden: Annotated[Any, tuple[int, ...]] = (32, 16),
        *,
        network: Annotated[Any, nn.Module | None] = None,
        activation: Annotated[Any, str] = "tanh",
        learning_rate: Annotated[Any, float] = 0.03,
        momentum: Annotated[Any, float] = 0.9,
        weight_decay: Annotated[Any, float | None] = None,
        batch_size: Annotated[Any, int] = 32,
        epochs: Annotated[Any, int] = 20,
        random_state: Any = None,
    ) -> None:
        self.rule = rule
        self.hidden = hidden
        self.network = network
        self.activation = activation
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.random_state = random_state

    def fit(self, X: Data, y: Data) -> RuleClassifier:
        """Train a new network.

        Args:
            X: Samples, (samples, features).
            y: Their classes, (samples,).

        Raises:
            TypeError, ValueError: An argument here or of the constructor has the wrong type or is out of range, or X
                and y are not valid.
            FloatingPointError: Training diverged; a lower ``learning_rate`` may help.
        """
        fitted = copy.copy(self)  # so that a call that is refused changes neither an earlier network nor its width
        samples, labels = checks.samples(fitted, X, y, dtype=[np.float64, np.float32])
        known, numbers = np.unique(labels, return_inverse=True)
        if len(known) < 2:
            raise ValueError(f"y has 1 class, {known[0]!r}: a classifier expects at least two")
        rule = self._checked_rule()
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=3)
        weight_generator, rule_generator, order_generator = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        x, classes = torch.tensor(samples), torch.tensor(numbers, dtype=torch.int64)
        network = fitted._own_network(x[:1], len(known)) or fitted._network(len(known), x.dtype, weight_generator)
        state = rule.init(network, rule_generator)
        rate = checks.number("learning_rate", self.learning_rate, above=0)
        momentum = checks.number("momentum", self.momentum, minimum=0, below=1)
        decay = rule.weight_decay(rate, momentum) if self.weight_decay is None else self.weight_decay
        checks.number("weight_decay", decay, minimum=0)
        optimizer = torch.optim.SGD(network.parameters(), rate, momentum, weight_decay=decay)
        size, epochs = checks.size("batch_size", self.batch_size), checks.size("epochs", self.epochs)
        self.__dict__ = fitted.__dict__
        self.classes_, self.rule_, self.network_, self.state_ = known, rule, network, state
        self.loss_curve_ = []
        try:
            for _ in range(epochs):
                losses = 0.0
                for rows in torch.split(torch.randperm(len(x), generator=order_generator), size):
                    update = train_step(rule, network, optimizer, (x[rows], classes[rows]), self.state_)
                    self.state_ = update.state
                    losses += update.info["loss"].item() * len(rows)
                self.loss_curve_.append(losses / len(x))
        finally:
            network.eval()
        return self

    def predict_proba(self, X: Data) -> np.ndarray:
        """The probability of each class, (samples, classes).

        Args:
            X: Samples, (samples, features).

        Raises:
            NotFittedError: ``fit`` has not been called.
            ValueError: X is invalid, or has another number of features.
        """
        check_is_fitted(self, "network_")
        samples = torch.tensor(checks.samples(self, X, dtype=[np.float64, np.float32], reset=False))
        with torch.no_grad():
            output = self.rule_.predict(self.network_, samples.to(next(self.network_.parameters())))
        return output.softmax(1).numpy()

    def predict(self, X: Data) -> np.ndarray:
        """The most probable class of each sample, (samples,)."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(1)])

    def _checked_rule(self) -> LearningRule[Any]:
        rule = registry.get("learning_rules", self.rule)() if isinstance(self.rule, str) else self.rule
        return checks.instance("rule", rule, LearningRule)  # type: ignore[type-abstract]

    def _own_network(self, sample: torch.Tensor, outputs: int) -> nn.Module | None:
        if self.network is None:
            return None
        network: nn.Module = copied(checks.instance("network", self.network, nn.Module)).to(sample.dtype)
        with torch.no_grad():
            shape = tuple(copied(network).eval()(sample).shape)
        if shape != (1, outputs):
            raise ValueError(f"network gives {shape} for one sample: expected {(1, outputs)}, an output for each class")
        return network

    def _network(self, outputs: int, dtype: torch.dtype, generator: torch.Generator) -> nn.Sequential:
        activation = ACTIVATIONS[checks.choice("activation", self.activation, ACTIVATIONS)]
        hidden = [checks.size("hidden", units) for units in checks.instance("hidden", self.hidden, tuple)]
        modules: list[nn.Module] = []
        for pre, post in pairwise([self.n_features_in_, *hidden, outputs]):
            modules += [lecun(nn.Linear, pre, post, dtype=dtype, generator=generator), activation()]
        return nn.Sequential(*modules[:-1])
