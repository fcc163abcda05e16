"""What a search needs of a network whose weights follow a rule with coefficients theta."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from engram.learned.inference.feed_forward import Path, Rows
from engram.learned.inference.series import Powers, Series
from engram.learned.inference.sessions import Sessions
from engram.plasticity import PlasticityRule


@runtime_checkable
class Model(Protocol):
    """A network whose weights follow a rule with coefficients theta; see ``feed_forward.Layer``."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients."""

    @property
    def start(self) -> Float[np.ndarray, " part"]:
        """Where a search starts."""

    def rule(self, theta: Float[np.ndarray, " part"]) -> PlasticityRule:
        """The rule with these coefficients."""

    def run(self, theta: Float[np.ndarray, " part"], rows: Rows, *, keep_weights: bool = False) -> Path | None:
        """What is predicted, or None if a weight diverges."""

    def linearise(
        self, theta: Float[np.ndarray, " part"], rows: Rows, *, by_initial: bool
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """What is predicted and its derivatives, for some predictions at a time."""


@runtime_checkable
class TermsModel(Model, Protocol):
    """A model whose rule is a series."""

    @property
    def series(self) -> Series:
        """The series."""

    def part(self, kept: Sequence[int] | Int[np.ndarray, " kept"]) -> TermsModel:
        """The model with some of the parts alone."""

    def samples(self, places: tuple[np.ndarray, np.ndarray], rows: Rows, rng: np.random.Generator) -> Powers:
        """The powers at some steps, with random weights."""

    def visited(self, theta: Float[np.ndarray, " part"], rows: Rows) -> list[Powers]:
        """The powers at each step of a run at which weights change."""


def has_terms(model: Model) -> TypeGuard[TermsModel]:
    """Whether the rule of a model is a series."""
    return isinstance(getattr(model, "series", None), Series)


def run_sessions(
    model: Model,
    theta: Float[np.ndarray, " part"],
    sessions: Sessions,
    initial: Float[np.ndarray, "session unit input"],
    outputs: int,
    *,
    keep_weights: bool = False,
) -> list[Path]:
    """A run of all units of each session; NaN where it diverges.

    Args:
        model: The rule and the network.
        theta: Coefficients.
        sessions: Inputs, signals and changes.
        initial: First weights, NaN of units that are not known.
        outputs: Number of predictions at each step: of all units, or 1 of choices.
        keep_weights: Whether the weights of every step are returned too.

    Warns:
        RuntimeWarning: A run diverges.
    """
    paths = []
    for k, start in enumerate(initial):
        parts = sessions.inputs[k : k + 1], sessions.signal[k : k + 1], sessions.changes[k : k + 1]
        rows = Rows(*parts, np.zeros(len(start), int), np.arange(len(start)), np.nan_to_num(start))
        path = model.run(theta, rows, keep_weights=keep_weights)
        steps = rows.inputs.shape[1]
        if path is None:
            warnings.warn(f"inputs[{k}]: the fitted rule diverges", RuntimeWarning, stacklevel=4)
            weights = np.full((keep_weights * (steps + 1), *start.shape), np.nan)
            path = Path(np.full((outputs, steps), np.nan), weights)
        unknown = np.isnan(start).any(axis=1)
        if unknown.any():
            path.activity[unknown], path.weights[:, unknown] = np.nan, np.nan
        paths.append(path)
    return paths
