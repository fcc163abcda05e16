"""One pass of a batch through a Hebbian layer: the definition, and the same with compiled kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from engram import checks
from engram.rules.hebbian_conv.competition import k_winners, per_sample_standardize, triangle
from engram.rules.hebbian_conv.update import RULES, Rule, summed_decay

Activation = Literal["triangle", "wta"]
LEAST_BATCH = 8  # with fewer samples the kernels, which vectorise over samples, are no faster
CONSTANT = 1e-8  # nothing is learned from a sample whose standard deviation is not above this
BLOCK = 1 << 19  # patch values per matrix product, so that they and the drives stay in the cache


@dataclass(frozen=True)
class Competition:
    """The competition, the output and the learning of a layer's units; see ``HebbianConv2d``."""

    n_winners: int
    binary: bool
    activation: Activation
    pool: int
    rule: Rule

    def __post_init__(self) -> None:
        checks.arguments()
        checks.choice("rule", self.rule, RULES)
        checks.choice("activation", self.activation, get_args(Activation))
        checks.size("pool", self.pool, maximum=checks.LIMIT)


class Pass(NamedTuple):
    """The result of a batch.

    Attributes:
        output: Activity, averaged over windows.
        win_rate: Share of the positions at which each unit won.
        sums: Sum of activity times input, for the weights that exist.
        decay: Sum of the decay of each unit's weights.
    """

    output: Float[Tensor, "batch units rows columns"]
    win_rate: Float[Tensor, " units"]
    sums: Float[Tensor, "units weights"]
    decay: Float[Tensor, " units"]


def hebbian_pass(
    x: Float[Tensor, "batch channels height width"],
    weight: Float[Tensor, "units channels rows columns"],
    theta: Float[Tensor, " units"],
    how: Competition,
    connections: Int[Tensor, "units fan_in"] | None,
) -> Pass:
    """The result of a batch, by kernels if they are faster.

    Args:
        x: Input.
        weight: W.
        theta: Thresholds.
        how: How units compete and learn.
        connections: Inputs that each unit sees, as indices of its flattened weights; None: all.
    """
    if (
        x.device.type == "cpu"
        and how.n_winners == 1
        and how.binary
        and len(x) >= LEAST_BATCH
        and x.dtype in (torch.float32, torch.float64)
    ):
        return fast_pass(x, weight, theta, how, connections)
    return plain_pass(x, weight, theta, how, connections)


def plain_pass(
    x: Float[Tensor, "batch channels height width"],
    weight: Float[Tensor, "units channels rows columns"],
    theta: Float[Tensor, " units"],
    how: Competition,
    connections: Int[Tensor, "units fan_in"] | None,
) -> Pass:
    """The result of a batch, computed as defined.

    Args:
        x: Input.
        weight: W.
        theta: Thresholds.
        how: How units compete and learn.
        connections: The inputs that each unit sees; None: all.
    """
    learns = x.detach().flatten(1).std(1, correction=0) > CONSTANT
    x = per_sample_standardize(x)
    checks.finite("input", x)
    drive = torch.conv2d(x, weight) - theta.view(-1, 1, 1)
    with torch.no_grad():
        y = k_winners(drive, how.n_winners, binary=how.binary)
        win_rate = (y > 0).to(y.dtype).mean((0, 2, 3))
        learning_activity = y * learns.view(-1, 1, 1, 1)
        sums = conv2d_weight(x, weight.shape, learning_activity).flatten(1)  # type: ignore[no-untyped-call]
        if connections is not None:
            sums = sums.gather(1, connections)
        decay = summed_decay(learning_activity, how.rule)
    output = triangle(drive) if how.activation == "triangle" else y
    if how.pool > 1:
        output = functional.avg_pool2d(output, how.pool)
    return Pass(output, win_rate, sums, decay)


def fast_pass(
    x: Float[Tensor, "batch channels height width"],
    weight: Float[Tensor, "units channels rows columns"],
    theta: Float[Tensor, " units"],
    how: Competition,
    connections: Int[Tensor, "units fan_in"] | None,
) -> Pass:
    """The result of a batch as in ``plain_pass``, for one binary winner on a CPU.

    Samples become the last axis; between two layers they already are, since the output is a view of such an array.

    Args:
        x: Input.
        weight: W.
        theta: Thresholds.
        how: How units compete and learn.
        connections: The inputs that each unit sees; None: all.
    """
    from engram.rules.hebbian_conv import kernels

    batch, channels, height, width = x.shape
    units, _, kernel, _ = weight.shape
    inputs, dtype = x.detach().permute(1, 2, 3, 0).contiguous(), theta.numpy().dtype
    standard, spread = np.empty((channels * height * width, batch), dtype), np.empty(batch)
    kernels.standardize(inputs.view(-1, batch).numpy(), standard, spread)
    if not np.isfinite(spread).all():
        checks.finite("input", x)
    rows, columns = height - kernel + 1, width - kernel + 1
    winners = np.empty((rows, columns, batch), np.int32)
    output = np.zeros((units, rows // how.pool, columns // how.pool, batch), dtype)
    is_triangle, learns = how.activation == "triangle", spread > CONSTANT
    wins, decay = np.zeros(units), np.zeros(units, dtype)
    if connections is None:
        images = torch.from_numpy(standard).view(channels, height, width, batch)
        matrix, depth = weight.detach().flatten(1), channels * kernel**2
        block_rows = max(1, BLOCK // (depth * columns * batch))
        for first in range(0, rows, block_rows):
            count = min(block_rows, rows - first)
            drives = torch.mm(matrix, _patches(images, kernel, first, count).reshape(depth, -1))
            blocks = drives.view(units, count, columns, batch).numpy()
            kernels.dense_rows(blocks, first, theta.numpy(), is_triangle, how.pool, winners, output)
        sums = np.zeros((units, kernel, kernel * channels), dtype)
        image_rows = images.permute(3, 1, 2, 0).contiguous().view(batch, height, -1).numpy()
        kernels.dense_learning(image_rows, winners, learns, wins, decay, sums)
        growth = torch.from_numpy(sums).view(units, kernel, kernel, channels).permute(0, 3, 1, 2).reshape(units, -1)
    else:
        offsets = _offsets(connections, kernel, height, width)
        values = weight.detach().flatten(1).gather(1, connections).numpy()
        geometry = width, values, offsets, theta.numpy(), is_triangle, how.pool
        kernels.sparse_places(standard, *geometry, winners, output)
        sums = np.zeros(values.shape, dtype)
        kernels.sparse_learning(standard, width, offsets, winners, learns, wins, decay, sums)
        growth = torch.from_numpy(sums)
    win_rate = torch.from_numpy((wins / winners.size).astype(dtype))
    total_decay = torch.from_numpy(decay) if how.rule != "hebb" else torch.zeros_like(theta)
    return Pass(torch.from_numpy(output).permute(3, 0, 1, 2), win_rate, growth, total_decay)


def _patches(images: Tensor, kernel: int, first: int, count: int) -> Tensor:
    """The patches at some rows of positions, as a view, (channels, kernel, kernel, count, columns, batch)."""
    channels, _, width, batch = images.shape
    channel, row, column, _ = images.stride()
    shape = channels, kernel, kernel, count, width - kernel + 1, batch
    return images.as_strided(shape, (channel, row, column, row, column, 1), first * row)


def _offsets(connections: Int[Tensor, "units fan_in"], kernel: int, height: int, width: int) -> np.ndarray:
    """The indices of connected inputs, as seen at the first position, in a flattened image of this size."""
    channel, inside = np.divmod(connections.numpy(), kernel**2)
    return np.asarray((channel * height + inside // kernel) * width + inside % kernel)
