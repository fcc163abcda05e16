"""The dynamics of ``engram.memory.flip_dynamics`` as numba kernels: the same flips, bit by bit.

Where nodes flip one by one, what a flip changes is all that is touched: the z clusters of the node and their z r nodes.
Nodes of equal excess are a set of bits, 64 in a word, with a count for every 64 words; the n-th of them is found by
counting bits, so that ties are drawn as the definition draws them and a flip costs no search through all nodes.

Where all nodes of a parity network flip at once, 64 samples share a word: an exclusive or of r words checks a
constraint of all of them, and a few more add up u_i in bits that stand above each other.

Samples do not meet: the results are the same for any number of threads.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from engram.memory.counted_random import FIRST, GOLDEN, SECOND

MAX, RANDOM, GLAUBER = 0, 1, 2
BLOCK = 64  # words under one count
inline = njit(forceinline=True, error_model="numpy")
golden, first_factor, second_factor = np.uint64(GOLDEN), np.uint64(FIRST), np.uint64(SECOND)
one, zero = np.uint64(1), np.uint64(0)


@intrinsic
@no_type_check
def ones(typing_context: Any, word: Any) -> Any:
    """Return how many bits of a word are set."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


@intrinsic
@no_type_check
def lowest(typing_context: Any, word: Any) -> Any:
    """Return the place of the lowest bit that is set."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@inline
@no_type_check
def number(seed, count):
    """Return the random 64 bits that a seed has at a count."""
    value = np.uint64(seed) + golden * (np.uint64(count) + one)
    value = (value ^ (value >> np.uint64(30))) * first_factor
    value = (value ^ (value >> np.uint64(27))) * second_factor
    return value ^ (value >> np.uint64(31))


@inline
@no_type_check
def below(bits, bound):
    """Return a random integer in [0, bound) from random bits."""
    return np.int64((bits >> np.uint64(33)) * np.uint64(bound) >> np.uint64(31))


@inline
@no_type_check
def distance_of(table, j, local):
    """Return d_j."""
    return np.int64(table[j, local]) if table.shape[0] else local


@inline
@no_type_check
def gain_of(table, j, local, slot):
    """Return by how much d_j falls when the node at a slot flips."""
    if table.shape[0]:
        return np.int64(table[j, local]) - np.int64(table[j, local ^ (1 << slot)])
    return 2 * local - 1


@inline
@no_type_check
def start(bits, A, slots, node_degrees, C, constraint_degrees, table, target, local, excess):
    """Write what all clusters see and the excess of all nodes; return V."""
    violated = 0
    explicit = table.shape[0] > 0
    for j in range(C.shape[0]):
        seen = 0
        if explicit:
            for k in range(constraint_degrees[j]):
                seen |= np.int64(bits[C[j, k]]) << k
        else:
            seen = np.int64(target[j])
            for k in range(constraint_degrees[j]):
                seen ^= np.int64(bits[C[j, k]])
        local[j] = seen
        violated += distance_of(table, j, seen)
    for i in range(A.shape[0]):
        total = 0
        for k in range(node_degrees[i]):
            total += gain_of(table, A[i, k], local[A[i, k]], slots[i, k])
        excess[i] = total
    return violated


@inline
@no_type_check
def toggle(members, counts, totals, level, node):
    """Put a node into the set of a level, or take it out."""
    bit = one << np.uint64(node % 64)
    change = -1 if members[level, node // 64] & bit else 1
    members[level, node // 64] ^= bit
    counts[level, node // (64 * BLOCK)] += change
    totals[level] += change


@inline
@no_type_check
def nth(members, counts, level, which):
    """Return the which-th node of a level."""
    block = 0
    while which >= counts[level, block]:
        which -= counts[level, block]
        block += 1
    word = block * BLOCK
    while True:
        some = np.int64(ones(members[level, word]))
        if which < some:
            break
        which -= some
        word += 1
    left = members[level, word]
    for _ in range(which):
        left &= left - one
    return word * 64 + np.int64(lowest(left))


@inline
@no_type_check
def flip(node, bits, A, slots, node_degrees, C, constraint_degrees, table, local):
    """Flip a node in what its clusters see; return the change of V."""
    change = 0
    bits[node] ^= 1
    for k in range(node_degrees[node]):
        j = A[node, k]
        change -= distance_of(table, j, local[j])
        local[j] ^= 1 << slots[node, k] if table.shape[0] else 1
        change += distance_of(table, j, local[j])
    return change


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def one_by_one(
    bits, A, slots, node_degrees, C, constraint_degrees, table, target,
    seeds, order, limit, accept, flips, iterations, violations, stable, first, stop,
):  # fmt: skip
    """Let the samples from ``first`` to ``stop`` settle by ``max``, ``random`` or ``glauber``.

    Args:
        bits: 1 where a node is -1, (samples, nodes); changed.
        A: (nodes, z).
        slots: (nodes, z).
        node_degrees: (nodes,).
        C: (constraints, r).
        constraint_degrees: (constraints,).
        table: d_j of every local pattern, (constraints, 2^r); without rows for parity.
        target: (constraints,).
        seeds: (samples,).
        order: ``MAX``, ``RANDOM`` or ``GLAUBER``.
        limit: Most iterations.
        accept: For ``GLAUBER``, (2 z + 1,).
        flips: (samples,), written.
        iterations: (samples,), written.
        violations: V at the end, (samples,), written.
        stable: Whether no node may flip at the end, (samples,), written.
        first: First sample.
        stop: The one after the last.
    """
    nodes, z = A.shape
    local, excess = np.empty(C.shape[0], np.int32), np.empty(nodes, np.int16)
    levels = z if order == MAX else 1
    words = (nodes + 63) // 64
    members = np.zeros((levels + 1, words), np.uint64)
    counts = np.zeros((levels + 1, (words + BLOCK - 1) // BLOCK), np.int64)
    totals = np.zeros(levels + 1, np.int64)
    for sample in range(first, stop):
        x, seed = bits[sample], seeds[sample]
        violated = start(x, A, slots, node_degrees, C, constraint_degrees, table, target, local, excess)
        done, flipped = 0, 0
        if order == GLAUBER:
            while done < limit and violated > 0:
                node = below(number(seed, 2 * done), nodes)
                total = 0
                for k in range(node_degrees[node]):
                    total += gain_of(table, A[node, k], local[A[node, k]], slots[node, k])
                if np.int64(number(seed, 2 * done + 1) >> np.uint64(11)) < accept[total + accept.size // 2]:
                    violated += flip(node, x, A, slots, node_degrees, C, constraint_degrees, table, local)
                    flipped += 1
                done += 1
            violated = start(x, A, slots, node_degrees, C, constraint_degrees, table, target, local, excess)
            flips[sample], iterations[sample] = flipped, done
            violations[sample], stable[sample] = violated, not (excess > 0).any()
            continue
        members[:] = 0
        counts[:] = 0
        totals[:] = 0
        for i in range(nodes):
            if excess[i] > 0:
                toggle(members, counts, totals, min(excess[i], levels), i)
        while done < limit:
            level = levels
            while level > 0 and totals[level] == 0:
                level -= 1
            if level == 0:
                break
            node = nth(members, counts, level, below(number(seed, done), totals[level]))
            violated -= excess[node]
            for k in range(node_degrees[node]):
                j = A[node, k]
                old = local[j]
                new = old ^ (1 << slots[node, k] if table.shape[0] else 1)
                local[j] = new
                for slot in range(constraint_degrees[j]):
                    i = C[j, slot]
                    change = gain_of(table, j, new, slot) - gain_of(table, j, old, slot)
                    if change:
                        before = max(min(excess[i], levels), 0)
                        excess[i] += change
                        after = max(min(excess[i], levels), 0)
                        if before != after:
                            if before:
                                toggle(members, counts, totals, before, i)
                            if after:
                                toggle(members, counts, totals, after, i)
            x[node] ^= 1
            done += 1
        flips[sample], iterations[sample] = done, done
        violations[sample], stable[sample] = violated, totals.sum() == 0


@inline
@no_type_check
def winner_votes(j, local, C, constraint_degrees, table, patterns, draw, votes):
    """Add the votes for a flip by the winner of a cluster that sees what it does not permit."""
    d = distance_of(table, j, local)
    if table.shape[0] == 0:
        votes[C[j, below(draw, constraint_degrees[j])]] += 1
        return
    # The nearest patterns by their difference from what is seen, in rising order.
    some = 0
    for p in range(patterns.shape[1]):
        some += patterns[j, p] >= 0 and ones(np.uint64(patterns[j, p] ^ local)) == d
    if some == 0:
        return
    which, change = below(draw, some), np.int64(-1)
    for _ in range(which + 1):
        following = np.int64(1) << 62
        for p in range(patterns.shape[1]):
            other = patterns[j, p] ^ local
            if patterns[j, p] >= 0 and ones(np.uint64(other)) == d and change < other < following:
                following = other
        change = following
    for slot in range(constraint_degrees[j]):
        votes[C[j, slot]] += change >> slot & 1


@inline
@no_type_check
def random_votes(j, local, C, constraint_degrees, table, patterns, draw, votes):
    """Add the votes for a flip by a random hidden neuron of a cluster."""
    if table.shape[0]:
        some = 0
        for p in range(patterns.shape[1]):
            some += patterns[j, p] >= 0
        if some == 0:
            return
        change = patterns[j, below(draw, some)] ^ local
    else:
        # All but the last bit are random changes; the last makes the parity right.
        last = constraint_degrees[j] - 1
        change = np.int64(draw >> np.uint64(11)) & ((np.int64(1) << last) - 1)
        change |= ((np.int64(ones(np.uint64(change))) + local) & 1) << last
    for slot in range(constraint_degrees[j]):
        votes[C[j, slot]] += change >> slot & 1


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def winner_take_all(
    bits, A, slots, node_degrees, C, constraint_degrees, table, target, patterns,
    seeds, limit, faulty, flips, iterations, violations, stable, first, stop,
):  # fmt: skip
    """Let the samples from ``first`` to ``stop`` settle by the votes of the clusters' winners.

    Args:
        bits: 1 where a node is -1, (samples, nodes); changed.
        A: (nodes, z).
        slots: (nodes, z).
        node_degrees: (nodes,).
        C: (constraints, r).
        constraint_degrees: (constraints,).
        table: d_j of every local pattern, (constraints, 2^r); without rows for parity.
        target: (constraints,).
        patterns: Permitted local patterns, (constraints, patterns), -1 behind the last.
        seeds: (samples,).
        limit: Most sweeps.
        faulty: 2^53 times the probability that a random hidden neuron wins.
        flips: (samples,), written.
        iterations: (samples,), written.
        violations: V at the end, (samples,), written.
        stable: Whether no node may flip at the end, (samples,), written.
        first: First sample.
        stop: The one after the last.
    """
    nodes, constraints = A.shape[0], C.shape[0]
    local, excess = np.empty(constraints, np.int32), np.empty(nodes, np.int16)
    votes, unhappy = np.zeros(nodes, np.int64), np.empty(constraints, np.int64)
    for sample in range(first, stop):
        x = bits[sample]
        start(x, A, slots, node_degrees, C, constraint_degrees, table, target, local, excess)
        done, flipped, changed, some = 0, 0, True, 0
        while done < limit:
            if changed:
                some = 0
                for j in range(constraints):
                    if distance_of(table, j, local[j]) > 0:
                        unhappy[some] = j
                        some += 1
                movable = faulty > 0 and some > 0
                for i in range(0 if faulty > 0 else nodes):
                    against = 0
                    for k in range(node_degrees[i]):
                        against += gain_of(table, A[i, k], local[A[i, k]], slots[i, k]) > 0
                    if 2 * against > node_degrees[i]:
                        movable = True
                        break
                if not movable:
                    break
            voting = some
            if faulty > 0:
                # What a broken cluster sees does not matter: all of them have to be looked at.
                voting = 0
                for j in range(constraints):
                    count, other = 2 * (done * constraints + j), ~seeds[sample]
                    broken = np.int64(number(other, count) >> np.uint64(11)) < faulty
                    if broken:
                        draw = number(other, count + 1)
                        random_votes(j, local[j], C, constraint_degrees, table, patterns, draw, votes)
                    elif distance_of(table, j, local[j]) > 0:
                        draw = number(seeds[sample], done * constraints + j)
                        winner_votes(j, local[j], C, constraint_degrees, table, patterns, draw, votes)
                    else:
                        continue
                    unhappy[voting] = j
                    voting += 1
            else:
                for v in range(voting):
                    j = unhappy[v]
                    draw = number(seeds[sample], done * constraints + j)
                    winner_votes(j, local[j], C, constraint_degrees, table, patterns, draw, votes)
            changed = faulty > 0
            for v in range(voting):
                j = unhappy[v]
                for slot in range(constraint_degrees[j]):
                    i = C[j, slot]
                    if 2 * votes[i] > node_degrees[i]:
                        flip(i, x, A, slots, node_degrees, C, constraint_degrees, table, local)
                        flipped += 1
                        changed = True
                    votes[i] = 0
            done += 1
        flips[sample], iterations[sample] = flipped, done
        violations[sample] = start(x, A, slots, node_degrees, C, constraint_degrees, table, target, local, excess)
        stable[sample] = True
        for i in range(nodes):
            against = 0
            for k in range(node_degrees[i]):
                against += gain_of(table, A[i, k], local[A[i, k]], slots[i, k]) > 0
            if 2 * against > node_degrees[i]:
                stable[sample] = False
                break


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def all_at_once(
    bits, A, slots, node_degrees, C, constraint_degrees, table, target,
    limit, flips, iterations, violations, stable, oscillating, first, stop,
):  # fmt: skip
    """Let the samples from ``first`` to ``stop`` settle by ``parallel``, for patterns of any kind.

    Args:
        bits: 1 where a node is -1, (samples, nodes); changed.
        A: (nodes, z).
        slots: (nodes, z).
        node_degrees: (nodes,).
        C: (constraints, r).
        constraint_degrees: (constraints,).
        table: d_j of every local pattern, (constraints, 2^r); without rows for parity.
        target: (constraints,).
        limit: Most iterations.
        flips: (samples,), written.
        iterations: (samples,), written.
        violations: V at the end, (samples,), written.
        stable: Whether no node may flip at the end, (samples,), written.
        oscillating: (samples,), written.
        first: First sample.
        stop: The one after the last.
    """
    nodes = A.shape[0]
    local, excess = np.empty(C.shape[0], np.int32), np.empty(nodes, np.int16)
    before = np.empty(nodes, np.bool_)
    for sample in range(first, stop):
        x = bits[sample]
        before[:] = False
        done, flipped = 0, 0
        while True:
            violations[sample] = start(x, A, slots, node_degrees, C, constraint_degrees, table, target, local, excess)
            some, same = 0, True
            for i in range(nodes):
                some += excess[i] > 0
                same &= before[i] == (excess[i] > 0)
            stable[sample] = some == 0
            if done == limit:
                break
            oscillating[sample] = same and some > 0
            if same or some == 0:
                break
            for i in range(nodes):
                before[i] = excess[i] > 0
                x[i] ^= before[i]
            flipped += some
            done += 1
        flips[sample], iterations[sample] = flipped, done


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def all_at_once_packed(
    bits,
    A,
    node_degrees,
    C,
    constraint_degrees,
    target,
    limit,
    flips,
    iterations,
    violations,
    stable,
    oscillating,
    first,
    stop,
):
    """Let the samples from 64 ``first`` to 64 ``stop`` settle by ``parallel``, 64 in a word, for parity.

    Args:
        bits: 1 where a node is -1, (samples, nodes); changed.
        A: (nodes, z).
        node_degrees: (nodes,).
        C: (constraints, r).
        constraint_degrees: (constraints,).
        target: (constraints,).
        limit: Most iterations.
        flips: (samples,), zeros, written.
        iterations: (samples,), zeros, written.
        violations: Not 0 where a constraint is violated at the end, (samples,), zeros, written.
        stable: Whether no node may flip at the end, (samples,), written.
        oscillating: (samples,), written.
        first: First group of samples.
        stop: The one after the last.
    """
    nodes, z = A.shape
    planes = 1
    while 1 << planes <= z:
        planes += 1
    x, before, chosen = np.empty(nodes, np.uint64), np.empty(nodes, np.uint64), np.empty(nodes, np.uint64)
    violated, u = np.empty(C.shape[0], np.uint64), np.empty(planes, np.uint64)
    for group in range(first, stop):
        base, end = 64 * group, min(64 * group + 64, bits.shape[0])
        x[:] = zero
        before[:] = zero
        for sample in range(base, end):
            lane = np.uint64(sample - base)
            for i in range(nodes):
                x[i] |= np.uint64(bits[sample, i]) << lane
        active = ~zero if end - base == 64 else (one << np.uint64(end - base)) - one
        done = 0
        while True:
            wrong = zero
            for j in range(C.shape[0]):
                word = ~zero if target[j] else zero
                for k in range(constraint_degrees[j]):
                    word ^= x[C[j, k]]
                violated[j] = word
                wrong |= word
            moving, some, differs = zero, zero, zero
            for i in range(nodes):
                u[:] = zero
                for k in range(node_degrees[i]):
                    carry = violated[A[i, k]]
                    for p in range(planes):
                        carried = u[p] & carry
                        u[p] ^= carry
                        carry = carried
                half = node_degrees[i] // 2
                more, equal = zero, ~zero
                for p in range(planes - 1, -1, -1):
                    if half >> p & 1:
                        equal &= u[p]
                    else:
                        more |= equal & u[p]
                        equal &= ~u[p]
                moving |= more
                more &= active
                chosen[i] = more
                some |= more
                differs |= more ^ before[i]
            if done == limit:
                break
            done += 1
            repeated = some & ~differs
            while repeated:
                lane = lowest(repeated)
                repeated &= repeated - one
                oscillating[base + np.int64(lane)] = True
            active = some & differs
            if not active:
                break
            for i in range(nodes):
                word = chosen[i] & active
                before[i] = word
                x[i] ^= word
                while word:
                    flips[base + np.int64(lowest(word))] += 1
                    word &= word - one
            word = active
            while word:
                iterations[base + np.int64(lowest(word))] += 1
                word &= word - one
        for sample in range(base, end):
            lane = np.uint64(sample - base)
            violations[sample], stable[sample] = np.int64(wrong >> lane & one), not (moving >> lane & one)
            for i in range(nodes):
                bits[sample, i] = np.uint8(x[i] >> lane & one)
