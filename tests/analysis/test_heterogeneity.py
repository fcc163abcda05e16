import gymnasium
import numpy as np
import pytest
import torch

from engram.agents import RND
from engram.analysis import heterogeneity
from engram.tasks import TextureRooms


class Played(gymnasium.Env):
    """Shows numbers one after another, and ends with the last."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, numbers):
        self.numbers = np.asarray(numbers, np.float32)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, self.numbers.shape[1:], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.numbers[0], {}

    def step(self, action):
        self.at += 1
        return self.numbers[self.at], 0.0, self.at == len(self.numbers) - 1, False, {}


def test_it_is_the_mean_over_all_pairs():
    numbers = np.random.default_rng(0).normal(size=(7, 3))
    numbers[4] = 0.0
    cosines = []
    for i in range(7):
        for j in range(i):
            norms = np.linalg.norm(numbers[i]) * np.linalg.norm(numbers[j])
            cosines.append(numbers[i] @ numbers[j] / norms if norms else 0.0)
    assert heterogeneity(Played(numbers), lambda x: x) == pytest.approx(1 - np.mean(cosines), rel=1e-6)
    assert heterogeneity(Played(numbers), lambda x: x, steps=1) == pytest.approx(1 - cosines[0], rel=1e-6)
    assert heterogeneity(Played(np.ones((5, 3))), lambda x: x) == pytest.approx(0.0, abs=1e-12)
    assert heterogeneity(Played(np.eye(5)), lambda x: x) == pytest.approx(1.0)


def test_rooms_that_share_a_texture_are_less_heterogeneous():
    measured = {}
    for overlap in (0.0, 1.0):
        env = TextureRooms(rooms=4, size=3, overlap=overlap, episode_len=600)
        shape = env.observation_space.shape
        centre = torch.full(shape, 0.5)
        rnd = RND(
            shape, hidden=64, mean=centre, std=0.3 * torch.ones(shape), generator=torch.Generator().manual_seed(0)
        )
        measured[overlap] = [heterogeneity(env, rnd.features, rng=seed) for seed in range(3)]
    assert min(measured[0.0]) > max(measured[1.0]) > 0
    assert heterogeneity(env, rnd.features, rng=0) == measured[1.0][0]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="steps = 0"):
        heterogeneity(Played(np.eye(3)), lambda x: x, steps=0)
    with pytest.raises(TypeError, match="env"):
        heterogeneity(3, lambda x: x)
