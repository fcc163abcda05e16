"""Frontier exploration: walk to where known empty cells border on unknown ones."""

from __future__ import annotations

from collections import deque
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from engram import checks
from engram.numeric.grid_view import MOVES
from engram.spatial.dense_map import DenseMap
from engram.spatial.local_map import LocalMap, View

OPPOSITE = (1, 0, 3, 2)
_ALL_AROUND = np.ones((3, 3), dtype=np.int64)
PATIENCE = 10  # decisions in a row that may show nothing new: by chance, a later one often does
_ANY_HEADING = {heading: (heading, *(h for h in range(4) if h != heading)) for heading in range(4)}


class FrontierExplorer:
    """An agent that walks to random frontiers, near ones more often, until there are none.

        p_k ~ size_k^{use_size} / distance_k^{use_distance} * (1e-5 if it is behind and head_bias)

    over clusters of frontier cells, with the Euclidean distance from the agent to the empty cell at a cluster's middle.
    Clusters of a single cell are ignored, and so are clusters smaller than 3 if there are larger ones. If the middle of
    every cluster is the agent's own place, as in an open space with one frontier all around, it walks to a cell next to
    a frontier, to each at most once. If there are frontiers and none can be reached, as at a start that faces a wall,
    it takes a step back. The published agent would stop there, or go back and forth for ever where it arrives with a
    heading that shows nothing. After ten decisions that showed nothing new, this one looks at an unknown cell from the
    empty cell beside it, against a wall if need be; it stops when no cell is left that can be seen. At each step it
    gets a view and returns a move. It tracks its position relative to the start if it learns which moves failed.

    Args:
        view_size: Cells along a side of a view, odd.
        gamma: Decay of the confidence of its map in a step.
        use_distance: Whether near frontiers are chosen more often; if not, distances do not matter.
        use_size: Whether large frontiers are chosen more often.
        head_bias: Whether frontiers behind the agent are avoided.
        thorough: Whether it looks at single unknown cells too when no cluster is left; as published it does not.
        reach: Distance from the agent up to which cells of a map are kept; None: all are.
        dense: Whether maps are ``DenseMap``, for worlds whose colours change; else ``LocalMap``.
        heading: Heading at the start.
        rng: Generator or seed for the choice of frontiers.

    Attributes:
        map: The current map.
        reason: Why it stopped: ``"explored"`` or ``"stuck"``; empty while it goes on.
        work: Number of cells examined so far in the search for frontiers and paths.

    Source: Yamauchi, "A frontier-based approach for autonomous exploration" (1997), as the baseline of Hwang et al.,
    "Grid cell-inspired fragmentation and recall for efficient map building" (2024).

    Examples:
        >>> view = np.array([[0, 0, 0], [0, 0, 0], [-1, 0, -1]])
        >>> FrontierExplorer(3, rng=0).act(view)
        0
    """

    __repr__ = checks.described

    def __init__(
        self,
        view_size: int = 15,
        *,
        gamma: float = 0.9,
        use_distance: bool = True,
        use_size: bool = False,
        head_bias: bool = False,
        thorough: bool = True,
        reach: int | None = 250,
        dense: bool = False,
        heading: int = 0,
        rng: Any = None,
    ) -> None:
        checks.arguments()
        self.use_distance, self.use_size, self.head_bias = use_distance, use_size, head_bias
        self.thorough = thorough
        self._made = {"view_size": view_size, "gamma": gamma, "reach": reach}
        self._kind = DenseMap if dense else LocalMap
        self.map = self._kind(heading=heading, **self._made)  # type: ignore[arg-type]
        self.rng = checks.rng("rng", rng)
        self.reason = ""
        self.work = 0
        self._plan: deque[int] = deque()
        self._last: int | None = None
        self._tried: WeakKeyDictionary[LocalMap, set[tuple[int, ...]]] = (
            WeakKeyDictionary()
        )  # by map, where ``_to_edge`` and ``_to_unseen`` led
        self._shown: Any = None  # what was known at the last decision
        self._futile = 0  # decisions since something new was seen
        self._blind = False  # the last move was to a cell that was never seen

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_tried": dict(self._tried)}  # weak references cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"_tried": WeakKeyDictionary(state["_tried"])})

    @property
    def stored_cells(self) -> int:
        """The number of cells in the bounding boxes of all maps, the current one included."""
        return self.map.area

    def act(self, view: View, *, moved: bool = True) -> int | None:
        """The next move: one cell up, down, left or right (0 to 3), heading that way; None if nothing is left to do.

        Args:
            view: The current view: labels, 0 for an empty cell, above 0 for walls, -1 for what is not visible.
            moved: Whether the last move succeeded; if not, the agent has turned but is still where it was.
        """
        if self.reason:
            return None
        self.map.checked(view)  # before the agent moves on its map
        if self._last is not None:
            previous_pose = self.map.pose
            self.map.move(self._last)
            if not moved:
                self.map.place(previous_pose._replace(heading=self._last))
                self._plan.clear()
        self._remember(view, deciding=not self._plan)
        if not self._plan:
            self._plan.extend(self._decide() if moved or not self._blind else self._to_unseen())
        if not self._plan:
            self.reason = self.reason or "stuck"
            return None
        self._last = self._plan.popleft()
        return self._last

    def _remember(self, view: View, *, deciding: bool) -> None:
        self.map.update(view)

    def _decide(self) -> list[int]:
        """The moves to the next frontier, or a step back; no moves, and the reason is set, if nothing is left."""
        patient = self._is_patient(self.map.q)
        if patient and (moves := self._to_frontier()):
            return moves
        has_clusters = bool(len(self.map.clusters().sizes))
        if patient and has_clusters and (moves := self._back()):
            return moves
        moves = self._to_unseen() if has_clusters or self.thorough else []
        self.reason = "" if moves else "explored"
        return moves

    def _is_patient(self, shown: Any) -> bool:
        """Whether something new was seen of late; what is known shows it, by the shares of frontiers in maps."""
        if shown == self._shown:
            self._futile += 1
        else:  # where only ``_to_unseen`` shows something new, frontiers get a single decision in between
            self._futile = PATIENCE - 1 if self._futile >= PATIENCE else 0
        self._shown = shown
        return self._futile < PATIENCE

    def _unseen(self, local_map: LocalMap) -> list[tuple[int, int, int]]:
        """Poses at the sides of unknown cells, nearest first, from which these can be seen and were not looked at."""
        top, left = local_map.bbox[:2]
        empty, unknown = local_map.known_empty(), local_map.frontier()
        tried = self._tried.setdefault(local_map, set())
        self.work += empty.size
        poses = [
            (int(row) + top - 1, int(column) + left - 1, heading)
            for heading, (down, right) in enumerate(MOVES.tolist())
            for row, column in np.argwhere(empty & np.roll(unknown, (-down, -right), (0, 1)))
        ]
        place = local_map.pose
        distance = {pose: abs(pose[0] - place.row) + abs(pose[1] - place.column) for pose in poses}
        return sorted((pose for pose in poses if pose not in tried), key=lambda pose: (distance[pose], pose))

    def _to_unseen(self) -> list[int]:
        """The moves to the nearest pose that faces an unknown cell; no moves if there is none that can be reached."""
        for row, column, heading in self._unseen(self.map):
            self._tried[self.map].add((row, column, heading))
            if (moves := self._moves_to(row, column, heading)) is not None:
                self._blind = False
                return moves if moves and moves[-1] == heading else [*moves, heading]
        return []

    def _moves_to(self, row: int, column: int, heading: int) -> list[int] | None:
        """The moves to a cell, with this heading at the arrival if possible; None if it cannot be reached."""
        pose = self.map.pose
        moves = [] if (row, column) == pose[:2] else self._walk(row, column, _ANY_HEADING[heading]) or []
        down, right = MOVES[moves].sum(0).tolist() if moves else (0, 0)
        return moves if (pose.row + down, pose.column + right) == (row, column) else None

    def _back(self) -> list[int]:
        """One step back; no move if a wall is there."""
        heading = OPPOSITE[self.map.pose.heading]
        row, column = self.map.pose.row + int(MOVES[heading, 0]), self.map.pose.column + int(MOVES[heading, 1])
        self._blind = self.map.is_empty(row, column) is None
        return [] if self.map.is_empty(row, column) is False else [heading]

    def _to_frontier(self) -> list[int] | None:
        """The moves to a frontier of the current map; None if it has none that can be reached."""
        rows, columns, sizes, work = self.map.clusters()
        self.work += work
        pose = self.map.pose
        down, right = rows - pose.row, columns - pose.column
        distance = np.hypot(down, right)
        is_eligible = distance > 0
        is_eligible &= sizes >= min(3, sizes[is_eligible].max(initial=0))
        if not is_eligible.any():
            return self._to_edge() if len(sizes) else None
        weight = np.where(is_eligible, 1.0, 0.0)
        if self.use_distance:
            weight /= distance + 1e-6
        if self.use_size:
            weight *= sizes
        if self.head_bias:
            weight[(down > 0, down < 0, right > 0, right < 0)[pose.heading]] *= 1e-5
        index = int(self.rng.choice(len(weight), p=weight / weight.sum()))
        heading = arrival_heading(int(down[index]), int(right[index]))
        return self._walk(int(rows[index]), int(columns[index]), _ANY_HEADING[heading])

    def _to_edge(self) -> list[int] | None:
        """The moves to a random empty cell beside a frontier, near ones more often.

        It is used if the cell of every cluster is the agent's own, as in the middle of an open space, which has one
        frontier all around it.
        """
        from scipy import ndimage

        labels, _ = ndimage.label(self.map.frontier(), _ALL_AROUND)
        single = np.flatnonzero(np.bincount(labels.ravel()) < 2)
        around = ndimage.binary_dilation((labels > 0) & ~np.isin(labels, single), _ALL_AROUND)
        self.work += labels.size
        pose = self.map.pose
        edges = np.argwhere(around & self.map.known_empty()) - 1 + self.map.bbox[:2] - pose[:2]
        tried = self._tried.setdefault(self.map, set())
        edges = np.array(
            [edge for edge in edges.tolist() if any(edge) and (pose.row + edge[0], pose.column + edge[1]) not in tried]
        )
        if not len(edges):
            return None
        weight = 1 / np.hypot(*edges.T)
        down, right = edges[int(self.rng.choice(len(edges), p=weight / weight.sum()))].tolist()
        tried.add((pose.row + down, pose.column + right))
        return self._walk(pose.row + down, pose.column + right, _ANY_HEADING[arrival_heading(down, right)])

    def _walk(self, row: int, column: int, headings: tuple[int, ...]) -> list[int] | None:
        moves, work = self.map.path(row, column, (headings[0], headings[1], headings[2], headings[3]))
        self.work += work
        return moves


def arrival_heading(down: int, right: int) -> int:
    """The heading at the arrival at a goal, given by its offset in rows and columns: roughly the direction of travel.

    Examples:
        >>> [arrival_heading(*goal) for goal in ((-3, 1), (3, 1), (1, -3), (-1, 3))]
        [0, 1, 2, 3]
    """
    if -down > right:
        return 0 if -down > -right else 2
    return 3 if -down > -right else 1
