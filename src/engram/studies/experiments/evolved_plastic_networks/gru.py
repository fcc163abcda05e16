"""The arm without evolution: a GRU trained by back-propagation, which learns through its activity."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from torch import nn

from engram.agents import A2C, TrainedAgent, a2c_step, meta_actor_critic, rollout
from engram.agents.reference import play
from engram.lab import Run, setting, settings
from engram.studies.experiments.evolved_plastic_networks.evolution import Withheld, training_tasks
from engram.tasks.meta import MetaTaskVectorEnv, named
from engram.tasks.meta.wrappers import RL2Observation

STEPS = 3  # of a trial in the discrete version of the tasks
UNITS, TRIALS, LIVES = 64, 20, 64
SETTINGS = A2C(clip_norm=50.0, value_coefficient=0.05, entropy_coefficient=0.1)


@settings
class Config:
    """The settings of the tasks, training and the final test."""

    withheld: Withheld = setting("dms", "the task withheld from training, together with its negation")
    iterations: int = setting(1000, "steps of the optimiser", ge=1)
    rates: tuple[float, ...] = setting(
        (3e-3, 1e-2, 3e-2), "candidate learning rates, chosen by rewards on the training tasks"
    )
    tried: int = setting(200, "steps of the optimiser for trying each rate", ge=1)
    test_lives: int = setting(64, "lifetimes in a test, divided by twelve", ge=2)


def twin(tasks: tuple[str, ...], trials: int, lifetimes: int) -> Any:
    """Lifetimes of the discrete version of the tasks.

    Args:
        tasks: The names of the tasks.
        trials: Number of trials in a lifetime.
        lifetimes: Number of lifetimes, which run side by side.
    """
    with warnings.catch_warnings(action="ignore"):  # about a single task being always the same
        task = named.two_stimulus(tasks, horizon=STEPS * trials)
    return RL2Observation(MetaTaskVectorEnv(task, lifetimes), time=False)


class Training:
    """The training of a GRU at a learning rate.

    Args:
        rate: The learning rate.
        config: The settings.
        run: The run whose random generators are used.
        iterations: The number of training steps.
    """

    def __init__(self, rate: float, config: Config, run: Run, iterations: int) -> None:
        self.env, self.run, self.iterations = twin(training_tasks(config.withheld), TRIALS, LIVES), run, iterations
        network = nn.GRU(self.env.single_observation_space.shape[0], UNITS)
        self.agent = meta_actor_critic(network, 2, generator=run.generator).to(run.device)
        self.settings = replace(SETTINGS, learning_rate=rate)
        self.optimizer = self.settings.optimizer(self.agent)

    def step(self, iteration: int) -> float:
        """Run a batch of lifetimes, learn from them, and return the accuracy."""
        seed = int(self.run.rng.integers(2**31))
        episodes = rollout(self.env, self.agent, self.run.generator, seed=seed, truncation="terminal")
        entropy = SETTINGS.entropy_coefficient * (1 - iteration / self.iterations)
        a2c_step(self.agent, self.optimizer, episodes, replace(self.settings, entropy_coefficient=entropy))
        return float(episodes.rewards[STEPS - 1 :: STEPS].mean())


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train a GRU on the discrete version of the tasks; the results are its accuracies in new lifetimes."""

    def score(rate: float) -> float:
        training = Training(rate, config, run, config.tried)
        return sum([training.step(iteration) for iteration in range(config.tried)][-max(1, config.tried // 10) :])

    training = Training(run.choose("learning_rate", config.rates, score), config, run, config.iterations)
    for iteration in run.steps(config.iterations, agent=training.agent, optimizer=training.optimizer):
        accuracy = training.step(iteration)
        if (iteration + 1) % max(1, config.iterations // 100) == 0:
            run.log(iteration + 1, accuracy=accuracy)
    run.keep(agent=training.agent)

    def test_accuracy(tasks: tuple[str, ...]) -> float:
        env = twin(tasks, 100, 12 * config.test_lives)
        episodes = play(env, TrainedAgent(training.agent, run.generator), seed=int(run.rng.integers(2**31)))
        return float(episodes.rewards[:, STEPS - 1 :: STEPS].mean())

    return {
        "accuracy": test_accuracy(training_tasks(config.withheld)),
        "withheld_accuracy": test_accuracy((config.withheld,)),
    }
