"""A quadratic bowl with the curvature of a 3 x 3 convolution on smooth images, with exact and noisy gradients."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram.lab import Run, setting, settings
from engram.optim import FOP
from engram.studies.experiments.first_order_preconditioning.cosine import decay

PLACES, PAIRS, NOISE = 9, 32, 0.1  # positions in the kernel, pairs of channels, and noise of the targets in a batch
SOLVED, LOST, SHOWN_AT, LAST = 1e-3, 1e6, 60, 100
ROSE = 10.0  # a learning rate at which the loss rises by this factor during training is not chosen


@settings
class Bowl:
    """The settings of a linear 3 x 3 convolution that learns another one."""

    batch_size: int = setting(0, "images in a batch; 0: exact gradients over the distribution", ge=0)
    rates: tuple[float, ...] = setting((0.025, 0.05, 0.1, 0.2), "candidate learning rates")
    decays: bool = setting(False, "whether the learning rate falls to 0 along a cosine")
    momentum: float = setting(0.0, "momentum of the base optimiser", ge=0, lt=1)
    rho: float = setting(0.1, "learning rate of the preconditioner; 0: none", ge=0)
    structure: Literal["left", "scalar"] = setting("left", "a matrix over positions, or a scalar")
    hypergrad_norm: Literal["cosine", "none"] = setting("cosine", "how the hypergradient is scaled")
    steps: int = setting(2000, "steps of the optimiser", ge=1)


def curvature() -> Float[Tensor, "9 9"]:
    """The covariance of neighbouring pixels of smooth images."""
    row = torch.arange(3.0, dtype=torch.float64)
    positions = torch.cartesian_prod(row, row)
    return torch.exp(-torch.cdist(positions, positions).square() / 8) + 0.01 * torch.eye(PLACES, dtype=torch.float64)


class Descent:
    """One descent towards a random target, with its statistics.

    Args:
        config: The settings.
        lr: Learning rate.
        generator: The source of the target and the batches.
    """

    def __init__(self, config: Bowl, lr: float, generator: torch.Generator) -> None:
        self.C, self.batch_size, self.generator = curvature(), config.batch_size, generator
        self.lr, self.decays, self.steps = lr, config.decays, config.steps
        self.root = torch.linalg.cholesky(self.C)
        self.target = torch.randn(PLACES, PAIRS, generator=generator, dtype=torch.float64)
        self.theta = torch.zeros_like(self.target, requires_grad=True)
        self.optimizer = FOP(
            [self.theta],
            lr=lr,
            momentum=config.momentum,
            rho=config.rho,
            structure=config.structure if config.rho else "none",
            hypergrad_norm=config.hypergrad_norm,
            eig_range=None,
        )
        self.first = loss_of(self.theta, self.target, self.C)
        self.solved, self.highest = np.full(1, float(config.steps)), np.ones(1)

    def step(self, number: int) -> float:
        """Take a step and return the loss before it."""
        loss = loss_of(self.theta, self.target, self.C)
        if loss <= SOLVED * self.first:
            self.solved[0] = min(self.solved[0], number)
        self.highest[0] = max(self.highest[0], min(loss / self.first, LOST) if math.isfinite(loss) else LOST)
        if self.highest[0] >= LOST:
            return LOST * self.first  # it has diverged and is given up
        error = self.theta.detach() - self.target
        exact = self.C @ error
        batch = (error, self.root, self.batch_size, self.generator)
        self.theta.grad = noisy_gradient(*batch) if self.batch_size else exact
        if self.decays:
            decay(self.optimizer, self.lr, number, self.steps)
        self.optimizer.step()
        return loss


def trial(config: Bowl, run: Run) -> dict[str, Any]:
    """Run a descent; the results are the steps to a thousandth of the loss, the final loss and the preconditioner."""

    def score(lr: float) -> float:
        descent = Descent(config, lr, run.generator)
        losses = [descent.step(number) for number in range(config.steps)]
        if descent.highest[0] > ROSE:
            return math.nan
        return -float(np.mean(losses[-LAST:]) if config.batch_size else descent.solved[0])

    lr = run.choose("learning_rate", config.rates, score) if len(config.rates) > 1 else config.rates[0]
    descent, early = Descent(config, lr, run.generator), np.eye(PLACES)
    state = {"theta": descent.theta, "optimizer": descent.optimizer, "early": early}
    for step in run.steps(config.steps, solved=descent.solved, highest=descent.highest, **state):
        run.log(step + 1, every=min(LAST, config.steps), loss=descent.step(step))
        if step + 1 == min(SHOWN_AT, config.steps) and config.rho:
            early[:] = matrix(descent.optimizer, descent.theta).numpy()
    result: dict[str, Any] = {"steps": descent.solved[0], "loss": run.ends("loss", config.steps)[1]}
    result["highest"] = descent.highest[0]
    if config.rho and descent.highest[0] < LOST:
        P, root = matrix(descent.optimizer, descent.theta), descent.root
        condition = float(torch.linalg.cond(root.mT @ P @ root))
        result |= {"step_length": lr * float(P.trace()) / PLACES, "condition": condition}
        if not config.batch_size:
            result |= read(early, descent.C, lr)
    return result


def loss_of(theta: Tensor, target: Tensor, C: Tensor) -> float:
    """The expected loss over images, per pair of channels.

    Args:
        theta: The weights.
        target: The weights of the smallest loss.
        C: The second moments of the inputs.
    """
    error = theta.detach() - target
    return float((error * (C @ error)).sum()) / (2 * PAIRS)


def noisy_gradient(error: Tensor, root: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """The gradient on a batch of images with noisy targets.

    Args:
        error: The weights minus the target, (positions, pairs of channels).
        root: The Cholesky factor of the covariance of pixels.
        batch_size: Number of images.
        generator: Draws the images and the noise.
    """
    x = root @ torch.randn(PLACES, batch_size, generator=generator, dtype=torch.float64)
    noise = torch.randn(batch_size, PAIRS, generator=generator, dtype=torch.float64)
    return x @ (x.mT @ error + NOISE * noise) / batch_size


def matrix(optimizer: FOP, theta: Tensor) -> Float[Tensor, "9 9"]:
    """The preconditioner as a matrix, even if it is a scalar."""
    P = optimizer.preconditioner(theta)
    return P if P.ndim else P * torch.eye(PLACES, dtype=P.dtype)


def read(P: Float[np.ndarray, "9 9"], C: Tensor, lr: float) -> dict[str, Any]:
    """The step lengths along the eigenvectors of the curvature, relative to Newton's.

    Args:
        P: The preconditioner.
        C: The curvature.
        lr: Learning rate.

    Returns:
        ``alignment`` is the absolute cosine between the directions of the smallest P and the highest curvature.
    """
    values, vectors = np.linalg.eigh(C.numpy())
    steps = lr * values * np.einsum("ki,kl,li->i", vectors, P, vectors)
    smallest = np.linalg.eigh(P)[1][:, 0]
    return {
        "alignment": float(abs(smallest @ vectors[:, -1])),
        "flattest": float(steps[0]),
        "steepest": float(steps[-1]),
        "curvature": values.tolist(),
        "newton": steps.tolist(),
        "matrix": P.ravel().tolist(),
    }
