"""Preconditioners and their hypergradients as pure functions, through which an inner loop can be differentiated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks

STRUCTURES = ("spatial", "left", "right", "kron", "full", "lowrank", "diag", "scalar")
MAXIMUM_FULL = 256  # elements of a tensor; a matrix over more than these is surely a mistake
TINY = 1e-30

Factor = Float[Tensor, "..."]
Preconditioner = Factor | tuple[Factor, Factor]


def block_view(
    p: Float[Tensor, "*shape"], structure: str
) -> tuple[Float[Tensor, "k n"], Callable[[Float[Tensor, "k n"]], Float[Tensor, "*shape"]]]:
    """A parameter as the matrix whose columns a preconditioner multiplies, and the inverse of this view.

    Args:
        p: A parameter or any tensor of its shape; the first axis of a weight is the outputs.
        structure: ``"spatial"``: k positions of a kernel, n channel pairs. ``"left"``, ``"kron"`` and ``"lowrank"``: k
            outputs, n inputs. ``"right"``: k inputs, n outputs. ``"full"``, ``"diag"`` and ``"scalar"``: all elements
            in one column, as for every structure if the tensor has fewer than two axes.

    Returns:
        The view, (k, n), and the function that brings a tensor (k, n) back to the shape of ``p``.

    Raises:
        ValueError: The structure is unknown, or is ``"spatial"`` for a tensor of two axes.

    Examples:
        >>> view, inverse = block_view(torch.zeros(16, 8, 3, 3), "spatial")
        >>> view.shape, inverse(view).shape
        (torch.Size([9, 128]), torch.Size([16, 8, 3, 3]))
    """
    checks.choice("structure", structure, STRUCTURES)
    shape = checks.instance("p", p, Tensor).shape
    if p.ndim < 2 or structure in ("full", "diag", "scalar"):
        return p.reshape(-1, 1), lambda block: block.reshape(shape)
    if structure == "spatial":
        if p.ndim < 3:
            raise ValueError(f"structure = 'spatial': expected a kernel of 3 axes or more, not one of {tuple(shape)}")
        return p.reshape(-1, math.prod(shape[2:])).mT, lambda block: block.mT.reshape(shape)
    rows = p.reshape(shape[0], -1)
    if structure == "right":
        return rows.mT, lambda block: block.mT.reshape(shape)
    return rows, lambda block: block.reshape(shape)


def apply_preconditioner(M: Preconditioner, z: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
    """The preconditioned block P z, where the shape of M determines P.

    M (k, k): P = M M^T; (k, r) with r < k: P = I + M M^T; (k,): P = diag(m^2); (): P = m^2 I; a pair (left, right):
    P_left z P_right.

    Args:
        M: The learned factor of P, or the pair of factors.
        z: The block that P multiplies.

    Examples:
        >>> apply_preconditioner(torch.tensor([2.0, 1.0]), torch.ones(2, 1)).T
        tensor([[4., 1.]])
    """
    checks.arguments()
    for axis, factor in enumerate(M if isinstance(M, tuple) else (M,)):
        k = z.shape[axis]
        if factor.ndim > 2 or (factor.ndim and len(factor) != k):
            raise ValueError(f"M.shape = {tuple(factor.shape)}: expected (), ({k},) or ({k}, r)")
    return _product(M, z)


def _product(M: Preconditioner, z: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
    """``apply_preconditioner`` without its checks."""
    if isinstance(M, tuple):
        left, right = M
        return _product(left, _product(right, z.mT).mT)
    if M.ndim < 2:
        return (M.square() if M.ndim == 0 else M.square()[:, None]) * z
    k, r = M.shape
    if r < k:
        return z + M @ (M.mT @ z)
    if z.shape[1] < k:
        return M @ (M.mT @ z)
    P = M @ M.mT
    # The result has the memory layout of z, so that adding it to the parameter is fast.
    return P @ z if z.is_contiguous() else (z.mT @ P).mT


def hypergradient(
    g: Float[Tensor, "k n"], z: Float[Tensor, "k n"], M: Preconditioner, lr: float | Float[Tensor, ""]
) -> Preconditioner:
    """The derivative of the loss after a step with respect to the M that made the step.

        theta' = theta - lr P z,   dL(theta')/dM = -lr (g z^T + z g^T) M

    Args:
        g: Gradient of the loss at the point that the step reached, as a block.
        z: The block that P multiplied in the step.
        M: Factor of P, whose shape determines P (see ``apply_preconditioner``), or a pair of factors, which gives a
            pair of derivatives.
        lr: Learning rate of that step, not of the next.

    Source: Moskovitz et al., "First-order preconditioning via hypergradient descent" (2019), abstract; equation ours.

    Examples:
        >>> hypergradient(torch.ones(1, 1), torch.ones(1, 1), torch.eye(1), lr=0.1)
        tensor([[-0.2000]])
    """
    checks.arguments()
    if isinstance(M, tuple):
        left_derivative, right_derivative = (
            cast(Tensor, hypergradient(*factor_terms, lr)) for factor_terms in _by_factor(M, g, z)
        )
        return left_derivative, right_derivative
    if M.ndim == 0:
        return -2 * lr * (g * z).sum() * M
    if M.ndim == 1:
        return -2 * lr * (g * z).sum(1) * M
    (k, n), r = g.shape, M.shape[1]
    if 4 * n * r < k * (n + 2 * r):  # whichever takes fewer multiplications
        return -lr * (g @ (z.mT @ M) + z @ (g.mT @ M))
    product = g @ z.mT
    return -lr * ((product + product.mT) @ M)


def _by_factor(M: Preconditioner, g: Tensor, z: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Gradient, block and factor for each factor of a preconditioner, as if it were the only one."""
    if not isinstance(M, tuple):
        return [(g, z, M)]
    left, right = M
    return [(g, _product(right, z.mT).mT, left), (g.mT, _product(left, z).mT, right)]


def unit_trace(M: Tensor) -> Tensor:
    """M scaled so that the mean eigenvalue of P is 1."""
    scale: Tensor = math.sqrt(len(M)) / M.norm()
    return M * scale


def updated_preconditioner(
    M: Preconditioner,
    g: Float[Tensor, "k n"],
    z: Float[Tensor, "k n"],
    lr: float,
    rho: float,
    *,
    cosine: bool = True,
    trace: bool = False,
) -> Preconditioner:
    """M after one step down its hypergradient; a factor whose step is not finite stays as it is.

    Args:
        M: Factor of P, whose shape determines P (see ``apply_preconditioner``), or a pair of factors.
        g: Gradient of the loss at the point that the step reached, as a block.
        z: The block that P multiplied in the step.
        lr: Learning rate of that step.
        rho: Learning rate of M.
        cosine: Use 1 / (|g| |z|) in place of ``lr``, so that the scale of the loss does not matter.
        trace: P was divided by its mean eigenvalue in the step; differentiate through this.
    """
    factors = M if isinstance(M, tuple) else (M,)
    scaled_factor: Preconditioner = M
    if trace:
        scaled_factor = (unit_trace(M[0]), unit_trace(M[1])) if isinstance(M, tuple) else unit_trace(M)
    new_factors = []
    for (gradient, block, scaled), factor in zip(_by_factor(scaled_factor, g, z), factors, strict=True):
        if cosine:  # each is divided by its own norm, since the product of two small norms may be 0
            unit = gradient / gradient.norm().clamp(min=TINY)
            slope = cast(Tensor, hypergradient(unit, block, scaled, 1 / block.norm().clamp(min=TINY)))
        else:
            slope = cast(Tensor, hypergradient(gradient, block, scaled, lr))
        if trace:
            slope = (slope - (slope * scaled).sum() / len(scaled) * scaled) * (math.sqrt(len(scaled)) / factor.norm())
        new_factor = factor - rho * slope
        new_factors.append(torch.where(new_factor.isfinite().all(), new_factor, factor))
    return (new_factors[0], new_factors[1]) if isinstance(M, tuple) else new_factors[0]
