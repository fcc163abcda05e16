"""The steps of a meta-task as numba kernels: one environment after another.

    s' ~ T[s, a, :],  r = value with probability p of the last reward rule that matches (s, s', a, f), else 0
    f' = set_to of the last flag rule that matches (s, s', a), or f; but 0 if s' = 0

Random numbers are passed as ``chance``, uniform in [0, 1), so that an environment does the same alone and among others.
``code`` is a ``Program`` and ``lives`` are ``Lives``; ``b`` is the index of an environment, ``u`` of its task, ``g`` of
a group of variables, ``o`` of one of its options, and ``x`` of the next random number. ``rows`` are the environments
concerned, and ``moving`` says whether a value must change. Constants are passed as numpy scalars, since numba would
compile a function for each literal.
"""

from __future__ import annotations

import math

import numpy as np

from engram.numeric.jit import njit

POOL, NORMAL, UNIT, BITS = 0, 1, 2, 3
NO_VIEW, STIMULI, POSITION, COORDINATES = 0, 1, 2, 3
STAYS, TELEPORT, RESET = 0, 1, 2

compiled = njit(cache=True, nogil=True)


@compiled
def draw_vectors(kind, pool, has_palette, palette, excluded, chance, vectors, places):
    """Draw the vectors of stimuli into the rows of ``vectors``, and their indices in the pool into ``places``.

    ``excluded`` are the sorted indices of other stimuli.

    Args:
        kind: The distribution of a vector: ``POOL``, ``BITS``, ``UNIT`` or normal.
        pool: Number of different vectors, if ``kind`` is ``POOL``.
        has_palette: Whether the pool is given by ``palette``; otherwise a vector is the bits of its index plus one.
        palette: The vectors of the pool, (pool, size).
        excluded: Sorted indices of the vectors that must not be drawn.
        chance: Uniform random numbers in [0, 1).
        vectors: Receives the vectors, (count, size).
        places: Receives their indices in the pool, (count,).
    """
    count, size = vectors.shape
    taken_indices = np.zeros(len(excluded) + count, dtype=np.int64)
    for i in range(len(excluded)):  # assignments of arrays take seconds to compile
        taken_indices[i] = excluded[i]
    n_used, x = len(excluded), 0
    for v in range(count):
        if kind == POOL:
            n_unused = pool - n_used
            index = min(int(chance[x] * n_unused), n_unused - 1)
            x += 1
            rank = 0
            while rank < n_used and taken_indices[rank] <= index:  # skip used indices
                index += 1
                rank += 1
            for i in range(n_used, rank, -1):
                taken_indices[i] = taken_indices[i - 1]
            taken_indices[rank] = index
            n_used += 1
            places[v] = index
            for i in range(size):
                vectors[v, i] = palette[index, i] if has_palette else ((index + 1) >> i) & 1
        elif kind == BITS:
            for i in range(size):
                vectors[v, i] = chance[x] < 0.5
                x += 1
        else:
            square = 0.0
            for i in range(size):
                z = normal(chance[x], chance[x + 1])
                vectors[v, i] = z
                square += z * z
                x += 2
            scale = 1 / math.sqrt(square if kind == UNIT else size)
            for i in range(size):
                vectors[v, i] *= scale


@compiled
def normal(x, y):
    """A standard normal number from two uniform ones (Box and Muller)."""
    return math.sqrt(-2 * math.log(1 - x)) * math.cos(2 * math.pi * y)


@compiled
def draw_instances(code, lives, rows, chance):
    """Draw new instances for some environments; row i of ``chance`` is that of environment ``rows[i]``."""
    for i in range(len(rows)):
        b, x = rows[i], 0
        u = lives.task[b]
        if code.height[u] > 0:
            if code.is_maze[u]:
                x = carve(code.height[u], code.width[u], chance[i], lives.walls[b])
            else:
                for cell in range(code.walls.shape[1]):
                    lives.walls[b, cell] = code.walls[u, cell]
        lives.value[b] = -1.0
        for g in range(code.n_groups[u]):
            choose(code, lives, b, g, chance[i, x], np.bool_(False))
            x += 1
        for v in range(code.n_fixed[u]):
            for part in range(code.fixed.shape[2]):
                lives.vectors[b, 1 + v, part] = code.fixed[u, v, part]
        draw_stimuli(code, lives, b, chance[i, x:])
    resolve(code, lives, rows)


@compiled
def draw_stimuli(code, lives, b, chance):
    """Draw new vectors for the variable stimuli of an environment."""
    u = lives.task[b]
    first, count, size = 1 + code.n_fixed[u], code.n_stim_vars[u], code.stim_size[u]
    if count > 0:
        vectors = lives.vectors[b, first : first + count, :size]
        excluded, places = code.fixed_places[u, : code.n_fixed[u]], np.zeros(count, dtype=np.int64)
        kind, pool, palette = code.stim_kind[u], code.pool[u], code.palette[u]
        draw_vectors(kind, pool, code.has_palette[u], palette, excluded, chance, vectors, places)


@compiled
def carve(height, width, chance, walls):
    """Carve a perfect maze by depth-first search; return the number of random numbers used.

    Args:
        height: Rows of the maze.
        width: Columns of the maze.
        chance: Uniform random numbers in [0, 1).
        walls: Receives whether each cell is a wall, row by row.
    """
    walls[: height * width] = True
    down, across = (height + 1) // 2, (width + 1) // 2
    stack = np.zeros(down * across, dtype=np.int64)
    walls[0] = False
    depth, x = 1, 0
    while depth > 0:
        r, c = stack[depth - 1] // across, stack[depth - 1] % across
        near, ways = np.zeros(4, dtype=np.int64), 0
        for way in range(4):
            r2, c2 = r + (way == 2) - (way == 0), c + (way == 1) - (way == 3)
            if 0 <= r2 < down and 0 <= c2 < across and walls[2 * r2 * width + 2 * c2]:
                near[ways] = r2 * across + c2
                ways += 1
        if ways == 0:
            depth -= 1
            continue
        room = near[min(int(chance[x] * ways), ways - 1)]
        x += 1
        r2, c2 = room // across, room % across
        walls[(r + r2) * width + c + c2] = False
        walls[2 * r2 * width + 2 * c2] = False
        stack[depth] = room
        depth += 1
    return x


@compiled
def allowed(code, lives, b, g, o, moving):
    """Whether a group may have an option: no wall, not the value of a variable that must differ, new if ``moving``."""
    u = lives.task[b]
    first, value = code.first[u, g], code.option[u, g, o, 0]
    if code.is_cell[u, g] and lives.walls[b, int(value)]:
        return False
    for other_group in range(code.n_groups[u]):
        are_apart = code.apart[u, g] == code.first[u, other_group] or code.apart[u, other_group] == first
        if other_group != g and are_apart and lives.value[b, code.first[u, other_group]] == value:
            return False
    if not moving:
        return True
    n_same = 0
    for c in range(code.columns[u, g]):
        n_same += lives.value[b, first + c] == code.option[u, g, o, c]
    return n_same < code.columns[u, g]


@compiled
def choose(code, lives, b, g, chance, moving):
    """Draw the value of a group of variables: a different value if ``moving``, provided that there is one."""
    u = lives.task[b]
    first = code.first[u, g]
    if code.n_options[u, g] == 0:
        lives.value[b, first] = code.low[u, g] + (code.high[u, g] - code.low[u, g]) * chance
        return
    count = 0
    for o in range(code.n_options[u, g]):
        count += allowed(code, lives, b, g, o, moving)
    skip = min(int(chance * count), count - 1)
    if skip < 0:
        return
    for o in range(code.n_options[u, g]):
        if allowed(code, lives, b, g, o, moving):
            if skip == 0:
                for c in range(code.columns[u, g]):
                    lives.value[b, first + c] = code.option[u, g, o, c]
                return
            skip -= 1


@compiled
def vary(code, lives, rows, steps):
    """Change the variables that have a hazard or a drift, in environments where a trial starts."""
    for i in range(len(rows)):
        b, x = rows[i], 2
        u = lives.task[b]
        chance = lives.noise[b, steps[b] % code.block[u]]
        for g in range(code.n_groups[u]):
            low, high = code.low[u, g], code.high[u, g]
            if code.drift[u, g] > 0:
                drifted = lives.value[b, code.first[u, g]] + code.drift[u, g] * normal(chance[x], chance[x + 1])
                # Reflected at both bounds.
                drifted = (drifted - low) % (2 * (high - low))
                lives.value[b, code.first[u, g]] = low + min(drifted, 2 * (high - low) - drifted)
                x += 2
            elif code.hazard[u, g] > 0:
                if chance[x] < code.hazard[u, g]:
                    choose(code, lives, b, g, chance[x + 1], np.bool_(True))
                x += 2
        if code.stim_hazard[u] > 0 and chance[x] < code.stim_hazard[u]:
            draw_stimuli(code, lives, b, chance[x + 1 :])
    resolve(code, lives, rows)


@compiled
def place(value, b, number):
    """The state or action in a rule: a number, or the value of a variable."""
    return number if number >= -1 else int(value[b, -2 - number])


@compiled
def resolve(code, lives, rows):
    """Put the values of the variables into the rules of some environments."""
    value = lives.value
    for i in range(len(rows)):
        b = rows[i]
        u = lives.task[b]
        for r in range(code.n_rules[u]):
            lives.rule_old[b, r] = place(value, b, code.rule_old[u, r])
            lives.rule_new[b, r] = place(value, b, code.rule_new[u, r])
            lives.rule_action[b, r] = place(value, b, code.rule_action[u, r])
            lives.rule_p[b, r] = code.rule_p[u, r] + code.rule_slope[u, r] * value[b, code.rule_column[u, r]]
        for r in range(code.n_flag_rules[u]):
            lives.flag_old[b, r] = place(value, b, code.flag_old[u, r])
            lives.flag_new[b, r] = place(value, b, code.flag_new[u, r])
            lives.flag_action[b, r] = place(value, b, code.flag_action[u, r])


@compiled
def moved(height, width, walls, cell, action):
    """The cell that a move leads to: up, right, down, left, or none.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        walls: Whether each cell is a wall, row by row.
        cell: The cell before the move.
        action: The move, 0 to 4.
    """
    r, c = cell // width, cell % width
    r2, c2 = r + (action == 2) - (action == 0), c + (action == 1) - (action == 3)
    if r2 < 0 or r2 >= height or c2 < 0 or c2 >= width or walls[r2 * width + c2]:
        return cell
    return r2 * width + c2


@compiled
def another(walls, left_out, chance):
    """A random free cell other than ``left_out``, or ``left_out`` if there is no other.

    Args:
        walls: Whether each cell is a wall, row by row.
        left_out: The cell that is not drawn; -1: none.
        chance: A uniform random number in [0, 1).
    """
    free = 0
    for cell in range(len(walls)):
        free += not walls[cell] and cell != left_out
    skip = min(int(chance * free), free - 1)
    for cell in range(len(walls)):
        if not walls[cell] and cell != left_out:
            if skip == 0:
                return cell
            skip -= 1
    return left_out


@compiled
def start(code, lives, rows, chance):
    """Put some environments into their start state; ``chance`` has a number for each of them."""
    for i in range(len(rows)):
        b = rows[i]
        u = lives.task[b]
        lives.state[b] = start_of(code.start[u], lives.walls[b, : code.n_states[u]], chance[i])
        lives.flag[b] = 0


@compiled
def start_of(cell, walls, chance):
    """The start state: ``cell``, or a random free cell if that is -1."""
    return cell if cell >= 0 else another(walls, np.int64(-1), chance)


@compiled
def advance(code, lives, actions, steps, rewards, ended, begins):
    """Act in every environment; write rewards, whether episodes terminate, and whether trials start.

    Args:
        code: The tasks.
        lives: The environments, which are changed.
        actions: The action of each environment.
        steps: The number of steps that each has taken.
        rewards: Receives the rewards.
        ended: Receives whether episodes terminate.
        begins: Receives whether trials start.
    """
    for b in range(len(actions)):
        u, s, f, a = lives.task[b], lives.state[b], lives.flag[b], actions[b]
        chance = lives.noise[b, steps[b] % code.block[u]]
        walls = lives.walls[b, : code.n_states[u]]
        is_grid = code.height[u] > 0
        if is_grid:
            s2 = moved(code.height[u], code.width[u], walls, s, a)
        else:
            k = 0
            while chance[0] >= code.cumulative[u, s, a, k]:
                k += 1
            s2 = code.successor[u, s, a, k]

        p, value, ends = 0.0, 0.0, False
        for r in range(code.n_rules[u]):
            old, new, action = lives.rule_old[b, r], lives.rule_new[b, r], lives.rule_action[b, r]
            is_met = (old < 0 or old == s) and (new < 0 or new == s2) and (action < 0 or action == a)
            if is_met and (code.rule_flag[u, r] < 0 or code.rule_flag[u, r] == f):
                p, value, ends = lives.rule_p[b, r], code.rule_value[u, r], code.rule_ends[u, r]
        is_paid = chance[1] < p
        rewards[b] = value if is_paid else 0.0
        ended[b] = is_paid and ends

        for r in range(code.n_flag_rules[u]):
            old, new, action = lives.flag_old[b, r], lives.flag_new[b, r], lives.flag_action[b, r]
            if (old < 0 or old == s) and (new < 0 or new == s2) and (action < 0 or action == a):
                f = code.flag_set[u, r]
        trial = s2 == 0 and not is_grid
        if trial:
            f = 0
        if is_grid and is_paid and code.on_reward[u] != STAYS:
            trial = True
            if code.on_reward[u] == TELEPORT:
                s2 = another(walls, s2, chance[0])
            else:
                s2, f = start_of(code.start[u], walls, chance[0]), 0
        lives.state[b], lives.flag[b] = s2, f
        begins[b] = trial


@compiled
def observe(code, lives, observations):
    """Write the observation of every environment into ``observations``, which must be zero."""
    for b in range(len(observations)):
        u, s = lives.task[b], lives.state[b]
        view = code.look[u]
        if view == STIMULI:
            size = code.stim_size[u]
            if s >= code.shown.shape[1]:  # a task without stimuli
                continue
            for part in range(code.parts[u]):
                vector = lives.vectors[b, code.shown[u, s, part]]
                for i in range(size):
                    observations[b, part * size + i] = vector[i]
        elif view == POSITION:
            observations[b, s] = 1.0
        elif view == COORDINATES:
            observations[b, 0] = s // code.width[u] / max(code.height[u] - 1, 1)
            observations[b, 1] = s % code.width[u] / max(code.width[u] - 1, 1)
        elif view != NO_VIEW:
            side = code.window[u]
            for i in range(side):
                for j in range(side):
                    r, c = s // code.width[u] + i - side // 2, s % code.width[u] + j - side // 2
                    outside = r < 0 or r >= code.height[u] or c < 0 or c >= code.width[u]
                    observations[b, i * side + j] = outside or lives.walls[b, r * code.width[u] + c]
