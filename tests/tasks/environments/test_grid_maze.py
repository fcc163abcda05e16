import subprocess
import sys
from collections import deque

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from engram.tasks import RepeatedUnitWorld
from engram.tasks.environments.cue_reward import CueRewardVectorEnv
from engram.tasks.environments.grid_maze import GridMaze, GridMazeVectorEnv, grid_maze
from engram.tasks.environments.grid_transfer import GridTransferVectorEnv
from engram.tasks.environments.point_world import PointWorldVectorEnv
from engram.tasks.picture import RENDERED
from engram.testing import check_environment

# The specification's facts: free cells, mean shortest distance, hits of a random walk in 200 steps.
FACTS = {7: (21, 3.6, 2.7), 9: (41, 4.9, 1.4), 11: (65, 6.3, 0.76), 13: (97, 7.6, 0.55)}


def distances(maze):
    """Return the length of the shortest way between each two cells."""
    lengths = np.full((len(maze.cells), len(maze.cells)), -1)
    for start in range(len(maze.cells)):
        queue = deque([start])
        lengths[start, start] = 0
        while queue:
            cell = queue.popleft()
            for there in maze.destination[cell]:
                if lengths[start, there] < 0:
                    lengths[start, there] = lengths[start, cell] + 1
                    queue.append(there)
    return lengths


def hits_of_a_random_walk(maze, steps=200):
    """Return the expected number of hits, from the chain of positions, averaged over the rewarded cells."""
    cells = len(maze.cells)
    move = np.zeros((cells, cells))
    np.add.at(move, (np.repeat(np.arange(cells), 4), maze.destination.ravel()), 0.25)
    expected = []
    for goal in set(range(cells)) - {maze.center}:
        put = np.full(cells, 1 / (cells - 1))
        put[goal] = 0
        where, hits = np.eye(cells)[maze.center], 0.0
        for _ in range(steps):
            where = where @ move
            hits += where[goal]
            where = where + where[goal] * (put - np.eye(cells)[goal])
        expected.append(hits)
    return np.mean(expected)


@pytest.mark.parametrize("size", FACTS)
def test_the_facts_of_the_specification(size):
    maze, (free, distance, hits) = grid_maze(size), FACTS[size]
    between = distances(maze)
    assert len(maze.cells) == free
    assert (between >= 0).all(), "every cell can be reached"
    assert between[~np.eye(free, dtype=bool)].mean() == pytest.approx(distance, abs=0.051)
    expected = hits_of_a_random_walk(maze)
    assert expected == pytest.approx(hits, rel=0.06)
    envs, rng = GridMazeVectorEnv(1500, size=size), np.random.default_rng(0)
    envs.reset(seed=0)
    total = sum(envs.step(rng.integers(4, size=1500))[1] for _ in range(200)) / 10
    assert total.mean() == pytest.approx(expected, abs=4 * total.std() / 1500**0.5)


def test_what_is_seen_and_what_an_action_does():
    env = GridMaze(size=7, episode_len=10, wall_penalty=0.5)
    seen, info = env.reset(seed=1)
    maze, batch = env.batch.maze, env.batch
    assert maze.cells[batch.position[0]].tolist() == [3, 3]
    walls = [1, 0, 1, 0, 0, 0, 1, 0, 1]  # pillars at the even coordinates around (3, 3)
    assert (seen == np.array([*walls, 0, 1, 0, 0, 1, 0, 0, 0])).all()
    assert info == {}
    batch.goal[0] = np.flatnonzero((maze.cells == [1, 1]).all(1))[0]
    seen, reward, *ends, _ = env.step(0)
    assert (maze.cells[batch.position[0]].tolist(), reward, ends) == ([2, 3], 0.0, [False, False])
    assert (seen[9:] == np.array([0, 1, 0.1, 0, 1, 0, 0, 0], np.float32)).all()
    seen, reward, *_ = env.step(2)  # the pillar at (2, 2)
    assert (maze.cells[batch.position[0]].tolist(), reward) == ([2, 3], -0.5)
    assert (seen[9:] == np.array([0, 1, 0.2, -0.5, 0, 0, 1, 0], np.float32)).all()
    rewards = [env.step(action)[1] for action in (0, 2, 2)]
    assert rewards == [0.0, 0.0, 10.0]
    assert batch.position[0] != batch.goal[0], "one is put elsewhere"
    last = [env.step(3) for _ in range(5)][-1]
    assert last[2:4] == (True, False)
    assert last[0][11] == 1.0
    with pytest.raises(ResetNeeded, match="over"):
        env.step(0)


def test_the_goal_and_where_one_is_put_are_drawn_evenly():
    envs = GridMazeVectorEnv(20000, size=5, episode_len=3)
    envs.reset(seed=0)
    goal = envs.goal.copy()
    counts = np.bincount(goal, minlength=9) / 20000
    assert counts[envs.maze.center] == 0
    np.testing.assert_allclose(np.delete(counts, envs.maze.center), 1 / 8, atol=0.012)
    moves = np.zeros(20000, dtype=int)
    up = (envs.maze.cells[goal] == [1, 2]).all(1)
    _, rewards, *_ = envs.step(moves)
    assert ((rewards > 0) == up).all()
    put = np.bincount(envs.position[up], minlength=9) / up.sum()
    assert put[goal[up][0]] == 0
    np.testing.assert_allclose(np.delete(put, goal[up][0]), 1 / 8, atol=0.03)
    envs.reset()
    assert (envs.goal != goal).mean() == pytest.approx(7 / 8, abs=0.02)


@pytest.mark.parametrize("options", [{"episode_len": 15}, {"episode_len": 7, "wall_penalty": 0.1, "reward": 1.0}])
def test_the_contract_holds_through_the_ends_of_many_episodes(options):
    gymnasium.register(
        "EngramTest/Maze-v0",
        "engram.tasks.environments.grid_maze:GridMaze",
        vector_entry_point="engram.tasks.environments.grid_maze:GridMazeVectorEnv",
        kwargs={"size": 5, **options},
        max_episode_steps=11,
    )
    try:
        check_environment("EngramTest/Maze-v0")
    finally:
        del gymnasium.registry["EngramTest/Maze-v0"]


def test_seeds_and_masks():
    envs = gymnasium.make_vec("engram/GridMaze-v0", num_envs=3, size=7)
    with pytest.raises(ResetNeeded, match="never reset"):
        envs.reset(options={"reset_mask": np.array([True, False, True])})
    envs.reset(seed=[5, 6, 7])
    goals = envs.goal.copy()
    envs.reset(seed=5)
    assert (envs.goal == goals).all()
    envs.step([0, 1, 2])
    position = envs.position.copy()
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    assert envs.steps.tolist() == [1, 0, 1]
    assert envs.position.tolist() == [position[0], envs.maze.center, position[2]]
    assert (envs.goal == goals)[[0, 2]].all()


@pytest.mark.parametrize(
    "make",
    [CueRewardVectorEnv, GridMazeVectorEnv, lambda n: GridTransferVectorEnv(n, noise=0.5), PointWorldVectorEnv],
)
def test_a_mask_of_none_resets_none(make):
    envs, twin = make(2), make(2)
    for each in (envs, twin):
        each.reset(seed=0)
        seen = each.step(each.action_space.sample() * 0)[0]
    again, _ = envs.reset(seed=7, options={"reset_mask": np.zeros(2, bool)})
    np.testing.assert_array_equal(again, seen)
    assert envs.steps.tolist() == [1, 1]
    np.testing.assert_array_equal(envs.reset()[0], twin.reset()[0])


def test_the_seeds_are_told():
    envs = GridMazeVectorEnv(3)
    envs.reset(seed=5)
    assert envs.np_random_seed == (5, 6, 7)
    envs.reset(seed=[1, 2, None])
    assert envs.np_random_seed == (1, 2, 7)
    envs.rngs[1] = np.random.default_rng(4)  # as Gymnasium has it, the seed of a generator that was set is unknown
    assert envs.np_random_seed == (1, -1, 7)
    env = GridMaze()
    for seed in (5, None):
        env.reset(seed=seed)
        assert (env.np_random_seed,) == env.batch.np_random_seed == (5,)
    env.np_random = np.random.default_rng(4)
    env.reset()
    assert (env.np_random_seed,) == env.batch.np_random_seed == (-1,)
    env.reset(seed=6)
    assert (env.np_random_seed,) == env.batch.np_random_seed == (6,)


def test_a_generator_that_is_set_counts_within_the_episode():
    generators = [np.random.default_rng(seed) for seed in range(3)]
    env, envs = GridMaze(), GridMazeVectorEnv(3)
    with pytest.raises(ResetNeeded, match="np_random was set before reset"):
        envs.np_random = generators
    env.np_random = generators[0]
    assert env.np_random is generators[0]
    for each in (env, envs):
        each.reset()
    assert env.batch.np_random == (generators[0],)
    env.np_random, envs.np_random = generators[1], generators
    assert (env.np_random,) == env.batch.np_random == (generators[1],)
    assert (env.np_random_seed,) == env.batch.np_random_seed == (-1,)
    assert envs.np_random == tuple(generators)
    assert envs.np_random_seed == (-1, -1, -1)
    with pytest.raises(ValueError, match="np_random has 2 generators: expected num_envs = 3"):
        envs.np_random = generators[:2]
    with pytest.raises(TypeError, match="Generator"):
        env.np_random = 3
    assert envs.np_random == tuple(generators)


SMALL_INTEGERS = """
import numpy as np
from engram.tasks import CueReward, GridMaze, GridTransfer, PointWorld, RepeatedUnitWorld
from engram.tasks.environments.two_stimulus import TwoStimulusEnv

for make, options in [
    (GridMaze, {"size": np.int8(7), "episode_len": np.uint8(255), "wall_penalty": np.uint8(1)}),
    (CueReward, {"n_cues": np.int8(6), "cue_bits": np.uint8(254), "episode_len": np.uint8(255)}),
    (GridTransfer, {"size": np.int8(12), "noise": np.int8(1), "episode_len": np.uint8(255)}),
    (PointWorld, {"copies": np.int8(100), "episode_len": np.int8(3), "max_episode_steps": np.int8(3)}),
    (TwoStimulusEnv, {"trials": np.int8(20)}),
    (RepeatedUnitWorld, {"n_units": np.int8(30), "unit_h": np.int8(7)}),
]:
    env, plain = make(**options), make(**{name: value.item() for name, value in options.items()})
    assert env.observation_space == plain.observation_space
    assert repr(env.reset(seed=np.int64(3))) == repr(plain.reset(seed=3))
    assert repr(env.step(env.action_space.sample() * 0)) == repr(plain.step(env.action_space.sample() * 0))
    assert type(env.np_random_seed) is int and env.np_random_seed == 3
"""


@pytest.fixture(scope="module")
def apart():
    """A process in which nothing was imported, and no hook of pytest checks the types."""
    made = "import gymnasium; print(gymnasium.make('engram.tasks:engram/GridMaze-v0').reset(seed=0)[0].shape)\n"
    return subprocess.run([sys.executable, "-c", made + SMALL_INTEGERS], capture_output=True, text=True, check=False)


def test_small_integers_of_numpy_do_not_overflow(apart):
    assert not apart.returncode, apart.stderr


@pytest.mark.parametrize("make", [GridMaze, GridMazeVectorEnv, RepeatedUnitWorld])
def test_metadata_are_ones_own(make):
    env, before = make(), make().metadata
    env.metadata["render_modes"].append("human")
    env.metadata["render_fps"] = 1
    assert make().metadata == make.metadata == before
    assert RENDERED == {"render_modes": ["rgb_array", "ansi"], "render_fps": 10}


def test_an_id_with_its_module_needs_no_import(apart):
    assert apart.stdout == "(17,)\n", apart.stderr


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 8}, ValueError, "size = 8: expected an odd number"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        GridMazeVectorEnv(**options)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 4], r"actions\[1\] = 4: expected an integer from 0 to 3"),
        ([-1, 0], r"actions\[0\] = -1: expected"),
        ([0], "expected 2 integers"),
        ([0.0, 1.0], "expected 2 integers"),
        ([True, False], "expected 2 integers"),
        (None, "expected 2 integers"),
    ],
)
def test_bad_actions_are_named(actions, message):
    envs = GridMazeVectorEnv(2)
    with pytest.raises(ResetNeeded, match="before reset"):
        envs.step([0, 0])
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        envs.step(actions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": [1, 2, 3]}, "expected num_envs = 2 seeds"),
        ({"options": {"reset_mask": np.ones(3, bool)}}, "expected 2 booleans"),
        ({"options": {"reset_mask": np.ones(2)}}, "expected 2 booleans"),
        ({"options": {"reset_msk": np.ones(2, bool)}}, "expected only reset_mask, not 'reset_msk'"),
    ],
)
def test_bad_resets_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        GridMazeVectorEnv(2).reset(**arguments)
