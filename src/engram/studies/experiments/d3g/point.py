"""A point to be pushed to the middle: transfer after a change of actuators, and learning from states alone."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from engram.agents import BCO, D3G, ReplayBuffer, vector_episodes
from engram.lab import Run, setting, settings
from engram.studies.experiments.d3g.learning import Acting, Agent, Update, build, largest_step, live, mean_return
from engram.tasks.environments import point_world

EPISODE = 40  # steps
SPACES = spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-1.0, 1.0, (2,))
SHOWN = 100  # proposals in the figure


@settings
class Transfer(Agent):
    """An agent whose actuators are rotated by 90 degrees."""

    learner: Acting = setting("d3g", "the learning algorithm; set by each arm")
    source_episodes: int = setting(125, "episodes of 40 steps before the rotation; 0: from scratch", ge=0)
    source_random_steps: int = setting(1000, "initial steps of random actions", ge=0)
    target_episodes: int = setting(30, "episodes after the rotation", ge=0)
    target_random_steps: int = setting(400, "initial steps of random actions after the rotation", ge=0)
    look_every: int = setting(5, "episodes between evaluations", ge=1)
    judged_after: int = setting(20, "episodes after which returns are compared; a multiple of look_every", ge=1)
    evaluations: int = setting(50, "episodes in an evaluation", ge=1)

    def __post_init__(self) -> None:
        if self.target_episodes and (self.judged_after > self.target_episodes or self.judged_after % self.look_every):
            expected = f"a multiple of look_every = {self.look_every} up to target_episodes = {self.target_episodes}"
            raise ValueError(f"judged_after = {self.judged_after}: expected {expected}")


@settings
class Observed(Agent):
    """An agent that learns from the states of random walks, and then learns the effects of actions.

    From the log it learns values and proposals, or clones the behaviour.
    """

    learner: Literal["observed", "bco"] = setting("observed", "the learning algorithm; set by each arm")
    walks: int = setting(250, "random walks of 40 steps in the log", ge=1)
    updates: int = setting(10_000, "updates on the log", ge=0)
    rounds: int = setting(6, "rounds of its own steps", ge=1)
    episodes: int = setting(12, "episodes in a round; those of the first round are random", ge=1)
    inverse_updates: int = setting(1000, "updates of the inverse model in a round", ge=1)
    cloning_updates: int = setting(3000, "updates of cloning in a round", ge=1)
    evaluations: int = setting(50, "episodes in an evaluation", ge=1)


def transfer(config: Transfer, run: Run) -> dict[str, Any]:
    """Train one agent, rotate its actuators and continue training; D3G retrains only its inverse model."""
    source, judged_source = points(1), points(config.evaluations)
    target, judged = points(1, rotate=90.0), points(config.evaluations, rotate=90.0)
    agent = build(config, *SPACES, run)
    buffer = new_buffer(config.source_episodes, run)
    for _ in run.steps(config.source_episodes, agent=agent, buffer=buffer):
        live(source, agent, buffer, config, run, random_steps=config.source_random_steps, update=agent.update)
    result: dict[str, Any] = {}
    update: Update = agent.update
    if config.source_episodes:
        result["source_return"] = mean_return(judged_source, agent, run)
        if isinstance(agent, D3G):
            result |= {
                "largest_step": largest_step(judged_source, agent, run),
                "shown": {"proposals": proposals(agent, run)},
            }
            agent.reset_inverse()
            update = agent.update_inverse
    buffer = new_buffer(config.target_episodes, run)
    judged_return = np.zeros(1)
    for episode in run.steps(config.target_episodes, agent=agent, buffer=buffer, judged_return=judged_return):
        live(target, agent, buffer, config, run, random_steps=config.target_random_steps, update=update)
        if (episode + 1) % config.look_every == 0:
            current_return = mean_return(judged, agent, run)
            run.log((episode + 1) * EPISODE, **{"return": current_return})
            if episode + 1 == config.judged_after:
                judged_return[0] = current_return
    run.keep(agent=agent)
    return result | ({"return": float(judged_return[0])} if config.target_episodes else {})


def learn_from_log(config: Observed, run: Run) -> dict[str, Any]:
    """Learn from a log of states, then act and learn the inverse model round by round."""
    log = ReplayBuffer(config.walks * EPISODE, SPACES[0], device=run.device)
    agent = build(config, *SPACES, run)
    judged = points(config.evaluations)

    def wander(observations: Any) -> Any:
        return agent.actions.decode(agent.actions.random(len(observations), run.generator))

    def record(states: Any, actions: Any, rewards: Any, next_states: Any, **ends: Any) -> None:
        log.add(states, None, rewards, next_states, **ends)

    vector_episodes(points(config.walks), wander, int(run.rng.integers(2**31)), record)
    result = {"random": float(vector_episodes(judged, wander, int(run.rng.integers(2**31))).mean())}
    cloning = isinstance(agent, BCO)
    for _ in run.steps(0 if cloning else config.updates, agent=agent, log=log):
        agent.update(log.sample(config.batch_size, run.generator))
    experience, returns = new_buffer(config.rounds * config.episodes, run), np.zeros(config.rounds)
    walkers = points(config.episodes)
    for round_ in run.steps(config.rounds, agent=agent, own=experience, returns=returns):
        live(walkers, agent, experience, config, run, random_steps=config.episodes * EPISODE)
        for _ in range(config.inverse_updates):
            agent.update_inverse(experience.sample(config.batch_size, run.generator))
        for _ in range(config.cloning_updates if cloning else 0):
            agent.update(log.sample(config.batch_size, run.generator))
        returns[round_] = mean_return(judged, agent, run)
        run.log(round_ + 1, return_by_round=float(returns[round_]))
    run.keep(agent=agent)
    return result | {"first_round": float(returns[0]), "last_round": float(returns[-1])}


def points(num_envs: int, **options: Any) -> Any:
    """Parallel point worlds."""
    return gymnasium.make_vec(point_world.ENV_ID, num_envs=num_envs, **options)


def new_buffer(episodes: int, run: Run) -> ReplayBuffer:
    """A buffer for a number of episodes."""
    return ReplayBuffer(max(1, episodes * EPISODE), *SPACES, device=run.device)


def proposals(agent: D3G, run: Run) -> list[list[float]]:
    """The steps that an agent proposes in random states."""
    states = run.rng.uniform(-1, 1, (SHOWN, 2))
    steps: list[list[float]] = (agent.propose(states, cycled=False) - states).tolist()
    return steps
