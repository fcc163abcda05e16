"""Distances between the activity of two networks on the same inputs, for measurement and as training losses."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks


def nmse(X: Float[Tensor, "samples units"], Y: Float[Tensor, "samples units"]) -> Float[Tensor, ""]:
    """The squared error between two activities, relative to the variance of the target.

        ||X - Y||_F^2 / (||Y - mean(Y)||_F^2 + 1e-6), the mean over samples

    It is 0 if both are equal and 1 if X is the mean of Y. It compares units one by one, so it is meaningful only if
    unit i of one network corresponds to unit i of the other, as when both start from the same weights.

    Args:
        X: Activity.
        Y: The target activity, of the same shape.

    Raises:
        ValueError: The shapes differ.

    Examples:
        >>> Y = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
        >>> nmse(torch.ones(2, 2), Y)
        tensor(1.0000)
    """
    checks.instance("X", X, Tensor)
    checks.instance("Y", Y, Tensor)
    _check_shape(Y, tuple(X.shape))
    X, Y = checks.widened(X), checks.widened(Y)  # or the constant is rounded to 0, and a large sum to infinity
    return (X - Y).square().sum() / ((Y - Y.mean(0)).square().sum() + 1e-6)


def gram_distance(X: Float[Tensor, "samples units"], Y: Float[Tensor, "samples others"]) -> Float[Tensor, ""]:
    """The squared distance between the normalised Gram matrices of two activities, which is invariant to rotations.

        || G_X / ||G_X||_F - G_Y / ||G_Y||_F ||_F^2,  G_X = X_c X_c^T,  columns centred

    It equals 2 (1 - linear CKA), is differentiable, and compares networks with different numbers of units.

    Args:
        X: Activity of one network.
        Y: Activity of another network on the same samples.

    Raises:
        ValueError: The numbers of samples differ.

    Examples:
        >>> X = torch.tensor([[0.0, 2.0], [2.0, 0.0], [1.0, 5.0]])
        >>> gram_distance(X, 3 * X.flip(1) + 1).item() < 1e-12
        True
    """
    checks.instance("X", X, Tensor)
    checks.instance("Y", Y, Tensor)
    checks.has_shape("X", X.shape, ("samples", "units"))
    _check_shape(Y, (len(X), "units"))
    gram_x, gram_y = _gram(X), _gram(Y)
    return (gram_x - gram_y).square().sum()


def _gram(X: Tensor) -> Tensor:
    lowest, highest = X.detach().aminmax(dim=0)
    # Otherwise activity that is the same for all samples would be compared by its rounding errors.
    rounding = 4 * torch.finfo(X.dtype).eps * torch.maximum(lowest.abs(), highest.abs())
    is_constant = (highest - lowest <= rounding) & rounding.isfinite()
    wide = checks.widened(X)
    centred = (wide - wide.mean(0)).masked_fill(is_constant, 0)
    # Scaled by a power of 2, which changes no digit, since the fourth powers of numbers below may vanish or overflow.
    largest = centred.detach().abs().max()
    centred = centred * torch.ldexp(torch.ones_like(largest), -torch.frexp(largest).exponent.clamp(-120, 120))
    gram: Tensor = centred @ centred.T
    # Clamped before the root, whose gradient at 0 is infinite: X may be the same for all samples.
    return gram / gram.square().sum().clamp_min(torch.finfo(wide.dtype).tiny).sqrt()


def _check_shape(Y: Tensor, shape: tuple[int | str, ...]) -> None:
    if Y.ndim != len(shape) or any(
        isinstance(expected_size, int) and expected_size != size
        for size, expected_size in zip(Y.shape, shape, strict=True)
    ):
        raise ValueError(f"Y.shape = {tuple(Y.shape)}: expected ({', '.join(map(str, shape))}), as X has")
