import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from engram.analysis import environment_difficulty, roll_out, stacked, standardised
from engram.analysis.difficulty.environment import action_dimension


class Walk(gym.Env):
    """A point on a circle in the plane: one dimension in two numbers, and a third that never changes."""

    observation_space = spaces.Box(-1, 1, (3,))
    action_space = spaces.MultiDiscrete([3, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.angle, self.count = self.np_random.uniform(0, 6.28), 0
        return self.seen(), {}

    def step(self, action):
        self.angle += self.np_random.normal() + action[0]
        self.count += 1
        return self.seen(), 0.0, False, self.count == 50, {}

    def seen(self):
        return np.array([np.cos(self.angle), np.sin(self.angle), 5.0], dtype=np.float32)


def test_the_dimension_is_that_of_what_is_seen_and_windows_add():
    one, two = (environment_difficulty(Walk(), steps=2500, window=window) for window in (1, 2))
    assert one.dimension.value == pytest.approx(1, rel=0.1)
    assert two.dimension.value == pytest.approx(2, rel=0.1)
    assert two.difficulty.log10_bits > one.difficulty.log10_bits
    task = one.difficulty.task
    assert (task.manifold, task.n, task.out_dim, task.m) == ("torus", 2500, 3, max(1, one.dimension.value))


def test_roll_outs_repeat_themselves_end_where_they_are_cut_and_ask_the_policy():
    first, second = (roll_out(Walk(), steps=120, seed=3) for _ in range(2))
    assert [len(episode) for episode in first] == [51, 51, 21]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    asked = []
    roll_out(Walk(), lambda seen: asked.append(seen) or (0, 0), steps=60)
    assert len(asked) == 60
    assert standardised(first)[0][:, 2].tolist() == [5.0] * 51


def test_windows_stay_within_an_episode():
    episodes = [np.arange(5.0)[:, None], np.arange(10.0, 12.0)[:, None], np.arange(20.0, 23.0)[:, None]]
    assert stacked(episodes, 3, 2).tolist() == [[0, 1, 2], [2, 3, 4], [20, 21, 22]]
    pairs = stacked([np.arange(6.0).reshape(3, 2)], 2)
    assert pairs.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5]]


def test_dimension_of_actions():
    assert action_dimension(spaces.MultiDiscrete([3, 2])) == 3
    assert action_dimension(spaces.MultiBinary(4)) == 4
    with pytest.raises(ValueError, match=r"env.action_space = Discrete\(1\): expected at least two actions"):
        action_dimension(spaces.Discrete(1))
    with pytest.raises(ValueError, match=r"env.action_space = Text"):
        action_dimension(spaces.Text(3))


def test_bad_inputs_are_named():
    categorical = Walk()
    categorical.observation_space = spaces.Discrete(4)
    with pytest.raises(ValueError, match=r"env.observation_space = Discrete\(4\): expected Box"):
        roll_out(categorical, steps=10)
    with pytest.raises(ValueError, match="steps = 0: expected at least 1"):
        roll_out(Walk(), steps=0)
    with pytest.raises(ValueError, match="window = 9: expected at most 5"):
        stacked([np.zeros((5, 1))], 9)
    with pytest.raises(ValueError, match="stride = 0: expected at least 1"):
        stacked([np.zeros((5, 1))], 1, 0)


def test_observations_are_copied_from_environments_that_reuse_their_arrays():
    class Counter(gym.Env):
        observation_space, action_space = spaces.Box(0, 9, (1,)), spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            self.buffer = np.zeros(1, np.float32)
            return self.buffer, {}

        def step(self, action):
            self.buffer += 1
            return self.buffer, 0.0, False, False, {}

    (episode,) = roll_out(Counter(), steps=4)
    assert episode[:, 0].tolist() == [0, 1, 2, 3, 4]
