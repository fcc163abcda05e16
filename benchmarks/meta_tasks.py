"""Steps per second of meta-tasks, many different ones at once, against a Python loop and against MiniGrid.

`python benchmarks/meta_tasks.py` measures, with whole lifetimes and their resets, action selection left out:
(a) MiniGrid, an empty room of 8 x 8, without any wrapper; (b) a `MetaTaskEnv` for each task, one after another;
(c) `MetaTaskVectorEnv`, all tasks in one batch. Repetitions are interleaved, so that a busy machine slows all of them;
figures are medians, with the range from the first to the third quartile.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import minigrid  # noqa: F401 - registers its environments
import numpy as np

from engram.tasks.meta import MetaTask, MetaTaskEnv, MetaTaskVectorEnv, sample_many

TARGET = 1e6  # steps a second, at 1024 environments
HORIZON = 100


def of_batch(tasks: list[MetaTask], num_envs: int) -> Callable[[], float]:
    env = MetaTaskVectorEnv(tasks, num_envs)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(2, size=(2 * HORIZON + 2, num_envs))  # two lifetimes, two resets

    def rate() -> float:
        start = time.perf_counter()
        for action in actions:
            env.step(action)
        return actions.size / (time.perf_counter() - start)

    return rate


def of_loop(envs: list[Any], steps: int) -> Callable[[], float]:
    for env in envs:
        env.reset(seed=0)
    chosen = np.random.default_rng(0).integers(2, size=(steps, len(envs))).tolist()

    def rate() -> float:
        start = time.perf_counter()
        for row in chosen:
            for env, action in zip(envs, row, strict=True):
                told = env.step(action)
                if told[2] or told[3]:
                    env.reset()
        return steps * len(envs) / (time.perf_counter() - start)

    return rate


def main(num_envs: list[int], repetitions: int) -> None:
    tasks = sample_many(max(num_envs), 0, accept="reference", horizon=HORIZON)
    rows: dict[tuple[int, str], Callable[[], float]] = {}
    room = gymnasium.make("MiniGrid-Empty-8x8-v0", disable_env_checker=True).unwrapped
    rows[1, "(a) MiniGrid, empty room"] = of_loop([room], 1500)
    for number in num_envs:
        few = [MetaTaskEnv(task) for task in tasks[: min(number, 16)]]  # a loop's rate does not depend on how many
        rows[number, "(b) one after another"] = of_loop(few, HORIZON)
        rows[number, "(c) one batch"] = of_batch(tasks[:number], number)
    for measure in rows.values():
        measure()  # compiles
    rates: dict[tuple[int, str], list[float]] = {row: [] for row in rows}
    for _ in range(repetitions):
        for row, measure in rows.items():
            rates[row].append(measure())
    median = {row: statistics.median(found) for row, found in rates.items()}
    print(f"random tasks of 4 states and 2 actions, lifetimes of {HORIZON} steps")
    print(f"{'tasks':>5} {'':26} {'steps/s':>11} {'quartiles':>23} {'/ loop':>8} {'/ MiniGrid':>10}")
    for (number, what), found in rates.items():
        low, _, high = statistics.quantiles(found, n=4)
        loop = median.get((number, "(b) one after another"))
        ratio = "" if loop is None else f"{median[number, what] / loop:.2f}"
        to_room = median[number, what] / median[1, "(a) MiniGrid, empty room"]
        spread = f"{low:,.0f} to {high:,.0f}"
        print(f"{number:5} {what:26} {median[number, what]:11,.0f} {spread:>23} {ratio:>8} {to_room:10.2f}")
    if 1024 in num_envs:
        rate = median[1024, "(c) one batch"]
        verdict = "reached" if rate >= TARGET else "missed"
        print(f"{rate:,.0f} steps a second of 1024 mixed tasks; the target, {TARGET:,.0f}, is {verdict}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1, 64, 1024])
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    main(arguments.num_envs, arguments.repetitions)
