"""Inner loops of ANML and OML with explicit gradients, so that differentiating through them takes one backward pass.

    w(i+1) = w(i) - lr dCE(f(x_i; w(i)), y_i)/dw(i)

They give the same result as ``FastWeights``, which differentiates each step, with a graph a third as long. A step of
the last layer is an outer product of error and features, w(i) = w(0) - lr sum_{j<i} e_j g_j^T, so that only products
with its matrix are ever computed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from engram.continual.anml.gated_net import GatedNet
from engram.meta.inner_updates import Weights
from engram.nn.conv_body import EPS, ConvBody, Patches
from engram.nn.hooks import alteration

threshold_backward = torch.ops.aten.threshold_backward  # first argument where the second is above the third, else 0


class _OuterProducts(torch.autograd.Function):
    """A stand-in for a matrix used only in products, whose gradient, a sum of outer products, is computed at once."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, steps: int, inputs: list[Tensor], errors: list[Tensor]) -> Any:
        ctx.used = inputs, errors
        return tuple(weight.new_zeros(steps, size) for size in weight.shape)

    @staticmethod
    def backward(ctx: Any, d_answers: Tensor, d_back: Tensor) -> Any:
        inputs, errors = (torch.stack(tensors) for tensors in ctx.used)
        return torch.addmm(d_answers.T @ inputs, errors.T, d_back), None, None, None


class MovingHead:
    """A linear layer that learns one image after another by cross-entropy, stored as initial weights and steps.

    Args:
        layer: The layer, which is not changed.
        y: The classes of the images.
        lr: Learning rate.
    """

    def __init__(self, layer: nn.Linear, y: Int[Tensor, " steps"], lr: float) -> None:
        self.layer, self.lr = layer, lr
        self.bias: Tensor = layer.bias
        self.wanted = functional.one_hot(y, layer.out_features).to(layer.weight.dtype)
        self.weight = layer.weight.detach()  # its gradient flows through the zeros added to its products
        self.inputs: list[Tensor] = []
        self.errors: list[Tensor] = []
        self.used: tuple[list[Tensor], list[Tensor]] = [], []
        self.zeros = [rows.unbind() for rows in _OuterProducts.apply(layer.weight, len(y), *self.used)]  # type: ignore[no-untyped-call]

    def step(self, features: Float[Tensor, " features"]) -> Float[Tensor, " features"]:
        """Learn the next image; return the gradient of its loss by the features, at the weights before this step."""
        i = len(self.errors)
        answers: Tensor = torch.addmv(self.bias, self.weight, features) + self.zeros[0][i]
        if i:
            inputs, errors = torch.stack(self.inputs), torch.stack(self.errors)
            answers = torch.addmv(answers, errors.T, inputs @ features, alpha=-self.lr)
        error = answers.softmax(0) - self.wanted[i]
        grad_features: Tensor = error @ self.weight + self.zeros[1][i]
        if i:
            grad_features = torch.addmv(grad_features, inputs.T, errors @ error, alpha=-self.lr)
        self.bias = torch.add(self.bias, error, alpha=-self.lr)
        for steps, history, value in zip((self.inputs, self.errors), self.used, (features, error), strict=True):
            steps.append(value)
            history.append(value.detach())
        return grad_features

    def learn(self) -> tuple[Float[Tensor, "classes features"], Float[Tensor, " classes"]]:
        """Weights and biases after the steps."""
        inputs, errors = torch.stack(self.inputs), torch.stack(self.errors)
        return torch.addmm(self.layer.weight, errors.T, inputs, alpha=-self.lr), self.bias


def is_plain(net: GatedNet) -> bool:
    """Whether the network does what ``GatedNet`` says, so that its parts may be called one by one."""
    kind = type(net)
    return kind.forward is GatedNet.forward and kind.features is GatedNet.features and not alteration(net)


def written_out(net: GatedNet, moves: set[str]) -> str | None:
    """The loop of this module that moves exactly the weights with these names; None if there is none."""
    if not is_plain(net) or type(net.head) is not nn.Linear or net.head.bias is None or alteration(net.head):
        return None  # a subclass, a hook or a forward that was replaced may compute something else with these weights
    if moves == {"head.weight", "head.bias"}:
        return "head"
    without_gate = {name for name, _ in net.named_parameters() if not name.startswith("gate.")}
    is_written_out = type(net.body) is ConvBody and not alteration(net.body) and net.body.is_as_made()
    return "body and head" if is_written_out and moves == without_gate else None


def head(
    layer: nn.Linear, features: Float[Tensor, "steps features"], y: Int[Tensor, " steps"], *, lr: float, order: int
) -> tuple[Tensor, Tensor]:
    """The weights and biases of a linear head after a step on the features of each image.

    Args:
        layer: The head, which is not changed.
        features: Its input for each image.
        y: The classes of the images.
        lr: Learning rate.
        order: 2 to differentiate through the steps, 1 to treat them as constants.
    """
    with torch.set_grad_enabled(order == 2):
        moving = MovingHead(layer, y, lr)
        for image_features in features:
            moving.step(image_features)
        weight, bias = moving.learn()
    return _of_order(order, layer.weight, weight), _of_order(order, layer.bias, bias)


def body_and_head(
    net: GatedNet,
    x: Float[Tensor, "steps channels height width"],
    y: Int[Tensor, " steps"],
    gate: Float[Tensor, "steps features"] | None,
    *,
    lr: float,
    order: int,
) -> Weights:
    """The weights of a ``ConvBody`` and of a linear head after a step on each image, by name.

    Args:
        net: The network, which is not changed.
        x: The images.
        y: Their classes.
        gate: The factors of the features of each image; None: no gate.
        lr: Learning rate.
        order: 2 to differentiate through the steps, 1 to treat them as constants.
    """
    with torch.set_grad_enabled(order == 2):
        weights = _body_and_head(net, x, y, gate, lr)
    return {name: _of_order(order, net.get_parameter(name), weight) for name, weight in weights.items()}


def _of_order(order: int, initial: Tensor, learned: Tensor) -> Tensor:
    if order == 2:
        return cast(Tensor, _Learned.apply(learned))  # type: ignore[no-untyped-call]
    return initial + (learned - initial).detach()


class _Learned(torch.autograd.Function):
    """Weights after the steps, whose gradient cannot be differentiated: ``_OuterProducts`` would leave out a part."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            problem = "explicit gradients of an inner loop have no second derivative"
            raise NotImplementedError(f"{problem}: differentiate through FastWeights with create_graph=True instead")
        return d


def _body_and_head(net: GatedNet, x: Tensor, y: Tensor, gate: Tensor | None, lr: float) -> Weights:
    # Positions come first here, and channels last, so that copying the windows takes few long copies.
    body, head = cast(ConvBody, net.body), MovingHead(cast(nn.Linear, net.head), y, lr)
    patches = Patches.of(x)
    height, width = patches.pooled
    weights: list[tuple[Tensor, ...]] = []
    for index in (0, 4, 8):
        conv, norm = cast(nn.Conv2d, body[index]), cast(nn.InstanceNorm2d, body[index + 1])
        order = (1, 2, 3, 0) if index == 0 else (2, 3, 1, 0)
        weights.append((conv.weight.permute(order).flatten(0, 2), norm.weight, norm.bias))
    for i in range(len(x)):
        first, first_back = _first_block(weights[0], patches.values[i], patches.covariance[i])
        second, second_back = _block(weights[1], first.view(height, width, -1), pooled=True)
        third, third_back = _block(weights[2], second.view(height // 2 - 1, width // 2 - 1, -1), pooled=False)
        features = third.T.flatten()
        grad = head.step(features if gate is None else features * gate[i])
        grad, third_grads = third_back((grad if gate is None else grad * gate[i]).view(third.shape[1], -1).T)
        grad, second_grads = second_back(grad)
        weight_grads = first_back(grad), second_grads, third_grads
        weights = [
            tuple(torch.add(w, g, alpha=-lr) for w, g in zip(*pair, strict=True))
            for pair in zip(weights, weight_grads, strict=True)
        ]
    new_weights = dict(zip(("head.weight", "head.bias"), head.learn(), strict=True))
    for index, (weight, gain, shift) in zip((0, 4, 8), weights, strict=True):
        shape = cast(nn.Conv2d, body[index]).weight.shape
        new_weights[f"body.{index}.weight"] = (
            weight.T.reshape(shape) if index == 0 else weight.T.reshape(len(gain), 3, 3, -1).permute(0, 3, 1, 2)
        )
        new_weights[f"body.{index + 1}.weight"], new_weights[f"body.{index + 1}.bias"] = gain, shift
    return new_weights


def _first_block(
    weights: tuple[Tensor, ...], values: Tensor, covariance: Tensor
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    """The first block of ``ConvBody`` on an image's patches, and a function from its gradient to the weights'."""
    weight, gain, shift = weights
    spread = covariance @ weight
    per_std = torch.rsqrt((spread * weight).sum(0) + EPS)
    scale = gain * per_std
    z = values @ torch.cat((weight * scale, shift[None]))
    positions = _highest(Patches.quarters(z[None]), (4, 1))
    output = z.gather(0, positions).relu()

    def backward(d: Tensor) -> tuple[Tensor, ...]:
        d = values.T @ torch.zeros_like(z).scatter(0, positions, threshold_backward(d.reshape(output.shape), output, 0))
        d, d_shift = d[:-1], d[-1]
        d_gain = (d * weight).sum(0) * per_std
        return torch.addcmul(d * scale, d_gain * scale * per_std, spread, value=-1), d_gain, d_shift

    return output, backward


def _block(
    weights: tuple[Tensor, ...], x: Tensor, pooled: bool
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, tuple[Tensor, ...]]]]:
    """Convolution, norm, ReLU and pooling of one image, and a function from its gradient to the input's and weights'.

    The norm cancels the convolution's bias, which therefore does not move.
    """
    weight, gain, shift = weights
    windows = cast(Tensor, _Windows.apply(x))  # type: ignore[no-untyped-call]
    z = windows @ weight
    z = z - z.mean(0)
    per_std = torch.rsqrt(z.square().mean(0) + EPS)
    z = z * per_std
    output = torch.addcmul(shift, gain, z)
    if pooled:
        positions = _highest(output.T.view(1, -1, x.shape[0] - 2, x.shape[1] - 2), (2, 2))
        output = output.gather(0, positions)
    output = output.relu()

    def backward(d: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        d = threshold_backward(d.reshape(output.shape), output, 0)
        d_shift = d.sum(0)
        if pooled:
            d = torch.zeros_like(z).scatter(0, positions, d)
        d_gain = (d * z).sum(0)
        d = torch.sub(d, d_shift, alpha=1 / len(z))
        d = torch.addcmul(d, z, d_gain, value=-1 / len(z)) * (gain * per_std)
        spread = cast(Tensor, _Overlaid.apply(d @ weight.T, x.shape))  # type: ignore[no-untyped-call]
        return spread, (windows.T @ d, d_gain, d_shift)

    return output, backward


class _Windows(torch.autograd.Function):
    """All 3 x 3 windows of an image, (height, width, channels) to (positions, 9 channels)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        (height, width, channels), (down, right, _) = x.shape, x.contiguous().stride()
        sizes, strides = (height - 2, width - 2, 3, 3, channels), (down, right, down, right, 1)
        return x.contiguous().as_strided(sizes, strides).reshape(-1, 9 * channels)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> Tensor:
        return cast(Tensor, _Overlaid.apply(d, ctx.shape))  # type: ignore[no-untyped-call]


class _Overlaid(torch.autograd.Function):
    """The sum of windows at their positions in an image, which is the gradient of ``_Windows``."""

    @staticmethod
    def forward(ctx: Any, windows: Tensor, shape: torch.Size) -> Tensor:
        order, starts = _windows_at(*shape[:2])
        rows = windows.reshape(-1, shape[2])
        return functional.embedding_bag(order.to(rows.device), rows, starts.to(rows.device), mode="sum").view(shape)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> Any:
        return _Windows.apply(d), None  # type: ignore[no-untyped-call]


@cache
def _windows_at(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The indices of the windows' pixels, grouped by the image's pixels, and where each group begins."""
    pixels = torch.arange(height * width).view(height, width).unfold(0, 3, 1).unfold(1, 3, 1).flatten()
    return pixels.argsort(stable=True), pixels.bincount().cumsum(0).roll(1).index_fill(0, torch.tensor([0]), 0)


@torch.no_grad()
def _highest(image: Float[Tensor, "1 channels height width"], size: tuple[int, int]) -> Int[Tensor, "pooled channels"]:
    """The positions of the maxima in pooling."""
    return functional.max_pool2d(image, size, return_indices=True)[1][0].flatten(1).T
