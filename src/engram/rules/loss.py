"""The loss that all learning rules share; the target's dtype decides its kind."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from engram import checks
from engram.nn.sequence import precise


def output_loss(
    output: Float[Tensor, "*time batch outputs"], target: Shaped[Tensor, "*time_batch_outputs"]
) -> Float[Tensor, ""]:
    """The loss, a mean over the batch, summed over time if there is an output at each step.

        int64 classes c:  L = -log softmax(y)[c]          values t:  L = sum_k (y_k - t_k)^2 / 2

    Args:
        output: y, the network's output, (batch, outputs) or (time, batch, outputs).
        target: Classes, (batch,), int64, or values t, (batch, outputs), of the output's dtype; with a leading time axis
            if the output has one.

    Raises:
        TypeError: Classes are not int64.
        ValueError: The batch is empty, the shapes do not match, or a class is not among the outputs.

    Examples:
        >>> import torch
        >>> output_loss(torch.zeros(3, 2), torch.ones(3, 2)), output_loss(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
        (tensor(1.), tensor(0.6931))
    """
    checks.instance("output", output, Tensor)
    checks.instance("target", target, Tensor)
    if target.is_floating_point():
        output = precise(output, target)
    if output.ndim == 3:
        if target.shape[:2] != output.shape[:2]:
            steps = tuple(output.shape[:2])
            raise ValueError(f"target.shape = {tuple(target.shape)}: expected to begin with {steps}, time and batch")
        return len(output) * output_loss(output.flatten(0, 1), target.flatten(0, 1))
    if _classes(output, target):
        return functional.cross_entropy(output, target)
    return (checks.widened(output - target).square().sum() / (2 * len(output))).to(output.dtype)


def sample_losses(
    output: Float[Tensor, "batch outputs"], target: Shaped[Tensor, "_ *outputs"]
) -> Float[Tensor, " batch"]:
    """The loss of each sample, whose mean is ``output_loss``.

    Args:
        output: The network's output y.
        target: Classes, (batch,), int64; or values t, (batch, outputs), of the output's dtype.

    Raises:
        TypeError: Classes are not int64.
        ValueError: The batch is empty, the shapes do not match, or a class is not among the outputs.

    Examples:
        >>> import torch
        >>> sample_losses(torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [0.0, 2.0]]))
        tensor([1., 2.])
    """
    if _classes(output, target):
        return functional.cross_entropy(output, target, reduction="none")
    return (checks.widened(output - target).square().sum(1) / 2).to(output.dtype)


def output_error(
    output: Float[Tensor, "batch outputs"], target: Shaped[Tensor, "_ *outputs"]
) -> Float[Tensor, "batch outputs"]:
    """The derivative of each sample's loss with respect to the output: softmax(y) - one_hot(c), or y - t.

    Args:
        output: The network's output y.
        target: Classes, (batch,), int64; or values t, (batch, outputs), of the output's dtype.

    Raises:
        TypeError: Classes are not int64.
        ValueError: The batch is empty, the shapes do not match, or a class is not among the outputs.

    Examples:
        >>> import torch
        >>> output_error(torch.zeros(1, 2), torch.tensor([1]))
        tensor([[ 0.5000, -0.5000]])
    """
    if not _classes(output, target):
        return output - target
    error = output.softmax(1)
    return error.scatter_add(1, target[:, None], -error.new_ones(len(error), 1))


def loss_and_error(
    output: Float[Tensor, "batch outputs"], target: Shaped[Tensor, "_ *outputs"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "batch outputs"]]:
    """The ``output_loss`` and its derivative with respect to the output: ``output_error`` over the batch size."""
    size = len(output)
    if not _classes(output, target):
        error = output - target
        return (checks.widened(error).square().sum() / (2 * size)).to(error.dtype), error / size
    logarithms = output.log_softmax(1)
    error = logarithms.exp().div_(size)
    error.scatter_add_(1, target[:, None], error.new_full((size, 1), -1 / size))
    return functional.nll_loss(logarithms, target), error


def _classes(output: Tensor, target: Tensor) -> bool:
    """Whether the target holds classes; raises if it does not fit the output."""
    checks.instance("output", output, Tensor)
    checks.instance("target", target, Tensor)
    if output.ndim != 2 or not len(output):
        raise ValueError(
            f"output.shape = {tuple(output.shape)} of model: expected (batch, outputs), with at least one sample"
        )
    if target.is_floating_point():
        checks.tensor("target", target, tuple(output.shape), like=output)
        return False
    if target.dtype != torch.int64:
        raise TypeError(f"target.dtype = {target.dtype}: expected torch.int64, for classes, or that of values")
    if target.shape != output.shape[:1]:
        raise ValueError(f"target.shape = {tuple(target.shape)}: expected {(len(output),)}, a class for each sample")
    lowest, highest = (int(end) for end in target.aminmax())
    if lowest < 0 or highest >= output.shape[1]:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"target = {wrong}: expected classes from 0 to {output.shape[1] - 1}, one for each output")
    return True
