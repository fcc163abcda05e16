"""From what the tensors of a forward pass come where the graph does not tell: the input, or constant weights."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.utils._pytree import tree_leaves

from engram.rules.error_paths import OtherUse, Part, Sources, computed_from, function_of, name_of, other_uses

# Of these the first argument alone gives values, or none does.
_OF_THE_FIRST = {"to", "type_as", "expand_as", "view_as", "reshape_as"}
_OF_NONE = {"broadcast_tensors", "meshgrid"}
_OF_THE_INPUT = "input"


class UsedOtherwise(Exception):  # noqa: N818
    """Weights are used otherwise than by a map, so that errors would go back through them."""

    def __init__(self, use: OtherUse) -> None:
        super().__init__(use)
        self.use = use


class Origins:
    """What the tensors without a gradient come from, and the nodes of those with one that depend on the input.

    An operation of the input and a parameter has a node of the parameter alone, as one of parameters alone has; and
    weights that are frozen or detached have none.

    Args:
        inputs: The input of the forward pass.
        parameters: All parameters of the model, by name.
        map_name: The name of the nodes of maps.

    Raises:
        UsedOtherwise: By its methods, where errors go back through weights themselves.
    """

    def __init__(
        self,
        inputs: Iterable[Tensor],
        parameters: Mapping[str, Tensor],
        map_name: str,
    ) -> None:
        self._parameters, self._map_name = parameters, map_name
        self._marks: dict[int, tuple[weakref.ref[Tensor], Tensor | str]] = {}
        self._nodes: set[Any] = set()
        self._constant_parts: dict[Any, Part] = {}
        self._functions: dict[Any, Any] = {}  # of several tensors with a gradient, for error messages
        self._storages: dict[int, list[Tensor]] | None = None
        for tensor in inputs:
            self._mark(tensor, _OF_THE_INPUT)
        for parameter in parameters.values():
            if not parameter.requires_grad:
                self._mark(parameter, parameter)

    def of(self, tensor: Tensor) -> Tensor | str | None:
        """The parameter that a tensor without gradient is computed from alone; ``"input"``, or None for a constant."""
        found = self._marks.get(id(tensor))
        if found is not None and found[0]() is tensor:
            return found[1]
        return tensor if type(tensor) is nn.Parameter and not tensor.requires_grad else None

    def holder(self, tensor: Tensor) -> Tensor | None:
        """The parameter whose memory a tensor shares, as a detached one does."""
        if self._storages is None:
            self._storages = {}
            for parameter in self._parameters.values():
                self._storages.setdefault(_place(parameter), []).append(parameter)
        place = _place(tensor)
        for parameter in self._storages.get(place, []) if place else []:
            if 0 <= tensor.data_ptr() - parameter.data_ptr() < parameter.numel() * parameter.element_size():
                return parameter
        return None

    def constant_weights(self, tensor: Tensor) -> Tensor | None:
        """The parameter whose values a tensor without gradient holds, or from which alone it is computed."""
        if tensor.requires_grad:
            return None
        origin = self.of(tensor)
        return origin if isinstance(origin, Tensor) else self.holder(tensor)

    def note(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        """Note what the output of a function comes from, and refuse products of activities with constant weights."""
        is_tensor = isinstance(output, Tensor)
        if not is_tensor and isinstance(output, (torch.Size, bool, int, float)):
            return
        tracked: list[Tensor] = []
        constant: Part | None = None
        from_input = False
        for value in (*args, *kwargs.values()) if kwargs else args:
            for tensor in value if isinstance(value, (tuple, list)) else (value,):
                if not isinstance(tensor, Tensor):
                    continue
                if tensor.requires_grad:
                    tracked.append(tensor)
                found = self._marks.get(id(tensor))
                if found is not None and found[0]() is tensor:
                    if isinstance(found[1], Tensor):
                        constant = Part(found[1], tuple(tensor.shape))
                    else:
                        from_input = True
                elif type(tensor) is nn.Parameter and not tensor.requires_grad:  # from outside
                    constant = Part(tensor, tuple(tensor.shape))
        if is_tensor and constant is None and not from_input and (output.requires_grad or not tracked):
            if len(tracked) > 1:
                self._functions[output.grad_fn] = func
            return
        name = name_of(func)
        if name in _OF_THE_FIRST and len(args) > 1:
            self.note(func, args[:1], {}, output)
        elif not _gives_constants(name):
            outputs = args[:1] if name == "__setitem__" else output if isinstance(output, (tuple, list)) else (output,)
            for tensor in outputs:
                if isinstance(tensor, Tensor) and not tensor.requires_grad:
                    self._note_constant(name, tensor, tracked, constant and constant.weights, from_input)
                elif isinstance(tensor, Tensor):
                    if len(tracked) > 1:
                        self._functions[tensor.grad_fn] = func
                    if from_input:
                        self._add(tensor)
                    if constant is not None and constant.weights.numel() > 1:
                        values = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
                        self._refuse_product(name, tensor, values, constant)

    def _note_constant(
        self, name: str, output: Tensor, tracked: Sequence[Tensor], constant: Tensor | None, from_input: bool
    ) -> None:
        if not (tracked or from_input or constant is not None):
            return
        for tensor in tracked:
            weights = self._weights(tensor)
            if weights is None:
                from_input = True
            else:
                constant = weights
        if tracked and constant is not None and constant.numel() > 1:
            self.refuse_within_function(name, tracked, constant)
        if from_input or constant is not None:
            self._mark(output, _OF_THE_INPUT if from_input or constant is None else constant)

    def refuse_within_function(self, name: str, activities: Sequence[Tensor], weights: Tensor) -> None:
        """Refuse a product of weights in an autograd function of one's own, whose backward pass has them itself."""
        if _within_function() and any(self._weights(tensor) is None for tensor in activities):
            raise UsedOtherwise(OtherUse(weights, f"{name} within a torch.autograd.Function"))

    def refuse_other_uses(self, loss: Tensor) -> None:
        """Refuse what a loss depends on by uses of weights, other than maps, through which errors go back."""
        for use in other_uses(loss.grad_fn, self._sources):
            raise UsedOtherwise(use._replace(operation=function_of(use, self._functions)))

    def _weights(self, tensor: Tensor) -> Tensor | None:
        """The first of the weights from which alone a tensor with a gradient is computed; None of an activity."""
        if tensor.grad_fn is None and tensor._base is not None:  # a view without a graph
            tensor = tensor._base
        if tensor.grad_fn is None:
            return None if self._is_activity(tensor) else tensor
        return computed_from(tensor.grad_fn, self._sources)

    def _refuse_product(self, name: str, output: Tensor, values: Sequence[Tensor], constant: Part) -> None:
        """Refuse a function of activities and constant weights, of which it may also use what it computes from them."""
        node = output.grad_fn
        if node is None:
            return
        befores = [before for before, _ in node.next_functions]
        if name.endswith("_") and not name.endswith("__"):  # in place
            ends = [before for before in befores if before is not None]
        else:
            ends = [value.grad_fn for value in values if value.requires_grad and value.grad_fn not in {None, node}]
        if None in befores:
            self._constant_parts[node] = constant
        others = {_place(value) for value in values if not value.requires_grad and self.constant_weights(value) is None}

        def weights_of(kept: Tensor) -> Tensor | None:
            return None if kept.requires_grad or (others and _place(kept) in others) else constant.weights

        sources = self._sources
        activities = [end for end in ends if computed_from(end, sources) is None]
        for use in other_uses(node, sources._replace(constant_weights=weights_of), activities):
            raise UsedOtherwise(use._replace(operation=name))

    @property
    def _sources(self) -> Sources:
        return Sources(self._map_name, self._is_activity, self.constant_weights, self._constant_parts)

    def _is_activity(self, source: Any) -> bool:
        return self.of(source) is _OF_THE_INPUT if isinstance(source, Tensor) else source in self._nodes

    def _add(self, output: Tensor) -> None:
        if output.grad_fn is None:
            self._mark(output, _OF_THE_INPUT)
        else:
            self._nodes.add(output.grad_fn)

    def _mark(self, tensor: Tensor, origin: Tensor | str) -> None:
        self._marks[id(tensor)] = weakref.ref(tensor), origin


@cache
def _gives_constants(name: str) -> bool:
    """Whether a function takes but the form of its arguments; of some that give several results each has its own."""
    return name.startswith("new_") or name.endswith("_like") or name in _OF_NONE


def _place(tensor: Tensor) -> int:
    """Where the memory of a tensor begins; 0 if it has none of its own."""
    if tensor.layout is not torch.strided or is_functorch_wrapped_tensor(tensor) or tensor._is_zerotensor():
        return 0
    return tensor.untyped_storage().data_ptr()


def _within_function() -> bool:
    """Whether an autograd function runs its forward pass, which switches both kinds of derivatives off."""
    return not torch.is_grad_enabled() and not torch._C._is_fwd_grad_enabled()
