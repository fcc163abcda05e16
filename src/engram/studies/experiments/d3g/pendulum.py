"""The swing-up of a pendulum, with and without the cycle."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.wrappers.vector import TransformObservation

from engram.agents import D3G, ReplayBuffer
from engram.lab import Run, setting, settings
from engram.studies.experiments.d3g.learning import Acting, Agent, build, largest_step, live, mean_return

EPISODE = 200  # steps
SCALE = np.array([1.0, 1.0, 1 / 8], dtype=np.float32)  # factors for cosine, sine and velocity


@settings
class Pendulum(Agent):
    """An agent that swings up a pendulum."""

    learner: Acting = setting("d3g", "the learning algorithm; set by each arm")
    episodes: int = setting(60, "episodes of 200 steps", ge=1)
    random_steps: int = setting(1000, "initial steps of random actions", ge=0)
    look_every: int = setting(10, "episodes between evaluations", ge=1)
    evaluations: int = setting(10, "episodes in an evaluation", ge=1)


def pendulum(num_envs: int) -> VectorEnv[Any, Any, Any]:
    """Pendulums with observations of equal scale."""
    env = gymnasium.make_vec("Pendulum-v1", num_envs=num_envs, vectorization_mode="sync")
    scaled = gymnasium.spaces.Box(-1.0, 1.0, (3,))
    return TransformObservation(env, lambda observation: observation * SCALE, single_observation_space=scaled)


def trial(config: Pendulum, run: Run) -> dict[str, Any]:
    """Train one agent; the results are its mean return without noise, and how far its proposals reach."""
    env, judged = pendulum(1), pendulum(config.evaluations)
    observed, actions = env.single_observation_space, env.single_action_space
    assert isinstance(observed, gymnasium.spaces.Box)
    assert isinstance(actions, gymnasium.spaces.Box)
    agent = build(config, observed, actions, run)
    buffer = ReplayBuffer(config.episodes * EPISODE, observed, actions, device=run.device)
    for episode in run.steps(config.episodes, agent=agent, buffer=buffer):
        with warnings.catch_warnings():
            if config.learner == "no-cycle":  # it diverges, which is what is studied
                warnings.filterwarnings("ignore", "D3G: proposals are", RuntimeWarning)
            steps = config.random_steps
            live(env, agent, buffer, config, run, random_steps=steps, update=agent.update, reward_scale=0.1)
        if (episode + 1) % config.look_every == 0:
            run.log((episode + 1) * EPISODE, **{"return": mean_return(judged, agent, run)})
    run.keep(agent=agent)
    result = {"return": mean_return(judged, agent, run)}
    if isinstance(agent, D3G):
        result["largest_step"] = largest_step(judged, agent, run)
    return result
