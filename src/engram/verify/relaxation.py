"""Large proved regions: activation patterns, relaxed as long as the proof still holds (Prophecy and NNInfer)."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.verify.bounds import FREE, Phases, Relaxation, crown_bounds, lower_lines, minimum, relax
from engram.verify.exact import FEASIBILITY, NODES, solve
from engram.verify.network import AffineReLU, Array
from engram.verify.region import (
    MOST_DIMENSIONS,
    Made,
    Pattern,
    Region,
    activation_pattern,
    local_affine,
    pattern_halfspaces,
)
from engram.verify.specification import Box, Clause, Domain, as_domain

Mode = Literal["direct", "structural", "best", "crown"]
POOL, GRID, VOLUME_SAMPLES = 256, (0.001, 0.5, 0.95), 20_000


def relaxed_region(
    net: AffineReLU,
    x0: Float[np.ndarray, " inputs"],
    box: Box,
    mode: Mode = "structural",
    *,
    label: int | None = None,
    eps: float = 0.95,
    eps_absolute: float | None = None,
    tighten: bool = True,
    order: Literal["index", "slack"] = "index",
    tau: float = 0.0,
    time_limit: float = 60.0,
    node_limit: int = NODES,
    rng: np.random.Generator | None = None,
) -> Region:
    """A convex region around an input, or near it, in which the network is proved to give one class.

    Let s(x0) be the phases of all units at x0, Q(s) the inputs that have the phases s, M_i = y_c - y_i the margins, and
    g_i the affine functions that the margins are near x0. Units are freed one after another as long as

        direct:      M_i(x) > 0            for all x in Q(s); the region is Q(s)
        structural:  M_i(x) > g_i(x) - eps for all x in Q(s); the region is Q(s) with g_i(x) >= eps

    can be proved: first whole layers, from the last one backwards, then single units of the layer at which this stops.
    If the direct proof fails for s(x0) itself, the region is Q(s(x0)) with g_i >= 0, mode ``"fallback"``. At a tie the
    region is empty.

    Args:
        net: The network.
        x0: The input, inside the box.
        box: All inputs of interest.
        mode: ``"direct"`` (Prophecy), ``"structural"`` (NNInfer), ``"best"``: the largest of the direct region
            and the structural ones with eps 0.001, 0.5 and 0.95, or ``"crown"``: the half-spaces of one backward pass
            over the box.
        label: The class c, which must be the network's prediction at x0, or tie with it; default: the prediction.
        eps: Slack as a share of the smallest margin at x0.
        eps_absolute: Slack in units of the outputs instead; above the smallest margin, x0 is outside the region, and a
            warning says so.
        tighten: Once units are freed, replace eps by the smallest slack for which the proof still holds, for each other
            class, and leave out half-spaces that are not needed.
        order: Free the units of a layer by index, or those first whose phase changes farthest from x0 (``"slack"``).
        tau: Smallest z at which a unit counts as on, in the proof and in the region; 1e-4 as published.
        time_limit: Seconds for each call of the solver; without an answer, the unit stays fixed.
        node_limit: Likewise, nodes of the solver's search; unlike seconds, the same on every machine.
        rng: Source of the samples that save calls of the solver and estimate volumes; default: a generator of seed 0.

    Raises:
        ValueError: ``x0`` is outside the box, there is one output, ``label`` is not the prediction at ``x0``, or an
            argument is unknown or out of range.

    Sources: Gopinath et al., "Property inference for deep neural networks" (2019), for direct; Dingliwal, Pareek and
    Arora, "Finding input characterizations for output properties in ReLU neural networks" (2020), for structural. The
    share of the margin, the tightening, ``"best"`` and ``"crown"`` are ours.

    Examples:
        >>> W = [np.array([[1.0, -1], [1, -1], [1, 2], [1, -4]]), np.array([[1.0, 0, 0, 0], [0, 0, 1, 0]])]
        >>> net = AffineReLU(tuple(W), (np.array([1.0, 0, -2, -2]), np.zeros(2)))
        >>> relaxed_region(net, np.array([1.0, 0.0]), Box([-3, -3], [3, 3]), "direct").pattern
        (array([2, 1, 0, 2], dtype=int8),)
    """
    checks.arguments()
    start = time.monotonic()
    domain = as_domain(box, net.sizes[0])
    x0 = checks.array("x0", x0, (net.sizes[0],))
    if not domain.contains(x0):
        j = int(np.argmax((x0 < box.low) | (x0 > box.high)))
        raise ValueError(f"x0[{j}] = {x0[j]}: expected a point of the box, here {box.low[j]} to {box.high[j]}")
    checks.choice("mode", mode, get_args(Mode))
    if eps_absolute is None:
        checks.number("eps", eps, above=0, below=1)
    y = net(x0)
    if len(y) < 2:
        raise ValueError("the network has one output: expected classes; see verify and LinearProperty for a bound")
    label = int(np.argmax(y)) if label is None else checks.size("label", label, 0, len(y) - 1)
    margin = float(y[label] - np.delete(y, label).max())
    if margin < 0:
        raise ValueError(f"label = {label}: expected the network's prediction at x0, {int(np.argmax(y))}")
    rng = np.random.default_rng(0) if rng is None else rng
    limits = {"time_limit": time_limit, "node_limit": node_limit}
    maker = _Maker(net, x0, domain, label, rng=rng, order=order, tau=tau, **limits)
    if margin == 0:
        region = replace(maker.region("direct", maker.full, []), status="tie", G=maker.nothing[0], h=maker.nothing[1])
    elif mode == "crown":
        region = maker.crown()
    elif mode == "direct":
        region = maker.direct()
    elif mode == "structural":
        absolute = eps * margin if eps_absolute is None else eps_absolute
        if absolute > margin:
            warnings.warn(f"eps = {absolute} is above the margin {margin} at x0, which is outside", stacklevel=2)
        region = maker.structural(absolute, tighten)
    else:
        region = maker.best(margin)
    return replace(region, seconds=time.monotonic() - start, queries=tuple(maker.queries))


def class_regions(
    net: AffineReLU,
    X: Float[np.ndarray, "points inputs"],
    box: Box,
    label: int,
    mode: Mode = "structural",
    *,
    maximum: int = 10,
    **options: Any,
) -> list[Region]:
    """Regions of a class, each around the input of largest margin that no earlier region contains.

    Args:
        net: The network.
        X: Inputs; those for which the network predicts another class are left out.
        box: All inputs of interest.
        label: The class.
        mode: ``"direct"``, ``"structural"``, ``"best"`` or ``"crown"``.
        maximum: Maximum number of regions; fewer if they contain all inputs of the class.
        **options: Other arguments of ``relaxed_region``.

    Raises:
        ValueError: There are fewer than two outputs, ``label`` is none of them, or as for ``relaxed_region``.

    Examples:
        >>> net = AffineReLU((np.array([[1.0], [-1.0]]),), (np.zeros(2),))
        >>> len(class_regions(net, np.array([[0.5], [1.0], [-0.5]]), Box([-1], [1]), 0))
        1
    """
    checks.arguments()
    outputs = net(X)
    checks.size("the number of outputs", outputs.shape[1], 2)
    checks.size("label", label, 0, outputs.shape[1] - 1)
    margin = outputs[:, label] - np.delete(outputs, label, axis=1).max(1)
    uncovered = X[np.argsort(-margin, kind="stable")][: int((margin > 0).sum())]
    regions: list[Region] = []
    while len(uncovered) and len(regions) < maximum:
        regions.append(relaxed_region(net, uncovered[0], box, mode, label=label, **options))
        uncovered = uncovered[1:][~regions[-1].contains(uncovered[1:])]
    return regions


FacetSlacks = list[tuple[int, float]]  # half-spaces g_i >= eps_i of a region


class _Obligation(NamedTuple):
    """The condition q . y + r . x + c <= target, for one other class."""

    q: Array
    r: Array
    c: float
    target: float


class _Maker:
    """The common part of all proofs about one input: the pattern, the affine maps, the pool of known points."""

    def __init__(
        self, net: AffineReLU, x0: Array, domain: Domain, label: int, *, rng: np.random.Generator, **options: Any
    ) -> None:
        self.net, self.x0, self.domain, self.label = net, x0, domain, label
        self.order, self.rng, self.tau, self.options = options.pop("order"), rng, options["tau"], options
        self.full = activation_pattern(net, x0)
        self.maps = local_affine(net, self.full)
        self.others = [i for i in range(net.sizes[-1]) if i != label]
        self.to_others = np.eye(net.sizes[-1])[self.others] - np.eye(net.sizes[-1])[label]  # y_i - y_c
        A, a = self.maps[-1]
        self.g, self.g0 = -self.to_others @ A, -self.to_others @ a
        scale = float(np.abs(self.to_others @ net.weights[-1]).sum(1).max())
        self.tol = FEASIBILITY * max(1.0, scale)
        self.queries = [0, 0, 0]
        # Half of the pool is near x0, where inputs with many of the same phases are.
        spread = (domain.high - domain.low) * 2.0 ** -rng.integers(1, 6, (POOL, 1))
        near = (x0 + spread * rng.normal(size=(POOL, len(x0)))).clip(domain.low, domain.high)
        self.pool = np.vstack([x0, near, rng.uniform(domain.low, domain.high, (POOL, len(x0)))])

    def direct(self) -> Region:
        obligations = [_Obligation(q, np.zeros_like(self.x0), 0.0, -self.tol) for q in self.to_others]
        if not self.holds(self.full, obligations):
            return self.region("fallback", self.full, [(i, 0.0) for i in range(len(self.others))])
        return self.region("direct", self.relaxed(obligations), [])

    def structural(self, eps: float, tighten: bool) -> Region:
        eps = max(eps, 10 * self.tol)
        obligations = [
            _Obligation(*coefficients, eps - self.tol)
            for coefficients in zip(self.to_others, self.g, self.g0, strict=True)
        ]
        pattern = self.relaxed(obligations)
        facets = [(i, eps) for i in range(len(self.others))]
        if tighten:
            facets = []
            for i, obligation in enumerate(obligations):
                if not self.holds(pattern, [_Obligation(obligation.q, np.zeros_like(self.x0), 0.0, -self.tol)]):
                    upper = self.largest(pattern, self._relaxation(pattern), obligation)
                    facets.append((i, min(eps, max(upper, 0.0) + self.tol)))
        return self.region("structural", pattern, facets)

    def best(self, margin: float) -> Region:
        regions = [self.direct(), *(self.structural(share * margin, True) for share in GRID)]
        if len(self.x0) > MOST_DIMENSIONS:
            return max(regions, key=lambda region: region.volume_box().log_volume)
        points = self.rng.uniform(self.domain.low, self.domain.high, (VOLUME_SAMPLES, len(self.x0)))
        return max(regions, key=lambda region: region.contains(points).sum())

    def crown(self) -> Region:
        bounds = crown_bounds(self.net, self.domain.low, self.domain.high, -self.to_others)
        A, c = bounds.lower_slope, bounds.lower_offset - self.tol
        return self._region_of_rows("crown", tuple(np.full_like(p, FREE) for p in self.full), -A, c, np.zeros(len(c)))

    def region(self, mode: Made, pattern: Pattern, facets: FacetSlacks) -> Region:
        G, h = pattern_halfspaces(self.net, self.full, pattern, self.tau)
        slack = np.full(len(self.others), -np.inf)
        for i, eps in facets:
            slack[i] = eps
        is_finite = np.isfinite(slack)
        # A fallback leaves out its faces, where classes tie.
        limits = self.g0[is_finite] - (slack[is_finite] + (self.tol if mode == "fallback" else 0.0))
        return self._region_of_rows(
            mode, pattern, np.vstack([G, -self.g[is_finite]]), np.concatenate([h, limits]), slack
        )

    def _region_of_rows(self, mode: Made, pattern: Pattern, G: Array, h: Array, slack: Array) -> Region:
        length = np.linalg.norm(G, axis=1)
        if (h[length == 0] < 0).any():  # a row of zeros that nothing satisfies
            (G, h), length = self.nothing, np.ones(1)
        rows = np.column_stack([G, h])[length > 0] / length[length > 0, None]
        _, first_rows = np.unique(rows.round(12), axis=0, return_index=True)
        rows = rows[np.sort(first_rows)]
        box = Box(self.domain.low, self.domain.high)
        return Region(rows[:, :-1], rows[:, -1], box, self.label, pattern, mode, "proved", slack, self.tol)

    @property
    def nothing(self) -> tuple[Array, Array]:
        """A half-space that contains no point of the box."""
        return np.eye(len(self.x0))[:1], self.domain.low[:1] - 1

    def relaxed(self, obligations: list[_Obligation]) -> Pattern:
        """The pattern after freeing layers from the last, then units of the layer that cannot be freed as a whole."""
        pattern = tuple(p.copy() for p in self.full)
        questions = list(obligations)  # whose order changes
        for k in range(len(pattern) - 1, -1, -1):
            if not self._free(pattern, k, self._order(k), questions):
                break
        return pattern

    def _free(
        self, pattern: Pattern, k: int, units: list[int], obligations: list[_Obligation], *, fails: bool = False
    ) -> bool:
        """Free units of layer k in their order, as far as the proof holds; whether all of them are free then.

        What is proved for a pattern is also proved with fewer free units, so a block that can be freed needs one proof.

        Args:
            pattern: The pattern, changed in place.
            k: The layer.
            units: Its units to free.
            obligations: What has to be proved, in the order in which it is tried.
            fails: Whether it is known that not all of the units can be freed.
        """
        phases = pattern[k][units]
        if not fails:
            pattern[k][units] = FREE
            if self.holds(pattern, obligations):
                return True
            pattern[k][units] = phases
        if len(units) > 1:
            middle = len(units) // 2
            first = self._free(pattern, k, units[:middle], obligations)
            self._free(pattern, k, units[middle:], obligations, fails=first)
        return False

    def _order(self, k: int) -> list[int]:
        A, a = self.maps[k]
        if self.order == "index":
            return list(range(len(a)))
        distance = np.abs(A @ self.x0 + a) / np.maximum(np.linalg.norm(A, axis=1), 1e-300)
        return [int(j) for j in np.argsort(-distance, kind="stable")]

    def holds(self, pattern: Pattern, obligations: list[_Obligation]) -> bool:
        """Whether the obligations are proved; False if the solver does not decide. The one that fails comes first."""
        preactivations = self.net.preactivations(self.pool)
        within = np.ones(len(self.pool), dtype=bool)
        for codes, z in zip(pattern, preactivations, strict=False):
            within &= ((codes == FREE) | ((codes == 1) & (z >= self.tau)) | ((codes == 0) & (z <= 0))).all(1)
        for obligation in obligations:
            values = preactivations[-1] @ obligation.q + self.pool @ obligation.r + obligation.c
            if (values[within] > obligation.target).any():
                self.queries[0] += 1
                return False
        relaxation = self._relaxation(pattern)
        for number, obligation in enumerate(obligations):
            if self.largest(pattern, relaxation, obligation, obligation.target) > obligation.target:
                obligations.insert(0, obligations.pop(number))  # the next pattern most likely fails for it as well
                return False
        return True

    def _relaxation(self, pattern: Pattern) -> Relaxation:
        phases: list[Phases] = [codes[None] for codes in pattern]
        return relax(self.net, self.domain.low[None], self.domain.high[None], phases)

    def largest(
        self, pattern: Pattern, relaxation: Relaxation, obligation: _Obligation, enough: float = -np.inf
    ) -> float:
        """An upper bound of an obligation's left side over a pattern: CROWN's if that is enough, else the solver's."""
        if relaxation.empty[0]:
            return -np.inf
        self.queries[1] += 1
        A, c = lower_lines(
            self.net, relaxation, -obligation.q[None], np.zeros(1, dtype=np.intp), np.array([-obligation.c])
        )
        upper = -float(minimum(A - obligation.r, c, self.domain.low[None], self.domain.high[None])[0])
        if upper <= enough:
            return upper
        self.queries[2] += 1
        clause = Clause(-obligation.q[None], np.array([-obligation.c]), np.ones(1, dtype=bool))
        question: dict[str, Any] = {"pattern": pattern, "of_inputs": -obligation.r, "binary": True, "below": -enough}
        solution = solve(self.net, relaxation, clause, self.domain, **question, **self.options)
        if solution.x is not None:
            self.pool = np.vstack([self.pool, solution.x.clip(self.domain.low, self.domain.high)])
        return min(upper, -solution.value)
