"""A scikit-learn estimator that stores patterns in Hebbian traces and completes them."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from engram import checks
from engram.copying import copied
from engram.plasticity.modulated import Modulated
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.scan import plastic_scan
from engram.plasticity.sequence.write_rule import WriteRule
from engram.plasticity.state import PlasticState, TraceState

Data = Annotated[Any, ArrayLike]  # scikit-learn raises its own errors for anything else


class PlasticAssociativeMemory(BaseEstimator):  # type: ignore[misc]
    """A memory that stores patterns in the traces of a plastic layer, one presentation each, and completes them.

    Storing. There is one unit for each feature. The patterns are presented one after another. A presented pattern p is
    clamped, so it is both the pre- and the postsynaptic activity, and the rule is applied once; if it is modulated, the
    weight w of the pattern is the neuromodulatory signal:

        H' = rule(H, x = p, y = p, m = w)           with the default rule, H' = H + w p p^T

    Completing. A cue q is NaN where it is unknown. The known units are clamped, the others start at 0 and settle for
    ``recall_steps`` steps; no unit is connected to itself, and the traces do not change. Then every unit, clamped or
    not, is read out linearly:

        W[j, i] = H[j, i] / (n - 1)                 for j != i, else 0, with n features
        y(t)    = tanh(gain W y(t-1))               or, where known, q
        answer  = W y(recall_steps)

    If one pattern of +1 and -1 is stored, any part of it as a cue recovers all its signs; if several are stored, the
    answer is noisy, so look at its sign. Patterns of graded values are recovered up to a factor. The known values of a
    cue are not copied into the answer: ``numpy.where(numpy.isnan(X), memory.predict(X), X)`` does that.

    A write rule stores a pattern as the pair of the key p / |p| and the value |p| p, with beta = w; by ``HebbianWrite``
    that is the default rule, while by ``DeltaWrite`` H p / n = p holds exactly for the last pattern that was stored.

    Args:
        rule: The plasticity rule; it is copied with its trained parameters, and not trained here. If None,
            ``Modulated(clip=None)``, which makes a Hopfield network. A rule with a bound forgets older patterns, as
            ``Hebb`` does. With ``Retroactive`` the weight of a pattern acts on the patterns before it, unless
            ``trace_first``. A ``WriteRule`` must take beta as its only signal, as ``DeltaWrite`` does.
        gain: Slope of the units while they settle; at 1 or less, silence is stable.
        recall_steps: Number of steps for which the unknown units settle.

    Attributes:
        n_features_in_: Number of features n.
        rule_: The rule in use.
        state_: State of the rule, one episode of traces (1, n, n).

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), without trained weights and with one alpha
    for all connections; Hopfield, "Neural networks and physical systems with emergent collective computational
    abilities" (1982). The linear read-out is ours.

    Examples:
        >>> patterns = np.array([[1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]])
        >>> memory = PlasticAssociativeMemory().fit(patterns)
        >>> np.sign(memory.predict([[1, -1, np.nan, np.nan, np.nan, np.nan]])).tolist()
        [[1.0, -1.0, 1.0, -1.0, 1.0, -1.0]]
    """

    n_features_in_: int
    rule_: PlasticityRule | WriteRule
    state_: Any  # that of the rule: traces, or fast weights

    # As scikit-learn demands, anything is accepted here and checked by ``fit``.
    def __init__(
        self,
        rule: Annotated[Any, PlasticityRule | WriteRule | None] = None,
        *,
        gain: Annotated[Any, float] = 4.0,
        recall_steps: Annotated[Any, int] = 10,
    ) -> None:
        self.rule = rule
        self.gain = gain
        self.recall_steps = recall_steps

    @property
    def trace_(self) -> np.ndarray:
        """The Hebbian traces, (n, n) as (post, pre)."""
        check_is_fitted(self)
        return self._trace().numpy(force=True).copy()

    def fit(self, X: Data, y: object = None, sample_weight: Data | None = None) -> PlasticAssociativeMemory:
        """Forget everything and store patterns.

        Args:
            X: Patterns, (samples, features), meant to be within [-1, 1]; NaN for a silent unit.
            y: Ignored.
            sample_weight: Neuromodulatory signal of each pattern, of either sign; 1 if None. Only for a modulated rule.

        Raises:
            TypeError, ValueError: An argument here or of the constructor is of the wrong type or out of range, X or the
                weights are not valid data, or there are weights and the rule is not modulated.

        Warns:
            RuntimeWarning: X is outside [-1, 1].
        """
        with checks.restored_on_error(self):
            return self._store(X, sample_weight, first=True)

    def partial_fit(self, X: Data, y: object = None, sample_weight: Data | None = None) -> PlasticAssociativeMemory:
        """Store further patterns; see ``fit``.

        Args:
            X: Patterns, (samples, features).
            y: Ignored.
            sample_weight: Neuromodulatory signal of each pattern; 1 if None.

        Raises:
            TypeError, ValueError: As for ``fit``; or X has another number of features than before.
        """
        with checks.restored_on_error(self):
            return self._store(X, sample_weight, first=not hasattr(self, "state_"))

    def predict(self, X: Data) -> np.ndarray:
        """The completed cues, (samples, features).

        Args:
            X: Cues, (samples, features); NaN where unknown.

        Raises:
            NotFittedError: Nothing has been stored.
            ValueError: X is invalid, or has another number of features.
        """
        check_is_fitted(self)
        cues: Any = checks.samples(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", reset=False)
        trace = self._trace()
        weight = (trace - torch.diag(trace.diagonal())) / max(self.n_features_in_ - 1, 1)
        cue = torch.tensor(cues).to(trace)
        is_known, cue = ~cue.isnan(), cue.nan_to_num(0.0)
        # The traces do not change, so they act as fixed weights of a network without plasticity.
        start = PlasticState(cue, TraceState(cue.new_empty(len(cue), 0, 0)))
        steps = (self.recall_steps, *cue.shape)
        with torch.no_grad():
            _, last = plastic_scan(
                cue.expand(steps), self.gain * weight, None, None, start, clamp=is_known.expand(steps)
            )
            return (last.hidden @ weight.t()).numpy(force=True)

    def _store(self, X: Data, sample_weight: Data | None, first: bool) -> PlasticAssociativeMemory:
        patterns: Any = checks.samples(
            self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", reset=first
        )
        if first:
            if self.rule is not None:
                checks.instance("rule", self.rule, PlasticityRule | WriteRule)  # type: ignore[arg-type]
            if isinstance(self.rule, WriteRule) and (self.rule.signals != ("beta",) or self.rule.square):
                raise ValueError(f"rule = {self.rule}: expected a write rule that takes beta alone and any values")
            checks.size("recall_steps", self.recall_steps)
            checks.number("gain", self.gain, above=0)
            rule = Modulated(clip=None) if self.rule is None else copied(self.rule)
            self.rule_ = rule.to(dtype=torch.tensor(patterns[:1]).dtype).requires_grad_(False)
            n = self.n_features_in_
            if isinstance(self.rule_, WriteRule):
                self.state_ = self.rule_.init(torch.zeros(1, 1, n, n, dtype=torch.tensor(patterns[:1]).dtype))
            else:
                self.state_ = self.rule_.init(1, n, n)
        takes_weights = isinstance(self.rule_, WriteRule) or self.rule_.modulated
        if sample_weight is not None and not takes_weights:
            raise ValueError(f"sample_weight is given: expected None, because rule = {self.rule_} is not modulated")
        with checks.noted(sample_weight=sample_weight):
            weights = torch.tensor(_check_sample_weight(sample_weight, patterns)).to(self._trace())
        if (np.abs(patterns) > 1).any():
            warnings.warn("X is outside [-1, 1]: such values weigh more than recall can", RuntimeWarning, stacklevel=3)
        activity = torch.tensor(patterns).to(self._trace()).nan_to_num(0.0)
        with torch.no_grad():
            for pattern, weight in zip(activity.unsqueeze(1), weights.view(-1, 1, 1), strict=True):
                if isinstance(self.rule_, WriteRule):
                    length = pattern.norm()
                    key = pattern / length.clamp_min(torch.finfo(length.dtype).tiny)
                    self.state_ = self.rule_.write(self.state_, key[None], (length * pattern)[None], weight[0, None])
                else:
                    signal = weight if self.rule_.modulated else None
                    self.state_ = self.rule_.update(self.state_, pre=pattern, post=pattern, modulator=signal)
        return self

    def _trace(self) -> torch.Tensor:
        """The traces of the one episode, or the matrix of the one head."""
        trace: torch.Tensor
        trace = self.state_.weight[0, 0] if isinstance(self.rule_, WriteRule) else self.state_.trace[0]
        return trace

    def __sklearn_tags__(self) -> Tags:
        """Scikit-learn's tags: NaN is allowed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
