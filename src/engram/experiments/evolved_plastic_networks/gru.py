"""The arm without evolution: a GRU that is trained by back-propagation and learns by its activity."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from torch import nn

from engram.agents import A2C, TrainedAgent, a2c_step, meta_actor_critic, rollout
from engram.agents.reference import play
from engram.experiments.evolved_plastic_networks.evolution import Withheld, training_tasks
from engram.lab import Run, setting, settings
from engram.tasks.meta import MetaTaskVectorEnv, named
from engram.tasks.meta.wrappers import RL2Observation

STEPS = 3  # of a trial of the discrete twin
UNITS, TRIALS, LIVES = 64, 20, 64
SETTINGS = A2C(learning_rate=3e-3, clip_norm=50.0, value_coefficient=0.05, entropy_coefficient=0.1)


@settings
class Config:
    """The tasks, training and the test after it."""

    withheld: Withheld = setting("dms", "the task that is not trained, nor its negation")
    iterations: int = setting(1000, "steps of the optimiser", ge=1, scales=True)
    test_lives: int = setting(64, "a twelfth of the lifetimes of a test", ge=2)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train a GRU on the discrete twin of the tasks; its result is what it does in lifetimes of its own."""

    def twin(tasks: tuple[str, ...], trials: int, lifetimes: int) -> Any:
        with warnings.catch_warnings(action="ignore"):  # that a single task is always the same
            task = named.two_stimulus(tasks, horizon=STEPS * trials)
        return RL2Observation(MetaTaskVectorEnv(task, lifetimes), time=False)

    env = twin(training_tasks(config.withheld), TRIALS, LIVES)
    network = nn.GRU(env.single_observation_space.shape[0], UNITS)
    agent = meta_actor_critic(network, 2, generator=run.generator).to(run.device)
    optimizer, iterations = SETTINGS.optimizer(agent), config.iterations
    for iteration in run.steps(iterations, agent=agent, optimizer=optimizer):
        episodes = rollout(env, agent, run.generator, seed=int(run.rng.integers(2**31)))
        left = 1 - iteration / iterations
        a2c_step(agent, optimizer, episodes, replace(SETTINGS, entropy_coefficient=SETTINGS.entropy_coefficient * left))
        if (iteration + 1) % max(1, iterations // 100) == 0:
            run.log(iteration + 1, accuracy=episodes.rewards[STEPS - 1 :: STEPS].mean())
    run.keep(agent=agent)

    def accuracy(tasks: tuple[str, ...]) -> float:
        env = twin(tasks, 100, 12 * config.test_lives)
        lived = play(env, TrainedAgent(agent, run.generator), seed=int(run.rng.integers(2**31)))
        return float(lived.rewards[:, STEPS - 1 :: STEPS].mean())

    return {"accuracy": accuracy(training_tasks(config.withheld)), "withheld_accuracy": accuracy((config.withheld,))}
