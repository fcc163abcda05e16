"""Steps per second of many different meta-tasks at once, compared with a Python loop and with MiniGrid.

`python benchmarks/meta_tasks.py` measures whole lifetimes, including resets but not action selection:
(a) MiniGrid, an empty room of 8 x 8, without any wrapper; (b) a `MetaTaskEnv` for each task, one after another;
(c) `MetaTaskVectorEnv`, all tasks in one batch. Repetitions are interleaved, so that a busy machine slows all of them;
the figures are medians, with the range from the first to the third quartile.
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
import minigrid  # noqa: F401 - registers its environments
import numpy as np

from engram.tasks.meta import MetaTask, MetaTaskEnv, MetaTaskVectorEnv, sample_many

RECORD = Path(__file__).with_suffix(".json")
ROOM, LOOP, BATCH = "(a) MiniGrid, empty room", "(b) one after another", "(c) one batch"
TARGET = 1e6  # steps per second, at 1024 environments
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
                result = env.step(action)
                if result[2] or result[3]:
                    env.reset()
        return steps * len(envs) / (time.perf_counter() - start)

    return rate


def measured(num_envs: list[int], repetitions: int) -> list[dict[str, Any]]:
    """Return steps per second, measured in turn."""
    tasks = sample_many(max(num_envs), 0, accept="reference", horizon=HORIZON)
    rows: dict[tuple[int, str], Callable[[], float]] = {}
    room = gymnasium.make("MiniGrid-Empty-8x8-v0", disable_env_checker=True).unwrapped
    rows[1, ROOM] = of_loop([room], 1500)
    for number in num_envs:
        # The rate of a loop does not depend on the number of environments.
        few = [MetaTaskEnv(task) for task in tasks[: min(number, 16)]]
        rows[number, LOOP] = of_loop(few, HORIZON)
        rows[number, BATCH] = of_batch(tasks[:number], number)
    for measure in rows.values():
        measure()  # compiles
    rates: dict[tuple[int, str], list[float]] = {row: [] for row in rows}
    for _ in range(repetitions):
        for row, measure in rows.items():
            rates[row].append(measure())
    return [{"tasks": number, "way": way, "rates": values} for (number, way), values in rates.items()]


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    median = {(row["tasks"], row["way"]): statistics.median(row["rates"]) for row in record["rows"]}
    lines = [
        "## Meta-tasks",
        "",
        f"Steps per second of random tasks with 4 states and 2 actions, over lifetimes of {HORIZON} steps, including",
        "resets but not action selection, in one process and one thread; repetitions are taken in turn.",
        "",
        "| tasks | | steps/s | quartiles | over the loop | over MiniGrid |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        number, way = row["tasks"], row["way"]
        low, _, high = statistics.quantiles(row["rates"], n=4)
        loop = median.get((number, LOOP))
        ratio = "" if loop is None else f"{median[number, way] / loop:.2f}x"
        lines.append(
            f"| {number} | {way} | {median[number, way]:,.0f} | {low:,.0f} to {high:,.0f} | {ratio} "
            f"| {median[number, way] / median[1, ROOM]:.2f}x |"
        )
    if (1024, BATCH) in median:
        verdict = "met" if median[1024, BATCH] >= TARGET else "**not met**"
        lines += ["", f"- {TARGET:,.0f} steps per second of 1024 mixed tasks: {verdict}"]
    return [*lines, ""]


def main(num_envs: list[int], repetitions: int) -> None:
    record = {"rows": measured(num_envs, repetitions)}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(section(record)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1, 64, 1024])
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    main(arguments.num_envs, arguments.repetitions)
