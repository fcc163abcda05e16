"""Planning in guessed maps: milliseconds of a real step, and simulated episodes per second compared with pomdp-py.

`python benchmarks/induction.py` measures, in one thread: a step of the planner with all hypotheses on 35 x 13 cells,
with 300 simulated episodes of depth 20, including the induction of hypotheses; and episodes of depth 3 per second on
Tiger, for POMCP with a model in Python, for POMCP with a compiled model, and for pomdp-py, if it is installed.
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

from numba import njit

from engram.spatial.induction import MapInductionPlanner
from engram.spatial.pomcp import POMCP
from engram.tasks import RepeatedUnitWorld

RECORD = Path(__file__).with_suffix(".json")
MOST_MS, FASTER = 2.0, 50.0  # targets
DEPTH, DISCOUNT, UCB = 3, 0.95, 100.0
THEIRS = "pomdp-py"


class Tiger:
    n_actions = 3

    @staticmethod
    def sample(belief, rng):  # type: ignore[no-untyped-def]
        return int(rng.random() < belief)

    @staticmethod
    def step(state, action, rng):  # type: ignore[no-untyped-def]
        if action == 0:
            return state, state if rng.random() < 0.85 else 1 - state, -1.0, False
        reward = -100.0 if action - 1 == state else 10.0
        return int(rng.random() < 0.5), 2, reward, False


class CompiledTiger(Tiger):
    sample, step = staticmethod(njit(Tiger.sample)), staticmethod(njit(Tiger.step))


def episodes(model: Tiger, queries: int) -> Callable[[], float]:
    """Episodes per second of engram's POMCP."""
    planner = POMCP(model, depth=DEPTH, n_queries=queries, discount=DISCOUNT, ucb=UCB, random_state=0)

    def rate() -> float:
        start = time.perf_counter()
        planner.plan(0.5)
        return queries / (time.perf_counter() - start)

    return rate


def theirs(queries: int) -> Callable[[], float]:
    """Episodes per second of pomdp-py."""
    import pomdp_py
    from pomdp_py.problems.tiger.tiger_problem import TigerProblem

    random.seed(0)

    def rate() -> float:
        problem = TigerProblem.create("tiger-left", 0.5, 0.15)
        options = {"max_depth": DEPTH, "discount_factor": DISCOUNT, "exploration_const": UCB, "num_sims": queries}
        planner = pomdp_py.POUCT(**options, rollout_policy=problem.agent.policy_model)
        start = time.perf_counter()
        planner.plan(problem.agent)
        return queries / (time.perf_counter() - start)

    return rate


def real_step() -> float:
    """Mean milliseconds of the planner's steps in an episode."""
    env = RepeatedUnitWorld()
    planner = MapInductionPlanner(shaping="visible", n_queries=300, depth=20, random_state=0)
    observation, _ = env.reset(seed=0)
    planner.reset(env.views)
    steps, seconds, terminated = 0, 0.0, False
    while not terminated:
        start = time.perf_counter()
        action = planner.act(observation)
        seconds += time.perf_counter() - start
        observation, _, terminated, *_ = env.step(action)
        steps += 1
    return 1e3 * seconds / steps


def measure(repetitions: int) -> dict[str, Any]:
    """Return the milliseconds of a step, and episodes per second, measured in turn."""
    rows = {"Python model": episodes(Tiger(), 2000), "compiled model": episodes(CompiledTiger(), 100_000)}
    try:
        rows[THEIRS] = theirs(5000)
    except ImportError:
        print("pomdp-py is not installed: not measured")
    for row in (*rows.values(), real_step):
        row()  # compiles
    rates: dict[str, list[float]] = {name: [] for name in rows}
    steps = []
    for _ in range(repetitions):
        steps.append(real_step())
        for name, row in rows.items():
            rates[name].append(row())
    return {"milliseconds": steps, "rates": rates}


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    step, rates = statistics.median(record["milliseconds"]), record["rates"]
    median = {name: statistics.median(values) for name, values in rates.items()}
    lines = [
        "## Planning in guessed maps",
        "",
        f"Simulated episodes of POMCP per second on Tiger, with depth {DEPTH}, in one thread:",
        "",
        "| | per second | quartiles |",
        "|---|---|---|",
    ]
    for name, values in rates.items():
        low, _, high = statistics.quantiles(values, n=4)
        lines.append(f"| {name} | {median[name]:,.0f} | {low:,.0f} to {high:,.0f} |")
    lines += [
        "",
        f"- a step of map induction, 35 x 13 cells, 300 episodes of depth 20: {step:.2f} ms; at most {MOST_MS} ms: "
        f"{_verdict(step <= MOST_MS)}",
    ]
    if THEIRS in median:
        ratio = median["compiled model"] / median[THEIRS]
        lines.append(
            f"- a compiled model gives {ratio:.0f} times as many episodes as pomdp-py; at least {FASTER:.0f}: "
            f"{_verdict(ratio >= FASTER)}"
        )
    return [*lines, ""]


def _verdict(reached: bool) -> str:
    return "met" if reached else "**not met**"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    record = measure(parser.parse_args().repetitions)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(section(record)))
