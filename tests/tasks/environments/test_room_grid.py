import math

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from engram.numeric.grid_cells import blocked
from engram.tasks import RepeatedUnitWorld, RoomGrid, label_rooms, load_grid_text

EMPTY, REWARD, WALL, UNOBSERVED = 0, 2, 3, 6
FORWARD, BACKWARD, LEFT, RIGHT, FAR = 0, 1, 2, 3, 4


def grid(*lines):
    return load_grid_text("\n".join(("0", "0", *lines)))


def test_rooms_are_numbered_in_the_order_of_their_cells():
    """O6: the lower right a is a room of its own."""
    assert label_rooms("aab\naab\ncca").tolist() == [[0, 0, 1], [0, 0, 1], [2, 2, 3]]
    assert label_rooms(np.array([[5, -1, 5], [5, 2, 5]])).tolist() == [[0, -1, 1], [0, 2, 1]]


def test_a_map_is_read_from_a_file_or_a_text(tmp_path):
    path = tmp_path / "map"
    path.write_text("3\n2\n378\n090\n")
    np.testing.assert_array_equal(load_grid_text(path), load_grid_text(path.read_text()))
    assert load_grid_text(str(path)).tolist() == [[3, 7, 8], [0, 9, 0]]


def test_rewards_are_collected_where_a_move_ends():
    env = RoomGrid(grid("0", "2", "0", "2", "5"))
    env.reset(seed=0)
    observation, reward, terminated, _, info = env.step(FAR)
    assert (reward, terminated, info["cells_moved"], observation["position"].tolist()) == (0.0, False, 4, [0, 0])
    _, reward, terminated, _, info = env.step(BACKWARD)
    assert (reward, terminated, info["cells_moved"]) == (1.0, False, 5)
    env.step(BACKWARD)
    observation, reward, terminated, *_ = env.step(BACKWARD)
    assert (reward, terminated) == (1.0, True)
    assert not (observation["known"] == REWARD).any()
    with pytest.raises(ResetNeeded):
        env.step(0)
    passing = RoomGrid(grid("0", "2", "0", "2", "5"), collect_on_path=True)
    passing.reset(seed=0)
    assert passing.step(FAR)[1:3] == (2.0, True)


def test_walls_and_the_edge_stop_a_move():
    env = RoomGrid(grid("300002", "300000", "375083"))
    env.reset(seed=0)
    assert env.step(LEFT)[4]["cells_moved"] == 0
    assert env.step(FAR + LEFT)[4]["cells_moved"] == 0
    assert env.step(RIGHT)[4]["cells_moved"] == 1
    assert env.step(FAR + RIGHT)[4]["cells_moved"] == 1
    assert env.step(FAR + FORWARD)[0]["position"].tolist() == [0, 3]


def test_a_room_is_seen_from_within_with_the_walls_around_it():
    cells = np.array([[3, 3, 3, 3], [3, 2, 0, 3], [3, 3, 5, 3], [3, 3, 3, 3]])
    rooms = np.array([[-1] * 4, [-1, 0, 1, -1], [-1, -1, 1, -1], [-1] * 4])
    seen, _ = RoomGrid(cells, rooms).reset(seed=0)
    assert seen["known"].tolist() == [[6, 3, 3, 3], [6, 6, 0, 3], [6, 3, 0, 3], [6, 3, 3, 3]]
    seen, _ = RoomGrid(cells, rooms, reveal_walls=False).reset(seed=0)
    assert seen["known"].tolist() == [[6] * 4, [6, 6, 0, 6], [6, 6, 0, 6], [6] * 4]


@pytest.mark.parametrize(("mode", "radius"), [("fixed_radius", 1), ("fixed_radius_med", 2)])
def test_around_the_agent_a_square_is_seen(mode, radius):
    cells = np.zeros((9, 9), int)
    cells[4, 4], cells[0, 0] = 5, 2
    known = RoomGrid(cells, observation_mode=mode).reset(seed=0)[0]["known"]
    rows, columns = np.nonzero(known != UNOBSERVED)
    assert len(rows) == (2 * radius + 1) ** 2
    assert max(abs(rows - 4).max(), abs(columns - 4).max()) == radius


def test_sight_ends_at_walls_and_rewards():
    cells = np.zeros((1, 12), int)
    cells[0, 5], cells[0, 8], cells[0, 3] = 5, 2, 3
    known = RoomGrid(cells, observation_mode="line_of_sight").reset(seed=0)[0]["known"]
    assert known[0].tolist() == [6, 6, 6, 3, 0, 0, 0, 0, 2, 6, 6, 6]
    open_field = np.zeros((15, 15), int)
    open_field[7, 7], open_field[0, 0] = 5, 2
    known = RoomGrid(open_field, observation_mode="line_of_sight").reset(seed=0)[0]["known"]
    down, right = np.nonzero(known != UNOBSERVED)
    assert np.hypot(down - 7, right - 7).max() <= 5.1 + 0.5**0.5
    assert known[2, 7] == known[12, 7] == known[7, 2] == known[7, 12] == 0  # all ways alike


def cast(cells, position, degrees, step, reach):
    """What rays from the middle of a cell show, one sample after another."""
    seen = np.full(cells.shape, UNOBSERVED)
    for angle in degrees:
        for k in range(round(reach / step) + 1):
            cell = []
            for place, part in zip(position, (math.sin, math.cos), strict=True):
                exact = round(place + k * step * part(math.radians(angle)), 9)
                nearest = [at for at in range(-40, 80) if abs(at - exact) <= 0.5]  # two where it is between them
                cell.append(min(nearest, key=lambda at: abs(at - place)))
            if not all(0 <= at < side for at, side in zip(cell, cells.shape, strict=True)):
                break
            seen[*cell] = cells[*cell]
            if cell != list(position) and cells[*cell] in (REWARD, WALL, 7, 8):
                break
    return seen


@pytest.mark.parametrize(("code", "facing"), [(1, 0), (4, 90), (9, 180), (5, 270)])
def test_sight_is_what_rays_show_sample_by_sample(code, facing):
    rng = np.random.default_rng(code)
    for shape in ((9, 14), (40, 7), (33, 36)):
        cells = rng.choice([EMPTY, WALL, REWARD, 7], shape, p=[0.88, 0.08, 0.02, 0.02])
        position = tuple(int(rng.integers(side)) for side in shape)
        cells[position] = EMPTY
        shown = cells.copy()
        shown[position] = code
        cone = range(facing - 45, facing + 46)
        for mode, rays in (
            ("line_of_sight", (range(0, 360, 5), 0.3, 5)),
            ("directional_line_of_sight", (cone, 0.5, min(max(shape), 30))),
        ):
            known = RoomGrid(shown, observation_mode=mode).reset(seed=0)[0]["known"]
            np.testing.assert_array_equal(known, cast(cells, position, *rays))


@pytest.mark.parametrize("position", [(40, 20), (39, 21)])
def test_an_agent_that_looks_up_sees_a_quarter_of_an_open_field(position):
    cells = np.zeros((41, 41), int)
    cells[position], cells[0, 0] = 5, 2
    env = RoomGrid(cells, observation_mode="directional_line_of_sight")
    known = env.reset(seed=0)[0]["known"]
    up, aside = position[0] - np.arange(41)[:, None], np.abs(np.arange(41) - position[1])
    far = np.hypot(up, aside)
    assert (known[(aside <= up) & (far <= 29.5)] != UNOBSERVED).all()
    assert (known[(aside > up) | (far > 30.5)] == UNOBSERVED).all()
    known = env.step(LEFT)[0]["known"]
    assert (known[position[0]] != UNOBSERVED).sum() == 2  # it still looks up


def test_without_rewards_an_episode_ends_at_once():
    env = RoomGrid(grid("00", "50"), max_steps=3)
    env.reset(seed=0)
    assert env.step(RIGHT)[1:4] == (0.0, True, False)


def test_an_episode_is_cut_off():
    env = RoomGrid(grid("32", "50"), max_steps=2, action_set="moves4")
    env.reset(seed=0)
    assert env.action_space.n == 4
    assert env.step(LEFT)[2:4] == (False, False)
    assert env.step(LEFT)[2:4] == (False, True)


def test_a_unit_is_repeated_and_its_reward_with_it():
    env = RepeatedUnitWorld(n_units=5)
    env.reset(seed=1)
    assert env.grid.shape == (35, 13)
    assert len(np.unique(env.grid.reshape(5, 7, 13), axis=0)) == 1
    assert env.rooms.max() == 20
    assert (env.rooms == -1).sum() == blocked(env.grid).sum()
    assert env.position == (34, 11)
    for _ in range(20):
        env.reset()
        assert (env.grid.reshape(5, -1) == REWARD).sum(1).tolist() == [1] * 5


def test_a_world_shows_its_arguments_and_its_map_only_after_reset():
    env = RepeatedUnitWorld(n_units=2, action_set="moves4", render_mode="ansi")
    expected = "(n_units=2, unit_h=7, unit_w=11, corridor=2, variants=1, reflect_prob=0.0, landmark=False,"
    assert repr(env) == f"RepeatedUnitWorld{expected} action_set='moves4', render_mode='ansi')"
    assert "action_set='moves8'" in repr(RoomGrid(grid("32", "50")))
    with pytest.raises(ResetNeeded, match="render was called before reset"):
        env.render()
    env.reset(seed=0)
    assert env.render().count("A") == 1


def test_variants_and_landmarks_go_together():
    env = RepeatedUnitWorld(unit_w=14, variants=2, landmark=True)
    several = 0
    for seed in range(12):
        env.reset(seed=seed)
        units = env.grid.reshape(5, 7, 16)
        pairs = {(int((unit == REWARD).argmax()), int(unit[unit >= 7][0])) for unit in units}
        assert len({place for place, _ in pairs}) == len({colour for _, colour in pairs}) == len(pairs) <= 2
        several += len(pairs) == 2
    assert several > 6


def test_units_that_draw_alone_differ():
    env = RepeatedUnitWorld(unit_w=14, variants=None)
    env.reset(seed=0)
    assert len(np.unique(env.grid.reshape(5, 7, 16), axis=0)) > 2


def test_mirrored_units_have_the_same_rooms():
    env = RepeatedUnitWorld(reflect_prob=1.0)
    env.reset(seed=0)
    plain = RepeatedUnitWorld()
    plain.reset(seed=0)
    np.testing.assert_array_equal(env.grid[:4, :10], plain.grid[:4, :10][:, ::-1])
    assert (env.rooms[env.grid != WALL] >= 0).all()


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda: load_grid_text("0\n0\n33\n3"), r"source has lines of \[1, 2\] characters.*line 1"),
        (lambda: RoomGrid(grid("36", "50")), r"grid\[0, 1\] = 6: expected one of"),
        (lambda: RoomGrid(grid("32", "00")), "grid has 0 agents"),
        (lambda: RoomGrid(grid("35", "05")), r"grid has 2 agents, at \(0, 1\), at \(1, 1\)"),
        (lambda: RoomGrid(grid("35", "00"), rooms=np.full((2, 2), -1)), "rooms: .*a room where the agent is"),
        (lambda: RoomGrid(grid("35", "00"), rooms=np.zeros((2, 3))), r"rooms\.shape = \(2, 3\)"),
        (lambda: RoomGrid(grid("35", "00"), observation_mode="far"), "observation_mode = 'far'"),
        (lambda: RoomGrid(grid("35", "00"), action_set="moves9"), "action_set = 'moves9'"),
        (lambda: RepeatedUnitWorld(unit_h=5), "unit_h = 5"),
        (lambda: RepeatedUnitWorld(variants=4), "variants = 4: expected 1 to 3"),
        (lambda: RepeatedUnitWorld(reflect_prob=2.0), "reflect_prob = 2"),
        (lambda: label_rooms("ab\na"), "labels has lines"),
        (lambda: label_rooms([[1, 1], [1]]), r"labels = .*expected numbers of shape \(h, w\)"),
        (lambda: label_rooms([[0.0, np.nan]]), r"labels\[0, 1\] is NaN"),
        (lambda: label_rooms([[0.5, 1]]), r"labels\[0, 0\] = 0\.5: expected an integer"),
        (lambda: RoomGrid(grid("35"), rooms=[[-1, 0.5]]), r"rooms\[0, 1\] = 0\.5: expected an integer"),
        (lambda: RoomGrid(grid("35"), rooms=[[np.nan, 0]]), r"rooms\[0, 0\] is NaN"),
        (lambda: RoomGrid([[3.5, 5]]), r"grid\[0, 0\] = 3\.5: expected an integer"),
    ],
)
def test_bad_maps_are_named(make, pattern):
    with pytest.raises(ValueError, match=pattern):
        make()
