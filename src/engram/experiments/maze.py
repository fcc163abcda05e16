"""Finding a reward in a maze again, by plastic networks and by modulated ones (Miconi et al., 2018 and 2019).

The reward is somewhere else in each episode and cannot be seen. Whoever reaches it is put on another cell, so that it
pays to remember where it was. What is remembered differs from episode to episode, so it cannot be in the weights.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import gymnasium
import numpy as np
import plotly.graph_objects as go
import torch
from annotated_types import Ge, Le

from engram.agents import A2C, ActorCritic, plastic_actor_critic
from engram.experiments import reinforcement
from engram.experiments.reinforcement import learn, rule_of
from engram.lab import Arm, Experiment, Preset, Results, Run, arms_of, claimed, narrow, smallest, value
from engram.lab.curves import points_by_arm
from engram.tasks.environments import grid_maze

REWARD = 10.0
OBSERVATION, ACTIONS = 17, 4


@dataclass(frozen=True)
class Training:
    """What one trial is made of."""

    rule: Literal["hebb", "oja", "clipped-hebb", "modulated", "retroactive", "none", "random"] = "clipped-hebb"
    """How the synapses change; none: not at all, random: nobody learns and every action is as likely."""
    alpha: Literal["connection", "homogeneous"] = "connection"
    """What has a plasticity coefficient of its own: each connection, or the whole network."""
    size: Annotated[int, Ge(5)] = 7
    """Cells along one side of the maze, walls included; odd."""
    episode_len: Annotated[int, Ge(1)] = 80
    """Steps of an episode."""
    hidden_size: Annotated[int, Ge(1)] = 32
    """Units of the network."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Episodes in a batch; each has a maze of its own."""
    iterations: Annotated[int, Ge(10)] = 2000
    """Steps of the optimiser, each on a batch of whole episodes."""
    eta: Annotated[float, Ge(0), Le(1)] = 0.01
    """Initial plasticity rate."""
    a2c: A2C = A2C(adam_eps=1e-4)

    def __post_init__(self) -> None:
        if self.size % 2 == 0:
            raise ValueError(f"size = {self.size}: expected an odd number")


@dataclass(frozen=True)
class Config(Training):
    """The training of all arms."""

    all_rules: bool = False
    """Add the other rules, a network with a single alpha, and the modulated one trained with the published defect."""


def arms(config: Config) -> dict[str, Arm]:
    """Walking at random, and a network without plasticity, with it, and with modulation, as large as one another.

    The last has the fewest units; the others have as many as it takes to have no fewer parameters.
    """
    base = narrow(config, Training)
    found = {
        "random": replace(base, rule="random"),
        "non-plastic": replace(base, rule="none"),
        "oja": replace(base, rule="oja"),
        "modulated": replace(base, rule="modulated"),
    }
    if config.all_rules:
        found |= {
            "hebb": replace(base, rule="hebb"),
            "clipped-hebb": replace(base, rule="clipped-hebb"),
            "homogeneous": replace(base, rule="clipped-hebb", alpha="homogeneous"),
            "retroactive": replace(base, rule="retroactive"),
            "modulated-author-baseline": replace(
                base, rule="modulated", a2c=replace(config.a2c, author_value_bug=True)
            ),
        }
    least = parameter_count(found["modulated"])
    for arm, of_arm in found.items():
        sizes = (replace(of_arm, hidden_size=size) for size in itertools.count(config.hidden_size))
        found[arm] = next(matched for matched in sizes if parameter_count(matched) >= least)
    return arms_of(trial, found, seconds)


def parameter_count(config: Training) -> int:
    """Return how many parameters the network of a trial has."""
    with torch.random.fork_rng(devices=[]):
        return sum(parameter.numel() for parameter in build(config, torch.Generator()).parameters())


def build(config: Training, generator: torch.Generator) -> ActorCritic:
    """Build the network of a trial."""
    rule = rule_of(config.rule, config.eta)
    return plastic_actor_critic(OBSERVATION, config.hidden_size, ACTIONS, rule, alpha=config.alpha, generator=generator)


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Train one agent; its result is how often it reaches the reward in an episode, over the last tenth of training."""
    shape: dict[str, Any] = {"size": config.size, "episode_len": config.episode_len, "reward": REWARD}
    env = gymnasium.make_vec(grid_maze.ENV_ID, config.batch_size, **shape)
    if config.rule == "random":
        return walk_at_random(config, run, env)
    agent = build(config, run.generator).to(run.device)
    learn(env, agent, config, run, lambda episodes: {"hits": (episodes.rewards > 0).sum() / config.batch_size})
    first, last = run.ends("hits")
    return {"hits": last, "first_hits": first, "parameters": parameter_count(config)}


def walk_at_random(config: Training, run: Run, env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> dict[str, Any]:
    """Play twenty batches of episodes without looking."""
    for batch in run.steps(20):
        env.reset(seed=int(run.rng.integers(2**31)))
        hits = 0.0
        for _ in range(config.episode_len):
            hits += np.mean(env.step(run.rng.integers(ACTIONS, size=config.batch_size))[1] > 0)
        run.log((batch + 1) * config.iterations // 20, hits=hits)
    return {"hits": run.ends("hits", parts=1)[1]}


modulation = partial(claimed, source="Backpropamine, section 4.2", threshold="paper", seeds=10)
claims = [
    claimed(
        "plasticity-helps",
        "A plastic network (Oja's rule) reaches the reward at least 1.15 times as often as one without plasticity that "
        "has as many parameters",
        value("oja", "hits") / value("non-plastic", "hits") >= 1.15,
        source="Differentiable plasticity, abstract and maze/README.md; criterion ours",
        published="plastic outperforms its non-plastic equivalent (curves only)",
    ),
    claimed(
        "all-learn",
        "Networks without plasticity, with it and with modulation each reach the reward four times as often as chance",
        smallest("hits", "non-plastic", "oja", "modulated") / value("random", "hits") >= 4.0,
        source="ours",
        published="all of them learn (curves only)",
    ),
    modulation(
        "modulation-helps",
        "A modulated network reaches the reward more often than one with Oja's rule, the best that is not modulated",
        value("modulated", "hits") / value("oja", "hits") >= 1.0,
        published="modulated above non-modulated plastic, rank-sum p < .05 (curves only)",
    ),
    modulation(
        "modulation-beats-clipped-hebb",
        "A modulated network reaches the reward more often than the published baseline, with clipped traces",
        value("modulated", "hits") / value("clipped-hebb", "hits") >= 1.0,
        published="modulated above non-modulated plastic, rank-sum p < .05 (curves only)",
        presets=("paper",),
    ),
    modulation(
        "retroactive-modulation-helps",
        "A retroactively modulated network reaches the reward more often than the published baseline, with clipped "
        "traces",
        value("retroactive", "hits") / value("clipped-hebb", "hits") >= 1.0,
        published="retroactive above non-modulated plastic, rank-sum p < .05 (curves only)",
        presets=("paper",),
    ),
]


def figure(results: Results) -> go.Figure:
    """Each trial's hits over its last tenth, arm by arm."""
    title = "How often the reward is reached in an episode, over the last tenth of training, one point a seed"
    return points_by_arm(results, "hits", title, "hits per episode")


def seconds(config: Training) -> float:
    """Time of a trial on one core."""
    return 20 * config.episode_len * 30e-6 if config.rule == "random" else reinforcement.seconds(config)


SMOKE = Config(size=5, episode_len=12, hidden_size=4, batch_size=4, iterations=10)
PAPER = Config(
    size=13,
    episode_len=200,
    hidden_size=100,
    batch_size=30,
    iterations=100_000,
    a2c=A2C(learning_rate=1e-4, adam_eps=1e-4),
    all_rules=True,
)
experiment = Experiment(
    name="maze",
    summary="Plastic networks find a hidden reward in a maze again better than non-plastic ones",
    paper="Miconi, Clune & Stanley, Differentiable plasticity, ICML 2018 (arXiv 1804.02464); "
    "Miconi, Rawal, Clune & Stanley, Backpropamine, ICLR 2019 (arXiv 2002.10585)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=10), "paper": Preset(PAPER, seeds=10)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="hits",
)
