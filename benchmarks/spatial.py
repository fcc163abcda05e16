"""Speed of mapping and exploration.

FARMap: steps per second over a whole walk (view, update, surprisal, frontiers and paths) with ``LocalMap``, compared
with the definition in NumPy (``DenseMap`` and ``ViewModel.defined``) on the same walk; and the time of a step as the
world grows from 2,500 to 250,000 cells, for FARMap and for the explorer with one map. Walks run in turn in one process.

``python benchmarks/spatial.py`` measures, writes the record next to this file and prints its section of the page;
``--quick`` takes few steps.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from engram.numeric.grid_view import MOVES
from engram.spatial import FARMapExplorer, FrontierExplorer, ViewModel
from engram.tasks import colour_walls, generate_room_maps

RECORD = Path(__file__).with_suffix(".json")
SIDES, STEPS, SHORT = (50, 158, 500), 4000, 300
LEAST_RATIO, LEAST_STEPS, MOST_GROWTH = 50.0, 10_000.0, 1.5


def world_of(side: int, seed: int = 0) -> np.ndarray:
    """Return a world of rooms of 15 x 15 cells with doors, with about ``side`` cells per side."""
    rng = np.random.default_rng(seed)
    rooms = max(2, round(side / 18))
    mazes = generate_room_maps(rooms, 5, 1, (2, 2), connect=0.9, merge=0.0, rng=rng)
    return colour_walls(max(mazes, key=np.size), rng=rng)


def walk(world: np.ndarray, explorer: FrontierExplorer, steps: int, *, defined: bool = False) -> float:
    """Return the mean processor time of a step, in seconds."""
    model = ViewModel()
    look = model.defined if defined else model.observe
    row, column = np.argwhere(world == 0)[len(world) // 2].tolist()
    heading, moved, n_steps = explorer.map.pose.heading, True, 0
    start = time.process_time()
    while n_steps < steps:
        n_steps += 1
        move = explorer.act(look(world, (row, column, heading)), moved=moved)
        if move is None:
            break
        heading = move
        ahead = row + int(MOVES[move, 0]), column + int(MOVES[move, 1])
        moved = not world[ahead]
        row, column = ahead if moved else (row, column)
    return (time.process_time() - start) / n_steps


def measured(quick: bool) -> dict[str, Any]:
    steps, short = (600, 20) if quick else (STEPS, SHORT)
    small = world_of(SIDES[0])
    for kind in (FARMapExplorer, FrontierExplorer):
        walk(small, kind(rng=0), 400)  # compiles
    ratios = []
    for seed in range(1 if quick else 3):
        fast = walk(small, FARMapExplorer(rng=seed), short)
        plain = walk(small, FARMapExplorer(rng=seed, dense=True), short, defined=True)
        ratios.append(plain / fast)
    rows = []
    for side in SIDES:
        world = world_of(side)
        row: dict[str, Any] = {"cells": world.size}
        for name, kind in (("farmap", FARMapExplorer), ("frontier", FrontierExplorer)):
            seconds = [walk(world, kind(rng=seed, reach=None), steps) for seed in range(3)]
            row[name] = 1e6 * statistics.median(seconds)
        rows.append(row)
    return {"load": os.getloadavg()[0], "ratios": ratios, "rows": rows, "steps": steps}


def section(record: dict[str, Any]) -> list[str]:
    """Return the section of the page."""
    rows, ratio = record["rows"], statistics.median(record["ratios"])
    speed = 1e6 / rows[0]["farmap"]
    growth = {name: rows[-1][name] / rows[0][name] for name in ("farmap", "frontier")}
    targets = {
        f"a step of FARMap at least {LEAST_RATIO:g} times as fast as the definition in NumPy ({ratio:.1f}x)": ratio
        >= LEAST_RATIO,
        f"at least {LEAST_STEPS:,.0f} steps per second in 2,500 cells ({speed:,.0f})": speed >= LEAST_STEPS,
        f"the time of a step grows by at most {MOST_GROWTH:g}x from 2,500 to 250,000 cells ({growth['farmap']:.2f}x; "
        f"with one map {growth['frontier']:.2f}x)": growth["farmap"] <= MOST_GROWTH,
    }
    return [
        "## Maps",
        "",
        "Processor time of a step in microseconds: view, update, surprisal and, at the end of a path, frontiers and",
        f"the next path. Means over walks of {record['steps']} steps, medians of three walks.",
        "",
        f"Load average after the run {record['load']:.1f}.",
        "",
        "| cells in the world | FARMap | one map |",
        "|---|---|---|",
        *[f"| {row['cells']:,} | {row['farmap']:.0f} | {row['frontier']:.0f} |" for row in rows],
        "",
        *[f"- {name}: {'met' if met else 'NOT MET'}" for name, met in targets.items()],
        "",
    ]


def main() -> None:
    record = measured("--quick" in sys.argv)
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
