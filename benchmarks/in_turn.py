"""Times of several calls, measured in turn, so that a machine that is busy for a while slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import product

NOT_COUNTED = 3


def in_turn(
    ways: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Return the seconds of each call, after a few turns that are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn, (name, way) in product(range(NOT_COUNTED + repeats), ways.items()):
        start = clock()
        way()
        if turn >= NOT_COUNTED:
            seconds[name].append(clock() - start)
    return seconds


def clocked(call: Callable[[], object], repeats: int) -> list[float]:
    """Return the seconds of the processor that each call took, after a few that are not counted."""
    return in_turn({"call": call}, repeats, clock=time.process_time)["call"]
