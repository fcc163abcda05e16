"""The contract of a measure of similarity: a deterministic, symmetric distance with the declared invariances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engram.analysis.similarity.measure import SimilarityMeasure, as_measure
from engram.testing.promises import assert_refused, hold, in_threads, no_global_draws

Trials = list[np.ndarray]

_TRIALS, _STEPS, _FEATURES, _NOISE = 3, 60, 4, 0.05
# Shares of the distance between different systems: the largest that counts as zero, and the tolerance of a search.
_NONE, _NEAR = 1e-4, 0.01


def check_similarity_measure(measure: Any) -> None:
    """Check a measure of similarity against its contract, on a few trials of noisy oscillators with four features.

    The distance of a system to itself is about 0, and the distance between systems with different speeds and directions
    is above 0. The measure is symmetric and deterministic, in eight threads too, uses no global generator, and changes
    no data. It is the same after each change that it declares itself ``invariant`` to. Invalid or non-finite systems
    are refused by an error that names them; different numbers of samples are refused if it is ``paired``, and accepted
    otherwise.

    Args:
        measure: A ``SimilarityMeasure``, its class, or a function of the trials of two systems.

    Raises:
        AssertionError: A promise is broken; the message says which.
        TypeError: ``measure`` is not one of these.

    Examples:
        >>> from engram.analysis.similarity import ShapeAngle
        >>> check_similarity_measure(ShapeAngle)
    """
    checked_measure = as_measure(measure)
    checks = [
        _tells_systems_apart,
        _is_zero_from_itself,
        _is_symmetric,
        _is_determined,
        _changes_no_data,
        _is_invariant_as_declared,
        _accepts_or_refuses_other_lengths,
        _is_the_same_in_eight_threads,
        _refuses_bad_input,
    ]
    hold(getattr(measure, "__name__", type(checked_measure).__name__), checks, checked_measure)


def _system(speed: float, seed: int, steps: int = _STEPS) -> Trials:
    """Trials of two noisy oscillators, one twice as fast as the other, recorded by four units."""
    rng = np.random.default_rng(seed)
    view, _ = np.linalg.qr(rng.normal(size=(_FEATURES, _FEATURES)))
    phases = rng.uniform(0, 2 * np.pi, (_TRIALS, 1, 2)) + np.arange(steps)[:, None] * speed * np.array([1.0, 2.0])
    latent = np.concatenate([np.cos(phases), 0.5 * np.sin(phases)], axis=2)
    return list(latent @ view.T + _NOISE * rng.normal(size=latent.shape))


def _slow() -> Trials:
    return _system(0.1, 0)


def _fast() -> Trials:
    return _system(0.7, 1)


def _tells_systems_apart(measure: SimilarityMeasure) -> None:
    """The distance between different systems is above 0."""
    value = measure(_slow(), _fast())
    assert value > 0, f"the distance between systems of other speeds is {value}"


def _is_zero_from_itself(measure: SimilarityMeasure) -> None:
    """The distance of a system to itself is about 0."""
    between, itself = measure(_slow(), _fast()), measure(_slow(), _slow())
    assert abs(itself) <= _NONE * between, f"it is {itself:.3g}, and {between:.3g} between systems that differ"


def _is_symmetric(measure: SimilarityMeasure) -> None:
    """The distance is the same in both directions."""
    forward, reverse = measure(_slow(), _fast()), measure(_fast(), _slow())
    assert abs(forward - reverse) <= _NEAR * forward, f"it is {forward} one way, and {reverse} the other"


def _is_determined(measure: SimilarityMeasure) -> None:
    """A second call gives the same distance, bit for bit, and no global generator is used."""
    with no_global_draws():
        first = measure(_slow(), _fast())
    assert measure(_slow(), _fast()) == first, f"it is {first}, and then another"


def _changes_no_data(measure: SimilarityMeasure) -> None:
    """It changes no data in place."""
    system, other = _slow(), _fast()
    measure(system, other)
    assert all(map(np.array_equal, system + other, _slow() + _fast())), "data were changed"


def _is_invariant_as_declared(measure: SimilarityMeasure) -> None:
    """It is the same after each change that it is ``invariant`` to."""
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(_FEATURES, _FEATURES)))
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "shift": lambda trial: trial + np.arange(_FEATURES),
        "scale": lambda trial: 3 * trial,
        "rotation": lambda trial: trial @ rotation,
    }
    between = measure(_slow(), _fast())
    for name in measure.invariant:
        assert name in changes, f"invariant has {name!r}: expected some of {', '.join(changes)}"
        transformed = [changes[name](trial) for trial in _slow()]
        distance, after = measure(_slow(), transformed), measure(transformed, _fast())
        assert abs(distance) <= _NEAR * between, f"a {name} takes a system {distance:.3g} from itself"
        assert abs(after - between) <= _NEAR * between, f"after a {name} {between} becomes {after}"


def _accepts_or_refuses_other_lengths(measure: SimilarityMeasure) -> None:
    """Trials of different lengths are refused if samples are compared one by one, and accepted otherwise."""
    if measure.paired:
        assert_refused([(lambda: measure(_slow(), _system(0.7, 1, _STEPS + 5)), ValueError, "Y has trials of")])
    else:
        measure(_slow(), _system(0.7, 1, _STEPS + 5))


def _is_the_same_in_eight_threads(measure: SimilarityMeasure) -> None:
    """In eight threads at once it gives the same as in one."""
    expected = measure(_slow(), _fast())
    assert all(value == expected for value in in_threads(lambda: measure(_slow(), _fast()))), "threads differ"


def _refuses_bad_input(measure: SimilarityMeasure) -> None:
    """Invalid or non-finite trials are refused, and the message names them."""
    assert_refused(
        [
            (lambda: measure([np.nan * trial for trial in _slow()], _fast()), ValueError, "X"),
            (lambda: measure(_slow(), np.zeros(3)), ValueError, "Y|array"),
            (lambda: measure([], _fast()), ValueError, "X|array"),
        ]
    )
