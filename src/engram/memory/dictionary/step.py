"""One step of NOODL, or of the rules of Arora et al. that it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from engram import checks
from engram.memory.dictionary.iht import IHTCode, check_data, hard_threshold, iht_encode
from engram.numeric.threads import in_ranges
from engram.numeric.unit_rows import unit_rows

UPDATES = ("noodl", "arora-biased", "arora-unbiased")


class DictionaryStep(NamedTuple):
    """A step of dictionary learning."""

    dictionary: Float[np.ndarray, "atoms features"]  # after the step
    code: Float[np.ndarray, "samples atoms"]  # by the dictionary before it
    residual: Float[np.ndarray, "samples features"]  # code x dictionary - sample, by the dictionary before it
    iterations: Int[np.ndarray, " samples"]  # for the codes
    code_step: float


def noodl_step(
    dictionary: Annotated[np.ndarray, "atoms features"],
    X: Annotated[np.ndarray, "samples features"],
    *,
    dict_step: float | Callable[[np.ndarray], float],
    update: str = "noodl",
    **settings: Any,
) -> DictionaryStep:
    """Take one step of NOODL on a batch of samples: code them, then correct the dictionary.

        x = iht_encode(y, A)
        g = mean over samples of sign(x) (A^T x - y)^T
        A' = rows of A - dict_step g, each divided by its norm

    Args:
        dictionary: Atoms of unit norm, the rows of A.
        X: Samples y in rows.
        dict_step: Step size eta_A, about 0.5 atoms / (mean support x mean size of a coefficient); or a function from
            codes to the step size.
        update: ``"noodl"``, or a rule of Arora et al., whose codes are thresholded correlations: ``"arora-biased"``
            with the same gradient, ``"arora-unbiased"`` with theirs.
        **settings: Other arguments of ``iht_encode``, which raises its errors.

    Raises:
        ValueError: ``update`` is unknown, or as for ``iht_encode``.
        RuntimeError: The codes diverge, because ``step`` is too large.

    Source: Rambhatla, Li and Haupt, "NOODL" (2019), algorithm 1; Arora, Ge, Ma and Moitra (2015) for the two others.

    Examples:
        >>> step = noodl_step(np.eye(2), np.array([[1.0, 0.2]]), dict_step=0.5)
        >>> step.dictionary.round(4).tolist(), step.code.tolist()
        ([[0.995, 0.0995], [0.0, 1.0]], [[1.0, 0.0]])
    """
    checks.arguments()
    checks.choice("update", update, UPDATES)
    codes = encode(X, dictionary, update, **settings)
    gradient, residual = dictionary_gradient(dictionary, X, codes.code, settings.get("n_jobs"))
    if update == "arora-unbiased":
        gradient = unbiased_gradient(dictionary, X, codes.code, settings.get("coef_min", 1.0))
    with checks.noted(dict_step=dict_step):
        size = dict_step(codes.code) if callable(dict_step) else dict_step
    with np.errstate(over="ignore", invalid="ignore"):  # the caller checks that it is finite
        updated = unit_rows(dictionary - np.asarray(size, dictionary.dtype) * gradient)
    return DictionaryStep(updated, codes.code, residual, codes.iterations, codes.step)


def encode(
    X: Annotated[np.ndarray, "samples features"],
    dictionary: Annotated[np.ndarray, "atoms features"],
    update: str,
    *,
    coef_min: float = 1.0,
    **settings: Any,
) -> IHTCode:
    """The codes of samples by the rule ``update``.

    Args:
        X: Samples in rows.
        dictionary: Atoms of unit norm in rows.
        update: ``"noodl"``: ``iht_encode``; a rule of Arora et al.: thresholded correlations.
        coef_min: Minimum size of the true coefficients.
        **settings: Other arguments of ``iht_encode``.
    """
    if update == "noodl":
        return iht_encode(X, dictionary, coef_min=coef_min, **settings)
    check_data(X, dictionary)
    checks.number("coef_min", coef_min, above=0)
    no_iterations = np.zeros(len(X), np.int64)
    return IHTCode(
        hard_threshold(X @ dictionary.T, coef_min / 2, keep_equal=True), no_iterations, no_iterations == 0, 0.0
    )


def dictionary_gradient(
    dictionary: Float[np.ndarray, "atoms features"],
    X: Float[np.ndarray, "samples features"],
    code: Float[np.ndarray, "samples atoms"],
    n_jobs: int | None = None,
) -> tuple[Float[np.ndarray, "atoms features"], Float[np.ndarray, "samples features"]]:
    """NOODL's approximate gradient, and the residuals code x dictionary - sample from which it is computed.

    Args:
        dictionary: Atoms in rows.
        X: Samples in rows.
        code: Their codes.
        n_jobs: Number of threads.
    """
    from engram.memory.dictionary import kernels

    # Writable too: a read-only array would be another type to compile for.
    dictionary, X, code = (np.require(array, requirements=("C", "W")) for array in (dictionary, X, code))
    residual, total = np.empty_like(X), np.zeros_like(dictionary)
    in_ranges(partial(kernels.gradient, dictionary, X, code, residual, total), X.shape[1], n_jobs)
    return total / X.dtype.type(len(X)), residual


def unbiased_gradient(
    dictionary: Float[np.ndarray, "atoms features"],
    X: Float[np.ndarray, "samples features"],
    code: Float[np.ndarray, "samples atoms"],
    coef_min: float,
) -> Float[np.ndarray, "atoms features"]:
    """The gradient in which, for each atom, the other atoms are replaced by their parts orthogonal to it.

        B(i)_i = A_i,    B(i)_j = A_j - <A_i, A_j> A_i
        T(i) = H'(B(i) y),    g_i = mean over samples of (B(i)^T T(i) - y) sign(x_i)

    B(i) is never computed: with s = A y and the Gram matrix G, (B(i) y)_j = s_j - G_ij s_i, and B(i)^T T is
    A^T T - A_i sum_{j != i} G_ij T_j; only samples that use atom i matter. The codes are x = H'(A y), and H' keeps
    entries of at least coef_min / 2.

    Args:
        dictionary: Atoms of unit norm, the rows of A.
        X: Samples y in rows.
        code: Their codes x.
        coef_min: Minimum size of the true coefficients.

    Source: Arora, Ge, Ma and Moitra, "Simple, efficient, and neural algorithms for sparse coding" (2015), section 5.
    """
    gram = dictionary @ dictionary.T
    np.fill_diagonal(gram, 0)
    correlations = X @ dictionary.T
    gradient = np.zeros_like(dictionary)
    for i, atom in enumerate(dictionary):
        users = np.flatnonzero(code[:, i])
        if not users.size:
            continue
        residual_correlations = correlations[users] - correlations[users, i, None] * gram[i]
        thresholded = hard_threshold(residual_correlations, coef_min / 2, keep_equal=True)
        sign = np.sign(code[users, i])
        total = sign @ thresholded
        gradient[i] = total @ dictionary - (total @ gram[i]) * atom - sign @ X[users]
    return gradient / len(X)
