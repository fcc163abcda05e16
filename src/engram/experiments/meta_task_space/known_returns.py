"""Known returns of named meta-tasks: of chance, and of an oracle that knows the instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engram.agents.reference import Agent, OracleAgent, RandomAgent, play, regret
from engram.tasks.meta import MetaTask, MetaTaskVectorEnv, named


@dataclass(frozen=True)
class KnownReturn:
    """The known return of an agent in a task."""

    task: MetaTask
    agent: Callable[[np.random.Generator], Agent]
    value: float  # in units of ``units``
    units: float = 1.0  # divisor of the return of a lifetime
    rounding: float = 0.0  # rounding error of the known figure; closed forms are exact
    regret: bool = False  # whether the regret is known instead of the return

    def measure(self, lifetimes: int, seed: int) -> tuple[float, float]:
        """Run the agent; return the mean of its return or regret and the standard error.

        Examples:
            >>> known = exact_returns()["dependent bandit easy, oracle"]
            >>> value, error = known.measure(100, seed=0)
            >>> known.value, known.off(value) < 3 * error
            (90.0, True)
        """
        env = MetaTaskVectorEnv(self.task, lifetimes)
        lived = play(env, self.agent(np.random.default_rng(seed)), seed=seed)
        values = (regret(env, lived) if self.regret else lived.rewards.sum(1)) / self.units
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(lifetimes))

    def off(self, value: float) -> float:
        """The deviation of a value from the known one, minus the rounding error."""
        return max(0.0, abs(value - self.value) - self.rounding)


def exact_returns() -> dict[str, KnownReturn]:
    """The returns of random actions and of an oracle that knows the instance, in closed form, by name."""
    bandit, ten, trips = named.bandit(2), named.bandit(10), named.t_maze(horizon=99)
    dark, distance = named.dark_room(9), [abs(row) + abs(column) for row in range(-4, 5) for column in range(-4, 5)]
    tasks = {
        "bandit": (bandit, 50.0, 200 / 3, 1.0),
        "bandit of 10 arms": (ten, 50.0, 1000 / 11, 1.0),
        "harlow": (named.harlow(), 0.0, 0.5, 50.0),
        "t-maze": (trips, 0.55, 1.0, 33.0),
        "two-step": (named.two_step(), 0.5, 0.82, 50.0),
        "two-step wang2018": (named.two_step("wang2018"), 0.5, 0.74, 100.0),
        "two-step wang2016": (named.two_step("wang2016"), 0.5, 0.7, 50.0),
    }
    for kind, best in (("uniform", 75.0), ("easy", 90.0), ("medium", 75.0), ("hard", 60.0)):
        tasks[f"dependent bandit {kind}"] = (named.dependent_bandit(kind), 50.0, best, 1.0)
    returns = {}
    for name, (task, random, oracle, units) in tasks.items():
        returns[f"{name}, random"] = KnownReturn(task, RandomAgent, random, units)
        returns[f"{name}, oracle"] = KnownReturn(task, lambda _: OracleAgent(), oracle, units)
    room = float(np.mean([21 - steps_to_goal if steps_to_goal else 20 for steps_to_goal in distance]))
    returns["dark room, oracle"] = KnownReturn(dark, lambda _: OracleAgent(), room)
    return returns
