"""Compiled parts of planning in guessed maps: distances, the attraction of rewards, simulated steps, and their search.

A map is a flat array of the codes of ``engram.numeric.grid_cells``. A state of the simulation is the world, whose last
arrays are overwritten at each step and reset at the start of an episode, with the agent's cell, the hash of all that
was seen, whether the weights or goals differ from those of the root, and the potential. A search has the world in its
functions instead of its states, since passing references to all arrays takes longer than the step.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numba.extending import overload

from engram.numeric.grid_cells import EMPTY, LANDMARKS, REWARD, UNOBSERVED, WALL
from engram.numeric.jit import copy, inline, jit
from engram.spatial.pomcp.kernels import advance, begin, compiled_search, uniform

FIRST_COLOUR, LAST_COLOUR = LANDMARKS
MIXER = np.int64(0x9E3779B97F4A7C15 - 2**64)  # odd, the golden ratio
POSITION_BITS = 16
COLLECTED = 9  # takes the place of a code in the hash


class World(NamedTuple):
    """The information of a search at its root, and the arrays that its episodes change.

    Attributes:
        shape: Rows and columns.
        maps: Hypotheses, (n, cells).
        weights: Their weights, which add up to 1.
        known: Cells as known now.
        sight: Index of the view from each cell; -1: none.
        starts: Where the cells of each view begin in ``seen``.
        seen: Cells of all views, one view after another.
        varies: Cells in which hypotheses differ, rewards aside, or that some leave open.
        goals: Cells that have a reward in some hypothesis and may really have one.
        goal_at: Index of each cell's goal; -1: none.
        holds: Whether a hypothesis has a goal, (n, goals).
        layout: Index of each hypothesis's layout; hypotheses with the same walls have the same.
        near: 1 / (1 + distance) of each cell from a goal, (layouts, goals, cells).
        field: The attraction of each cell at the root.
        bonus: Reward for entering each cell in any case.
        power: Exponent of the weights in the attraction.
        discount: Discount of the potential.
        potential: Whether the attraction is a potential, to which collected goals no longer contribute.
        on_path: Whether rewards are collected in passing.
        moves: Rows down, columns right, and length of each action.
        grid: Cells as known in the episode.
        alive: Weights of the hypotheses that nothing seen in the episode contradicts.
        collected: Whether a goal was collected.
        open: Whether a view was seen.
        drawn: Hypotheses drawn in the present step.
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
    drawn: np.ndarray


@inline
def is_wall(code):
    """Whether a cell with this code blocks the way."""
    return code == WALL or code == FIRST_COLOUR or code == LAST_COLOUR  # noqa: PLR1714


@inline
def mixed(cell, code):
    """A hash of a cell and its code."""
    value = (np.int64(cell) * 16 + code + 1) * MIXER
    return (value ^ (value >> np.int64(29))) * MIXER


@jit
def spread(passable, width, queue, distance):
    """Write the distances over passable cells between 4-neighbours; sources have 0 already, all others -1.

    Args:
        passable: Mask of the cells that may be entered, flat.
        width: Columns.
        queue: The sources first, with room for all cells; overwritten.
        distance: Receives the distances; stays -1 where not reached.
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
            beside = cell + (-width, -1, 1, width)[side]
            if beside < 0 or beside >= cells or (side == 1 and column == 0) or (side == 2 and column == width - 1):
                continue
            if passable[beside] and distance[beside] < 0:
                distance[beside] = distance[cell] + 1
                queue[last] = beside
                last += 1


@jit
def distinct(maps, is_kept):
    """Mark the maps that contain information that no kept map before them has; maps are sorted by unknown cells."""
    for i in range(maps.shape[0]):
        is_kept[i] = True
        for j in range(i):
            if not is_kept[j]:
                continue
            inside = True
            for cell in range(maps.shape[1]):
                if maps[i, cell] != UNOBSERVED and maps[i, cell] != maps[j, cell]:
                    inside = False
                    break
            if inside:
                is_kept[i] = False
                break


@inline
def attraction(world, cell):
    """Sum_h p_h^power max_g near(h, g) over hypotheses that are alive and, for a potential, goals not yet collected."""
    alive, holds, near, layout, collected = world.alive, world.holds, world.near, world.layout, world.collected
    total = 0.0
    for h in range(alive.size):
        total += alive[h]
    if total <= 0.0:
        return 0.0
    attracted = 0.0
    for h in range(alive.size):
        if alive[h] <= 0.0:
            continue
        best = 0.0
        for g in range(holds.shape[1]):
            if holds[h, g] and not (world.potential and collected[g]):
                best = max(best, np.float64(near[layout[h], g, cell]))
        attracted += (alive[h] / total) ** world.power * best
    return attracted


@jit
def fill_field(world):
    """Add the attraction at the root to the field of each cell."""
    copy(world.weights, world.alive)
    world.collected[:] = False
    for cell in range(world.field.size):
        if world.known[cell] == UNOBSERVED or not is_wall(world.known[cell]):
            world.field[cell] += attraction(world, cell)


@inline
def content(grid, alive, maps, drawn, cell, count, rng):
    """The code of a cell in the first drawn hypothesis that specifies it, or else empty; and the number of draws.

    Args:
        grid: Cells as known in the episode.
        alive: Weights of the hypotheses that nothing seen in the episode contradicts.
        maps: Hypotheses, (n, cells).
        drawn: Indices of the hypotheses drawn in this step, to which new draws are added.
        cell: Index of the cell.
        count: Number of draws so far.
        rng: Source of the draws.
    """
    code = grid[cell]
    if code != UNOBSERVED:
        return code, count
    for draw in range(alive.size):
        if draw >= count:
            remaining = 0.0
            for h in range(alive.size):
                remaining += alive[h]
            for earlier in range(count):
                remaining -= alive[drawn[earlier]]
            if remaining <= 1e-12:
                break
            chance, chosen = uniform(rng) * remaining, -1
            for h in range(alive.size):
                if alive[h] <= 0.0:
                    continue
                is_drawn = False
                for earlier in range(count):
                    is_drawn |= drawn[earlier] == h
                if not is_drawn:
                    chosen = h
                    chance -= alive[h]
                    if chance < 0.0:
                        break
            if chosen < 0:
                break
            drawn[count] = chosen
            count += 1
        code = maps[drawn[draw], cell]
        if code != UNOBSERVED:
            return code, count
    return np.int8(EMPTY), count


@inline
def collect(world, cell):
    """Take the reward of a cell; return the change of the hash."""
    world.grid[cell] = EMPTY
    if world.goal_at[cell] >= 0:
        world.collected[world.goal_at[cell]] = True
    return mixed(cell, COLLECTED)


@inline
def start_episode(world, position):
    """Reset a world; return the changing part of a state."""
    copy(world.known, world.grid)
    copy(world.weights, world.alive)
    world.collected[:], world.open[:] = False, False
    return position, np.int64(0), False, world.field[position]


@partial(jit, forceinline=True)
def move(world, changing, action, rng):
    """Move in a completed map, look around, and drop the hypotheses that the observation contradicts.

    Args:
        world: The world, whose last arrays are changed.
        changing: The part of a state that changes: cell, hash, whether the weights or goals have changed, and
            potential.
        action: Index of the action.
        rng: Source of the draws of hypotheses.
    """
    start, key, changed, old_potential = changing
    # Each array is taken out of the world only once, since this counts references, which takes longer than the rest.
    grid, alive, maps, drawn, seen, varies = (
        world.grid, world.alive, world.maps, world.drawn, world.seen, world.varies
    )  # fmt: skip
    moves, opened, starts = world.moves, world.open, world.starts
    (height, width), count = world.shape, 0
    down, right, length = moves[action, 0], moves[action, 1], moves[action, 2]
    position, reward = start, 0.0
    for n_moves in range(length):
        row, column = position // width + down, position % width + right
        if row < 0 or row >= height or column < 0 or column >= width:
            break
        cell = row * width + column
        code, count = content(grid, alive, maps, drawn, cell, count, rng)
        if is_wall(code):
            break
        position = cell
        if code == REWARD and world.on_path and n_moves < length - 1:
            reward += 1.0
            key ^= collect(world, cell)
            changed |= world.potential
    if position != start:
        code, count = content(grid, alive, maps, drawn, position, count, rng)
        if code == REWARD:
            reward += 1.0
            key ^= collect(world, position)
            changed |= world.potential
        view = world.sight[position]
        if view >= 0 and not opened[view]:
            opened[view] = True
            for i in range(starts[view], starts[view + 1]):
                cell = seen[i]
                if grid[cell] != UNOBSERVED:
                    continue
                code, count = content(grid, alive, maps, drawn, cell, count, rng)
                grid[cell] = code
                key ^= mixed(cell, code)
                if varies[cell] and code != REWARD:
                    for h in range(alive.size):
                        other = maps[h, cell]
                        unlike = other != code and other != UNOBSERVED and other != REWARD  # noqa: PLR1714
                        if unlike and alive[h] > 0.0:
                            alive[h] = 0.0
                            changed = True
        if grid[position] == UNOBSERVED:
            grid[position] = EMPTY
            key ^= mixed(position, EMPTY)
    attracted = attraction(world, position) if changed else world.field[position]
    if world.potential:
        reward += world.discount * attracted - old_potential
    else:
        reward += attracted
    reward += world.bonus[position]
    observed = (key << np.int64(POSITION_BITS)) | np.int64(position)
    return (position, key, changed, attracted), observed, reward, position == start


@jit
def sample(root, rng):
    """The state in which an episode begins: the world, and what changes."""
    world, position = root
    return (world, *start_episode(world, position))


@jit
def step(state, action, rng):
    """``move`` as a step of a generative model.

    Args:
        state: The world, and the part of the state that changes.
        action: Index of the action.
        rng: Source of the draws of hypotheses.
    """
    changing, observed, reward, ended = move(state[0], state[1:], action, rng)
    return (state[0], *changing), observed, reward, ended


class Rooms(NamedTuple):
    """Stands in for the functions of a model: a compiled search that is cached on disk cannot take functions."""

    world: World


@overload(advance, jit_options={"forceinline": True})
def _advance_in_rooms(functions, state, action, rng):
    if getattr(functions, "instance_class", None) is Rooms:
        return lambda functions, state, action, rng: move(functions.world, state, action, rng)
    return None


@overload(begin, jit_options={"forceinline": True})
def _begin_in_rooms(functions, root, rng):
    if getattr(functions, "instance_class", None) is Rooms:
        return lambda functions, root, rng: start_episode(functions.world, root)
    return None


@jit
def search_rooms(root, rng, tree, depth, queries, discount, ucb, scaled, avoid_ended):
    """The search of POMCP in a world; see ``engram.spatial.pomcp.kernels.search``."""
    rooms = Rooms(root[0])
    return compiled_search(rooms, rooms, None, root[1], rng, tree, depth, queries, discount, ucb, scaled, avoid_ended)
