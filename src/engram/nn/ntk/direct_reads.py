"""Who reads the weights of a layer without calling it, as tied decoders do."""

from __future__ import annotations

import dis
from collections.abc import Collection, Iterator
from types import CodeType, FunctionType
from typing import Any

from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from engram.nn.hooks import alteration

_OF_FORM = {"dtype", "device", "shape", "ndim", "requires_grad", "size", "dim", "numel", "is_floating_point", "is_cuda"}
_READS = {"weight", "bias", "parameters", "named_parameters", "state_dict", "get_parameter", "_parameters"}


def refuse_direct_reads(model: nn.Module, layers: Collection[nn.Module]) -> None:
    """Raise ValueError if a forward reads the weights of a layer, which are scaled when the layer is converted.

    Modules of torch and of engram are known to call their layers. All others are traced; where that fails, because what
    they do depends on values, their code must not name weights.

    Args:
        model: The network.
        layers: The layers to convert.
    """
    if all(_is_known(module) for module in model.modules()):
        return
    weights = {
        key: name
        for name, layer in model.named_modules()
        if layer in layers
        for weight in layer._parameters.values()
        for key in (id(weight), _place(weight))
        if weight is not None and key
    }
    root = nn.Sequential(model)  # so that a forward of the object itself is traced too
    watch = _Watch(weights)
    try:
        with watch:
            graph = _Tracer().trace(root)
    except Exception as error:  # whatever a forward raises for a symbol
        for name, module in model.named_modules():
            if not _is_known(module) and (read := next(_named_reads(module), "")):
                raise ValueError(
                    f"{name or 'model'!r} is a {type(module).__name__}, which cannot be traced ({error}) and reads "
                    f"{read!r} itself: expected a forward that calls its layers"
                ) from error
        return
    found = watch.found
    for node in graph.nodes:
        if node.op == "get_attr" and not all(map(_asks_for_form, node.users)):
            value: Any = root
            for part in str(node.target).split("."):
                value = getattr(value, part)
            found = found or weights.get(id(value), weights.get(_place(value)))
    if found is not None:
        raise ValueError(
            f"layer {found!r} has weights that a {type(model).__name__} reads without calling the layer, such as tied "
            "weights, which the converted layer scales only in its own forward: expected calls alone"
        )


class _Watch(TorchFunctionMode):
    """Notes a layer whose weights a function of torch takes, while no layer is called."""

    def __init__(self, weights: dict[int, str]) -> None:
        super().__init__()
        self.weights = weights
        self.found: str | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name not in _OF_FORM and not self.found:
            taken = (self.weights.get(id(leaf)) for leaf in tree_leaves((args, kwargs)))
            self.found = next((name for name in taken if name is not None), None)
        return func(*args, **(kwargs or {}))


def _asks_for_form(node: fx.Node) -> bool:
    return (node.target is getattr and node.args[1] in _OF_FORM) or node.target in _OF_FORM


class _Tracer(fx.Tracer):
    """Traces the modules that are not known to call their layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return all(map(_is_known, m.modules()))


def _is_known(module: nn.Module) -> bool:
    owner = next(base for base in type(module).__mro__ if "forward" in vars(base))
    return owner.__module__.startswith(("torch.nn.", "engram.")) and not alteration(module, backward=False)


def _place(value: Any) -> int:
    """Where the numbers of a tensor lie, which a view shares; 0 for none."""
    try:
        return value.untyped_storage().data_ptr() if isinstance(value, Tensor) else 0
    except (RuntimeError, ValueError):  # it has no numbers yet
        return 0


def _named_reads(module: nn.Module) -> Iterator[str]:
    """The names of weights, and of what returns them, in the code of a module's own class and of its own functions."""
    spaces = [vars(base) for base in type(module).__mro__ if not base.__module__.startswith(("torch.", "engram."))]
    for space in (vars(module), *spaces):
        for name, function in space.items():
            if isinstance(function, FunctionType) and name != "__init__":
                yield from _attributes(function.__code__)


def _attributes(code: CodeType) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and step.argval in _READS:
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _attributes(constant)
