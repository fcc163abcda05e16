"""Measures of similarity beside one another: real trials at size smoke."""

import pytest

import engram

MEASURES = '''
import numpy as np
from engram.analysis.similarity import SimilarityMeasure
from engram.analysis.similarity import ShapeAngle


class Own(SimilarityMeasure):
    """How far the correlations of successive samples differ."""

    invariant = ("scale",)

    def describe(self, trials):
        return sum(trial[:-1].T @ trial[1:] for trial in trials)

    def distance(self, first, second):
        return np.linalg.norm(first / np.linalg.norm(first) - second / np.linalg.norm(second))


class Twin(ShapeAngle):
    """Procrustes under another name."""


def bad(X, Y):
    """Near is far."""
    return np.pi / 2 - ShapeAngle()(X, Y)


bad.paired = True
'''


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    path = tmp_path_factory.mktemp("measures") / "my_measures.py"
    path.write_text(MEASURES)
    return engram.compare(
        *(f"{path}:{name}" for name in ("Own", "Twin", "bad")),
        kind="similarity_measures",
        against=["dsa", "procrustes"],
        tasks=["mean", "of the same trajectories"],
        seeds=2,
        runs=tmp_path_factory.mktemp("runs"),
        preset="smoke",
        jobs=1,
        progress=False,
    )


@pytest.mark.soak
def test_the_same_measure_under_another_name_ties_with_itself(standing):
    for row in standing.entries.values():
        assert row["Twin"].values == row["procrustes"].values
        assert row["Twin"].step_seconds > 0


@pytest.mark.soak
def test_a_bad_measure_ends_last(standing):
    row = standing.entries["random embeddings of the same trajectories"]
    assert set(row) == {"Own", "Twin", "bad", "dsa", "procrustes", "size"}
    assert standing.rank("random embeddings of the same trajectories", "bad") == len(row)
    assert any("bad breaks a promise" in promise for promise in standing.broken)
    assert not any("Own breaks" in promise or "Twin breaks" in promise for promise in standing.broken)
