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


@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([3, 5, 9, 15, 21]),
    ratio=st.sampled_from([0.0, 0.25, 0.5]),
    density=st.sampled_from([0.0, 0.1, 0.4]),
)
@settings(max_examples=60, deadline=None)
def test_the_fast_view_is_the_defined_one(seed, size, ratio, density):
    world, pose = random_world(seed, density)
    model = ViewModel(size, ratio)
    np.testing.assert_array_equal(model.observe(world, pose), model.defined(world, pose))


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


@pytest.mark.parametrize("size", [5, 9, 15])
def test_a_shadow_lies_where_rays_from_the_viewer_pass_the_obstacle(size):
    """Cast rays by brute force from the middle of the viewer's lower edge to the middle of every cell."""
    eye = np.array([size, size / 2])
    centres = np.indices((size, size)).reshape(2, -1).T + 0.5
    for row, column in np.ndindex(size - 1, size):
        along = np.linspace(0, 1, 400)[:, None, None]
        rays = eye + along * (centres - eye)
        distance = np.abs(rays - np.array([row + 0.5, column + 0.5])).max(-1).min(0).reshape(size, size)
        passed = (np.arange(size)[:, None] < row) & np.ones((size, size), bool)
        hidden = shadow(size, row, column)
        assert (distance[hidden] < 1.5).all(), (row, column, "hidden although the ray passes at a distance")
        core = passed & (distance < 0.05)  # right through its middle
        side = abs(column - size // 2) > 0
        assert hidden[core].all() or side, (row, column)
    assert not shadow(size, size - 1, size // 2).all()


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
