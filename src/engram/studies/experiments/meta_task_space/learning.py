"""Agents that learn within their lifetimes, on a single task or on many unseen ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from torch import nn

from engram.agents import A2C, Rollout, TrainedAgent, meta_actor_critic
from engram.agents.reference import (
    Agent,
    BanditAgent,
    BayesFilterAgent,
    Lifetimes,
    OracleAgent,
    RandomAgent,
    play,
    regret,
)
from engram.analysis import normalized_return, stay_probabilities, within_lifetime_gain
from engram.lab import Run, setting, settings
from engram.studies.experiments.reinforcement import learn
from engram.tasks.meta import MetaTask, MetaTaskVectorEnv, named, pomdp, sample_many
from engram.tasks.meta.wrappers import RL2Observation

# Ours, for few steps of the optimiser: the paper trains no agent.
SETTINGS = A2C(learning_rate=3e-3, clip_norm=50.0, value_coefficient=0.05, entropy_coefficient=0.1)


@settings
class Training:
    """The settings for training and testing an agent; the weight of squared probabilities falls linearly to 0."""

    test_lifetimes: int = setting(64, "lifetimes in each test task; 16 times as many if there is a single task", ge=1)
    horizon: int = setting(100, "steps of a lifetime", ge=8)
    hidden_size: int = setting(48, "units of the network", ge=1)
    batch_size: int = setting(64, "lifetimes in a batch", ge=1)
    iterations: int = setting(800, "steps of the optimiser, each on a batch of whole lifetimes", ge=10)
    a2c: A2C = setting(SETTINGS, "settings of A2C")


@settings
class OneTask(Training):
    """The settings of an agent trained and tested on one named task."""

    task: Literal["bandit", "two-step", "two-step-wang2018"] = setting(
        "bandit", "two dependent arms, the two-step task, or its variant by Wang et al. (2018), with reversals"
    )
    agent: Literal["lstm", "bayes", "greedy", "ucb1"] = setting(
        "lstm", "an LSTM trained on the task; a Bayes filter that knows it; or textbook players of the bandit"
    )

    def __post_init__(self) -> None:
        if self.task != "bandit" and self.agent in ("greedy", "ucb1"):
            raise ValueError(f"agent = {self.agent!r}: expected 'lstm' or 'bayes' with task = {self.task!r}")


TASKS: dict[str, Callable[..., MetaTask]] = {
    "bandit": named.dependent_bandit,
    "two-step": named.two_step,
    "two-step-wang2018": functools.partial(named.two_step, "wang2018"),
}
# Agents without training: a Bayes filter, a greedy player that knows the dependence between the arms, and UCB1.
REFERENCES: dict[str, Callable[[MetaTask, np.random.Generator], Agent]] = {
    "bayes": lambda task, rng: BayesFilterAgent(pomdp(task), rng=rng),
    "greedy": lambda task, rng: BanditAgent("greedy", rng, dependent=True),
    "ucb1": lambda task, rng: BanditAgent("ucb1", rng),
}


@settings
class ManyTasks(Training):
    """The settings of an LSTM trained on random tasks and tested on others."""

    iterations: int = setting(2000, "steps of the optimiser, each on a batch of whole lifetimes", ge=10)
    train_tasks: int = setting(64, "random training tasks", ge=1)
    test_tasks: int = setting(32, "random test tasks, unseen in training", ge=1)


def on_one_task(config: OneTask, run: Run) -> dict[str, Any]:
    """Train an agent on a task, unless it needs no training; the results measure learning within new lifetimes."""
    task = TASKS[config.task](horizon=config.horizon)
    lifetimes = 16 * config.test_lifetimes
    if config.agent in REFERENCES:
        test = MetaTaskVectorEnv(task, lifetimes)
        lived = play(test, REFERENCES[config.agent](task, run.rng), seed=int(run.rng.integers(2**31)))
        run.log(1, reward=lived.rewards.mean())
    else:
        test, lived, _ = lives(config, run, [task], [task], lifetimes)
    result = {"reward": float(lived.rewards.mean()), "gain": float(np.mean(within_lifetime_gain(lived.rewards)))}
    if config.task == "bandit":
        return result | {"regret": float(regret(test.unwrapped, lived).mean())}
    choices, rewarded = lived.actions[:, ::2], lived.rewards[:, 1::2] > 0
    common = (lived.reached[:, ::2] == 1) == (choices == 1)  # action 1 commonly leads to state 1
    stays = stay_probabilities(choices[:, : rewarded.shape[1]], rewarded, common[:, : rewarded.shape[1]])
    # If the choice is always the same, some of these probabilities have no trials.
    return result | {
        "reward_per_trial": float(lived.rewards.sum(1).mean() / rewarded.shape[1]),
        "stays": np.nan_to_num(stays, nan=0.5).tolist(),
    }


def on_many_tasks(config: ManyTasks, run: Run) -> dict[str, Any]:
    """Train an agent on random tasks; the results measure learning within lifetimes of unseen ones."""
    train, test = tasks_of(config, int(run.rng.integers(2**31)))
    env, lived, seed = lives(config, run, train, test, len(test) * config.test_lifetimes)
    task_env = env.unwrapped
    random = play(task_env, RandomAgent(np.random.default_rng(seed)), seed=seed)
    oracle = play(task_env, OracleAgent(), seed=seed)
    quarter = lived.rewards.shape[1] // 4

    def score(part: slice) -> float:
        # Over all tasks together, since the scores of tasks with little to gain are mostly noise.
        achieved, chance, best = (float(played.rewards[:, part].mean()) for played in (lived, random, oracle))
        return float(normalized_return(achieved, chance, best)) if best > chance else 0.0

    return {
        "reward": float(lived.rewards.mean()),
        "gain": float(np.mean(within_lifetime_gain(lived.rewards))),
        "first_quarter": score(slice(0, quarter)),
        "last_quarter": score(slice(-quarter, None)),
    }


def tasks_of(config: ManyTasks, seed: int) -> tuple[list[MetaTask], list[MetaTask]]:
    """The training and test tasks."""
    train = sample_many(config.train_tasks, seed, split="train", horizon=config.horizon)
    return train, sample_many(config.test_tasks, seed, split="test", horizon=config.horizon)


def observed(tasks: list[MetaTask], num_envs: int, *, memory: bool = True) -> Any:
    """Environments whose observations include the last action and reward if ``memory`` is true.

    Args:
        tasks: The tasks.
        num_envs: Number of environments.
        memory: Whether observations include the last action and reward.
    """
    return RL2Observation(MetaTaskVectorEnv(tasks, num_envs), prev_action=memory, prev_reward=memory)


def in_parts(tasks: list[MetaTask], num_envs: int, *, memory: bool = True) -> list[Any]:
    """Environments of all tasks, to be used in turn: several if there are more tasks than environments at once.

    Args:
        tasks: The tasks.
        num_envs: Number of environments at once.
        memory: As in ``observed``.
    """
    parts = [tasks[first : first + num_envs] for first in range(0, len(tasks), num_envs)]
    return [observed(part, num_envs, memory=memory) for part in parts]


def rewarded(episodes: Rollout) -> dict[str, Any]:
    """The mean reward per step."""
    return {"reward": episodes.rewards.sum() / episodes.mask.sum()}


def lives(
    config: Training, run: Run, train: list[MetaTask], test: list[MetaTask], lifetimes: int
) -> tuple[Any, Lifetimes, int]:
    """Train an LSTM and run it through test lifetimes; return their environment, the lifetimes and their seed.

    Args:
        config: The settings of training.
        run: The run.
        train: The training tasks.
        test: The test tasks.
        lifetimes: Number of test lifetimes.
    """
    envs = in_parts(train, config.batch_size)
    features, actions = envs[0].single_observation_space.shape[0], int(envs[0].single_action_space.n)
    network = nn.LSTM(features, config.hidden_size)
    agent = meta_actor_critic(network, actions, generator=run.generator).to(run.device)
    learn(envs, agent, config, run, rewarded, falling=True)
    env = observed(test, lifetimes)
    seed = int(run.rng.integers(2**31))
    return env, play(env, TrainedAgent(agent, run.generator), seed=seed), seed
