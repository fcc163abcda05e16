"""Atari games with the settings published for episodic control; the extra ``engram-torch[rl]`` has the emulator."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from engram import extras


class EpisodicLife(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A game in which each life is an episode, and which restarts only when all lives are lost.

    Gymnasium's ``AtariPreprocessing(terminal_on_life_loss=True)`` restarts the game after each life.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._lives, self._over = 0, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode: by one step without an action if a life is left and no seed is given, else a new game."""
        if not self._over and seed is None:
            observation, _, terminated, truncated, info = self.env.step(0)
            if not (terminated or truncated):
                self._lives = info["lives"]
                return observation, info
        self._over = False
        observation, info = self.env.reset(seed=seed, options=options)
        self._lives = info["lives"]
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act; the loss of a life terminates the episode."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._over = terminated or truncated
        # A game may show no life for some frames before it is over, which belong to its last episode.
        life_lost, self._lives = 0 < info["lives"] < self._lives, info["lives"]
        return observation, reward, terminated or life_lost, truncated, info


def make_atari(game: str, *, episodic_life: bool = True) -> gymnasium.Env[Any, Any]:
    """An Atari game with the settings published for episodic control.

    The minimal action set without sticky actions; each action is repeated for 4 frames, of which the maximum of the
    last two is seen, in grey, 84 x 84, in a stack of four that starts with zeros; up to 30 steps without action at the
    start; at most 108,000 frames; rewards are not clipped. Gymnasium resizes by area, the published code bilinearly. An
    observation has bytes of shape (4, 84, 84), which ``engram.agents`` divides by 255.

    Args:
        game: Its name in ``ale_py``, for example ``"Pong"`` or ``"MsPacman"``.
        episodic_life: Whether each life is an episode, as in training; evaluation is on whole games.

    Raises:
        gymnasium.error.DependencyNotInstalled: ``ale-py`` or OpenCV is not installed; the extra ``rl`` has both.

    Source: Agostinelli et al., "Memory-efficient episodic control reinforcement learning with dynamic online k-means"
    (2019), the settings of its published code.
    """
    try:
        import ale_py
        import cv2  # noqa: F401
    except ModuleNotFoundError as missing:
        message = str(extras.missing("rl", "An Atari game", missing))
        raise gymnasium.error.DependencyNotInstalled(message) from None
    gymnasium.register_envs(ale_py)
    env: gymnasium.Env[Any, Any] = gymnasium.make(
        f"ALE/{game}-v5",
        frameskip=1,
        repeat_action_probability=0.0,
        full_action_space=False,
        max_num_frames_per_episode=108_000,
        disable_env_checker=True,
    )
    env = AtariPreprocessing(env, noop_max=30, frame_skip=4, screen_size=84, grayscale_obs=True)
    if episodic_life:
        env = EpisodicLife(env)
    return FrameStackObservation(env, 4, padding_type="zero")


def ram(env: gymnasium.Env[Any, Any]) -> np.ndarray:
    """The memory of the game console: 128 numbers from 0 to 1, which identify a state."""
    return np.asarray(env.unwrapped.ale.getRAM(), np.float32) / 255  # type: ignore[attr-defined]
