"""Numba loops for distances, nearest neighbours, products with a graph, and a network over windows.

Sequences are rows of tokens. For the distances between all pairs they are transposed into bit planes: a plane holds one
bit of the tokens at 32 positions for all sequences, so that one exclusive or compares 32 letters, and a vector
instruction compares several sequences at once. No result depends on the number of threads.
"""

import numpy as np

from engram.numeric.bits import ones
from engram.numeric.jit import inline, jit

TILE, ROWS, SAMPLED = 1024, 16, 16  # columns and rows of a tile of pairs; one in 16 distances serves to guess a bound


@inline
def levenshtein(a, b, max_edits, row):
    """The number of edits between rows of equal length, at most ``max_edits``, from a band around the diagonal.

    A path that strays d cells from the diagonal has d insertions and d deletions. Cells outside the band hold upper
    bounds of their edits.

    Args:
        a: One row of tokens.
        b: The other row.
        max_edits: The number that is returned if the rows differ by at least as many edits.
        row: Working memory, one number more than the length of the rows.
    """
    reach = (max_edits - 1) // 2
    length = len(a)
    for j in range(length + 1):
        row[j] = j
    for i in range(1, length + 1):
        first, last = max(1, i - reach), min(length, i + reach)
        diagonal = row[first - 1]
        row[first - 1] = i
        least = i
        for j in range(first, last + 1):
            substituted = diagonal + (a[i - 1] != b[j - 1])
            diagonal = row[j]
            row[j] = min(substituted, row[j] + 1, row[j - 1] + 1)
            least = min(least, row[j])
        if least >= max_edits:
            return max_edits
    return min(max_edits, row[length])


def _nearest(tokens, other_tokens, max_edits, first, stop, out):
    row = np.zeros(tokens.shape[1] + 1, np.int64)
    for i in range(first, stop):
        best = max_edits
        for j in range(len(other_tokens)):
            best = levenshtein(tokens[i], other_tokens[j], best, row)
            if best == 0:
                break
        out[i] = best


nearest = jit(_nearest)
"""The fewest edits, up to ``max_edits``, from each of some rows to any of the others."""


def _pairs(tokens, out):
    row = np.zeros(tokens.shape[1] + 1, np.int64)
    pair = 0
    for i in range(len(tokens)):
        for j in range(i):
            out[pair] = levenshtein(tokens[i], tokens[j], tokens.shape[1] + 1, row)
            pair += 1


pairs = jit(_pairs)
"""The edits between all pairs of rows."""


def _compare(planes, row, start, stop, differ, distances):
    """Add the number of letters that differ between a sequence and each sequence of a tile."""
    for word in range(planes.shape[0]):
        for plane in range(planes.shape[1]):
            row_plane, other_planes = planes[word, plane, row], planes[word, plane, start:stop]
            if plane == 0:
                for j in range(stop - start):
                    differ[j] = other_planes[j] ^ row_plane
            else:
                for j in range(stop - start):
                    differ[j] |= other_planes[j] ^ row_plane
        for j in range(stop - start):
            distances[start + j] += ones(differ[j])


def _select(distances, row, indices, sorted_distances, counts, candidates):
    """Write the k nearest rows other than the row itself, ordered by distance, then by index."""
    n, k = len(distances), len(indices)
    counts[:] = 0
    for j in range(0, n, SAMPLED):
        counts[distances[j]] += 1
    # A sample gives a bound that probably has k rows within it; if it has not, the bound is raised.
    bound, within = 0, counts[0]
    while within * SAMPLED < 2 * k and bound < len(counts) - 1:
        bound += 1
        within += counts[bound]
    count = 0
    while count <= k:
        count = 0
        for j in range(n):
            candidates[count] = j
            count += distances[j] <= bound
        bound += 1
    counts[:] = 0
    for entry in range(count):
        if candidates[entry] != row:
            counts[distances[candidates[entry]]] += 1
    slot = 0
    for distance in range(len(counts)):
        slot, counts[distance] = slot + counts[distance], slot
    for entry in range(count):
        j = candidates[entry]
        if j != row:
            slot = counts[distances[j]]
            counts[distances[j]] += 1
            if slot < k:
                indices[slot], sorted_distances[slot] = j, distances[j]


compare, select = jit(_compare), jit(_select)


def _neighbours(planes, longest, first, stop, indices, distances):
    n = planes.shape[2]
    differ = np.zeros(TILE, planes.dtype)
    tile = np.zeros((ROWS, n), distances.dtype)
    counts, candidates = np.zeros(longest + 1, np.int64), np.zeros(n + 1, np.int32)
    for top in range(first, stop, ROWS):
        rows = min(ROWS, stop - top)
        tile[:rows] = 0
        for start in range(0, n, TILE):
            for row in range(rows):
                compare(planes, top + row, start, min(start + TILE, n), differ, tile[row])
        for row in range(rows):
            i = top + row
            select(tile[row], i, indices[i], distances[i], counts, candidates)


neighbours = jit(_neighbours)
"""The nearest of all sequences to some of them, by letters that differ."""


def _halve_mutual(indices, weights, first, stop):
    for i in range(first, stop):
        for edge in range(indices.shape[1]):
            j = indices[i, edge]
            slot = np.searchsorted(indices[j], i)
            if slot < indices.shape[1] and indices[j, slot] == i:
                weights[i, edge] *= weights.dtype.type(0.5)


halve_mutual = jit(_halve_mutual)
"""Halve the weights of edges that go both ways; the neighbours of each node stand in the order of their numbers."""


def _product(indices, weights, x, out):
    out[:] = 0.0
    for i in range(len(indices)):
        total, entry = 0.0, x[i]
        for edge in range(indices.shape[1]):
            j, weight = indices[i, edge], np.float64(weights[i, edge])
            total += weight * x[j]
            out[j] += weight * entry
        out[i] += total


product = jit(_product)
"""(A + A') x, where row i of A has its weights at the columns ``indices[i]``."""


def _components(indices):
    root = np.arange(len(indices))
    count = len(indices)
    for i in range(len(indices)):
        for edge in range(indices.shape[1]):
            a, b = i, np.int64(indices[i, edge])
            while root[a] != a:
                root[a] = root[root[a]]
                a = root[a]
            while root[b] != b:
                root[b] = root[root[b]]
                b = root[b]
            if a != b:
                root[max(a, b)] = min(a, b)
                count -= 1
    return count


components = jit(_components)
"""How many parts a graph has that are not joined."""


def _largest_window(tokens, table, bias, largest, at):
    kernel, hidden = table.shape[0], table.shape[2]
    total = np.empty(hidden, table.dtype)
    for i in range(len(tokens)):
        largest[i] = -np.inf
        at[i] = 0
        for window in range(tokens.shape[1] - kernel + 1):
            for unit in range(hidden):
                total[unit] = bias[unit]
            for offset in range(kernel):
                row = table[offset, tokens[i, window + offset]]
                for unit in range(hidden):
                    total[unit] += row[unit]
            for unit in range(hidden):
                if total[unit] > largest[i, unit] or np.isnan(total[unit]):  # NaN stays, as in the network itself
                    largest[i, unit] = total[unit]
                    at[i, unit] = window


largest_window = jit(_largest_window)
"""The maximum of each unit over the windows of each sequence, and the window of the maximum."""


def _largest_window_backward(tokens, at, grads, table):
    for i in range(len(tokens)):
        for unit in range(at.shape[1]):
            if grads[i, unit] != 0:
                for offset in range(table.shape[0]):
                    table[offset, tokens[i, at[i, unit] + offset], unit] += grads[i, unit]


largest_window_backward = jit(_largest_window_backward)
"""The gradient of the table, given that of each unit's maximum."""


def _first_order(tokens, table, bias, by_unit, readout, offset, first, stop, values, changes):
    hidden, vocab = table.shape[2], table.shape[1]
    largest, at = np.empty((1, hidden), table.dtype), np.empty((1, hidden), np.int16)
    for i in range(first, stop):
        largest_window(tokens[i : i + 1], table, bias, largest, at)
        slopes = changes[i].reshape(-1)
        value = offset
        for unit in range(hidden):
            if not largest[0, unit] <= 0:
                value += readout[unit] * largest[0, unit]
                start = at[0, unit] * vocab
                for entry in range(by_unit.shape[1]):
                    slopes[start + entry] += readout[unit] * by_unit[unit, entry]
        values[i] = value
        for position in range(tokens.shape[1]):
            own_change = changes[i, position, tokens[i, position]]
            for letter in range(vocab):
                changes[i, position, letter] -= own_change


first_order = jit(_first_order)
"""The network's values, and to first order the change by each letter at each place; ``changes`` starts at zero."""
