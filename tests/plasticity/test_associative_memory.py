import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from engram.plasticity import ClippedHebb, Hebb, Modulated, Oja, PlasticAssociativeMemory, Retroactive
from engram.plasticity.sequence import DeltaWrite, GatedDeltaWrite, GradientWrite, HebbianWrite


def patterns(count, bits, seed=0):
    return np.random.default_rng(seed).choice([-1.0, 1.0], (count, bits))


def hidden(X, share, seed=1):
    """Return the patterns with this share of each hidden, exactly."""
    order = np.random.default_rng(seed).random(X.shape).argsort(axis=1)
    return np.where(order < share * X.shape[1], np.nan, X)


def wrong(memory, X, cues):
    return (np.sign(memory.predict(cues)) != X).mean()


@pytest.mark.parametrize("rule", [None, Hebb(0.1), Oja(0.1), ClippedHebb(0.1), Modulated()])
@given(bits=st.integers(2, 40), seed=st.integers(0, 99))
def test_one_pattern_is_recalled_from_a_single_bit(rule, bits, seed):
    X = patterns(1, bits, seed)
    memory = PlasticAssociativeMemory(rule, gain=40.0).fit(X)
    cue = np.full((1, bits), np.nan)
    cue[0, seed % bits] = X[0, seed % bits]
    assert (np.sign(memory.predict(cue)) == X).all()


def test_the_default_is_a_hopfield_network():
    X = patterns(5, 30)
    memory = PlasticAssociativeMemory().fit(X)
    np.testing.assert_allclose(memory.trace_, X.T @ X)
    field = X @ (X.T @ X - 5 * np.eye(30)) / 29
    np.testing.assert_allclose(memory.predict(X), field)
    single = PlasticAssociativeMemory().fit(X[:1])
    np.testing.assert_allclose(single.predict(X[:1]), X[:1])


def test_patterns_within_capacity_are_completed_and_more_are_not():
    few, many = patterns(10, 200), patterns(100, 200)
    assert wrong(PlasticAssociativeMemory().fit(few), few, hidden(few, 0.5)) == 0
    assert wrong(PlasticAssociativeMemory().fit(many), many, hidden(many, 0.5)) > 0.1


def test_units_that_settle_recall_more_than_one_look():
    X = patterns(10, 200)
    cues = hidden(X, 0.9)
    settled, once = (wrong(PlasticAssociativeMemory(recall_steps=steps).fit(X), X, cues) for steps in np.array([20, 1]))
    assert settled < 0.75 * once


def test_a_bounded_memory_keeps_the_latest_patterns_where_an_unbounded_one_keeps_none():
    X = patterns(200, 200)
    cues = hidden(X, 0.5)
    memories = {"bounded": ClippedHebb(1.0, 4.0), "decaying": Hebb(0.1), "unbounded": None}
    latest = {
        name: wrong(PlasticAssociativeMemory(rule, gain=8.0).fit(X), X[-5:], cues[-5:])
        for name, rule in memories.items()
    }
    assert latest["bounded"] < 0.1
    assert latest["decaying"] < 0.1
    assert latest["unbounded"] > 0.2
    assert wrong(PlasticAssociativeMemory(Hebb(0.1), gain=8.0).fit(X), X[:5], cues[:5]) > 0.3


def test_a_pattern_can_be_unlearned():
    X = patterns(3, 40)
    memory = PlasticAssociativeMemory().fit(X).partial_fit(X[:1], sample_weight=[-1])
    np.testing.assert_allclose(memory.trace_, X[1:].T @ X[1:])


def test_a_weight_is_a_number_of_presentations():
    X = patterns(3, 40)
    twice = PlasticAssociativeMemory().fit(np.concatenate((X, X[:1])))
    weighed = PlasticAssociativeMemory().fit(X, sample_weight=[2, 1, 1])
    np.testing.assert_allclose(weighed.trace_, twice.trace_)


def test_parts_are_stored_as_the_whole_and_fit_forgets():
    X, cue = patterns(6, 20), hidden(patterns(6, 20), 0.5)
    for rule in (None, Hebb(0.2), Retroactive(0.5)):
        whole, parts = (PlasticAssociativeMemory(rule) for _ in range(2))
        whole.fit(X)
        parts.partial_fit(X[:2]).partial_fit(X[2:])
        np.testing.assert_array_equal(parts.predict(cue), whole.predict(cue))
        np.testing.assert_array_equal(parts.fit(X[:2]).trace_, PlasticAssociativeMemory(rule).fit(X[:2]).trace_)


def test_the_weight_of_a_retroactive_rule_is_for_the_pattern_before():
    X = patterns(2, 20)
    memory = PlasticAssociativeMemory(Retroactive(1.0, None)).fit(X, sample_weight=[5, 3])
    np.testing.assert_allclose(memory.trace_, 3 * np.outer(X[0], X[0]), rtol=1e-6)


def test_a_unit_that_is_unknown_while_storing_learns_nothing():
    X = patterns(2, 20)
    X[:, 3] = np.nan
    trace = PlasticAssociativeMemory().fit(X).trace_
    assert not trace[3].any()
    assert not trace[:, 3].any()


def test_graded_patterns_come_back_up_to_a_factor():
    X = np.random.default_rng(0).uniform(-1, 1, (1, 50))
    answer = PlasticAssociativeMemory().fit(X).predict(hidden(X, 0.5))
    assert np.corrcoef(answer[0], X[0])[0, 1] > 0.999


def test_it_is_cloned_pickled_and_leaves_its_rule_alone():
    rule, X = Hebb(0.3), patterns(3, 10)
    memory = PlasticAssociativeMemory(rule).fit(X)
    assert rule.eta.requires_grad
    assert clone(memory).rule.eta.item() == rule.eta.item()
    restored = pickle.loads(pickle.dumps(memory))
    np.testing.assert_array_equal(restored.predict(X), memory.predict(X))


def test_values_beyond_the_range_of_the_units_are_told():
    with pytest.warns(RuntimeWarning, match=r"X is outside \[-1, 1\]"):
        PlasticAssociativeMemory().fit([[2.0, 0.0]])


X = patterns(3, 4)
BAD = {
    "rule": (lambda: PlasticAssociativeMemory("hebb").fit(X), TypeError, "rule is a str: expected .*PlasticityRule"),
    "gain": (
        lambda: PlasticAssociativeMemory(gain=0).fit(X),
        ValueError,
        "gain = 0: expected a number above 0",
    ),
    "gain type": (
        lambda: PlasticAssociativeMemory(gain="4").fit(X),
        TypeError,
        "gain = '4': expected a number above 0",
    ),
    "steps": (
        lambda: PlasticAssociativeMemory(recall_steps=0).fit(X),
        ValueError,
        "recall_steps = 0: expected at least 1",
    ),
    "weight": (
        lambda: PlasticAssociativeMemory(Hebb()).fit(X, sample_weight=[1, 2, 3]),
        ValueError,
        r"sample_weight is given: expected None, because rule = Hebb\(eta=0.01\) is not modulated",
    ),
    "weight length": (lambda: PlasticAssociativeMemory().fit(X, sample_weight=[1, 2]), ValueError, "sample_weight"),
    "not fitted": (lambda: PlasticAssociativeMemory().predict(X), NotFittedError, "not fitted"),
    "features": (lambda: PlasticAssociativeMemory().fit(X).predict(X[:, :3]), ValueError, "X has 3 features"),
    "infinity": (lambda: PlasticAssociativeMemory().fit(np.full((1, 2), np.inf)), ValueError, "infinity"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name):
    call, expected, message = BAD[name]
    with pytest.raises(expected, match=message):
        call()


def test_a_first_call_that_is_refused_leaves_nothing_stored():
    memory = PlasticAssociativeMemory()
    with pytest.raises(ValueError, match="sample_weight"):
        memory.partial_fit(X, sample_weight=[1, 2])
    with pytest.raises(NotFittedError):
        memory.predict(X)
    memory.partial_fit(X[:, :3])  # of another width


def test_a_hebbian_write_is_the_default_rule_and_a_delta_write_recalls_the_last_pattern_exactly():
    X = np.sign(np.random.default_rng(0).normal(size=(5, 30)) + 0.7)  # which overlap
    rules = (None, HebbianWrite(), DeltaWrite())
    default, hebbian, delta = (PlasticAssociativeMemory(rule).fit(X) for rule in rules)
    np.testing.assert_allclose(hebbian.trace_, default.trace_, atol=1e-12)
    np.testing.assert_allclose(delta.trace_ @ X[-1] / 30, X[-1], atol=1e-12)
    wrong = [(np.sign(memory.predict(X)) != X).mean() for memory in (default, delta)]
    assert wrong[1] < wrong[0]
    halved = PlasticAssociativeMemory(DeltaWrite()).fit(X[:1], sample_weight=[0.5])
    np.testing.assert_allclose(halved.trace_, default.fit(X[:1]).trace_ / 2, atol=1e-12)


@pytest.mark.parametrize("rule", [GatedDeltaWrite(), GradientWrite()], ids=["decay", "norm"])
def test_a_write_rule_that_needs_more_than_beta_is_refused(rule):
    with pytest.raises(ValueError, match=r"rule = .*: expected a write rule that takes beta alone"):
        PlasticAssociativeMemory(rule).fit(np.eye(3))
