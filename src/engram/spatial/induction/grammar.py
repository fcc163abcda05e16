"""The grammar of maps made of submaps, and the posterior that it gives for a partly known map."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, Int8, Int64

from engram import checks
from engram.numeric.grid_cells import CODES, EMPTY, REWARD, UNOBSERVED
from engram.spatial.induction.kernels import distinct
from engram.spatial.induction.posterior import Candidate, MapPosterior, Submap, background

TRANSFORMS = {"identity": 0.0, "reflect_ud": 1.0, "reflect_lr": 1.0, "rotate": 2.0}  # and the cost of each in bits
NEW = 8.0  # cost in bits of a submap that is used
SLOTS = (2, 36)  # the fewest and the most slots of a block size
LEAST_SHARE = 1e-3  # a block size with a smaller share of the evidence is dropped
Size = tuple[int, int]
Slot = tuple[slice, slice]


class _OfSize(NamedTuple):
    """The hypotheses with blocks of one size."""

    submaps: tuple[Submap, ...]
    slots: tuple[Slot, ...]
    candidates: tuple[tuple[Candidate, ...], ...]
    programs: int
    maps: Int8[np.ndarray, "n h w"]
    logs: Float64[np.ndarray, "n"]
    log_evidence: float


def agree(first: Int[np.ndarray, "*shape"], second: Int[np.ndarray, "*shape"]) -> bool:
    """Whether two parts of maps are equal in all cells that are known in both."""
    return bool(((first == second) | (first == UNOBSERVED) | (second == UNOBSERVED)).all())


class SubmapGrammar:
    """A prior on maps that consist of repeated submaps in slots of one size, with a posterior given the seen cells.

        p(program) ~ exp(-lam cost),   cost = log2 sizes + sum_{submaps used} 8 + sum_slots (log2 P + c_T)

    Every block of the map that is known well enough is a submap; two are equal if they agree on all cells known in
    both. A program puts one of the P submaps, transformed or not, in each of K slots. It is consistent if it agrees
    with all known cells. This can be checked slot by slot: if C_k are the submaps that agree with slot k, the
    consistent programs are C_1 x ... x C_K, so that the P^K programs are never enumerated. If there are at most
    ``max_hypotheses``, all of them become hypotheses, otherwise as many random draws. With one block size and lam = 0,
    as published, hypotheses are then dropped if they add nothing to another or have the same rewards as another;
    otherwise only equal maps are merged, and their weights added. Those that leave no reward to be collected are
    dropped.

    Args:
        block: Sizes of blocks. ``"author"``: one size, with the longer side of the map divided into ``fragments``
            parts; if it is not divisible, there are no hypotheses. ``"strips"``: all sizes that divide one side, into 2
            to 36 parts. ``"tiles"``: all sizes that divide one side or both.
        fragments: Number of parts of ``"author"``, at least 2.
        max_unknown: A block is a submap if the share of its cells that is unknown is below this.
        merge: The known cells of a submap: the ``"union"`` of those of equal blocks, or those of the last block
            (``"replace"``).
        transforms: How a submap may be put into a slot: any of ``"identity"``, ``"reflect_ud"``, ``"reflect_lr"``, and
            ``"rotate"``, by a right angle, of square blocks.
        prior_cost: lam, per bit; None: 0 for ``"author"``, else ln 2.
        include_unstructured: Prior weight of the hypothesis that nothing is repeated and rewards may be in any free
            cell; the rewards seen update it.
        gate: When submaps that contradict a seen reward are excluded: before hypotheses are formed (``"first"``), or,
            as published, after others have been dropped as redundant (``"last"``), which may leave no hypothesis.
        one_off: Whether a slot that agrees with no submap is filled with its own known cells; if not, a map with such
            a slot has no consistent program.
        max_hypotheses: Maximum number of maps in a posterior.
        random_state: A seed, or a generator, for the draws.

    Source: Sharma, Curtis, Kryven, Tenenbaum and Fiete, "Map Induction: Compositional spatial submap learning for
    efficient exploration in novel environments" (2021); the prior, one-off submaps and factorisation are ours.

    Examples:
        >>> unit = np.array([[3, 2, 3], [0, 0, 0]])
        >>> known = np.tile(unit, (5, 1))
        >>> known[:6] = 6  # unknown
        >>> posterior = SubmapGrammar().posterior(known)
        >>> len(posterior), posterior.marginal(2)[0].tolist()
        (1, [0.0, 1.0, 0.0])
    """

    __repr__ = checks.described

    def __init__(
        self,
        *,
        block: str = "author",
        fragments: int = 5,
        max_unknown: float = 0.75,
        merge: str = "union",
        transforms: Sequence[str] = ("identity",),
        prior_cost: float | None = None,
        include_unstructured: float = 0.0,
        gate: str = "first",
        one_off: bool = True,
        max_hypotheses: int = 256,
        random_state: int | np.random.Generator | None = None,
    ) -> None:
        checks.arguments()
        self.block = checks.choice("block", block, ("author", "strips", "tiles"))
        self.fragments = checks.size("fragments", fragments, minimum=2)
        self.max_unknown = checks.number("max_unknown", max_unknown, above=0, maximum=1)
        self.merge = checks.choice("merge", merge, ("union", "replace"))
        if not transforms:
            raise ValueError("transforms is empty: expected at least one, such as 'identity'")
        for transform in transforms:
            checks.choice("transforms", transform, tuple(TRANSFORMS))
        self.transforms = tuple(transforms)
        cost = (0.0 if block == "author" else math.log(2)) if prior_cost is None else prior_cost
        self.prior_cost = checks.number("prior_cost", cost, minimum=0)
        self.include_unstructured = checks.number("include_unstructured", include_unstructured, minimum=0, maximum=1)
        self.gate = checks.choice("gate", gate, ("first", "last"))
        self.one_off = bool(one_off)
        self.max_hypotheses = checks.size("max_hypotheses", max_hypotheses, maximum=10**5)
        self.rng = checks.rng("random_state", random_state)

    def sizes(self, shape: Size) -> list[Size]:
        """The block sizes of a map, rows and columns.

        Args:
            shape: Rows and columns of the map.

        Raises:
            ValueError: A side of the map is below 1.
        """
        checks.arguments()
        height, width = (checks.size("shape", side) for side in shape)
        if self.block == "author":
            longer = (height // self.fragments, width) if height >= width else (height, width // self.fragments)
            if min(longer) < 1 or height % longer[0] or width % longer[1]:
                warnings.warn(
                    f"blocks of {longer} do not divide a map of {shape}: no hypotheses; block='strips' has some",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return []
            return [longer]
        divisions = [(i, j) for i in _factors(height) for j in _factors(width) if SLOTS[0] <= i * j <= SLOTS[1]]
        return [(height // i, width // j) for i, j in divisions if self.block == "tiles" or 1 in {i, j}]

    def propose(self, known: Any, size: Size | None = None) -> list[Submap]:
        """The submaps of a map.

        Args:
            known: Codes of cells, (h, w), 6 where unknown.
            size: Rows and columns of a block (default: the first of ``sizes``).

        Raises:
            ValueError: ``known`` is not a map, or the blocks do not divide it.
        """
        checks.arguments()
        cells = _checked(known)
        size = size or next(iter(self.sizes(cells.shape)), None)
        return [] if size is None else self._propose(_blocks(cells, size)[1])

    def _propose(self, blocks: Int8[np.ndarray, "k bh bw"]) -> list[Submap]:
        submaps: list[Submap] = []
        for cells in blocks:
            if (cells == UNOBSERVED).mean() >= self.max_unknown:
                continue
            equal = [index for index, submap in enumerate(submaps) if agree(cells, submap.cells)]
            if not equal:
                submaps.append(Submap(cells, 1))
            elif self.merge == "union":
                submap = submaps[equal[0]]
                union = np.where(cells == UNOBSERVED, submap.cells, cells)
                submaps[equal[0]] = Submap(union, submap.support + 1)
            else:  # one block may take the place of several
                support = sum(submaps[index].support for index in equal) + 1
                submaps[equal[0]] = Submap(cells, support)
                submaps = [submap for index, submap in enumerate(submaps) if index not in equal[1:]]
        return submaps

    def posterior(self, known: Any, goals_seen: Collection[tuple[int, int]] = ()) -> MapPosterior:
        """The posterior over the whole map.

        Args:
            known: Codes of cells, (h, w), 6 where unknown, 0 where the agent is.
            goals_seen: Rows and columns of all rewards ever seen, collected or not: each is evidence that its submap
                has a reward there.

        Raises:
            ValueError: ``known`` is not a map, or a reward is outside it.
        """
        checks.arguments()
        checked_map = _checked(known)
        cells = checked_map.copy()
        for row, column in goals_seen:
            if not (0 <= row < len(cells) and 0 <= column < cells.shape[1]):
                raise ValueError(f"goals_seen has ({row}, {column}): expected cells of a map of {cells.shape}")
            cells[row, column] = REWARD
        unknown = cells == UNOBSERVED
        sizes = self.sizes(cells.shape) if unknown.any() else []
        posteriors = [part for size in sizes if (part := self._of_size(cells, size, len(sizes))) is not None]
        if not posteriors:
            return self._none(checked_map, cells, sizes)
        evidence = np.array([part.log_evidence for part in posteriors])
        total = float(np.logaddexp.reduce(evidence))
        shares = np.exp(evidence - total)
        best = posteriors[int(shares.argmax())]
        maps, logs = _pooled(posteriors, shares, self.max_hypotheses, self.rng)
        maps, logs = (_informative if self.prior_cost == 0 and len(posteriors) == 1 else _merged)(maps, logs)
        maps, logs = _consistent(maps, logs, cells, checked_map)
        weights = np.exp(logs - np.logaddexp.reduce(logs)) if len(logs) else logs
        weights = weights / weights.sum() if len(weights) else weights
        unstructured, chance = 0.0, np.zeros(checked_map.shape)
        if self.include_unstructured:
            unstructured = self._unstructured(cells, best, bool(len(maps)))
            completed = np.where(unknown, maps[int(weights.argmax())], cells) if len(maps) else None
            chance = background(cells, completed, best.slots)
        fields = best.submaps, best.slots, best.candidates, best.programs, total
        return MapPosterior(maps, weights, checked_map, *fields, unstructured, chance)

    def _none(
        self, checked_map: Int8[np.ndarray, "h w"], cells: Int8[np.ndarray, "h w"], sizes: list[Size]
    ) -> MapPosterior:
        """A posterior without hypotheses; for a fully known map with a reward, the map itself."""
        is_complete = not (cells == UNOBSERVED).any() and bool((checked_map == REWARD).any())
        maps = np.stack([checked_map] * is_complete) if is_complete else np.zeros((0, *checked_map.shape), np.int8)
        unstructured = float(self.include_unstructured > 0 and not is_complete)
        everywhere: tuple[Slot, ...] = ((slice(None), slice(None)),)
        chance = background(cells, None, everywhere) if unstructured else np.zeros(checked_map.shape)
        submaps = next(filter(None, (tuple(self._propose(_blocks(cells, size)[1])) for size in sizes)), ())
        return MapPosterior(
            maps, np.ones(len(maps)), checked_map, submaps, (), (), len(maps), -math.inf, unstructured, chance
        )

    def _of_size(self, cells: Int8[np.ndarray, "h w"], size: Size, sizes: int) -> _OfSize | None:
        """The consistent maps of one block size, or draws of them, with the logs of their prior weights."""
        slots, blocks = _blocks(cells, size)
        submaps = self._propose(blocks)
        if not submaps:
            return None
        options = self._options(submaps)
        contents = np.stack([option.cells for option in options])
        candidates = tuple(self._candidates(block, options, contents) for block in blocks)
        programs = math.prod(len(choices) for choices in candidates)
        if programs == 0:
            return None
        assigned, logs = self._assigned(candidates, programs)
        maps = np.empty((len(assigned), *cells.shape), np.int8)
        used_submaps = np.empty(assigned.shape, np.int64)
        for k, (slot, choices) in enumerate(zip(slots, candidates, strict=True)):
            maps[:, *slot] = np.stack([choice.cells for choice in choices])[assigned[:, k]]
            choice_submaps = np.array([choice.submap if choice.submap >= 0 else -1 - k for choice in choices])
            used_submaps[:, k] = choice_submaps[assigned[:, k]]
        n_submaps = 1 + (np.diff(np.sort(used_submaps, 1), axis=1) != 0).sum(1)
        logs -= self.prior_cost * (math.log2(sizes) + NEW * n_submaps + len(slots) * math.log2(len(submaps)))
        return _OfSize(tuple(submaps), slots, candidates, programs, maps, logs, float(np.logaddexp.reduce(logs)))

    def _assigned(
        self, candidates: tuple[tuple[Candidate, ...], ...], programs: int
    ) -> tuple[Int64[np.ndarray, "n slots"], Float64[np.ndarray, "n"]]:
        """The index of each slot's candidate, in all programs or in draws, with the logs of the weights of these."""
        costs = [-self.prior_cost * np.array([choice.cost for choice in choices]) for choices in candidates]
        if programs <= self.max_hypotheses:
            assigned = np.array(list(itertools.product(*(range(len(choices)) for choices in candidates))))
            logs = sum((cost[assigned[:, k]] for k, cost in enumerate(costs)), np.zeros(len(assigned)))
            return assigned, logs
        masses = [np.exp(cost) for cost in costs]
        columns = [self.rng.choice(len(mass), self.max_hypotheses, p=mass / mass.sum()) for mass in masses]
        assigned, counts = np.unique(np.stack(columns, 1), axis=0, return_counts=True)
        total = sum(math.log(mass.sum()) for mass in masses)
        return assigned, total + np.log(counts / self.max_hypotheses)

    def _options(self, submaps: list[Submap]) -> list[Candidate]:
        """Each submap, and those of its transformations that differ."""
        options: list[Candidate] = []
        for number, submap in enumerate(submaps):
            square = submap.cells.shape[0] == submap.cells.shape[1]
            for transform in self.transforms:
                turned = _transformed(submap.cells, transform) if square or transform != "rotate" else submap.cells
                if not any(option.submap == number and (option.cells == turned).all() for option in options):
                    options.append(Candidate(turned, number, TRANSFORMS[transform]))
        return options

    def _candidates(
        self, block: Int8[np.ndarray, "bh bw"], options: list[Candidate], contents: Int8[np.ndarray, "v bh bw"]
    ) -> tuple[Candidate, ...]:
        """The submaps that agree with a slot; if there are none, the block itself."""
        block_without_rewards, submaps_without_rewards = block, contents
        if self.gate == "last":
            block_without_rewards, submaps_without_rewards = (
                np.where(part == REWARD, EMPTY, part) for part in (block, contents)
            )
        same = (
            (submaps_without_rewards == block_without_rewards)
            | (submaps_without_rewards == UNOBSERVED)
            | (block_without_rewards == UNOBSERVED)
        ).all((1, 2))
        choices = tuple(option for option, good in zip(options, same, strict=True) if good)
        return choices or (Candidate(block, -1, 0.0),) * self.one_off

    def _unstructured(self, cells: Int8[np.ndarray, "h w"], best: _OfSize, structured: bool) -> float:
        """The weight of no structure, by whether rewards were in fewer submaps than slots.

            p(rewards | submaps) = m^-R R^-S,    p(rewards | none) = m^-S

        where S slots have a reward, R submaps have one, and m is the number of free cells of a block.
        """
        rewarded = sum(bool((cells[slot] == REWARD).any()) for slot in best.slots)
        with_reward = sum(bool((submap.cells == REWARD).any()) for submap in best.submaps)
        if not structured:
            return 1.0
        free = float(np.mean([np.isin(submap.cells, (EMPTY, REWARD)).sum() for submap in best.submaps]))
        log_odds = (with_reward - rewarded) * math.log(max(free, 1.0)) + rewarded * math.log(max(with_reward, 1))
        prior = self.include_unstructured
        if prior == 1:
            return 1.0
        return 1 / (1 + (1 - prior) / prior * math.exp(-min(max(log_odds, -700.0), 700.0)))


def _checked(known: Any) -> Int8[np.ndarray, "h w"]:
    cells = checks.array("known", known, ("h", "w"), np.int64)
    invalid = np.argwhere(~np.isin(cells, (*CODES, UNOBSERVED)))
    if len(invalid) or not cells.size:
        problem = f" at {tuple(invalid[0].tolist())} is {cells[tuple(invalid[0])]}" if len(invalid) else " is empty"
        raise ValueError(f"known{problem}: expected cells of {sorted((*CODES, UNOBSERVED))}")
    return cells.astype(np.int8)


def _factors(n: int) -> list[int]:
    return [i for i in range(1, min(n, SLOTS[1]) + 1) if n % i == 0]


def _blocks(cells: Int8[np.ndarray, "h w"], size: Size) -> tuple[tuple[Slot, ...], Int8[np.ndarray, "k bh bw"]]:
    """The slots of a map and their cells, row by row."""
    height, width = (checks.size("size", side) for side in size)
    if cells.shape[0] % height or cells.shape[1] % width:
        raise ValueError(f"size = {size}: expected blocks that divide a map of {cells.shape}")
    slots = tuple(
        (slice(row, row + height), slice(column, column + width))
        for row in range(0, cells.shape[0], height)
        for column in range(0, cells.shape[1], width)
    )
    return slots, np.stack([cells[slot] for slot in slots])


def _transformed(cells: Int8[np.ndarray, "bh bw"], transform: str) -> Int8[np.ndarray, "bh bw"]:
    ways = {"identity": cells, "reflect_ud": cells[::-1], "reflect_lr": cells[:, ::-1], "rotate": np.rot90(cells)}
    return np.ascontiguousarray(ways[transform])


def _pooled(
    posteriors: list[_OfSize], shares: Float64[np.ndarray, "parts"], max_hypotheses: int, rng: np.random.Generator
) -> tuple[Int8[np.ndarray, "n h w"], Float64[np.ndarray, "n"]]:
    """The maps of all block sizes; if a size has too many, draws stand for them."""
    if len(posteriors) == 1:
        return posteriors[0].maps, posteriors[0].logs
    maps, logs = [], []
    for part, share in zip(posteriors, shares, strict=True):
        if share < LEAST_SHARE:
            continue
        count = max(1, int(max_hypotheses * share))
        if len(part.maps) > count:
            sampled = rng.choice(len(part.maps), count, p=np.exp(part.logs - part.log_evidence))
            maps.append(part.maps[sampled])
            logs.append(np.full(count, part.log_evidence - math.log(count)))
        else:
            maps.append(part.maps)
            logs.append(part.logs)
    return np.concatenate(maps), np.concatenate(logs)


def _informative(
    maps: Int8[np.ndarray, "n h w"], logs: Float64[np.ndarray, "n"]
) -> tuple[Int8[np.ndarray, "m h w"], Float64[np.ndarray, "m"]]:
    """Equally probable hypotheses without those that add nothing: another map extends them, or has the same rewards."""
    order = np.argsort((maps == UNOBSERVED).sum((1, 2)), kind="stable")
    maps, logs = maps[order], logs[order]
    is_kept: Bool[np.ndarray, "n"] = np.zeros(len(maps), np.bool_)
    distinct(maps.reshape(len(maps), -1), is_kept)
    goals: set[bytes] = set()
    for index in np.flatnonzero(is_kept):
        rewards = np.packbits(maps[index] == REWARD).tobytes()
        is_kept[index] = rewards not in goals
        goals.add(rewards)
    return maps[is_kept], logs[is_kept]


def _merged(
    maps: Int8[np.ndarray, "n h w"], logs: Float64[np.ndarray, "n"]
) -> tuple[Int8[np.ndarray, "m h w"], Float64[np.ndarray, "m"]]:
    """The different maps, each with the weight of all hypotheses that are this map, so that no evidence is lost."""
    _, first_rows, group = np.unique(maps.reshape(len(maps), -1), axis=0, return_index=True, return_inverse=True)
    totals = np.full(len(first_rows), -np.inf)
    np.logaddexp.at(totals, group.reshape(-1), logs)
    return maps[first_rows], totals


def _consistent(
    maps: Int8[np.ndarray, "n h w"],
    logs: Float64[np.ndarray, "n"],
    cells: Int8[np.ndarray, "h w"],
    checked_map: Int8[np.ndarray, "h w"],
) -> tuple[Int8[np.ndarray, "m h w"], Float64[np.ndarray, "m"]]:
    """The hypotheses that contradict no known cell and leave a reward to be collected."""
    known_in_both = (cells != UNOBSERVED) & (maps != UNOBSERVED)
    is_kept = ~(known_in_both & (maps != cells)).any((1, 2)) & (maps == REWARD).any((1, 2))
    maps = np.where(checked_map != UNOBSERVED, checked_map, maps[is_kept])
    rewarded = (maps == REWARD).any((1, 2))
    return maps[rewarded], logs[is_kept][rewarded]
