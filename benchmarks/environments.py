"""Steps per second of the batched environments, compared with loops over single environments and with MiniGrid.

`python benchmarks/environments.py` measures whole episodes, including resets, in one process and one thread:
(a) MiniGrid, an empty room of 8 x 8, without any wrapper; (b) a plain implementation of the task, one environment after
another, as in the published scripts; (c) single environments of engram, one after another; (d) batches of engram.
Repetitions are interleaved, so that a busy machine slows all of them; the figures are medians, with the range from the
first to the third quartile. The record is written next to this file; ``page.py`` writes the page from it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import engram.tasks  # noqa: F401 - registers its environments

RECORD = Path(__file__).with_suffix(".json")
TARGET = 100.0  # times MiniGrid, at 256 environments
SIZE, STEPS = 11, 200
CUES, BITS, CUE_STEPS = 4, 20, 120


class PlainMaze:
    """A plain implementation of the maze."""

    def reset(self) -> Any:
        self.lab = np.ones((SIZE, SIZE))
        self.lab[1:-1, 1:-1] = 0
        self.lab[2:-1:2, 2:-1:2] = 1
        self.center = SIZE // 2
        self.lab[self.center, self.center] = 0
        self.goal = self.free_cell((self.center, self.center))
        self.row = self.column = self.center
        self.time, self.reward, self.action = 0, 0.0, 0
        return self.observe()

    def free_cell(self, but: tuple[int, int]) -> tuple[int, int]:
        while True:
            cell = random.randrange(1, SIZE - 1), random.randrange(1, SIZE - 1)
            if not self.lab[cell] and cell != but:
                return cell

    def step(self, action: int) -> tuple[Any, float, bool]:
        row, column = self.row, self.column
        if action == 0:
            row -= 1
        elif action == 1:
            row += 1
        elif action == 2:
            column -= 1
        else:
            column += 1
        self.reward = 0.0
        if not self.lab[row, column]:
            self.row, self.column = row, column
        if (self.row, self.column) == self.goal:
            self.reward = 10.0
            self.row, self.column = self.free_cell(self.goal)
        self.time += 1
        self.action = action
        return self.observe(), self.reward, self.time == STEPS

    def observe(self) -> Any:
        inputs = np.zeros(17, dtype=np.float32)
        inputs[:9] = self.lab[self.row - 1 : self.row + 2, self.column - 1 : self.column + 2].flatten()
        inputs[10] = 1.0
        inputs[11] = self.time / STEPS
        inputs[12] = self.reward
        inputs[13 + self.action] = 1.0
        return inputs


class PlainCueReward:
    """A plain implementation of the association of cues with reward."""

    def reset(self) -> Any:
        self.cues: list[Any] = []
        while len(self.cues) < CUES:
            cue = np.random.randint(2, size=BITS) * 2 - 1  # noqa: NPY002
            if not any((cue == other).all() for other in self.cues):
                self.cues.append(cue)
        self.target = random.randrange(CUES)
        self.time, self.reward, self.action = 0, 0.0, None
        self.begin_trial()
        return self.observe()

    def begin_trial(self) -> None:
        length = CUES // 2 + 3 + random.randrange(CUES)
        shown = random.sample(range(CUES), CUES // 2)
        middle = [*shown, *[-1] * (length - 3 - CUES // 2)]
        random.shuffle(middle)
        self.schedule, self.place = [-1, *middle, -2, -1], 0
        self.answer = int(self.target in shown)

    def step(self, action: int) -> tuple[Any, float, bool]:
        self.reward = 0.0
        if self.schedule[self.place] == -2:
            self.reward = 1.0 if action == self.answer else -1.0
        self.place += 1
        if self.place == len(self.schedule):
            self.begin_trial()
        self.time += 1
        self.action = action
        return self.observe(), self.reward, self.time == CUE_STEPS

    def observe(self) -> Any:
        inputs = np.zeros(BITS + 7, dtype=np.float32)
        shown = self.schedule[self.place]
        if shown >= 0:
            inputs[:BITS] = self.cues[shown]
        elif shown == -2:
            inputs[BITS] = 1.0
        inputs[BITS + 1] = 1.0
        inputs[BITS + 2] = self.time / CUE_STEPS
        inputs[BITS + 3] = self.reward
        if self.action is not None:
            inputs[BITS + 5 + self.action] = 1.0
        return inputs


def of_batch(env_id: str, num_envs: int, steps: int) -> Callable[[], float]:
    env = gymnasium.make_vec(env_id, num_envs)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(env.single_action_space.n, size=(steps, num_envs))

    def rate() -> float:
        start = time.perf_counter()
        for action in actions:
            env.step(action)
        return actions.size / (time.perf_counter() - start)

    return rate


def of_loop(envs: list[Any], actions: int, steps: int, done: Callable[[Any], bool]) -> Callable[[], float]:
    for env in envs:
        env.reset()
    chosen = np.random.default_rng(0).integers(actions, size=(steps, len(envs))).tolist()

    def rate() -> float:
        start = time.perf_counter()
        for row in chosen:
            for env, action in zip(envs, row, strict=True):
                if done(env.step(action)):
                    env.reset()
        return steps * len(envs) / (time.perf_counter() - start)

    return rate


def single(env_id: str, num_envs: int, steps: int) -> Callable[[], float]:
    envs = [gymnasium.make(env_id, disable_env_checker=True).unwrapped for _ in range(num_envs)]
    return of_loop(envs, int(envs[0].action_space.n), steps, lambda result: result[2] or result[3])


def medians(record: dict[str, Any]) -> dict[tuple[str, int, str], float]:
    return {(r["environment"], r["number"], r["what"]): statistics.median(r["rates"]) for r in record["rows"]}


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the cells of every row: steps per second, their quartiles, and the ratios to the loop and to MiniGrid."""
    median, lines = medians(record), []
    room = next(iter(median.values()))
    for row in record["rows"]:
        low, middle, high = statistics.quantiles(row["rates"], n=4)
        loop = median.get((row["environment"], row["number"], "(b) plain Python loop"))
        ratio = "" if loop is None else f"{middle / loop:.2f}"
        spread = f"{low:,.0f} to {high:,.0f}"
        first = [row["environment"], str(row["number"]), row["what"]]
        lines.append([*first, f"{middle:,.0f}", spread, ratio, f"{middle / room:.2f}"])
    return lines


def verdicts(record: dict[str, Any]) -> list[str]:
    """Return for every task whether the target is met."""
    median = medians(record)
    room = next(iter(median.values()))
    lines = []
    for (env_id, number, what), rate in median.items():
        if number == 256 and what == "(d) ours, batched":
            verdict = "met" if rate / room >= TARGET else "**not met**"
            reached = f"{env_id}: {rate / room:.0f} times the steps per second of MiniGrid at 256 environments"
            lines.append(f"{reached}; at least {TARGET:.0f}: {verdict}")
    return lines


def main(num_envs: list[int], repetitions: int) -> None:
    import minigrid  # noqa: F401 - registers its environments

    rows: dict[tuple[str, int, str], Callable[[], float]] = {
        ("minigrid", 1, "(a) MiniGrid, empty room"): single("MiniGrid-Empty-8x8-v0", 1, 1500),
    }
    tasks = [("engram/GridMaze-v0", PlainMaze, 4, STEPS), ("engram/CueReward-v0", PlainCueReward, 2, CUE_STEPS)]
    for env_id, plain, actions, length in tasks:
        for number in num_envs:
            few = min(number, 16)  # the rate of a loop does not depend on the number of environments
            rows[env_id, number, "(b) plain Python loop"] = of_loop(
                [plain() for _ in range(few)], actions, length, lambda result: result[2]
            )
            rows[env_id, number, "(c) our single environments"] = single(env_id, few, length)
            rows[env_id, number, "(d) ours, batched"] = of_batch(env_id, number, 2 * length + 2)
    rates: dict[tuple[str, int, str], list[float]] = {row: [] for row in rows}
    for _ in range(repetitions):
        for row, measure in rows.items():
            rates[row].append(measure())
    measured = [{"environment": e, "number": n, "what": w, "rates": rates[e, n, w]} for e, n, w in rows]
    RECORD.write_text(json.dumps({"rows": measured}, indent=1) + "\n")
    for cells in table({"rows": measured}):
        print("{:20} {:>5} {:28} {:>11} {:>23} {:>8} {:>10}".format(*cells))
    print(*verdicts({"rows": measured}), sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1, 32, 256, 2048])
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    main(arguments.num_envs, arguments.repetitions)
