"""Agents with an episodic memory or a table in an environment."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
import polars as pl

from engram import registry
from engram.agents import MFEC, NEC, EpsilonGreedy, TabularQ, evaluate, play_episode
from engram.lab import Run, setting, settings
from engram.memory import DND, KeyValueMemory
from engram.nn import RandomProjection, pixel_encoder, vector_encoder
from engram.tasks.environments.atari import make_atari, ram

POLICIES = (
    "lru", "max-surprise", "max-value", "k-means", "dkm-author", "dkm", "dkm-fixed", "dkm-short", "fifo", "random",
)  # fmt: skip
FORMS, PAIR = ("lru", "dkm-author", "dkm"), ("lru", "dkm")
FIXED = "dkm-fixed"  # the corrected form with a fixed loss of counts, a policy without a registered name
OTHERS = ("max-surprise", "max-value", "k-means", "fifo", "random")
Game = Literal["Pong", "Bowling", "MsPacman", "SpaceInvaders", "Qbert"]
GAMES: tuple[Game, ...] = get_args(Game)  # Atari games
PIXELS = 4 * 84 * 84
Learner = MFEC | NEC | TabularQ
# The bounds of a grid for tabular Q-learning, and its numbers of cells.
GRIDS: dict[str, tuple[list[float], list[float], list[int]]] = {
    "CartPole-v1": ([-2.4, -3.0, -0.21, -3.5], [2.4, 3.0, 0.21, 3.5], [4, 4, 8, 8]),
}
RATES, TRIED = (0.1, 0.2, 0.4, 0.8), 2  # candidate learning rates of a table; number of other agents that try each
REPLAYED = 100_000  # observations that NEC replays
CHUNKS, SHORTEST = 100, 40  # most points of a learning curve, and fewest steps between two points


@settings
class Config:
    """The settings of the agent and its environment."""

    environment: Literal["CartPole-v1", "engram/FourRoom-v0", Game] = setting("CartPole-v1", "the environment")
    learner: Literal["mfec", "nec", "tabular-q"] = setting("mfec", "the agent")
    policy: str = setting(
        "lru", "what the memory keeps: a registered replacement policy, or a reference such as file.py:Name"
    )
    value_update: Literal["max", "mean", "ema"] = setting("max", "how a value is updated when its state recurs")
    capacity: int = setting(100, "memory rows per action", ge=2)
    neighbours: int = setting(11, "neighbours from which a value is estimated", ge=1)
    gamma: float = setting(0.99, "discount per step", ge=0, le=1)
    epsilon: float = setting(0.005, "final share of random actions", ge=0, le=1)
    explore_from: int = setting(500, "step up to which all actions are random", ge=0)
    explore_until: int = setting(4000, "step from which the share of random actions is final", ge=0)
    steps: int = setting(40_000, "steps of an agent; the last episode is completed", ge=100)
    agents: int = setting(1, "agents in one trial, whose returns are averaged", ge=1)
    key_dim: int = setting(32, "length of learned or projected keys", ge=1)
    learning_rate: float = setting(5e-4, "learning rate of an encoder; a table's is chosen by other agents", gt=0, le=1)
    learning_starts: int = setting(1000, "steps before an encoder is trained", ge=0)

    def __post_init__(self) -> None:
        registry.check("replacement_policies", self.policy, "policy")
        if self.explore_from > self.explore_until:
            until = f"explore_until = {self.explore_until}"
            raise ValueError(f"explore_from = {self.explore_from}: expected at most {until}")
        if self.learner == "tabular-q" and self.environment not in GRIDS:
            expected = f"one with a grid for tabular Q-learning, {', '.join(GRIDS)}"
            raise ValueError(f"environment = {self.environment!r}: expected {expected}")


def build(config: Config, run: Run, env: gymnasium.Env[Any, Any], rate: float) -> Learner:
    """The agent of a trial, whose table or encoder has the given learning rate.

    Args:
        config: The settings.
        run: The run.
        env: The environment, whose spaces the agent gets.
        rate: The learning rate.
    """
    actions = int(env.action_space.n)  # type: ignore[attr-defined]
    exploration = EpsilonGreedy(config.epsilon, config.explore_from, config.explore_until)
    if config.learner == "tabular-q":
        options: dict[str, Any] = {"exploration": exploration, "gamma": config.gamma, "learning_rate": rate}
        return TabularQ(*GRIDS[config.environment], actions, rng=run.rng, **options)
    pixels, features = config.environment in GAMES, int(np.prod(env.observation_space.shape or ()))
    table: dict[str, Any] = {
        "key_dim": config.key_dim if pixels or config.learner == "nec" else features,
        "policy": registry.get("replacement_policies", config.policy)(),
        "tables": actions,
        "hash_dim": 128 if pixels else None,
        "assign": "hash" if pixels else "key",
        "value_update": config.value_update,
        "generator": run.generator,
    }
    acting: dict[str, Any] = {"rng": run.rng, "exploration": exploration, "k": config.neighbours, "gamma": config.gamma}
    acting["truncation"] = "terminal"  # as published
    if config.learner == "nec":
        dim, source = config.key_dim, run.generator
        encoder = pixel_encoder(dim, generator=source) if pixels else vector_encoder(features, dim, generator=source)
        acting |= {"learning_rate": rate, "learning_starts": config.learning_starts, "replay_size": REPLAYED}
        return NEC(DND(config.capacity, **table), encoder.to(run.device), **acting)
    embedding = RandomProjection(PIXELS, config.key_dim, rng=run.rng) if pixels else None
    return MFEC(KeyValueMemory(config.capacity, **table), embedding=embedding, **acting)


def memory(config: Config) -> float:
    """The bytes that a trial needs: NEC's replay of 100,000 stacks of frames, and its copy in a checkpoint."""
    replays_frames = config.learner == "nec" and config.environment in GAMES
    return 0.5e9 + config.agents * replays_frames * 2 * min(config.steps, REPLAYED) * PIXELS


def play(
    env: gymnasium.Env[Any, Any], agent: Learner, until: int, seed: int | None, identity: Any = None
) -> list[float]:
    """The returns of the episodes that an agent plays until it has taken ``until`` steps.

    Args:
        env: The environment.
        agent: The agent, which learns.
        until: Number of steps of the agent's life after which no further episode begins.
        seed: Seed of the first episode; None: the environment's own state.
        identity: As for ``play_episode``.
    """
    returns = []
    while agent.steps < until:
        returns.append(play_episode(env, agent, seed, identity).total)
        seed = None
    return returns


def late_return(config: Config, run: Run, rate: float) -> float:
    """The mean late return at a learning rate, of agents other than the trial's.

    Args:
        config: The settings.
        run: The run.
        rate: The learning rate.
    """
    means = []
    for _ in range(TRIED):
        env = _make(config.environment)
        agent = build(config, run, env, rate)
        play(env, agent, config.steps * 3 // 4, int(run.rng.integers(2**31)))
        means.append(np.mean(play(env, agent, config.steps, None)))
    return float(np.mean(means))


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Let agents act and learn; the main result is the mean return over the last quarter of training."""
    pixels = config.environment in GAMES
    envs = [_make(config.environment) for _ in range(config.agents)]
    rate = config.learning_rate
    if config.learner == "tabular-q":
        rate = run.choose("learning_rate", RATES, partial(late_return, config, run), bounds=(0.0, 1.0))
    agents = [build(config, run, env, rate) for env in envs]
    states = _random_states(envs[0], run) if pixels else []
    whole_games = _make(config.environment, training=False) if pixels else None
    agents_by_name = {f"agent_{i}": agent for i, agent in enumerate(agents)}
    late = np.zeros((config.agents, 2))  # sum and number of returns, by agent: the number of episodes differs
    chunks = min(CHUNKS, config.steps // SHORTEST)
    for chunk in run.steps(chunks, late=late, **agents_by_name):
        means, end = [], (chunk + 1) * config.steps // chunks
        for i, (env, agent) in enumerate(zip(envs, agents, strict=True)):
            # Chunks of an environment are independent of each other, so a chunk can be restarted.
            seed = int(run.rng.integers(2**31))
            returns = play(env, agent, end, seed, ram if pixels else None)
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
    run.keep(**agents_by_name)
    if not late[:, 1].all():
        raise ValueError(f"steps = {config.steps}: expected more, as no episode began in the last quarter of training")
    result = {"late_return": float((late[:, 0] / late[:, 1]).mean())}
    if pixels:
        scores = run.metrics().filter(pl.col("metric") == "score")["value"].to_numpy()
        result["late_score"] = float(scores[-10:].mean())
    if isinstance(agents[0], MFEC):
        memory = agents[0].memory
        tables, rows, size = memory.keys.shape
        # As in the published code: keys, equally long hashes, a value and a number for the policy, of 4 bytes each.
        result |= {"bytes": memory.nbytes, "published_bytes": tables * rows * (2 * size + 2) * 4}
    return result


def _make(environment: str, training: bool = True) -> gymnasium.Env[Any, Any]:
    if environment in GAMES:
        return make_atari(environment, episodic_life=training)
    return gymnasium.make(environment, disable_env_checker=True)


def _random_states(env: gymnasium.Env[Any, Any], run: Run) -> list[Any]:
    """500 states reached by random actions."""
    states = [env.reset(seed=int(run.rng.integers(2**31)))[0]]
    while len(states) < 500:
        state, _, terminated, truncated, _ = env.step(run.rng.integers(env.action_space.n))  # type: ignore[attr-defined]
        states.append(env.reset()[0] if terminated or truncated else state)
    return states
