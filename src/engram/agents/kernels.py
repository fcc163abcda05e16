"""Tabular learning as numba loops: logs of transitions, and episodes in a finite Markov decision process.

    Q-learning    Q(s, a)  <- Q(s, a)  + lr (r + gamma max_b Q(s', b) - Q(s, a))
    QSS-learning  Q(s, s') <- Q(s, s') + lr (r + gamma max_{s'' in N(s')} Q(s', s'') - Q(s, s'))

``mdp`` is a ``FiniteMDP``, ``t`` the ``Transitions`` of ``TabularQSS``, whose fields are also passed by their own names
(``q``, ``neighbours``, ``degree``, ``actions``, ``known``), ``rule`` is (gamma, lr) and ``schedule`` the (final, start,
end) of ``EpsilonGreedy``. ``s`` and ``s2`` are a state and the next one, ``a`` an action, ``r`` a reward, ``j`` the
index of s2 among the neighbours of s, and ``k`` the index of an outcome. Each learning step uses three random numbers,
even if it does not need all of them. Ties between equal values go to the first.
"""

import numpy as np

from engram.memory.kernels import below, chance, number
from engram.numeric.jit import inline, jit

KNOWN, LEARNED, RECENT = 0, 1, 2
UNIT = 2.0**-53


@inline
def uniform(seed, count):
    """The random number with index ``count``, in [0, 1)."""
    return chance(number(seed, count)) * UNIT


@inline
def outcome(mdp, s, a, u):
    """The index of the outcome of action a in state s that a uniform number u selects."""
    k = 0
    while k < mdp.successors.shape[2] - 1 and u >= mdp.probabilities[s, a, k]:
        u -= mdp.probabilities[s, a, k]
        k += 1
    while k > 0 and mdp.probabilities[s, a, k] == 0:  # rounding may leave the sum below 1, and u beyond it
        k -= 1
    return k


@inline
def epsilon_at(schedule, step):
    """The epsilon of ``EpsilonGreedy`` after ``step`` steps."""
    final, start, end = schedule
    if step <= start:
        return 1.0
    remaining = max(0.0, (end - step) / (end - start)) if step < end else 0.0
    return final + (1 - final) * remaining


@inline
def first_best(row):
    """The index of the first maximum."""
    best = 0
    for j in range(1, len(row)):
        if row[j] > row[best]:
            best = j
    return best


@inline
def update_q(table, s, a, r, next_value, rule):
    """Learn from one step, given the value of the next state."""
    gamma, lr = rule
    table[s, a] += lr * (r + gamma * next_value - table[s, a])


@jit
def fit_q(table, states, actions, rewards, next_states, terminated, rule):
    """Learn from transitions, one after another."""
    for i in range(len(states)):
        row = table[next_states[i]]
        next_value = 0.0 if terminated[i] else row[first_best(row)]
        update_q(table, states[i], actions[i], rewards[i], next_value, rule)


@jit
def train_q(mdp, table, best, rule, schedule, episodes, max_steps, evaluations, seed, steps, returns):
    """Run learning episodes, each after ``evaluations`` greedy ones; return the number of learning steps.

    The mean return of the greedy episodes goes to ``returns``. ``best`` is the first best action of each state; all
    actions of a state are compared only after an update of its best one.
    """
    count = n_steps = np.int64(0)
    for episode in range(episodes):
        total = 0.0
        for _ in range(evaluations):
            s = mdp.start
            for _ in range(max_steps):
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
        for _ in range(max_steps):
            a = best[s]
            if uniform(seed, count) < epsilon_at(schedule, steps + n_steps):
                a = below(number(seed, count + 1), table.shape[1])
            k = outcome(mdp, s, a, uniform(seed, count + 2))
            count += 3
            n_steps += 1
            s2 = mdp.successors[s, a, k]
            next_value = 0.0 if mdp.terminal[s2] else table[s2, best[s2]]
            update_q(table, s, a, mdp.rewards[s, a, k], next_value, rule)
            top = table[s, best[s]]
            if a == best[s]:
                best[s] = first_best(table[s])
            elif table[s, a] > top or (table[s, a] == top and a < best[s]):
                best[s] = a
            s = s2
            if mdp.terminal[s]:
                break
    return n_steps


@inline
def slot_of(neighbours, degree, s, s2):
    """The index of s2 among the neighbours of s; -1 if s2 is not a neighbour."""
    for j in range(degree[s]):
        if neighbours[s, j] == s2:
            return j
    return -1


@inline
def best_slot(q, degree, s):
    """The index of the neighbour s' of s with the largest Q(s, s')."""
    best = 0
    for j in range(1, degree[s]):
        if q[s, j] > q[s, best]:
            best = j
    return best


@inline
def update_qss(q, neighbours, degree, s, r, s2, ended, rule):
    """Learn from one step; return the index of the neighbour, or -1 if there is no room for a new one."""
    gamma, lr = rule
    j = slot_of(neighbours, degree, s, s2)
    if j < 0:
        j = degree[s]
        if j == neighbours.shape[1]:
            return -1
        neighbours[s, j] = s2
        degree[s] += 1
    next_value = 0.0 if ended else q[s2, best_slot(q, degree, s2)]
    q[s, j] += lr * (r + gamma * next_value - q[s, j])
    return j


@inline(forceinline=False)
def note_action(t, s, j, a, kind, conflict):
    """Record that action a caused the transition from s to its neighbour j.

    ``conflict`` gets the first (s, a) that caused another transition before, or is not known to cause this one.
    """
    previous = t.caused[s, a]
    if (previous >= 0 or (kind == KNOWN and t.place[s, j, a] < 0)) and conflict[0] < 0:
        conflict[0], conflict[1] = s, a
    t.caused[s, a] = j
    if kind == RECENT and previous >= 0:
        position = t.place[s, previous, a]
        t.known[s, previous] -= 1
        last_action = t.actions[s, previous, t.known[s, previous]]
        t.actions[s, previous, position], t.place[s, previous, last_action] = last_action, position
        t.place[s, previous, a] = -1
    if kind != KNOWN and t.place[s, j, a] < 0:
        t.actions[s, j, t.known[s, j]] = a
        t.place[s, j, a] = t.known[s, j]
        t.known[s, j] += 1


@inline
def action_for(actions, known, s, j, bits):
    """A random one of the actions known to cause a transition, or of all actions if none is known."""
    n_known = known[s, j]
    return actions[s, j, below(bits, n_known)] if n_known > 0 else below(bits, actions.shape[2])


@jit
def fit_qss(t, states, actions, rewards, next_states, terminated, rule, kind, given, conflict):
    """Learn from transitions, one after another; return how many were learned before one had no room.

    If ``actions`` is empty, only values are learned; if the neighbours are ``given``, none is added.
    """
    for i in range(len(states)):
        s = states[i]
        if given and slot_of(t.neighbours, t.degree, s, next_states[i]) < 0:
            return i
        j = update_qss(t.q, t.neighbours, t.degree, s, rewards[i], next_states[i], terminated[i], rule)
        if j < 0:
            return i
        if len(actions) and t.caused[s, actions[i]] != j:
            note_action(t, s, j, actions[i], kind, conflict)
    return len(states)


@jit
def train_qss(mdp, t, rule, schedule, kind, episodes, max_steps, evaluations, seed, steps, returns, conflict):
    """Run learning episodes, each after greedy ones, as in ``train_q``; return the number of learning steps."""
    # Local names, since taking an array out of a tuple would take longer than the rest of a step.
    q, neighbours, degree, actions, known_counts, caused = t.q, t.neighbours, t.degree, t.actions, t.known, t.caused
    count = n_steps = np.int64(0)
    for episode in range(episodes):
        total = 0.0
        for _ in range(evaluations):
            s = mdp.start
            for _ in range(max_steps):
                a = action_for(actions, known_counts, s, best_slot(q, degree, s), number(seed, count))
                k = outcome(mdp, s, a, uniform(seed, count + 1))
                count += 2
                total += mdp.rewards[s, a, k]
                s = mdp.successors[s, a, k]
                if mdp.terminal[s]:
                    break
        if evaluations:
            returns[episode] = total / evaluations
        s = mdp.start
        for _ in range(max_steps):
            bits = number(seed, count + 1)
            if uniform(seed, count) < epsilon_at(schedule, steps + n_steps):
                a = below(bits, actions.shape[2])
            else:
                a = action_for(actions, known_counts, s, best_slot(q, degree, s), bits)
            k = outcome(mdp, s, a, uniform(seed, count + 2))
            count += 3
            n_steps += 1
            s2 = mdp.successors[s, a, k]
            j = update_qss(q, neighbours, degree, s, mdp.rewards[s, a, k], s2, mdp.terminal[s2], rule)
            if caused[s, a] != j:
                note_action(t, s, j, a, kind, conflict)
            s = s2
            if mdp.terminal[s]:
                break
    return n_steps
