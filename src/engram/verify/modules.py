"""A module of PyTorch as affine layers with ReLU between them, read from the graph of its forward."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from engram import checks
from engram.copying import copied
from engram.nn.hooks import alteration
from engram.verify.affine_value import Layers, Value, inputs, pooling_windows
from engram.verify.network import AffineReLU, UnsupportedLayerError
from engram.verify.running import DROPOUTS, compare, refuse_in_place

# The size of a batch in a traced forward: any number that is no other size.
BATCH = 1_000_003
BATCH_NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
AVERAGES = nn.AvgPool1d | nn.AvgPool2d | nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d
CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
SUPPORTED = (
    DROPOUTS | BATCH_NORMS | AVERAGES | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Flatten | nn.Hardtanh | nn.Identity
    | nn.LeakyReLU | nn.Linear | nn.MaxPool1d | nn.MaxPool2d | nn.PReLU | nn.ReLU | nn.Unflatten | nn.ZeroPad2d
)  # fmt: skip
EXPECTED = (
    "expected an affine or piecewise linear layer (Linear, Conv1d, Conv2d, Conv3d, BatchNorm, AvgPool, "
    "AdaptiveAvgPool, MaxPool, Flatten, Unflatten, ZeroPad2d, ReLU, LeakyReLU, PReLU, Hardtanh, ReLU6)"
)
# Functions and methods that are linear in their first argument and treat each tensor of a batch alike.
LINEAR = {
    torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.movedim, torch.unsqueeze, torch.squeeze,
    torch.mean, torch.sum, torch.neg, functional.avg_pool1d, functional.avg_pool2d, functional.adaptive_avg_pool1d,
    functional.adaptive_avg_pool2d, operator.getitem, operator.neg, "flatten", "view", "reshape", "permute",
    "transpose", "movedim", "unsqueeze", "squeeze", "unflatten", "mean", "sum", "neg", "contiguous", "double", "float",
}  # fmt: skip
ADD, SUBTRACT = {operator.add, operator.iadd, torch.add, "add", "add_"}, {operator.sub, torch.sub, "sub", "sub_"}
MULTIPLY = {operator.mul, operator.imul, torch.mul, "mul", "mul_"}
DIVIDE = {operator.truediv, torch.div, "div", "div_"}
_ENDS = ("min", "max")
# The names of the ends that follow the first argument.
CLAMPS: dict[Any, tuple[str, ...]] = {
    **dict.fromkeys((torch.clamp, torch.clip, torch.clamp_, torch.clip_, "clamp", "clip", "clamp_", "clip_"), _ENDS),
    **dict.fromkeys((torch.clamp_min, torch.clamp_min_, "clamp_min", "clamp_min_"), ("min",)),
    **dict.fromkeys((torch.clamp_max, torch.clamp_max_, "clamp_max", "clamp_max_"), ("max",)),
    **dict.fromkeys((functional.hardtanh, functional.hardtanh_), ("min_val", "max_val")),
}


def as_affine_relu(
    module: nn.Module | AffineReLU, input_shape: Sequence[int] | None = None, *, drop_softmax: bool = False
) -> AffineReLU:
    """A module as affine layers with ReLU between them.

    Weights are cast to 64 bits. Convolutions and average pooling become matrices, batch normalisation and constants are
    folded into the layer beside them (which rounds: a proof is about the folded network), and

        leaky(z) = relu(z) - s relu(-z),   clip(z, a, b) = a + relu(z - a) - relu(z - b),   max(a, b) = b + relu(a - b)

    What skips layers, as in residual sums, is carried along by units that are always on.

    Args:
        module: A network of ``Linear``, ``Conv1d`` to ``Conv3d``, average, adaptive average and max pooling,
            ``BatchNorm1d`` to ``BatchNorm3d``, ``Flatten``, ``Unflatten``, ``Dropout``, ``Identity``, ``ReLU``,
            ``LeakyReLU``, ``PReLU``, ``Hardtanh`` and ``ReLU6``, and of their functions in ``forward``, sums,
            products with constants, and changes of shape; on any device.
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


class _Softmax(NamedTuple):  # of a value, at the end of a network
    value: Value
    name: str


def without_softmax(module: nn.Module | AffineReLU, input_shape: Sequence[int] | None = None) -> tuple[AffineReLU, str]:
    """A module up to a softmax at its end, and the path of the softmax, or "" if there is none."""
    if isinstance(module, AffineReLU):
        return module, ""
    if fx.Tracer().is_leaf_module(module, ""):
        module = nn.Sequential(module)
    if reason := alteration(module, backward=False):  # which tracing skips; those of containers within are traced
        if "hooks" in reason:
            raise UnsupportedLayerError(f"{type(module).__name__} {reason}, which may change its input or its output")
        module = nn.Sequential(module).train(module.training)
    if any(tensor.device.type != "cpu" for tensor in (*module.parameters(), *module.buffers())):
        module = _on_cpu(module)
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:
        raise UnsupportedLayerError(f"{type(module).__name__} cannot be read as layers: {error}") from error
    first, *others = [node for node in graph.nodes if node.op == "placeholder"]
    if others and any(other.users for other in others):
        raise UnsupportedLayerError(f"{type(module).__name__} takes {1 + len(others)} inputs: expected one")
    if not any(node.op in ("call_module", "call_function", "call_method") for node in graph.nodes):
        raise UnsupportedLayerError(f"{type(module).__name__} has no layer")
    shape = _input_shape(module, first, input_shape)
    refuse_in_place(module, graph)
    with torch.no_grad():
        output, layers = _read(module, graph, shape)
        value, softmax = output if isinstance(output, _Softmax) else (output, "")
        net = layers.network(value)
        compare(module, net, shape, softmax)
    return net, softmax


def _on_cpu(module: nn.Module) -> nn.Module:
    try:
        return copied(module).cpu()
    except TypeError as error:
        raise UnsupportedLayerError(str(error)) from error


def _read(module: nn.Module, graph: fx.Graph, shape: tuple[int, ...]) -> tuple[Value | _Softmax, Layers]:
    """The output of a graph as a value."""
    layers, start = inputs(shape)
    modules, known = dict(module.named_modules()), dict[fx.Node, Any]()
    needed = _needed(graph)
    for node in graph.nodes:
        name = str(node.target) if node.op in ("call_module", "get_attr") else node.name
        if node.op == "placeholder":
            known[node] = start
        elif node in needed:
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda argument: known[argument])
            every = [*args, *kwargs.values()]
            if node.op == "output":
                if isinstance(args[0], Value | _Softmax):
                    return args[0], layers
                raise UnsupportedLayerError(f"{type(module).__name__} returns {type(args[0]).__name__}: expected "
                                            "one tensor that depends on the input")  # fmt: skip
            for argument in every:
                if isinstance(argument, _Softmax):
                    raise UnsupportedLayerError(f"layer {argument.name!r} is a softmax before the end")
            try:
                known[node] = _applied(layers, module, modules, node, name, args, kwargs)
            except RuntimeError as error:  # torch's, about shapes
                at = next((list(value.shape) for value in every if isinstance(value, Value)), [])
                raise ValueError(f"layer {name!r} does not take an input of shape {tuple(at)}: {error}") from error
            except UnsupportedLayerError:
                raise
            except (TypeError, AssertionError, AttributeError, IndexError, KeyError) as error:
                raise UnsupportedLayerError(f"layer {name!r} cannot be read: {error}") from error
    raise UnsupportedLayerError(f"{type(module).__name__} has no output")


def _applied(  # noqa: PLR0917
    layers: Layers, module: nn.Module, modules: dict[str, nn.Module], node: fx.Node, name: str, args: Any, kwargs: Any
) -> Any:
    """What a node of a graph returns: a value, or a constant if it does not depend on the input."""
    if node.op == "get_attr":
        return operator.attrgetter(name)(module)
    if node.op == "call_module":
        if len(args) != 1 or kwargs or not isinstance(args[0], Value):
            raise _unsupported(modules[name], name)
        return _layer(layers, args[0], modules[name], name)
    function: Any = node.target
    if not any(isinstance(argument, Value) for argument in [*args, *kwargs.values()]) and not _lists_values(args):
        return (
            getattr(args[0], function)(*args[1:], **kwargs) if isinstance(function, str) else function(*args, **kwargs)
        )
    if isinstance(args[0], Value):
        sizes = torch.Size((BATCH, *args[0].shape))
        if function == "dim" or (function is getattr and args[1:] == ("ndim",)):
            return len(sizes)
        if function == "size":
            return sizes[args[1]] if len(args) > 1 else sizes
        if function is getattr and args[1:] == ("shape",):
            return sizes
    if function in LINEAR and isinstance(args[0], Value):
        return _linear(args[0], function, args[1:], kwargs, name)
    return _function(layers, function, name, args, kwargs)


def _linear(value: Value, function: Any, args: Any, kwargs: Any, name: str) -> Value:
    """A linear function of a value, which torch applies to all of its columns as to a batch."""
    batch = len(value.columns)
    if function in ("double", "float", "contiguous"):
        return value

    def sized(size: Any) -> Any:
        return type(size)(map(sized, size)) if isinstance(size, tuple | list) else batch if _is_batch(size) else size

    args, kwargs = sized(tuple(args)), {key: sized(argument) for key, argument in kwargs.items()}
    call = getattr(value.columns, function) if isinstance(function, str) else None
    columns = call(*args, **kwargs) if call else function(value.columns, *args, **kwargs)
    if not isinstance(columns, Tensor) or columns.shape[:1] != (batch,):
        raise UnsupportedLayerError(
            f"layer {name!r} mixes the inputs of a batch: expected that it keeps its first axis"
        )
    return value._replace(columns=columns)


def _is_batch(size: Any) -> bool:
    return isinstance(size, int) and size == BATCH


def _function(layers: Layers, function: Any, name: str, args: Any, kwargs: Any) -> Any:
    """What a function or method returns that is not linear in its first argument alone."""
    if function in CLAMPS and isinstance(args[0], Value):
        ends = dict(zip(CLAMPS[function], args[1:], strict=False)) | kwargs
        if function in (functional.hardtanh, functional.hardtanh_):
            ends = {"min": ends.get("min_val", -1.0), "max": ends.get("max_val", 1.0)}
        return _clamped(layers, args[0], ends, name)
    as_layer = _as_module(function, name, args[1:], kwargs)
    if as_layer is not None and isinstance(args[0], Value):
        return _layer(layers, args[0], as_layer, name)
    if len(args) == 2 and not kwargs:
        a, b = args
        if function in SUBTRACT:
            function, b = operator.add, b.times(-1.0) if isinstance(b, Value) else -b
        if function in ADD:
            if isinstance(a, Value) and isinstance(b, Value):
                return layers.plus(a, b)
            return a.plus(_unbatched(b, a, name)) if isinstance(a, Value) else b.plus(_unbatched(a, b, name))
        if function in MULTIPLY and not (isinstance(a, Value) and isinstance(b, Value)):
            return a.times(_unbatched(b, a, name)) if isinstance(a, Value) else b.times(_unbatched(a, b, name))
        if function in DIVIDE and isinstance(a, Value) and not isinstance(b, Value):
            return a.times(1 / torch.as_tensor(_unbatched(b, a, name), dtype=torch.float64))
    if function in (torch.cat, torch.concat) and _lists_values(args):
        axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        if axis not in (0, -args[0][0].columns.ndim):
            parts = layers.together(args[0])
            return parts[0]._replace(columns=torch.cat([part.columns for part in parts], axis))
    called = getattr(function, "__name__", function)
    raise UnsupportedLayerError(
        f"layer {name!r} calls {called}: expected an affine or piecewise linear function of one tensor of a batch "
        "(relu, max_pool2d, a sum, a product with constants, a change of shape ...)"
    )


def _unbatched(constant: Any, value: Value, name: str) -> Any:
    """A constant without the axis of a batch, of length 1."""
    if isinstance(constant, Tensor) and constant.ndim == value.columns.ndim:
        if len(constant) != 1:
            raise UnsupportedLayerError(f"layer {name!r} has a constant for each input of a batch")
        return constant[0].double()
    return constant.double() if isinstance(constant, Tensor) else float(constant)


def _lists_values(args: Any) -> bool:
    return (
        bool(args) and isinstance(args[0], tuple | list) and all(isinstance(a, Value) for a in args[0]) and any(args[0])
    )


def _layer(layers: Layers, value: Value, layer: nn.Module, name: str) -> Value | _Softmax:
    """The output of a layer."""
    if layer.training and isinstance(layer, DROPOUTS | BATCH_NORMS):
        raise ValueError(f"layer {name!r} ({type(layer).__name__}) is in training mode: call .eval() first")
    if reason := alteration(layer, backward=False):
        kind = type(layer).__name__
        raise UnsupportedLayerError(f"layer {name!r} ({kind}) {reason}, which may change its weights or its output")
    if type(layer).__module__.startswith("torch.ao."):  # subclasses of torch's layers
        raise UnsupportedLayerError(f"layer {name!r} is {layer} of torch.ao, which rounds to simulate quantisation")
    match layer:
        case nn.Identity():
            return value
        case nn.Dropout() | nn.Dropout1d() | nn.Dropout2d() | nn.Dropout3d() | nn.AlphaDropout():
            return value
        case nn.Flatten() | nn.Unflatten():
            return _linear(value, layer, (), {}, name)
        case nn.Linear():
            weight = layer.weight.double()
            return _biased(value.linear(lambda columns: columns @ weight.T), layer.bias)
        case nn.Conv1d(padding_mode="zeros") | nn.Conv2d(padding_mode="zeros") | nn.Conv3d(padding_mode="zeros"):
            kernel, convolve = layer.weight.double(), CONVOLUTIONS[len(layer.kernel_size)]
            options: Any = (layer.stride, layer.padding, layer.dilation, layer.groups)
            convolved = value.linear(lambda columns: convolve(columns, kernel, None, *options))
            return _biased(convolved, layer.bias, len(layer.kernel_size))
        case nn.AvgPool1d() | nn.AvgPool2d() | nn.AdaptiveAvgPool1d() | nn.AdaptiveAvgPool2d() | nn.ZeroPad2d():
            return value.linear(layer)
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d():
            return _normalised(value, layer, name)
        case nn.ReLU():
            return layers.relu(value)
        case nn.LeakyReLU():
            return layers.leaky(value, layer.negative_slope)
        case nn.PReLU():
            slope = layer.weight.double()
            if len(slope) > 1:
                _check_channels(value, len(slope))
            return layers.leaky(
                value, slope.reshape(-1, *(1,) * (len(value.shape) - 1)) if len(slope) > 1 else slope[0]
            )
        case nn.Hardtanh():  # ReLU6 as well
            return layers.clip(value, float(layer.min_val), float(layer.max_val))
        case nn.MaxPool1d(ceil_mode=False, return_indices=False) | nn.MaxPool2d(ceil_mode=False, return_indices=False):
            axes = 1 if isinstance(layer, nn.MaxPool1d) else 2
            sizes: Any = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            window, stride, pads, dilation = (
                (size,) * axes if isinstance(size, int) else tuple(size) for size in sizes
            )
            return layers.max_pool(value, pooling_windows(value.shape, window, stride, pads * 2, dilation))
        case nn.Softmax() | nn.LogSoftmax():
            if len(value.shape) != 1 or layer.dim not in (1, -1):
                raise kept_softmax(name, f"expected the dim 1 of outputs (batch, classes), not {layer.dim}")
            return _Softmax(value, name)
    raise _unsupported(layer, name)


def _biased(value: Value, bias: Tensor | None, axes: int = 0) -> Value:
    return value if bias is None else value.plus(bias.double().reshape(-1, *(1,) * axes))


def _check_channels(value: Value, channels: int) -> None:
    """Raise a RuntimeError, as torch does, unless the first axis has one entry for each channel: 1 would broadcast."""
    if value.shape[:1] != (channels,):
        raise RuntimeError(f"expected {channels} channels")


def _normalised(value: Value, layer: Any, name: str) -> Value:
    if layer.running_mean is None or layer.running_var is None:
        raise UnsupportedLayerError(f"layer {name!r}: BatchNorm without statistics depends on the batch")
    _check_channels(value, len(layer.running_mean))
    scale = 1 / torch.sqrt(layer.running_var.double() + layer.eps)
    scale = scale if layer.weight is None else scale * layer.weight.double()
    shift = -layer.running_mean.double() * scale
    shift = shift if layer.bias is None else shift + layer.bias.double()
    wide = (-1,) + (1,) * (len(value.shape) - 1)
    return value.times(scale.reshape(wide)).plus(shift.reshape(wide))


def _as_module(function: Any, name: str, args: Any, kwargs: Any) -> nn.Module | None:
    """The module that does the same as a function or method of these further arguments, or None."""
    makers: list[tuple[set[Any], Callable[..., nn.Module]]] = [
        (
            {torch.relu, torch.relu_, functional.relu, functional.relu_, "relu", "relu_"},
            lambda inplace=False: nn.ReLU(),
        ),
        ({functional.relu6}, lambda inplace=False: nn.ReLU6()),
        (
            {functional.leaky_relu},
            lambda slope=0.01, inplace=False, **named: nn.LeakyReLU(named.get("negative_slope", slope)),
        ),
        ({functional.max_pool1d}, nn.MaxPool1d),
        ({functional.max_pool2d}, nn.MaxPool2d),
        ({functional.softmax, torch.softmax, "softmax"}, lambda dim=None, **_: nn.Softmax(dim)),
        ({functional.log_softmax, torch.log_softmax, "log_softmax"}, lambda dim=None, **_: nn.LogSoftmax(dim)),
    ]
    if function in (functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d):
        if args[1] if len(args) > 1 else kwargs.get("training", True):
            raise ValueError(
                f"layer {name!r} calls dropout in training mode: expected training=self.training, and .eval()"
            )
        return nn.Identity()
    for functions, make in makers:
        if function in functions:
            try:
                return make(*args, **kwargs)
            except (TypeError, ValueError, AssertionError):
                return None
    return None


def _clamped(layers: Layers, value: Value, ends: dict[str, Any], name: str) -> Value:
    """A value between ends, each of which is a number or a tensor; where they cross, the upper one, as torch has it."""
    low, high = ends.get("min"), ends.get("max")
    if isinstance(low, Value) or isinstance(high, Value):
        raise UnsupportedLayerError(f"layer {name!r} has an end that depends on the input: expected constant ends")
    sides = [-math.inf if low is None else low, math.inf if high is None else high]
    lower, upper = (torch.as_tensor(_unbatched(side, value, name), dtype=torch.float64) for side in sides)
    if lower.isnan().any() or upper.isnan().any():
        raise UnsupportedLayerError(f"layer {name!r} has an end that is no number: expected constant ends")
    return layers.clip(value, torch.minimum(lower, upper), upper)


def _needed(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that the output depends on."""
    needed, waiting = set[fx.Node](), [node for node in graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    return needed


def _unsupported(layer: nn.Module, name: str) -> UnsupportedLayerError:
    return UnsupportedLayerError(f"layer {name!r} is {layer}: {EXPECTED}")


def _input_shape(module: nn.Module, first: fx.Node, input_shape: Sequence[int] | None) -> tuple[int, ...]:
    if input_shape is not None:
        return tuple(int(size) for size in input_shape)
    name = next((str(user.target) if user.op == "call_module" else user.name for user in first.users), "")
    layer = dict(module.named_modules()).get(name)
    if isinstance(layer, nn.Linear):
        return (layer.in_features,)
    if layer is not None and not isinstance(layer, SUPPORTED):
        raise _unsupported(layer, name)
    raise ValueError(f"input_shape = None: expected the shape of one input, since layer {name!r} does not give it")
