"""Agents of several kinds on the same meta-reinforcement-learning tasks: which memory learns to learn?

An LSTM keeps what it finds out in its activity, a plastic network also in its synapses, and a neuromodulated one
decides when these change. All are trained alike on many random meta-tasks, and live in others that they have never
seen: random ones, and those of the literature.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import plotly.graph_objects as go
import torch
from annotated_types import Ge
from torch import nn

from engram.agents import A2C, ActorCritic, TrainedAgent, meta_actor_critic, plastic_actor_critic
from engram.agents.reference import Agent, BayesFilterAgent, OracleAgent, RandomAgent, play
from engram.analysis import normalized_return
from engram.experiments.meta_task_space.learning import observed, rewarded
from engram.experiments.reinforcement import learn
from engram.lab import Arm, Experiment, Measure, Preset, Results, Run, arms_of, claimed, largest, least, smallest, value
from engram.nn import Memoryless
from engram.plasticity import ClippedHebb, Modulated
from engram.tasks.meta import MetaTask, named, pomdp, sample_many

TASKS_SEED = 0  # the same tasks for all seeds of the agents
OBSERVATION, ACTIONS = 9, 2  # stimulus of five bits, last action, last reward and time


@dataclass(frozen=True)
class Config:
    """What one trial is made of; the weight of squared probabilities falls to 0 in a straight line."""

    agent: Literal["memoryless", "rnn", "lstm", "plastic", "modulated", "bayes"] = "modulated"
    """Who acts: a network, or a filter that knows each task and infers the instance."""
    train_tasks: Annotated[int, Ge(1)] = 64
    """Random tasks that a network is trained on."""
    test_tasks: Annotated[int, Ge(1)] = 12
    """Random tasks, never trained on, that every agent is tested on, beside those of the literature."""
    test_lifetimes: Annotated[int, Ge(1)] = 400
    """Lifetimes of each of these."""
    horizon: Annotated[int, Ge(8)] = 50
    """Steps of a lifetime."""
    hidden_size: Annotated[int, Ge(1)] = 32
    """Units of the neuromodulated network; others with memory have as many as make up as many parameters."""
    batch_size: Annotated[int, Ge(1)] = 256
    """Lifetimes in a batch."""
    iterations: Annotated[int, Ge(10)] = 1200
    """Steps of the optimiser, each on a batch of whole lifetimes."""
    points: Annotated[int, Ge(1)] = 9
    """Values that stand for a probability between 0 and 1 in the filter's inference."""
    a2c: A2C = A2C(learning_rate=3e-3, value_coefficient=0.05, entropy_coefficient=0.1)


LEARNERS = ("rnn", "lstm", "plastic", "modulated")  # what remembers
LITERATURE: dict[str, Callable[..., MetaTask]] = {
    "Harlow": named.harlow,
    "T-maze": named.t_maze,
    "T-maze with cue": named.cue_t_maze,
    "two-step": named.two_step,
    "match or not": partial(named.two_stimulus, ["dms", "dnms"]),
    **{f"example {number}": partial(named.example, number) for number in (1, 2, 3)},
}


def arms(config: Config) -> dict[str, Arm]:
    """Networks with as many parameters and more and more ways to remember, between one without memory and inference."""
    budget, found = parameter_count(replace(config, agent="modulated")), {}
    for agent in ("memoryless", *LEARNERS, "bayes"):
        arm = replace(config, agent=agent)  # type: ignore[arg-type]
        found[agent] = matched(arm, budget) if agent in LEARNERS else arm
    return arms_of(trial, found, seconds)


def matched(config: Config, budget: int) -> Config:
    """Return the smallest network that has as many parameters."""
    sized = [replace(config, hidden_size=size) for size in range(1, 4 * config.hidden_size)]
    return sized[bisect.bisect_left(sized, budget, key=parameter_count)]


def parameter_count(config: Config) -> int:
    """Return how many parameters the network of a trial has."""
    with torch.random.fork_rng(devices=[]):
        return sum(parameter.numel() for parameter in build(config, torch.Generator()).parameters())


def build(config: Config, generator: torch.Generator) -> ActorCritic:
    """Build the network of a trial; one without memory sees no action and no reward."""
    size = config.hidden_size
    if config.agent in {"memoryless", "lstm"}:
        lstm = config.agent == "lstm"
        network = nn.LSTM(OBSERVATION, size) if lstm else Memoryless(OBSERVATION - ACTIONS - 1, size)
        return meta_actor_critic(network, ACTIONS, generator=generator)
    rule = {"rnn": None, "plastic": ClippedHebb(), "modulated": Modulated()}[config.agent]
    return plastic_actor_critic(OBSERVATION, size, ACTIONS, rule, generator=generator)


def test_set(config: Config) -> dict[str, MetaTask]:
    """Return the tasks to be tested on: of the literature, and random ones of another split than those of training."""
    found = {name: task(horizon=config.horizon) for name, task in LITERATURE.items()}
    drawn = sample_many(config.test_tasks, TASKS_SEED, split="test", horizon=config.horizon)
    return found | {f"random {number}": task for number, task in enumerate(drawn, 1)}


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train one agent if it is a network; its result is how it does in tasks that it was not trained on."""
    if config.agent == "bayes":
        return tested(config, run, lambda task: BayesFilterAgent(pomdp(task, points=config.points), generator=run.rng))
    tasks = sample_many(config.train_tasks, TASKS_SEED, split="train", horizon=config.horizon)
    env = observed(tasks, config.batch_size, memory=config.agent != "memoryless")
    agent = build(config, run.generator).to(run.device)
    learn(env, agent, config, run, rewarded, falling=True)
    return tested(config, run, lambda _: TrainedAgent(agent, run.generator)) | {"parameters": parameter_count(config)}


def tested(config: Config, run: Run, agent_of: Callable[[MetaTask], Agent]) -> dict[str, Any]:
    """Return how an agent does in the tasks of the test: 0 is chance, 1 is who knows the instance."""
    tests = test_set(config)
    rewards = np.zeros((3, len(tests), config.horizon))  # of chance, of the agent, of the oracle
    first = int(run.rng.integers(2**31))
    for i in run.steps(len(tests), rewards=rewards):
        task = list(tests.values())[i]
        env = observed([task], config.test_lifetimes, memory=config.agent != "memoryless")
        if config.agent == "bayes":
            env = env.unwrapped
        seed = first + i * config.test_lifetimes  # of lifetime 0; the next one has the next seed
        rewards[0, i] = play(env.unwrapped, RandomAgent(np.random.default_rng(seed)), seed=seed).rewards.mean(0)
        rewards[1, i] = play(env, agent_of(task), seed=seed).rewards.mean(0)
        rewards[2, i] = play(env.unwrapped, OracleAgent(), seed=seed).rewards.mean(0)

    def score(tasks: slice = slice(None), steps: slice = slice(None)) -> float:
        # Of tasks together, so that those with little to gain do not add more noise than they tell.
        chance, mine, best = rewards[:, tasks, steps].mean((1, 2))
        return float(np.nan_to_num(normalized_return(mine, chance, best)))

    literature, quarter = len(LITERATURE), config.horizon // 4
    return {
        "score": score(),
        "random": score(slice(literature, None)),
        "gain": score(steps=slice(-quarter, None)) - score(steps=slice(quarter)),
        "tasks": {name: round(score(slice(i, i + 1)), 4) for i, name in enumerate(tests)},
    }


def score_in(task: str, arm: str) -> Measure:
    """Return how an arm does in one task."""
    return Measure(lambda results: float(results[arm]["tasks"][task]), (arm,))


ours = partial(claimed, source="ours", published="none")
claims = [
    ours(
        "above-chance",
        "In random tasks that they have never seen, all networks with memory do better than chance: their share of "
        "what the oracle gains over chance is 0.1 or more",
        smallest("random", *LEARNERS) >= 0.1,
    ),
    *(
        ours(
            f"above-chance-{task.lower().replace(' ', '-')}",
            f"In a task of the literature ({task}) all networks with memory do better than chance: their share of "
            "what the oracle gains over chance is 0.1 or more",
            least(*(score_in(task, arm) for arm in LEARNERS)) >= 0.1,
        )
        for task in LITERATURE
    ),
    ours(
        "memory-pays",
        "In random tasks networks with memory do better, by 0.05 or more, than a network that sees the present only",
        smallest("random", *LEARNERS) - value("memoryless", "random") >= 0.05,
    ),
    ours(
        "learns-in-life",
        "The LSTM learns in its lifetime: its share in the last quarter is above that in the first by 0.1",
        value("lstm", "gain") >= 0.1,
        source="the criterion of meta-task-space, for fewer and shorter lifetimes",
    ),
    ours(
        "all-learn-in-life",
        "Recurrent networks, plastic or not, learn in their lifetime: their share in the last quarter is above that "
        "in the first by 0.1",
        smallest("gain", "rnn", "plastic", "modulated") >= 0.1,
    ),
    ours(
        "plasticity-helps",
        "The plastic network does better than one of as many parameters that is not plastic",
        value("plastic", "score") - value("rnn", "score") >= 0.0,
        source="Differentiable plasticity, abstract, and Backpropamine, section 4.2; here for other tasks",
        published="plastic above non-plastic in a maze (curves only)",
    ),
    ours(
        "modulation-helps",
        "The neuromodulated network does better than the plastic one that is not modulated",
        value("modulated", "score") - value("plastic", "score") >= 0.0,
        source="Backpropamine, sections 4.1 and 4.2; here for other tasks",
        published="modulated above non-modulated with cues and in a maze (curves only)",
    ),
    ours(
        "inference-is-above",
        "Who knows each task and infers the instance does better than all networks by 0.05 or more",
        value("bayes", "score") - largest("score", *LEARNERS) >= 0.05,
        sameness="identity",
    ),
]


def figure(results: Results) -> go.Figure:
    """The share of what the oracle gains over chance, agents by tasks, mean over seeds."""
    found = {arm: [seed[arm]["tasks"] for seed in results.by_seed.values() if arm in seed] for arm in results.arms}
    shares = {
        arm: {task: np.mean([one[task] for one in seeds]) for task in seeds[0]} for arm, seeds in found.items() if seeds
    }
    tasks = list(next(iter(shares.values()), {}))
    table = [[row[task] for row in shares.values()] for task in tasks]
    heat = go.Heatmap(z=table, x=list(shares), y=tasks, zmin=0, zmax=1, colorscale="Viridis", texttemplate="%{z:.2f}")
    title = "Unseen tasks: share of what the oracle gains over chance"
    return go.Figure(heat).update_layout(title=title, yaxis_autorange="reversed", height=140 + 26 * len(tasks))


def seconds(config: Config) -> float:
    """Time of a trial on one core: that of testing, and of each step of acting and learning."""
    tests = (len(LITERATURE) + config.test_tasks) * config.horizon * (1e-3 + config.test_lifetimes * 12e-6)
    if config.agent == "bayes":
        return 1 + tests
    n = config.hidden_size
    plain = {"memoryless": (230e-6, 25e-9 * n), "rnn": (400e-6, 42e-9 * n), "lstm": (410e-6, 90e-9 * n)}
    fixed, units = plain.get(config.agent, (570e-6, 3.8e-9 * n**2))  # or one with plastic synapses
    return 1 + tests + config.iterations * config.horizon * (fixed + units * config.batch_size)


SMOKE = Config(
    train_tasks=2, test_tasks=1, test_lifetimes=2, horizon=8, hidden_size=4, batch_size=2, iterations=10, points=1
)
PAPER = Config(train_tasks=1000, test_tasks=92, horizon=100, hidden_size=100, iterations=100_000)
experiment = Experiment(
    name="meta-rl-agents",
    summary="LSTMs, plastic and neuromodulated networks learn to learn on the same random tasks, and meet unseen ones",
    paper="Tasks: Miconi, Procedural generation of meta-reinforcement learning tasks, 2023 (arXiv 2302.05583); agents: "
    "Wang et al., Learning to reinforcement learn, 2016 (arXiv 1611.05763), Miconi et al., Backpropamine, ICLR 2019",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=4), "paper": Preset(PAPER, seeds=5)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="reward",
)
