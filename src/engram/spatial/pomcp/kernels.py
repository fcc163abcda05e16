"""The search of POMCP: one source, which Python runs for plain models and numba compiles for compiled ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload, register_jitable


class Tree(NamedTuple):
    """A search tree as arrays with a row for each belief node, of which the first is the root.

    Attributes:
        visits: Number of visits of each node.
        counts: Number of times that each of its actions was taken.
        values: Mean return after each action.
        ended: Whether an episode ended with this action.
        child: The first belief node after each action; -1: none.
        sibling: The next belief node after the same action; -1: none.
        parent: The belief node before; -1 for the root.
        action: The action that led here; -1 for the root.
        observation: The observation that led here.
    """

    visits: np.ndarray
    counts: np.ndarray
    values: np.ndarray
    ended: np.ndarray
    child: np.ndarray
    sibling: np.ndarray
    parent: np.ndarray
    action: np.ndarray
    observation: np.ndarray


def empty_tree(rows: int, n_actions: int) -> Tree:
    """A tree that consists of a root, with room for ``rows`` belief nodes."""
    wide, none = (rows, n_actions), np.full(rows, -1)
    return Tree(
        np.zeros(rows, np.int64), np.zeros(wide, np.int64), np.zeros(wide), np.zeros(wide, np.bool_),
        np.full(wide, -1), none.copy(), none.copy(), none.copy(), np.zeros(rows, np.int64),
    )  # fmt: skip


def uniform(rng):
    """A random number in [0, 1), from a generator, or from a state of SplitMix64 in searches cached on disk."""
    return rng.random()


@overload(uniform)
def _uniform_of(rng):
    if isinstance(rng, types.Array):

        def draw(rng):
            rng[0] += np.uint64(0x9E3779B97F4A7C15)
            z = rng[0]
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return np.float64((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53

        return draw
    return lambda rng: rng.random()


def advance(step, state, action, rng):
    """A step of a model; other files may overload it, for models whose search is cached on disk."""
    return step(state, action, rng)


def begin(sample, root, rng):
    """The state in which an episode begins; other files may overload it."""
    return sample(root, rng)


@overload(advance)
def _advance_compiled(step, state, action, rng):
    if isinstance(step, types.Dispatcher):
        return lambda step, state, action, rng: step(state, action, rng)
    return None


@overload(begin)
def _begin_compiled(sample, root, rng):
    if isinstance(sample, types.Dispatcher):
        return lambda sample, root, rng: sample(root, rng)
    return None


@register_jitable
def select(visits, counts, values, ended, ucb, scale, avoid_ended, rng):
    """argmax_a v / scale + c sqrt(ln N / n) at a node; actions not yet taken first, ties at random.

    Args:
        visits: Number of visits of the node, N.
        counts: Number of times that each action was taken at the node, n.
        values: Mean return v after each action.
        ended: Whether an episode ended with each action.
        ucb: Weight c of the exploration bonus.
        scale: Divisor of the values.
        avoid_ended: Whether actions that ended an episode are chosen only if all did.
        rng: Source of the choice among ties.
    """
    log_visits = np.log(max(visits, 1))
    best, ties, chosen = -np.inf, 0, 0
    for action in range(counts.size):
        count = counts[action]
        if avoid_ended and ended[action]:
            bound = -np.inf
        elif count == 0:
            bound = np.inf
        else:
            bound = values[action] / scale + ucb * np.sqrt(log_visits / count)
        if ties == 0 or bound > best:
            best, ties, chosen = bound, 1, action
        elif bound == best:
            ties += 1
            if uniform(rng) * ties < 1.0:
                chosen = action
    return chosen


@register_jitable
def behind(first, siblings, observations, observation):
    """The belief node of an observation, among those after an action, which begin at ``first``; -1 if there is none.

    Args:
        first: The first belief node after the action; -1: none.
        siblings: The next belief node after the same action, by node; -1: none.
        observations: The observation that led to each node.
        observation: The observation to look for.
    """
    belief = first
    while belief >= 0 and observations[belief] != observation:
        belief = siblings[belief]
    return belief


def search(step, sample, rollout, root, rng, tree, depth, queries, discount, ucb, scaled, avoid_ended):
    """Grow a tree by simulated episodes; return its number of belief nodes.

    Args:
        step: ``step(state, action, rng)`` returns the next state, what is observed, the reward, and the end.
        sample: ``sample(root, rng)`` returns the state in which an episode begins.
        rollout: ``rollout(state, rng)`` returns an action beyond the tree; None: one at random.
        root: The current information.
        rng: The only source of randomness.
        tree: An empty tree with room for ``queries + 1`` belief nodes.
        depth: Maximum number of steps of an episode.
        queries: Number of episodes.
        discount: Discount for each step.
        ucb: Weight of exploration.
        scaled: Whether values are divided by the range of all returns.
        avoid_ended: Whether actions that ended an episode are avoided.
    """
    nodes, actions, rewards = np.empty(depth, np.int64), np.empty(depth, np.int64), np.empty(depth)
    # Each array is taken out of the tree only once, since compiled code counts references each time.
    visits, counts, values, ended_by = tree.visits, tree.counts, tree.values, tree.ended
    child, sibling, observations, parent, led = tree.child, tree.sibling, tree.observation, tree.parent, tree.action
    n_actions, n_rows = counts.shape[1], 1
    low, high, scale = np.inf, -np.inf, 1.0
    for _ in range(queries):
        state = begin(sample, root, rng)
        node, length, ended = 0, 0, False
        while length < depth and not ended:
            action = select(visits[node], counts[node], values[node], ended_by[node], ucb, scale, avoid_ended, rng)
            state, observed, reward, ended = advance(step, state, action, rng)
            observation = np.int64(observed)  # as it is stored: an unsigned one from 2^63 on would never be found again
            nodes[length], actions[length], rewards[length] = node, action, reward
            length += 1
            if ended:
                ended_by[node, action] = True
            next_node = behind(child[node, action], sibling, observations, observation)
            if next_node < 0:
                observations[n_rows], parent[n_rows], led[n_rows] = observation, node, action
                sibling[n_rows] = child[node, action]
                child[node, action] = n_rows
                n_rows += 1
                break
            node = next_node
        total, factor = 0.0, 1.0
        for _more in range(length, depth):
            if ended:
                break
            if rollout is None:  # noqa: SIM108 - numba drops a branch, and cannot drop half of an expression
                action = int(uniform(rng) * n_actions)
            else:
                action = rollout(state, rng)
            state, _, reward, ended = advance(step, state, action, rng)
            total += factor * reward
            factor *= discount
        for t in range(length - 1, -1, -1):
            total = rewards[t] + discount * total
            node, action = nodes[t], actions[t]
            visits[node] += 1
            counts[node, action] += 1
            values[node, action] += (total - values[node, action]) / counts[node, action]
        low, high = min(low, total), max(high, total)
        if scaled and high > low:
            scale = high - low
    return n_rows


compiled_search = njit(search, nogil=True, error_model="numpy")
