"""A walk around the rooms twice, and how interesting each curiosity finds the second lap.

The length of a stay and the number of updates per step were not published for rooms. Here each rollout is used for four
updates, as published, and a stay is long enough for every corner of a room to be learned before the next room. An error
is compared with all errors of its fragment so far, as published. After a few thousand of them, including the large
first ones, no error reaches ten times the mean, so the threshold of surprise here is three times the mean. If errors
are compared only with recent ones, which keep falling while a room is learned, rare corners of a known room are
surprising too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram.agents import RND, FragmentedCuriosity
from engram.lab import Run, setting, settings
from engram.memory import SurprisalMonitor
from engram.studies.experiments.farcuriosity.forgetting import rnd_of, views_of
from engram.tasks import tour

Criterion = Literal["ratio", "zscore", "random"]
ROOMS, LAPS = 4, 2
AT_SWITCH, ENTRY = 64, 256  # steps after an entry: to count a cut as at the entry; to average curiosity over


@settings
class Walk:
    """The settings of a walk and of the curiosity on it."""

    learner: Literal["rnd", "far"] = setting("far", "a single module, or one for each fragment")
    criterion: Criterion = setting(
        "ratio",
        "where a fragment begins: at errors of a multiple of the mean, or of a number of standard deviations above it; "
        "or at random, as often as by the first",
    )
    threshold: float = setting(3.0, "threshold of surprise; published: 10", gt=0)
    window: int = setting(0, "number of recent errors to compare with; 0: all", ge=0)
    min_samples: int = setting(25, "errors of a fragment before one can be surprising", ge=2)
    recall: bool = setting(True, "whether a fragment is recalled where its key is matched")
    author_keys: bool = setting(False, "whether keys are features of the active module, as in the released code")
    capacity: int = setting(800, "maximal number of fragments", ge=2)
    overlap: float = setting(0.0, "share of the texture common to all rooms", ge=0, le=1)
    steps: int = setting(5120, "steps in each room; a multiple of the rollout", ge=64)
    rollout: int = setting(64, "steps between updates", ge=1)
    updates: int = setting(4, "training steps per rollout", ge=1)
    learning_rate: float = setting(1e-3, "learning rate of Adam", gt=0)

    def __post_init__(self) -> None:
        if self.steps % self.rollout or self.steps < 4 * self.rollout:
            raise ValueError(
                f"steps = {self.steps}: expected a multiple of rollout = {self.rollout}, four times at least"
            )


arms: dict[str, dict[str, Any]] = {
    "walk-rnd": {"learner": "rnd"},
    "walk-far": {},
    "walk-random": {"criterion": "random"},
    "walk-window": {"threshold": 10.0, "window": 1024},
    "walk-tenfold": {"threshold": 10.0},
    "walk-no-recall": {"recall": False},
    "walk-author-keys": {"author_keys": True},
    "walk-two-modules": {"capacity": 2},
    "walk-same-rooms": {"overlap": 1.0},
}


def monitor_of(config: Walk, rate: float, generator: torch.Generator) -> SurprisalMonitor:
    """The monitor of a fragment's errors; with the random criterion it fires at the given rate.

    Args:
        config: The settings.
        rate: Probability of a new fragment in a step, for the random criterion.
        generator: Draws the steps of the random criterion.
    """
    common: dict[str, Any] = {"append_on_trigger": False, "reset_on_trigger": False, "skip_repeats": True}
    if config.criterion == "random":
        return SurprisalMonitor("random", rate, min_samples=0, generator=generator, **common)
    return SurprisalMonitor(
        config.criterion, config.threshold, min_samples=config.min_samples, window=config.window or None, **common
    )


def walk_of(
    config: Walk, run: Run
) -> tuple[Float[Tensor, "rooms cells *patch"], Int[np.ndarray, "time 3"], Float[Tensor, "time 1 *patch"]]:
    """New rooms, a walk around them, and the views along it."""
    env, views = views_of(run, ROOMS, config.overlap)
    places = tour(env, config.steps, LAPS, rng=run.rng)
    patches = views[torch.from_numpy(places[:, 0]), torch.from_numpy(places[:, 1] * env.size + places[:, 2])]
    return views, places, patches[:, None]


def go_through(
    config: Walk,
    views: Float[Tensor, "time 1 *patch"],
    look: Callable[[slice], object],
    run: Run,
    *,
    curiosity: Any,
    **looked: np.ndarray,
) -> None:
    """Go through a walk rollout by rollout: first record the curiosity, then learn.

    Args:
        config: The settings.
        views: The view at each step.
        look: Records the curiosity at a slice of steps, by filling the arrays ``looked``.
        run: The run.
        curiosity: The curiosity, which learns from each rollout.
        looked: The arrays, saved with the run.
    """
    for number in run.steps(len(views) // config.rollout, curiosity=curiosity, **looked):
        window = slice(number * config.rollout, (number + 1) * config.rollout)
        look(window)
        for _ in range(config.updates):
            curiosity.update(views[window])


def trial(config: Walk, run: Run) -> dict[str, Any]:
    """Walk around the rooms twice; the results are where fragments began, and the curiosity in each lap."""
    views, places, patches = walk_of(config, run)
    errors, owners = np.zeros(len(places)), np.zeros(len(places), dtype=np.int64)
    not_done = torch.zeros(config.rollout, 1, dtype=torch.bool)

    def walk(rate: float, criterion: Criterion) -> RND | FragmentedCuriosity:
        def make() -> RND:
            return rnd_of(views, config.learning_rate, 128, run)

        curiosity: Any = make()
        if config.learner == "far":
            cutting = replace(config, criterion=criterion)
            options: dict[str, Any] = {"recall_threshold": 0.99 if config.recall else None}
            options |= {"capacity": config.capacity, "author_keys": config.author_keys}
            curiosity = FragmentedCuriosity(
                make, make_monitor=lambda: monitor_of(cutting, rate, run.generator), **options
            )

        def look(window: slice) -> None:
            if isinstance(curiosity, RND):
                with torch.no_grad():
                    errors[window] = curiosity.error(patches[window, 0]).numpy()
            else:
                owners[window] = curiosity.current[0]
                curiosity.bonus(patches[window], not_done)
                errors[window] = curiosity.errors[:, 0].numpy()

        go_through(config, patches, look, run, curiosity=curiosity, errors=errors, owners=owners)
        return curiosity  # type: ignore[no-any-return]

    cuts = 0.0
    if config.learner == "far" and config.criterion == "random":  # as many cuts as surprise makes, counted first
        cuts = sum(event.kind == "fragment" for event in walk(0.0, "ratio").events)  # type: ignore[union-attr]
    curiosity = walk(max(cuts, 0.5) / len(places), config.criterion)
    for number, mean in enumerate(errors.reshape(-1, config.rollout).mean(1)):
        run.log((number + 1) * config.rollout, curiosity=mean)
    run.keep(curiosity=curiosity)
    events = [] if isinstance(curiosity, RND) else curiosity.events
    result: dict[str, Any] = measures(config, errors, owners, events)
    default_size = {"learner": "far", "steps": Walk().steps, "updates": Walk().updates}
    if vars(config) | default_size == vars(Walk()):  # a single module, or fragments with default settings
        shown = {"owners": owners[:: config.rollout].tolist(), "map": maps(places, errors).round(4).tolist()}
        result["shown"] = shown
    return result


def measures(
    config: Walk, errors: Float[np.ndarray, " time"], owners: Int[np.ndarray, " time"], events: list[Any]
) -> dict[str, float]:
    """The summary of a walk.

    ``fragments`` is the number of fragments begun. ``at_switch`` is, for K rooms, the share of the first K - 1 of them
    that began within 64 steps of an entry in the first lap. ``recalled`` is the share of entries in the second lap
    after which, throughout the third rollout, the fragment is active that had been active most of the time in this room
    in the first lap. The others are those of ``by_lap``.

    Args:
        config: The settings.
        errors: The prediction error at each step.
        owners: The number of the active fragment at each step.
        events: Events of fragments, in order; empty if there is a single module.
    """
    times = [(event.call * config.rollout + event.step, event) for event in events]
    cuts = [time for time, event in times if event.kind == "fragment"]
    switches = config.steps * np.arange(1, ROOMS)
    at_entry = [any(0 <= cut - switch < AT_SWITCH for switch in switches) for cut in cuts[: ROOMS - 1]]
    recalled = []
    for room in range(ROOMS):
        visits = owners.reshape(LAPS, ROOMS, -1)
        usual = np.bincount(visits[0, room, config.rollout :]).argmax()
        active = visits[1, room, 2 * config.rollout : 3 * config.rollout]
        recalled.append(bool(events) and bool((active == usual).all()))
    return {
        "fragments": float(len(cuts)),
        "at_switch": sum(at_entry) / (ROOMS - 1),
        "recalled": float(np.mean(recalled)),
        **by_lap(config, errors),
    }


def by_lap(config: Walk, curious: Float[np.ndarray, " time"]) -> dict[str, float]:
    """The mean curiosity on visits in each lap, from the error or bonus at each step.

    ``first`` and ``again`` are the means in the first and second lap over 256 steps after the rollout that begins with
    an entry; ``first`` also excludes the first room. ``whole`` is the mean in the second lap over the first 256 steps
    after an entry, and ``stay`` that over a whole stay except its first rollout.
    """
    visits = curious.reshape(LAPS, ROOMS, config.steps)
    after_entry = slice(config.rollout, config.rollout + ENTRY)
    return {
        "first": float(visits[0, 1:, after_entry].mean()),
        "again": float(visits[1, :, after_entry].mean()),
        "whole": float(visits[1, :, :ENTRY].mean()),
        "stay": float(visits[1, :, config.rollout :].mean()),
    }


def maps(places: Int[np.ndarray, "time 3"], errors: Float[np.ndarray, " time"]) -> Float[np.ndarray, "laps rows width"]:
    """The mean error in each cell of the rooms side by side, in each lap; -1 for cells not visited."""
    size = int(places[:, 1:].max()) + 1
    images = []
    for lap in range(LAPS):
        steps = slice(lap * len(places) // LAPS, (lap + 1) * len(places) // LAPS)
        cell = places[steps, 1] * (ROOMS * size) + places[steps, 0] * size + places[steps, 2]
        visits = np.bincount(cell, minlength=ROOMS * size * size)
        sums = np.bincount(cell, errors[steps], minlength=ROOMS * size * size)
        images.append(np.where(visits, sums / np.maximum(visits, 1), -1.0).reshape(size, ROOMS * size))
    return np.array(images)
