"""A scikit-learn classifier that is trained by a genome, in a few steps."""

from __future__ import annotations

import copy
import warnings
from numbers import Integral
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from engram import checks
from engram.learned.blur.genome import Genome
from engram.learned.blur.network import BlurNetwork, BlurState, Moments

Data = Annotated[Any, ArrayLike]  # scikit-learn checks it and raises its own errors
COUNT = Interval(Integral, 1, None, closed="left")
SMALL = 16  # batch size below which the moments are unreliable
# Twenty generations of CMA-ES, 24 individuals each, from ``Genome.near_backprop(0.0, ...)``, on random Gaussian
# classes, 3 of 4 features, 2 of 16 and 10 of 64, features standardised; networks with 32 hidden units and
# ``saturation="norm"``, lifetimes of 10 and 30 steps in turn.
EVOLVED = Genome(
    nu=torch.tensor([[1.895, 1.606], [0.331, 1.396]]),
    mu=torch.tensor([[1.212, -0.747], [-1.132, 1.143]]),
    P=torch.tensor([[1.114, 0.756], [0.356, 1.161]]),
    Q=torch.tensor([[-0.169, 1.453], [0.743, 0.671]]),
    keep_n=torch.tensor(1.994),
    gain_n=torch.tensor(0.523),
    keep_s=torch.tensor(1.436),
    gain_s=torch.tensor(1.21),
    norm_gain=torch.tensor(2.791),
    norm_shift=torch.tensor(-0.033),
    oja=torch.tensor(0.681),
)


class BlurClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network trained by a learned rule without gradients, in few steps.

    Each class is one output, whose target is +1 or -1. Inputs of units are normalised over the batch while learning,
    and by the moments of the last batch when predicting, so that a prediction does not depend on the other samples.
    Features are standardised by the first data, since the learning speed of a genome depends on their scale.

    Args:
        genome: The rule; None: ``engram.learned.blur.classifier.EVOLVED``, evolved on Gaussian classes.
        hidden_layer_sizes: Units of each hidden layer; a genome learned with one hidden layer seldom works with more.
        n_steps: Number of steps of ``fit``, each on one batch.
        batch_size: Samples in a batch; all samples if there are fewer.
        saturation: Bound of synapses: ``"oja"``, ``"norm"``, ``"exp"``, ``"tanh"`` or None (see ``BlurNetwork``), the
            same as in the search for the genome.
        random_state: Seed of the initial synapses and the batches.

    Attributes:
        classes_: The classes.
        n_features_in_: Number of features.
        mean_, scale_: Mean and standard deviation of each feature of the first data.
        state_: The synapses.
        moments_: Mean and variance of each layer's inputs in the last batch.

    Raises:
        ValueError: In ``fit``: an argument is out of range, there are fewer than two classes or samples, or synapses
            do not stay finite; in all methods: X is not valid data, or has another number of features.

    Source: Sandler et al., "Meta-learning bidirectional update rules" (2021); prediction by stored moments is ours.

    Examples:
        >>> from sklearn.datasets import make_moons
        >>> X, y = make_moons(500, noise=0.1, random_state=0)
        >>> bool(BlurClassifier(random_state=0).fit(X, y).score(X, y) > 0.8)
        True
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        "genome": [Genome, None],
        "hidden_layer_sizes": [tuple, list],
        "n_steps": [COUNT],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "saturation": [StrOptions({"oja", "norm", "exp", "tanh"}), None],
        "random_state": ["random_state"],
    }

    n_features_in_: int
    classes_: np.ndarray
    state_: BlurState
    moments_: Moments
    mean_: Tensor
    scale_: Tensor

    # As scikit-learn demands, anything is accepted here and checked by ``fit``.
    def __init__(
        self,
        genome: Annotated[Any, Genome | None] = None,
        *,
        hidden_layer_sizes: Annotated[Any, tuple[int, ...]] = (64,),
        n_steps: Annotated[Any, int] = 20,
        batch_size: Annotated[Any, int] = 128,
        saturation: Annotated[Any, Literal["oja", "norm", "exp", "tanh"] | None] = "norm",
        random_state: Annotated[Any, int | np.random.RandomState | None] = None,
    ) -> None:
        self.genome = genome
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.saturation = saturation
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Data, y: Data) -> BlurClassifier:
        """Learn anew from random batches of the samples, (samples, features), and their classes, (samples,)."""
        started = copy.copy(self)  # so that a call that is refused changes neither earlier synapses nor their width
        x, targets, known_classes = started._checked(X, y, None)
        x = started._start(x, known_classes)
        self.__dict__ = started.__dict__
        size = min(self.batch_size, len(x))
        for _ in range(self.n_steps):
            batch = torch.randperm(len(x), generator=self._generator)[:size]
            self._learn(x[batch], targets[batch])
        return self

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Data, y: Data, classes: Data | None = None) -> BlurClassifier:
        """Take one step on all samples in ``X``.

        Args:
            X: Samples, (samples, features).
            y: Their classes, (samples,).
            classes: All classes that will occur; None in the first call: those of ``y``.

        Raises:
            ValueError: ``classes`` are others than in the first call, there are fewer than two classes or samples, a
                label is not one of the classes, synapses do not stay finite, or X is not valid data or has another
                number of features.
        """
        is_first = not hasattr(self, "state_")
        if not is_first and classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes = {classes!r}: expected {self.classes_.tolist()}, as in the first call")
        x, targets, known_classes = self._checked(
            X, y, self.classes_ if classes is None and not is_first else classes, is_first
        )
        self._learn(self._start(x, known_classes) if is_first else self._scaled(x), targets)
        return self

    def predict_proba(self, X: Data) -> np.ndarray:
        """The probability of each class, (samples, classes), in the order of ``classes_``."""
        check_is_fitted(self, "moments_")
        x = torch.tensor(checks.samples(self, X, dtype=np.float64, reset=False))
        with torch.no_grad():
            output = self._network.forward(self._genome, self.state_, self._scaled(x), self.moments_)
        return output.softmax(-1).numpy()

    def predict(self, X: Data) -> np.ndarray:
        """The most likely class of each sample, (samples,)."""
        return self.classes_[self.predict_proba(X).argmax(1)] if hasattr(self, "classes_") else self.predict_proba(X)

    def _checked(
        self, X: Data, y: Data, classes: Data | None, is_first: bool = True
    ) -> tuple[Tensor, Tensor, np.ndarray]:
        """Samples, targets and classes; the first data define the classes."""
        samples, labels = checks.samples(self, X, y, dtype=np.float64, reset=is_first)
        known_classes = (
            self.classes_ if not is_first else np.unique(labels) if classes is None else unique_labels(classes)
        )
        if len(known_classes) < 2:
            name = "y" if classes is None else "classes"
            held = "no class" if not len(known_classes) else f"1 class, {known_classes.tolist()[0]!r}"
            raise ValueError(f"{name} holds {held}: expected at least 2")
        if unknown := set(labels.tolist()) - set(known_classes.tolist()):
            raise ValueError(f"y holds {min(unknown)!r}: expected one of the classes {known_classes.tolist()}")
        if len(samples) < 2:
            raise ValueError("X holds n_samples = 1: expected at least 2, for their variance")
        if min(len(samples), self.batch_size) < SMALL:
            message = f"batches of {min(len(samples), self.batch_size)} samples: their moments say little below {SMALL}"
            warnings.warn(message, RuntimeWarning, stacklevel=4)
        return torch.tensor(samples), torch.tensor(np.where(labels[:, None] == known_classes, 1.0, -1.0)), known_classes

    def _scaled(self, x: Tensor) -> Tensor:
        return (x - self.mean_) / self.scale_

    def _start(self, x: Tensor, known_classes: np.ndarray) -> Tensor:
        """Make the network; return the first data, standardised. Their statistics also scale all later data."""
        genome = EVOLVED if self.genome is None else self.genome
        for layer, units in enumerate(self.hidden_layer_sizes):
            checks.size(f"hidden_layer_sizes[{layer}]", units)
        sizes = (x.shape[1], *self.hidden_layer_sizes, len(known_classes))
        self._network = BlurNetwork(sizes, n_states=genome.n_states, saturation=self.saturation)
        self.classes_, self._genome = known_classes, Genome(*(field.detach().double() for field in genome))
        deviation, self.mean_ = torch.std_mean(x, 0, correction=0)
        self.scale_ = torch.where(deviation > 0, deviation, 1.0)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        self._generator = torch.Generator().manual_seed(int(seed))
        self.state_ = self._network.init(self._generator, dtype=torch.float64)
        return self._scaled(x)

    def _learn(self, x: Tensor, targets: Tensor) -> None:
        with torch.no_grad():
            state = self._network.step(self._genome, self.state_, x, targets)
            if not all(bool(weight.isfinite().all()) for weight in state.W):
                raise ValueError("X, y: synapses did not stay finite; take fewer steps, or another genome")
            self.state_, self.moments_ = state, self._network.moments(self._genome, state, x)
