"""FARMap: exploring with a small map that is stored at surprises, and recalled on returning."""

from __future__ import annotations

import copy
import heapq
import math
from typing import Any, NamedTuple

import numpy as np

from engram import checks
from engram.memory.fragments import Decision, FragmentAndRecall, LongTermStore, SurprisalMonitor
from engram.numeric.grid_view import HIDDEN
from engram.spatial.frontier_explorer import OPPOSITE, FrontierExplorer
from engram.spatial.local_map import LocalMap, Pose, View

RECALLS = ("geometric", "cosine", "none")
# The order in which arrival headings are tried, for each heading of the agent.
_TURNS = ((1, 2, 3, 0), (0, 3, 2, 1), (3, 0, 1, 2), (2, 1, 0, 3))


class Fracture(NamedTuple):
    """The place where the agent left one map for another: a line through the agent, and the heading across it.

    Attributes:
        pose: Where the agent was, and the heading in which the line leads to the other map.
        before: Number of cells of the line on one side of the agent, up or left.
        after: Number of its cells on the other side.
    """

    pose: Pose
    before: int
    after: int

    @property
    def ends(self) -> tuple[int, int, int, int]:
        """First row and column, and last row and column."""
        row, column, heading = self.pose
        if heading < 2:
            return row, column - self.before, row, column + self.after
        return row - self.before, column, row + self.after, column


class FARMapExplorer(FrontierExplorer):
    """A frontier explorer with a map that is cut into fragments.

    A new map begins when the surprisal 1 - c of the current map is an outlier among those since the last cut; the two
    maps are connected at the fracture, a line of empty cells across the agent's way. When the agent crosses it again,
    the map on the other side is recalled. If few frontiers are left (q below ``ltm_gate``), the current map and its
    neighbours compete:

        D_i = q_i / epsilon,   D_j = f_j q_j / (distance to the fracture + epsilon)

    with f_j between 0.96 and 1, smaller if j was used recently; if a neighbour wins, the agent walks there. If nothing
    is left, it turns back, and then looks at unknown cells one by one, as ``FrontierExplorer``, in the other maps too;
    without recall it may cut its map and explore anew for ever. If possible, it arrives at a fracture in the heading
    that crosses it; with the published order of headings, which is used otherwise, it can go back and forth without
    ever crossing.

    Args:
        view_size: Cells along a side of a view, odd.
        gamma: Decay of the confidence of its maps in a step.
        rho: Surprisal, in standard deviations above its mean, above which a new map begins.
        epsilon: Number of cells added to the distance of a fracture.
        multi_hop: Whether all maps compete, not only neighbours; distances are then along the shortest way through
            fractures, which the agent takes.
        ltm_gate: The q below which other maps compete; 0: only if the current map has no frontier left; None: never.
        recall: ``"geometric"``: by crossing a fracture; ``"cosine"``: by a view, in the same heading, whose cosine with
            the first view of a map is at least 0.99; ``"none"``.
        monitor: Decides where maps are cut; the explorer uses a copy. None: ``SurprisalMonitor("zscore", rho)``.
        predict_before_update: Whether the surprisal is computed before the map is updated with the view.
        view_at_once: Whether a map that begins on the way to a goal includes the view at once; as published it begins
            empty.
        use_size: Whether large frontiers are chosen more often.
        head_bias: Whether frontiers behind the agent are avoided.
        thorough: Whether it looks at single unknown cells too when no cluster is left; as published it does not.
        reach: Distance from the agent up to which cells of a map are kept; None: all are.
        dense: Whether maps are ``DenseMap``, for worlds whose colours change; else ``LocalMap``.
        heading: Heading at the start.
        rng: Generator or seed for the choice of frontiers.

    Attributes:
        store: All maps, and how they are connected.
        decisions: Each cut and recall so far: the step, counted from 0, and what was decided.

    Source: Hwang et al., "Grid cell-inspired fragmentation and recall for efficient map building" (2024).

    Examples:
        >>> view = np.array([[0, 0, 0], [0, 0, 0], [-1, 0, -1]])
        >>> explorer = FARMapExplorer(3, rng=0)
        >>> explorer.act(view), len(explorer.store)
        (0, 1)
    """

    def __init__(
        self,
        view_size: int = 15,
        *,
        gamma: float = 0.9,
        rho: float = 2.0,
        epsilon: float = 5.0,
        multi_hop: bool = False,
        ltm_gate: float | None = 0.05,
        recall: str = "geometric",
        monitor: SurprisalMonitor | None = None,
        predict_before_update: bool = False,
        view_at_once: bool = False,
        use_size: bool = True,
        head_bias: bool = True,
        thorough: bool = True,
        reach: int | None = 250,
        dense: bool = False,
        heading: int = 0,
        rng: Any = None,
    ) -> None:
        options: Any = {"gamma": gamma, "reach": reach, "dense": dense, "heading": heading, "rng": rng}
        super().__init__(view_size, use_size=use_size, head_bias=head_bias, thorough=thorough, **options)
        self.rho = checks.number("rho", rho, above=0)
        self.epsilon = checks.number("epsilon", epsilon, above=0)
        self.ltm_gate = None if ltm_gate is None else checks.number("ltm_gate", ltm_gate, minimum=0)
        self.recall = checks.choice("recall", recall, RECALLS)
        self.multi_hop = bool(checks.instance("multi_hop", multi_hop, bool | np.bool_))  # type: ignore[arg-type]
        self.predict_before_update, self.view_at_once = predict_before_update, view_at_once
        self.store: LongTermStore[LocalMap] = LongTermStore(_alike if recall == "cosine" else "geometric")
        self._far = FragmentAndRecall(
            self._begin,
            self.store,
            SurprisalMonitor("zscore", self.rho) if monitor is None else copy.deepcopy(monitor),
            link=self._link,
        )
        self.map = self._far.current
        self.decisions: list[tuple[int, Decision]] = []
        self._steps = 0
        self._switching = False

    @property
    def stored_cells(self) -> int:
        """The number of cells in the bounding boxes of all maps, the current one included."""
        return sum(self.store.get(number).area for number in self.store.ids)

    def _begin(self) -> LocalMap:
        return self._kind(heading=self.map.pose.heading, **self._made)  # type: ignore[arg-type]

    def _link(self, store: LongTermStore[LocalMap], source: int, target: int, query: Any) -> None:
        """Connect a map and the new one, and store how each is found from the other."""
        pose, (before, after) = self.map.pose, self._line()
        fracture = Fracture(pose, before, after)
        back = Fracture(Pose(0, 0, OPPOSITE[pose.heading]), before, after)
        store.connect(source, target, fracture, back)
        if self.recall == "geometric":
            store.add_key((source, fracture.pose.heading, *fracture.ends), target, source)
            store.add_key((target, back.pose.heading, *back.ends), source, target)
        elif self.recall == "cosine":
            store.add_key(query, target, source)

    def _line(self) -> tuple[int, int]:
        """The numbers of empty cells in a line to the two sides of the agent's path."""
        row, column, heading = self.map.pose
        down, right = (0, 1) if heading < 2 else (1, 0)
        lengths = []
        for side in (-1, 1):
            length = 0
            while self.map.is_empty(row + side * (length + 1) * down, column + side * (length + 1) * right):
                length += 1
            lengths.append(length)
        return lengths[0], lengths[1]

    def _remember(self, view: View, *, deciding: bool) -> None:
        self._switching = self._switching and not deciding
        old_map, old_confidence = self.map, self.map.confidence(view) if self.predict_before_update else 0.0
        old_map.update(view)
        source, pose = self._far.current_id, old_map.pose

        def surprisal(current: LocalMap) -> float:
            if current is not old_map:
                self._enter(source, pose)
                return 1.0 - current.confidence(view)
            return 1.0 - (old_confidence if self.predict_before_update else current.confidence(view))

        query: Any = None
        if self.recall != "none":
            query = (source, pose.heading, *((pose.row, pose.column) if self.recall == "geometric" else (view,)))
        decision = self._far.step(surprisal, query, may_fragment=not self._switching)
        self.map = self._far.current
        if decision.kind == "fragment" and (deciding or self.view_at_once):
            self.map.update(view)
        if decision.kind != "keep":
            self.decisions.append((self._steps, decision))
        self._steps += 1

    def _enter(self, source: int, pose: Pose) -> None:
        """Place the agent on the recalled map, at the point of the fracture that it crosses.

        On a map that is recalled by a view, it is placed where that map began.
        """
        target, row, column = self._far.current_id, 0, 0
        if self.recall == "geometric":
            edges = zip(self.store.neighbors(source)[target], self.store.neighbors(target)[source], strict=True)
            for departure, arrival in edges:
                top, left, bottom, right = departure.ends
                inside = top <= pose.row <= bottom and left <= pose.column <= right
                if inside and pose.heading == departure.pose.heading:
                    row = arrival.pose.row + pose.row - departure.pose.row
                    column = arrival.pose.column + pose.column - departure.pose.column
        self.store.get(target).place(Pose(row, column, pose.heading))

    def _decide(self) -> list[int]:
        patient = self._is_patient([(number, self.store.get(number).q) for number in sorted(self.store.ids)])
        seeks = self.ltm_gate is not None
        is_poor = self.map.q < (self.ltm_gate or 0.0)
        if patient and is_poor and (moves := self._elsewhere(self.map.q / self.epsilon)):
            return moves
        if patient and (local := self._to_frontier()):
            return local
        has_clusters = any(len(self.store.get(number).clusters().sizes) for number in self.store.ids)
        if patient and has_clusters and (moves := (self._elsewhere(-1.0) if seeks else []) or self._back()):
            return moves
        moves = (self._to_unseen() or self._to_unfinished()) if has_clusters or self.thorough else []
        self.reason = "" if moves else "explored"
        return moves

    def _to_unfinished(self) -> list[int]:
        """The moves to the fracture on the way to the nearest map, by number of fractures, with cells to look at."""
        source = self._far.current_id
        first_steps, queue = {source: source}, [source]
        for current in queue:
            if current != source and (unseen := self._unseen(self.store.get(current))):
                break
            for target in self.store.neighbors(current):
                if target not in first_steps:
                    first_steps[target] = target if current == source else first_steps[current]
                    queue.append(target)
        else:
            return []
        tried = self._tried.setdefault(self.map, set())
        for departure in self.store.neighbors(source)[first_steps[current]]:
            row, column, heading = departure.pose
            attempt = (row, column, heading, current, len(unseen))  # again only if fewer are left by then
            if self.recall == "none" or attempt in tried:
                continue
            tried.add(attempt)
            moves = self._moves_to(row, column, heading)
            if moves is not None:
                self._switching = True
                return moves if moves and moves[-1] == heading else [*moves, OPPOSITE[heading], heading]
        return []

    def _elsewhere(self, score: float) -> list[int]:
        """The moves to the fracture towards the best map, if it beats a score; else no moves."""
        goal, recent = None, self.store.ids
        for target, (distance, first_pose) in self._ways().items():
            recency = min(1.0, 0.95 + 0.01 * recent.index(target))
            value = recency * self.store.get(target).q / (distance + self.epsilon)
            if value > score:
                score, goal = value, first_pose
        if goal is None:
            return []
        order = (goal.heading, *(heading for heading in _TURNS[self.map.pose.heading] if heading != goal.heading))
        moves = self._walk(goal.row, goal.column, order) or []
        self._switching = bool(moves)
        return moves

    def _ways(self) -> dict[int, tuple[float, Pose]]:
        """The distance of the nearest fracture towards each other map, and the pose at the first fracture on the way.

        Neighbours are in the order in which they were connected, so that the first of equally good maps wins.
        """
        source, order = self._far.current_id, 0
        ways = dict.fromkeys(self.store.neighbors(source), (math.inf, self.map.pose))
        queue, entered = [(0.0, order, source, self.map.pose, self.map.pose)], set()
        while queue:
            distance, _, current, pose, first_pose = heapq.heappop(queue)
            if current != source and distance < ways.get(current, (math.inf,))[0]:
                ways[current] = distance, first_pose
            if (current, pose) in entered or (current != source and not self.multi_hop):
                continue
            entered.add((current, pose))
            for target, fractures in self.store.neighbors(current).items():
                arrivals = self.store.neighbors(target)[current] if self.multi_hop else fractures
                for departure, arrival in zip(fractures, arrivals, strict=True):
                    order += 1
                    length = abs(departure.pose.row - pose.row) + abs(departure.pose.column - pose.column)
                    start = departure.pose if current == source else first_pose
                    if target != source:
                        heapq.heappush(queue, (distance + length, order, target, arrival.pose, start))
        return ways


def _alike(query: tuple[int, int, View], key: tuple[int, int, View]) -> float:
    """The cosine of two views as one-hot vectors; -1 if their headings differ."""
    if query[1] != key[1]:
        return -1.0
    view, first_view = query[2], key[2]
    n_equal = np.count_nonzero((view == first_view) & (view != HIDDEN))
    visible = math.sqrt(np.count_nonzero(view != HIDDEN) * np.count_nonzero(first_view != HIDDEN))
    return n_equal / visible if visible else 0.0
