"""Numba kernels on bipartite graphs: girth, expansion, linear equations modulo 2, and learning by clusters.

``A``, ``C`` and the degrees are those of ``BipartiteGraph``; ``j`` is the index of a constraint, ``k`` of an edge of a
vertex, ``w`` of a word.
"""

import numpy as np

from engram.numeric.jit import njit

REJECT, ALLOW, REPAIR = 0, 1, 2


@njit(cache=True, nogil=True)
def girth(A, node_degrees, C, constraint_degrees):
    """The length of the shortest cycle, 0 if there is none, by breadth-first search from every node."""
    nodes, total = A.shape[0], A.shape[0] + C.shape[0]
    best = 0
    depth, parent, queue = np.full(total, -1), np.empty(total, np.int64), np.empty(total, np.int64)
    for root in range(nodes):
        depth[root], parent[root], queue[0] = 0, -1, root
        head, tail = 0, 1
        while head < tail:
            vertex = queue[head]
            head += 1
            if best and 2 * depth[vertex] + 2 > best:
                break
            count = node_degrees[vertex] if vertex < nodes else constraint_degrees[vertex - nodes]
            for k in range(count):
                neighbour = nodes + A[vertex, k] if vertex < nodes else C[vertex - nodes, k]
                if neighbour == parent[vertex]:
                    continue
                if depth[neighbour] < 0:
                    depth[neighbour], parent[neighbour], queue[tail] = depth[vertex] + 1, vertex, neighbour
                    tail += 1
                else:
                    length = depth[vertex] + depth[neighbour] + 1
                    if best == 0 or length < best:
                        best = length
        for k in range(tail):
            depth[queue[k]] = -1
    return best


@njit(cache=True, nogil=True)
def expansion(A, node_degrees, constraints, max_size):
    """The smallest ratio of neighbours to edges over all sets of up to ``max_size`` nodes."""
    nodes = A.shape[0]
    chosen, times_reached = np.empty(max_size, np.int64), np.zeros(constraints, np.int64)
    edges, neighbours, size, node, best = 0, 0, 0, 0, 1.0
    while True:
        if size < max_size and node < nodes:
            chosen[size] = node
            size += 1
            for k in range(node_degrees[node]):
                neighbours += times_reached[A[node, k]] == 0
                times_reached[A[node, k]] += 1
            edges += node_degrees[node]
            if edges:
                best = min(best, neighbours / edges)
            node += 1
        elif size > 0:
            size -= 1
            node = chosen[size]
            for k in range(node_degrees[node]):
                times_reached[A[node, k]] -= 1
                neighbours -= times_reached[A[node, k]] == 0
            edges -= node_degrees[node]
            node += 1
        else:
            return best


@njit(cache=True, nogil=True)
def eliminate(rows, target, columns):
    """Bring rows, 64 columns to a word, and the right-hand side to reduced echelon form modulo 2.

    Return the pivot column of each row.
    """
    pivots, rank = np.empty(min(rows.shape[0], columns), np.int64), 0
    for column in range(columns):
        word, bit = column // 64, np.uint64(column % 64)
        pivot_row = rank
        while pivot_row < rows.shape[0] and not rows[pivot_row, word] >> bit & np.uint64(1):
            pivot_row += 1
        if pivot_row == rows.shape[0]:
            continue
        if pivot_row != rank:
            for w in range(word, rows.shape[1]):
                rows[pivot_row, w], rows[rank, w] = rows[rank, w], rows[pivot_row, w]
            target[pivot_row], target[rank] = target[rank], target[pivot_row]
        for j in range(rows.shape[0]):
            if j != rank and rows[j, word] >> bit & np.uint64(1):
                for w in range(word, rows.shape[1]):
                    rows[j, w] ^= rows[rank, w]
                target[j] ^= target[rank]
        pivots[rank] = column
        rank += 1
        if rank == pivots.size:
            break
    return pivots[:rank]


@njit(cache=True, nogil=True)
def learn(bits, C, constraint_degrees, permitted, policy, recruited, conflicts):
    """Show samples to one cluster after another; change ``permitted`` and the counts, with ``REPAIR`` also ``bits``."""
    for sample in range(bits.shape[0]):
        for j in range(C.shape[0]):
            local = 0
            for k in range(constraint_degrees[j]):
                local |= int(bits[sample, C[j, k]]) << k
            if permitted[j, local]:
                continue
            slot, nearest = -1, -1
            for k in range(constraint_degrees[j]):
                neighbour = local ^ (1 << k)
                if permitted[j, neighbour] and (slot < 0 or neighbour < nearest):
                    slot, nearest = k, neighbour
            conflicts[sample] += slot >= 0
            if slot < 0 or policy == ALLOW:
                permitted[j, local] = True
                recruited[sample] += 1
            elif policy == REPAIR:
                bits[sample, C[j, slot]] ^= 1
