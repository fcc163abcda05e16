"""A module cut at some of its modules, so that each can be sent an error of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from engram.rules.chain import refuse_autocast
from engram.rules.contract import called


@dataclass(frozen=True)
class Points:
    """A module with points: modules within it whose inputs and outputs pass no error.

    Attributes:
        model: The module.
        rule_name: Name of the rule, for error messages.
        names: The points, by their names in ``model.named_modules()``.
    """

    model: nn.Module
    rule_name: str
    names: tuple[str, ...]

    @classmethod
    def from_module(cls, model: nn.Module, rule: object, names: Sequence[str] | None = None) -> Points:
        """A module cut at its points.

        Args:
            model: The module.
            rule: The rule, for error messages.
            names: The points (default: the children of an ``nn.Sequential`` that hold weights, but for the last).

        Raises:
            TypeError: Points are needed, but the module is no ``nn.Sequential``; or a parameter is complex.
            ValueError: A point is unknown, holds no weights, or lies within another one.
        """
        rule_name = type(rule).__name__
        for name, parameter in model.named_parameters():
            if parameter.is_complex():
                raise TypeError(f"model: {rule_name} cannot train {name!r}, complex weights; expected real ones")
        if names is None:
            if type(model).forward is not nn.Sequential.forward:
                raise TypeError(
                    f"model: {rule_name} cannot train a {type(model).__name__} as it is: expected an nn.Sequential, or "
                    "points, the names of the modules that get errors of their own"
                )
            children = model._modules.items()  # ``named_children`` would leave out a module that occurs again
            holding = [name for name, child in children if child is not None and [*child.parameters()]]
            return cls(model, rule_name, tuple(holding[:-1]))
        modules = dict(model.named_modules())
        for name in names:
            if not name or name not in modules:
                known = ", ".join(filter(None, modules))
                raise ValueError(f"points has {name!r}: expected names of modules of the model: {known}")
            if not [*modules[name].parameters()]:
                raise ValueError(f"points has {name!r}, a {type(modules[name]).__name__}: expected one with weights")
            for other in names:
                if name.startswith(f"{other}."):
                    raise ValueError(f"points has {name!r} within {other!r}: expected points side by side")
        return cls(model, rule_name, tuple(names))

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> tuple[list[tuple[str, Tensor]], Tensor]:
        """The outputs of the points, in the order in which they ran, and the output of the module.

        Each has a graph that ends where the point, or what follows the last one, begins.

        Raises:
            TypeError: A point has another output than a tensor, or has not run; weights that no point holds lie before
                one, so that no error would reach them; or nothing lies after the last one.
        """
        refuse_autocast(next(self.model.parameters()).device)
        outputs: list[tuple[str, Tensor]] = []
        passed: list[Tensor] = []
        subject = f"model: {self.rule_name} cannot train"

        def enter(name: str, _: nn.Module, args: Any, kwargs: Any) -> None:
            for value in tree_leaves((args, kwargs)):
                if isinstance(value, Tensor) and value.requires_grad:
                    raise TypeError(
                        f"{subject} the weights on which the input of {name!r} depends: no error reaches them; "
                        "expected every module with weights before the last point to lie within a point"
                    )

        def leave(name: str, _: nn.Module, __: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise TypeError(f"{subject} {name!r}: its output is a {type(output).__name__}; expected a tensor")
            outputs.append((name, output))
            cut = output.detach()
            passed.append(cut)
            return cut

        with ExitStack() as hooks, torch.enable_grad():
            for name in self.names:
                module = self.model.get_submodule(name)
                before = module.register_forward_pre_hook(partial(enter, name), with_kwargs=True)
                hooks.callback(before.remove)
                hooks.callback(module.register_forward_hook(partial(leave, name)).remove)
            output = called(self.model, tuple(part.detach() for part in x) if isinstance(x, tuple) else x.detach())
        for name in self.names:
            if name not in dict(outputs):
                raise TypeError(f"{subject} {name!r}: the model does not call it; expected a point that it calls")
        if any(output is cut for cut in passed):
            raise TypeError(
                f"{subject} {outputs[-1][0]!r} as a point, since its output is the model's: expected points below it"
            )
        return outputs, output
