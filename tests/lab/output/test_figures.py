from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest

from engram.lab.output.figures import Grid, Lines, Points, Profiles


def panel(*names, showlegend=None):
    """A panel with a line for each name, the first of which is red."""
    figure = go.Figure(layout={"showlegend": showlegend})
    for name in names:
        figure.add_scatter(y=[0, 1], name=name, line_color="red" if name == names[0] else "blue")
    return lambda results: figure


def names_of(figure, *, legend=False):
    return [trace.name for trace in figure.data if not legend or trace.showlegend is not False]


def test_a_grid_has_each_method_once_in_its_legend_and_in_one_colour():
    figure = Grid(
        [panel("maze-lstm", "maze-nec"), panel("bandit-nec", "bandit-lstm"), panel("bandit-nec", showlegend=False)]
    )(SimpleNamespace())
    assert names_of(figure, legend=True) == ["lstm", "nec"]
    assert names_of(figure)[:4] == ["lstm", "nec", "nec", "lstm"]
    assert [trace.line.color for trace in figure.data[:4]] == ["red", "blue", "blue", "red"]
    assert {trace.name: trace.legendgroup for trace in figure.data[:4]} == {"lstm": "lstm", "nec": "nec"}


@pytest.mark.parametrize(
    "panels",
    [
        [("maze-lstm", "maze-nec"), ("bandit-table", "bandit-random")],  # nothing in common
        [("dense-cubic", "dense-steep"), ("dense-cubic", "dense-steep")],  # one task twice
        [("maze-lstm", "lstm"), ("bandit-lstm", "lstm")],  # two names of one method
        [("maze-lstm",), ("bandit-lstm",)],  # one name has no end of its task
    ],
)
def test_names_that_are_not_a_method_on_a_task_stay(panels):
    figure = Grid([panel(*names) for names in panels])(SimpleNamespace())
    assert names_of(figure) == [name for names in panels for name in names]


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        (lambda: Points("error", arms="plastic"), "arms = 'plastic': expected a list of names"),
        (lambda: Lines("error", arms="plastic"), "arms = 'plastic': expected a list of names"),
        (lambda: Lines("error", average="mode"), "average = 'mode'"),
        (lambda: Profiles({}, x=[], log="z"), "log = 'z'"),
        (lambda: Grid([Points("error")], columns=0), "columns = 0"),
        (lambda: Grid([]), "figures = \\[\\]: expected at least one"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_refused_when_it_is_made(figure, message):
    with pytest.raises((TypeError, ValueError), match=message):
        figure()


def drawn(positions, numbers, x="x"):
    """The line of a profile whose seeds returned these positions and numbers."""
    results = SimpleNamespace(values=lambda arm, key: {"x": positions, "y": numbers}[key])
    (line,) = Profiles({"line": ("arm", "y")}, x=x)(results).data
    return list(line.x), np.asarray(line.y).tolist()


def test_profiles_at_the_positions_of_each_seed():
    assert drawn([[1, 2], [1, 2]], [[0.0, 1.0], [2.0, 3.0]]) == ([1, 2], [1.0, 2.0])
    assert drawn([["a", "b"]] * 2, [[0.0, 1.0], [2.0, 3.0]]) == (["a", "b"], [1.0, 2.0])
    assert drawn([[0.3, 1.0], [0.1 + 0.2, 1.0]], [[0.0, 1.0]] * 2) == ([0.3, 1.0], [0.0, 1.0])
    assert drawn(None, [[0.0, 1.0], [2.0, 3.0]], x=[5, 6]) == ([5, 6], [1.0, 2.0])
    x, y = drawn([[0, 1, 4], [0.5, 3.0], [0, 2, 4]], [[0, 3, 12], [1.5, 9.0], [0, 6, 12]])
    assert x == [0.5, 1, 2, 3]
    np.testing.assert_allclose(y, 3 * np.array(x))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([["a", "b"], ["a", "c"]], r"line: the positions of profile 0 are \['a', 'b'\]: expected 2 ascending numbers"),
        (
            [[0, 1], [1, 0]],
            r"profile 1 are \[1, 0\]: expected 2 ascending numbers, since positions differ between seeds",
        ),
        ([[0, 1], [0, 1, 2]], "profile 1 are .*: expected 2 ascending"),
        ([[0, 1], [2, 3]], "line: the profiles have no positions in common"),
    ],
)
def test_profiles_at_positions_that_cannot_be_joined_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        drawn(x, [[0.0, 1.0]] * 2)
