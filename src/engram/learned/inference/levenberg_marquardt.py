"""Levenberg-Marquardt for the coefficients of a rule, and for first weights that are not known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from engram.learned.inference.arrowhead import Arrow
from engram.learned.inference.feed_forward import Rows
from engram.learned.inference.losses import Loss
from engram.learned.inference.model import Model

RAISE, LOWER, FIRST, LEAST = 4.0, 5.0, 1e-2, 1e-8
POOR = 0.25  # a step that lowers the loss by a smaller share of what was expected went too far
TRIES = 20  # of one step, with damping up to about 10^8


class Problem(NamedTuple):
    """A model, its data, and what is not known.

    Attributes:
        model: The layer.
        rows: The recorded units.
        loss: What is minimised.
        block: The block of unknown first weights of each row, which rows may share; None: they are known.
        size: Number of weights in a block: those of a unit, or of all units of a session if they interact.
    """

    model: Model
    rows: Rows
    loss: Loss
    block: Int[np.ndarray, " row"] | None
    size: int

    def value(self, theta: Float[np.ndarray, " part"], initial: Float[np.ndarray, "row input"]) -> float:
        """The loss, infinite where the run diverges.

        Args:
            theta: Coefficients.
            initial: First weights of each row.
        """
        path = self.model.run(theta, self.rows._replace(initial=initial))
        return np.inf if path is None else self.loss.value(path.activity)

    def equations(self, theta: Float[np.ndarray, " free"], initial: Float[np.ndarray, "row input"]) -> Arrow:
        """The slope of the loss and its curvature after Gauss and Newton (for choices, after Fisher).

        Args:
            theta: Coefficients.
            initial: First weights of each row.
        """
        parts, inputs = len(theta), self.size
        block = self.block
        blocks = 0 if block is None else int(block.max()) + 1
        A, slope = np.zeros((parts, parts)), np.zeros(parts)
        B, C, slope_initial = (
            np.zeros((blocks, parts, inputs)),
            np.zeros((blocks, inputs, inputs)),
            np.zeros((blocks, inputs)),
        )
        rows = self.rows._replace(initial=initial)
        for kept, predicted, J in self.model.linearise(theta, rows, by_initial=block is not None):
            by = self.loss.quadratic(predicted, kept)
            if block is None:
                flat = J.reshape(predicted.size, parts)
                A += flat.T @ (by.curvature.reshape(-1, 1) * flat)
                slope += by.slope.ravel() @ flat
                continue
            products = np.matmul(J.transpose(0, 2, 1), by.curvature[:, :, None] * J)
            slopes = np.matmul(by.slope[:, None, :], J)[:, 0]
            A += products[:, :parts, :parts].sum(0)
            slope += slopes[:, :parts].sum(0)
            np.add.at(B, block[kept], products[:, :parts, parts:])
            np.add.at(C, block[kept], products[:, parts:, parts:])
            np.add.at(slope_initial, block[kept], slopes[:, parts:])
        return Arrow(A, B, C, slope, slope_initial)

    def moved(
        self, initial: Float[np.ndarray, "row input"], step: Float[np.ndarray, "block weight"]
    ) -> Float[np.ndarray, "row input"]:
        """First weights after a step, each row with its part of the block.

        Args:
            initial: First weights of each row.
            step: What is added to each block.
        """
        if self.block is None:
            return initial
        inputs = initial.shape[1]
        own = step[self.block]
        if self.size > inputs:
            own = step.reshape(len(step), -1, inputs)[self.block, self.rows.unit]
        moved: np.ndarray = initial + own
        return moved


class Fitted(NamedTuple):
    """Where the search ended.

    Attributes:
        theta: Coefficients.
        initial: First weights of each row.
        loss: The loss there.
        iterations: Steps that lowered the loss.
        converged: Whether no further step would lower it by much.
    """

    theta: Float[np.ndarray, " part"]
    initial: Float[np.ndarray, "row input"]
    loss: float
    iterations: int
    converged: bool


def levenberg_marquardt(
    problem: Problem,
    theta: Float[np.ndarray, " part"],
    initial: Float[np.ndarray, "row input"],
    max_iter: int,
    tol: float,
) -> Fitted:
    """The coefficients, and unknown first weights, of smallest loss near a start.

    A step solves (H + damping diag(H)) d = -slope, with the curvature H of ``Problem.equations``. The damping starts at
    zero, so that a linear problem takes one step; it rises while a step would not lower the loss or would diverge, and
    after one that lowered it much less than expected, and falls after others.

    Args:
        problem: What is fitted.
        theta: Start of the coefficients, at which the run does not diverge.
        initial: Start of the first weights of each row; rows of one block start equal.
        max_iter: Largest number of steps.
        tol: The search ends when a step lowers the loss by less than this share.

    Source: Levenberg, "A method for the solution of certain non-linear problems in least squares" (1944); Marquardt,
    "An algorithm for least-squares estimation of nonlinear parameters" (1963).
    """
    loss = problem.value(theta, initial)
    damping, iterations = 0.0, 0
    while iterations < max_iter:
        equations = problem.equations(theta, initial)
        for _ in range(TRIES):
            by_theta, by_initial = equations.step(damping)
            tried = theta + by_theta, problem.moved(initial, by_initial)
            expected = -(by_theta @ equations.slope + (by_initial * equations.slope_initial).sum()) / 2
            reached = problem.value(*tried) if np.isfinite(by_theta).all() else np.inf
            if reached < loss:
                break
            if expected <= tol * loss:
                return Fitted(theta, initial, loss, iterations, True)
            damping = max(damping * RAISE, FIRST)
        else:
            return Fitted(theta, initial, loss, iterations, False)
        (theta, initial), before, loss = tried, loss, reached
        iterations += 1
        if before - loss < POOR * expected:
            damping = max(damping * RAISE, FIRST)
        else:
            damping = damping / LOWER if damping / LOWER > LEAST else 0.0
        if before - loss <= tol * before:
            return Fitted(theta, initial, loss, iterations, True)
    return Fitted(theta, initial, loss, iterations, False)
