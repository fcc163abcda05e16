"""Preconditioners and their hypergradients as pure functions, through which an inner loop can be differentiated."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks

STRUCTURES = ("spatial", "left", "scalar")
TINY = 1e-30
SMALL = 1e-15  # a norm below which the squares of numbers may vanish in single precision

Factor = Float[Tensor, ""] | Float[Tensor, "k k"]


def block_view(
    p: Float[Tensor, "*shape"], structure: str
) -> tuple[Float[Tensor, "k n"], Callable[[Float[Tensor, "k n"]], Float[Tensor, "*shape"]]]:
    """A parameter as the matrix whose columns a preconditioner multiplies, and the inverse of this view.

    Args:
        p: A parameter or any tensor of its shape; the first axis of a weight is the outputs.
        structure: ``"spatial"``: k positions of a kernel, n channel pairs. ``"left"``: k outputs, n inputs.
            ``"scalar"``: all elements in one column, as for every structure if the tensor has fewer than two axes.

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
    if p.ndim < 2 or structure == "scalar":
        return p.reshape(-1, 1), lambda block: block.reshape(shape)
    if structure == "spatial":
        if p.ndim < 3:
            raise ValueError(f"structure = 'spatial': expected a kernel of 3 axes or more, not one of {tuple(shape)}")
        return p.reshape(-1, math.prod(shape[2:])).mT, lambda block: block.mT.reshape(shape)
    return p.reshape(shape[0], -1), lambda block: block.reshape(shape)


def apply_preconditioner(M: Factor, z: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
    """The preconditioned block P z: P = M M^T for a matrix M, m^2 I for a number m.

    Args:
        M: The learned factor of P, (k, k) or ().
        z: The block that P multiplies.

    Raises:
        ValueError: M has another shape.

    Examples:
        >>> apply_preconditioner(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.ones(2, 1)).T
        tensor([[4., 1.]])
    """
    checks.arguments()
    k = len(z)
    if M.ndim and M.shape != (k, k):
        raise ValueError(f"M.shape = {tuple(M.shape)}: expected () or ({k}, {k})")
    return _product(M, z)


def _product(M: Factor, z: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
    """``apply_preconditioner`` without its checks."""
    if M.ndim == 0:
        return M.square() * z
    if z.shape[1] < len(M):
        return M @ (M.mT @ z)
    P = M @ M.mT
    # The result has the memory layout of z, so that adding it to the parameter is fast.
    return P @ z if z.is_contiguous() else (z.mT @ P).mT


def hypergradient(g: Float[Tensor, "k n"], z: Float[Tensor, "k n"], M: Factor, lr: float | Float[Tensor, ""]) -> Factor:
    """The derivative of the loss after a step with respect to the M that made the step.

        theta' = theta - lr P z,   dL(theta')/dM = -lr (g z^T + z g^T) M

    Args:
        g: Gradient of the loss at the point that the step reached, as a block.
        z: The block that P multiplied in the step.
        M: Factor of P, (k, k), or () for P = m^2 I.
        lr: Learning rate of that step, not of the next.

    Source: Moskovitz et al., "First-order preconditioning via hypergradient descent" (2019), abstract; equation ours.

    Examples:
        >>> hypergradient(torch.ones(1, 1), torch.ones(1, 1), torch.eye(1), lr=0.1)
        tensor([[-0.2000]])
    """
    checks.arguments()
    if M.ndim == 0:
        return -2 * lr * (g * z).sum() * M
    k, n = g.shape
    if 3 * n < 2 * k:  # whichever takes fewer multiplications
        return -lr * (g @ (z.mT @ M) + z @ (g.mT @ M))
    product = g @ z.mT
    return -lr * ((product + product.mT) @ M)


def updated_preconditioner(
    M: Factor,
    g: Float[Tensor, "k n"],
    z: Float[Tensor, "k n"],
    lr: float,
    rho: float,
    *,
    cosine: bool = True,
) -> Factor:
    """M after one step down its hypergradient; unchanged if the step is not finite.

    Args:
        M: Factor of P, (k, k), or () for P = m^2 I.
        g: Gradient of the loss at the point that the step reached, as a block.
        z: The block that P multiplied in the step.
        lr: Learning rate of that step.
        rho: Learning rate of M.
        cosine: Use 1 / (|g| |z|) in place of ``lr``, so that the scale of the loss does not matter.
    """
    if cosine:  # each is divided by its own norm, since the product of two small norms may be 0
        unit = g / _norm(g)
        slope = hypergradient(unit, z, M, 1 / _norm(z))
    else:
        slope = hypergradient(g, z, M, lr)
    updated = M - rho * slope
    return torch.where(updated.isfinite().all(), updated, M)


def _norm(block: Float[Tensor, "k n"]) -> Float[Tensor, ""]:
    """The norm, at least ``TINY``, also of numbers whose squares vanish, as gradients of a network that fits do."""
    norm: Tensor = block.norm()
    if not block.is_cpu or norm < SMALL:  # on other devices in any case, so as not to wait for them
        largest = block.abs().amax().clamp(min=TINY)
        norm = torch.where(norm < SMALL, largest * (block / largest).norm(), norm)
    return norm.clamp(min=TINY)
