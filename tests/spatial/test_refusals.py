"""A call that is refused changes nothing."""

import numpy as np
import pytest

from engram.numeric.grid_cells import views_of_radius
from engram.spatial import DenseMap
from engram.spatial.induction import MapInductionPlanner
from engram.tasks import RoomGrid


def test_refused_map_is_refused_again_and_forgotten():
    known = np.tile(np.array([[3, 2, 3], [0, 0, 0]]), (5, 1))
    planner, world = MapInductionPlanner(n_queries=20, random_state=0), RoomGrid([[0, 0, 2], [0, 5, 0]])
    planner.reset(world.views)
    for _ in range(2):
        with pytest.raises(ValueError, match="known has 30 cells"):
            planner.act({"known": known, "position": (9, 0)})
    assert planner.act(world.reset(seed=0)[0]) in range(8)


def test_refused_view_does_not_decay_a_dense_map():
    view = np.full((3, 3), -1)
    view[:, 1] = 5, 0, 0
    dense = DenseMap(3)
    dense.update(view)
    before = dense.confidence(view)
    with pytest.raises(ValueError, match="view"):
        dense.update(np.zeros((5, 5), int))
    assert dense.confidence(view) == before
    with pytest.raises(ValueError, match="headings"):
        dense.path(-1, 0, (7, 1, 2, 3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"view": np.array([0, 1, 2, 7])}, "views.view = .*from -1 to 3"),
        ({"view": np.array([0, -2, 2, 3])}, "views.view = .*from -1 to 3"),
        ({"starts": np.array([0, 4, 8, 12])}, "views.starts = .*from 0 to 16"),
        ({"starts": np.array([0, 4, 20, 12, 16])}, "views.starts = .*rises"),
        ({"cells": np.arange(16)}, "views.cells = .*from 0 to 3"),
    ],
)
def test_views_of_cells_that_do_not_exist_are_refused(wrong, message):
    planner, views = MapInductionPlanner(random_state=0), views_of_radius((2, 2), 1)
    planner.reset(views)
    with pytest.raises(ValueError, match=message):
        planner.reset(views._replace(**wrong))
    np.testing.assert_array_equal(planner.views.cells, views.cells)
