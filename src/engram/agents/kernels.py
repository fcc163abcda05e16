"""Tabular learning as numba loops: logs of transitions, and whole lives in a finite Markov decision process.

``mdp`` is a ``FiniteMDP`` and ``t`` the ``Transitions`` of ``TabularQSS``. Of each step three random numbers are
counted, whether or not they are needed. Ties are broken by the first in order.
"""

import numpy as np
from numba import njit

from engram.memory.kernels import below, chance, number
from engram.numeric.jit import inline, jit

KNOWN, LEARNED, RECENT = 0, 1, 2
UNIT = 2.0**-53


@inline
def uniform(seed, count):
    """Return a random number in [0, 1)."""
    return chance(number(seed, count)) * UNIT


@inline
def outcome(mdp, s, a, left):
    """Return which outcome of an action a uniform number stands for."""
    k = 0
    while k < mdp.successors.shape[2] - 1 and left >= mdp.probabilities[s, a, k]:
        left -= mdp.probabilities[s, a, k]
        k += 1
    return k


@inline
def epsilon_at(schedule, step):
    """As ``EpsilonGreedy.epsilon``, of (final, start, end)."""
    final, start, end = schedule
    if step <= start:
        return 1.0
    left = max(0.0, (end - step) / (end - start)) if step < end else 0.0
    return final + (1 - final) * left


@inline
def first_best(row):
    """Return the first of the largest."""
    best = 0
    for j in range(1, len(row)):
        if row[j] > row[best]:
            best = j
    return best


@inline
def update_q(table, s, a, r, following, rule):
    """Learn from one step, ``following`` being the value of the state after it."""
    gamma, lr = rule
    table[s, a] += lr * (r + gamma * following - table[s, a])


@jit
def fit_q(table, states, actions, rewards, following, terminated, rule):
    """Learn from transitions, one after another."""
    for i in range(len(states)):
        row = table[following[i]]
        worth = 0.0 if terminated[i] else row[first_best(row)]
        update_q(table, states[i], actions[i], rewards[i], worth, rule)


@jit
def train_q(mdp, table, best, rule, schedule, episodes, longest, evaluations, seed, steps, returns):
    """Live episodes, before each of which greedy ones are played; return the number of steps.

    ``best`` is the first best action of each state, so that many actions cost nothing but where the best gets worse.
    """
    count = taken = np.int64(0)
    for episode in range(episodes):
        total = 0.0
        for _ in range(evaluations):
            s = mdp.start
            for _ in range(longest):
                a = best[s]
                k = outcome(mdp, s, a, uniform(seed, count))
                count += 1
                total += mdp.rewards[s, a, k]
                s = mdp.successors[s, a, k]
                if mdp.terminal[s]:
                    break
        if evaluations:
            returns[episode] = total / evaluations
        s = mdp.start
        for _ in range(longest):
            a = best[s]
            if uniform(seed, count) < epsilon_at(schedule, steps + taken):
                a = below(number(seed, count + 1), table.shape[1])
            k = outcome(mdp, s, a, uniform(seed, count + 2))
            count += 3
            taken += 1
            s2 = mdp.successors[s, a, k]
            worth = 0.0 if mdp.terminal[s2] else table[s2, best[s2]]
            update_q(table, s, a, mdp.rewards[s, a, k], worth, rule)
            top = table[s, best[s]]
            if a == best[s]:
                best[s] = first_best(table[s])
            elif table[s, a] > top or (table[s, a] == top and a < best[s]):
                best[s] = a
            s = s2
            if mdp.terminal[s]:
                break
    return taken


@inline
def slot_of(neighbours, degree, s, s2):
    """Return which neighbour of a state another one is; -1: none."""
    for j in range(degree[s]):
        if neighbours[s, j] == s2:
            return j
    return -1


@inline
def best_slot(q, degree, s):
    """Return the neighbour of the best transition."""
    best = 0
    for j in range(1, degree[s]):
        if q[s, j] > q[s, best]:
            best = j
    return best


@inline
def update_qss(q, neighbours, degree, s, r, s2, ended, rule):
    """Learn from one step; return which neighbour it led to, -1 where there is no room for a new one."""
    gamma, lr = rule
    j = slot_of(neighbours, degree, s, s2)
    if j < 0:
        j = degree[s]
        if j == neighbours.shape[1]:
            return -1
        neighbours[s, j] = s2
        degree[s] += 1
    worth = 0.0 if ended else q[s2, best_slot(q, degree, s2)]
    q[s, j] += lr * (r + gamma * worth - q[s, j])
    return j


@njit(error_model="numpy")
def note_action(t, s, j, a, kind, conflict):
    """Note that an action has caused a transition, and in ``conflict`` the first that had caused another before."""
    before = t.caused[s, a]
    if (before >= 0 or (kind == KNOWN and t.place[s, j, a] < 0)) and conflict[0] < 0:
        conflict[0], conflict[1] = s, a
    t.caused[s, a] = j
    if kind == RECENT and before >= 0:
        place = t.place[s, before, a]
        t.known[s, before] -= 1
        last = t.actions[s, before, t.known[s, before]]
        t.actions[s, before, place], t.place[s, before, last] = last, place
        t.place[s, before, a] = -1
    if kind != KNOWN and t.place[s, j, a] < 0:
        t.actions[s, j, t.known[s, j]] = a
        t.place[s, j, a] = t.known[s, j]
        t.known[s, j] += 1


@inline
def action_for(actions, known, s, j, bits):
    """Return one of the actions that are known to cause a transition, or any where none is."""
    n = known[s, j]
    return actions[s, j, below(bits, n)] if n > 0 else below(bits, actions.shape[2])


@jit
def fit_qss(t, states, actions, rewards, following, terminated, rule, kind, given, conflict):
    """Learn from transitions, one after another; return how many were learned before there was no room for one.

    Without ``actions``, an empty array, only values are learned. Where neighbours are ``given`` there is no new one.
    """
    for i in range(len(states)):
        s = states[i]
        if given and slot_of(t.neighbours, t.degree, s, following[i]) < 0:
            return i
        j = update_qss(t.q, t.neighbours, t.degree, s, rewards[i], following[i], terminated[i], rule)
        if j < 0:
            return i
        if len(actions) and t.caused[s, actions[i]] != j:
            note_action(t, s, j, actions[i], kind, conflict)
    return len(states)


@jit
def train_qss(mdp, t, rule, schedule, kind, episodes, longest, evaluations, seed, steps, returns, conflict):
    """As ``train_q``."""
    # Names of their own, since an array that is taken out of a tuple at every step costs more than the step.
    q, neighbours, degree, actions, known, caused = t.q, t.neighbours, t.degree, t.actions, t.known, t.caused
    count = taken = np.int64(0)
    for episode in range(episodes):
        total = 0.0
        for _ in range(evaluations):
            s = mdp.start
            for _ in range(longest):
                a = action_for(actions, known, s, best_slot(q, degree, s), number(seed, count))
                k = outcome(mdp, s, a, uniform(seed, count + 1))
                count += 2
                total += mdp.rewards[s, a, k]
                s = mdp.successors[s, a, k]
                if mdp.terminal[s]:
                    break
        if evaluations:
            returns[episode] = total / evaluations
        s = mdp.start
        for _ in range(longest):
            bits = number(seed, count + 1)
            if uniform(seed, count) < epsilon_at(schedule, steps + taken):
                a = below(bits, actions.shape[2])
            else:
                a = action_for(actions, known, s, best_slot(q, degree, s), bits)
            k = outcome(mdp, s, a, uniform(seed, count + 2))
            count += 3
            taken += 1
            s2 = mdp.successors[s, a, k]
            j = update_qss(q, neighbours, degree, s, mdp.rewards[s, a, k], s2, mdp.terminal[s2], rule)
            if caused[s, a] != j:
                note_action(t, s, j, a, kind, conflict)
            s = s2
            if mdp.terminal[s]:
                break
    return taken
