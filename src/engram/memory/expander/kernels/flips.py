"""The dynamics of ``engram.memory.expander.flip_dynamics`` as numba kernels: the same flips, bit by bit.

If nodes flip one by one, only the z clusters of the node and their z r nodes are updated. The nodes of equal excess are
a bit set, 64 to a word, with a count for every 64 words; the n-th of them is found by counting bits, so that ties are
drawn as the definition draws them. If all nodes of a parity network flip at once, 64 samples share a word: an exclusive
or of r words checks a constraint of all of them, and a few more operations add up u_i in bit planes. Samples do not
interact: the results are the same for any number of threads. ``i`` is the index of a node, ``j`` of a cluster, ``k``
of a node's cluster or of a cluster's node.
"""

import numpy as np

from engram.memory.kernels import below, chance, number
from engram.numeric.bits import lowest, ones
from engram.numeric.jit import inline, njit

BLOCK = 64  # words that share a count
one, zero = np.uint64(1), np.uint64(0)


@inline
def distance_of(net, j, local):
    """The distance d_j of what a cluster sees from the nearest permitted pattern."""
    return np.int64(net.distance[j, local]) if net.distance.shape[0] else local


@inline
def gain_of(net, j, local, slot):
    """The decrease of d_j when the node at a slot flips."""
    if net.distance.shape[0]:
        return np.int64(net.distance[j, local]) - np.int64(net.distance[j, local ^ (1 << slot)])
    return 2 * local - 1


@inline
def start(net, bits, local, excess):
    """Write the local pattern of all clusters and the excess of all nodes; return V."""
    violated = 0
    explicit = net.distance.shape[0] > 0
    for j in range(net.C.shape[0]):
        pattern = 0
        if explicit:
            for k in range(net.constraint_degrees[j]):
                pattern |= np.int64(bits[net.C[j, k]]) << k
        else:
            pattern = np.int64(net.target[j])
            for k in range(net.constraint_degrees[j]):
                pattern ^= np.int64(bits[net.C[j, k]])
        local[j] = pattern
        violated += distance_of(net, j, pattern)
    for i in range(net.A.shape[0]):
        total = 0
        for k in range(net.node_degrees[i]):
            total += gain_of(net, net.A[i, k], local[net.A[i, k]], net.slots[i, k])
        excess[i] = total
    return violated


@inline
def toggle(members, counts, totals, level, node):
    """Add a node to the set of a level, or remove it if it is there."""
    bit = one << np.uint64(node % 64)
    change = -1 if members[level, node // 64] & bit else 1
    members[level, node // 64] ^= bit
    counts[level, node // (64 * BLOCK)] += change
    totals[level] += change


@inline
def nth(members, counts, level, index):
    """The node with this index in the set of a level."""
    block = 0
    while index >= counts[level, block]:
        index -= counts[level, block]
        block += 1
    word = block * BLOCK
    while True:
        n_members = np.int64(ones(members[level, word]))
        if index < n_members:
            break
        index -= n_members
        word += 1
    remaining = members[level, word]
    for _ in range(index):
        remaining &= remaining - one
    return word * 64 + np.int64(lowest(remaining))


@njit(cache=True, nogil=True, error_model="numpy")
def one_by_one(net, seeds, levels, limit, results, first, stop):
    """Let the samples from ``first`` to ``stop`` settle by ``max`` or ``random``.

    ``net`` is a ``flip_dynamics.Network`` and ``results`` a ``Settled``, both made of arrays; ``results`` starts with
    the initial bits and zeros. Excesses of ``levels`` and more are not distinguished: ``levels``
    is z for ``max``, 1 for ``random``.
    """
    nodes = net.A.shape[0]
    local, excess = np.empty(net.C.shape[0], np.int32), np.empty(nodes, np.int16)
    words = (nodes + 63) // 64
    members = np.zeros((levels + 1, words), np.uint64)
    counts = np.zeros((levels + 1, (words + BLOCK - 1) // BLOCK), np.int64)
    totals = np.zeros(levels + 1, np.int64)
    for sample in range(first, stop):
        x, seed = results.bits[sample], seeds[sample]
        violated = start(net, x, local, excess)
        done = 0
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
            for k in range(net.node_degrees[node]):
                j = net.A[node, k]
                old_pattern = local[j]
                new_pattern = old_pattern ^ (1 << net.slots[node, k] if net.distance.shape[0] else 1)
                local[j] = new_pattern
                for slot in range(net.constraint_degrees[j]):
                    i = net.C[j, slot]
                    change = gain_of(net, j, new_pattern, slot) - gain_of(net, j, old_pattern, slot)
                    if change:
                        old_level = max(min(excess[i], levels), 0)
                        excess[i] += change
                        new_level = max(min(excess[i], levels), 0)
                        if old_level != new_level:
                            if old_level:
                                toggle(members, counts, totals, old_level, i)
                            if new_level:
                                toggle(members, counts, totals, new_level, i)
            x[node] ^= 1
            done += 1
        results.flips[sample], results.iterations[sample] = done, done
        results.violated[sample], results.stable[sample] = violated, totals.sum() == 0


@njit(cache=True, nogil=True, error_model="numpy")
def glauber(net, seeds, limit, accept, results, first, stop):
    """Let the samples from ``first`` to ``stop`` settle by ``glauber``, with ``accept`` of ``flip_dynamics``."""
    nodes, z = net.A.shape
    local, excess = np.empty(net.C.shape[0], np.int32), np.empty(nodes, np.int16)
    for sample in range(first, stop):
        x, seed, done = results.bits[sample], seeds[sample], 0
        violated = start(net, x, local, excess)
        while done < limit and violated > 0:
            node, total = below(number(seed, 2 * done), nodes), 0
            for k in range(net.node_degrees[node]):
                total += gain_of(net, net.A[node, k], local[net.A[node, k]], net.slots[node, k])
            if chance(number(seed, 2 * done + 1)) < accept[total + z]:
                x[node] ^= 1
                for k in range(net.node_degrees[node]):
                    local[net.A[node, k]] ^= 1 << net.slots[node, k] if net.distance.shape[0] else 1
                violated -= total
                results.flips[sample] += 1
            done += 1
        results.iterations[sample] = done
        results.violated[sample] = start(net, x, local, excess)
        results.stable[sample] = not (excess > 0).any()


@inline
def add_random(net, j, local, draw, votes):
    """Add the votes for a flip of a random hidden neuron of a cluster."""
    # All but the last bit change at random; the last one makes the parity right.
    last_slot = net.constraint_degrees[j] - 1
    change = chance(draw) & ((np.int64(1) << last_slot) - 1)
    change |= ((np.int64(ones(np.uint64(change))) + local) & 1) << last_slot
    for slot in range(last_slot + 1):
        votes[net.C[j, slot]] += change >> slot & 1


@inline
def outvoted(net, local):
    """Whether more than half of the constraints of some node are violated."""
    for i in range(net.A.shape[0]):
        against = 0
        for k in range(net.node_degrees[i]):
            against += local[net.A[i, k]]
        if 2 * against > net.node_degrees[i]:
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def winner_take_all(net, seeds, limit, faulty, results, first, stop):
    """Let samples settle by ``wta``, for parity; ``faulty`` is 2^53 times the probability of a random winner."""
    nodes, constraints = net.A.shape[0], net.C.shape[0]
    local, excess = np.empty(constraints, np.int32), np.empty(nodes, np.int16)
    votes, voters = np.zeros(nodes, np.int64), np.empty(constraints, np.int64)
    for sample in range(first, stop):
        x, seed = results.bits[sample], seeds[sample]
        start(net, x, local, excess)
        done, flipped, changed, n_violated = 0, 0, True, 0
        while done < limit:
            if changed:
                n_violated = 0
                for j in range(constraints):
                    voters[n_violated] = j
                    n_violated += local[j]
                if not (n_violated > 0 if faulty > 0 else outvoted(net, local)):
                    break
            # A faulty cluster votes whatever it sees, so with faults all clusters are visited.
            voting = 0
            for v in range(constraints if faulty > 0 else n_violated):
                j = v if faulty > 0 else voters[v]
                count = done * constraints + j
                if faulty > 0 and chance(number(~seed, 2 * count)) < faulty:
                    add_random(net, j, local[j], number(~seed, 2 * count + 1), votes)
                elif local[j]:
                    votes[net.C[j, below(number(seed, count), net.constraint_degrees[j])]] += 1
                else:
                    continue
                voters[voting] = j
                voting += 1
            changed = faulty > 0
            for v in range(voting):
                j = voters[v]
                for slot in range(net.constraint_degrees[j]):
                    i = net.C[j, slot]
                    if 2 * votes[i] > net.node_degrees[i]:
                        x[i] ^= 1
                        for k in range(net.node_degrees[i]):
                            local[net.A[i, k]] ^= 1
                        flipped += 1
                        changed = True
                    votes[i] = 0
            done += 1
        results.flips[sample], results.iterations[sample] = flipped, done
        results.violated[sample] = start(net, x, local, excess)
        results.stable[sample] = not outvoted(net, local)


@njit(cache=True, nogil=True, error_model="numpy")
def all_at_once(net, limit, results, first, stop):
    """Let samples settle by ``parallel``, 64 to a word, for parity; ``results.violated`` is 1 if any constraint is."""
    nodes, z = net.A.shape
    bits, planes = results.bits, 1
    while 1 << planes <= z:
        planes += 1
    x, last_flips, chosen = np.empty(nodes, np.uint64), np.empty(nodes, np.uint64), np.empty(nodes, np.uint64)
    violated, u = np.empty(net.C.shape[0], np.uint64), np.empty(planes, np.uint64)
    for group in range(first, stop):
        base, end = 64 * group, min(64 * group + 64, bits.shape[0])
        x[:] = zero
        last_flips[:] = zero
        for sample in range(base, end):
            lane = np.uint64(sample - base)
            for i in range(nodes):
                x[i] |= np.uint64(bits[sample, i]) << lane
        active = ~zero if end - base == 64 else (one << np.uint64(end - base)) - one
        done = 0
        while True:
            any_violated = zero
            for j in range(net.C.shape[0]):
                word = ~zero if net.target[j] else zero
                for k in range(net.constraint_degrees[j]):
                    word ^= x[net.C[j, k]]
                violated[j] = word
                any_violated |= word
            moving, flipping, differs = zero, zero, zero
            for i in range(nodes):
                u[:] = zero
                for k in range(net.node_degrees[i]):
                    carry = violated[net.A[i, k]]
                    for p in range(planes):
                        carried = u[p] & carry
                        u[p] ^= carry
                        carry = carried
                half = net.node_degrees[i] // 2
                majority, equal = zero, ~zero
                for p in range(planes - 1, -1, -1):
                    if half >> p & 1:
                        equal &= u[p]
                    else:
                        majority |= equal & u[p]
                        equal &= ~u[p]
                moving |= majority
                majority &= active
                chosen[i] = majority
                flipping |= majority
                differs |= majority ^ last_flips[i]
            if done == limit:
                break
            done += 1
            repeated = flipping & ~differs
            while repeated:
                results.oscillating[base + np.int64(lowest(repeated))] = True
                repeated &= repeated - one
            active = flipping & differs
            if not active:
                break
            for i in range(nodes):
                word = chosen[i] & active
                last_flips[i] = word
                x[i] ^= word
                while word:
                    results.flips[base + np.int64(lowest(word))] += 1
                    word &= word - one
            word = active
            while word:
                results.iterations[base + np.int64(lowest(word))] += 1
                word &= word - one
        for sample in range(base, end):
            lane = np.uint64(sample - base)
            results.violated[sample], results.stable[sample] = (
                np.int64(any_violated >> lane & one),
                not (moving >> lane & one),
            )
            for i in range(nodes):
                bits[sample, i] = np.uint8(x[i] >> lane & one)
