"""Known returns of named meta-tasks: of chance, and of an oracle that knows the instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

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


def returns_of_extensions() -> dict[str, KnownReturn]:
    """The expected returns, exact, of random actions and of an oracle in tasks on grids, by name.

    They follow from distances and from random walks on the grid, without the planner and the environment.
    """
    spot, room, steps = 5, 9, 50
    small, few = 5, 8  # few instances to plan in, and few steps, so that the door is mostly out of reach
    spots, key_door = named.find_the_spot(spot), named.dark_key_to_door(room, steps)
    briefly = named.dark_key_to_door(small, few)
    return {
        "find the spot, random": KnownReturn(spots, RandomAgent, spots_found(walks(spot, 4), spot, spots.horizon)),
        "find the spot, oracle": KnownReturn(
            spots, lambda _: OracleAgent(), spots_found(direct_ways(spot), spot, spots.horizon)
        ),
        "key and door, random": KnownReturn(key_door, RandomAgent, keys_and_doors(walks(room, 5)[:, :, :steps])),
        "key and door, oracle": KnownReturn(
            briefly, lambda _: OracleAgent(), keys_and_doors(direct_ways(small)[:, :, :few])
        ),
    }


LONGEST = 100  # steps of which first arrivals are known

Arrivals = Float[np.ndarray, "cells cells steps"]
"""The probability of first arriving, after 1, 2, ... steps, at a goal (first axis) from a cell (second axis)."""


def places(side: int) -> Int[np.ndarray, "cells 2"]:
    """The row and column of each cell of a grid."""
    return np.stack(np.divmod(np.arange(side * side), side), 1)


def direct_ways(side: int) -> Arrivals:
    """First arrivals on the shortest ways; who is at the goal already arrives there by staying a step."""
    row_column = places(side)
    distance = np.abs(row_column[:, None] - row_column[None]).sum(2)
    return np.asarray(np.maximum(distance, 1)[:, :, None] == np.arange(1, LONGEST + 1), dtype=float)


def walks(side: int, moves: int) -> Arrivals:
    """First arrivals by moves drawn at random: up, right, down, left and, with five, to stay; edges stop a move."""
    row_column = places(side)
    step = np.zeros((side * side, side * side))
    for move in ((-1, 0), (0, 1), (1, 0), (0, -1), (0, 0))[:moves]:
        row, column = (row_column + move).clip(0, side - 1).T
        np.add.at(step, (np.arange(side * side), row * side + column), 1 / moves)
    arrivals = np.zeros((side * side, side * side, LONGEST))
    for goal in range(side * side):
        arrivals[goal, :, 0] = step[:, goal]
        without_goal = step.copy()
        without_goal[:, goal] = 0
        for t in range(1, LONGEST):
            arrivals[goal, :, t] = without_goal @ arrivals[goal, :, t - 1]
    return arrivals


def spots_found(arrivals: Arrivals, side: int, steps: int) -> float:
    """How often a hidden cell is expected to be found from the middle, if each time one goes on from any other cell.

    Args:
        arrivals: First arrivals.
        side: Side of the grid.
        steps: Steps of a lifetime.
    """
    cells, found = side * side, []
    for goal in set(range(cells)) - {cells // 2}:
        others = np.delete(np.arange(cells), goal)
        expected = np.zeros(steps + 1)  # from a random other cell, by the number of steps that are left
        chance = arrivals[goal, others].mean(0)
        for left in range(1, steps + 1):
            expected[left] = chance[:left] @ (1 + expected[left - 1 :: -1][:left])
        found.append(arrivals[goal, cells // 2][:steps] @ (1 + expected[steps - 1 :: -1]))
    return float(np.mean(found))


def keys_and_doors(arrivals: Arrivals) -> float:
    """How many of a key and then a door are expected to be reached, all three cells being drawn independently.

    Args:
        arrivals: First arrivals, up to the steps of a lifetime.
    """
    key_at = arrivals.mean(1)  # (key, step), from a random cell
    door_by = arrivals.cumsum(2).mean(0)  # (key, step), at a random door
    both = (key_at[:, :-1] * door_by[:, -2::-1]).sum(1)
    return float((key_at.sum(1) + both).mean())
