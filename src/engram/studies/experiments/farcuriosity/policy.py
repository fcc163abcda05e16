"""An agent rewarded for novelty, and in games also by the game, and how much of the world it sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv
from torch import Tensor

from engram import extras
from engram.agents import PPO, RND, CuriousActorCritic, FragmentedCuriosity, VectorActor, ppo_update
from engram.lab import Run, setting, settings
from engram.memory import SurprisalMonitor
from engram.tasks import TextureRoomsVectorEnv
from engram.tasks.environments.atari import make_atari

MINIGRID = "MiniGrid-"


@settings
class Policy:
    """The settings of an agent, its curiosity and its world."""

    curiosity: Literal["none", "rnd", "far", "random"] = setting(
        "far", "none; a single module; fragments cut at surprise; or fragments cut at random, with a fixed probability"
    )
    game: str = setting("", "an Atari game, or a world of MiniGrid by its id; empty: rooms with textures")
    steps: int = setting(300_000, "steps over all environments", ge=512)
    num_envs: int = setting(8, "environments", ge=4)
    rollout: int = setting(64, "steps of each environment between updates", ge=1)
    rooms: int = setting(8, "rooms", ge=2)
    episode_len: int = setting(200, "steps of an episode", ge=1)
    hidden: int = setting(64, "units per layer of the policy", ge=1)
    memory: int = setting(0, "units of the policy's LSTM; 0: none", ge=0)
    threshold: float = setting(
        3.0, "threshold of surprise, as a multiple of the mean error of a fragment; published: 10", gt=0
    )
    predictor_rate: float = setting(1e-3, "learning rate of the predictors; published: 1e-4", gt=0)
    ppo: PPO = setting(PPO(learning_rate=3e-4, entropy_coefficient=0.01), "settings of PPO for the policy")

    def __post_init__(self) -> None:
        if self.steps < self.num_envs * self.rollout:
            sizes = f"num_envs = {self.num_envs} times rollout = {self.rollout}"
            raise ValueError(f"steps = {self.steps}: expected at least a rollout of all environments, {sizes}")

    @property
    def is_atari(self) -> bool:
        """Whether the world is an Atari game: the agent sees a stack of frames, its curiosity only the last of them."""
        return bool(self.game) and not self.game.startswith(MINIGRID)


arms: dict[str, dict[str, Any]] = {f"policy-{name}": {"curiosity": name} for name in ("none", "rnd", "far", "random")}
PUBLISHED: dict[str, Any] = {"num_envs": 32, "rollout": 128, "hidden": 512, "memory": 512, "steps": 98_304_000}
PUBLISHED |= {"threshold": 10.0, "predictor_rate": 1e-4}
atari: dict[str, dict[str, Any]] = {
    f"atari-{name}": {**PUBLISHED, "game": "Jamesbond", "curiosity": name, "ppo": PPO()} for name in ("rnd", "far")
}
DOORS = "MiniGrid-MultiRoom-N4-S5-v0"  # four rooms in a row, and a reward in the last
doors: dict[str, dict[str, Any]] = {
    f"doors-{name}": {"game": DOORS, "curiosity": name, "memory": 64} for name in ("none", "rnd", "far")
}


class SignedGame(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A game whose rewards are replaced by their signs, with the original reward as ``score`` in the infos."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(np.sign(float(reward))), terminated, truncated, info | {"score": float(reward)}


class Games(SyncVectorEnv):
    """Parallel games whose states are not saved: a resumed trial begins new episodes."""

    def state_dict(self) -> dict[str, Any]:
        """An empty state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin new episodes."""
        self.reset()


def games(name: str, count: int) -> Games:
    """Parallel games.

    Atari games are as published except that Gymnasium resizes the frames: an episode is one life of at most 4500 steps.
    In MiniGrid the agent sees the 7 x 7 cells in front of it, as symbols.
    """
    if name.startswith(MINIGRID):
        return Games([lambda: SignedGame(_minigrid(name)) for _ in range(count)])
    return Games([lambda: gymnasium.wrappers.TimeLimit(SignedGame(make_atari(name)), 4500) for _ in range(count)])


def _minigrid(name: str) -> gymnasium.Env[Any, Any]:
    try:
        from minigrid.wrappers import ImgObsWrapper
    except ModuleNotFoundError as error:
        raise extras.missing("rl", name, error) from error
    env: gymnasium.Env[Any, Any] = ImgObsWrapper(gymnasium.make(name))
    return env


def curiosity_of(config: Policy, scale: dict[str, Any], run: Run) -> RND | FragmentedCuriosity | None:
    """The curiosity of an arm; ``scale`` has the initial mean and standard deviation of observations.

    Args:
        config: The settings.
        scale: Initial mean and standard deviation of the observations.
        run: The run.
    """
    sizes: dict[str, Any] = {} if config.is_atari else {"hidden": 128, "feature_dim": 64}
    common: dict[str, Any] = {"append_on_trigger": False, "reset_on_trigger": False, "skip_repeats": True}
    rate = torch.full((1,), 2e-4, dtype=torch.float64)  # which makes about as many cuts as surprise

    def make() -> RND:
        shape, rnd_options = tuple(scale["mean"].shape), {**sizes, **scale}
        return RND(shape, config.num_envs, learning_rate=config.predictor_rate, generator=run.generator, **rnd_options)

    def monitor() -> SurprisalMonitor:
        if config.curiosity == "random":
            return SurprisalMonitor("random", rate.item(), min_samples=25, generator=run.generator, **common)
        return SurprisalMonitor("ratio", config.threshold, min_samples=25, **common)

    if config.curiosity in ("none", "rnd"):
        return make() if config.curiosity == "rnd" else None
    return FragmentedCuriosity(make, config.num_envs, make_monitor=monitor)


def trial(config: Policy, run: Run) -> dict[str, Any]:
    """Train by PPO on an arm's curiosity; the results are those of ``explore`` and the number of modules."""
    result, curiosity = explore(config, run, lambda scale: curiosity_of(config, scale, run))
    cuts = 0 if not isinstance(curiosity, FragmentedCuriosity) else len(curiosity.store) - 1
    return {"modules": float(cuts + 1)} | result


def explore(
    config: Policy, run: Run, make_curiosity: Callable[[dict[str, Tensor]], Any]
) -> tuple[dict[str, float], Any]:
    """Train by PPO on curiosity, and in games on rewards too; return means over the last third, and the curiosity.

    Args:
        config: The agent and its world; its curiosity is ignored.
        run: The run.
        make_curiosity: Maps the mean and standard deviation of observations under random actions to a curiosity or
            None.
    """
    env: Any
    if config.game:
        env = games(config.game, config.num_envs)
    else:
        size: dict[str, Any] = {"rooms": config.rooms, "episode_len": config.episode_len}
        env = TextureRoomsVectorEnv(config.num_envs, texture_seed=int(run.rng.integers(2**31)), **size)
    seed, shape = int(run.rng.integers(2**31)), env.single_observation_space.shape
    scale = _scale(env, 10_000 // config.num_envs, seed)
    last = {name: value[-1:] if config.is_atari else value for name, value in scale.items()}
    agent = CuriousActorCritic(
        shape, int(env.single_action_space.n), hidden=config.hidden, memory=config.memory or None,
        generator=run.generator, **scale,
    )  # fmt: skip
    curiosity = make_curiosity(last)
    optimizer, actor = config.ppo.optimizer(agent), VectorActor(env, agent, run.generator, seed)
    iterations = config.steps // (config.num_envs * config.rollout)
    # Cells are those of rooms: in a game the array would only enlarge each checkpoint, by 400 MB at the published size.
    visited = np.full((0 if config.game else iterations, config.rollout, config.num_envs), -1, dtype=np.int32)
    returns = np.zeros((iterations, 3))  # score, rewards above 0, and ends of episodes
    state: dict[str, Any] = {
        "agent": agent,
        "optimizer": optimizer,
        "actor": actor,
        "seen": visited,
        "returns": returns,
    }
    state |= {} if curiosity is None else {"curiosity": curiosity}
    for iteration in run.steps(iterations, **state):
        rollout = actor.rollout(config.rollout)
        arrived = rollout.next_observations[:, :, -1:] if config.is_atari else rollout.next_observations
        looked = rollout._replace(next_observations=arrived.float())
        done = ~rollout.mask | rollout.terminated
        bonus = torch.zeros(done.shape) if curiosity is None else curiosity.bonus(looked.next_observations, done)
        ppo_update(agent, optimizer, looked._replace(observations=rollout.observations), bonus, config.ppo,
                   generator=run.generator, curiosity=curiosity)  # fmt: skip
        if config.game:
            score = sum(float(np.sum(info.get("score", 0.0))) for info in rollout.infos)  # none if all restart
            events = rollout.rewards > 0, rollout.done
            returns[iteration] = score, *(float((column & rollout.mask).sum()) for column in events)
        else:
            visited[iteration] = np.where(rollout.mask, [info["cell"] for info in rollout.infos], -1)
        if (iteration + 1) % max(1, iterations // 30) == 0 and not config.game:
            env_steps = (iteration + 1) * config.num_envs * config.rollout
            run.log(env_steps, cells=coverage(visited[: iteration + 1], config))
    run.keep(agent=agent)
    late = slice(iterations - max(1, iterations // 3), None)
    if config.game:
        score, successes, episodes = returns[late].sum(0)
        return {"score": score / len(returns[late]), "success": successes / max(1.0, episodes)}, curiosity
    return {"cells": coverage(visited[late], config)}, curiosity


def coverage(cells: np.ndarray, config: Policy) -> float:
    """The number of distinct cells seen in 10,000 steps, averaged over at most ten stretches at the end."""
    length = min(len(cells), max(1, 10_000 // (config.rollout * config.num_envs)))
    stretches = [cells[end - length : end] for end in range(len(cells), length - 1, -length)][:10]
    return float(np.mean([len(np.unique(stretch[stretch >= 0])) for stretch in stretches]))


def _scale(env: Any, steps: int, seed: int) -> dict[str, Tensor]:
    """The mean and standard deviation of observations under random actions."""
    rng, _ = np.random.default_rng(seed), env.reset(seed=seed)
    actions = rng.integers(env.single_action_space.n, size=(steps, env.num_envs))
    observations = torch.from_numpy(np.concatenate([np.array(env.step(action)[0]) for action in actions])).float()
    return {"mean": observations.mean(0), "std": observations.std(0, correction=0).clamp(min=1e-3)}
