from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.numeric.grid_view import cone, shadow
from engram.spatial import ViewModel


def random_world(seed, density=0.25, side=24):
    rng = np.random.default_rng(seed)
    world = np.where(rng.random((side, side)) < density, rng.integers(1, 9, (side, side)), 0).astype(np.int32)
    return world, (*rng.choice(np.argwhere(world == 0)).tolist(), int(rng.integers(4)))


def is_behind(size, target, obstacle):
    """Whether the ray from the middle of the viewer's lower edge to that of a cell's lower edge meets an obstacle.

    A cell has its edge away from the viewer's row and the one towards the viewer's column, but not the other two: so
    are ties decided. An obstacle straight ahead hides its own column alone.
    """
    (row, column), (far, across), middle = obstacle, target, size // 2
    if column == middle:
        return across == middle and far < row
    if column > middle:
        column, across = size - 1 - column, size - 1 - across
    if far >= row:
        return False
    enters, leaves = (
        Fraction(size, 2) + Fraction((across - middle) * (size - y), size - far - 1) for y in (row + 1, row)
    )
    return column < enters > leaves <= column + 1


def cast(world, pose, size, ratio):
    """What is seen, by a ray to each cell: the specification's view without a table of shadows or a turned offset."""
    row, column, heading = pose
    turned = np.rot90(np.pad(world, size, constant_values=-1), quarters := (0, 2, 3, 1)[heading])
    agent = np.zeros_like(world, dtype=bool)
    agent[row, column] = True
    bottom, middle = np.argwhere(np.rot90(np.pad(agent, size), quarters))[0].tolist()
    ahead = turned[bottom - size + 1 : bottom + 1, middle - size // 2 : middle + size // 2 + 1]
    obstacles = np.argwhere(ahead > 0).tolist()
    lit = {cell for cell in np.ndindex(ahead.shape) if not any(is_behind(size, cell, wall) for wall in obstacles)}
    sides = {column for i in range(size // 2) for column in (i, size - 1 - i)}
    narrow = {
        (size - 1 - up, side)
        for side in sides
        for up in range(max(1, int(size * ratio - 2 * ratio * (min(side, size - 1 - side) + 1))))
    }
    for dark in (set(), narrow):
        lit, shown, spreads = lit - dark, set(), [(size - 1, size // 2)]
        while spreads:
            cell = spreads.pop()
            if cell in lit and cell not in shown and ahead[cell] >= 0:
                shown.add(cell)
                if ahead[cell] == 0:
                    spreads += [(cell[0] - 1, cell[1]), (cell[0], cell[1] - 1), (cell[0], cell[1] + 1)]
        lit = shown
    return np.array([[ahead[i, j] if (i, j) in lit else -1 for j in range(size)] for i in range(size)])


@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([3, 5, 9, 15]),
    ratio=st.sampled_from([0.0, 0.25, 0.5]),
    density=st.sampled_from([0.0, 0.05, 0.1, 0.4]),
)
@settings(max_examples=60, deadline=None)
def test_the_view_is_what_rays_show(seed, size, ratio, density):
    world, pose = random_world(seed, density)
    model, seen = ViewModel(size, ratio), cast(world, pose, size, ratio)
    np.testing.assert_array_equal(model.observe(world, pose), seen)
    np.testing.assert_array_equal(model.defined(world, pose), seen)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_view_turns_with_the_world_and_mirrors_with_it(seed):
    world, (row, column, _) = random_world(seed)
    model, last = ViewModel(), len(world) - 1
    up = model.observe(world, (row, column, 0))
    turned = np.ascontiguousarray(np.rot90(world))  # what was right is up
    np.testing.assert_array_equal(model.observe(turned, (last - column, row, 2)), up)
    mirrored = np.ascontiguousarray(world[:, ::-1])
    np.testing.assert_array_equal(model.observe(mirrored, (row, last - column, 0)), up[:, ::-1])


def test_an_open_field_is_seen_but_for_the_published_cone():
    world = np.zeros((40, 40), dtype=np.int32)
    view = ViewModel().observe(world, (20, 20, 3))
    assert (view < 0).sum(0).tolist() == [3, 2, 2, 1, 1, 1, 1, 0, 1, 1, 1, 1, 2, 2, 3]
    assert (view[:12] == 0).all()


def test_nothing_is_seen_outside_the_world_or_behind_a_wall_across():
    world = np.zeros((20, 20), dtype=np.int32)
    assert (ViewModel().observe(world, (0, 10, 0))[:-1] < 0).all()
    world[10] = 5
    view = ViewModel().observe(world, (14, 10, 0))
    assert (view[10] == 5).all()
    assert (view[:10] < 0).all()


@pytest.mark.parametrize("size", [3, 5, 9, 15])
def test_a_shadow_lies_where_rays_from_the_viewer_pass_the_obstacle(size):
    cells = list(np.ndindex(size, size))
    for obstacle in cells:
        behind = [is_behind(size, cell, obstacle) for cell in cells]
        np.testing.assert_array_equal(shadow(size, *obstacle).ravel(), behind, err_msg=str(obstacle))


def test_a_wall_ahead_hides_what_is_behind_it_alone():
    hides = shadow(15, 6, 7)
    assert hides[:6, 7].all()
    assert hides.sum() == 6
    assert cone(15, 0.25).sum() == 22


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ViewModel(14), "size = 14"),
        (lambda: ViewModel(63), "size = 63"),
        (lambda: ViewModel(fov_ratio=1.5), "fov_ratio = 1.5"),
        (lambda: ViewModel().observe(np.ones((3, 3), np.int32), (1, 1, 0)), "expected an empty cell"),
        (lambda: ViewModel().observe(np.zeros((3, 3), np.int32), (5, 1, 0)), "pose = "),
        (lambda: ViewModel().observe(np.zeros((3, 3), np.int32), (1, 1, 4)), "pose = "),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("label", [-3, 2**31 + 5])
def test_labels_that_a_view_cannot_hold_are_refused(label):
    with pytest.raises(ValueError, match=f"world has a label of {label}: expected 0 for an empty cell"):
        ViewModel(3).observe(np.array([[0, label], [0, 0]]), (1, 0, 0))
