"""Iterative hard thresholding and the dictionary gradient as numba kernels that visit only nonzero entries.

A step of IHT is  x <- H(x - step (G x - b))  with the Gram matrix G of the atoms and b their correlations with the
sample. A code has few nonzero entries, so that G x is a sum of few rows of G: atoms x support multiplications in place
of atoms x atoms. Each sample goes through all its iterations before the next, with its code in the first-level cache;
for the gradient every thread has its own features and adds the samples in order. The results are therefore the
same, bit for bit, for any number of threads. ``i`` and ``j`` are the indices of atoms, ``k`` of an entry of a support,
``f`` of a feature.
"""

import numpy as np

from engram.numeric.jit import inline, njit


@inline(forceinline=False)
def add_rows(gram, support, values, count, step, v):
    """V <- v - step sum_k values_k gram[support_k], k < count, four rows at once."""
    k = 0
    while k + 4 <= count:
        a, b, c, d = gram[support[k]], gram[support[k + 1]], gram[support[k + 2]], gram[support[k + 3]]
        p, q = step * values[k], step * values[k + 1]
        r, s = step * values[k + 2], step * values[k + 3]
        for j in range(v.size):
            v[j] -= (p * a[j] + q * b[j]) + (r * c[j] + s * d[j])
        k += 4
    while k < count:
        a, p = gram[support[k]], step * values[k]
        for j in range(v.size):
            v[j] -= p * a[j]
        k += 1


@inline(forceinline=False)
def solve(gram, correlation, support, count, smallest, solution):
    """Solve G_SS solution = b_S for the first ``count`` atoms of a support S by Cholesky; False if it is singular.

    G is ``gram`` and b ``correlation``; the equations are singular if a pivot is not above ``smallest`` times its
    diagonal entry.
    """
    L = np.empty((count, count), gram.dtype)
    for i in range(count):
        for j in range(i, count):
            L[i, j] = gram[support[i], support[j]]
        solution[i] = correlation[support[i]]
    # L holds the upper factor, row by row, so that the innermost loops run along memory.
    for i in range(count):
        pivot = L[i, i]
        if not pivot > smallest * gram[support[i], support[i]]:
            return False
        root = np.sqrt(pivot)
        for j in range(i, count):
            L[i, j] /= root
        for k in range(i + 1, count):
            factor = L[i, k]
            for j in range(k, count):
                L[k, j] -= factor * L[i, j]
        solution[i] /= root
        for k in range(i + 1, count):
            solution[k] -= L[i, k] * solution[i]
    for i in range(count - 1, -1, -1):
        for k in range(i + 1, count):
            solution[i] -= L[i, k] * solution[k]
        solution[i] /= L[i, i]
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def encode(gram, correlations, settings, smallest, excessive, features, search, first, stop):
    """Find the codes of the samples from ``first`` to ``stop``.

        x <- H(x - step (G x - b)),   H(v) = v where |v| > threshold, else 0

    After ``settings.patience`` iterations with the same support, the least-squares solution on it replaces the code; if
    the next iteration keeps the support, the code is finished, otherwise the patience is doubled.

    Args:
        gram: G, (atoms, atoms).
        correlations: b of each sample, (samples, atoms).
        settings: ``iht.Settings``, with numbers in the dtype of the Gram matrix.
        smallest: Pivot, as a share of its diagonal entry, below which equations are singular.
        excessive: A code this many times larger than its correlations is given up.
        features: Number of features; larger supports have no least-squares solution.
        search: ``iht.Search`` of zeros, which is written.
        first: Index of the first sample.
        stop: End of the samples, exclusive.
    """
    codes, iterations, converged, grown = search
    atoms = gram.shape[0]
    zero = gram.dtype.type(0)
    v, values, next_values = np.empty(atoms, gram.dtype), np.empty(atoms, gram.dtype), np.empty(atoms, gram.dtype)
    support, next_support = np.empty(atoms, np.int64), np.empty(atoms, np.int64)
    for sample in range(first, stop):
        b = correlations[sample]
        count, limit = 0, zero
        for j in range(atoms):
            limit += b[j] * b[j]
            if abs(b[j]) >= settings.start and b[j] != zero:
                support[count], values[count] = j, b[j]
                count += 1
        limit *= excessive * excessive
        least_squares, unchanged, done, wait, solved = settings.patience > 0, 0, 0, settings.patience, False
        while done < settings.max_iter and not converged[sample] and not grown[sample]:
            for j in range(atoms):
                v[j] = settings.step * b[j]
            add_rows(gram, support, values, count, settings.step, v)
            for k in range(count):
                v[support[k]] += values[k]
            done += 1
            n = 0
            for j in range(atoms):
                if abs(v[j]) > settings.threshold:
                    next_support[n], next_values[n] = j, v[j]
                    n += 1
            # The squared change, by a merge of the two supports, which are sorted.
            change, size, k, same_support = zero, zero, 0, n == count
            for i in range(n):
                while k < count and support[k] < next_support[i]:
                    change += values[k] * values[k]
                    same_support = False
                    k += 1
                old_value = zero
                if k < count and support[k] == next_support[i]:
                    old_value = values[k]
                    k += 1
                else:
                    same_support = False
                change += (next_values[i] - old_value) * (next_values[i] - old_value)
                size += next_values[i] * next_values[i]
            while k < count:
                change += values[k] * values[k]
                k += 1
            support, next_support = next_support, support
            values, next_values = next_values, values
            count = n
            unchanged = unchanged + 1 if same_support else 0
            if not size <= limit:
                grown[sample] = True
            elif solved and same_support:
                converged[sample] = True
            elif solved:
                solved = False
                wait *= 2
            elif least_squares and unchanged >= wait:
                for k in range(count):
                    next_support[k] = support[k]
                n_kept = count
                while True:
                    if n_kept > features or not solve(gram, b, next_support, n_kept, smallest, next_values):
                        least_squares = False
                        break
                    n = 0
                    for k in range(n_kept):
                        if not settings.prune or abs(next_values[k]) > settings.threshold:
                            next_support[n], next_values[n] = next_support[k], next_values[k]
                            n += 1
                    if n == n_kept:
                        break
                    n_kept = n
                if least_squares:
                    count = n_kept
                    support, next_support = next_support, support
                    values, next_values = next_values, values
                    solved, converged[sample] = True, not settings.prune
            elif not least_squares and change <= settings.tol * settings.tol * size:
                converged[sample] = True
        for k in range(count):
            codes[sample, support[k]] = values[k]
        iterations[sample] = done


@njit(cache=True, nogil=True, error_model="numpy")
def gradient(dictionary, samples, codes, residuals, total, first, stop):
    """Residuals <- code x dictionary - sample and total += sum of sign(code) residual^T, for features first .. stop."""
    atoms = dictionary.shape[0]
    support = np.empty(atoms, np.int64)
    for sample in range(samples.shape[0]):
        residual = residuals[sample, first:stop]
        for f in range(stop - first):
            residual[f] = -samples[sample, first + f]
        count = 0
        for i in range(atoms):
            value = codes[sample, i]
            if value != 0:
                support[count] = i
                count += 1
                atom = dictionary[i, first:stop]
                for f in range(stop - first):
                    residual[f] += value * atom[f]
        for k in range(count):
            row = total[support[k], first:stop]
            if codes[sample, support[k]] > 0:
                for f in range(stop - first):
                    row[f] += residual[f]
            else:
                for f in range(stop - first):
                    row[f] -= residual[f]
