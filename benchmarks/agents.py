"""Steps of tabular learners and updates of off-policy agents per second, in one thread.

`python benchmarks/agents.py` measures tabular QSS (with a learned inverse) and Q-learning on the transfer grid, with 4
and 400 actions. All actions are random and there are no greedy episodes, so that every step is a learning step. It also
measures the updates of D3G, of engram's TD3 and of the TD3 of stable-baselines3, with networks of two layers of 64
units and batches of 64 from a replay buffer. Repetitions are taken in turn; the figures are medians, with the range
from the first to the third quartile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from engram.agents import D3G, TD3, EpsilonGreedy, ReplayBuffer, TabularQ, TabularQSS, vector_episodes
from engram.tasks.environments import point_world
from engram.tasks.environments.grid_transfer import grid_transfer

RECORD = Path(__file__).with_suffix(".json")
WIDTH, BATCH = 64, 64
EPISODES, UPDATES = 2000, 500
THEIRS = "TD3 of stable-baselines3"
STEPS = {"TabularQSS, 4 actions": 5e6, "TabularQSS, 400 actions": 2e6}  # targets, per second
SLOWEST, FASTER = 2.0, 1.5  # time of D3G's update over that of our TD3; rate of our TD3 over that of stable-baselines3

Measure = Callable[[], float]


def tabular(learner: type[TabularQ] | type[TabularQSS], actions: int) -> Measure:
    """Steps per second of a tabular learner."""
    mdp = grid_transfer(n_actions=actions)
    cells, rng = len(mdp.terminal), np.random.default_rng(0)
    agent = learner([0], [cells], [cells], actions, rng=rng, exploration=EpsilonGreedy(1.0, 0, 1))

    def rate() -> float:
        before, start = agent.steps, time.perf_counter()
        agent.train(mdp, EPISODES, evaluations=0)
        return (agent.steps - before) / (time.perf_counter() - start)

    return rate


def updates(learner: type[D3G] | type[TD3], **options: Any) -> Measure:
    """Updates per second of an agent, including drawing the batch."""
    env = gymnasium.make_vec(point_world.ENV_ID, num_envs=100)
    spaces, generator = (env.single_observation_space, env.single_action_space), torch.Generator().manual_seed(0)
    agent = learner(*spaces, generator=generator, hidden=(WIDTH, WIDTH), **options)
    buffer = ReplayBuffer(10_000, *spaces)
    fill(env, buffer.add)

    def rate() -> float:
        start = time.perf_counter()
        for _ in range(UPDATES):
            agent.update(buffer.sample(BATCH, generator))
        return UPDATES / (time.perf_counter() - start)

    return rate


def fill(env: Any, add: Callable[..., object]) -> None:
    """Fill a buffer with the transitions of random actions."""
    vector_episodes(env, lambda observations: env.action_space.sample(), 0, add)


def theirs() -> Measure:
    """Updates per second of the TD3 of stable-baselines3."""
    import stable_baselines3

    env = gymnasium.make(point_world.ENV_ID)
    architecture = {"net_arch": [WIDTH, WIDTH]}
    agent = stable_baselines3.TD3(
        "MlpPolicy", env, policy_kwargs=architecture, buffer_size=10_000, device="cpu", seed=0
    )
    agent.learn(1)  # sets its logger
    for _ in range(100):
        fill(
            gymnasium.make_vec(point_world.ENV_ID, num_envs=1),
            lambda *parts, terminated, truncated: agent.replay_buffer.add(  # type: ignore[union-attr]
                parts[0], parts[3], parts[1], parts[2], terminated, [{}]
            ),
        )

    def rate() -> float:
        start = time.perf_counter()
        agent.train(UPDATES, BATCH)
        return UPDATES / (time.perf_counter() - start)

    return rate


def measure(repetitions: int) -> dict[str, list[float]]:
    """Return steps or updates per second, measured in turn."""
    torch.set_num_threads(1)
    rows: dict[str, Measure] = {
        f"{learner.__name__}, {actions} actions": tabular(learner, actions)
        for learner in (TabularQSS, TabularQ)
        for actions in (4, 400)
    }
    rows |= {f"D3G, cycle={cycle}": updates(D3G, cycle=cycle) for cycle in ("model", "value", "none")}
    rows |= {"TD3": updates(TD3), THEIRS: theirs()}
    for row in rows.values():
        row()  # compiles
    rates: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(repetitions):
        for name, row in rows.items():
            rates[name].append(row())
    return rates


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    rates = record["rates"]
    median = {name: statistics.median(values) for name, values in rates.items()}
    lines = [
        "## Agents",
        "",
        "Steps of tabular learners on the transfer grid, with random actions only, and updates of agents with two",
        f"layers of {WIDTH} units and batches of {BATCH}, per second, in one thread:",
        "",
        "| | per second | quartiles |",
        "|---|---|---|",
    ]
    for name, values in rates.items():
        low, _, high = statistics.quantiles(values, n=4)
        lines.append(f"| {name} | {median[name]:,.0f} | {low:,.0f} to {high:,.0f} |")
    slower, faster = median["TD3"] / median["D3G, cycle=model"], median["TD3"] / median[THEIRS]
    return [
        *lines,
        "",
        *(
            f"- {name}: at least {least:.0e} per second: {_verdict(median[name] >= least)}"
            for name, least in STEPS.items()
        ),
        f"- an update of D3G takes {slower:.2f} times as long as an update of TD3; at most {SLOWEST}: "
        f"{_verdict(slower <= SLOWEST)}",
        f"- TD3 makes {faster:.2f} times as many updates as the TD3 of stable-baselines3; at least {FASTER}: "
        f"{_verdict(faster >= FASTER)}",
        "",
    ]


def _verdict(reached: bool) -> str:
    return "met" if reached else "**not met**"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    record = {"rates": measure(parser.parse_args().repetitions)}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(section(record)))
