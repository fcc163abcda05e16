"""What a module computes when it runs, beside what was read from the graph of its forward."""

from __future__ import annotations

import copy
import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from engram.nn.hooks import alteration
from engram.verify.network import AffineReLU, Array, UnsupportedLayerError

SCALES = (1.0, 0.1, 10.0, 100.0, 1e4)
FARTHEST = 1e12  # of a point, lest its output is not finite
DROPOUTS = nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d | nn.AlphaDropout
# What may return its input, or a view of it.
VIEWS: set[Any] = {
    torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.movedim, torch.unsqueeze, torch.squeeze,
    functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d, operator.getitem, "flatten",
    "view", "reshape", "permute", "transpose", "movedim", "unsqueeze", "squeeze", "unflatten", "contiguous", "double",
    "float", "detach", "expand", "view_as", "reshape_as", "to", "narrow", "chunk", "split", "select", torch.chunk,
    torch.split, torch.narrow, torch.select, "t", "T", "swapaxes", torch.swapaxes, torch.detach,
}  # fmt: skip
SHARING = ("T", "mT", "H", "mH", "data")  # attributes with the memory of their tensor
SIZES = ("size", "dim", "numel")  # methods that read no number of their tensor


def refuse_in_place(module: nn.Module, graph: fx.Graph) -> None:
    """Raise UnsupportedLayerError if a layer that works in place changes what is read later under another name.

    Args:
        module: The module.
        graph: The graph of its forward, which gives the input of such a layer the name that it had before.
    """
    modules, names = dict(module.named_modules()), dict[fx.Node, fx.Node]()  # the tensor that a node is a view of
    changed: dict[fx.Node, fx.Node] = {}  # by tensor, the last node that changed it
    after: dict[fx.Node, set[fx.Node]] = {}  # by tensor, the nodes that name it as it is now
    for node in graph.nodes:
        for source in () if _is_of_shape(node) else node.all_input_nodes:
            tensor = names.get(source, source)
            if tensor in changed and source not in after[tensor]:
                raise UnsupportedLayerError(
                    f"layer {_name(changed[tensor])!r} works in place and changes what {_name(node)!r} reads: expected "
                    "a layer that makes a new tensor"
                )
        if not node.args or not isinstance(node.args[0], fx.Node):
            continue
        source = node.args[0]
        tensor = names.get(source, source)
        if _is_in_place(node, modules):
            names[node], changed[tensor], after[tensor] = tensor, node, {node}
        elif _is_view(node, modules):
            names[node] = tensor
            if tensor in after:
                after[tensor].add(node)


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _is_in_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    changes_itself = called.endswith("_") and not called.endswith("__")
    of_operator = node.target in (operator.iadd, operator.isub, operator.imul, operator.itruediv)
    return changes_itself or of_operator or bool(node.kwargs.get("inplace"))


def _is_of_shape(node: fx.Node) -> bool:
    """Whether a node reads the shape of a tensor, or another attribute, and no number of it."""
    if node.target is getattr:
        return node.args[1] not in SHARING
    return node.op == "call_method" and node.target in SIZES


def _is_view(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], DROPOUTS | nn.Identity | nn.Flatten | nn.Unflatten)
    if node.target is getattr:
        return node.args[1] in SHARING
    return node.op in ("call_function", "call_method") and node.target in VIEWS


@torch.no_grad()
def compare(
    module: nn.Module,
    net: AffineReLU,
    shape: tuple[int, ...],
    softmax: str = "",
    box: tuple[Array, Array] | None = None,
) -> None:
    """Raise UnsupportedLayerError if a module computes something else than what was read.

    Functions in a forward may depend on the batch in ways that the graph does not show, and what a forward does beside
    torch is not traced. Modules that are torch's layers one after another are not run.

    Args:
        module: The module.
        net: What was read.
        shape: Shape of one input.
        softmax: The name of the softmax at its end that was left out, or "".
        box: Lower and upper ends of the inputs that matter; None: inputs at several distances from 0.
    """
    if all(_is_plain(part) for part in module.modules()):
        return
    x = _points(net.sizes[0], box)
    y, tolerance = _output(module, x.reshape(-1, *shape))
    read = torch.from_numpy(net(x.numpy()))
    read = read.reshape(y.shape) if y.numel() == read.numel() else read
    if softmax and read.shape == y.shape:
        read = torch.log_softmax(read, 1) if y.max() <= 0 else torch.softmax(read, 1)
    if read.shape == y.shape:
        rows, expected = read.reshape(len(x), -1), y.reshape(len(x), -1)
        size = 1 + expected.abs().amax(1) + x.abs().amax(1)
        if ((rows - expected).abs().amax(1) <= tolerance * size).all():
            return
    raise UnsupportedLayerError(
        f"{type(module).__name__} computes something else than its layers say: expected a forward that treats each "
        "input of a batch alike, without random numbers"
    )


def _is_plain(module: nn.Module) -> bool:
    kind = type(module)
    is_known = kind is nn.Sequential or kind.__module__.startswith("torch.nn.modules.")
    return is_known and not alteration(module, backward=False) and not getattr(module, "inplace", False)


def _points(inputs: int, box: tuple[Array, Array] | None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if box is None:
        directions = torch.randn(3 * len(SCALES), inputs, generator=generator, dtype=torch.float64)
        return directions * torch.tensor(SCALES, dtype=torch.float64).repeat_interleave(3)[:, None]
    low, high = (torch.from_numpy(np.clip(end, -FARTHEST, FARTHEST)) for end in box)
    shares = torch.rand(6, inputs, generator=generator, dtype=torch.float64)
    corners = torch.rand(3, inputs, generator=generator, dtype=torch.float64).round()
    middle = torch.full((1, inputs), 0.5, dtype=torch.float64)
    return low + torch.cat([middle, middle - 0.5, middle + 0.5, corners, shares]) * (high - low)


def _output(module: nn.Module, x: Tensor) -> tuple[Tensor, float]:
    """The output of a module in 64 bits, if it can be computed so, and the tolerance of a comparison with it."""
    tensors = [*module.parameters(), *module.buffers()]
    device = tensors[0].device if tensors else x.device
    try:
        return copy.deepcopy(module).double()(x.clone().to(device)).double().cpu(), 1e-6
    except (RuntimeError, TypeError):  # it has tensors of 32 bits that are no buffers
        return module(x.float().to(device)).double().cpu(), 1e-3
