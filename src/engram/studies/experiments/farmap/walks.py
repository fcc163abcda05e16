"""Walks of explorers through mazes of rooms, and what is measured of them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from engram.lab import Run, setting, settings
from engram.memory import SurprisalMonitor
from engram.spatial import (
    Exploration,
    FARMapExplorer,
    FrontierExplorer,
    active_memory_curve,
    coverage_curve,
    explore,
)
from engram.tasks import colour_walls, published_room_maps, random_room_maps

SIZES = {"small": (1000, 2500), "large": (4000, 12_000)}  # visible cells
NEAR = 5.0  # distance in cells within which a cut counts as at the door
POINTS, FRAMES = 50, 24
SHARES = (0.5, 0.7, 0.8)  # of the worlds


@settings
class Config:
    """The settings of a trial."""

    explorer: Literal["frontier", "farmap"] = setting("farmap", "one map with all its frontiers, or fragments")
    taste: Literal["any", "near", "near-large-ahead"] = setting("near-large-ahead", "which frontiers are preferred")
    criterion: Literal["zscore", "uniform", "random"] = setting(
        "zscore", "where FARMap cuts: at surprise, or as often at regular intervals or at random"
    )
    rho: float = setting(2.0, "threshold of surprise in standard deviations", gt=0)
    gamma: float = setting(0.9, "decay of confidence per step", ge=0, lt=1)
    recall: bool = setting(True, "whether FARMap recalls an old map where it crosses a fracture")
    other_maps: bool = setting(True, "whether FARMap walks to other maps when few frontiers are left")
    world: Literal["rooms", "two-rooms", "published"] = setting(
        "rooms", "mazes of rooms, two rooms with a door between them, or the first of the published generator's mazes"
    )
    small: int = setting(10, "mazes with 1000 to 2500 visible cells; pairs of rooms; or published mazes", ge=1)
    large: int = setting(10, "mazes with 4000 to 12000 visible cells", ge=0)
    small_steps: int = setting(1500, "steps in each small maze", ge=20)
    large_steps: int = setting(2500, "steps in each large maze", ge=20)


frontier = {"explorer": "frontier", "taste": "near"}
two_rooms = {"world": "two-rooms", "small": 40, "large": 0, "small_steps": 600}
arms: dict[str, dict[str, Any]] = {
    "frontier": frontier,
    "frontier-any": frontier | {"taste": "any"},
    "frontier-taste": frontier | {"taste": "near-large-ahead"},
    "farmap": {},
    "farmap-no-recall": {"recall": False},
    "farmap-no-others": {"other_maps": False},
    "farmap-uniform": {"criterion": "uniform"},
    "farmap-random": {"criterion": "random"},
    "two-rooms": two_rooms,
    "two-rooms-uniform": two_rooms | {"criterion": "uniform"},
}


class Place(NamedTuple):
    """A world and the initial state of an agent in it."""

    world: np.ndarray
    start: tuple[int, int]
    heading: int
    steps: int
    large: bool
    seed: int
    door: np.ndarray  # the cells of the door between two rooms


def places(config: Config, rng: np.random.Generator) -> list[Place]:
    """The worlds of a trial, small ones first; all arms with the same seed and kind of world share them."""
    if config.world == "published":
        same = [(maze, visible(maze) >= SIZES["large"][0]) for maze in published_room_maps()[: config.small]]
        return [place_in(maze, config.large_steps if large else config.small_steps, large, rng) for maze, large in same]
    drawn_places: list[Place] = []
    for size, count, steps in (
        ("small", config.small, config.small_steps),
        ("large", config.large, config.large_steps),
    ):
        mazes: list[np.ndarray] = []
        while len(mazes) < count:
            candidates = [two_rooms_maze(rng)] if config.world == "two-rooms" else random_room_maps(rng)
            low, high = (0, np.inf) if config.world == "two-rooms" else SIZES[size]
            mazes += [maze for maze in candidates if low <= visible(maze) <= high]
        drawn_places += [place_in(maze, steps, size == "large", rng) for maze in mazes[:count]]
    return drawn_places


def place_in(maze: np.ndarray, steps: int, large: bool, rng: np.random.Generator) -> Place:
    """A maze with colours, and a random initial state of an agent in it.

    Args:
        maze: The maze.
        steps: Steps of a walk in it.
        large: Whether it counts as large.
        rng: Source of the colours, of the initial state, and of the explorer's seed.
    """
    world = colour_walls(maze, rng=rng)
    row, column = rng.choice(np.argwhere(world == 0)).tolist()
    heading, seed = int(rng.integers(4)), int(rng.integers(2**31))
    return Place(world, (row, column), heading, steps, large, seed, door_of(maze))


def visible(maze: np.ndarray) -> int:
    """The number of world cells, 3 x 3 for each maze cell, that are empty or walls next to an empty cell."""
    empty = np.kron(np.pad(~maze, 1), np.ones((3, 3), bool))
    return int(np.any([empty, *(np.roll(empty, shift, axis) for shift in (-1, 1) for axis in (0, 1))], axis=0).sum())


def two_rooms_maze(rng: np.random.Generator) -> np.ndarray:
    """Two adjacent rooms with sides of 6 to 9 cells and a one-cell door in the wall between them."""
    height, left, right = rng.integers(6, 10, 3).tolist()
    maze = np.ones((height + 2, left + right + 3), dtype=bool)
    maze[1:-1, 1 : left + 1] = maze[1:-1, left + 2 : -1] = False
    maze[1 + rng.integers(height), left + 1] = False
    return maze


def door_of(maze: np.ndarray) -> np.ndarray:
    """The world cells of a maze's narrowest column, which contains the door if there are two rooms."""
    column = 1 + int((~maze[:, 1:-1]).sum(0).argmin())
    middle = 3 * np.argwhere(~maze[:, [column]])[:1] + (0, 3 * column)
    return middle + np.indices((3, 3)).reshape(2, -1).T


def explorer_of(
    config: Config,
    place: Place,
    monitor: SurprisalMonitor | None = None,
    kinds: tuple[type[FrontierExplorer], type[FARMapExplorer]] = (FrontierExplorer, FARMapExplorer),
) -> FrontierExplorer:
    """A new explorer for a place.

    Args:
        config: The settings.
        place: The place.
        monitor: Decides where FARMap cuts; None: surprise above ``config.rho``.
        kinds: The classes of the two explorers.
    """
    common: dict[str, Any] = {"gamma": config.gamma, "heading": place.heading, "rng": place.seed, "thorough": False}
    taste = {"use_size": config.taste == "near-large-ahead", "head_bias": config.taste == "near-large-ahead"}
    if config.explorer == "frontier":
        return kinds[0](use_distance=config.taste != "any", **taste, **common)
    options: dict[str, Any] = {"recall": "geometric" if config.recall else "none", **taste, **common}
    return kinds[1](rho=config.rho, monitor=monitor, ltm_gate=0.05 if config.other_maps else None, **options)


def walk_of(config: Config, place: Place) -> Exploration:
    """The walk of an explorer; controls without surprise make as many cuts as surprise does in the same world."""
    walk = explore(place.world, place.start, explorer_of(config, place), place.steps)
    if config.explorer == "frontier" or config.criterion == "zscore":
        return walk
    cuts, steps = len(walk.cuts), len(walk.seen)
    threshold = steps / (cuts + 0.5) if config.criterion == "uniform" else max(cuts, 1e-9) / steps
    generator = torch.Generator().manual_seed(place.seed)
    monitor = SurprisalMonitor(config.criterion, threshold, min_samples=0, generator=generator)
    return explore(place.world, place.start, explorer_of(config, place, monitor), place.steps)


MEASURES = ("coverage", "memory", "stored", "work", "cuts", "recalls", "at_door", "near_door")


def measures(place: Place, walk: Exploration) -> list[float]:
    """The ``MEASURES`` of a walk: means over its steps, and counts, including cuts near the door."""
    area = place.world.size
    stored = active_memory_curve(walk, place.steps).mean() * walk.stored.mean() / walk.active.mean()
    cells = walk.poses[:, None, :2] - place.door
    near = np.sqrt((cells**2).sum(-1)).min(1) <= NEAR
    curves = coverage_curve(walk, place.steps).mean(), active_memory_curve(walk, place.steps).mean(), stored
    counts = len(walk.cuts), len(walk.recalls), near[walk.cuts].sum(), near.mean()
    return [float(value) for value in (*curves, walk.work[-1] / area, *counts)]


def times_to(coverage: np.ndarray) -> dict[str, float]:
    """The share of the steps until the mean coverage reaches each of the ``SHARES``; 1 if it does not.

    Args:
        coverage: Its curve, at equally spaced steps from the first to the last, between which it is interpolated.
    """
    times = np.interp(SHARES, coverage, np.linspace(0, 1, len(coverage)))
    return {f"time_to_{round(100 * share)}": round(time, 4) for share, time in zip(SHARES, times.tolist(), strict=True)}


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Explore each world once; the results are means over all worlds and over the large ones."""
    worlds = places(config, run.rng)
    rows, curves = np.zeros((len(worlds), len(MEASURES))), np.zeros((len(worlds), 2, POINTS))
    for number in run.steps(len(worlds), rows=rows, curves=curves):
        place = worlds[number]
        walk = walk_of(config, place)
        rows[number] = measures(place, walk)
        times = np.linspace(0, place.steps - 1, POINTS).astype(int)
        curves[number] = coverage_curve(walk, place.steps)[times], active_memory_curve(walk, place.steps)[times]
    for point, (coverage, memory) in enumerate(curves.mean(0).T):
        run.log(round(100 * point / (POINTS - 1)), coverage=coverage, memory=memory)
    large = np.array([place.large for place in worlds])
    n_left_out = 0 if config.world == "two-rooms" else 2  # the last two measures are about doors
    result: dict[str, Any] = dict(zip(MEASURES[: len(MEASURES) - n_left_out], rows.mean(0).tolist(), strict=False))
    result |= times_to(curves[:, 0].mean(0))
    if large.any():
        result |= {f"{name}_large": float(rows[large, n].mean()) for n, name in enumerate(MEASURES[:4])}
    if config.world == "two-rooms":
        cuts = rows[:, MEASURES.index("cuts")].sum()
        result["at_door"] = float(rows[:, MEASURES.index("at_door")].sum() / cuts) if cuts else 0.0
    elif config.criterion == "zscore" and config.recall and config.other_maps and config.taste != "any":
        result["shown"] = picture(worlds[0], walk_of(config, worlds[0]))
    return result


def picture(place: Place, walk: Exploration) -> dict[str, Any]:
    """A compact record of a walk: the frame and map in which each cell was first seen, walls and the path."""
    frame = np.ceil((walk.first_seen + 1) * FRAMES / len(walk.seen)).astype(int)
    owner = np.where(walk.first_seen >= 0, walk.fragment[walk.first_seen], 0)
    rows = ["".join(map(chr, 48 + row)) for row in frame]
    path = walk.poses[:: max(1, len(walk.seen) // 300), :2]
    return {
        "frame": rows,
        "owner": ["".join(map(chr, 48 + row % 60)) for row in owner],
        "wall": ["".join("#" if cell else "." for cell in row) for row in place.world],
        "path": path.tolist(),
        "cuts": walk.poses[walk.cuts, :2].tolist(),
        "steps": len(walk.seen),
    }
