"""The search for an alignment of two operators, compiled: spectral signs, Jacobi sweeps, Barzilai-Borwein steps.

An operator is given by its symmetric part S and its antisymmetric part K. What is aligned stands first (A, fixed); the
other one (B) is carried along as M = C B C^T. All functions change M and C in place.
"""

import numpy as np
from numba import njit

JIT = {"cache": True, "nogil": True, "fastmath": {"contract", "reassoc", "nsz", "arcp"}}
ANGLES = 12
GRID = np.arange(ANGLES) * (2 * np.pi / ANGLES)
COS, SIN, COS2, SIN2 = np.cos(GRID), np.sin(GRID), np.cos(2 * GRID), np.sin(2 * GRID)
NEWTON = 4
MEMORY = 5  # values that a step of Barzilai and Borwein is compared with
SETTLED = 1e-3  # share of what is left to gain below which a sweep is the last


@njit(**JIT)
def overlap(SA, KA, S, K):
    """<A, M>."""
    total = 0.0
    for i in range(len(S)):
        for j in range(len(S)):
            total += SA[i, j] * S[i, j] + KA[i, j] * K[i, j]
    return total


@njit(**JIT)
def residual(SA, KA, S, K):
    """||A - M||_F, without the cancellation of 1 - <A, M>."""
    total = 0.0
    for i in range(len(S)):
        for j in range(len(S)):
            total += (SA[i, j] - S[i, j]) ** 2 + (KA[i, j] - K[i, j]) ** 2
    return np.sqrt(total)


@njit(**JIT)
def best_angle(a1, b1, a2, b2):
    """The angle t that maximises a1 cos t + b1 sin t + a2 cos 2t + b2 sin 2t, and the value there."""
    best, at = -np.inf, 0
    for k in range(ANGLES):
        value = a1 * COS[k] + b1 * SIN[k] + a2 * COS2[k] + b2 * SIN2[k]
        if value > best:
            best, at = value, k
    t = GRID[at]
    for _ in range(NEWTON):
        c, s = np.cos(t), np.sin(t)
        c2, s2 = c * c - s * s, 2 * s * c
        slope = -a1 * s + b1 * c - 2 * a2 * s2 + 2 * b2 * c2
        bend = -a1 * c - b1 * s - 4 * a2 * c2 - 4 * b2 * s2
        if bend >= 0:
            break
        step = slope / bend
        t -= min(max(step, -0.5), 0.5)
        if abs(step) < 1e-9:
            break
    value = a1 * np.cos(t) + b1 * np.sin(t) + a2 * np.cos(2 * t) + b2 * np.sin(2 * t)
    return (t, value) if value >= best else (GRID[at], best)


@njit(**JIT)
def turn(S, K, C, i, j, c, s, sign):
    """Rotate the plane (i, j), after a change of sign of j where ``sign`` is -1."""
    n = len(S)
    for k in range(n):
        x, y = S[i, k], sign * S[j, k]
        S[i, k], S[j, k] = c * x - s * y, s * x + c * y
        x, y = K[i, k], sign * K[j, k]
        K[i, k], K[j, k] = c * x - s * y, s * x + c * y
        x, y = C[i, k], sign * C[j, k]
        C[i, k], C[j, k] = c * x - s * y, s * x + c * y
    for row in (i, j):  # the block of the plane, from the right
        x, y = S[row, i], sign * S[row, j]
        S[row, i], S[row, j] = c * x - s * y, s * x + c * y
        x, y = K[row, i], sign * K[row, j]
        K[row, i], K[row, j] = c * x - s * y, s * x + c * y
    for k in range(n):
        S[k, i], S[k, j] = S[i, k], S[j, k]
        K[k, i], K[k, j] = -K[i, k], -K[j, k]
    S[i, j] = S[j, i]
    K[i, i], K[j, j] = 0.0, 0.0
    K[i, j] = -K[j, i]


@njit(**JIT)
def sweep(SA, KA, S, K, C, reflect):
    """Maximise <A, M> over every plane in turn, by rotations and reflections; return what is gained."""
    n, gained = len(S), 0.0
    for i in range(n - 1):
        for j in range(i + 1, n):
            ii, jj, ij, ji = 0.0, 0.0, 0.0, 0.0
            for k in range(n):
                ii += SA[i, k] * S[i, k] + KA[i, k] * K[i, k]
                jj += SA[j, k] * S[j, k] + KA[j, k] * K[j, k]
                ij += SA[i, k] * S[j, k] + KA[i, k] * K[j, k]
                ji += SA[j, k] * S[i, k] + KA[j, k] * K[i, k]
            # Without the block of the plane, which turns on both sides.
            p, q, r = S[i, i], S[j, j], S[i, j]
            a, d, b = SA[i, i], SA[j, j], SA[i, j]
            ka, km = KA[i, j], K[i, j]
            ii -= a * p + b * r + ka * km
            jj -= b * r + d * q + ka * km
            ij -= a * r + b * q
            ji -= b * p + d * r
            half, turned = (a - d) * (p - q) / 2, 2 * b * r
            fixed, skew = (a + d) * (p + q) / 2, 2 * ka * km
            now = 2 * (ii + jj) + half + turned + fixed + skew
            t, best = best_angle(2 * (ii + jj), 2 * (ji - ij), half + turned, b * (p - q) - (a - d) * r)
            best += fixed + skew
            sign = 1.0
            if reflect:
                u, value = best_angle(2 * (ii - jj), 2 * (ji + ij), half - turned, b * (p - q) + (a - d) * r)
                value += fixed - skew
                if value > best:
                    t, best, sign = u, value, -1.0
            if best > now + 1e-15:
                turn(S, K, C, i, j, np.cos(t), np.sin(t), sign)
                gained += best - now
    return gained


@njit(**JIT)
def inverse_of_cayley(G, scale, out):
    """(I - scale G / 2)^-1 by elimination; without pivots, since its symmetric part is I."""
    n = len(G)
    for i in range(n):
        for j in range(n):
            out[i, j] = -0.5 * scale * G[i, j]
        out[i, i] = 1.0
    for k in range(n):
        pivot = 1.0 / out[k, k]
        out[k, k] = 1.0
        for j in range(n):
            out[k, j] *= pivot
        for i in range(n):
            if i != k:
                factor = out[i, k]
                out[i, k] = 0.0
                for j in range(n):
                    out[i, j] -= factor * out[k, j]


@njit(**JIT)
def climb(SA, KA, S, K, C, tol, iterations):
    """Ascend <A, M> on the group by Cayley steps of Barzilai and Borwein's length; return steps taken.

    Stops where the gradient is below ``tol``. The best value of the last few is what a step must not fall below.
    """
    n = len(S)
    G, last, Q, work, trial_S, trial_K = (
        np.zeros((n, n)), np.zeros((n, n)), np.empty((n, n)), np.empty((n, n)), np.empty((n, n)), np.empty((n, n)),
    )  # fmt: skip
    recent = np.full(MEMORY, -np.inf)
    value, step, taken = overlap(SA, KA, S, K), float(n), 0
    before = 0.0
    for iteration in range(iterations):
        recent[iteration % MEMORY] = value
        np.dot(SA, S, Q)
        np.dot(KA, K, work)
        norm, inner, change = 0.0, 0.0, 0.0
        for i in range(n):
            for j in range(n):
                G[i, j] = Q[i, j] - work[i, j] - Q[j, i] + work[j, i]
                norm += G[i, j] ** 2
                difference = last[i, j] - G[i, j]
                inner += last[i, j] * difference
                change += difference * difference
        if norm <= tol * tol:
            break
        if iteration > 0:  # the two step lengths in turn, of a last step of step * last
            if inner > 0:
                step *= before / inner if iteration % 2 else inner / change
            else:
                step *= 2.0
        step, before = min(max(step, 1e-3), 2.0 / np.sqrt(norm) + 1e-3), norm
        lowest = recent[0]
        for k in range(1, min(iteration + 1, MEMORY)):
            lowest = min(lowest, recent[k])
        for _ in range(20):
            inverse_of_cayley(G, step, Q)
            for i in range(n):
                for j in range(n):
                    Q[i, j] *= 2.0
                Q[i, i] -= 1.0
            np.dot(Q, S, work)
            np.dot(work, Q.T, trial_S)
            np.dot(Q, K, work)
            np.dot(work, Q.T, trial_K)
            found = overlap(SA, KA, trial_S, trial_K)
            if found >= lowest + 1e-4 * step * norm / 2 or step * norm < 1e-15:
                break
            step *= 0.25
        for i in range(n):
            for j in range(n):
                S[i, j] = 0.5 * (trial_S[i, j] + trial_S[j, i])
                K[i, j] = 0.5 * (trial_K[i, j] - trial_K[j, i])
                last[i, j] = G[i, j]
        np.dot(Q, C, work)
        C[:] = work
        value, taken = found, taken + 1
    return taken


@njit(**JIT)
def signs(A, B, d):
    """Write into d the signs that nearly maximise sum_ij A_ij B_ij d_i d_j.

    Those of the leading eigenvector, then single changes of sign while they help.
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
        worst, at = -1e-14, -1
        for i in range(n):
            field = 0.0
            for j in range(n):
                field += W[i, j] * d[j]
            if d[i] * field < worst:
                worst, at = d[i] * field, i
        if at < 0:
            break
        d[at] = -d[at]


@njit(**JIT)
def orient(U, V, A, B, d):
    """Change the sign that costs least where U diag(d) V^T is a reflection."""
    n = len(d)
    side = np.linalg.det(U) * np.linalg.det(V)
    for i in range(n):
        side *= d[i]
    if side > 0:
        return
    least, at = np.inf, 0
    for i in range(n):
        cost = 0.0
        for j in range(n):
            if j != i:
                cost += (A[i, j] * B[i, j] + A[j, i] * B[j, i]) * d[i] * d[j]
        if cost < least:
            least, at = cost, i
    d[at] = -d[at]


@njit(**JIT)
def place(A, C, S, K, work):
    """Write the parts of C A C^T."""
    np.dot(C, A, work)
    M = np.dot(work, C.T)
    for i in range(len(A)):
        for j in range(len(A)):
            S[i, j] = 0.5 * (M[i, j] + M[j, i])
            K[i, j] = 0.5 * (M[i, j] - M[j, i])


@njit(**JIT)
def settle(SA, KA, S, K, C, reflect, sweeps):
    """Sweep until little is gained; return <A, M>."""
    value = overlap(SA, KA, S, K)
    for _ in range(sweeps):
        gained = sweep(SA, KA, S, K, C, reflect)
        value += gained
        if gained <= SETTLED * (1.0 - value):
            break
    return value


@njit(**JIT)
def align(A, bases_A, words_A, B, bases_B, words_B, planes, angles, bound, reflect, sweeps, tol, iterations, C):
    """Write into C the best alignment found, of C B C^T with A; return ||A - C B C^T||_F.

    From each pair of bases the start of spectral signs, settled by sweeps; then the best one is changed by a few
    rotations and settled again and again, and kept where it is better; last, the best is polished. Stops at the bound.
    """
    n = len(A)
    identity, SA, KA, S, K, best_S, best_K, trial, work = np.eye(n), *np.empty((8, n, n))
    d = np.empty(n)
    place(A, identity, SA, KA, work)
    ceiling, best = 1.0 - 0.5 * bound * bound - 1e-14, -2.0
    for start in range(len(bases_A)):
        signs(words_A[start], words_B[start], d)
        if not reflect:
            orient(bases_A[start], bases_B[start], words_A[start], words_B[start], d)
        np.dot(bases_A[start] * d, bases_B[start].T, trial)
        place(B, trial, S, K, work)
        value = settle(SA, KA, S, K, trial, reflect, sweeps)
        if value > best:
            best = value
            C[:], best_S[:], best_K[:] = trial, S, K
        if best >= ceiling:
            break
    for restart in range(len(planes)):
        if best >= ceiling:
            break
        trial[:], S[:], K[:] = C, best_S, best_K
        for move in range(planes.shape[1]):
            t = angles[restart, move]
            turn(S, K, trial, planes[restart, move, 0], planes[restart, move, 1], np.cos(t), np.sin(t), 1.0)
        value = settle(SA, KA, S, K, trial, reflect, sweeps)
        if value > best + 1e-12:
            best = value
            C[:], best_S[:], best_K[:] = trial, S, K
    place(B, C, S, K, work)
    climb(SA, KA, S, K, C, tol, iterations)
    place(B, C, S, K, work)
    return residual(SA, KA, S, K)


@njit(**JIT)
def align_pairs(
    pairs, operators, bases, words, planes, angles, bounds, reflect, sweeps, tol, iterations, distances, transforms
):
    """Align the operators of each pair; equal ones are at a distance of exactly 0."""
    for number in range(len(pairs)):
        i, j = pairs[number]
        if (operators[i] == operators[j]).all():
            distances[number], transforms[number] = 0.0, np.eye(operators.shape[1])
        else:
            distances[number] = align(
                operators[i], bases[i], words[i], operators[j], bases[j], words[j], planes, angles, bounds[number],
                reflect, sweeps, tol, iterations, transforms[number],
            )  # fmt: skip
