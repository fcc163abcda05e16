"""What a small episodic memory should keep (Agostinelli et al., 2019).

An agent remembers what each action led to and acts on what similar states remember. Compared are rules for what stays
in a memory that is too small; the paper's is dynamic online k-means. Of the paper only the abstract and the published
code for Atari were known, so that all sizes and criteria on small environments are ours.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import gymnasium
import numpy as np
import plotly.graph_objects as go
import polars as pl
import torch
from annotated_types import Ge, Gt, Le
from plotly.subplots import make_subplots

from engram.agents import (
    MFEC,
    NEC,
    EpsilonGreedy,
    OnlineAgent,
    RandomProjection,
    TabularQ,
    evaluate,
    pixel_encoder,
    play_episode,
    vector_encoder,
)
from engram.lab import Arm, Claim, Experiment, Measure, Preset, Results, Run, arms_of, at_least, at_most, value
from engram.lab.claim import ResultsOfSeed
from engram.lab.curves import PALETTE
from engram.memory import DND, KeyValueMemory
from engram.memory.episodic.policies import (
    FIFO,
    LRU,
    DynamicKMeans,
    KMeans,
    MaxSurprise,
    MaxValue,
    Policy,
    RandomReplacement,
)
from engram.tasks import DriftingGaussians
from engram.tasks.environments.atari import make_atari, ram

PAPER = (
    "Agostinelli, Arulkumaran, Sarrico, Richemond & Bharath, Memory-efficient episodic control reinforcement learning "
    "with dynamic online k-means, NeurIPS 2019 workshop on biological and artificial RL (arXiv 1911.09560)"
)
PolicyName = Literal["lru", "max-surprise", "max-value", "k-means", "dkm-author", "dkm", "fifo", "random"]
POLICIES: dict[PolicyName, Callable[[], Policy]] = {
    "lru": LRU,
    "max-surprise": MaxSurprise,
    "max-value": MaxValue,
    "k-means": lambda: KMeans(weighting="author"),
    "dkm-author": lambda: DynamicKMeans(weighting="author"),
    "dkm": DynamicKMeans,
    "fifo": FIFO,
    "random": RandomReplacement,
}
FORMS: tuple[PolicyName, ...] = ("lru", "dkm-author", "dkm")
PAIR: tuple[PolicyName, ...] = ("lru", "dkm")
COMPARED: tuple[PolicyName, ...] = ("lru", "max-surprise", "max-value", "k-means", "dkm-author", "dkm")
SIZES = (100, 250, 1000)  # rows for each action on CartPole
Game = Literal["Pong", "Bowling", "MsPacman", "SpaceInvaders", "Qbert"]
GAMES: tuple[Game, ...] = ("Pong", "Bowling", "MsPacman", "SpaceInvaders", "Qbert")
PIXELS = 4 * 84 * 84
# Where a grid for tabular Q-learning begins and ends, and its cells.
GRIDS: dict[str, tuple[list[float], list[float], list[int]]] = {
    "CartPole-v1": ([-2.4, -3.0, -0.21, -3.5], [2.4, 3.0, 0.21, 3.5], [4, 4, 8, 8]),
    "engram/FourRoom-v0": ([0, 0], [13, 13], [13, 13]),
}
CHUNKS, SHORTEST = 100, 40  # most points of a curve of returns, and least steps between two
CENTRES, BATCHES, TESTED, MEASURED = 32, (1, 8), 1000, 80  # of the stream; points between two measurements
LOOKED_UP = (1000, 4000, 16000, 64000)


@dataclass(frozen=True)
class Config:
    """What one trial is made of; the last seven fields shape other arms."""

    study: Literal["control", "stream", "look-up"] = "control"
    """An agent in an environment, clusters on a stream of points, or the time of a look-up."""
    environment: Literal[
        "CartPole-v1",
        "Acrobot-v1",
        "engram/FourRoom-v0",
        "Pong",
        "Bowling",
        "MsPacman",
        "SpaceInvaders",
        "Qbert",
    ] = "CartPole-v1"
    """Where the agent acts; the last five are Atari games."""
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
    """Steps of an agent, or points of the stream; the last episode is played to its end."""
    agents: Annotated[int, Ge(1)] = 1
    """Agents, or streams, in one trial, each on its own; their returns, or errors, are averaged."""
    key_dim: Annotated[int, Ge(1)] = 32
    """Length of keys that are learned or projected; else an observation is its own key."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 5e-4
    """Of a learned encoder."""
    learning_starts: Annotated[int, Ge(0)] = 1000
    """Steps before an encoder is trained."""
    acrobot_steps: Annotated[int, Ge(100)] = 40_000
    """Steps on Acrobot."""
    room_steps: Annotated[int, Ge(100)] = 15_000
    """Steps in the four rooms."""
    room_agents: Annotated[int, Ge(1)] = 3
    """Agents of a trial in the four rooms, where one either finds the goal or not."""
    nec_steps: Annotated[int, Ge(100)] = 20_000
    """Steps of neural episodic control."""
    stream_points: Annotated[int, Ge(960)] = 4000
    """Points of the stream; a multiple of 160."""
    atari_steps: Annotated[int, Ge(0)] = 0
    """Steps on Atari; above 0, there are these arms and no others."""
    everything: bool = True
    """All arms, not only the few of a first look."""

    def __post_init__(self) -> None:
        if self.explore_from > self.explore_until:
            raise ValueError(
                f"explore_from = {self.explore_from}: expected at most explore_until = {self.explore_until}"
            )
        if self.study == "stream" and self.steps % (2 * MEASURED):
            raise ValueError(f"steps = {self.steps}: expected a multiple of {2 * MEASURED} for the stream")


def arms(config: Config) -> dict[str, Arm]:
    """CartPole by policy and size, its baselines, the rooms, Acrobot, learned keys, the stream; or Atari alone."""
    # What shapes only other arms goes back to its default, so that it is no part of a trial's identity.
    base = replace(
        config,
        acrobot_steps=Config.acrobot_steps,
        room_steps=Config.room_steps,
        room_agents=Config.room_agents,
        nec_steps=Config.nec_steps,
        stream_points=Config.stream_points,
        atari_steps=0,
        everything=True,
    )
    if config.atari_steps:
        return arms_of(trial, _atari_arms(replace(base, steps=config.atari_steps)), seconds)
    acrobot = replace(
        base,
        environment="Acrobot-v1",
        steps=config.acrobot_steps,
        explore_from=config.acrobot_steps // 20,
        explore_until=config.acrobot_steps // 4,
    )
    rooms = replace(
        base,
        environment="engram/FourRoom-v0",
        capacity=60,
        neighbours=5,
        epsilon=0.1,
        steps=config.room_steps,
        agents=config.room_agents,
    )
    nec = replace(
        base, learner="nec", value_update="ema", capacity=250, neighbours=50, epsilon=0.001, steps=config.nec_steps
    )
    stream = replace(base, study="stream", capacity=CENTRES, steps=config.stream_points, agents=4)
    found: dict[str, Config] = {}
    for size, policy in itertools.product(SIZES, COMPARED):
        found[f"cartpole-{size}-{policy}"] = replace(base, policy=policy, capacity=size)
    baselines: tuple[PolicyName, ...] = ("fifo", "random")
    for policy in baselines:
        found[f"cartpole-100-{policy}"] = replace(base, policy=policy)
    found["cartpole-unlimited"] = replace(base, capacity=config.steps + 500)
    found["cartpole-tabular-q"] = replace(base, learner="tabular-q")
    for policy in (*FORMS, "k-means"):
        found[f"four-room-{policy}"] = replace(rooms, policy=policy)
    for policy in PAIR:
        found[f"four-room-{policy}-mean"] = replace(rooms, policy=policy, value_update="mean")
    found["four-room-tabular-q"] = replace(rooms, learner="tabular-q")
    for size, policy in itertools.product((100, 500), FORMS):
        found[f"acrobot-{size}-{policy}"] = replace(acrobot, policy=policy, capacity=size)
    for policy in PAIR:
        found[f"cartpole-nec-{policy}"] = replace(nec, policy=policy)
        found[f"four-room-nec-{policy}"] = replace(
            nec, environment="engram/FourRoom-v0", policy=policy, capacity=60, neighbours=5, epsilon=0.1
        )
    for policy in (*FORMS, "k-means"):
        found[f"stream-{policy}"] = replace(stream, policy=policy)
    found["look-up"] = replace(base, study="look-up")
    if not config.everything:
        few = ("cartpole-100-lru", "cartpole-100-dkm", "four-room-dkm-author", "four-room-tabular-q", "stream-dkm")
        found = {arm: found[arm] for arm in (*few, "cartpole-nec-dkm")}
    return arms_of(trial, found, seconds)


def _atari_arms(base: Config) -> dict[str, Config]:
    """Both agents with the two published policies on the five published games."""
    found = {}
    for game, policy in itertools.product(GAMES, FORMS[:2]):
        mfec = replace(
            base,
            environment=game,
            policy=policy,
            capacity=10_000,
            key_dim=128,
            explore_from=5000,
            explore_until=25_000,
        )
        found[f"{game}-mfec-{policy}"] = mfec
        found[f"{game}-nec-{policy}"] = replace(
            mfec,
            learner="nec",
            value_update="ema",
            neighbours=50,
            epsilon=0.001,
            learning_rate=7.92468721e-6,
            learning_starts=50_000,
        )
    return found


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Let agents learn, or clusters follow a stream, or measure look-ups."""
    studies = {"control": control, "stream": stream, "look-up": look_up}
    return studies[config.study](config, run)


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
        encoder = (
            pixel_encoder(config.key_dim, generator=run.generator)
            if pixels
            else vector_encoder(features, config.key_dim, generator=run.generator)
        )
        return NEC(
            DND(config.capacity, **table),
            encoder.to(run.device),
            learning_rate=config.learning_rate,
            learning_starts=config.learning_starts,
            **acting,
        )
    embedding = RandomProjection(PIXELS, config.key_dim, rng=run.rng) if pixels else None
    return MFEC(KeyValueMemory(config.capacity, **table), embedding=embedding, **acting)


def control(config: Config, run: Run) -> dict[str, Any]:
    """Let agents act and learn; the result is the mean return of the episodes in the last quarter of training."""
    pixels = config.environment in GAMES
    envs = [_make(config.environment) for _ in range(config.agents)]
    agents = [build(config, run, env) for env in envs]
    states = _random_states(envs[0], run) if pixels else []
    whole_games = _make(config.environment, training=False) if pixels else None
    late = np.zeros((config.agents, 2))  # of each agent, sum and number of returns: who succeeds has more episodes
    chunks = min(CHUNKS, config.steps // SHORTEST)
    for chunk in run.steps(chunks, late=late, **{f"agent_{i}": agent for i, agent in enumerate(agents)}):
        means = []
        for i, (env, agent) in enumerate(zip(envs, agents, strict=True)):
            # What an environment does in a chunk depends on nothing before it, so that a chunk can be begun again.
            seed: int | None = int(run.rng.integers(2**31))
            returns = []
            while agent.steps < (chunk + 1) * config.steps // chunks:
                returns.append(play_episode(env, agent, seed, ram if pixels else None).total)
                seed = None
            if returns:
                means.append(np.mean(returns))
            if chunk >= chunks * 3 // 4:
                late[i] += sum(returns), len(returns)
        if means:
            run.log((chunk + 1) * config.steps // chunks, **{"return": float(np.mean(means))})
        if whole_games is not None:
            games = evaluate(whole_games, agents[0], 10, int(run.rng.integers(2**31)))
            run.log(
                (chunk + 1) * config.steps // chunks,
                score=float(np.mean([game.total for game in games])),
                max_q=float(np.mean([agents[0].values(state).max() for state in states])),
            )
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


def stream(config: Config, run: Run) -> dict[str, Any]:
    """Follow points around centres that jump at half time; the result is how far points are from the nearest key."""
    half, streams = config.steps // 2, config.agents
    points, tests = torch.zeros(streams, config.steps, 2), torch.zeros(2, streams, TESTED, 2)
    for of_stream, (before, after) in zip(points, tests.unbind(1), strict=True):
        source = DriftingGaussians(CENTRES, jumps=(half,), random_state=run.rng)
        for first, test in ((0, before), (half, after)):
            of_stream[first : first + half] = torch.from_numpy(source.sample(half))
            near = source.centres[run.rng.integers(CENTRES, size=TESTED)]
            test[:] = torch.from_numpy(near + source.scale * run.rng.normal(size=near.shape))
    memories = {
        batch: KeyValueMemory(
            config.capacity, 2, policy=POLICIES[config.policy](), tables=streams, generator=run.generator
        )
        for batch in BATCHES
    }
    tested = torch.arange(streams).repeat_interleave(TESTED)
    state = {f"memory_{batch}": memory for batch, memory in memories.items()}
    for step in run.steps(config.steps // MEASURED, **state):
        seen = (step + 1) * MEASURED
        for batch, memory in memories.items():
            tables = torch.arange(streams).repeat_interleave(batch)
            for part in torch.split(points[:, seen - MEASURED : seen], batch, dim=1):
                memory.write(part.flatten(0, 1), torch.zeros(len(tables)), tables=tables)
            found = memory.query(tests[int(seen > half)].flatten(0, 1), k=1, tables=tested, use=False)
            run.log(seen, **{f"error_{batch}": found.squared_distances.double().mean()})
    moments = {"before": half, "after": half + 10 * CENTRES, "end": config.steps}
    errors = {(metric, step): value for step, metric, value in run.metrics().select("step", "metric", "value").rows()}
    return {
        f"{moment}_{batch}": errors[f"error_{batch}", seen] for moment, seen in moments.items() for batch in BATCHES
    }


def look_up(config: Config, run: Run) -> dict[str, Any]:
    """Measure how long two full tables are searched, by their size; the result is the exponent of its growth."""
    shortest = np.full(len(LOOKED_UP), np.inf)
    for _ in run.steps(1, shortest=shortest):
        for i, rows in enumerate(LOOKED_UP):
            memory = KeyValueMemory(rows, 4, tables=2, generator=run.generator)
            keys = torch.randn(rows, 4, generator=run.generator)
            for table in range(2):
                memory.write(keys, torch.zeros(rows), tables=table)
            for asked in torch.randn(200, 1, 4, generator=run.generator):
                began = time.perf_counter()
                memory.query(asked, config.neighbours)
                shortest[i] = min(shortest[i], time.perf_counter() - began)
    found = {f"microseconds_{rows}": 1e6 * float(taken) for rows, taken in zip(LOOKED_UP, shortest, strict=True)}
    return found | {"exponent": float(np.log(shortest[-1] / shortest[-2]) / np.log(LOOKED_UP[-1] / LOOKED_UP[-2]))}


def _stream(form: str, over: str, *moments: str) -> Measure:
    """Return the error of a form of dynamic k-means over both batch sizes, in units of another policy's.

    Of several moments it is the largest.
    """

    def error(results: ResultsOfSeed, policy: str, moment: str) -> float:
        return sum(float(results[f"stream-{policy}"][f"{moment}_{batch}"]) for batch in BATCHES)

    return Measure(
        lambda results: max(error(results, form, moment) / error(results, over, moment) for moment in moments),
        (f"stream-{form}", f"stream-{over}"),
    )


PUBLISHED = "significantly better at smaller memory sizes (abstract; no figure found)"
NAMES = {"dkm": "corrected", "dkm-author": "as published"}
claim = partial(Claim, published="not given", presets=("laptop",), seeds=5)
claims = [
    *(
        claim(
            id=f"{form}-beats-lru",
            statement=f"On CartPole with 100 rows for each action, MFEC with dynamic k-means ({name}) gets at least "
            "1.15 times the return that it gets with the least recently used making room",
            source="abstract; R1 of our protocol",
            published=PUBLISHED,
            metric=value(f"cartpole-100-{form}", "late_return") / value("cartpole-100-lru", "late_return"),
            holds=at_least(1.15),
        )
        for form, name in NAMES.items()
    ),
    claim(
        id="corrected-finds-the-goal",
        statement="In four rooms, where states recur and only the goal pays, the corrected form reaches it nearly as "
        "often as least recently used does (difference of the shares of late episodes)",
        source="R2 of our protocol",
        metric=value("four-room-dkm", "late_return") - value("four-room-lru", "late_return"),
        holds=at_least(-0.25),
    ),
    claim(
        id="published-form-loses-the-goal",
        statement="The published form hardly ever does: it averages the rare good return away",
        source="R2 of our protocol",
        metric=value("four-room-dkm-author", "late_return"),
        holds=at_most(0.1),
    ),
    *(
        claim(
            id=f"{form}-follows-a-stream",
            statement=f"When the centres of a stream have jumped, dynamic k-means ({name}) ends with half the error of "
            "online k-means, or less",
            source="R3 of our protocol",
            published="clusters follow a changing stream (no figure)",
            metric=_stream(form, "k-means", "end"),
            holds=at_most(0.5),
        )
        for form, name in NAMES.items()
    ),
    *(
        claim(
            id=f"still-water-is-for-k-means-not-{form}",
            statement=f"Before they jump, online k-means has no larger error than dynamic k-means ({name})",
            source="R3 of our protocol",
            metric=_stream(form, "k-means", "before"),
            holds=at_least(1.0),
        )
        for form, name in NAMES.items()
    ),
    *(
        claim(
            id=f"{form}-beats-samples",
            statement=f"Dynamic k-means ({name}) never has a larger error than the least recently used making room "
            "(before the jump, 320 points after it, at the end: the largest)",
            source="R3 of our protocol",
            metric=_stream(form, "lru", "before", "after", "end"),
            holds=at_most(1.0),
        )
        for form, name in NAMES.items()
    ),
    claim(
        id="bytes",
        statement="On CartPole a memory takes no more bytes than the published layout",
        source="published code; R4 of our protocol",
        published="A M (d + h + 2) 4",
        metric=value("cartpole-250-dkm", "bytes") / value("cartpole-250-dkm", "published_bytes"),
        holds=at_most(1.0),
        threshold="paper",
        presets=("laptop",),
        sameness="numeric",
    ),
    claim(
        id="look-up-is-linear",
        statement="The time of a look-up grows no faster than the memory (exponent, from 16,000 to 64,000 rows)",
        source="R4 of our protocol",
        metric=value("look-up", "exponent"),
        holds=at_most(1.1),
        presets=("laptop",),
    ),
    claim(
        id="atari",
        statement="On Atari with 10,000 rows for each action, MFEC with dynamic k-means scores more than with the "
        "least recently used making room, in most of five games",
        source="abstract; scripts of the published code; R6 of our protocol",
        published=PUBLISHED,
        metric=lambda results: sum(
            results[f"{game}-mfec-dkm-author"]["late_score"] > results[f"{game}-mfec-lru"]["late_score"]
            for game in GAMES
        ),
        holds=at_least(3),
        arms=tuple(f"{game}-mfec-{policy}" for game in GAMES for policy in ("lru", "dkm-author")),
        presets=("paper",),
        seeds=3,
    ),
]


def figure(results: Results) -> go.Figure:
    """Late return by size and policy, with its range; the error on the stream over time; all other late returns."""
    titles = ("CartPole: late return by memory", "Stream: error over time", "Late return elsewhere")
    plot = make_subplots(rows=3, cols=1, subplot_titles=titles, vertical_spacing=0.1)
    colors = dict(zip(POLICIES, PALETTE, strict=True))

    def late(arm: str) -> list[float]:
        return [of_seed[arm]["late_return"] for of_seed in results.by_seed.values() if arm in of_seed]

    for policy, color in colors.items():
        sizes = [size for size in SIZES if late(f"cartpole-{size}-{policy}")]
        if sizes:
            values = [late(f"cartpole-{size}-{policy}") for size in sizes]
            means = [float(np.mean(of_size)) for of_size in values]
            spread = {
                "symmetric": False,
                "array": [max(of_size) - mean for of_size, mean in zip(values, means, strict=True)],
                "arrayminus": [mean - min(of_size) for of_size, mean in zip(values, means, strict=True)],
            }
            line = go.Scatter(x=sizes, y=means, error_y=spread, mode="lines+markers", line_color=color, name=policy)
            plot.add_trace(line, row=1, col=1)
        for metric, dash in (("error_1", "solid"), ("error_8", "dot")):
            rows = results.metrics.filter((pl.col("arm") == f"stream-{policy}") & (pl.col("metric") == metric))
            if not rows.is_empty():
                mean = rows.group_by("step").agg(pl.col("value").mean()).sort("step")
                name = f"{policy}, batches of {metric[-1]}"
                curve = go.Scatter(
                    x=mean["step"].to_list(), y=mean["value"].to_list(), line={"color": color, "dash": dash}, name=name
                )
                plot.add_trace(curve, row=2, col=1)
    for arm in results.arms:
        elsewhere = not any(arm == f"cartpole-{size}-{policy}" for size in SIZES for policy in POLICIES)
        if elsewhere and not arm.startswith(("stream", "look-up", "acrobot")):
            plot.add_trace(go.Box(y=late(arm), name=arm, boxpoints="all", showlegend=False), row=3, col=1)
    plot.update_xaxes(title="rows for each action", type="log", row=1, col=1)
    plot.update_xaxes(title="points seen", row=2, col=1)
    plot.update_yaxes(title="mean squared distance", type="log", row=2, col=1)
    plot.update_layout(height=1200)
    return plot


def seconds(config: Config) -> float:
    """Time of a trial on one core, by the steps of its agents; measured for each environment."""
    if config.study == "stream":
        return 0.3e-3 * config.steps * config.agents
    if config.study == "look-up":
        return 1.0
    step = {"CartPole-v1": 10e-6, "Acrobot-v1": 50e-6, "engram/FourRoom-v0": 35e-6}.get(config.environment, 2e-3)
    each = {"mfec": 90e-6, "nec": 650e-6, "tabular-q": 30e-6}[config.learner]
    searched = 1e-9 * min(config.capacity, config.steps) * (config.key_dim if config.environment in GAMES else 2)
    return config.agents * config.steps * (step + each + searched)


experiment = Experiment(
    name="episodic-control",
    summary="What a small episodic memory should keep: dynamic online k-means against other policies",
    paper=PAPER,
    presets={
        "smoke": Preset(
            Config(
                steps=800,
                explore_from=100,
                explore_until=400,
                learning_starts=200,
                room_steps=400,
                room_agents=2,
                nec_steps=400,
                stream_points=960,
                everything=False,
            ),
            seeds=2,
        ),
        "laptop": Preset(Config(), seeds=5),
        "paper": Preset(Config(atari_steps=10_000_000), seeds=3),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="return",
)
