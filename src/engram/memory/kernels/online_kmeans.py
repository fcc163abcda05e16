"""Online k-means of one sample after another as a numba kernel: ``policies.kmeans`` for batches of one."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from engram.memory.kernels.neighbours import LANES, squared_distance


@njit(cache=True, nogil=True, error_model="numpy", fastmath=LANES)
@no_type_check
def one_by_one(centres, counts, filled, samples, loss, free, published):
    """Let samples join the nearest centre or take a free one; return how many centres are in use.

    Args:
        centres: (clusters, features); changed.
        counts: (clusters,); changed.
        filled: Centres in use, the first.
        samples: (samples, features).
        loss: What every count loses by each sample.
        free: Count up to which a centre is free.
        published: Whether equal samples are not merged, and one that takes a starved centre costs nothing.
    """
    for i in range(samples.shape[0]):
        near, best = 0, np.inf
        for j in range(filled):
            distance = squared_distance(centres, j, samples, i)
            if distance < best:
                near, best = j, distance
        slot = counts.argmin()
        if filled and best == 0 and not published:
            counts[near] += 1
        elif counts[slot] <= free:
            centres[slot], counts[slot] = samples[i], 1
            if published or slot == filled:
                filled = max(filled, slot + 1)
                continue
        else:
            count = max(counts[near], 0.0)
            for f in range(centres.shape[1]):
                centres[near, f] = (count * centres[near, f] + samples[i, f]) / (count + 1)
            counts[near] += 1
        for j in range(counts.size):
            counts[j] -= loss
    return filled
