"""Compiled steps of the search for an alignment of two operators: starts from spectral signs, and gradient ascent.

A and B have norm 1; M = C B C^T is updated together with C, and both are changed in place.
"""

import numpy as np

from engram.numeric.jit import njit

compiled = njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
MEMORY = 5  # number of recent values; a step must not fall below the lowest of them
ROUNDS = (1e-2, 1e-3, 1e-4)  # gradient norms at which the best quarter of the starts continues
ATTAINED = 1e-14  # tolerance, for rounding errors


@compiled
def overlap(A, M):
    """<A, M>."""
    total = 0.0
    for i in range(len(A)):
        for j in range(len(A)):
            total += A[i, j] * M[i, j]
    return total


@compiled
def cayley(G, scale, Q):
    """Write Q = (I - X)^-1 (I + X), X = scale G / 2, by elimination; X is antisymmetric, so no pivoting is needed."""
    n = len(G)
    for i in range(n):
        for j in range(n):
            Q[i, j] = -0.5 * scale * G[i, j]
        Q[i, i] = 1.0
    for k in range(n):
        pivot = 1.0 / Q[k, k]
        Q[k, k] = 1.0
        for j in range(n):
            Q[k, j] *= pivot
        for i in range(n):
            if i != k:
                factor = Q[i, k]
                Q[i, k] = 0.0
                for j in range(n):
                    Q[i, j] -= factor * Q[k, j]
    for i in range(n):
        for j in range(n):
            Q[i, j] *= 2.0
        Q[i, i] -= 1.0


@compiled
def climb(A, M, C, tol, iterations):
    """Ascend <A, M> on the orthogonal group until the norm of the gradient is ``tol``; return <A, M>.

        X = A M^T - M^T A,   G = (X - X^T) / 2,   Q = cayley(step G),   M <- Q M Q^T,   C <- Q C

    Step lengths alternate between the two of Barzilai and Borwein; no step may go below the lowest recent value.
    """
    n = len(A)
    G, last_G, Q, work, trial = np.empty((n, n)), np.zeros((n, n)), np.empty((n, n)), np.empty((n, n)), np.empty((n, n))
    recent = np.full(MEMORY, np.inf)
    value, trial_value, step, last_norm = overlap(A, M), 0.0, float(n), 0.0
    for iteration in range(iterations):
        recent[iteration % MEMORY] = value
        np.dot(A, M.T, Q)
        np.dot(M.T, A, work)
        norm, inner, change = 0.0, 0.0, 0.0
        for i in range(n):
            for j in range(n):
                G[i, j] = 0.5 * (Q[i, j] - work[i, j] - Q[j, i] + work[j, i])
                difference = last_G[i, j] - G[i, j]
                norm += G[i, j] * G[i, j]
                inner += last_G[i, j] * difference
                change += difference * difference
        if norm <= tol * tol:
            break
        if iteration > 0:
            if inner > 0:
                step *= last_norm / inner if iteration % 2 else inner / change
            else:
                step *= 2.0
        step, last_norm = min(max(step, 1e-3), 2.0 / np.sqrt(norm) + 1e-3), norm
        lowest = recent.min()
        for _ in range(20):
            cayley(G, step, Q)
            np.dot(Q, M, work)
            np.dot(work, Q.T, trial)
            trial_value = overlap(A, trial)
            if trial_value >= lowest + 5e-5 * step * norm or step * norm < 1e-15:
                break
            step *= 0.25
        np.dot(Q, C, work)
        value = trial_value
        for i in range(n):  # copies of whole arrays take seconds to compile
            for j in range(n):
                C[i, j], M[i, j], last_G[i, j] = work[i, j], trial[i, j], G[i, j]
    return value


@compiled
def signs(A, B, reflect, side, d):
    """Write into d the signs that nearly maximise sum_ij A_ij B_ij d_i d_j.

    Start from the signs of the leading eigenvector, then flip single signs as long as this helps. Without
    ``reflect``, ``side`` times the product of d must be 1; if not, flip the sign that lowers the sum least.
    """
    n = len(A)
    W = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            W[i, j] = A[i, j] * B[i, j] + A[j, i] * B[j, i]
        W[i, i] = 0.0
    vectors = np.linalg.eigh(W)[1]
    for i in range(n):
        d[i] = 1.0 if vectors[i, n - 1] >= 0 else -1.0
    for _ in range(n * n):
        fields = d * (W @ d)
        index = fields.argmin()
        if fields[index] >= -ATTAINED:
            break
        d[index] = -d[index]
    if not reflect and side * d.prod() < 0:
        index = (d * (W @ d)).argmin()
        d[index] = -d[index]


@compiled
def climb_all(system_A, system_B, sides, random_starts, ceiling, reflect, iterations, results):
    """Climb a little from each start; return the index of the first that attains the ceiling, or -1.

        maximise <A, C B C^T> over orthogonal C

    Args:
        system_A: A, its bases, and A in each of these bases.
        system_B: B, its bases, and B in each of these bases.
        sides: Products of the determinants of the bases, 1 or -1.
        random_starts: Orthogonal matrices to start from, after those from spectral signs, one for each pair of bases.
        ceiling: Upper bound of <A, C B C^T>.
        reflect: Whether C may be a reflection.
        iterations: Maximum number of iterations of one climb.
        results: Arrays that receive C, C B C^T and <A, C B C^T> of each start.
    """
    A, bases_A, words_A = system_A
    B, bases_B, words_B = system_B
    transforms, products, values = results
    words, d = len(bases_A), np.empty(len(A))
    for start in range(len(values)):
        if start < words:
            signs(words_A[start], words_B[start], reflect, sides[start], d)
            np.dot(bases_A[start] * d, bases_B[start].T, transforms[start])
        else:
            for i in range(len(A)):
                for j in range(len(A)):
                    transforms[start, i, j] = random_starts[start - words, i, j]
        np.dot(np.dot(transforms[start], B), transforms[start].T, products[start])
        values[start] = climb(A, products[start], transforms[start], ROUNDS[0], iterations)
        if values[start] >= ceiling:
            return start
    return -1


@compiled
def remainder(A, B, C):
    """||A - C B C^T||_F."""
    return np.linalg.norm(A - C @ B @ C.T)
