"""Sparse codes by iterative hard thresholding: the few atoms of a dictionary that make up a sample, weighted."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from engram import checks
from engram.numeric.threads import in_ranges

SOLVERS = ("iht-ls", "iht", "iht-ls-unpruned")
PATIENCE = 1  # iterations with the same support before least squares are tried; larger numbers change only the time
GRAM_LIMIT = 5000  # with more atoms the Gram matrix would fill the memory and is not computed
GROWTH = 10.0  # codes this many times larger than their correlations are checked
EXCESSIVE = 1e6  # a code this many times larger than its correlations never recovers
LARGEST_STEP, SMALL = 0.9, 64


class IHTCode(NamedTuple):
    """Codes, and how the search for them ended."""

    code: Float[np.ndarray, "samples atoms"]
    iterations: Int[np.ndarray, " samples"]
    converged: Bool[np.ndarray, " samples"]  # whether a code met its stopping rule within ``max_iter`` iterations
    step: float  # the step size that was used


def hard_threshold(
    values: Float[np.ndarray, "*shape"], threshold: float, *, keep_equal: bool = False
) -> Float[np.ndarray, "*shape"]:
    """Values, with those that do not exceed a threshold set to zero; NaN stays NaN.

        H(v) = v where |v| > t, else 0

    Args:
        values: Any shape.
        threshold: t, at least 0.
        keep_equal: Keep |v| = t as well, as the first thresholding of a code does.

    Raises:
        ValueError: ``threshold`` is negative.

    Source: Rambhatla, Li and Haupt, "NOODL" (2019), section 2.

    Examples:
        >>> hard_threshold(np.array([0.5, -1.0, 1.5]), 1.0).tolist()
        [0.0, 0.0, 1.5]
    """
    checks.arguments()
    checks.number("threshold", threshold, minimum=0)
    magnitude = np.abs(values)
    return np.where(magnitude < threshold if keep_equal else magnitude <= threshold, np.zeros((), values.dtype), values)


def iht_encode(
    X: Annotated[np.ndarray, "samples features"],
    dictionary: Annotated[np.ndarray, "atoms features"],
    *,
    coef_min: float = 1.0,
    threshold: float = 0.1,
    step: float | str = 0.2,
    max_iter: int = 100,
    tol: float = 1e-7,
    solver: str = "iht-ls",
    n_jobs: int | None = None,
) -> IHTCode:
    """Code samples by iterative hard thresholding.

        x(0)   = H'(A y)                                      H' keeps what is at least coef_min / 2
        x(r+1) = H(x(r) - step (A A^T x(r) - A y))            H keeps what is larger than threshold

    with the atoms in the rows of A. Once the support (the set of atoms in use) no longer changes, the iterations
    converge to the least-squares solution on it. ``"iht-ls"`` uses this as soon as an iteration leaves the support
    unchanged: it solves the least-squares problem, drops coefficients that do not exceed the threshold, and solves
    again until none is dropped. If one more iteration keeps this support, the code is a limit; if not, the iterations
    go on, and the next attempt waits twice as long. Each sample stops on its own.

    Args:
        X: Samples y in rows.
        dictionary: Atoms of unit norm in rows.
        coef_min: Minimum size of the true coefficients, C.
        threshold: Threshold of the iterations, below C.
        step: Step size, below 2 over the largest eigenvalue of the Gram matrix of the atoms in use; ``"auto"`` is 1
            over that of all atoms, at most 0.9.
        max_iter: Maximum number of iterations, R.
        tol: Relative change of a sample's code at which plain iterations end.
        solver: ``"iht-ls"``; ``"iht"``, plain iterations, as published; or ``"iht-ls-unpruned"``, which drops nothing
            and shows why dropping is needed. If the atoms of a support are linearly dependent, all solvers use plain
            iterations.
        n_jobs: Threads, as in scikit-learn; the codes are the same for any number.

    Raises:
        ValueError: A number is out of range, ``step`` or ``solver`` is unknown, or samples and atoms are empty, are not
            finite, or differ in features or dtype.
        RuntimeError: The codes diverge, because ``step`` is too large.

    Source: Rambhatla, Li and Haupt, "NOODL" (2019), algorithm 1, coefficient estimation; least squares are ours.

    Examples:
        >>> iht_encode(np.array([[0.9, 0.1, -2.0]]), np.eye(3)).code.round(6).tolist()
        [[0.9, 0.0, -2.0]]
    """
    checks.arguments()
    check_data(X, dictionary)
    checks.number("coef_min", coef_min, above=0)
    checks.number("threshold", threshold, minimum=0)
    checks.number("tol", tol, minimum=0)
    checks.size("max_iter", max_iter)
    checks.choice("solver", solver, SOLVERS)
    if isinstance(step, str):
        checks.choice("step", step, ("auto",))
        step = 1 / max(largest_eigenvalue(dictionary), 1 / LARGEST_STEP)
    checks.number("step", step, above=0)
    correlations = X @ dictionary.T
    settings = Settings(
        coef_min / 2, threshold, step, tol, max_iter, PATIENCE if solver != "iht" else 0, solver != "iht-ls-unpruned"
    )
    if len(dictionary) > GRAM_LIMIT:
        code, iterations, converged, grown = plain_encode(X, dictionary, correlations, settings)
    else:
        code, iterations, converged, grown = fused_encode(dictionary, correlations, settings, n_jobs)
    if grown.any() or not np.linalg.norm(code) <= GROWTH * np.linalg.norm(correlations):
        eigenvalue = largest_eigenvalue(dictionary)
        if step * eigenvalue >= 2 or not np.isfinite(code).all():
            limit = f"2 / {eigenvalue:.3g}, the largest eigenvalue of the atoms' Gram matrix"
            detail = f"step = {step:g} (code_step of NOODL): expected less than {limit}; the codes diverge. Take 'auto'"
            bad = "the dictionary has become bad: take a larger batch or a smaller dict_step"
            raise RuntimeError(f"{detail}; if they went well before, {bad}")
    return IHTCode(code, iterations, converged, float(step))


class Settings(NamedTuple):
    """Settings of the search for a code; see ``iht_encode``."""

    start: float
    threshold: float
    step: float
    tol: float
    max_iter: int
    patience: int
    prune: bool


class Search(NamedTuple):
    """Codes and, for each sample, its iterations, whether its code converged, and whether it grew too much to go on."""

    code: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    grown: np.ndarray


def _start(code: np.ndarray) -> Search:
    """The state of a search for codes before its first iteration."""
    return Search(code, np.zeros(len(code), np.int64), *np.zeros((2, len(code)), bool))


def plain_encode(X: np.ndarray, dictionary: np.ndarray, correlations: np.ndarray, settings: Settings) -> Search:
    """Codes computed by NumPy alone and without a Gram matrix: the definition, also used for very many atoms.

    Args:
        X: Samples in rows.
        dictionary: Atoms in rows.
        correlations: Correlations of samples and atoms, (samples, atoms).
        settings: Settings of the iterations.
    """
    search = _start(hard_threshold(correlations, settings.start, keep_equal=True))
    code, iterations, converged, grown = search
    unchanged, wait = np.zeros(len(X), np.int64), np.full(len(X), settings.patience)
    seeks, solved = np.full(len(X), settings.patience > 0), np.zeros(len(X), bool)
    limit = EXCESSIVE * np.linalg.norm(correlations, axis=1)
    for _ in range(settings.max_iter):
        active = np.flatnonzero(~(converged | grown))
        if not active.size:
            break
        old_code = code[active]
        new_code = old_code - X.dtype.type(settings.step) * ((old_code @ dictionary - X[active]) @ dictionary.T)
        new_code = hard_threshold(new_code, settings.threshold)
        code[active] = new_code
        iterations[active] += 1
        same_support = ((new_code != 0) == (old_code != 0)).all(axis=1)
        unchanged[active] = np.where(same_support, unchanged[active] + 1, 0)
        size = np.linalg.norm(new_code, axis=1)
        grown[active] = ~(size <= limit[active])
        settled = ~seeks[active] & (np.linalg.norm(new_code - old_code, axis=1) <= settings.tol * size)
        converged[active] = ~grown[active] & (settled | (solved[active] & same_support))
        failed = active[solved[active] & ~same_support]
        wait[failed] *= 2
        solved[failed] = False
        tries_support = seeks[active] & (unchanged[active] >= wait[active]) & ~converged[active] & ~grown[active]
        for sample in np.setdiff1d(active[tries_support], failed):
            fitted = _least_squares(dictionary, correlations[sample], code[sample], settings)
            if fitted is None:
                seeks[sample] = False
            else:
                code[sample], solved[sample], converged[sample] = fitted, True, not settings.prune
    return search


def _least_squares(
    dictionary: np.ndarray, correlation: np.ndarray, code: np.ndarray, settings: Settings
) -> np.ndarray | None:
    """The pruned least-squares solution on the support of a code; None if its atoms are linearly dependent."""
    support = np.flatnonzero(code)
    while True:
        atoms = dictionary[support]
        if len(atoms) > dictionary.shape[1]:
            return None
        try:
            factor = np.linalg.cholesky(atoms @ atoms.T)
        except np.linalg.LinAlgError:
            return None
        if (np.diag(factor) ** 2 <= smallest_pivot(code.dtype) * (atoms**2).sum(axis=1)).any():
            return None
        values = np.linalg.solve(factor.T, np.linalg.solve(factor, correlation[support]))
        keep = np.abs(values) > settings.threshold
        if keep.all() or not settings.prune:
            solved = np.zeros_like(code)
            solved[support] = values
            return solved
        support = support[keep]


def fused_encode(dictionary: np.ndarray, correlations: np.ndarray, settings: Settings, n_jobs: int | None) -> Search:
    """Codes computed by the numba kernel, in chunks shared among threads.

    Args:
        dictionary: Atoms in rows.
        correlations: Correlations of samples and atoms, (samples, atoms).
        settings: Settings of the iterations.
        n_jobs: Threads.
    """
    from engram.memory.dictionary import kernels

    number = dictionary.dtype.type
    gram, correlations = map(np.ascontiguousarray, (dictionary @ dictionary.T, correlations))
    typed_settings = Settings(*map(number, settings[:4]), *settings[4:])  # type: ignore[call-arg]
    limits = number(smallest_pivot(dictionary.dtype)), number(EXCESSIVE), dictionary.shape[1]
    search = _start(np.zeros_like(correlations))
    in_ranges(partial(kernels.encode, gram, correlations, typed_settings, *limits, search), len(search.code), n_jobs)
    return search


def smallest_pivot(dtype: np.dtype[Any]) -> float:
    """The pivot, relative to 1, below which atoms count as linearly dependent."""
    return float(np.finfo(dtype).eps ** (2 / 3))


def largest_eigenvalue(dictionary: np.ndarray) -> float:
    """The largest eigenvalue of the Gram matrix, to about one per cent."""
    from scipy.sparse.linalg import LinearOperator, eigsh  # takes as long to import as the rest

    side = dictionary if len(dictionary) <= dictionary.shape[1] else dictionary.T  # both give the same eigenvalue
    if len(side) <= SMALL:
        return float(np.linalg.eigvalsh(side @ side.T)[-1])
    start = np.random.default_rng(0).standard_normal(len(side)).astype(side.dtype)  # fixed: equal atoms, equal results
    product = LinearOperator((len(side), len(side)), matvec=lambda v: side @ (side.T @ v), dtype=side.dtype)
    return float(eigsh(product, k=1, tol=1e-2, v0=start, return_eigenvectors=False)[0])


def check_data(X: np.ndarray, dictionary: np.ndarray) -> None:
    """Raise unless samples and atoms fit each other."""
    for name, value in (("X", X), ("dictionary", dictionary)):
        if value.ndim != 2 or not value.size:
            raise ValueError(f"{name}.shape = {value.shape}: expected two dimensions, neither of them 0")
        checks.finite(name, value)
    if X.shape[1] != dictionary.shape[1]:
        raise ValueError(f"X.shape = {X.shape}: expected {dictionary.shape[1]} features, as dictionary has")
    if X.dtype != dictionary.dtype or X.dtype not in (np.float32, np.float64):
        dtypes = f"X.dtype = {X.dtype}, dictionary.dtype = {dictionary.dtype}"
        raise ValueError(f"{dtypes}: expected both float32 or both float64")
