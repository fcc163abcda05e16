"""Compiled parts of planning in guessed maps: distances, what attracts, and simulated steps with the search over them.

A map is flat, a cell one of the codes of ``engram.numeric.grid_cells``. A state of the simulation is the world, whose
last four arrays are overwritten at each step and set back at the start of an episode, with the agent's cell, the hash
of all that was seen, whether the weights or goals are no longer those of the root, and the potential.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit
from numba.extending import overload

from engram.numeric.grid_cells import EMPTY, LANDMARKS, REWARD, UNOBSERVED, WALL
from engram.numeric.jit import inline, jit
from engram.spatial.pomcp.kernels import advance, begin, compiled_search, uniform

FIRST_COLOUR, LAST_COLOUR = LANDMARKS
MIXER = np.int64(0x9E3779B97F4A7C15 - 2**64)  # odd, the golden ratio
POSITION_BITS = 16
COLLECTED = 9  # in place of a code, in the hash


class World(NamedTuple):
    """What a search knows at its root, and what its episodes change.

    Attributes:
        shape: Rows and columns.
        maps: Hypotheses, (n, cells).
        weights: Their weights, which add up to 1.
        known: Cells as known now.
        sight: The number of what is seen from each cell; -1: nothing.
        starts: Where the run of a view begins in ``seen``.
        seen: Cells of all views.
        varies: Where hypotheses that know a cell do not agree, rewards aside.
        goals: Cells with a reward in some hypothesis that may be there.
        goal_at: The number of each cell's goal; -1: none.
        holds: Which goals a hypothesis has, (n, goals).
        layout: Which of the layouts a hypothesis has, whose walls are the same.
        near: 1 / (1 + distance) of each cell from a goal, (layouts, goals, cells).
        field: What attracts to each cell at the root.
        bonus: What each cell pays in any case.
        power: The exponent of weights in what attracts.
        discount: Of the potential.
        potential: Whether what attracts is a potential, and collected goals no longer do.
        on_path: Whether rewards are collected in passing.
        moves: Rows down, columns right, and length of each action.
        grid: Cells as known in the episode.
        alive: Weights of the hypotheses that nothing seen in the episode contradicts.
        collected: Which goals were.
        open: Which views were seen whole.
    """

    shape: tuple
    maps: np.ndarray
    weights: np.ndarray
    known: np.ndarray
    sight: np.ndarray
    starts: np.ndarray
    seen: np.ndarray
    varies: np.ndarray
    goals: np.ndarray
    goal_at: np.ndarray
    holds: np.ndarray
    layout: np.ndarray
    near: np.ndarray
    field: np.ndarray
    bonus: np.ndarray
    power: float
    discount: float
    potential: bool
    on_path: bool
    moves: np.ndarray
    grid: np.ndarray
    alive: np.ndarray
    collected: np.ndarray
    open: np.ndarray


@inline
def is_wall(code):
    """Whether a cell blocks."""
    return code == WALL or code == FIRST_COLOUR or code == LAST_COLOUR  # noqa: PLR1714


@inline
def mixed(cell, code):
    """A hash of a cell and its code."""
    value = (np.int64(cell) * 16 + code + 1) * MIXER
    return (value ^ (value >> np.int64(29))) * MIXER


@jit
def spread(passable, width, queue, distance):
    """Write the distances by 4-neighbours over passable cells; sources have 0 already, all others -1.

    Args:
        passable: Which cells may be entered, flat.
        width: Columns.
        queue: The sources first, with room for all cells; overwritten.
        distance: -1 where not reached.
    """
    last = 0
    while last < queue.size and queue[last] >= 0:
        last += 1
    first, cells = 0, passable.size
    while first < last:
        cell = queue[first]
        first += 1
        column = cell % width
        for side in range(4):
            other = cell + (-width, -1, 1, width)[side]
            if other < 0 or other >= cells or (side == 1 and column == 0) or (side == 2 and column == width - 1):
                continue
            if passable[other] and distance[other] < 0:
                distance[other] = distance[cell] + 1
                queue[last] = other
                last += 1


@jit
def distinct(maps, kept):
    """Write which maps say something that no kept map before them says, of maps sorted by unknown cells."""
    for i in range(maps.shape[0]):
        kept[i] = True
        for j in range(i):
            if not kept[j]:
                continue
            inside = True
            for cell in range(maps.shape[1]):
                if maps[i, cell] != UNOBSERVED and maps[i, cell] != maps[j, cell]:
                    inside = False
                    break
            if inside:
                kept[i] = False
                break


@inline
def attraction(world, cell):
    """Sum_h p_h^power max_g near(h, g), of hypotheses that are alive and goals that, for a potential, remain."""
    total = 0.0
    for h in range(world.alive.size):
        total += world.alive[h]
    if total <= 0.0:
        return 0.0
    attracted = 0.0
    for h in range(world.alive.size):
        if world.alive[h] <= 0.0:
            continue
        best = 0.0
        for g in range(world.goals.size):
            if world.holds[h, g] and not (world.potential and world.collected[g]):
                best = max(best, np.float64(world.near[world.layout[h], g, cell]))
        attracted += (world.alive[h] / total) ** world.power * best
    return attracted


@jit
def fill_field(world):
    """Write what attracts to each cell at the root."""
    world.alive[:] = world.weights
    world.collected[:] = False
    for cell in range(world.field.size):
        if world.known[cell] == UNOBSERVED or not is_wall(world.known[cell]):
            world.field[cell] += attraction(world, cell)


@njit(error_model="numpy")
def content(world, cell, drawn, count, rng):
    """A cell as the first hypothesis drawn says that knows it, empty where none does; and how many were drawn."""
    code = world.grid[cell]
    if code != UNOBSERVED:
        return code, count
    for place in range(world.alive.size):
        if place >= count:
            left = 0.0
            for h in range(world.alive.size):
                left += world.alive[h]
            for earlier in range(count):
                left -= world.alive[drawn[earlier]]
            if left <= 1e-12:
                break
            chance, chosen = uniform(rng) * left, -1
            for h in range(world.alive.size):
                if world.alive[h] <= 0.0:
                    continue
                taken = False
                for earlier in range(count):
                    taken |= drawn[earlier] == h
                if not taken:
                    chosen = h
                    chance -= world.alive[h]
                    if chance < 0.0:
                        break
            if chosen < 0:
                break
            drawn[count] = chosen
            count += 1
        code = world.maps[drawn[place], cell]
        if code != UNOBSERVED:
            return code, count
    return np.int8(EMPTY), count


@njit(error_model="numpy")
def collect(world, cell):
    """Take the reward of a cell."""
    world.grid[cell] = EMPTY
    if world.goal_at[cell] >= 0:
        world.collected[world.goal_at[cell]] = True
    return mixed(cell, COLLECTED)


@jit
def sample(root, rng):
    """The state in which an episode begins."""
    world, position = root
    world.grid[:], world.alive[:], world.collected[:], world.open[:] = world.known, world.weights, False, False
    return world, position, np.int64(0), False, world.field[position]


@partial(jit, forceinline=True)
def step(state, action, rng):
    """Move in a completed map, see, and drop the hypotheses that what is seen contradicts."""
    world, start, key, changed, before = state
    drawn, count = np.empty(world.alive.size, np.int64), 0
    down, right, length = world.moves[action, 0], world.moves[action, 1], world.moves[action, 2]
    height, width = world.shape
    position, reward = start, 0.0
    for move in range(length):
        row, column = position // width + down, position % width + right
        if row < 0 or row >= height or column < 0 or column >= width:
            break
        cell = row * width + column
        code, count = content(world, cell, drawn, count, rng)
        if is_wall(code):
            break
        position = cell
        if code == REWARD and world.on_path and move < length - 1:
            reward += 1.0
            key ^= collect(world, cell)
            changed |= world.potential
    if position != start:
        code, count = content(world, position, drawn, count, rng)
        if code == REWARD:
            reward += 1.0
            key ^= collect(world, position)
            changed |= world.potential
        view = world.sight[position]
        if view >= 0 and not world.open[view]:
            world.open[view] = True
            for place in range(world.starts[view], world.starts[view + 1]):
                cell = world.seen[place]
                if world.grid[cell] != UNOBSERVED:
                    continue
                code, count = content(world, cell, drawn, count, rng)
                world.grid[cell] = code
                key ^= mixed(cell, code)
                if world.varies[cell] and code != REWARD:
                    for h in range(world.alive.size):
                        other = world.maps[h, cell]
                        unlike = other != code and other != UNOBSERVED and other != REWARD  # noqa: PLR1714
                        if unlike and world.alive[h] > 0.0:
                            world.alive[h] = 0.0
                            changed = True
        if world.grid[position] == UNOBSERVED:
            world.grid[position] = EMPTY
            key ^= mixed(position, EMPTY)
    pulled = attraction(world, position) if changed else world.field[position]
    if world.potential:
        reward += world.discount * pulled - before
    else:
        reward += pulled
    reward += world.bonus[position]
    observed = (key << np.int64(POSITION_BITS)) | np.int64(position)
    return (world, position, key, changed, pulled), observed, reward, position == start


class Rooms(NamedTuple):
    """In place of the functions of a model, for a search that is kept on disk, which cannot be given functions."""

    version: int


@overload(advance, jit_options={"forceinline": True})
def _advance_in_rooms(functions, state, action, rng):
    if getattr(functions, "instance_class", None) is Rooms:
        return lambda functions, state, action, rng: step(state, action, rng)
    return None


@overload(begin, jit_options={"forceinline": True})
def _begin_in_rooms(functions, root, rng):
    if getattr(functions, "instance_class", None) is Rooms:
        return lambda functions, root, rng: sample(root, rng)
    return None


@jit
def search_rooms(root, rng, tree, depth, queries, discount, ucb, scaled, avoid_ended):
    """The search of POMCP in a world; see ``engram.spatial.pomcp.kernels.search``."""
    rooms = Rooms(0)
    return compiled_search(rooms, rooms, None, root, rng, tree, depth, queries, discount, ucb, scaled, avoid_ended)
