"""What stays when actuators change, and what states alone teach: a point that is pushed to the middle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium
import numpy as np
from annotated_types import Ge
from gymnasium import spaces

from engram.agents import BCO, D3G, ReplayBuffer, vector_episodes
from engram.experiments.d3g.learning import Learner, Settings, Update, build, largest_step, live, mean_return
from engram.lab import Run
from engram.tasks.environments import point_world

EPISODE = 40  # steps
SPACES = spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-1.0, 1.0, (2,))
SHOWN = 100  # proposals in the figure


@dataclass(frozen=True)
class Transfer:
    """An agent whose actuators are turned by a right angle."""

    learner: Learner = "d3g"
    """Which."""
    settings: Settings = Settings()
    """Of the learner."""
    source_episodes: Annotated[int, Ge(0)] = 125
    """Episodes of 40 steps before it; none: it learns from scratch after it."""
    source_random_steps: Annotated[int, Ge(0)] = 1000
    """Steps of random actions at first."""
    target_episodes: Annotated[int, Ge(0)] = 30
    """Episodes after it."""
    target_random_steps: Annotated[int, Ge(0)] = 400
    """Steps of random actions at first, after it."""
    look_every: Annotated[int, Ge(1)] = 5
    """Episodes between evaluations."""
    judged_after: Annotated[int, Ge(1)] = 20
    """Episodes after which the claim is judged."""
    evaluations: Annotated[int, Ge(1)] = 50
    """Episodes of an evaluation."""


@dataclass(frozen=True)
class Observed:
    """An agent that learns from the states of random walks, and then which actions cause what."""

    learner: Learner = "observed"
    """Which; all that is learned from the log is values and proposals, or, of cloning, what was done."""
    settings: Settings = Settings()
    """Of the learner."""
    walks: Annotated[int, Ge(1)] = 250
    """Random walks of 40 steps in the log."""
    updates: Annotated[int, Ge(0)] = 10_000
    """Updates on the log."""
    rounds: Annotated[int, Ge(1)] = 6
    """Rounds of own steps."""
    episodes: Annotated[int, Ge(1)] = 12
    """Episodes of a round; of the first round they are random."""
    inverse_updates: Annotated[int, Ge(1)] = 1000
    """Updates of the inverse model in a round."""
    cloning_updates: Annotated[int, Ge(1)] = 3000
    """Updates of cloning in a round."""
    evaluations: Annotated[int, Ge(1)] = 50
    """Episodes of an evaluation."""


def transfer(config: Transfer, run: Run) -> dict[str, Any]:
    """Train one agent, turn its actuators, and train on, D3G only what its actions do."""
    source, judged_source = points(1), points(config.evaluations)
    target, judged = points(1, rotate=90.0), points(config.evaluations, rotate=90.0)
    agent = build(config.learner, config.settings, *SPACES, run)
    buffer = new_buffer(config.source_episodes, run)
    shared: dict[str, Any] = {"settings": config.settings}
    for _ in run.steps(config.source_episodes, agent=agent, buffer=buffer):
        live(source, agent, buffer, run, random_steps=config.source_random_steps, update=agent.update, **shared)
    result: dict[str, Any] = {}
    update: Update = agent.update
    if config.source_episodes:
        result["source_return"] = mean_return(judged_source, agent, run)
        if isinstance(agent, D3G):
            result |= {"largest_step": largest_step(judged_source, agent, run), "proposals": shown(agent, run)}
            agent.reset_inverse()
            update = agent.update_inverse
    buffer = new_buffer(config.target_episodes, run)
    found = np.zeros(1)
    for episode in run.steps(config.target_episodes, agent=agent, buffer=buffer, found=found):
        live(target, agent, buffer, run, random_steps=config.target_random_steps, update=update, **shared)
        if (episode + 1) % config.look_every == 0:
            now = mean_return(judged, agent, run)
            run.log((episode + 1) * EPISODE, **{"return": now})
            if episode + 1 == config.judged_after:
                found[0] = now
    return result | ({"return": float(found[0])} if config.target_episodes else {})


def observed(config: Observed, run: Run) -> dict[str, Any]:
    """Learn from a log of states, then act and learn the inverse model round by round."""
    log = ReplayBuffer(config.walks * EPISODE, SPACES[0], device=run.device)
    agent = build(config.learner, config.settings, *SPACES, run)
    judged = points(config.evaluations)
    batch = config.settings.batch_size

    def wander(seen: Any) -> Any:
        return agent.actions.decode(agent.actions.random(len(seen), run.generator))

    def note(states: Any, actions: Any, rewards: Any, following: Any, **ends: Any) -> None:
        log.add(states, None, rewards, following, **ends)

    vector_episodes(points(config.walks), wander, int(run.rng.integers(2**31)), note)
    result = {"random": float(vector_episodes(judged, wander, int(run.rng.integers(2**31))).mean())}
    cloning = isinstance(agent, BCO)
    for _ in run.steps(0 if cloning else config.updates, agent=agent, log=log):
        agent.update(log.sample(batch, run.generator))
    own, returns = new_buffer(config.rounds * config.episodes, run), np.zeros(config.rounds)
    walkers = points(config.episodes)
    for round_ in run.steps(config.rounds, agent=agent, own=own, returns=returns):
        live(walkers, agent, own, run, settings=config.settings, random_steps=config.episodes * EPISODE)
        for _ in range(config.inverse_updates):
            agent.update_inverse(own.sample(batch, run.generator))
        for _ in range(config.cloning_updates if cloning else 0):
            agent.update(log.sample(batch, run.generator))
        returns[round_] = mean_return(judged, agent, run)
        run.log(round_ + 1, return_by_round=float(returns[round_]))
    return result | {"first_round": float(returns[0]), "last_round": float(returns[-1])}


def points(num_envs: int, **options: Any) -> Any:
    """Make point worlds."""
    return gymnasium.make_vec(point_world.ENV_ID, num_envs=num_envs, **options)


def new_buffer(episodes: int, run: Run) -> ReplayBuffer:
    """Return a buffer that holds so many episodes."""
    return ReplayBuffer(max(1, episodes * EPISODE), *SPACES, device=run.device)


def shown(agent: D3G, run: Run) -> list[list[float]]:
    """Return tau of some random states."""
    states = run.rng.uniform(-1, 1, (SHOWN, 2))
    found: list[list[float]] = (agent.propose(states, cycled=False) - states).tolist()
    return found


def transfer_seconds(config: Transfer) -> float:
    """Time of a trial on one core, by its updates; measured at width 64."""
    update = {"td3": 0.75e-3, "no-cycle": 0.9e-3}.get(config.learner, 1.3e-3)
    size = (config.settings.width / 64) * (config.settings.batch_size / 64)
    episodes = config.source_episodes + config.target_episodes
    return 1.0 + episodes * EPISODE * (0.1e-3 + update * max(1.0, size))


def observed_seconds(config: Observed) -> float:
    """As ``transfer_seconds``."""
    size = max(1.0, (config.settings.width / 64) * (config.settings.batch_size / 64))
    learned = config.rounds * config.cloning_updates * 0.3e-3 if config.learner == "bco" else config.updates * 1.2e-3
    return 1.0 + size * (learned + config.rounds * config.inverse_updates * 0.4e-3)
