"""The paths of errors through the graph of a forward pass, and the weights that they pass otherwise than by a map.

An error that reaches an activity by an operation of this activity and of weights is multiplied with these weights,
unless the operation only adds them. Gains multiply each element by itself, as those of norms do, and are taken; what
sums over the weights is a linear map and must be one for torch too, or else no other weights can take their place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.utils._pytree import tree_leaves

# Operations of an activity and a parameter, element by element, norms with a gain, and those that put values next to
# each other: by the names of their nodes without "Backward0".
_ELEMENTWISE = frozenset(
    (
        *("Add", "Sub", "Rsub", "Mul", "Div", "Addcmul", "Addcdiv", "Lerp", "Where", "Maximum", "Minimum", "Max"),
        *("Min", "Fmax", "Fmin", "Pow", "Atan2", "Hypot", "Remainder", "Fmod", "Xlogy", "Logaddexp"),
        *("Logaddexp2", "Copysign", "Clamp", "ClampMin", "ClampMax", "PreluKernel", "Prelu", "NativeLayerNorm"),
        *("NativeGroupNorm", "NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm", "BatchNormWithUpdate"),
        *("FusedRmsNorm", "RmsNorm", "Cat", "Stack", "IndexPut", "IndexPutImpl", "IndexAdd", "IndexCopy"),
        *("IndexFill", "IndexReduce", "CopySlices", "Copy", "MaskedScatter", "MaskedFill", "Scatter"),
        *("ScatterAdd", "ScatterReduce", "SliceScatter", "SelectScatter", "DiagonalScatter", "AsStridedScatter"),
        *("Polar", "Complex", "RreluWithNoise", "MseLoss", "L1Loss", "SmoothL1Loss", "HuberLoss"),
        *("BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "Heaviside"),
    )
)
# The operands that these products only add.
_ADDED = {
    **dict.fromkeys(("Addmm", "Addmv", "Addbmm", "Baddbmm", "Addr", "SparseAddmm"), 0),
    **dict.fromkeys(("Convolution", "ConvolutionOverrideable", "ConvTbc", "Linear", "MkldnnLinear"), 2),
    **dict.fromkeys(("MkldnnConvolution", "CudnnConvolution", "SlowConv2D", "ConvDepthwise2D", "ConvDepthwise3D"), 2),
    **dict.fromkeys(("ScaledDotProductEfficientAttention", "ScaledDotProductFlashAttentionForCpu"), 3),
    **dict.fromkeys(("ScaledDotProductCudnnAttention", "ScaledDotProductFusedAttentionOverrideable"), 3),
}
# Operations that put weights beside activities.
_BESIDE = frozenset(
    (
        *("Cat", "Stack", "IndexPut", "IndexPutImpl", "IndexCopy", "CopySlices", "Copy", "MaskedScatter"),
        *("Scatter", "SliceScatter", "SelectScatter", "DiagonalScatter", "AsStridedScatter"),
    )
)
_VIEWS = frozenset(
    (
        *("View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "T", "Expand", "Unsqueeze", "Squeeze"),
        *("Clone", "Slice", "Select", "Alias", "AsStrided", "Unbind", "Split", "Unfold", "Repeat", "ToCopy"),
        *("Conj", "Neg"),
    )
)
_GAINS = frozenset({"Mul", "Div", "Addcmul", "Addcdiv"})
_ADDING = frozenset({"Addcmul", "Addcdiv"})  # their first operand to the product of the others
_SUMS = frozenset({"Sum", "Mean", "Nansum", "Nanmean", "Cumsum"})
_names: dict[type, str] = {}


class OtherUse(NamedTuple):
    """Weights, the operation that uses them, its node in the graph, and what is wrong with that."""

    weights: Tensor
    operation: str
    node: Any = None
    reason: str = "would send errors back through the weights themselves"


@cache
def operation_of(name: str) -> str:
    """The operation of a node of the graph, by its name: ``"Mm"`` of ``"MmBackward0"``."""
    return re.sub(r"Backwards?\d*$", "", name.rpartition("::")[2])


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function of torch, without that of an overload."""
    return getattr(function, "__name__", "").partition(".")[0]


def function_of(use: OtherUse, functions: Mapping[Any, Callable[..., Any]]) -> str:
    """The name of the function that a user called, of which the operation is a part; else that of the operation.

    Args:
        use: The use of weights.
        functions: The functions by the node of their output.
    """
    for end, function in functions.items():
        pending = [] if end is None else [end]
        while pending:
            node = pending.pop()
            if node is use.node:
                return name_of(function)
            operation, edges = operation_of(_name(node)), node.next_functions
            is_product = len(edges) > 1 and operation not in _ELEMENTWISE
            if (node is end or node not in functions) and (is_product or operation in _VIEWS):
                pending += [before for before, _ in edges if before is not None]
    return use.operation


class Part(NamedTuple):
    """Weights within an activity, and their sizes along its axes."""

    weights: Tensor
    sizes: tuple[int, ...]


class Sources(NamedTuple):
    """What the graph does not tell.

    Attributes:
        map_name: The name of the nodes of maps.
        is_activity: Whether a node, or a leaf, depends on the input, though no node before it does.
        constant_weights: The parameter whose values a tensor without gradient holds, or None.
        constant_parts: Such weights as operands of nodes that do not keep them.
    """

    map_name: str
    is_activity: Callable[[Any], bool]
    constant_weights: Callable[[Tensor], Tensor | None]
    constant_parts: Mapping[Any, Part]


def computed_from(root: Any, sources: Sources) -> Tensor | None:
    """The first of the weights from which alone the output of a node is computed; None of an activity."""
    weights: Tensor | None = None
    pending, seen = [root], set[Any]()
    while pending:
        node: Any = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if _name(node) == sources.map_name or sources.is_activity(node if variable is None else variable):
            return None
        weights = variable if weights is None else weights
        pending += [before for before, _ in node.next_functions if before is not None]
    return weights


class _Walk(NamedTuple):
    """What is known of the nodes so far.

    Attributes:
        sources: What the graph does not tell.
        weights: The first of the weights from which alone it is computed; None if it depends on an activity.
        gains: Products of an activity and weights, element by element.
        matrices: Activities that hold a whole matrix of weights.
    """

    sources: Sources
    weights: dict[Any, Tensor | None]
    gains: dict[Any, Part]
    matrices: dict[Any, Tensor]


def other_uses(root: Any, sources: Sources, ends: Collection[Any] = ()) -> Iterator[OtherUse]:
    """The uses of weights through which errors go back to an activity, other than by a map.

    Args:
        root: The node of the loss.
        sources: What the graph does not tell.
        ends: The nodes of activities at which to end.
    """
    walk = _Walk(sources, dict.fromkeys(ends), {}, {})
    weights = walk.weights
    pending: list[tuple[Any, Any]] = [(root, None)]
    while pending:
        node, edges = pending.pop()
        if node in weights:
            continue
        if edges is None:
            edges = node.next_functions
            later = [(before, None) for before, _ in edges if before is not None and before not in weights]
            if later:
                pending.append((node, edges))
                pending += later
                continue
        name = _name(node)
        found = [weights[before] for before, _ in edges if before is not None]
        if name == sources.map_name:
            weights[node] = None
        elif not found:
            variable = getattr(node, "variable", None)
            weights[node] = None if sources.is_activity(node if variable is None else variable) else variable
        elif None not in found:
            weights[node] = None if sources.is_activity(node) or _is_mixed(node, found[0]) else found[0]
        else:
            weights[node] = None
            if len(edges) > 1 or operation_of(name) not in _ELEMENTWISE:
                yield from _uses_at(node, operation_of(name), edges, walk)


def _name(node: Any) -> str:
    """The name of a node, as ``node.name()``, which costs more."""
    kind: Any = type(node)
    if kind not in _names:
        if kind.__name__ == "CppFunction":  # the type of many
            return str(node.name())
        _names[kind] = node.name()
    return _names[kind]


def _is_mixed(node: Any, weights: Tensor | None) -> bool:
    """Whether a function of one's own gives something else than weights of the same shape."""
    return isinstance(node, BackwardCFunction) and weights is not None and _shape(node) != tuple(weights.shape)


def _uses_at(node: Any, operation: str, edges: Sequence[Any], walk: _Walk) -> Iterator[OtherUse]:
    """The uses at a node that depends on an activity."""
    if len(edges) == 1:
        before = edges[0][0]
        if operation in _VIEWS and before in walk.matrices:
            walk.matrices[node] = walk.matrices[before]
        elif operation in _SUMS and before in walk.gains:
            yield from _sum_of_products(node, operation, walk.gains[before])
        elif isinstance(node, BackwardCFunction):
            yield from _product(node, operation, edges, walk)
    elif operation in _ELEMENTWISE:
        edges = edges[1:] if operation in _ADDING and len(edges) == 3 else edges
        part = _part_of(edges, walk) or _constant_part_of(node, operation, edges, walk)
        if part is not None:
            yield from _product_of_elements(node, operation, edges, part, walk)
    else:
        yield from _product(node, operation, edges, walk)


def _product(node: Any, operation: str, edges: Sequence[Any], walk: _Walk) -> Iterator[OtherUse]:
    own, added = isinstance(node, BackwardCFunction), _ADDED.get(operation)
    operands = [before for index, (before, _) in enumerate(edges) if before is not None and index != added]
    used = [tensor for before in operands if (tensor := walk.weights[before]) is not None]
    if sum(walk.weights[before] is None for before in operands) > 1:
        used += [walk.matrices[before] for before in operands if before in walk.matrices]
    if own or any(before is None for before, _ in edges):
        used += [tensor for kept in _kept(node) if (tensor := walk.sources.constant_weights(kept)) is not None]
    for tensor in used:
        if tensor.numel() > 1 or not own:  # a function of one's own may have a threshold
            yield OtherUse(tensor, operation if own else operation.lower(), node)


def _part_of(edges: Sequence[Any], walk: _Walk) -> Part | None:
    """The weights among the operands of a node."""
    for before, number in edges:
        if before is not None and (tensor := walk.weights[before]) is not None:
            return Part(tensor, _shape(before, number) if before.next_functions else tuple(tensor.shape))
    return None


def _constant_part_of(node: Any, operation: str, edges: Sequence[Any], walk: _Walk) -> Part | None:
    known = walk.sources.constant_parts.get(node)
    if operation not in _GAINS or all(before is not None for before, _ in edges):
        return known
    kept = ((value, walk.sources.constant_weights(value)) for value in _kept(node))
    return next((Part(tensor, tuple(value.shape)) for value, tensor in kept if tensor is not None), known)


def _product_of_elements(
    node: Any, operation: str, edges: Sequence[Any], part: Part, walk: _Walk
) -> Iterator[OtherUse]:
    if operation in _BESIDE:
        if part.weights.numel() > 1:
            walk.matrices[node] = part.weights
        return
    whole = _shape(node)
    part = part._replace(sizes=(1,) * (len(whole) - len(part.sizes)) + part.sizes)
    missing = sum(many > 1 and one == 1 for many, one in zip(whole, part.sizes, strict=False))
    if sum(size > 1 for size in part.sizes) > 1 and missing < 2:
        walk.matrices[node] = part.weights
    if operation not in _GAINS:
        return
    walk.gains[node] = part
    for before, number in edges:
        if before is not None and walk.weights[before] is None:
            sizes = _own_sizes(before, number)
            sizes = (1,) * (len(whole) - len(sizes)) + sizes
            if any(many > 1 and one == 1 for many, one in zip(part.sizes, sizes, strict=False)):
                reason = "multiplies one activity with several weights"
                yield OtherUse(part.weights, operation.lower(), node, reason)
            if _is_spectrum(before):
                reason = "multiplies a spectrum, which convolves with the weights"
                yield OtherUse(part.weights, operation.lower(), node, reason)


def _own_sizes(node: Any, number: int) -> tuple[int, ...]:
    """The shape of an output of a node before it was expanded."""
    while operation_of(_name(node)) == "Expand":
        node, number = node.next_functions[0]
    return _shape(node, number)


def _is_spectrum(node: Any) -> bool:
    while operation_of(_name(node)) in _VIEWS:
        node = node.next_functions[0][0]
    return operation_of(_name(node)).startswith("Fft")


def _sum_of_products(node: Any, operation: str, part: Part) -> Iterator[OtherUse]:
    axes = len(part.sizes)
    summed = getattr(node, "_saved_dim", ())
    summed = (summed,) if isinstance(summed, int) else summed or range(axes)
    # Negative axes are kept as unsigned numbers.
    if any(part.sizes[(axis if axis < 2**63 else axis - 2**64) % axes] > 1 for axis in summed if axes):
        yield OtherUse(part.weights, operation.lower(), node, "sums products of an activity and the weights")


def _shape(node: Any, number: int = 0) -> tuple[int, ...]:
    """The shape of an output of a node."""
    return tuple(node._input_metadata[number].shape)


@cache
def _saved_names(kind: Any) -> tuple[str, ...]:
    return tuple(name for name in dir(kind) if name.startswith("_saved_") and "_sym_" not in name)


def _kept(node: Any) -> list[Any]:
    """The tensors that a node keeps for its backward pass."""
    if isinstance(node, BackwardCFunction):
        kept = tree_leaves((node.saved_tensors, list(vars(node).values())))
        kept += [weight for module in kept if isinstance(module, nn.Module) for weight in module.parameters()]
    else:
        kept = tree_leaves([getattr(node, name) for name in _saved_names(node.__class__)])
    return [value for value in kept if isinstance(value, Tensor)]
