"""Nearest neighbours and the estimates from their values as numba kernels.

A sum of squares is added up in lanes, several numbers at once. For a large batch, one matrix product gives squared
distances up to rounding; the distance to every key that these cannot rule out is computed again from differences.
Therefore all methods find the same neighbours. Samples do not interact: the results are the same for any number of
threads. Distances are 64-bit numbers; those of 32-bit keys are added up in 32 bits unless their squares underflow or
overflow there. ``i`` and ``j`` are the indices of rows, ``f`` of a feature.
"""

import numpy as np

from engram.numeric.jit import njit

LANES = {"reassoc", "contract", "nsz"}  # sums in any order; NaN and infinity remain
GROUP = 32
MIXER = np.int64(0x9E3779B97F4A7C15 - 2**64)  # odd, the golden ratio
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@njit(inline="always", fastmath=LANES)
def squared_distance(a, i, b, j):
    """The squared distance of row i of a and row j of b."""
    total = a.dtype.type(0)
    for f in range(a.shape[1]):
        difference = a[i, f] - b[j, f]
        total += difference * difference
    return total


@njit(fastmath=LANES)
def wide_squared_distance(a, i, b, j):
    """The squared distance of row i of a and row j of b, added up in 64 bits."""
    total = 0.0
    for f in range(a.shape[1]):
        difference = np.float64(a[i, f]) - np.float64(b[j, f])
        total += difference * difference
    return total


@njit(inline="always")
def exact_distance(a, i, b, j, distance):
    """A squared distance, added up anew if it is out of range; for 32-bit rows finite, and 0 only if they are equal."""
    return distance if SMALLEST <= distance <= LARGEST else wide_squared_distance(a, i, b, j)


@njit(inline="always")
def distance_of(a, i, b, j):
    """The exact squared distance of row i of a and row j of b."""
    return exact_distance(a, i, b, j, np.float64(squared_distance(a, i, b, j)))


@njit(inline="always")
def insert(rows, distances, row, distance):
    """Insert a row among the nearest so far, after those at the same distance; the farthest drops out."""
    position = rows.size - 1
    while position and distance < distances[position - 1]:
        rows[position], distances[position] = rows[position - 1], distances[position - 1]
        position -= 1
    rows[position], distances[position] = row, distance


@njit(cache=True, nogil=True, error_model="numpy", fastmath=LANES)
def nearest(keys, filled, x, sample, rows, distances):
    """Write rows and squared distances of the nearest of the first ``filled`` keys, filled up with -1 and inf."""
    k, too_far = rows.size, np.inf
    rows[:], distances[:] = -1, np.inf
    for j in range(filled):
        distance = np.float64(squared_distance(keys, j, x, sample))
        if too_far <= distance <= LARGEST:  # nearly all; a call for each would take several times as long
            continue
        distance = exact_distance(keys, j, x, sample, distance)
        if distance < distances[k - 1]:
            insert(rows, distances, j, distance)
            too_far = max(distances[k - 1], SMALLEST)


@njit(cache=True, nogil=True, error_model="numpy")
def nearest_of_all(keys, filled, x, tables, rows, distances, first, stop):
    """Write rows and distances, (pairs, k), for some pairs of a sample and a table; see ``exact_neighbours``."""
    for pair in range(first, stop):
        sample, table = divmod(pair, keys.shape[0])
        if tables.size:
            sample, table = pair, tables[pair]
        nearest(keys[table], filled[table], x, sample, rows[pair], distances[pair])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=LANES)
def squares(keys, filled, norms):
    """Write the squared norms of the first ``filled`` keys; return the largest."""
    largest_norm = keys.dtype.type(0)
    for j in range(filled):
        norm = keys.dtype.type(0)
        for f in range(keys.shape[1]):
            norm += keys[j, f] * keys[j, f]
        norms[j] = norm
        largest_norm = max(largest_norm, norm)
    return largest_norm


@njit(cache=True, nogil=True, error_model="numpy", fastmath=LANES)
def refine(keys, norms, largest_norm, slack, products, offset, begin, x, squares, rows, distances, first, stop):
    """Continue the search for the nearest keys in a block of keys whose products with samples are known.

        |x - k|^2 = |k|^2 - 2 x . k + |x|^2, up to slack (|x|^2 + largest_norm) and what underflows

    Args:
        keys: Keys of one table.
        norms: |k|^2 of each key.
        largest_norm: Largest |k|^2.
        slack: Relative rounding error of a distance computed from products.
        products: x . k of samples from ``begin`` and keys from ``offset`` on.
        offset: Row of the block's first key.
        begin: Index of the block's first sample.
        x: All samples.
        squares: |x|^2 of each sample.
        rows: Nearest rows so far, (samples, k), which are updated.
        distances: Their squared distances.
        first: First row of ``products`` to process.
        stop: End of the rows to process, exclusive.
    """
    k, block = rows.shape[1], products.shape[1]
    underflow = x.dtype.type(8 * x.shape[1] * SMALLEST)
    for i in range(first, stop):
        sample = begin + i
        row, distance = rows[sample], distances[sample]
        shift = x.dtype.type(slack * (squares[sample] + largest_norm)) + underflow - squares[sample]
        bound = x.dtype.type(distance[k - 1] + shift)
        for start in range(0, block, GROUP):
            group_stop, n_near = min(start + GROUP, block), 0
            for j in range(start, group_stop):
                n_near += norms[offset + j] - 2 * products[i, j] < bound
            if not n_near:
                continue
            for j in range(start, group_stop):
                if norms[offset + j] - 2 * products[i, j] < bound:
                    exact = distance_of(keys, offset + j, x, sample)
                    if exact < distance[k - 1]:
                        insert(row, distance, offset + j, exact)
                        bound = x.dtype.type(distance[k - 1] + shift)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=LANES)
def nearest_among(keys, candidates, x, rows, distances):
    """Write the nearest rows among the candidates of each sample; these ascend, and negative ones are skipped."""
    k = rows.shape[1]
    rows[:], distances[:] = -1, np.inf
    for sample in range(x.shape[0]):
        too_far = np.inf
        for c in range(candidates.shape[1]):
            j = candidates[sample, c]
            if j < 0:
                continue
            distance = np.float64(squared_distance(keys, j, x, sample))
            if too_far <= distance <= LARGEST:
                continue
            distance = exact_distance(keys, j, x, sample, distance)
            if distance < distances[sample, k - 1]:
                insert(rows[sample], distances[sample], j, distance)
                too_far = max(distances[sample, k - 1], SMALLEST)


@njit(cache=True, nogil=True, error_model="numpy")
def estimate(values, rows, distances, tables, idw, delta, exact, shared, empty, out):
    """Out = sum_i w_i v_i / sum_i w_i of each pair's neighbours, w_i = 1 / (d_i^2 + delta) or, without ``idw``, 1.

    ``delta`` -1 is the mean squared distance; ``exact``: a neighbour at distance 0 answers alone, or, if ``shared``,
    the mean of all at distance 0; ``empty`` is the answer without neighbours.
    """
    for pair in range(rows.shape[0]):
        table = tables[pair] if tables.size else pair % values.shape[0]
        row, distance = rows[pair], distances[pair]
        count = 0
        while count < row.size and row[count] >= 0:
            count += 1
        if not count:
            out[pair] = empty
            continue
        if exact and distance[0] == 0:
            same = 1
            while shared and same < count and distance[same] == 0:
                same += 1
            for f in range(values.shape[2]):
                mean = 0.0
                for i in range(same):
                    mean += values[table, row[i], f] / same
                out[pair, f] = mean
            continue
        offset = delta
        if delta < 0:
            offset = 0.0
            for i in range(count):
                offset += distance[i] / count
        total = 0.0
        out[pair] = 0
        for i in range(count):
            weight = 1.0
            if idw and distance[0] + offset == 0:  # infinite weights: only the equal keys count
                weight = 1.0 if distance[i] == 0 else 0.0
            elif idw:
                weight = 1 / (distance[i] + offset)
            total += weight
            for f in range(values.shape[2]):
                out[pair, f] += weight * values[table, row[i], f]
        is_finite = SMALLEST <= total <= LARGEST
        for f in range(values.shape[2]):
            is_finite &= np.isfinite(out[pair, f])
        if is_finite:
            for f in range(values.shape[2]):
                out[pair, f] /= total
            continue
        # Sums in the values' precision overflow or vanish: add the shares of weights relative to the nearest one's.
        total, nearest_added = 0.0, distance[0] + offset
        for i in range(count):
            total += relative_weight(distance[i] + offset, nearest_added) if idw else 1.0
        for f in range(values.shape[2]):
            mean = 0.0
            for i in range(count):
                weight = relative_weight(distance[i] + offset, nearest_added) if idw else 1.0
                mean += weight / total * values[table, row[i], f]
            out[pair, f] = mean


@njit(inline="always")
def relative_weight(distance, nearest):
    """The inverse of a distance, relative to that of the nearest neighbour, which may be 0."""
    return nearest / distance if distance > 0 else 1.0


@njit(cache=True, nogil=True)
def all_finite(x):
    """Return whether no number of a matrix is infinite or NaN."""
    for i in range(x.shape[0]):
        for f in range(x.shape[1]):
            if not np.isfinite(x[i, f]):
                return False
    return True


@njit(cache=True, nogil=True)
def use(coef, clock, rows, tables):
    """Set ``coef``, (tables, capacity), of the rows that answered to the time of their look-up, one pair at a time."""
    for pair in range(rows.shape[0]):
        table = tables[pair] if tables.size else pair % coef.shape[0]
        clock[table] += 1
        for row in rows[pair]:
            if row >= 0:
                coef[table, row] = clock[table]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=LANES)
def online_kmeans(centres, counts, filled, samples, loss, free, published):
    """Let samples join the nearest centre or take a free one; return the number of centres in use, the first ones.

        centre <- (c centre + x) / (c + 1),   c <- c + 1,   then all c <- c - loss max(0, sum of c - centres)

    Args:
        centres: (centres, features), updated.
        counts: c of each centre, updated.
        filled: Number of centres in use, the first ones.
        samples: x in rows.
        loss: Share of the excess of all counts that each count loses.
        free: Largest count at which a centre is free.
        published: Every count loses ``loss`` at each sample that takes no free centre; a sample that equals a centre is
            not merged.
    """
    for i in range(samples.shape[0]):
        closest, best, too_far = 0, np.inf, np.inf
        for j in range(filled):
            distance = np.float64(squared_distance(centres, j, samples, i))
            if too_far <= distance <= LARGEST:
                continue
            distance = exact_distance(centres, j, samples, i, distance)
            if distance < best:
                closest, best, too_far = j, distance, max(distance, SMALLEST)
        slot = counts.argmin()
        if filled and best == 0 and not published:
            counts[closest] += 1
        elif counts[slot] <= free:
            centres[slot], counts[slot] = samples[i], 1
            filled = max(filled, slot + 1)
            if published:
                continue
        else:
            count = max(counts[closest], 0.0)
            for f in range(centres.shape[1]):
                centres[closest, f] = (count * centres[closest, f] + samples[i, f]) / (count + 1)
            counts[closest] += 1
        counts -= loss if published else loss * max(0.0, counts.sum() - counts.size)
    return filled


@njit(inline="always")
def hash_of(x, bits, i):
    """The 64-bit hash of row i, the same for 0 and -0: a sum of mixed numbers, several of them at once."""
    code = np.int64(0)
    for f in range(x.shape[1]):
        word = np.int64(bits[i, f]) if x[i, f] != 0 else np.int64(0)
        word = (word + f * MIXER) * MIXER
        code += (word ^ (word >> 32)) * MIXER  # high bits, which depend on all others, reach the low ones
    return code ^ (code >> 32)


@njit(inline="always")
def slot_of(slots, hashes, keys, x, i, code):
    """The slot of the row that equals row i of x, or the empty slot where it belongs; NaN counts as equal."""
    slot = code & (slots.size - 1)
    while slots[slot] >= 0:
        row = slots[slot]
        if hashes[row] == code:
            f = 0
            while f < x.shape[1] and (keys[row, f] == x[i, f] or (np.isnan(keys[row, f]) and np.isnan(x[i, f]))):
                f += 1
            if f == x.shape[1]:
                break
        slot = (slot + 1) & (slots.size - 1)
    return slot


@njit(cache=True, nogil=True)
def find_keys(slots, hashes, keys, x, bits, matches):
    """Write the row that equals each row of x, or -1."""
    for i in range(x.shape[0]):
        matches[i] = slots[slot_of(slots, hashes, keys, x, i, hash_of(x, bits, i))]


@njit(cache=True, nogil=True)
def add_keys(slots, hashes, keys, bits, rows):
    """Insert rows, only the lowest of equal ones; return whether any are equal."""
    twins = False
    for row in rows:
        hashes[row] = hash_of(keys, bits, row)
        slot = slot_of(slots, hashes, keys, keys, row, hashes[row])
        twins |= slots[slot] >= 0
        slots[slot] = row if slots[slot] < 0 else min(row, slots[slot])
    return twins


@njit(cache=True, nogil=True)
def remove_keys(slots, hashes, rows):
    """Remove rows, and move back later rows that an empty slot would hide; return whether any row was present."""
    mask, removed = slots.size - 1, False
    for row in rows:
        hole = hashes[row] & mask
        while slots[hole] >= 0 and slots[hole] != row:
            hole = (hole + 1) & mask
        if slots[hole] < 0:
            continue
        removed, slot = True, (hole + 1) & mask
        while slots[slot] >= 0:
            if (slot - hashes[slots[slot]]) & mask >= (slot - hole) & mask:
                slots[hole], hole = slots[slot], slot
            slot = (slot + 1) & mask
        slots[hole] = -1
    return removed
