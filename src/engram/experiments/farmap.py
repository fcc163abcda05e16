"""Exploration with a map cut at surprise is about as fast as with a whole one, with less active memory (Hwang et al.).

An agent with a narrow field of view explores mazes of rooms. The classic explorer keeps one map and walks to its
frontiers. FARMap's map decays; it is stored where the view is surprising, and recalled when the agent crosses this
fracture again. Otherwise both use the same code. Ablations remove recall, walks to other maps, or surprise (the same
number of cuts, but at regular intervals or at random). In another control, a frontier explorer has FARMap's preferences
among frontiers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from engram.lab import Experiment, Preset, Results, Run, Study, claims_from, metric, setting, settings
from engram.lab.figures import PALETTE
from engram.memory import SurprisalMonitor
from engram.spatial import (
    Exploration,
    FARMapExplorer,
    FrontierExplorer,
    active_memory_curve,
    coverage_curve,
    explore,
)
from engram.tasks import colour_walls, random_room_maps

SIZES = {"small": (1000, 2500), "large": (4000, 12_000)}  # visible cells
NEAR = 5.0  # distance in cells within which a cut counts as at the door
POINTS, FRAMES = 50, 24


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
    world: Literal["rooms", "two-rooms"] = setting("rooms", "mazes of rooms, or two rooms with a door between them")
    small: int = setting(10, "mazes with 1000 to 2500 visible cells; or pairs of rooms", ge=1, scales=True)
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
few = {"small": 2, "small_steps": 200}
many = {"small": 150, "small_steps": 600}
presets = {
    "smoke": Preset(
        seeds=1,
        changes={"small": 1, "large": 1, "small_steps": 150, "large_steps": 150}
        | {"two-rooms": few, "two-rooms-uniform": few},
    ),
    "laptop": Preset(seeds=8, looks=(5, 10, 20, 40, 80)),
    "large": Preset(
        seeds=5,
        changes={"small": 150, "large": 150, "small_steps": 5000, "large_steps": 5000}
        | {"two-rooms": many, "two-rooms-uniform": many},
    ),
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
        for maze in mazes[:count]:
            world = colour_walls(maze, rng=rng)
            row, column = rng.choice(np.argwhere(world == 0)).tolist()
            heading, seed = int(rng.integers(4)), int(rng.integers(2**31))
            drawn_places.append(Place(world, (row, column), heading, steps, size == "large", seed, door_of(maze)))
    return drawn_places


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


def walk_of(config: Config, place: Place) -> Exploration:
    """The walk of an explorer; controls without surprise make as many cuts as surprise does in the same world."""
    common: dict[str, Any] = {"gamma": config.gamma, "heading": place.heading, "rng": place.seed}
    taste = {"use_size": config.taste == "near-large-ahead", "head_bias": config.taste == "near-large-ahead"}
    if config.explorer == "frontier":
        explorer = FrontierExplorer(use_distance=config.taste != "any", **taste, **common)
        return explore(place.world, place.start, explorer, place.steps)
    options: dict[str, Any] = {"recall": "geometric" if config.recall else "none", **taste, **common}
    options["ltm_gate"] = 0.05 if config.other_maps else None
    walk = explore(place.world, place.start, FARMapExplorer(rho=config.rho, **options), place.steps)
    if config.criterion == "zscore":
        return walk
    cuts, steps = len(walk.cuts), len(walk.seen)
    threshold = steps / (cuts + 0.5) if config.criterion == "uniform" else max(cuts, 1e-9) / steps
    generator = torch.Generator().manual_seed(place.seed)
    monitor = SurprisalMonitor(config.criterion, threshold, min_samples=0, generator=generator)
    return explore(place.world, place.start, FARMapExplorer(monitor=monitor, **options), place.steps)


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


coverage, coverage_large, memory, memory_large, work_large, cuts = map(
    metric, ("coverage", "coverage_large", "memory", "memory_large", "work_large", "cuts")
)
at_door, near_door, stored = map(metric, ("at_door", "near_door", "stored"))
SOURCE = "Hwang et al. (2024), abstract; criterion ours"
smaller = claims_from(SOURCE, published="smaller active memory (no figure was read)")
faster = claims_from(SOURCE, published="covers faster, without loss (no figure was read)")
surprise = claims_from(SOURCE, published="cuts match animals (no figure was read)")
ours = claims_from("ours")
claims = [
    smaller("memory", "FARMap has a smaller active map than an explorer with one map, averaged over steps",
        memory("farmap") / memory("frontier") <= 0.80),
    smaller("memory-large", "In large mazes FARMap has a far smaller active map than an explorer with one map",
        memory_large("farmap") / memory_large("frontier") <= 0.65),
    faster("no-loss", "FARMap covers no less than an explorer with one map, averaged over steps",
        coverage("farmap") / coverage("frontier") >= 0.98),
    faster("faster-large", "In large mazes FARMap covers more than an explorer with one map, averaged over steps",
        coverage_large("farmap") / coverage_large("frontier") >= 1.02),
    ours("planning-large", "In large mazes FARMap examines fewer cells for frontiers and paths than an explorer "
        "with one map",
        work_large("farmap") / work_large("frontier") <= 0.8,
        source="ours; a theory of such maps has orders of magnitude (bioRxiv 2021.10.29.466499)"),
    ours("memory-not-by-taste", "FARMap has a smaller active map than one map with the same preferences among "
        "frontiers",
        memory("farmap") / memory("frontier-taste") <= 0.80),
    ours("coverage-not-by-taste", "FARMap covers no less than one map with the same preferences among frontiers",
        coverage("farmap") / coverage("frontier-taste") >= 0.98),
    ours("coverage-large-not-by-taste",
        "In large mazes FARMap covers no less than one map with the same preferences among frontiers",
        coverage_large("farmap") / coverage_large("frontier-taste") >= 0.98),
    ours("all-maps", "All of FARMap's maps together are larger than the one map of the frontier explorer",
        stored("farmap") / stored("frontier") >= 1.1),
    ours("near-frontiers", "An explorer that prefers near frontiers covers more than one that chooses any",
        coverage("frontier") / coverage("frontier-any") >= 1.02),
    ours("surprise-no-loss", "Cuts at surprise cover no less than as many random cuts",
        coverage("farmap") - coverage("farmap-random") >= -0.01),
    ours("surprise-memory", "Cuts at surprise give a smaller active map than as many random cuts",
        memory("farmap") / memory("farmap-random") <= 0.95),
    ours("surprise-memory-clock", "Cuts at surprise give a smaller active map than as many cuts at regular "
        "intervals",
        memory("farmap") / memory("farmap-uniform") <= 0.95),
    ours("as-many-cuts", "Random cuts are as many as cuts at surprise",
        (cuts("farmap-random") / cuts("farmap")).within(1.0, 0.2)),
    ours("as-many-cuts-clock", "Cuts at regular intervals are as many as cuts at surprise",
        (cuts("farmap-uniform") / cuts("farmap")).within(1.0, 0.2)),
    ours("recall-matters", "FARMap covers more with recall than without",
        coverage("farmap") / coverage("farmap-no-recall") >= 1.02),
    ours("other-maps-matter", "FARMap covers more with walks to other maps than without",
        coverage("farmap") / coverage("farmap-no-others") >= 1.02),
    surprise("cuts-at-doors", "In two rooms, most cuts are at the door", at_door("two-rooms") >= 0.7),
    surprise("cuts-at-doors-chance", "In two rooms, a larger share of cuts than of steps is at the door",
        at_door("two-rooms") - near_door("two-rooms") >= 0.2),
    surprise("cuts-at-doors-clock", "In two rooms, a larger share of cuts is at the door than with cuts at regular "
        "intervals",
        at_door("two-rooms") - at_door("two-rooms-uniform") >= 0.2),
]  # fmt: skip


def layer(picture: Mapping[str, Any], frame: int) -> np.ndarray:
    """The known cells up to a frame: 0 unknown, 1 a wall, higher values the map that first saw an empty cell."""
    codes, owner, wall = (
        np.array([[ord(cell) for cell in row] for row in picture[key]]) for key in ("frame", "owner", "wall")
    )
    is_seen = (codes > 48) & (codes - 48 <= frame)
    return np.where(is_seen, np.where(wall == ord("#"), 1, 2 + (owner - 48) % (len(PALETTE) - 2)), 0).astype(np.uint8)


def traces(pictures: Sequence[Mapping[str, Any]], frame: int) -> list[Any]:
    """A heat map of the known cells in each picture, and the path so far."""
    n_colours = len(PALETTE) - 2
    shades = ["#1a1a1a", "#8c8c8c", *PALETTE[:n_colours]]
    scale = [[(n + end) / len(shades), shade] for n, shade in enumerate(shades) for end in (0, 1)]
    layers: list[Any] = []
    for picture in pictures:
        path = np.array(picture["path"])[: max(1, len(picture["path"]) * frame // FRAMES)]
        cells = {"zmin": -0.5, "zmax": len(shades) - 0.5, "colorscale": scale, "showscale": False, "hoverinfo": "skip"}
        line = {"mode": "lines", "line": {"color": "white", "width": 1.2}, "showlegend": False, "hoverinfo": "skip"}
        layers += [go.Heatmap(z=layer(picture, frame), **cells), go.Scatter(x=path[:, 1], y=path[:, 0], **line)]
    return layers


def figure(results: Results) -> go.Figure:
    """The explorers' knowledge of one maze over time, with a colour for each of FARMap's maps."""
    shown_arms = [arm for arm in ("farmap", "frontier") if arm in results.arms]
    pictures = [results.shown(arm) for arm in shown_arms]
    titles = [f"{arm} ({picture['steps']} steps)" for arm, picture in zip(shown_arms, pictures, strict=True)]
    plot = make_subplots(1, max(1, len(shown_arms)), subplot_titles=titles, horizontal_spacing=0.04)
    for number, trace in enumerate(traces(pictures, FRAMES)):
        plot.add_trace(trace, 1, 1 + number // 2)
    for number in range(1, len(shown_arms) + 1):
        plot.update_yaxes(autorange="reversed", scaleanchor=f"x{number if number > 1 else ''}", col=number)
    plot.update_xaxes(visible=False).update_yaxes(visible=False)
    times = range(1, FRAMES + 1)
    plot.frames = [go.Frame(name=str(time), data=traces(pictures, time)) for time in times]
    jump = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": f"{100 * time // FRAMES} %", "method": "animate", "args": [[str(time)], jump]} for time in times]
    play = {"label": "play", "method": "animate", "args": [None, {**jump, "frame": {"duration": 250, "redraw": True}}]}
    title = "Known cells during a walk: walls in grey, a colour for each map, the path in white"
    slider = {"active": FRAMES - 1, "steps": steps, "currentvalue": {"prefix": "of the walk: "}}
    return plot.update_layout(
        title=title,
        height=560,
        sliders=[slider],
        updatemenus=[{"type": "buttons", "buttons": [play], "x": 0, "y": 1.12, "xanchor": "left"}],
    )


experiment = Experiment(
    name="farmap",
    about=__doc__,
    paper="Hwang et al., Grid Cell-Inspired Fragmentation and Recall for Efficient Map Building, TMLR 2024",
    studies=Study(trial, arms),
    presets=presets,
    claims=claims,
    figure=figure,
    headline="coverage",
    answer="""FARMap's active map is half as large as a single map [memory: holds] and 0.36 times as large in large
    mazes [memory-large: holds], where it examines 0.68 times as many cells [planning-large: holds]; and it covers
    slightly more than the classic explorer, 1.03 times as much averaged over steps [no-loss: holds] and 1.06 times in
    large mazes [faster-large: holds]. But that is due to its preferences among frontiers: one map with the same
    preferences covers more, so that FARMap reaches 0.96 of it [coverage-not-by-taste: fails], and 0.92 in large mazes
    [coverage-large-not-by-taste: fails], at half of the active memory [memory-not-by-taste: holds]. Where it cuts
    matters less: with the same number of cuts at regular intervals the active map is as small within 5 %
    [surprise-memory-clock: fails]; with random cuts it is larger [surprise-memory: holds], though in two rooms 89 % of
    the cuts at surprise are at the door [cuts-at-doors: holds]. Recall gains 3 % [recall-matters: holds], which took 80
    seeds to tell from 2 %; walks to other maps gain nothing [other-maps-matter: fails]. So fragment a map if the part
    in use has to be small; all parts together take two and a half times the memory of a single map [all-maps:
    holds].""",
)
