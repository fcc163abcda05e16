"""The distance between two operators up to an orthogonal change of coordinates (Procrustes over vector fields)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, Unpack

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from joblib import effective_n_jobs
from scipy import linalg

from engram import checks
from engram.analysis.similarity import kernels
from engram.numeric.threads import in_ranges

Metric = Annotated[Any, Literal["angular", "euclidean", "squared"]]  # anything else is refused by name
Operator = Float[np.ndarray, "_ _"]  # square, all of one size; others are refused by name
Operators = Float[np.ndarray, "_ _ _"] | Sequence[Operator]
RANDOM_WORDS = 2
SURVIVORS = 4  # one in this many starts continues to the next round
GRADIENT = 1e-8  # gradient norm at which the ascent from the best start ends
ITERATIONS = 500  # maximum of one ascent
CHUNK = 32  # pairs, for each thread, between two checks of the time


class Alignment(NamedTuple):
    """The best alignment found of two operators: the orthogonal ``transform`` C that brings C B C^T close to A.

    No alignment has a distance below ``bound``.
    """

    distance: float
    bound: float
    transform: Operator


class OperatorComparison(NamedTuple):
    """Distances between the operators of two lists, (systems, others).

    Attributes:
        distances: Distance after the best alignment found, and so an upper bound of the true distance.
        bounds: Lower bound of the true distance.
        refined: Whether the search was completed; if not, the distance is that of the best start.
    """

    distances: Float[np.ndarray, "systems others"]
    bounds: Float[np.ndarray, "systems others"]
    refined: Bool[np.ndarray, "systems others"]


class Starts(TypedDict, total=False):
    """Settings of the search for an alignment; ``operator_distance`` explains them."""

    group: Annotated[Any, Literal["O", "SO"]]
    restarts: int | None
    seed: int


def operator_distance(A: Operator, B: Operator, metric: Metric = "angular", **starts: Unpack[Starts]) -> float:
    """The distance between two operators up to an orthogonal change of coordinates.

        theta(A, B) = min over C in O(n) of arccos <A, C B C^T>,  A and B of Frobenius norm 1      "angular", in [0, pi]
        d(A, B) = min over C of ||A - C B C^T||_F = 2 sin(theta / 2)                              "euclidean"; "squared"

    It is 0 for operators that are conjugate by a rotation or reflection, does not depend on their scale, and is
    symmetric. The search starts from random orthogonal matrices, and from alignments of eigenvectors of symmetric
    functions of A and B, whose signs are fitted to the operators; these are exact for conjugate operators. Gradient
    ascent on the orthogonal group takes a few steps from all starts; each further round continues only the best
    quarter, and the best one is continued to convergence.

    Args:
        A: Operator, square, finite and not zero.
        B: Operator of the same size.
        metric: ``"angular"``, ``"euclidean"``, or ``"squared"``, the square of the latter.
        **starts: ``group``, ``"O"`` for rotations and reflections (default) or ``"SO"`` for rotations only;
            ``restarts``, the number of random starts (default 1500 / n, from 12 to 100); their ``seed``.

    Source: Ostrow et al. (2023), section 3; the search is ours.

    Examples:
        >>> A, Q = np.random.default_rng(0).normal(size=(2, 5, 5))
        >>> Q = np.linalg.qr(Q)[0]
        >>> operator_distance(A, Q.T @ A @ Q) < 1e-7
        True
    """
    return align_operators(A, B, metric, **starts).distance


def align_operators(A: Operator, B: Operator, metric: Metric = "angular", **starts: Unpack[Starts]) -> Alignment:
    """The best alignment found of two operators, and a lower bound for all alignments.

    Args:
        A: Operator, square, finite and not zero.
        B: Operator of the same size.
        metric: ``"angular"``, ``"euclidean"`` or ``"squared"``.
        **starts: ``group``, ``restarts`` and ``seed`` of ``operator_distance``.

    Examples:
        >>> np.abs(align_operators(np.diag([1.0, 2.0]), np.diag([2.0, 1.0])).transform).round(6).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    checks.arguments()
    search, pair = _search(metric, **starts), np.array([[0, 1]])
    systems = _prepared([A, B], ["A", "B"])
    lower_bounds = _bounds(systems, pair)
    distance, transform = _solve(systems, pair, lower_bounds, search, None)
    bound = np.minimum(lower_bounds, distance)
    return Alignment(float(_in(distance, metric)[0]), float(_in(bound, metric)[0]), transform[0])


def operator_distances(
    operators: Operators,
    others: Operators | None = None,
    metric: Metric = "angular",
    *,
    n_jobs: int | None = None,
    **starts: Unpack[Starts],
) -> Float[np.ndarray, "systems others"]:
    """The distances between all operators, or from each to all ``others``, up to an orthogonal change of coordinates.

    Args:
        operators: Operators of one size.
        others: More operators of the same size; None: the distances are among ``operators``.
        metric: ``"angular"``, ``"euclidean"`` or ``"squared"``.
        n_jobs: Threads, counted as joblib does.
        **starts: ``group``, ``restarts`` and ``seed`` of ``operator_distance``.

    Examples:
        >>> operator_distances(np.random.default_rng(0).normal(size=(3, 4, 4))).shape
        (3, 3)
    """
    return compare_operators(operators, others, metric, n_jobs=n_jobs, **starts).distances


def compare_operators(
    operators: Operators,
    others: Operators | None = None,
    metric: Metric = "angular",
    *,
    n_jobs: int | None = None,
    budget: float | None = None,
    **starts: Unpack[Starts],
) -> OperatorComparison:
    """The distances between all operators, or to ``others``, with lower bounds, computed within a limit of time.

    Args:
        operators: Operators of one size.
        others: More operators of the same size; None: the distances are among ``operators``.
        metric: ``"angular"``, ``"euclidean"`` or ``"squared"``.
        n_jobs: Threads, counted as joblib does.
        budget: Seconds after which no further pair is refined: the other pairs keep the distance of their best start,
            and a warning says how many there are. None: no limit.
        **starts: ``group``, ``restarts`` and ``seed`` of ``operator_distance``.

    Raises:
        TypeError: One of ``starts`` is no setting.
        ValueError: There are no operators; one is zero, not finite or of another size; or an argument is unknown or out
            of range.

    Examples:
        >>> comparison = compare_operators(np.random.default_rng(0).normal(size=(3, 4, 4)))
        >>> bool((comparison.bounds <= comparison.distances).all()), bool(comparison.refined.all())
        (True, True)
    """
    checks.arguments()
    if budget is not None:
        checks.number("budget", budget, minimum=0)
    started, search = time.monotonic(), _search(metric, **starts)
    systems, pairs = _named_systems(operators, others)
    if others is None:
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    values, refined, lower_bounds = np.empty(len(pairs)), np.zeros(len(pairs), dtype=bool), _bounds(systems, pairs)
    if budget is not None:
        values, _ = _solve(systems, pairs, lower_bounds, search._replace(restarts=0, iterations=0), n_jobs)
    chunk = CHUNK * effective_n_jobs(n_jobs)
    for start in range(0, len(pairs), chunk):
        if budget is not None and time.monotonic() - started >= budget:
            message = f"{len(pairs) - start} of {len(pairs)} pairs are not refined"
            warnings.warn(f"budget = {budget:g} s is spent: {message}", RuntimeWarning, stacklevel=2)
            break
        rows = slice(start, start + chunk)
        values[rows], refined[rows] = _solve(systems, pairs[rows], lower_bounds[rows], search, n_jobs)[0], True
    bounds = np.minimum(lower_bounds, values)  # equal except for rounding where a bound is attained

    def matrix(by_pair: Shaped[np.ndarray, " pairs"], diagonal: float | bool) -> Shaped[np.ndarray, "systems others"]:
        if others is not None:
            return by_pair.reshape(len(operators), -1)
        full = np.full((len(operators),) * 2, diagonal, dtype=by_pair.dtype)
        full[pairs[:, 0], pairs[:, 1]] = full[pairs[:, 1], pairs[:, 0]] = by_pair
        return full

    return OperatorComparison(matrix(_in(values, metric), 0.0), matrix(_in(bounds, metric), 0.0), matrix(refined, True))


def operator_bounds(
    operators: Operators, others: Operators | None = None, metric: Metric = "angular"
) -> Float[np.ndarray, "systems others"]:
    """Lower bounds of the distances of ``compare_operators``, in closed form.

        ||A - C B C^T||^2 >= ||lambda(S_A) - lambda(S_B)||^2 + ||sigma(K_A) - sigma(K_B)||^2
        ||A - C B C^T|| >= ||sigma(A) - sigma(B)||

    with S and K the symmetric and antisymmetric parts, and lambda and sigma the sorted eigenvalues and singular values.
    The first bound is attained where S or K vanishes, and for n = 2. It takes microseconds for each pair.

    Args:
        operators: Operators of one size.
        others: More operators of the same size; None: the bounds are among ``operators``.
        metric: ``"angular"``, ``"euclidean"`` or ``"squared"``.

    Source: Hoffman and Wielandt (1953) for the first bound; Mirsky, "Symmetric gauge functions" (1960).

    Examples:
        >>> operator_bounds([np.eye(2), -np.eye(2)]).round(3).tolist()
        [[0.0, 3.142], [3.142, 0.0]]
    """
    _search(metric)
    systems, pairs = _named_systems(operators, others)
    return np.asarray(_in(_bounds(systems, pairs), metric)).reshape(len(operators), -1)


class _Search(NamedTuple):
    reflect: bool
    restarts: int | None
    seed: int
    iterations: int = ITERATIONS


class _Systems(NamedTuple):
    """Quantities that are computed once for each operator."""

    operators: Float[np.ndarray, "systems n n"]
    bases: Float[np.ndarray, "systems words n n"]
    words: Float[np.ndarray, "systems words n n"]
    sides: Float[np.ndarray, "systems words"]  # 1 or -1, the determinants of the bases
    parts: Float[np.ndarray, "systems spectra"]
    singular: Float[np.ndarray, "systems n"]


def _search(metric: str, group: str = "O", restarts: int | None = None, seed: int = 0, **unknown: object) -> _Search:
    for name, value in unknown.items():
        setting_names = ", ".join(Starts.__annotations__)
        raise TypeError(f"{name} = {checks.shown(value)}: expected only settings of the search: {setting_names}")
    checks.arguments()
    checks.choice("metric", metric, ("angular", "euclidean", "squared"))
    checks.choice("group", group, ("O", "SO"))
    if restarts is not None:
        checks.size("restarts", restarts, 0)
    return _Search(group == "O", restarts, checks.size("seed", seed, 0, None))


def _named_systems(operators: Operators, others: Operators | None) -> tuple[_Systems, Int[np.ndarray, "pairs 2"]]:
    """The prepared operators and others, and the index pairs of each operator with each of the others."""
    checks.arguments()
    for name, collection in (("operators", operators), ("others", others)):
        if collection is not None and len(collection) == 0:
            raise ValueError(f"{name}: expected at least one operator")
    count, extra = len(operators), len([] if others is None else others)
    names = [f"operators[{i}]" for i in range(count)] + [f"others[{j}]" for j in range(extra)]
    pairs = np.indices((count, extra or count)).reshape(2, -1).T + np.array([0, count if extra else 0])
    return _prepared([*operators, *([] if others is None else others)], names), pairs


def _prepared(operators: Sequence[Operator], names: list[str]) -> _Systems:
    n = len(operators[0])
    scaled = np.stack([checks.array(name, M, (n, n)) for M, name in zip(operators, names, strict=True)])
    for operator, name in zip(scaled, names, strict=True):
        if not operator.any():
            raise ValueError(f"{name} is zero: expected an operator with a norm")
    scaled /= np.abs(scaled).max((1, 2), keepdims=True)  # so that no square overflows or vanishes
    scaled /= np.linalg.norm(scaled, axis=(1, 2), keepdims=True)
    symmetric, skew = _parts(scaled)
    bases = _bases(scaled, symmetric, skew)  # (systems, words, n, n)
    return _Systems(
        scaled,
        bases,
        np.ascontiguousarray(bases.swapaxes(2, 3) @ scaled[:, None] @ bases),
        np.sign(np.linalg.det(bases)),
        np.concatenate([np.linalg.eigvalsh(symmetric), np.linalg.svd(skew, compute_uv=False)], axis=1),
        np.linalg.svd(scaled, compute_uv=False),
    )


def _parts(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric and the antisymmetric parts."""
    return (A + A.swapaxes(-1, -2)) / 2, (A - A.swapaxes(-1, -2)) / 2


def _bases(A: np.ndarray, symmetric: np.ndarray, skew: np.ndarray) -> np.ndarray:
    """Bases that rotate with A: eigenvectors of symmetric functions of A, and the planes in which K rotates."""
    transposed = A.swapaxes(1, 2)
    words = [symmetric, A @ transposed, transposed @ A, _parts(A @ A)[0]]
    sizes = [np.linalg.norm(word, axis=(1, 2), keepdims=True) for word in words]
    units = [word / np.where(size > 0, size, 1) for word, size in zip(words, sizes, strict=True)]
    mixtures = np.random.default_rng(0).normal(size=(RANDOM_WORDS, len(words)))
    words += list(np.einsum("rw,wsij->rsij", mixtures, np.stack(units)))
    planes = np.stack([_planes(part) for part in skew])
    return np.stack([*(np.linalg.eigh(word)[1] for word in words), planes], axis=1)


def _planes(skew: Operator) -> Operator:
    """A basis of the planes in which an antisymmetric matrix rotates, the fastest first."""
    form, basis = linalg.schur(skew, output="real")
    blocks, i = [], 0
    while i < len(skew):
        speed = abs(form[i, i + 1]) if i + 1 < len(skew) else 0.0
        blocks.append((-speed, [i, i + 1]) if speed > 1e-12 else (0.0, [i]))
        i += len(blocks[-1][1])
    return np.ascontiguousarray(basis[:, [column for _, block in sorted(blocks) for column in block]])


def _bounds(systems: _Systems, pairs: Int[np.ndarray, "pairs 2"]) -> Float[np.ndarray, " pairs"]:
    """Lower bounds of ||A - C B C^T||_F."""
    first_systems, second_systems = pairs.T
    part_distances = np.linalg.norm(systems.parts[first_systems] - systems.parts[second_systems], axis=1)
    singular_distances = np.linalg.norm(systems.singular[first_systems] - systems.singular[second_systems], axis=1)
    return np.asarray(np.maximum(part_distances, singular_distances))


def _solve(
    systems: _Systems, pairs: np.ndarray, bounds: np.ndarray, search: _Search, n_jobs: int | None
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, "pairs n n"]]:
    """||A - C B C^T||_F and C of each pair, given the pairs' lower bounds."""
    n = systems.operators.shape[1]
    random_starts = _random_starts(n, search)
    # (A, B) and (B, A) are solved in the same order, so that the distance is symmetric.
    swapped = np.array([systems.operators[i].tobytes() > systems.operators[j].tobytes() for i, j in pairs], dtype=bool)
    ordered = np.where(swapped[:, None], pairs[:, ::-1], pairs)
    distances, transforms = np.empty(len(pairs)), np.empty((len(pairs), n, n))

    def solve(start: int, stop: int) -> None:
        for index in range(start, stop):
            distances[index], transforms[index] = _align(systems, ordered[index], bounds[index], random_starts, search)

    in_ranges(solve, len(pairs), n_jobs)
    return distances, np.where(swapped[:, None, None], transforms.swapaxes(1, 2), transforms)


def _align(
    systems: _Systems, pair: np.ndarray, bound: float, random_starts: np.ndarray, search: _Search
) -> tuple[float, Operator]:
    """||A - C B C^T||_F and C; each round continues the best quarter of the starts, the last one to convergence."""
    i, j = pair
    A, B = systems.operators[i], systems.operators[j]
    if (A == B).all():
        return 0.0, np.eye(len(A))
    starts = len(systems.words[i]) + len(random_starts)
    transforms, products, values = np.empty((starts, *A.shape)), np.empty((starts, *A.shape)), np.empty(starts)
    system_A, system_B = ((systems.operators[k], systems.bases[k], systems.words[k]) for k in (i, j))
    sides, ceiling = systems.sides[i] * systems.sides[j], 1.0 - 0.5 * bound * bound - kernels.ATTAINED
    results = transforms, products, values
    attained = kernels.climb_all(
        system_A, system_B, sides, random_starts, ceiling, search.reflect, search.iterations, results
    )
    order = np.arange(starts) if attained < 0 else np.array([attained])
    for gradient in kernels.ROUNDS[1:]:
        if len(order) == 1:
            break
        order = order[np.argsort(-values[order], kind="stable")][: -(-len(order) // SURVIVORS)]
        for start in order:
            values[start] = kernels.climb(A, products[start], transforms[start], gradient, search.iterations)
    best = order[values[order].argmax()]
    kernels.climb(A, products[best], transforms[best], GRADIENT, search.iterations)
    return kernels.remainder(A, B, transforms[best]), transforms[best]


def _random_starts(n: int, search: _Search) -> Float[np.ndarray, "restarts n n"]:
    """Random orthogonal matrices, half of them reflections where these are allowed."""
    count = min(max(1500 // n, 12), 100) if search.restarts is None else search.restarts
    rotations = np.linalg.qr(np.random.default_rng(search.seed).normal(size=(count, n, n)))[0]
    sides = np.linalg.det(rotations) * (-1) ** np.arange(count) if search.reflect else np.linalg.det(rotations)
    rotations[:, 0] *= np.sign(sides)[:, None]
    return rotations


def _in(distance: Float[np.ndarray, " pairs"], metric: Metric) -> Float[np.ndarray, " pairs"]:
    """The distance ||A - C B C^T||_F of operators of norm 1, converted to the metric."""
    if metric == "angular":
        return np.asarray(2 * np.arcsin(np.minimum(distance / 2, 1)))
    return distance if metric == "euclidean" else distance**2
