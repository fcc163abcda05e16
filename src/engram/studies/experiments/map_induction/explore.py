"""Collecting all rewards of a world that repeats a unit, by planners with and without map induction."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from jaxtyping import Int8

from engram.lab import Run, setting, settings
from engram.numeric.grid_cells import UNOBSERVED
from engram.spatial.induction import MapInductionPlanner, MapPosterior, SubmapGrammar
from engram.studies.experiments.choosing import Trained
from engram.tasks import RepeatedUnitWorld

ALCOVES = (4, 5)  # alcoves per unit in the two sizes of world
KINDS: dict[str, dict[str, Any]] = {
    "same": {},
    "variants": {"variants": 2},
    "landmark": {"variants": 2, "landmark": True},
    "independent": {"variants": None},
}
Kind = Literal["same", "variants", "landmark", "independent"]
SEARCHES = ("distribution", "map", "uniform")
FRAMES = 12


@settings
class Search:
    """The settings of a search, as published except for fewer simulated episodes."""

    queries: int = setting(300, "simulated episodes per plan", ge=1)
    depth: int = setting(20, "steps of a simulated episode", ge=1)
    discount: float = setting(0.9, "discount per step", gt=0, le=1)
    ucb: float = setting(1.0, "weight of exploration", ge=0)
    optimism: float = setting(2e-5, "bonus for proximity to unknown cells", ge=0)


@settings
class Explore:
    """The settings of a planner in some worlds."""

    kind: Kind = setting(
        "same", "which alcove has the reward: always the same, one of two, with or without a landmark, or any"
    )
    planner: Literal["oracle", "frontier", "greedy", "distribution", "map", "uniform"] = setting(
        "distribution", "knows the map; goes to the nearest unknown cell or to likely rewards; or searches"
    )
    unstructured: float = setting(0.0, "prior weight of the hypothesis that nothing is repeated", ge=0, le=1)
    worlds: int = setting(2, "worlds of each size", ge=1)
    units: int = setting(5, "units of a world", ge=2)
    most_steps: int = setting(2000, "steps after which a planner has failed", ge=1)
    search: Search = setting(Search(), "the search")


def make_planner(name: str, search: Search, seed: int, units: int, unstructured: float = 0.0) -> MapInductionPlanner:
    """A planner; every search is also attracted by the first reward in sight.

    Args:
        name: Name of the planner.
        search: The settings of a search.
        seed: Seed of the planner.
        units: Units of the world.
        unstructured: Prior weight of the hypothesis that nothing is repeated.
    """
    rng = np.random.default_rng(seed)
    grammar = SubmapGrammar(fragments=units, include_unstructured=unstructured, random_state=rng)
    if name not in SEARCHES:
        mode = "distribution" if name == "greedy" else "uniform"
        return MapInductionPlanner(grammar, mode=mode, planner="greedy", random_state=rng)
    return MapInductionPlanner(
        grammar, mode=name, shaping="visible", optimism=search.optimism, n_queries=search.queries,
        depth=search.depth, discount=search.discount, ucb=search.ucb, random_state=rng,
    )  # fmt: skip


def trial(config: Explore, run: Run) -> dict[str, Any]:
    """Let a planner collect all rewards; the main result is its number of moves, averaged over worlds."""
    seeds = run.rng.integers(2**31, size=(config.worlds, len(ALCOVES), 2))  # the same worlds for all planners
    n_moves = np.zeros(config.worlds * len(ALCOVES))
    shown = Trained()
    for number in run.steps(len(n_moves), moved=n_moves, shown=shown):
        world, size = divmod(number, len(ALCOVES))
        width = 3 * ALCOVES[size] + 2
        env = RepeatedUnitWorld(config.units, unit_w=width, max_steps=config.most_steps, **KINDS[config.kind])
        planner = make_planner(
            config.planner, config.search, int(seeds[world, size, 1]), config.units, config.unstructured
        )
        observation, info = env.reset(seed=int(seeds[world, size, 0]))
        planner.reset(env.views)
        ended = False
        while not ended:
            seen_by_planner = {**observation, "known": env.grid} if config.planner == "oracle" else observation
            with warnings.catch_warnings():  # expected where units differ
                warnings.filterwarnings("ignore", "no hypothesis is left", RuntimeWarning)
                action = planner.act(seen_by_planner)
            if number == 0 and config.planner == "greedy":
                add_frame(shown.results.setdefault("frames", []), observation, planner.posterior_)
            observation, _, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        n_moves[number] = info["cells_moved"]
        run.log(number + 1, cells=float(n_moves[: number + 1].mean()))
    animation = {"shown": {**shown.results, "width": ALCOVES[0] * 3 + 4}} if shown.results else {}
    return {"cells": float(n_moves.mean()), "worst": float(n_moves.max()), **animation}


def add_frame(frames: list[str], observation: dict[str, Any], posterior: MapPosterior | None) -> None:
    """Add a frame of the known and inferred map if it has changed, up to ``FRAMES`` of them.

    A character is the code of a known cell, ``A`` for the agent, or ``a`` to ``k`` for the probability in tenths of a
    reward in an unknown cell.

    Args:
        frames: The frames so far, to which one is added.
        observation: The known map and the position of the agent.
        posterior: The posterior over maps, which must not be None.
    """
    known_map: Int8[np.ndarray, "h w"] = observation["known"]
    assert posterior is not None
    chance = np.rint(10 * posterior.marginal()).astype(int)
    letters = np.array(list("abcdefghijk"))[chance.clip(0, 10)]
    cells = np.where(known_map == UNOBSERVED, letters, known_map.astype(str))
    last = frames[-1].replace("A", "0") if frames else ""
    if len(frames) < FRAMES and "".join(cells.ravel()) != last:
        cells[tuple(observation["position"])] = "A"
        frames.append("".join(cells.ravel()))
