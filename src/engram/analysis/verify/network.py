"""A ReLU network as matrices, which all proofs are about."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import fx, nn
from torch.nn import functional

from engram import checks
from engram.nn.hooks import has_hooks

Array = np.ndarray[Any, np.dtype[np.float64]]
Index = np.ndarray[Any, np.dtype[np.intp]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

SUPPORTED = (
    nn.AvgPool2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Conv2d, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Hardtanh,
    nn.Identity, nn.LeakyReLU, nn.Linear, nn.MaxPool2d, nn.ReLU,
)  # fmt: skip


class UnsupportedLayerError(TypeError):
    """A module has a layer that is not piecewise linear, or that cannot be read as matrices; the message names it."""


@dataclass(frozen=True, eq=False)
class AffineReLU:
    """Affine layers with ReLU between them, in 64-bit floating point.

        h_0 = x,   z_k = W_k h_{k-1} + b_k,   h_k = max(z_k, 0),   y = z_L

    ``weights`` are W_k, (out, in), and ``biases`` b_k, (out,), of at least one layer; all are finite.

    Examples:
        >>> AffineReLU((np.array([[1.0, 1.0], [1.0, -1.0]]), np.ones((1, 2))), (np.zeros(2), np.zeros(1)))(np.ones(2))
        array([2.])
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    def __post_init__(self) -> None:
        checks.arguments()
        if not self.weights or len(self.weights) != len(self.biases):
            raise ValueError(
                f"{len(self.weights)} weights and {len(self.biases)} biases: expected equal numbers, at least 1"
            )
        for kind, arrays in (("weights", self.weights), ("biases", self.biases)):
            copies = tuple(np.array(a, dtype=np.float64) for a in arrays)  # nothing else can change these
            for k, a in enumerate(copies):
                checks.finite(f"{kind}[{k}]", a)
                a.setflags(write=False)
            object.__setattr__(self, kind, copies)
        for k, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            n_inputs = self.weights[k - 1].shape[0] if k else W.shape[-1]
            if W.ndim != 2 or b.shape != W.shape[:1] or W.shape[1] != n_inputs or 0 in W.shape:
                raise ValueError(
                    f"layer {k} has weights {W.shape} and biases {b.shape}: expected (n, {n_inputs}) and (n,)"
                )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of inputs, of hidden units in each layer, and of outputs."""
        return (self.weights[0].shape[1], *(len(b) for b in self.biases))

    def __call__(self, x: Float[np.ndarray, "*batch inputs"]) -> Float[np.ndarray, "*batch outputs"]:
        """The outputs y."""
        return self.preactivations(x)[-1]

    def preactivations(self, x: Float[np.ndarray, "*batch inputs"]) -> list[Array]:
        """The pre-activations z_1 to z_L, (..., units) each; the last are the outputs."""
        with checks.noted(x=x):
            preactivations, h = [], np.asarray(x, dtype=np.float64)
        self.check_inputs("x", h)
        for W, b in zip(self.weights, self.biases, strict=True):
            preactivations.append(h @ W.T + b)
            h = np.maximum(preactivations[-1], 0)
        return preactivations

    def check_inputs(self, name: str, x: Float[np.ndarray, "*batch inputs"]) -> None:
        """Raise a ValueError unless the last axis of an array has the size of the inputs."""
        checks.instance(name, x, np.ndarray)
        if x.shape[-1:] != self.sizes[:1]:
            raise ValueError(f"{name}.shape = {x.shape}: expected (..., {self.sizes[0]}), as the network has inputs")

    def exact(self, x: Float[np.ndarray, " inputs"]) -> list[Fraction]:
        """The outputs for one input without any rounding, as rational numbers."""
        h = [Fraction(v) for v in checks.array("x", x, self.sizes[:1]).tolist()]
        for k, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = exact_affine(W, b, h)
            h = z if k == len(self.weights) - 1 else [max(v, Fraction(0)) for v in z]
        return h


def exact_affine(W: Array, b: Array, x: Sequence[Fraction]) -> list[Fraction]:
    """W x + b without any rounding.

    Args:
        W: Weights.
        b: Biases.
        x: Input, as rational numbers.
    """
    return [
        sum((Fraction(w) * v for w, v in zip(row, x, strict=True) if w and v), Fraction(offset))
        for row, offset in zip(W.tolist(), b.tolist(), strict=True)
    ]


def as_affine_relu(
    module: nn.Module | AffineReLU, input_shape: Sequence[int] | None = None, *, drop_softmax: bool = False
) -> AffineReLU:
    """A module as affine layers with ReLU between them.

    Weights are cast to 64 bits. Convolutions and average pooling become matrices, batch normalisation is folded into
    the layer beside it (which rounds: a proof is about the folded network), and

        leaky(z) = relu(z) - s relu(-z),   clip(z, a, b) = a + relu(z - a) - relu(z - b),   max(a, b) = b + relu(a - b)

    Args:
        module: A chain of ``Linear``, ``Conv2d``, ``AvgPool2d``, ``MaxPool2d``, ``BatchNorm1d``, ``BatchNorm2d``,
            ``Flatten``, ``Dropout``, ``Identity``, ``ReLU``, ``LeakyReLU``, ``Hardtanh`` and ``ReLU6``, as modules, or
            ``relu`` and ``flatten`` as functions.
        input_shape: Shape of one input, without batch; not needed if the first layer is ``Linear``.
        drop_softmax: Whether to leave out a ``Softmax`` or ``LogSoftmax`` over the classes at the end. The outputs then
            have the same order, but other values.

    Raises:
        UnsupportedLayerError: A layer is of another kind, or a softmax that is not left out; it is named by its path.
        ValueError: A layer is in training mode, a number is not finite, or ``input_shape`` is missing.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> as_affine_relu(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))).sizes
        (3, 4, 2)
    """
    checks.arguments()
    net, softmax = without_softmax(module, input_shape)
    if softmax and not drop_softmax:
        raise kept_softmax(softmax, "drop_softmax=True leaves it out, which keeps the order of the outputs alone")
    return net


def kept_softmax(name: str, hint: str) -> UnsupportedLayerError:
    """The error for a softmax that cannot be left out of a proof; ``hint`` says what can be done."""
    return UnsupportedLayerError(f"layer {name!r} is a softmax, which is not piecewise linear: {hint}")


def without_softmax(module: nn.Module | AffineReLU, input_shape: Sequence[int] | None = None) -> tuple[AffineReLU, str]:
    """A module up to a softmax at its end, and the path of the softmax, or "" if there is none."""
    if isinstance(module, AffineReLU):
        return module, ""
    if fx.Tracer().is_leaf_module(module, ""):
        module = nn.Sequential(module)
    if has_hooks(module):  # which tracing skips; those of containers within are traced
        raise UnsupportedLayerError(f"{type(module).__name__} has hooks, which may change its input or its output")
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:
        raise UnsupportedLayerError(f"{type(module).__name__} cannot be read as a chain of layers: {error}") from error
    modules = dict(module.named_modules())
    chain: _Chain | None = None
    softmax = ""
    with torch.no_grad():
        for before, node in pairwise(graph.nodes):
            name = str(node.target) if node.op == "call_module" else node.name
            if not node.args or node.args[0] is not before or sum(isinstance(a, fx.Node) for a in node.args) > 1:
                raise UnsupportedLayerError(f"layer {name!r} does not just follow the layer before: expected a chain")
            if node.op == "output":
                break
            if softmax:
                raise UnsupportedLayerError(f"layer {softmax!r} is a softmax before the end")
            layer = modules[name] if node.op == "call_module" else _as_module(node, name)
            if chain is None:
                chain = _Chain(_input_shape(layer, name, input_shape))
            if isinstance(layer, nn.Softmax | nn.LogSoftmax):
                if len(chain.shape) != 1 or layer.dim not in (1, -1):
                    raise kept_softmax(name, f"expected the dim 1 of outputs (batch, classes), not {layer.dim}")
                softmax = name
                continue
            try:
                _append(chain, layer, name)
            except RuntimeError as error:  # torch's, about shapes
                raise ValueError(f"layer {name!r} does not take an input of shape {chain.shape}: {error}") from error
    if chain is None:
        raise UnsupportedLayerError(f"{type(module).__name__} has no layer")
    return AffineReLU((*chain.weights, chain.W), (*chain.biases, chain.b)), softmax


class _Chain:
    """The layers read so far, and the pending affine map before the next ReLU."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.weights: list[Array] = []
        self.biases: list[Array] = []
        size = int(np.prod(shape))
        self.W, self.b = np.eye(size), np.zeros(size)

    def affine(self, apply: Callable[[torch.Tensor], torch.Tensor], offset: Array | None = None) -> None:
        """Append a linear map of tensors (batch, ``*shape``), and an offset, to the pending map."""
        columns = apply(torch.from_numpy(np.vstack([self.W.T, self.b])).reshape(-1, *self.shape))
        self.shape = tuple(columns.shape[1:])
        flat = columns.reshape(len(columns), -1).numpy()
        self.W, self.b = flat[:-1].T, flat[-1] if offset is None else flat[-1] + offset

    def relu(self, W: Array, b: Array, after: Array, offset: Array | float = 0.0) -> None:
        """Append a ReLU of W v + b, v the pending map; then ``after`` times its output plus ``offset`` is pending."""
        self.weights.append(W @ self.W)
        self.biases.append(W @ self.b + b)
        self.W, self.b = after, np.zeros(len(after)) + offset


def _append(chain: _Chain, layer: nn.Module, name: str) -> None:
    n = len(chain.b)
    eye = np.eye(n)
    if layer.training and isinstance(layer, nn.Dropout | nn.Dropout2d | nn.BatchNorm1d | nn.BatchNorm2d):
        raise ValueError(f"layer {name!r} ({type(layer).__name__}) is in training mode: call .eval() first")
    if has_hooks(layer):
        kind = type(layer).__name__
        raise UnsupportedLayerError(f"layer {name!r} ({kind}) has hooks, which may change its weights or its output")
    match layer:
        case nn.Identity() | nn.Dropout() | nn.Dropout2d():
            pass
        case nn.Flatten(start_dim=1, end_dim=-1):
            chain.shape = (n,)
        case nn.Linear():
            weight, times = layer.weight.double(), math.prod(chain.shape[:-1])
            offset = None if layer.bias is None else np.tile(layer.bias.double().numpy(), times)
            chain.affine(lambda v: v @ weight.T, offset)
        case nn.Conv2d(padding_mode="zeros"):
            kernel = layer.weight.double()
            options: Any = (layer.stride, layer.padding, layer.dilation, layer.groups)
            chain.affine(lambda v: functional.conv2d(v, kernel, None, *options))
            if layer.bias is not None:
                chain.b = chain.b + np.repeat(layer.bias.double().numpy(), math.prod(chain.shape[1:]))
        case nn.AvgPool2d():
            chain.affine(layer)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            if layer.running_mean is None or layer.running_var is None:
                raise UnsupportedLayerError(f"layer {name!r}: BatchNorm without statistics depends on the batch")
            scale = 1 / torch.sqrt(layer.running_var.double() + layer.eps)
            scale = scale if layer.weight is None else scale * layer.weight.double()
            shift = -layer.running_mean.double() * scale
            shift = shift if layer.bias is None else shift + layer.bias.double()
            wide = (1, -1) + (1,) * (len(chain.shape) - 1)
            chain.affine(lambda v: v * scale.reshape(wide), np.repeat(shift.numpy(), math.prod(chain.shape[1:])))
        case nn.ReLU():
            chain.relu(eye, np.zeros(n), eye)
        case nn.LeakyReLU():
            chain.relu(np.vstack([eye, -eye]), np.zeros(2 * n), np.hstack([eye, -layer.negative_slope * eye]))
        case nn.Hardtanh():  # ReLU6 as well
            ends = np.repeat([-layer.min_val, -layer.max_val], n)
            chain.relu(np.vstack([eye, eye]), ends, np.hstack([eye, -eye]), layer.min_val)
        case nn.MaxPool2d(padding=0, dilation=1, ceil_mode=False):
            _max_pool(chain, layer)
        case _:
            raise _unsupported(layer, name)


def _max_pool(chain: _Chain, layer: nn.MaxPool2d) -> None:
    """Append each window's tournament: max(a, b) = relu(a - b) + relu(b) - relu(-b), round after round."""
    index = torch.arange(len(chain.b)).reshape(1, *chain.shape)
    pairs = ((side, side) if isinstance(side, int) else side for side in (layer.kernel_size, layer.stride))
    (height, width), (down, right) = pairs
    windows = index.unfold(2, height, down).unfold(3, width, right)
    shape = tuple(windows.shape[1:4])
    # (windows, units) for each position in a window
    players = list(np.eye(len(chain.b))[windows.reshape(math.prod(shape), -1).T.numpy()])
    while len(players) > 1:
        rows: list[Array] = []
        winners, size = [], len(players[0])
        width = 3 * size * (len(players) // 2) + 2 * size * (len(players) % 2)
        for a, b in zip(players[::2], [*players[1::2], None], strict=False):
            first_row, new_rows = len(rows) * size, [a, -a] if b is None else [a - b, b, -b]
            winner = np.zeros((size, width))
            for block, sign in enumerate((1, -1) if b is None else (1, 1, -1)):
                start = first_row + block * size
                winner[:, start : start + size] = sign * np.eye(size)
            rows += new_rows
            winners.append(winner)
        chain.relu(np.vstack(rows), np.zeros(width), np.eye(width))
        players = winners
    chain.W, chain.b = players[0] @ chain.W, players[0] @ chain.b
    chain.shape = shape


def _as_module(node: fx.Node, name: str) -> nn.Module:
    """The module that does the same as a call of a function or method in a traced graph."""
    arguments, plain = node.args[1:], not node.kwargs or node.kwargs == {"inplace": False}
    if node.target in (torch.relu, functional.relu, "relu") and plain and not arguments:
        return nn.ReLU()
    if node.target in (torch.flatten, "flatten") and (*arguments, *node.kwargs.items()) in ((1,), (("start_dim", 1),)):
        return nn.Flatten()
    function = getattr(node.target, "__name__", node.target)
    raise UnsupportedLayerError(f"layer {name!r} calls {function}: expected a module, relu, or flatten from 1")


def _unsupported(layer: nn.Module, name: str) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        f"layer {name!r} is {layer}: expected an affine or piecewise linear layer (Linear, Conv2d, AvgPool2d, "
        "MaxPool2d without padding, BatchNorm, Flatten from 1, ReLU, LeakyReLU, Hardtanh)"
    )


def _input_shape(layer: nn.Module, name: str, input_shape: Sequence[int] | None) -> tuple[int, ...]:
    if input_shape is not None:
        return tuple(int(size) for size in input_shape)
    if isinstance(layer, nn.Linear):
        return (layer.in_features,)
    if not isinstance(layer, SUPPORTED):
        raise _unsupported(layer, name)
    raise ValueError(f"input_shape = None: expected the shape of one input, since layer {name!r} does not give it")
