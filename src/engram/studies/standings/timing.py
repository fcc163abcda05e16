"""The time per step of several candidates, measured in turns so that other load affects all of them alike."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median

import torch

SHORTEST = 0.02  # the least time of a measurement in seconds


def seconds_per_step(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each step over some rounds, with one thread, as trials have it.

    Args:
        steps: Functions that do one step, by candidate.
        rounds: How often each is measured.
    """
    seconds: dict[str, list[float]] = {candidate: [] for candidate in steps}
    with _one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the trials have given these warnings
        for step in steps.values():
            step()  # the first step may compile
        for _ in range(rounds):
            for candidate, step in steps.items():
                seconds[candidate].append(_seconds(step))
    return {candidate: median(times) for candidate, times in seconds.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _seconds(step: Callable[[], object]) -> float:
    """The time per step, over enough steps to be measurable."""
    number, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < SHORTEST or not number:
        step()
        number += 1
    return took / number
