"""A measure of similarity that breaks one promise is refused, and the message says which promise."""

import numpy as np
import pytest

from engram.analysis.similarity import SimilarityMeasure, as_measure
from engram.testing import check_similarity_measure


class Spread(SimilarityMeasure):
    """How far activity goes from its mean in its widest direction: keeps all promises."""

    invariant = ("shift", "rotation")

    def describe(self, trials):
        samples = np.concatenate(trials)
        return np.linalg.svd(samples - samples.mean(0), compute_uv=False)

    def distance(self, first, second):
        return abs(first[0] / first[-1] - second[0] / second[-1])


class Nothing(Spread):
    def distance(self, first, second):
        return 0.0


class Similarity(Spread):
    def distance(self, first, second):
        return 1 / (1 + super().distance(first, second))


class OneSided(Spread):
    def distance(self, first, second):
        return super().distance(first, second) * (2 if first[0] > second[0] else 1)


class Counts(Spread):
    asked = 0

    def distance(self, first, second):
        self.asked += 1
        return super().distance(first, second) * (1 + 1e-9 * self.asked)


class DrawsGlobally(Spread):
    def distance(self, first, second):
        return super().distance(first, second) + 1e-9 * np.random.random()  # noqa: NPY002


class Centres(Spread):
    def describe(self, trials):
        for trial in trials:
            np.subtract(trial, trial.mean(0), out=trial)
        return super().describe(trials)


class SeesRotations(Spread):
    def describe(self, trials):
        return np.concatenate(trials).std(0)

    def distance(self, first, second):
        return np.linalg.norm(first - second)


class ClaimsMuch(Spread):
    invariant = ("shift", "reflection")


class SamplesAlike(Spread):
    def describe(self, trials):
        return np.concatenate(trials)

    def distance(self, first, second):
        return float(np.abs(first - second).mean())

    invariant = ()


class Infinite(Spread):
    def distance(self, first, second):
        return np.inf


BROKEN = {
    Nothing: "systems of other speeds is 0.0",
    Similarity: "of a system to itself is about 0.*it is 1",
    OneSided: "the same in both directions",
    Counts: "bit for bit",
    DrawsGlobally: "global generator of numpy",
    Centres: "data were changed",
    SeesRotations: "rotation",
    ClaimsMuch: "invariant has 'reflection': expected some of shift, scale, rotation",
    SamplesAlike: "accepted otherwise.*ValueError",
    Infinite: "a distance is inf: expected a finite number",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_promise_is_found(broken):
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        check_similarity_measure(broken)


def test_a_measure_keeps_all_promises_whatever_form_it_has():
    check_similarity_measure(Spread)
    check_similarity_measure(Spread())

    def spread(X, Y):
        return Spread()(X, Y)

    check_similarity_measure(spread)


def test_what_is_no_measure_is_named():
    for part in (3, int):
        with pytest.raises(TypeError, match=f"part = {part!r}: expected a SimilarityMeasure, or a function"):
            as_measure(part)


def test_paired_systems_need_as_many_samples():
    measure = type("Paired", (SamplesAlike,), {"paired": True})()
    with pytest.raises(ValueError, match=r"systems\[2\] has trials of \[3\] samples: expected \[4\], as systems\[0\]"):
        measure.distances([np.zeros((4, 2)), np.ones((4, 2)), np.zeros((3, 2))])
    assert measure.distances([np.zeros((4, 2)), np.ones((4, 2))]).tolist() == [[0, 1], [1, 0]]
