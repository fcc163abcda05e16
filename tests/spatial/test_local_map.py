import re
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.numeric.grid_view import MOVES
from engram.spatial import DenseMap, LocalMap, Pose, ViewModel
from engram.tasks import colour_walls, generate_room_maps
from engram.testing.module import without_type_checks

BOTH = [LocalMap, DenseMap]


def world_of(seed, rooms=3, room=3):
    rng = np.random.default_rng(seed)
    maze = max(generate_room_maps(rooms, room, 1, (2, 1), connect=0.7, flips=3, min_size=0, rng=rng), key=np.size)
    world = colour_walls(maze, 2, rng)
    return world, rng.choice(np.argwhere(world == 0)).tolist()


def walk(world, start, steps, rng, size=7):
    """Yield the views of a random walk that goes straight on where it can, and its moves."""
    (row, column), heading, model = start, 0, ViewModel(size)
    for _ in range(steps):
        yield model.observe(world, (row, column, heading)), (row, column, heading)
        moves = [m for m in range(4) if world[row + MOVES[m, 0], column + MOVES[m, 1]] == 0]
        heading = heading if heading in moves and rng.random() < 0.8 else int(rng.choice(moves))
        row, column = row + int(MOVES[heading, 0]), column + int(MOVES[heading, 1])


def walked(kind, seed, steps=60, **options):
    world, start = world_of(seed)
    local = kind(7, **options)
    for number, (view, (_, _, heading)) in enumerate(walk(world, start, steps, np.random.default_rng(seed))):
        if number:
            local.move(heading)
        local.update(view)
    return local, view


@pytest.mark.parametrize("kind", BOTH)
def test_a_map_by_hand_cell_by_cell(kind):
    local = kind(5)
    view = np.array([[-1, 9, 9, 9, -1], [-1, 7, 0, 0, -1], [-1, 7, 0, 0, -1], [-1, 7, 0, 0, -1], [-1, -1, 0, -1, -1]])
    local.update(view)
    assert local.bbox == (-4, -1, 0, 1)
    shown = np.full(local.frontier().shape, " ")
    shown[local.known_wall()], shown[local.known_empty()], shown[local.frontier()] = "#", ".", "f"
    assert ["".join(line) for line in shown] == ["     ", " ###f", " #..f", " #..f", " #..f", " f.ff", " fff "]
    assert (local.q, local.area) == (10 / 7, 15)
    # The mean of the ten frontier cells is (-0.7, 1); nearest to it is (0, 1), and beside that the first empty cell.
    assert [part.tolist() for part in local.clusters()[:3]] == [[-1], [1], [10]]
    assert local.path(-3, 0, (0, 1, 2, 3)).moves == [0, 0, 0]
    assert local.path(-3, 0, (2, 0, 1, 3)).moves == [0, 0, 0, 3, 2]


@pytest.mark.parametrize("kind", BOTH)
def test_confidence_is_an_exponential_average(kind):
    """Seen n times: 1 - gamma^n; then k steps without: times gamma^k."""
    view, elsewhere = np.full((5, 5), -1), np.full((5, 5), -1)
    view[1:, 2], view[0, 2] = 0, 3
    elsewhere[3:, 2] = 0
    local = kind(5, 0.8)
    for n in range(1, 6):
        local.update(view)
        assert local.confidence(view) == pytest.approx(1 - 0.8**n)
    home = local.pose
    local.place(Pose(20, 20, 1))
    for _ in range(7):
        local.update(elsewhere)
    local.place(home)
    assert local.confidence(view) == pytest.approx(0.8**7 * (1 - 0.8**5))
    other = np.where(view == 3, 4, view)
    assert local.confidence(other) == pytest.approx(4 / 5 * 0.8**7 * (1 - 0.8**5)), "another colour is not predicted"
    assert local.confidence(np.full((5, 5), -1)) == 0.0


def test_what_was_seen_stays_known_when_confidence_has_vanished():
    view = np.full((5, 5), -1)
    view[3:, 2] = 0
    for kind in BOTH:
        local = kind(5, 0.0)
        local.update(view)
        local.place(Pose(30, 0, 1))
        local.update(view)
        assert local.is_empty(0, 0) is True
        assert local.is_empty(1, 0) is None


@given(seed=st.integers(0, 10**6), reach=st.sampled_from([None, 8]))
@settings(max_examples=12, deadline=None)
def test_the_lazy_map_is_the_dense_one(seed, reach):
    (fast, view), (dense, _) = (walked(kind, seed, reach=reach) for kind in BOTH)
    assert fast.confidence(view) == pytest.approx(dense.confidence(view), rel=1e-12)
    assert (fast.pose, fast.bbox, fast.area, fast.q) == (dense.pose, dense.bbox, dense.area, dense.q)
    for name in ("known_empty", "known_wall", "frontier"):
        np.testing.assert_array_equal(getattr(fast, name)(), getattr(dense, name)())
    for ours, defined in zip(fast.clusters()[:3], dense.clusters()[:3], strict=True):
        np.testing.assert_array_equal(ours, defined)
    top, left, bottom, right = fast.bbox
    for row, column in [(top, left), (bottom, right), (0, 0), (0, 1), ((top + bottom) // 2, (left + right) // 2)]:
        assert fast.is_empty(row, column) == dense.is_empty(row, column)
        assert fast.path(row, column, (2, 0, 1, 3)) == dense.path(row, column, (2, 0, 1, 3))


def test_with_a_reach_nothing_farther_is_kept():
    local, _ = walked(LocalMap, 3, 200, reach=8)
    top, left, bottom, right = np.array(local.bbox) - np.tile(local.pose[:2], 2)
    assert max(-top, -left, bottom, right) <= 8


def shortest(free, start, goal, heading):
    """Return the moves that a search over poses needs to get to a cell in a heading, or None."""
    queue, seen = deque([(start, 0)]), {start}
    while queue:
        (row, column, way), length = queue.popleft()
        if (row, column, way) == (*goal, heading):
            return length
        for move, (r, c) in enumerate(MOVES.tolist()):
            there = (row + r, column + c, move)
            if there[:2] in free and there not in seen:
                seen.add(there)
                queue.append((there, length + 1))
    return None


@given(seed=st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_paths_are_as_short_as_a_search_over_poses_says(seed):
    local, _ = walked(LocalMap, seed)
    free = {tuple(cell) for cell in (np.argwhere(local.known_empty()) - 1 + local.bbox[:2]).tolist()}
    rng = np.random.default_rng(seed)
    for goal in rng.choice(sorted(free), 4).tolist():
        for heading in range(4):
            order = (heading, *(h for h in range(4) if h != heading))
            moves = local.path(*goal, order).moves
            lengths = [shortest(free, local.pose, tuple(goal), h) for h in order]
            expected = next((n for n in lengths if n), None)
            if lengths[0] == 0 or expected is None:
                continue
            assert len(moves) == expected
            row, column = local.pose[:2]
            for move in moves:
                row, column = row + int(MOVES[move, 0]), column + int(MOVES[move, 1])
                assert (row, column) in free
            assert [row, column] == goal


def test_an_unknown_goal_is_approached():
    local, _ = walked(LocalMap, 1)
    moves = local.path(1000, 1000, (0, 1, 2, 3)).moves
    free = np.argwhere(local.known_empty()) - 1 + local.bbox[:2]
    end = local.pose[:2] + MOVES[moves].sum(0)
    assert abs(end - 1000).sum() == abs(free - 1000).sum(1).min()


def test_an_unbroken_map_has_no_frontier_but_corners():
    world = np.pad(np.zeros((3, 4), dtype=np.int32), 1, constant_values=2)
    local, model = LocalMap(15), ViewModel()
    for heading in range(4):
        local.place(Pose(0, 0, heading))
        local.update(model.observe(world, (2, 2, heading)))
    assert local.known_empty().sum() == 12
    assert (local.frontier().sum(), len(local.clusters().sizes)) == (4, 0), "corners, which nobody can see"
    assert local.q == 4 / 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LocalMap(14), "view_size = 14"),
        (lambda: LocalMap(gamma=1.0), "gamma = 1.0"),
        (lambda: LocalMap(reach=3), "reach = 3"),
        (lambda: LocalMap(heading=4), "heading = 4"),
        (lambda: LocalMap().update(np.zeros((3, 3), int)), "view = "),
        (lambda: LocalMap().move(4), "action = 4"),
        (lambda: LocalMap().place(Pose(0, 0, 40)), r"pose.heading = 40"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("headings", [(7, 1, 2, 3), (1.0, 0, 2, 3), (1, 2, 3), {0, 1, 2, 3}, None])
def test_wrong_goals_are_named(kind, headings):
    local = kind(3)
    local.update(np.array([[-1, 5, -1], [-1, 0, -1], [-1, 0, -1]]))
    message = re.escape(f"headings = {headings}: expected a tuple of four ints, each 0 to 3")
    with without_type_checks(), pytest.raises(ValueError, match=message):
        local.path(-1, 0, headings)
    for call in (local.is_empty, lambda row, column: local.path(row, column, (0, 1, 2, 3))):
        with without_type_checks(), pytest.raises(TypeError, match=r"row = 0\.5: expected an int"):
            call(0.5, 0)
        with without_type_checks(), pytest.raises(TypeError, match="column = None: expected an int"):
            call(0, None)


@pytest.mark.parametrize("kind", BOTH)
def test_a_map_of_which_everything_is_forgotten_is_empty_and_begins_anew(kind):
    local, view = kind(3, reach=3), np.array([[5, 5, 5], [0, 0, 0], [0, 0, 0]])
    local.update(view)
    local.place(Pose(20, 20, 0))
    local.update(np.full((3, 3), -1))
    assert (local.bbox, local.area, local.q) == ((0, 0, -1, -1), 0, 0)
    assert not len(local.clusters().rows)
    local.update(view)
    assert local.bbox == (18, 19, 20, 21)
