"""Networks learn to find a hidden reward again in a maze, plastic ones more often (Miconi et al., 2018, 2019).

The reward is at a new place in each episode and cannot be seen. An agent that reaches it is moved to another cell, so
it pays to remember where the reward was. What has to be remembered differs between episodes, so it cannot be stored in
the weights.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Literal

import gymnasium
import numpy as np
import torch

from engram import registry
from engram.agents import A2C, ActorCritic, plastic_actor_critic
from engram.lab import (
    Experiment,
    Points,
    Preset,
    Quantity,
    Run,
    Study,
    Task,
    claims_from,
    maximum,
    met,
    metric,
    minimum,
    setting,
    settings,
)
from engram.studies.experiments.choosing import at_best_rate
from engram.studies.experiments.reinforcement import NO_RULE, NON_PLASTIC, learn, rule_of, step_of
from engram.tasks.environments import grid_maze

REWARD = 10.0
OBSERVATION, ACTIONS = 17, 4
RANDOM = "random"
SLOW = "non-plastic-0.001"  # a rate at which none without plasticity ends below what shorter trials promised
RATES = (1e-3, 3e-3, 1e-2)  # candidates, each tried for half of the training; extended if the best is at an end


@settings
class Config:
    """The settings of a trial."""

    rule: str = setting("clipped-hebb", "plasticity rule; none; or random: actions are random and nothing is learned")
    alpha: Literal["connection", "homogeneous"] = setting(
        "connection", "whether each connection has its own plasticity coefficient, or all share one"
    )
    size: int = setting(7, "cells along one side of the maze, including walls; odd", ge=5)
    episode_len: int = setting(80, "steps of an episode", ge=1)
    hidden_size: int = setting(
        32, "units of the modulated network; the other arms have the fewest units with no fewer parameters", ge=1
    )
    batch_size: int = setting(32, "episodes in a batch, each with its own maze", ge=1)
    iterations: int = setting(2000, "steps of the optimiser, each on a batch of whole episodes", ge=10)
    eta: float = setting(0.01, "initial plasticity rate", ge=0, le=1)
    a2c: A2C = setting(A2C(adam_eps=1e-4), "how the agent learns")
    rates: tuple[float, ...] = setting((), "learning rates to choose from in shorter trials; none: that of a2c")

    def __post_init__(self) -> None:
        if self.rule not in (NO_RULE, RANDOM):
            registry.check("plasticity_rules", self.rule, "rule")
        if self.size % 2 == 0:
            raise ValueError(f"size = {self.size}: expected an odd number")


def build(config: Config, generator: torch.Generator) -> ActorCritic:
    """The network of a trial."""
    rule = rule_of(NO_RULE if config.rule == RANDOM else config.rule, config.eta)
    return plastic_actor_critic(OBSERVATION, config.hidden_size, ACTIONS, rule, alpha=config.alpha, generator=generator)


def parameter_count(config: Config) -> int:
    """The number of parameters of the network of a trial."""
    with torch.random.fork_rng(devices=[]):
        return sum(parameter.numel() for parameter in build(config, torch.Generator()).parameters())


def matched(arm: Config) -> int:
    """The fewest units with which an arm has no fewer parameters than the modulated network."""
    n_parameters = parameter_count(replace(arm, rule="modulated", alpha="connection"))
    sizes = itertools.count(arm.hidden_size)
    return next(size for size in sizes if parameter_count(replace(arm, hidden_size=size)) >= n_parameters)


arms: dict[str, dict[str, Any]] = {
    "random": {"rule": "random", "hidden_size": matched},
    "non-plastic": {"rule": "none", "hidden_size": matched},
    SLOW: {"rule": "none", "hidden_size": matched, "rates": ()},
    "oja": {"rule": "oja", "hidden_size": matched},
    "modulated": {"rule": "modulated"},
    "clipped-hebb": {"rule": "clipped-hebb", "hidden_size": matched},
    "retroactive": {"rule": "retroactive", "hidden_size": matched},
}
few = ("random", "non-plastic", SLOW, "oja", "modulated")
small: dict[str, Any] = {"size": 5, "episode_len": 12, "hidden_size": 4, "batch_size": 4, "iterations": 10}
small |= {"oja": {"episode_len": 4}}  # too short for a kernel, which takes seconds to compile
published = {"size": 13, "episode_len": 200, "hidden_size": 100, "batch_size": 30, "iterations": 100_000}
presets = {
    "smoke": Preset(seeds=1, changes=small, arms=few),
    "laptop": Preset(seeds=10, arms=few, changes={"rates": RATES}, looks=(5, 10, 20)),
    "published": Preset(
        seeds=10,
        changes={**published, "a2c.learning_rate": 1e-4},
        arms=[arm for arm in arms if arm != SLOW],
        published="README, job files and figure script of Backpropamine's code; but the advantage subtracts the value "
        "of its own episode, where the code takes that of the first one in the batch",
    ),
}


def environments(config: Config) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """The mazes of a trial."""
    shape: dict[str, Any] = {"size": config.size, "episode_len": config.episode_len, "reward": REWARD}
    return gymnasium.make_vec(grid_maze.ENV_ID, config.batch_size, **shape)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train one agent; the main result is how often it reaches the reward per episode in the last tenth of training."""
    env = environments(config)
    if config.rule == RANDOM:
        return walk_at_random(config, run, env)
    config = at_best_rate(config, run, trial, "iterations", lambda result: float(result["hits"]), part=0.5)
    agent = build(config, run.generator).to(run.device)
    learn(env, agent, config, run, lambda episodes: {"hits": (episodes.rewards > 0).sum() / config.batch_size})
    first, last = run.ends("hits")
    return {"hits": last, "first_hits": first, "parameters": parameter_count(config)}


def walk_at_random(config: Config, run: Run, env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> dict[str, Any]:
    """Play twenty batches of episodes with random actions.

    Args:
        config: The settings.
        run: The run.
        env: The environments.
    """
    for batch in run.steps(20):
        env.reset(seed=int(run.rng.integers(2**31)))
        hits = 0.0
        for _ in range(config.episode_len):
            hits += np.mean(env.step(run.rng.integers(ACTIONS, size=config.batch_size))[1] > 0)
        run.log((batch + 1) * config.iterations // 20, hits=hits)
    return {"hits": run.ends("hits", parts=1)[1]}


def changes_of(rule: str) -> dict[str, Any]:
    """The settings of the arm of a rule, or of a network without plasticity, for a quarter of the time."""
    rule_name = NO_RULE if rule == NON_PLASTIC else rule
    return {"rule": rule_name, "rates": RATES, "iterations": lambda arm: max(10, arm.iterations // 4)}


tasks = [
    Task(
        "plasticity_rules",
        "a hidden reward found again",
        "rule-{}".format,
        changes_of,
        "hits",
        margin=0.2,
        baselines=(*registry.names("plasticity_rules"), NON_PLASTIC),
        trivial=NON_PLASTIC,
        step=lambda config: step_of(environments(config), build(config, torch.Generator()), config.a2c),
    )
]
hits = metric("hits")
claim = claims_from(
    "Backpropamine, section 4.2",
    published="modulated, and retroactive, above non-modulated plastic, rank-sum p < .05 (curves only)",
    seeds=10,
)
claims = [
    claim("plasticity-helps",
        "A network with Oja's rule reaches the reward more often than one without plasticity and with as many "
        "parameters (median ratio)",
        (hits("oja") / hits("non-plastic")).median() >= 1.15,
        source="Differentiable plasticity, abstract and maze/README.md; criterion ours, and the maze of Backpropamine",
        published="plastic outperforms its non-plastic equivalent (curves only)"),
    claim("plasticity-helps-at-either-rate",
        "With Oja's rule a network reaches the reward more often than one without plasticity, be its learning rate "
        "chosen, too, or 0.001 (median ratio to the better of both)",
        (hits("oja") / maximum(hits("non-plastic"), hits(SLOW))).median() >= 1.15, presets=("laptop",), source="ours",
        published=""),
    claim("all-learn",
        "Networks without plasticity, with it and with modulation all reach the reward far more often than chance",
        minimum(hits("non-plastic"), hits("oja"), hits("modulated")) / hits("random") >= 4.0, source="ours",
        published="", seeds=3),
    claim("modulation-helps",
        "A modulated network reaches the reward more often than one with Oja's rule "
        "(median ratio)", (hits("modulated") / hits("oja")).median() >= 1.05,
        source="ours; section 4.2 compares with clipped traces", published=""),
    claim("modulation-beats-clipped-hebb",
        "A modulated network reaches the reward more often than the published baseline with clipped traces",
        hits("modulated") / hits("clipped-hebb") >= 1.05, presets=("published",)),
    claim("retroactive-modulation-helps",
        "A retroactively modulated network reaches the reward more often than the baseline with clipped traces",
        hits("retroactive") / hits("clipped-hebb") >= 1.05, presets=("published",)),
]  # fmt: skip
quantities = [
    Quantity("seeds-far-above-chance", "Share of seeds in which a network with Oja's rule reaches the reward at least "
        "four times as often as chance until the end",
        met(hits("oja") / hits("random") >= 4.0)),
]  # fmt: skip
experiment = Experiment(
    name="maze",
    about=__doc__,
    paper="Miconi, Clune & Stanley, Differentiable plasticity, ICML 2018 (arXiv 1804.02464); "
    "Miconi, Rawal, Clune & Stanley, Backpropamine, ICLR 2019 (arXiv 2002.10585)",
    studies=Study(trial, arms, gpu=True),
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=Points("hits", "Rewards reached per episode over the last tenth of training, one point per seed", "hits"),
    headline="hits",
    tasks=tasks,
    answer="""All networks learn to find the reward again, each at a learning rate chosen by validation {all-learn}. In
    the median they reach it 14 times per episode with Oja's rule, 7 times without plasticity and 1.1 times by chance;
    the rule's lead is {plasticity-helps:0.0}-fold {plasticity-helps}, and until the end it is at least four times as
    often as by chance in {seeds-far-above-chance:0 %} of the seeds. Four of ten networks without plasticity end a third
    or more below what their rate reached in the trials of half the length by which it was chosen; against the better of
    the chosen rate and 0.001, at which none does, it is still 1.86 times as often {plasticity-helps-at-either-rate}.
    With modulation networks reach the reward {modulation-helps:0.00} times as often as with Oja's rule
    {modulation-helps}. So use plasticity, with modulation, and tune the learning rate; the published comparison with
    clipped traces requires the published size.""",
)
