"""What is known of named meta-tasks: the returns of chance, of who knows the instance, and of who infers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engram.agents.reference import Agent, BanditAgent, BayesFilterAgent, OracleAgent, RandomAgent, play, regret
from engram.tasks.meta import MetaTask, MetaTaskVectorEnv, named, pomdp


@dataclass(frozen=True)
class KnownReturn:
    """The return of an agent in a task, as it is known."""

    task: MetaTask
    agent: Callable[[np.random.Generator], Agent]
    value: float  # in units
    units: float = 1.0  # by what the return of a lifetime is divided
    rounding: float = 0.05  # of the published figure; closed forms are not rounded
    regret: bool = False  # whether it is not the return that is known, but the regret

    def measure(self, lifetimes: int, seed: int) -> tuple[float, float]:
        """Let the agent live; return the mean of the return or regret, and its standard error.

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
        """How far a value is from the known one, but for rounding."""
        return max(0.0, abs(value - self.value) - self.rounding)


def exact_returns() -> dict[str, KnownReturn]:
    """The returns of acting at random and of knowing the instance, in closed form, by name."""
    bandit, ten, trips = named.bandit(2), named.bandit(10), named.t_maze(horizon=99)
    dark, distance = named.dark_room(9), [abs(r) + abs(c) for r in range(-4, 5) for c in range(-4, 5)]
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
    known = {}
    for name, (task, random, oracle, units) in tasks.items():
        known[f"{name}, random"] = KnownReturn(task, RandomAgent, random, units, rounding=0.0)
        known[f"{name}, oracle"] = KnownReturn(task, lambda _: OracleAgent(), oracle, units, rounding=0.0)
    room = float(np.mean([21 - d if d else 20 for d in distance]))
    known["dark room, oracle"] = KnownReturn(dark, lambda _: OracleAgent(), room, rounding=0.0)
    return known


def ideal_returns() -> dict[str, KnownReturn]:
    """The returns and regrets of learners that know the task, as another implementation measured them."""

    def arms_by(rule: str, *, dependent: bool = False) -> Callable[[np.random.Generator], Agent]:
        return lambda generator: BanditAgent(rule, generator, dependent=dependent)

    def inferring(task: MetaTask) -> Callable[[np.random.Generator], Agent]:
        return lambda generator: BayesFilterAgent(pomdp(task), rng=generator)

    bandit, uniform, ten = named.bandit(2), named.dependent_bandit(), named.bandit(10)
    thompson = arms_by("thompson", dependent=True)
    known = {
        "bandit, Thompson": KnownReturn(bandit, arms_by("thompson"), 2.8, regret=True),
        "bandit, UCB1": KnownReturn(bandit, arms_by("ucb1"), 5.6, regret=True),
        "dependent bandit uniform, greedy": KnownReturn(uniform, arms_by("greedy", dependent=True), 1.2, regret=True),
        "dependent bandit uniform, Thompson": KnownReturn(uniform, thompson, 2.1, regret=True),
        "dependent bandit uniform, UCB1": KnownReturn(uniform, arms_by("ucb1"), 6.0, regret=True),
        "bandit of 10 arms, Thompson": KnownReturn(ten, arms_by("thompson"), 76.9),
        "bandit of 10 arms, UCB1": KnownReturn(ten, arms_by("ucb1"), 63.3),
    }
    for kind, greedy, independent in (("easy", 0.6, 2.1), ("medium", 1.0, 3.0), ("hard", 2.3, 4.1)):
        task = named.dependent_bandit(kind)
        name = f"dependent bandit {kind}"
        known[f"{name}, greedy"] = KnownReturn(task, arms_by("greedy", dependent=True), greedy, regret=True)
        known[f"{name}, independent Thompson"] = KnownReturn(task, arms_by("thompson"), independent, regret=True)
    for kind, trials, value in (("paper", 50.0, 0.809), ("wang2018", 100.0, 0.706), ("wang2016", 50.0, 0.694)):
        task = named.two_step(kind)
        known[f"two-step {kind}, Bayes filter"] = KnownReturn(task, inferring(task), value, trials, rounding=0.0005)
    return known
