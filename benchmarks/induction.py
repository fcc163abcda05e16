"""Planning in guessed maps: milliseconds of a real step, and simulated episodes per second compared with pomdp-py.

`python benchmarks/induction.py` measures, in one thread: a step of the planner with all hypotheses on 35 x 13 cells,
with 300 simulated episodes of depth 20, including the induction of hypotheses; and simulated episodes per second on
Tiger, equally many of three steps, for engram and, if it is installed, for pomdp-py, whose search is compiled, too.
Each has the model in Python and compiled; the compiled models are those of numba here and of Cython in pomdp-py's
wheel. pomdp-py's POUCT is the same search from the same belief; its POMCP also keeps particles.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from numba import njit

from engram.spatial.induction import MapInductionPlanner
from engram.spatial.pomcp import POMCP
from engram.tasks import RepeatedUnitWorld

RECORD = Path(__file__).with_suffix(".json")
MOST_MS, FASTER = 2.0, 50.0  # targets
STEPS, DISCOUNT, UCB = 3, 0.95, 100.0
EPISODES, PARTICLES = 20_000, 1000
HEARD = 0.85  # probability that the tiger is heard behind its door
COMPILED, IN_PYTHON = "engram, compiled model", "engram, model in Python"
THEIRS = "pomdp-py"
THEIRS_IN_PYTHON = f"{THEIRS}, POUCT, model in Python"


class Tiger:
    n_actions = 3

    @staticmethod
    def sample(belief, rng):  # type: ignore[no-untyped-def]
        return int(rng.random() < belief)

    @staticmethod
    def step(state, action, rng):  # type: ignore[no-untyped-def]
        if action == 0:
            return state, state if rng.random() < HEARD else 1 - state, -1.0, False
        reward = -100.0 if action - 1 == state else 10.0
        return int(rng.random() < 0.5), int(rng.random() < 0.5), reward, False


class CompiledTiger(Tiger):
    sample, step = staticmethod(njit(Tiger.sample)), staticmethod(njit(Tiger.step))


Search = Callable[[], tuple[float, float]]  # plans once; returns its seconds, and the value of listening at the root


def ours(model: Tiger) -> Search:
    planner = POMCP(model, depth=STEPS, n_queries=EPISODES, discount=DISCOUNT, ucb=UCB, random_state=0)

    def plan() -> tuple[float, float]:
        start = time.process_time()
        planner.plan(0.5)
        return time.process_time() - start, float(planner.tree_.root_values[0])

    return plan


def tiger_in_python() -> Any:
    """Return pomdp-py's Tiger with a model in Python."""
    from pomdp_py.problems.tiger.tiger_problem import TigerProblem

    return TigerProblem.create("tiger-left", 0.5, 1 - HEARD)


def compiled_tiger() -> Any:
    """Return pomdp-py's Tiger with a model in Cython."""
    from pomdp_py import Histogram
    from pomdp_py.problems.tiger.cythonize.tiger_problem import TigerProblem, TigerState, build_setting

    doors = ["tiger-left", "tiger-right"]
    sure = {state: {other: float(other == state) for other in doors} for state in doors}
    even = dict.fromkeys(doors, 0.5)
    opened = {"open-left": even, "open-right": even}
    heard = {state: {other: HEARD if other == state else 1 - HEARD for other in doors} for state in doors}
    setting = build_setting(
        {
            "trans_probs": {state: {"listen": sure[state], **opened} for state in doors},
            "obs_probs": {state: {"listen": heard[state], **opened} for state in doors},
        }
    )
    belief = Histogram({TigerState(state): 0.5 for state in doors})
    return TigerProblem(setting["obs_probs"], setting["trans_probs"], TigerState(doors[0]), belief)


def theirs(problem_of: Callable[[], Any], *, particles: bool = False) -> Search:
    """Return the search of pomdp-py, POUCT, or POMCP with particles."""
    import pomdp_py

    # Their episodes also have a step at the maximal depth, which is counted from 0.
    options = {"max_depth": STEPS - 1, "discount_factor": DISCOUNT, "exploration_const": UCB, "num_sims": EPISODES}
    random.seed(0)

    def plan() -> tuple[float, float]:
        problem = problem_of()
        if particles:
            belief = problem.agent.cur_belief
            problem.agent.set_belief(pomdp_py.Particles([belief.random() for _ in range(PARTICLES)]), prior=True)
        method = pomdp_py.POMCP if particles else pomdp_py.POUCT
        planner = method(**options, rollout_policy=problem.agent.policy_model)
        start = time.process_time()
        planner.plan(problem.agent)
        seconds = time.process_time() - start
        tree = problem.agent.tree
        return seconds, next(tree[action].value for action in tree.children if action.name == "listen")

    return plan


def real_step() -> float:
    """Mean milliseconds of the planner's steps in an episode."""
    env = RepeatedUnitWorld()
    planner = MapInductionPlanner(shaping="visible", n_queries=300, depth=20, random_state=0)
    observation, _ = env.reset(seed=0)
    planner.reset(env.views)
    steps, seconds, terminated = 0, 0.0, False
    while not terminated:
        start = time.process_time()
        action = planner.act(observation)
        seconds += time.process_time() - start
        observation, _, terminated, *_ = env.step(action)
        steps += 1
    return 1e3 * seconds / steps


def measure(repetitions: int) -> dict[str, Any]:
    """Return episodes per second and the values of listening, measured in turn."""
    load = os.getloadavg()[0]
    rows = {IN_PYTHON: ours(Tiger()), COMPILED: ours(CompiledTiger())}
    try:
        rows |= {
            THEIRS_IN_PYTHON: theirs(tiger_in_python),
            f"{THEIRS}, POUCT, compiled model": theirs(compiled_tiger),
            f"{THEIRS}, POMCP, compiled model": theirs(compiled_tiger, particles=True),
        }
    except ImportError:
        print("pomdp-py is not installed: not measured")
    for row in rows.values():
        row()  # compiles
    rates: dict[str, list[float]] = {name: [] for name in rows}
    values: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(repetitions):
        for name, row in rows.items():
            seconds, value = row()
            rates[name].append(EPISODES / seconds)
            values[name].append(value)
    version = metadata.version("pomdp-py") if len(rows) > 2 else None
    return {"rates": rates, "values": values, "version": version, "load": load}


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    step, rates = statistics.median(record["milliseconds"]), record["rates"]
    median = {name: statistics.median(values) for name, values in rates.items()}
    lines = [
        "## Planning in guessed maps",
        "",
        f"Simulated episodes per second of processor time, in searches of {EPISODES:,} episodes of {STEPS} steps on",
        "Tiger, in one thread, in turn. pomdp-py's POUCT is the same search; its POMCP also keeps particles, "
        f"{PARTICLES:,} at first.",
        "*Value*: of listening, as the search estimates it; median and range.",
        "",
        f"Load average before the run {record['load']:.1f}.",
        "",
        "| | per second | quartiles | over engram's compiled model | value |",
        "|---|---|---|---|---|",
    ]
    for name, measured in rates.items():
        low, _, high = statistics.quantiles(measured, n=4)
        values = record["values"][name]
        value = f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        share = f"{median[name] / median[COMPILED]:.2g}x"
        lines.append(f"| {name} | {median[name]:,.0f} | {low:,.0f} to {high:,.0f} | {share} | {value} |")
    lines += [
        "",
        f"- a step of map induction, 35 x 13 cells, 300 episodes of depth 20: {step:.2f} ms; at most {MOST_MS} ms: "
        f"{_verdict(step <= MOST_MS)}",
    ]
    if peers := {name: rate for name, rate in median.items() if name.startswith(THEIRS)}:
        name = max(peers, key=lambda peer: peers[peer])
        ratio = median[COMPILED] / peers[name]
        lines.append(
            f"- a compiled model gives {ratio:.0f} times as many episodes as the fastest search of pomdp-py "
            f"{record['version']}; at least {FASTER:.0f}: {_verdict(ratio >= FASTER)}"
        )
        share = median[IN_PYTHON] / median[THEIRS_IN_PYTHON]
        lines.append(f"- with models in Python, engram makes {share:.2f} times as many as pomdp-py's POUCT")
    return [*lines, ""]


def _verdict(reached: bool) -> str:
    return "met" if reached else "**not met**"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--peer", action="store_true", help="only the episodes on Tiger; keep the steps of the record")
    options = parser.parse_args()
    record: dict[str, Any] = json.loads(RECORD.read_text()) if options.peer else {}
    if not options.peer:
        real_step()  # compiles
        record["milliseconds"] = [real_step() for _ in range(options.repetitions)]
    record |= measure(options.repetitions)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(section(record)))
