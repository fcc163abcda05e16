import gymnasium
import numpy as np
import pytest

from engram.tasks.environments.cue_reward import CueRewardVectorEnv
from engram.tasks.environments.grid_maze import GridMazeVectorEnv
from engram.tasks.environments.rooms import RoomEnv
from engram.tasks.meta import Grid, MetaTask, MetaTaskEnv, RewardRule, named
from engram.tasks.picture import COLOURS, PIXELS


def test_a_room_is_shown_with_north_up_and_the_agent_where_it_went():
    env = RoomEnv(layout="i-maze", render_mode="ansi")
    env.reset(seed=0)
    for action in (0, 1, 1):
        env.step(action)
    assert env.render() == "\n".join([
        "#################",
        "#.#############G#",
        "#..A............#",
        "#.#############.#",
        "#################",
    ])  # fmt: skip


def test_an_image_has_the_colours_of_the_legend():
    env = GridMazeVectorEnv(3, size=7, render_mode="rgb_array")
    env.reset(seed=0)
    for row, frame in enumerate(env.render()):
        assert frame.shape == (7 * PIXELS, 7 * PIXELS, 3)
        assert frame.dtype == np.uint8
        corners, middles = frame[2::PIXELS, 2::PIXELS], frame[8::PIXELS, 8::PIXELS]
        assert (corners == COLOURS["#"]).all(2).sum() == 49 - len(env.maze.cells)
        places = env.maze.cells
        assert np.argwhere((corners == COLOURS["G"]).all(2)).tolist() == [places[env.goal[row]].tolist()]
        assert np.argwhere((middles == COLOURS["A"]).all(2)).tolist() == [places[env.position[row]].tolist()]


def test_a_key_and_a_door_are_where_the_instance_has_them():
    env = MetaTaskEnv(named.dark_key_to_door(), render_mode="ansi")
    env.reset(seed=0)
    shown = env.render().replace("\n", "")
    assert {shown.index("K"), shown.index("G")} == set(env.instance.states)
    assert shown.index("A") == env.batch.lives.state[0]


def test_walls_of_a_maze_are_those_of_the_instance():
    task = MetaTask(topology=Grid(5, 5, walls="random_maze"), reward_rules=(RewardRule(new=0),))
    env = MetaTaskEnv(task, render_mode="ansi")
    for seed in range(3):
        env.reset(seed=seed)
        shown = env.render().replace("\n", "")
        assert tuple(place for place, symbol in enumerate(shown) if symbol == "#") == env.instance.walls
        assert shown[0] == "G"


def test_a_task_without_a_grid_shows_its_states_in_a_row():
    env = gymnasium.make("engram/TMaze-v0", render_mode="ansi", disable_env_checker=True)
    env.reset(seed=0)
    assert env.unwrapped.render() == "A.GG"


def test_what_cannot_be_shown_says_so():
    env = GridMazeVectorEnv(2, render_mode="ansi")
    with pytest.raises(gymnasium.error.ResetNeeded, match="render was called before reset"):
        env.render()
    with pytest.raises(ValueError, match="render_mode = 'human': expected one of None, 'rgb_array', 'ansi'"):
        GridMazeVectorEnv(2, render_mode="human")
    with pytest.raises(ValueError, match=r"render_mode = 'ansi': expected one of None$"):
        CueRewardVectorEnv(2, render_mode="ansi")
    silent = GridMazeVectorEnv(2)
    silent.reset(seed=0)
    with pytest.warns(UserWarning, match="render shows nothing: expected render_mode to be one of"):
        assert silent.render() is None
