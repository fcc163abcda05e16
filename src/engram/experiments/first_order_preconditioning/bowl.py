"""A quadratic bowl whose curvature is that of a 3 x 3 convolution on smooth images: exact gradients, and noisy ones."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram.lab import Run, setting, settings
from engram.optim import FOP

PLACES, PAIRS, NOISE = 9, 32, 0.1  # of the kernel, of channels, of the targets of a batch
SOLVED, LOST, SHOWN_AT, LAST = 1e-3, 1e6, 60, 100


@settings
class Bowl:
    """A linear 3 x 3 convolution that learns another one."""

    batch_size: int = setting(0, "images of a batch; 0: all that there could be", ge=0)
    lr: float = setting(0.1, "learning rate", gt=0)
    momentum: float = setting(0.0, "momentum of the base", ge=0, lt=1)
    rho: float = setting(0.1, "rate at which the preconditioner is learned; 0: none", ge=0)
    structure: Literal["left", "scalar"] = setting("left", "a matrix over places, or a number")
    hypergrad_norm: Literal["cosine", "none"] = setting("cosine", "how the hypergradient is scaled")
    steps: int = setting(2000, "steps of the optimiser", ge=1, scales=True)


def curvature() -> Float[Tensor, "9 9"]:
    """The covariance of neighbouring pixels of smooth images."""
    row = torch.arange(3.0, dtype=torch.float64)
    places = torch.cartesian_prod(row, row)
    return torch.exp(-torch.cdist(places, places).square() / 8) + 0.01 * torch.eye(PLACES, dtype=torch.float64)


def trial(config: Bowl, run: Run) -> dict[str, Any]:
    """Descend; the result is when the loss was a thousandth, how low it ended, and what the preconditioner became."""
    C, batch = curvature(), config.batch_size
    root = torch.linalg.cholesky(C)
    target = torch.randn(PLACES, PAIRS, generator=run.generator, dtype=torch.float64)
    theta = torch.zeros_like(target, requires_grad=True)
    optimizer = FOP(
        [theta],
        lr=config.lr,
        momentum=config.momentum,
        rho=config.rho,
        structure=config.structure if config.rho else "none",
        hypergrad_norm=config.hypergrad_norm,
        eig_range=None,
    )
    first = loss_of(theta, target, C)
    solved, highest, early = np.full(1, float(config.steps)), np.ones(1), np.eye(PLACES)
    state = {"theta": theta, "optimizer": optimizer, "solved": solved, "highest": highest, "early": early}
    for step in run.steps(config.steps, **state):
        loss = loss_of(theta, target, C)
        if loss <= SOLVED * first:
            solved[0] = min(solved[0], step)
        highest[0] = max(highest[0], min(loss / first, LOST) if math.isfinite(loss) else LOST)
        if highest[0] >= LOST:
            loss = LOST * first  # nothing is computed of it any more
        else:
            error = theta.detach() - target
            theta.grad = noisy_gradient(error, root, batch, run.generator) if batch else C @ error
            optimizer.step()
        run.log(step + 1, every=min(LAST, config.steps), loss=loss)
        if step + 1 == SHOWN_AT and config.rho:
            early[:] = matrix(optimizer, theta).numpy()
    result: dict[str, Any] = {"steps": solved[0], "loss": run.ends("loss", config.steps)[1]}
    result["highest"] = highest[0]
    if config.rho and highest[0] < LOST:
        P = matrix(optimizer, theta)
        result |= {"trace": float(P.trace()) / PLACES, "condition": float(torch.linalg.cond(root.mT @ P @ root))}
        if not batch:
            result |= read(early, C, config.lr)
    return result


def loss_of(theta: Tensor, target: Tensor, C: Tensor) -> float:
    """The loss for all images there could be, a pair of channels."""
    error = theta.detach() - target
    return float((error * (C @ error)).sum()) / (2 * PAIRS)


def noisy_gradient(error: Tensor, root: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """The gradient of a batch of images, whose targets are noisy."""
    x = root @ torch.randn(PLACES, batch_size, generator=generator, dtype=torch.float64)
    noise = torch.randn(batch_size, PAIRS, generator=generator, dtype=torch.float64)
    return x @ (x.mT @ error + NOISE * noise) / batch_size


def matrix(optimizer: FOP, theta: Tensor) -> Float[Tensor, "9 9"]:
    """The preconditioner as a matrix, also where it is a number."""
    P = optimizer.preconditioner(theta)
    assert isinstance(P, Tensor)
    return P if P.ndim else P * torch.eye(PLACES, dtype=P.dtype)


def read(P: Float[np.ndarray, "9 9"], C: Tensor, lr: float) -> dict[str, Any]:
    """How long the steps are along the directions of curvature, as parts of Newton's, and where P is least."""
    values, vectors = np.linalg.eigh(C.numpy())
    parts = lr * values * np.einsum("ki,kl,li->i", vectors, P, vectors)
    least = np.linalg.eigh(P)[1][:, 0]
    return {
        "alignment": float(abs(least @ vectors[:, -1])),
        "flattest": float(parts[0]),
        "steepest": float(parts[-1]),
        "curvature": values.tolist(),
        "newton": parts.tolist(),
        "matrix": P.ravel().tolist(),
    }
