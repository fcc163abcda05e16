import gymnasium
import numpy as np
import pytest
import torch

from engram.agents import MFEC, evaluate, play_episode
from engram.memory import KeyValueMemory
from engram.nn import RandomProjection
from engram.tasks.environments.atari import EpisodicLife, make_atari, ram


class Game(gymnasium.Env):
    """Three lives; each is lost after two steps."""

    observation_space, action_space = gymnasium.spaces.Discrete(100), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return 0, {"lives": 3}

    def step(self, action):
        self.time += 1
        lives = 3 - self.time // 2
        return self.time, 1.0, lives == 0, False, {"lives": lives}


def test_a_life_is_an_episode():
    env = EpisodicLife(Game())
    assert env.reset(seed=0)[0] == 0
    ends = [env.step(1)[2] for _ in range(2)]
    assert ends == [False, True]
    assert env.reset()[0] == 3, "the game goes on, by one step without an action"
    assert env.step(1)[2]
    assert env.reset()[0] == 5
    assert env.step(1)[2]
    assert env.reset()[0] == 0, "the game is over"
    assert env.step(1)[0] == 1
    assert env.reset(seed=0)[0] == 0, "a seed begins anew"


def test_what_is_missing_is_named():
    try:
        import ale_py  # noqa: F401
        import cv2  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(gymnasium.error.DependencyNotInstalled, match=r"pip install .*\[rl\]'"):
            make_atari("Pong")


def test_an_agent_plays_atari():
    pytest.importorskip("ale_py", reason="needs the extra rl: ale-py")
    pytest.importorskip("cv2", reason="needs the extra rl: opencv-python-headless")
    env = make_atari("Pong")
    frames, _ = env.reset(seed=0)
    assert (frames.shape, frames.dtype, int(env.action_space.n)) == ((4, 84, 84), np.uint8, 6)
    assert not frames[:3].any()
    assert frames[3].any()
    assert ram(env).shape == (128,)
    generator = torch.Generator().manual_seed(0)
    memory = KeyValueMemory(1000, 16, tables=6, hash_dim=128, assign="hash", generator=generator)
    agent = MFEC(
        memory, rng=np.random.default_rng(0), embedding=RandomProjection(28224, 16, rng=np.random.default_rng(0))
    )
    short = gymnasium.wrappers.TimeLimit(env, 40)
    assert play_episode(short, agent, seed=0, identity=ram).length == 40
    assert int(memory.n_filled.sum()) > 0
    assert len(evaluate(short, agent, 1, seed=0)) == 1
