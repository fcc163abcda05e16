"""What the space holds: known returns of named tasks, and what is wrong with tasks that are drawn at random."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from engram.agents.reference import Agent, BanditAgent, BayesFilterAgent, OracleAgent, RandomAgent, play, regret
from engram.lab import Run
from engram.tasks.meta import MetaTask, MetaTaskVectorEnv, diagnose, digest, named, pomdp, reference_criteria, sample
from engram.tasks.meta.diagnose import COSMETIC, DEGENERACIES


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
        found = (regret(env, lived) if self.regret else lived.rewards.sum(1)) / self.units
        return float(found.mean()), float(found.std(ddof=1) / np.sqrt(lifetimes))

    def off(self, value: float) -> float:
        """Return how far a value is from the known one, but for rounding."""
        return max(0.0, abs(value - self.value) - self.rounding)


def exact_returns() -> dict[str, KnownReturn]:
    """Return the returns of acting at random and of knowing the instance, in closed form, by name."""
    bandit, ten, trips = named.bandit(2), named.bandit(10), named.t_maze(horizon=99)
    dark, distance = named.dark_room(9), [abs(r) + abs(c) for r in range(-4, 5) for c in range(-4, 5)]
    found = {
        "bandit": (bandit, 50.0, 200 / 3, 1.0),
        "bandit of 10 arms": (ten, 50.0, 1000 / 11, 1.0),
        "harlow": (named.harlow(), 0.0, 0.5, 50.0),
        "t-maze": (trips, 0.55, 1.0, 33.0),
        "two-step": (named.two_step(), 0.5, 0.82, 50.0),
        "two-step wang2018": (named.two_step("wang2018"), 0.5, 0.74, 100.0),
        "two-step wang2016": (named.two_step("wang2016"), 0.5, 0.7, 50.0),
    }
    for kind, best in (("uniform", 75.0), ("easy", 90.0), ("medium", 75.0), ("hard", 60.0)):
        found[f"dependent bandit {kind}"] = (named.dependent_bandit(kind), 50.0, best, 1.0)
    known = {}
    for name, (task, random, oracle, units) in found.items():
        known[f"{name}, random"] = KnownReturn(task, RandomAgent, random, units, rounding=0.0)
        known[f"{name}, oracle"] = KnownReturn(task, lambda _: OracleAgent(), oracle, units, rounding=0.0)
    room = float(np.mean([21 - d if d else 20 for d in distance]))
    known["dark room, oracle"] = KnownReturn(dark, lambda _: OracleAgent(), room, rounding=0.0)
    return known


def ideal_returns() -> dict[str, KnownReturn]:
    """Return the returns and regrets of learners that know the task, as another implementation measured them."""

    def arms_by(rule: str, *, dependent: bool = False) -> Callable[[np.random.Generator], Agent]:
        return lambda generator: BanditAgent(rule, generator, dependent=dependent)

    def inferring(task: MetaTask) -> Callable[[np.random.Generator], Agent]:
        return lambda generator: BayesFilterAgent(pomdp(task), generator=generator)

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


@dataclass(frozen=True)
class Anchors:
    """Known returns of named tasks."""

    lifetimes: Annotated[int, Ge(8)] = 10_000
    """Lifetimes by which a return is measured."""


@dataclass(frozen=True)
class Generator:
    """Random tasks and their diagnoses."""

    attempts: Annotated[int, Ge(20)] = 20_000
    """Draws of the published generator."""
    accepted: Annotated[int, Ge(2)] = 1500
    """Tasks accepted by the published criteria that are diagnosed."""


def measure_anchors(config: Anchors, run: Run) -> dict[str, Any]:
    """Measure known returns; the result is how far off they are."""
    exact, ideal = exact_returns(), ideal_returns()
    every = exact | ideal
    names = list(every)
    measured, off = np.zeros((len(names), 2)), np.zeros((len(names), 2))
    seed = int(run.rng.integers(2**31))
    for i in run.steps(len(names), measured=measured, off=off):
        known = every[names[i]]
        value, error = measured[i] = known.measure(config.lifetimes, seed + i)
        far = known.off(value)
        errors = far / error if error else (0.0 if far < 1e-9 else np.inf)
        off[i] = errors, far / known.value if known.value else 0.0
        run.log(i + 1, off=errors)
    return {
        "exact_off": float(off[: len(exact), 0].max()),  # in standard errors
        "ideal_off": float(off[len(exact) :, 1].max()),  # as a share
        "returns": dict(zip(names, measured.round(6).tolist(), strict=True)),
    }


CRITERIA = {"variation": 0.529, "control": 0.676, "leaves": 0.915, "entered": 0.549}
PARTS = 10


def measure_generator(config: Generator, run: Run) -> dict[str, Any]:
    """Draw tasks and diagnose them; the result is how many of them are what."""
    attempts, diagnosed = PARTS * (config.attempts // PARTS), PARTS * max(1, config.accepted // PARTS)
    known = sorted(DEGENERACIES + COSMETIC)
    met, accepted, codes, good = np.zeros(4), np.zeros(1), np.zeros(len(known)), np.zeros(2)
    hashes = np.zeros(diagnosed, dtype=np.int64)
    for part in run.steps(PARTS, met=met, accepted=accepted, codes=codes, good=good, hashes=hashes):
        for _ in range(attempts // PARTS):
            passed = reference_criteria(sample(run.rng, accept=None, reference_quirks=True))
            met += passed
            accepted += all(passed)
        for i in range(part * diagnosed // PARTS, (part + 1) * diagnosed // PARTS):
            task = sample(run.rng, accept="reference", reference_quirks=True)
            about = diagnose(task)
            codes += [code in about.codes for code in known]
            worth = (about.gap > 0.02 or bool(about.ambiguous)) and "TRIVIAL" not in about.codes
            good += worth, not about.degeneracies
            hashes[i] = int(digest(task)[:15], 16)
        run.log(part + 1, accepted=accepted[0] / ((part + 1) * attempts // PARTS))
    rates = dict(zip(CRITERIA, (met / attempts).tolist(), strict=True))
    shares = dict(zip(known, (codes / diagnosed).tolist(), strict=True))
    return {
        "accepted": float(accepted[0]) / attempts,
        "criteria": rates,
        "criteria_off": max(abs(rates[name] - expected) for name, expected in CRITERIA.items()),
        "codes": {code: share for code, share in shares.items() if share},
        "worth": float(good[0]) / diagnosed,
        "strict": float(good[1]) / diagnosed,
        "distinct": len(np.unique(hashes)) / diagnosed,
        **of_named_tasks(),
    }


@functools.cache
def of_named_tasks() -> dict[str, float | int]:
    """Return how many degeneracies are found in named tasks, and the share of planted defects that is."""
    return {
        "false_alarms": sum(len(diagnose(task).degeneracies) for task in named.catalogue().values()),
        "detected": float(np.mean([code in diagnose(task).codes for task, code in named.degenerate().values()])),
    }
