"""Baselines for a learned rule: memories of pairs by known rules, and the best accuracy without synapses."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks


def hebb_memory(
    x: Float[Tensor, "batch pairs inputs"], y: Float[Tensor, "batch pairs outputs"], decay: float = 1.0
) -> Float[Tensor, "batch outputs inputs"]:
    """The weights after one pass over pairs by Hebb's rule, W = decay W + y x^T / D, from zero.

    Args:
        x: Cues, of D inputs.
        y: Their targets.
        decay: Fraction of the weights that remains at each pair, from 0 to 1.

    Raises:
        ValueError: Shapes do not match, or ``decay`` is not from 0 to 1.

    Examples:
        >>> hebb_memory(torch.ones(1, 1, 2), torch.ones(1, 1, 1))
        tensor([[[0.5000, 0.5000]]])
    """
    checks.arguments()
    checks.number("decay", decay, minimum=0, maximum=1)
    cues, targets = checks.widened(x), checks.widened(y)  # half precision cannot count many pairs
    decays = decay ** torch.arange(x.shape[1] - 1, -1, -1, dtype=cues.dtype, device=x.device)
    weight = (targets * decays[:, None]).transpose(1, 2) @ cues / x.shape[2]
    return weight.to(x.dtype)


def delta_memory(
    x: Float[Tensor, "batch pairs inputs"], y: Float[Tensor, "batch pairs outputs"], rate: float | None = None
) -> Float[Tensor, "batch outputs inputs"]:
    """The weights after one pass by the delta rule, W += rate (y - W x) x^T, from zero.

    It is a step of gradient descent on |y - W x|^2 / 2 for each pair; with rate = 1 / |x|^2 the last pair is recalled
    exactly.

    Args:
        x: Cues, of D inputs.
        y: Their targets.
        rate: Learning rate; None: 1 / D, which is 1 / |x|^2 for patterns of -1 and +1.

    Raises:
        ValueError: Shapes do not match, or ``rate`` is negative.

    Examples:
        >>> x, y = torch.tensor([[[1.0, 1.0], [1.0, -1.0]]]), torch.tensor([[[1.0], [-1.0]]])
        >>> (delta_memory(x, y) @ x.transpose(1, 2)).tolist()
        [[[1.0, -1.0]]]
    """
    checks.arguments()
    step = 1 / x.shape[2] if rate is None else checks.number("rate", rate, minimum=0)
    cues, targets = checks.widened(x), checks.widened(y)  # half precision would lose small changes
    weight = cues.new_zeros(len(x), y.shape[2], x.shape[2])
    for cue, target in zip(cues.unbind(1), targets.unbind(1), strict=True):
        error = target - (weight @ cue[..., None])[..., 0]
        weight = weight + step * error[..., None] * cue[:, None]
    return weight.to(x.dtype)


def pseudo_inverse_memory(
    x: Float[Tensor, "batch pairs inputs"], y: Float[Tensor, "batch pairs outputs"]
) -> Float[Tensor, "batch outputs inputs"]:
    """The weights W = Y^T pinv(X^T), which recall all pairs whose cues are independent; neither local nor online.

    Examples:
        >>> x, y = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]), torch.tensor([[[1.0], [-1.0]]])
        >>> (pseudo_inverse_memory(x, y) @ x.transpose(1, 2)).round(decimals=4).tolist()
        [[[1.0, -1.0]]]
    """
    checks.arguments()
    inverse: Tensor = torch.linalg.pinv(checks.widened(x).transpose(1, 2))
    weight: Tensor = checks.widened(y).transpose(1, 2) @ inverse
    return weight.to(x.dtype)


def sgd_recall(
    x: Float[Tensor, "batch pairs inputs"],
    y: Float[Tensor, "batch pairs outputs"],
    rate: float,
    hidden: int,
    generator: torch.Generator,
) -> Float[Tensor, "batch pairs outputs"]:
    """The answers of networks W2 tanh(W1 x) to all cues, after one pass of gradient descent over the pairs.

    Each stream has its own network, with initial weights W1 from N(0, 1 / fan-in) and W2 = 0, since a random readout
    would be noise as large as the targets, and takes one step on |y - f(x)|^2 / 2 for each pair.

    Args:
        x: Cues.
        y: Their targets.
        rate: Learning rate.
        hidden: Number of hidden units.
        generator: Source of the initial weights.

    Raises:
        ValueError: Shapes do not match, ``rate`` is negative, or ``hidden`` is below 1.

    Examples:
        >>> x, y = torch.ones(1, 1, 4), torch.ones(1, 1, 1)
        >>> bool(sgd_recall(x, y, 0.2, 32, torch.Generator().manual_seed(0))[0, 0, 0] > 0)
        True
    """
    checks.arguments()
    checks.number("rate", rate, minimum=0)
    checks.size("hidden", hidden)
    batch, _, inputs = x.shape
    outputs, dtype = y.shape[2], x.dtype
    x, y = checks.widened(x), checks.widened(y)
    W1 = torch.randn(batch, hidden, inputs, generator=generator).to(x) / math.sqrt(inputs)
    W2 = x.new_zeros(batch, outputs, hidden)
    for cue, target in zip(x[..., None].unbind(1), y[..., None].unbind(1), strict=True):
        activity = torch.tanh(W1 @ cue)
        error = target - W2 @ activity
        hidden_error = (W2.transpose(1, 2) @ error) * (1 - activity.square())
        W1 = W1 + rate * hidden_error @ cue.transpose(1, 2)
        W2 = W2 + rate * error @ activity.transpose(1, 2)
    answers = W2 @ torch.tanh(W1 @ x.transpose(1, 2))
    return answers.transpose(1, 2).to(dtype)


def body_only_accuracy(snippets: int) -> float:
    """The best accuracy without synapses on pairs of random bits, if each neuron sees one bit.

    Such a neuron can count, for each value of its bit in the cue, the bits that followed. Among K snippets, m = 1 + n
    have the cue's bit, where n is binomial with K - 1 and 1/2; the sign of their sum S is right with probability
    1/2 + E|S| / 2m.

    Args:
        snippets: K.

    Raises:
        ValueError: ``snippets`` is not from 1 to 1000.

    Examples:
        >>> [round(body_only_accuracy(K), 3) for K in (1, 2, 3, 6, 32)]
        [1.0, 0.875, 0.812, 0.726, 0.599]
    """
    n_others = checks.size("snippets", snippets, maximum=1000) - 1
    total = 0.0
    for n in range(n_others + 1):
        m = n + 1
        magnitude = sum(math.comb(m, k) * abs(2 * k - m) for k in range(m + 1)) / 2**m
        total += math.comb(n_others, n) / 2**n_others * (0.5 + magnitude / (2 * m))
    return total
