"""Whether the cycle matters: a pendulum to be swung up."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium
import numpy as np
from annotated_types import Ge
from gymnasium.vector import VectorEnv
from gymnasium.wrappers.vector import TransformObservation

from engram.agents import D3G, ReplayBuffer
from engram.experiments.d3g.learning import Learner, Settings, build, largest_step, live, mean_return
from engram.lab import Run

EPISODE = 200  # steps
SCALE = np.array([1.0, 1.0, 1 / 8], dtype=np.float32)  # of cosine, sine and velocity


@dataclass(frozen=True)
class Pendulum:
    """An agent that swings up a pendulum."""

    learner: Learner = "d3g"
    """Which."""
    settings: Settings = Settings()
    """Of the learner."""
    episodes: Annotated[int, Ge(1)] = 60
    """Episodes of 200 steps."""
    random_steps: Annotated[int, Ge(0)] = 1000
    """Steps of random actions at first."""
    look_every: Annotated[int, Ge(1)] = 10
    """Episodes between evaluations."""
    evaluations: Annotated[int, Ge(1)] = 10
    """Episodes of an evaluation."""


def pendulum(num_envs: int) -> VectorEnv[Any, Any, Any]:
    """Make pendulums whose observations have one scale."""
    env = gymnasium.make_vec("Pendulum-v1", num_envs=num_envs, vectorization_mode="sync")
    one = gymnasium.spaces.Box(-1.0, 1.0, (3,))
    return TransformObservation(env, lambda seen: seen * SCALE, single_observation_space=one)


def trial(config: Pendulum, run: Run) -> dict[str, Any]:
    """Train one agent; the results are its mean return without noise, and how far its proposals reach."""
    env, judged = pendulum(1), pendulum(config.evaluations)
    observed, actions = env.single_observation_space, env.single_action_space
    assert isinstance(observed, gymnasium.spaces.Box)
    assert isinstance(actions, gymnasium.spaces.Box)
    agent = build(config.learner, config.settings, observed, actions, run)
    buffer = ReplayBuffer(config.episodes * EPISODE, observed, actions, device=run.device)
    for episode in run.steps(config.episodes, agent=agent, buffer=buffer):
        with warnings.catch_warnings():
            if config.learner == "no-cycle":  # which diverges: that is what is studied
                warnings.filterwarnings("ignore", "D3G: proposals are", RuntimeWarning)
            live(
                env,
                agent,
                buffer,
                run,
                settings=config.settings,
                random_steps=config.random_steps,
                update=agent.update,
                reward_scale=0.1,
            )
        if (episode + 1) % config.look_every == 0:
            run.log((episode + 1) * EPISODE, **{"return": mean_return(judged, agent, run)})
    result = {"return": mean_return(judged, agent, run)}
    if isinstance(agent, D3G):
        result["largest_step"] = largest_step(judged, agent, run)
    return result


def seconds(config: Pendulum) -> float:
    """Time of a trial on one core, by its updates; measured at width 64."""
    update = {"td3": 0.75e-3, "no-cycle": 0.9e-3}.get(config.learner, 1.3e-3)
    size = (config.settings.width / 64) * (config.settings.batch_size / 64)
    return config.episodes * EPISODE * (0.3e-3 + update * max(1.0, size))
