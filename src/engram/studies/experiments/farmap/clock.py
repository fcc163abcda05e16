"""The computing time of explorers on the same large mazes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from engram.lab import Run, setting, settings
from engram.spatial import FARMapExplorer, FrontierExplorer, explore
from engram.spatial.local_map import View
from engram.studies.experiments.farmap.walks import Config, explorer_of, places

EXPLORERS = {
    "farmap": Config(),
    "frontier": Config(explorer="frontier", taste="near"),
    "frontier_taste": Config(explorer="frontier", taste="near-large-ahead"),
}


@settings
class Clock:
    """The settings of the comparison of computing times."""

    large: int = setting(10, "mazes with 4000 to 12000 visible cells", ge=1)
    large_steps: int = setting(2500, "steps in each maze", ge=20)
    repeats: int = setting(3, "walks of each explorer through a maze, the fastest of which counts", ge=1)


class Timed(FrontierExplorer):
    """An explorer that adds up the processor's seconds for its decisions, without those for the world."""

    seconds = 0.0

    def act(self, view: View, *, moved: bool = True) -> int | None:
        """The next move, as without the clock."""
        began = time.process_time()
        move = super().act(view, moved=moved)
        self.seconds += time.process_time() - began
        return move


class TimedFARMap(Timed, FARMapExplorer):
    """The same with FARMap's maps."""


def trial(config: Clock, run: Run) -> dict[str, Any]:
    """Measure the computing time for each cell that an explorer has seen; the main results are ratios of these times.

    All explorers walk in turn through the same mazes, in the same process, so that a load on the machine concerns all
    of them; of the repeats, which make the same decisions, the fastest counts.
    """
    mazes = Config(small=1, large=config.large, large_steps=config.large_steps)
    large_places = [place for place in places(mazes, run.rng) if place.large]
    seconds, cells = np.full((len(large_places), len(EXPLORERS)), np.inf), np.zeros((len(large_places), len(EXPLORERS)))
    for number in run.steps(len(large_places), seconds=seconds, cells=cells):
        place = large_places[number]
        for _ in range(config.repeats):
            for i, settings_of in enumerate(EXPLORERS.values()):
                explorer = explorer_of(settings_of, place, kinds=(Timed, TimedFARMap))
                walk = explore(place.world, place.start, explorer, place.steps)
                seconds[number, i] = min(seconds[number, i], explorer.seconds)  # type: ignore[attr-defined]
                cells[number, i] = walk.seen[-1]
    times = 1e6 * seconds.sum(0) / cells.sum(0)
    return {
        **{f"microseconds_{name}": float(value) for name, value in zip(EXPLORERS, times, strict=True)},
        **{f"cells_{name}": float(value) for name, value in zip(EXPLORERS, cells.mean(0), strict=True)},
    }
