"""The contract of an estimator: scikit-learn's own, and engram's additional requirements."""

from __future__ import annotations

import pickle
import re
import unittest
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import sklearn.utils.estimator_checks as scikit_learn
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.datasets import make_blobs
from sklearn.utils import get_tags

from engram.testing.promises import alike, assert_states_are_refused, hold, in_threads, no_global_draws

_ANSWERS = ("transform", "predict", "predict_proba", "decision_function")


def check_estimator(estimator: BaseEstimator, *, exemptions: Mapping[str, str] | None = None) -> None:
    """Check an estimator against scikit-learn's contract and engram's.

    It passes scikit-learn's ``check_estimator``; its ``random_state`` determines all randomness and no global generator
    is used; ``partial_fit``, if there is one, is documented and continues from earlier calls; float32 and float64 data
    give finite answers of the same shape; missing values are refused with an error that names them; a transformer names
    its outputs (``get_feature_names_out``) and returns polars and pandas frames (``set_output``); eight threads and
    pickled copies give the same answers; a state of another form, if it has a ``load_state_dict``, is refused by an
    error that names the entry.

    Args:
        estimator: An instance; it is cloned, never fitted.
        exemptions: Names of scikit-learn's checks that fail, each with the reason; one that passes is an error.

    Raises:
        TypeError: ``estimator`` is not an instance of an estimator.

    Examples:
        >>> from sklearn.preprocessing import StandardScaler
        >>> check_estimator(StandardScaler())
    """
    if not isinstance(estimator, BaseEstimator):
        raise TypeError(f"estimator = {estimator!r}: expected an instance of a scikit-learn estimator")
    checks = [_is_reproducible, _takes_both_precisions, _names_missing_values, _is_the_same_in_eight_threads]
    checks += [_is_pickled]
    if hasattr(estimator, "load_state_dict"):
        checks += [_refuses_other_states]
    if hasattr(estimator, "partial_fit"):
        checks += [_continues_from_earlier_calls]
    if hasattr(estimator, "transform"):
        checks += [_names_its_outputs, _returns_frames]
    name = type(estimator).__name__
    with warnings.catch_warnings():  # such as warnings about too few iterations to converge
        warnings.simplefilter("ignore")
        hold(name, [_passes_scikit_learn], estimator, dict(exemptions or {}))
        hold(name, checks, estimator)


def _data() -> tuple[np.ndarray, np.ndarray]:
    """Three clusters of non-negative points, and their labels."""
    points, clusters = make_blobs(n_samples=30, n_features=4, centers=3, random_state=0)
    return points - points.min(), clusters


def _fresh(estimator: BaseEstimator) -> BaseEstimator:
    fresh = clone(estimator)
    return fresh.set_params(random_state=0) if "random_state" in fresh.get_params() else fresh


def _answers(fitted: BaseEstimator, points: np.ndarray) -> dict[str, np.ndarray]:
    outputs = {name: getattr(fitted, name)(points) for name in _ANSWERS if hasattr(fitted, name)}
    return {name: output.toarray() if hasattr(output, "toarray") else output for name, output in outputs.items()}


def _passes_scikit_learn(estimator: BaseEstimator, exemptions: dict[str, str]) -> None:
    """It passes scikit-learn's ``check_estimator``."""
    results = scikit_learn.check_estimator(estimator, expected_failed_checks=exemptions, on_skip=None, on_fail=None)
    for result in results:
        assert result["status"] != "failed", f"{result['check_name']}: {result['exception']}"
    unneeded = set(exemptions) - {result["check_name"] for result in results if result["status"] == "xfail"}
    assert not unneeded, f"exempted from checks that do not fail: {', '.join(sorted(unneeded))}"


def _is_reproducible(estimator: BaseEstimator) -> None:
    """With ``random_state`` set, fitting twice gives the same answers, and no global generator is used."""
    points, clusters = _data()
    with no_global_draws():
        first, second = (_answers(_fresh(estimator).fit(points, clusters), points) for _ in range(2))
    for name, output in first.items():
        assert np.array_equal(output, second[name]), f"{name} differs between two fits"


def _takes_both_precisions(estimator: BaseEstimator) -> None:
    """Data in float32 and in float64 give finite answers of the same shape."""
    points, clusters = _data()
    precisions = (points.astype(dtype) for dtype in (np.float32, np.float64))
    single, double = (_answers(_fresh(estimator).fit(X, clusters), X) for X in precisions)
    for name in single:
        assert np.isfinite(single[name]).all(), f"{name} of float32 data is not finite"
        assert np.isfinite(double[name]).all(), f"{name} of float64 data is not finite"
        shapes = single[name].shape, double[name].shape
        assert shapes[0] == shapes[1], f"{name} has shape {shapes[0]} for float32, {shapes[1]} for float64"


def _names_missing_values(estimator: BaseEstimator) -> None:
    """Missing values are refused, in fitting and afterwards, by a ValueError that mentions NaN and the argument."""
    if get_tags(estimator).input_tags.allow_nan:
        return
    points, clusters = _data()
    fitted = _fresh(estimator).fit(points, clusters)
    points[3, 1] = np.nan
    calls: dict[str, Callable[[], Any]] = {"fit": lambda: _fresh(estimator).fit(points, clusters)}
    calls |= {name: partial(getattr(fitted, name), points) for name in _ANSWERS if hasattr(fitted, name)}
    for name, call in calls.items():
        try:
            call()
            raise AssertionError(f"{name} accepted NaN")
        except ValueError as error:
            refusal = str(error)
        assert "NaN" in refusal, f"the message of {name}, {refusal!r}, does not say NaN"
        assert re.search(r"\bX\b", refusal), f"the message of {name}, {refusal!r}, does not name X"


def _continues_from_earlier_calls(estimator: Any) -> None:
    """``partial_fit`` is documented and reproducible, and continues from earlier calls."""
    assert (estimator.partial_fit.__doc__ or "").strip(), "partial_fit has no docstring"
    points, clusters = _data()
    classes = {"classes": np.unique(clusters)} if is_classifier(estimator) else {}

    def fitted(*chunks: slice) -> dict[str, np.ndarray]:
        fresh: Any = _fresh(estimator)
        for chunk in chunks:
            fresh.partial_fit(points[chunk], clusters[chunk], **classes)
        return _answers(fresh, points)

    early, late = slice(0, 15), slice(15, 30)
    after_both, after_both_again, after_last = fitted(early, late), fitted(early, late), fitted(late)
    for name in after_both:
        assert np.array_equal(after_both[name], after_both_again[name]), (
            f"{name} differs between two runs over the same chunks"
        )
    assert any(not np.array_equal(after_both[name], after_last[name]) for name in after_both), (
        "the first chunk is forgotten"
    )


def _is_the_same_in_eight_threads(estimator: BaseEstimator) -> None:
    """Fitted and used in eight threads at once, it gives the same answers as in one thread."""
    points, clusters = _data()
    fitted = _fresh(estimator).fit(points, clusters)
    expected = _answers(fitted, points)
    for call in (lambda: _answers(_fresh(estimator).fit(points, clusters), points), lambda: _answers(fitted, points)):
        assert all(alike(expected, answers) for answers in in_threads(call)), "threads differ"


def _is_pickled(estimator: BaseEstimator) -> None:
    """A pickled copy, made before or after fitting, gives the same answers."""
    points, clusters = _data()
    unfitted, fitted = _fresh(estimator), _fresh(estimator).fit(points, clusters)
    answers = _answers(fitted, points)
    copies = [pickle.loads(pickle.dumps(each)) for each in (unfitted, fitted)]  # noqa: S301
    copies[0].fit(points, clusters)
    assert all(alike(answers, _answers(each, points)) for each in copies), "a pickled copy differs"


def _refuses_other_states(estimator: Any) -> None:
    """A state of another form is refused, by an error that names the entry, and changes nothing."""
    points, clusters = _data()
    fitted, narrow = (_fresh(estimator).fit(X, clusters) for X in (points, points[:, :2]))
    wrong = {name: value for name, value in narrow.state_dict().items() if name != "n_features_in_"}
    assert_states_are_refused(fitted, wrong | {"n_features_in_": fitted.n_features_in_}, empty=True)


def _names_its_outputs(estimator: BaseEstimator) -> None:
    """``get_feature_names_out`` names each column that ``transform`` returns."""
    scikit_learn.check_transformer_get_feature_names_out(type(estimator).__name__, estimator)


def _returns_frames(estimator: BaseEstimator) -> None:
    """``set_output`` makes ``transform`` return polars frames, and pandas frames where pandas is installed."""
    name = type(estimator).__name__
    scikit_learn.check_set_output_transform_polars(name, estimator)
    with suppress(unittest.SkipTest):
        scikit_learn.check_set_output_transform_pandas(name, estimator)
