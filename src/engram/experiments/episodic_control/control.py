"""Agents with an episodic memory, or a table, in an environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import gymnasium
import numpy as np
import polars as pl
from annotated_types import Ge, Gt, Le

from engram.agents import MFEC, NEC, EpsilonGreedy, OnlineAgent, TabularQ, evaluate, play_episode
from engram.lab import Run
from engram.memory import DND, KeyValueMemory
from engram.memory.episodic import policies
from engram.nn import RandomProjection, pixel_encoder, vector_encoder
from engram.tasks.environments.atari import make_atari, ram

PolicyName = Literal["lru", "max-surprise", "max-value", "k-means", "dkm-author", "dkm", "dkm-short", "fifo", "random"]
POLICIES: dict[PolicyName, Callable[[], policies.Policy]] = {
    "lru": policies.LRU,
    "max-surprise": policies.MaxSurprise,
    "max-value": policies.MaxValue,
    "k-means": lambda: policies.KMeans(weighting="author"),
    "dkm-author": lambda: policies.DynamicKMeans(weighting="author"),
    "dkm": lambda: policies.DynamicKMeans(horizon=8.0),
    "dkm-short": policies.DynamicKMeans,
    "fifo": policies.FIFO,
    "random": policies.RandomReplacement,
}
FORMS: tuple[PolicyName, ...] = ("lru", "dkm-author", "dkm")
PAIR: tuple[PolicyName, ...] = ("lru", "dkm")
OTHERS: tuple[PolicyName, ...] = ("max-surprise", "max-value", "k-means", "fifo", "random")
Game = Literal["Pong", "Bowling", "MsPacman", "SpaceInvaders", "Qbert"]
GAMES: tuple[Game, ...] = get_args(Game)  # of Atari
PIXELS = 4 * 84 * 84
# Where a grid for tabular Q-learning begins and ends, and its cells.
GRIDS: dict[str, tuple[list[float], list[float], list[int]]] = {
    "CartPole-v1": ([-2.4, -3.0, -0.21, -3.5], [2.4, 3.0, 0.21, 3.5], [4, 4, 8, 8]),
}
CHUNKS, SHORTEST = 100, 40  # most points of a curve of returns, and least steps between two


@dataclass(frozen=True)
class Config:
    """The agent, and where it acts."""

    environment: Literal["CartPole-v1", "engram/FourRoom-v0", Game] = "CartPole-v1"
    """Where the agent acts."""
    learner: Literal["mfec", "nec", "tabular-q"] = "mfec"
    """The agent."""
    policy: PolicyName = "lru"
    """What the memory keeps."""
    value_update: Literal["max", "mean", "ema"] = "max"
    """What becomes of a value when its state comes again."""
    capacity: Annotated[int, Ge(2)] = 100
    """Rows for each action."""
    neighbours: Annotated[int, Ge(1)] = 11
    """Rows that an estimate is made from."""
    gamma: Annotated[float, Ge(0), Le(1)] = 0.99
    """Discount for each step."""
    epsilon: Annotated[float, Ge(0), Le(1)] = 0.005
    """Share of random actions in the end."""
    explore_from: Annotated[int, Ge(0)] = 500
    """Step up to which all actions are random."""
    explore_until: Annotated[int, Ge(0)] = 4000
    """Step from which there are no more random actions than in the end."""
    steps: Annotated[int, Ge(100)] = 40_000
    """Steps of an agent; the last episode is played to its end."""
    agents: Annotated[int, Ge(1)] = 1
    """Agents in one trial, each on its own; their returns are averaged."""
    key_dim: Annotated[int, Ge(1)] = 32
    """Length of keys that are learned or projected; else an observation is its own key."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 5e-4
    """Of a learned encoder."""
    learning_starts: Annotated[int, Ge(0)] = 1000
    """Steps before an encoder is trained."""

    def __post_init__(self) -> None:
        if self.explore_from > self.explore_until:
            until = f"explore_until = {self.explore_until}"
            raise ValueError(f"explore_from = {self.explore_from}: expected at most {until}")


def build(config: Config, run: Run, env: gymnasium.Env[Any, Any]) -> OnlineAgent:
    """Build the agent of a trial."""
    actions = int(env.action_space.n)  # type: ignore[attr-defined]
    exploration = EpsilonGreedy(config.epsilon, config.explore_from, config.explore_until)
    if config.learner == "tabular-q":
        return TabularQ(*GRIDS[config.environment], actions, rng=run.rng, exploration=exploration, gamma=config.gamma)
    pixels, features = config.environment in GAMES, int(np.prod(env.observation_space.shape or ()))
    table: dict[str, Any] = {
        "key_dim": config.key_dim if pixels or config.learner == "nec" else features,
        "policy": POLICIES[config.policy](),
        "tables": actions,
        "hash_dim": 128 if pixels else None,
        "assign": "hash" if pixels else "key",
        "value_update": config.value_update,
        "generator": run.generator,
    }
    acting: dict[str, Any] = {"rng": run.rng, "exploration": exploration, "k": config.neighbours, "gamma": config.gamma}
    if config.learner == "nec":
        dim, source = config.key_dim, run.generator
        encoder = pixel_encoder(dim, generator=source) if pixels else vector_encoder(features, dim, generator=source)
        acting |= {"learning_rate": config.learning_rate, "learning_starts": config.learning_starts}
        return NEC(DND(config.capacity, **table), encoder.to(run.device), **acting)
    embedding = RandomProjection(PIXELS, config.key_dim, rng=run.rng) if pixels else None
    return MFEC(KeyValueMemory(config.capacity, **table), embedding=embedding, **acting)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Let agents act and learn; the result is the mean return of the episodes in the last quarter of training."""
    pixels = config.environment in GAMES
    envs = [_make(config.environment) for _ in range(config.agents)]
    agents = [build(config, run, env) for env in envs]
    states = _random_states(envs[0], run) if pixels else []
    whole_games = _make(config.environment, training=False) if pixels else None
    late = np.zeros((config.agents, 2))  # of each agent, sum and number of returns: who succeeds has more episodes
    chunks = min(CHUNKS, config.steps // SHORTEST)
    for chunk in run.steps(chunks, late=late, **{f"agent_{i}": agent for i, agent in enumerate(agents)}):
        means, end = [], (chunk + 1) * config.steps // chunks
        for i, (env, agent) in enumerate(zip(envs, agents, strict=True)):
            # What an environment does in a chunk depends on nothing before it, so that a chunk can be begun again.
            seed: int | None = int(run.rng.integers(2**31))
            returns = []
            while agent.steps < end:
                returns.append(play_episode(env, agent, seed, ram if pixels else None).total)
                seed = None
            if returns:
                means.append(np.mean(returns))
            if chunk >= chunks * 3 // 4:
                late[i] += sum(returns), len(returns)
        if means:
            run.log(end, **{"return": float(np.mean(means))})
        if whole_games is not None:
            games = evaluate(whole_games, agents[0], 10, int(run.rng.integers(2**31)))
            max_q = float(np.mean([agents[0].values(state).max() for state in states]))
            run.log(end, score=float(np.mean([game.total for game in games])), max_q=max_q)
    result = {"late_return": float((late[:, 0] / late[:, 1]).mean())}
    if pixels:
        scores = run.metrics().filter(pl.col("metric") == "score")["value"].to_numpy()
        result["late_score"] = float(scores[-10:].mean())
    if isinstance(agents[0], MFEC):
        memory = agents[0].memory
        tables, rows, size = memory.keys.shape
        # Keys, hashes as long, a value and a number for the policy, as the published code has them, of 4 bytes each.
        result |= {"bytes": memory.nbytes, "published_bytes": tables * rows * (2 * size + 2) * 4}
    return result


def _make(environment: str, training: bool = True) -> gymnasium.Env[Any, Any]:
    if environment in GAMES:
        return make_atari(environment, episodic_life=training)
    return gymnasium.make(environment, disable_env_checker=True)


def _random_states(env: gymnasium.Env[Any, Any], run: Run, count: int = 500) -> list[Any]:
    """Return states that random actions lead to."""
    states = [env.reset(seed=int(run.rng.integers(2**31)))[0]]
    while len(states) < count:
        state, _, terminated, truncated, _ = env.step(run.rng.integers(env.action_space.n))  # type: ignore[attr-defined]
        states.append(env.reset()[0] if terminated or truncated else state)
    return states


def seconds(config: Config) -> float:
    """Time of a trial on one core, by the steps of its agents; measured for each environment."""
    step = {"CartPole-v1": 10e-6, "engram/FourRoom-v0": 35e-6}.get(config.environment, 2e-3)
    each = {"mfec": 90e-6, "nec": 650e-6, "tabular-q": 30e-6}[config.learner]
    searched = 1e-9 * min(config.capacity, config.steps) * (config.key_dim if config.environment in GAMES else 2)
    return config.agents * config.steps * (step + each + searched)
