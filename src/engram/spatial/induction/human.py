"""The likelihood, under a planner, of the path that a person took through a world of rooms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from engram import checks
from engram.spatial.induction.planner import MapInductionPlanner
from engram.spatial.induction.world import RoomModel
from engram.spatial.pomcp import SearchTree


class TrajectoryLikelihood(NamedTuple):
    """The probabilities of the rooms that a person went to next.

    Attributes:
        probabilities: The probability of each step after which another room was entered.
        mean: Mean of the logs of those that are neither 0 nor 1, as published; ln 0.5 if there are none.
        standard_error: Standard error of the mean; 0 for fewer than two.
        floored_mean: Mean of log p' over all steps, p' = (1 - floor) p + floor / rooms, in which failures count too.
    """

    probabilities: Float[np.ndarray, "steps"]
    mean: float
    standard_error: float
    floored_mean: float


def next_room_weights(
    tree: SearchTree, room_of: Int[np.ndarray, "nodes"], current: int, n_rooms: int
) -> Float[np.ndarray, "rooms"]:
    """The weight of each room in a search tree: the paths that end there, weighted by the visits at their ends.

        w_k = sum of n(last action) + 1,  over paths that end in room k, and 0 for the current room

    Args:
        tree: The tree of a search.
        room_of: The room of each belief node, -1 for none.
        current: The room in which the agent is.
        n_rooms: Number of rooms.

    Raises:
        ValueError: There is not one room for each node of the tree, or a room is not below ``n_rooms``.
    """
    checks.arguments()
    checks.size("n_rooms", n_rooms, int(room_of.max(initial=0)) + 1)
    if len(room_of) != len(tree):
        raise ValueError(f"room_of has {len(room_of)} rooms: expected one for each of {len(tree)} nodes of the tree")
    leaves = tree.child < 0
    weights = ((tree.counts + 1) * leaves).sum(1).astype(float)
    away = (room_of != current) & (room_of >= 0)
    return np.bincount(room_of[away], weights[away], minlength=n_rooms)


def trajectory_log_likelihood(
    planner: MapInductionPlanner,
    known_maps: Sequence[Any],
    positions: Any,
    rooms: Any,
    *,
    rewards: Sequence[Any] | None = None,
    views: Any = None,
    floor: float = 0.01,
) -> TrajectoryLikelihood:
    """The likelihood of a trajectory, step by step, from the trees that a planner grows on the way.

    At each step the planner searches from what was known; p is the share of the tree's paths that lead to the room
    entered next.

    Args:
        planner: A planner that searches (``"pomcp"``); it is reset.
        known_maps: The map as known at each step.
        positions: Row and column at each step, (steps, 2).
        rooms: Index of each cell's room, -1 for walls.
        rewards: Masks of where rewards were seen at each step, collected or not (default: those in sight).
        views: The view from each cell (``RoomGrid.views``).
        floor: Share of a uniform guess in the floored mean.

    Raises:
        ValueError: The planner is greedy, the numbers of maps and positions differ, or ``rooms`` has another shape.

    Source: Sharma et al., "Map Induction" (2021), the published code's measure; the floor is ours.
    """
    checks.arguments()
    if planner.planner != "pomcp":
        raise ValueError(f"planner.planner = {planner.planner!r}: expected 'pomcp', which grows trees")
    places = checks.array("positions", positions, (len(known_maps), 2), np.int64)
    floor = checks.number("floor", floor, minimum=0, below=1)
    labels = checks.array("rooms", rooms, np.shape(known_maps[0]) if len(known_maps) else ("h", "w"), np.int64)
    visited, n_rooms, probabilities = labels[tuple(places.T)], int(labels.max()) + 1, []
    planner.reset(views)
    for step, (known_map, position) in enumerate(zip(known_maps, places, strict=True)):
        later = visited[step:][(visited[step:] != visited[step]) & (visited[step:] >= 0)]
        if not len(later):
            break
        reward_observation = {} if rewards is None else {"rewards": rewards[step]}
        planner.act({"known": known_map, "position": position, **reward_observation})
        observed = np.array([0, *planner.tree_.observations[1:]], np.int64)
        room_of = labels.ravel()[RoomModel.positions(observed)]
        room_of[0] = visited[step]
        weights = next_room_weights(planner.tree_, room_of, int(visited[step]), n_rooms)
        probabilities.append(weights[later[0]] / weights.sum() if weights.sum() else 0.0)
    return likelihood(np.array(probabilities), n_rooms, floor)


def likelihood(probabilities: Float[np.ndarray, "steps"], n_rooms: int, floor: float = 0.01) -> TrajectoryLikelihood:
    """The means of the logs of the probabilities of rooms.

    Args:
        probabilities: The probability of the room entered, for each step.
        n_rooms: Number of rooms.
        floor: Share of a uniform guess in the floored mean.

    Examples:
        >>> likelihoods = likelihood(np.array([1.0, 0.5, 0.0]), 4)
        >>> round(likelihoods.mean, 2), round(likelihoods.floored_mean, 2)
        (-0.69, -2.23)
    """
    logs = np.log(probabilities[(probabilities > 0) & (probabilities < 1)])
    mean = float(logs.mean()) if len(logs) else math.log(0.5)
    error = float(logs.std(ddof=1) / math.sqrt(len(logs))) if len(logs) > 1 else 0.0
    with np.errstate(divide="ignore"):  # without a floor, a failure counts as minus infinity
        floored = np.log((1 - floor) * probabilities + floor / max(n_rooms, 1))
    return TrajectoryLikelihood(probabilities, mean, error, float(floored.mean()) if len(floored) else math.log(0.5))
