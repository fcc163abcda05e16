import pickle

import numpy as np
import pytest
from scipy import ndimage

from engram.memory import SurprisalMonitor
from engram.numeric.grid_view import MOVES
from engram.spatial import (
    Exploration,
    FARMapExplorer,
    FrontierExplorer,
    LocalMap,
    Pose,
    ViewModel,
    active_memory_curve,
    coverage_curve,
    explore,
)
from engram.spatial.exploration import visible_cells
from engram.spatial.farmap_explorer import Fracture, _alike
from engram.tasks import colour_walls, generate_room_maps, maze_of

TWO_ROOMS = maze_of("\n".join(["#" * 19, *["#........#........#"] * 3, "#" + "." * 17 + "#",
                               *["#........#........#"] * 3, "#" * 19]))  # fmt: skip


def two_rooms(rng=0):
    return colour_walls(TWO_ROOMS, rng=rng)


def rooms(seed, count=3):
    rng = np.random.default_rng(seed)
    maze = max(generate_room_maps(count, 4, 1, (2, 2), connect=0.9, merge=0.0, rng=rng), key=np.size)
    world = colour_walls(maze, rng=rng)
    return world, tuple(rng.choice(np.argwhere(world == 0)).tolist())


@pytest.mark.parametrize("kind", [FrontierExplorer, FARMapExplorer])
def test_a_walk_is_possible_and_its_records_agree(kind):
    world, start = rooms(1)
    walk = explore(world, start, kind(rng=0), 400)
    assert tuple(walk.poses[0, :2]) == start
    assert (world[walk.poses[:, 0], walk.poses[:, 1]] == 0).all()
    steps = np.diff(walk.poses[:, :2], axis=0)
    np.testing.assert_array_equal(steps, MOVES[walk.poses[1:, 2]])
    assert (np.diff(walk.seen) >= 0).all()
    assert walk.seen[-1] == (walk.first_seen >= 0).sum() <= walk.visible
    assert (walk.active <= walk.stored).all()
    curve = coverage_curve(walk, 1000)
    assert curve.shape == active_memory_curve(walk, 1000).shape == (1000,)
    assert curve[-1] == walk.seen[-1] / walk.visible


@pytest.mark.parametrize("kind", [FrontierExplorer, FARMapExplorer])
def test_with_dense_maps_an_explorer_walks_the_same_way(kind):
    """The definition in NumPy against the kernels: every decision of a whole walk."""
    world, start = rooms(2, 2)
    fast, defined = (explore(world, start, kind(rng=3, dense=dense), 150) for dense in (False, True))
    np.testing.assert_array_equal(fast.poses, defined.poses)
    np.testing.assert_array_equal(fast.active, defined.active)
    assert (fast.cuts, fast.recalls, fast.reason) == (defined.cuts, defined.recalls, defined.reason)


@pytest.mark.parametrize("kind", [FrontierExplorer, FARMapExplorer])
def test_an_explorer_goes_through_pickle_with_the_cells_that_it_has_tried(kind):
    explorer = kind(rng=0)
    explore(*rooms(1), explorer, 60)
    explorer._tried[explorer.map] = {(2, 3)}
    again = pickle.loads(pickle.dumps(explorer))
    assert again._tried[again.map] == {(2, 3)}
    assert again.map is not explorer.map
    assert again.map.pose == explorer.map.pose


def test_a_frontier_explorer_sees_nearly_everything():
    for seed in range(3):
        world, start = rooms(seed)
        walk = explore(world, start, FrontierExplorer(rng=seed), 3000)
        assert walk.seen[-1] >= 0.99 * walk.visible, "single cells in corners need not be sought"


def test_farmap_cuts_its_map_takes_old_ones_up_and_needs_less_of_it():
    world = two_rooms()
    frontier, farmap = (explore(world, (12, 6), kind(rng=1), 600) for kind in (FrontierExplorer, FARMapExplorer))
    assert farmap.cuts
    assert coverage_curve(farmap, 600)[-1] > 0.95
    assert active_memory_curve(farmap, 600).mean() < active_memory_curve(frontier, 600).mean()
    assert (farmap.stored >= farmap.active).all()
    assert sorted(set(farmap.fragment)) == list(range(len(farmap.cuts) + 1))


def test_who_walks_back_over_a_fracture_is_where_it_was_on_the_old_map():
    """Every recall keeps map coordinates and world coordinates a fixed distance apart, one for each map."""
    recalls = 0
    for seed in range(6):
        world, (row, column) = rooms(seed)
        explorer, heading, moved = FARMapExplorer(rng=seed), 0, True
        model, origins = ViewModel(), {}
        for _ in range(500):
            move = explorer.act(model.observe(world, (row, column, heading)), moved=moved)
            pose = explorer.map.pose
            assert pose.heading == heading
            origin = (row - pose.row, column - pose.column)
            assert origins.setdefault(explorer._far.current_id, origin) == origin
            if move is None:
                break
            heading, ahead = move, (row + int(MOVES[move, 0]), column + int(MOVES[move, 1]))
            moved = bool(world[ahead] == 0)
            row, column = ahead if moved else (row, column)
        recalls += sum(decision.kind == "recall" for _, decision in explorer.decisions)
    assert recalls > 3


def test_a_map_is_recalled_by_its_first_view_from_maps_that_it_does_not_border_on_too():
    world, start = rooms(0, count=4)
    explorer, beyond = FARMapExplorer(rng=0, recall="cosine"), 0
    model, (row, column), heading, moved = ViewModel(), start, 0, True
    for _ in range(800):
        move = explorer.act(model.observe(world, (row, column, heading)), moved=moved)
        if explorer.decisions and explorer.decisions[-1][0] == explorer._steps - 1:
            decision = explorer.decisions[-1][1]
            assert explorer.map.pose == (0, 0, heading)  # where it began
            beyond += decision.kind == "recall" and decision.source not in explorer.store.neighbors(decision.target)
        if move is None:
            break
        heading, ahead = move, (row + int(MOVES[move, 0]), column + int(MOVES[move, 1]))
        moved = bool(world[ahead] == 0)
        row, column = ahead if moved else (row, column)
    assert beyond > 0


def test_without_recall_none_happens_and_without_surprise_there_is_one_map():
    world, start = rooms(0)
    assert explore(world, start, FARMapExplorer(rng=0, recall="none"), 400).recalls == []
    quiet = explore(world, start, FARMapExplorer(rng=0, rho=1000.0), 400)
    assert (quiet.cuts, set(quiet.fragment)) == ([], {0})
    monitor = SurprisalMonitor("uniform", 60.0)
    clock = explore(world, start, FARMapExplorer(rng=0, monitor=monitor, ltm_gate=0.0), 200)
    assert clock.cuts[0] == 59


def test_options_change_what_they_say():
    world, start = rooms(4)
    plain = explore(world, start, FARMapExplorer(rng=0), 500)
    for option in ({"predict_before_update": True}, {"view_at_once": True}, {"recall": "cosine"}, {"ltm_gate": 0.5}):
        other = explore(world, start, FARMapExplorer(rng=0, **option), 500)
        assert other.cuts + other.recalls != plain.cuts + plain.recalls, option


def look_around(local_map, world, place):
    for heading in range(4):
        local_map.place(Pose(0, 0, heading))
        local_map.update(ViewModel().observe(world, (*place, heading)))
    return local_map


def in_open_space(**options):
    """An explorer in the middle of an open space, and the numbers of two other maps: an empty one, and an open one."""
    explorer, field = FARMapExplorer(rng=0, **options), np.zeros((40, 40), np.int32)
    look_around(explorer.map, field, (20, 20))
    open_one = look_around(LocalMap(), field, (20, 20))
    return explorer, explorer.store.write(LocalMap()), explorer.store.write(open_one)


def across(*pose):
    return Fracture(Pose(*pose), 0, 0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("multi_hop", [False, True])
def test_of_two_fractures_to_a_map_the_nearer_is_walked_to(order, multi_hop):
    explorer, near, _ = in_open_space(multi_hop=multi_hop)
    fractures = [across(-5, 0, 0), across(1, 2, 3)]
    for k in order:
        explorer.store.connect(0, near, fractures[k], across(0, 0, 2))
    moves = explorer._elsewhere(-1.0)
    assert (MOVES[moves].sum(0).tolist(), moves[-1]) == ([1, 2], 3)
    assert explorer._ways() == {near: (3, Pose(1, 2, 3))}


def test_beyond_neighbours_maps_compete_by_the_length_of_the_whole_way_if_they_may():
    for multi_hop in (False, True):
        explorer, near, far = in_open_space(multi_hop=multi_hop)
        explorer.store.connect(0, near, across(-4, 0, 0), across(0, 0, 1))
        explorer.store.connect(near, far, across(0, 9, 3), across(0, 0, 2))
        explorer.store.connect(near, far, across(-2, 0, 0), across(0, 0, 1))  # 4 + 2 cells away, by two fractures
        q, recency = explorer.store.get(far).q, min(1.0, 0.95 + 0.01 * explorer.store.ids.index(far))
        value = recency * q / (6 + explorer.epsilon)
        assert explorer._elsewhere(value * 1.001) == []
        assert explorer._elsewhere(value * 0.999) == ([0] * 4 if multi_hop else [])


def test_views_are_alike_by_their_visible_cells():
    view = np.array([[1, 2, -1], [0, 0, 0], [-1, 0, -1]])
    other = np.where(view == 2, 3, view)
    assert _alike((0, 1, view), (5, 1, view)) == pytest.approx(1.0)
    assert _alike((0, 1, view), (0, 1, other)) == pytest.approx(5 / 6)
    assert _alike((0, 1, view), (0, 2, view)) == -1.0


def test_an_open_space_is_explored_though_its_frontier_has_its_middle_where_the_agent_is():
    world = colour_walls(maze_of("\n".join(["#" * 18, *["#" + "." * 16 + "#"] * 16, "#" * 18])), rng=0)
    for kind in (FrontierExplorer, FARMapExplorer):
        for seed in range(3):
            assert coverage_curve(explore(world, (27, 27), kind(rng=seed), 900), 900)[-1] > 0.97


def test_an_agent_that_is_walled_in_stops():
    world = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    for kind in (FrontierExplorer, FARMapExplorer):
        explorer = kind(rng=0)
        view = np.full((15, 15), -1, np.int32)  # as explore gives it
        view[14, 7], view[13, 7], view[14, 6], view[14, 8] = 0, 1, 1, 1
        assert explorer.act(view) == 1
        assert explorer.act(view, moved=False) is None
        assert (explorer.reason, explorer.act(view)) == ("stuck", None)
        walk = explore(world, (1, 1), kind(rng=0), 50)
        assert len(walk.seen) < 10


def test_an_agent_that_starts_in_front_of_a_wall_turns_back_and_explores():
    world = np.pad(np.zeros((6, 9), dtype=int), 1, constant_values=7)
    for kind in (FrontierExplorer, FARMapExplorer):
        assert explore(world, (1, 4), kind(rng=0), 100).seen[-1] > 75  # of 84 visible cells


def test_the_world_may_grow_without_the_active_map():
    """One long corridor: what a frontier explorer keeps grows with it, FARMap's map at hand does not."""
    length = 120
    maze = maze_of("#" * length + "\n#" + "." * (length - 2) + "#\n" + "#" * length)
    world = colour_walls(maze, 3, rng=0)
    monitor = SurprisalMonitor("uniform", 80.0)
    farmap = explore(world, (4, 4), FARMapExplorer(rng=0, monitor=monitor, heading=3), 340)
    frontier = explore(world, (4, 4), FrontierExplorer(rng=0, heading=3), 340)
    assert frontier.active[-1] > 2 * farmap.active[-1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FARMapExplorer(rho=0.0), "rho = 0.0"),
        (lambda: FARMapExplorer(recall="map"), "recall = 'map'"),
        (lambda: FARMapExplorer(epsilon=0.0), "epsilon = 0.0"),
        (lambda: FrontierExplorer(gamma=1.0), "gamma = 1.0"),
        (lambda: FrontierExplorer(4), "view_size = 4"),
        (lambda: explore(two_rooms(), (0, 0), FrontierExplorer(), 5), "pose = .* this is a wall"),
        (lambda: explore(two_rooms(), (4, 4), FrontierExplorer(), 0), "steps = 0"),
        (lambda: explore(-two_rooms(), (4, 4), FrontierExplorer(), 5), "world has a label of -"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("kind", [FrontierExplorer, FARMapExplorer])
def test_an_explorer_begins_one_walk(kind):
    explorer = kind(rng=0)
    explore(two_rooms(), (4, 4), explorer, 5)
    with pytest.raises(ValueError, match="explorer has explored already"):
        explore(two_rooms(), (4, 4), explorer, 5)


@pytest.mark.parametrize("kind", [FrontierExplorer, FARMapExplorer])
def test_a_wrong_view_leaves_an_explorer_where_it_is(kind):
    explorer, view = kind(3, rng=0), np.array([[0, 0, 0], [0, 0, 0], [-1, 0, -1]])
    explorer.act(view)
    before = explorer.map.pose
    with pytest.raises(ValueError, match="view = "):
        explorer.act(view[:2, :2])
    assert explorer.map.pose == before


def test_explorers_have_monitors_of_their_own():
    monitor = SurprisalMonitor("zscore", 2.0)
    walks = [explore(two_rooms(), (4, 4), FARMapExplorer(rng=0, monitor=monitor), 60) for _ in range(2)]
    np.testing.assert_array_equal(walks[0].fragment, walks[1].fragment)
    np.testing.assert_array_equal(monitor.statistic, SurprisalMonitor("zscore", 2.0).statistic)


def test_labels_beyond_32_bits_are_refused():
    world = np.pad(np.zeros((4, 4), np.int64), 1, constant_values=2**32)
    with pytest.raises(ValueError, match=r"label of 4294967296: expected 0 .* 2\^31"):
        explore(world, (2, 2), FrontierExplorer(3, rng=0), 5)


def test_walks_are_compared_and_hashed_as_objects():
    first, second = (Exploration(*[np.zeros(2, int)] * 4, np.zeros((2, 3), int), np.zeros(2, int),
                                 np.zeros((2, 2), int), 1, [], [], "") for _ in range(2))  # fmt: skip
    assert first != second
    assert len({first, second}) == 2


def reachable(world, start):
    """A mask of the cells that can be seen by walking from the start."""
    parts, _ = ndimage.label(world == 0)
    return visible_cells(np.where(parts == parts[start], 0, 1))


@pytest.mark.parametrize("kind", [FrontierExplorer, FARMapExplorer])
@pytest.mark.parametrize("size", [3, 9])
def test_a_walk_ends_with_all_seen_that_can_be_seen(kind, size):
    """Rooms, dead ends one cell wide, and cells that can only be seen from against a wall."""
    mazes = [
        "#######\n#.....#\n#.###.#\n#.#...#\n#######",
        "########\n#......#\n#......#\n#......#\n###.####\n###.####\n#......#\n########",
        "####\n#..#\n####",
        "#####\n#.#.#\n#...#\n#.#.#\n#####",
    ]
    for number, maze in enumerate(mazes):
        world = colour_walls(maze_of(maze), 1, 0)
        for index, start in enumerate(map(tuple, np.argwhere(world == 0)[::5].tolist())):
            walk = explore(world, start, kind(size, heading=index % 4, rng=number), 2500)
            assert len(walk.seen) < 2500
            assert walk.reason == "explored"
            assert (walk.first_seen[reachable(world, start)] >= 0).all()


def test_what_has_no_wall_around_it_is_looked_at_once_and_not_for_ever():
    world = np.zeros((4, 5), dtype=int)
    walk = explore(world, (1, 1), FrontierExplorer(5, rng=0), 1000)
    assert len(walk.seen) < 1000
    assert (walk.first_seen >= 0).all()


def test_as_published_single_cells_are_left():
    world = np.pad(np.zeros((6, 9), dtype=int), 1, constant_values=7)
    thorough, published = (
        explore(world, (4, 4), FrontierExplorer(rng=0, thorough=thorough), 400) for thorough in (True, False)
    )
    assert (thorough.reason, thorough.seen[-1]) == ("explored", thorough.visible)
    np.testing.assert_array_equal(thorough.poses[: len(published.poses)], published.poses)
    assert published.seen[-1] < published.visible
