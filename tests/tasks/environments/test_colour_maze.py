import gymnasium
import numpy as np
import pytest

from engram.spatial import FARMapExplorer, ViewModel, explore
from engram.spatial.exploration import visible_cells
from engram.tasks import (
    ColourMaze,
    ColourMazeVectorEnv,
    colour_walls,
    colours_of,
    generate_room_maps,
    maze_of,
    published_room_maps,
    random_room_maps,
)
from engram.testing import check_environment

ROOM = "######\n#....#\n#..#.#\n######"


def test_the_contract():
    check_environment("engram/ColourMaze-v0", steps=30)


def test_observations_are_views_in_colours_and_coverage_is_what_was_seen():
    env = ColourMazeVectorEnv(2, maze=ROOM, episode_len=2000)
    observations, _ = env.reset(seed=3)
    rng, seen = np.random.default_rng(0), [set(), set()]
    total = np.zeros(2)
    first = env._counts / env._visible
    for _ in range(1000):
        for row in range(2):
            view = ViewModel().observe(env.worlds[row], tuple(env.poses[row].tolist()))
            np.testing.assert_array_equal(observations[row], colours_of(view))
            seen[row].add(view.tobytes())
        poses = env.poses.copy()
        observations, rewards, terminated, _, infos = env.step(rng.integers(0, 4, 2))
        if terminated.any():
            break
        assert (infos["moved"] == (env.poses[:, :2] != poses[:, :2]).any(1)).all()
        total += rewards
        np.testing.assert_allclose(first + total, infos["coverage"])
    assert terminated.any()


def test_an_explorer_of_views_explores_the_environment_too():
    env = gymnasium.make("engram/ColourMaze-v0", maze=ROOM, max_episode_steps=300).unwrapped
    env.reset(seed=0)
    start = env.batch.poses[0].tolist()
    explorer, moved, path, done = FARMapExplorer(heading=start[2], rng=0), True, [], False
    while not done and (move := explorer.act(env.batch.views[0], moved=moved)) is not None:
        path.append(env.batch.poses[0].tolist())
        _, _, done, cut, info = env.step(move)
        moved, done = info["moved"], done or cut
    walk = explore(env.batch.worlds[0], tuple(start[:2]), FARMapExplorer(heading=start[2], rng=0), 300)
    np.testing.assert_array_equal(walk.poses[: len(path)], path)
    assert info["coverage"] == walk.seen[-1] / walk.visible > 0.95


def test_recolouring_changes_colours_and_no_walls():
    env = ColourMazeVectorEnv(1, maze=ROOM, recolour=True)
    env.reset(seed=0)
    before = env.worlds[0].copy()
    env.step(np.array([0]))
    np.testing.assert_array_equal(before > 0, env.worlds[0] > 0)
    assert (before != env.worlds[0]).any()
    assert sorted(set(before.ravel())) == sorted(set(env.worlds[0].ravel()))


def test_it_renders():
    env = gymnasium.make("engram/ColourMaze-v0", maze=ROOM, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (48, 72, 3)
    env = gymnasium.make("engram/ColourMaze-v0", maze=ROOM, scale=1, render_mode="ansi")
    env.reset(seed=0)
    assert env.render().replace("A", ".") == ROOM


def test_every_wall_has_a_colour_of_its_own_and_none_is_black_or_that_of_the_unseen():
    colours = colours_of(np.arange(40_000))
    codes = colours.astype(int) @ [1, 256, 65536]
    assert len(set(codes)) == 40_000
    assert codes[0] == 0
    assert 88 * (1 + 256 + 65536) not in codes
    world = colour_walls(maze_of(ROOM), rng=0)
    assert sorted(set(world.ravel())) == list(range(18))
    assert world.shape == (12, 18)


def test_rooms_are_where_they_should_be():
    """Without doors, merges and flips every room is alone; with all merged, nothing is left between them."""
    apart = generate_room_maps(3, 4, 2, (1, 1), connect=0.0, merge=0.0, min_size=0, rng=0)
    assert [maze.shape for maze in apart] == [(6, 6)] * 9
    assert all((~maze).sum() == 16 for maze in apart)
    (merged,) = generate_room_maps(3, 4, 2, (1, 1), connect=0.0, merge=1.0, rng=0)
    assert (~merged).sum() == 9 * 16 + 12 * 8
    (joined,) = generate_room_maps(3, 4, 2, (1, 3), connect=1.0, merge=0.0, rng=0)
    assert (~joined).sum() == 9 * 16 + 6 * 2 * 1 + 6 * 2 * 3


def test_drawn_mazes_are_like_the_published():
    """The published 300: 28 to 2481 empty cells, median 146.5, a share of 0.41 in the mean; 6 to 65 cells a side."""
    mazes = [maze for seed in range(60) for maze in random_room_maps(seed)]
    empty = np.array([(~maze).sum() for maze in mazes])
    assert empty.min() >= 28
    assert empty.max() <= 5041
    assert 100 <= np.median(empty) <= 300
    assert np.mean([(~maze).mean() for maze in mazes]) == pytest.approx(0.41, abs=0.08)
    assert all(maze[[0, -1]].all() and maze[:, [0, -1]].all() for maze in mazes)
    assert min(min(maze.shape) for maze in mazes) >= 5


def test_published_mazes_have_the_extremes_of_the_released_ones():
    """Measured in the released 300: at least 28 empty cells, 6 to 65 rows, 340 to 26,165 visible cells if tripled."""
    mazes = published_room_maps()
    assert min((~maze).sum() for maze in mazes) == 28
    assert (min(map(len, mazes)), max(map(len, mazes))) == (6, 65)
    shown = [int(visible_cells(colour_walls(maze, rng=0)).sum()) for maze in mazes]
    assert (min(shown), max(shown)) == (340, 26_165)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: maze_of("###\n#.\n###"), "text = "),
        (lambda: maze_of("###\n###"), "expected at least one empty cell"),
        (lambda: maze_of("#x#"), "text = "),
        (lambda: colour_walls(np.ones((3, 3), bool)), "maze = "),
        (lambda: colour_walls(np.zeros((3, 3), bool), 0), "scale = 0"),
        (lambda: generate_room_maps(3, 4, 1, (5, 1)), "doors = 5"),
        (lambda: generate_room_maps(3, 4, 1, (1, 1), merge=1.5), "merge = 1.5"),
        (lambda: ColourMazeVectorEnv(view_size=8), "view_size = 8"),
        (lambda: ColourMazeVectorEnv(maze=[[1, 0], [1]]), r"maze = \[\[1, 0\], \[1\]\]: .*rows, columns"),
        (lambda: ColourMazeVectorEnv(maze=[[1, 2], [1, 0]]), "expected rows of booleans"),
        (lambda: ColourMazeVectorEnv(maze=[[1.0, 0.0]]), "expected rows of booleans"),
        (lambda: colour_walls(np.arange(2**24).reshape(4096, 4096) > 0), "maze has 16777215 walls: expected fewer"),
        (lambda: colours_of([2**24 - 1]), r"labels.max\(\) = 16777215: expected less than"),
        (lambda: ColourMazeVectorEnv(maze="##\n##"), "expected at least one empty cell"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_recoloured_mazes_of_a_batch_are_single_ones_in_later_episodes_too():
    batch, one = ColourMazeVectorEnv(2, recolour=True, episode_len=3), ColourMaze(recolour=True, episode_len=3)
    batch.reset(seed=4)
    one.reset(seed=5)
    for step in range(8):
        observations, *_, infos = batch.step(np.array([0, step % 4]))
        restarts = step % 4 == 3
        alone, *_, info = (*one.reset(),) if restarts else one.step(step % 4)
        np.testing.assert_array_equal(observations[1], alone)
        assert infos["_moved"].tolist() == [not restarts] * 2
        assert restarts or (infos["coverage"][1], infos["moved"][1]) == (info["coverage"], info["moved"])
