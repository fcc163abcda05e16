from __future__ import annotations

import math

import pytest

from engram.studies.standings.ranks import ranks


def test_ranks_are_those_of_demsar():
    """Table 6 of Demsar (2006): four classifiers on fourteen data sets; his CD of Nemenyi's test is 1.25."""
    table = """0.763 0.768 0.771 0.798 / 0.599 0.591 0.590 0.569 / 0.954 0.971 0.968 0.967 / 0.628 0.661 0.654 0.657
    / 0.882 0.888 0.886 0.898 / 0.936 0.931 0.916 0.931 / 0.661 0.668 0.609 0.685 / 0.583 0.583 0.563 0.625
    / 0.775 0.838 0.866 0.875 / 1.000 1.000 1.000 1.000 / 0.940 0.962 0.965 0.962 / 0.619 0.666 0.614 0.669
    / 0.972 0.981 0.9751 0.975 / 0.957 0.978 0.946 0.970"""
    names = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
    scores = {
        str(number): dict(zip(names, map(float, row.split()), strict=True))
        for number, row in enumerate(table.split("/"))
    }
    result = ranks(scores)
    assert {name: round(mean, 3) for name, mean in result.mean.items()} == pytest.approx(
        {"C4.5": 3.143, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}, abs=0.001
    )
    assert result.critical == pytest.approx(1.25, abs=0.01)
    assert 0.01 < result.p < 0.026  # his, of a statistic that is not corrected for ties


def test_tasks_and_methods_that_leave_the_most_results_are_ranked():
    everyone = {"a": 0.3, "b": 0.2, "c": 0.1}
    result = ranks({"one": everyone, "two": everyone, "three": {"a": 0.1}})
    assert (result.tasks, list(result.mean)) == (("one", "two"), ["a", "b", "c"])
    alone = ranks({"one": {"a": 0.1}})
    assert alone.mean == {"a": 1.0}
    assert math.isnan(alone.critical)
    assert ranks({}).mean == {}


def test_candidates_that_differ_by_rounding_share_a_rank():
    tasks = {"one": {"x": 0.3, "y": 0.1 + 0.2, "z": 0.1}, "two": {"x": -0.6, "y": -(0.2 + 0.4), "z": -0.7}}
    assert ranks(tasks).mean == {"x": 1.5, "y": 1.5, "z": 3.0}
    assert ranks(tasks) == ranks({task: {**row, "y": row["x"]} for task, row in tasks.items()})
