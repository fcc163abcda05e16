"""A quadratic bowl whose curvature is that of a 3 x 3 convolution on smooth images: exact gradients, and noisy ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor

from engram.lab import Run
from engram.optim import FOP

PLACES, PAIRS, NOISE = 9, 32, 0.1  # of the kernel, of channels, of the targets of a batch
SOLVED, LOST, SHOWN_AT, LAST = 1e-3, 1e6, 60, 100


@dataclass(frozen=True)
class Bowl:
    """A linear 3 x 3 convolution that learns another one."""

    batch_size: Annotated[int, Ge(0)] = 0
    """Images of a batch; 0: all that there could be."""
    lr: Annotated[float, Gt(0)] = 0.1
    """Learning rate."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Momentum of the base."""
    rho: Annotated[float, Ge(0)] = 0.1
    """Rate at which the preconditioner is learned; 0: none."""
    structure: Literal["left", "scalar"] = "left"
    """A matrix over the places of the kernel, or the control, one number."""
    hypergrad_norm: Literal["cosine", "none"] = "cosine"
    """How the hypergradient is scaled."""
    steps: Annotated[int, Ge(1)] = 2000
    """Steps of the optimiser."""


def curvature() -> Float[Tensor, "9 9"]:
    """Return the covariance of neighbouring pixels of smooth images."""
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
    """Return the loss for all images there could be, a pair of channels."""
    error = theta.detach() - target
    return float((error * (C @ error)).sum()) / (2 * PAIRS)


def noisy_gradient(error: Tensor, root: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Return the gradient of a batch of images, whose targets are noisy."""
    x = root @ torch.randn(PLACES, batch_size, generator=generator, dtype=torch.float64)
    noise = torch.randn(batch_size, PAIRS, generator=generator, dtype=torch.float64)
    return x @ (x.mT @ error + NOISE * noise) / batch_size


def matrix(optimizer: FOP, theta: Tensor) -> Float[Tensor, "9 9"]:
    """Return the preconditioner as a matrix, also where it is a number."""
    P = optimizer.preconditioner(theta)
    assert isinstance(P, Tensor)
    return P if P.ndim else P * torch.eye(PLACES, dtype=P.dtype)


def read(P: Float[np.ndarray, "9 9"], C: Tensor, lr: float) -> dict[str, Any]:
    """Return how long the steps are along the directions of curvature, as parts of Newton's, and where P is least."""
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


def seconds(config: Bowl) -> float:
    """Time of a trial on one core."""
    return config.steps * (1.8e-4 if config.rho else 1e-4)
