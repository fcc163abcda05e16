"""The same random numbers in several passes of a network, which then differ only by what a rule has changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn


def record_draws(model: nn.Module) -> Callable[[], None]:
    """Record the states of the generators from which a module may draw; the returned function restores them.

    These are torch's global ones, of the CPU and of the devices of its parameters; for modules that are not torch's
    own also those of Python and NumPy, and generators that are attributes of a module. After the last pass they are
    where one pass leaves them.

    Args:
        model: The module.

    Examples:
        >>> model, x = nn.Dropout(), torch.ones(8)
        >>> repeat = record_draws(model)
        >>> first = model(x)
        >>> repeat()
        >>> torch.equal(model(x), first)
        True
    """
    restores: list[Callable[[], Any]] = [partial(torch.set_rng_state, torch.get_rng_state())]
    for device in {parameter.device for parameter in model.parameters()}:
        if device.type not in ("cpu", "meta"):
            module: Any = torch.get_device_module(device)
            which = () if device.type == "mps" else (device,)  # of which there is one
            restores.append(partial(module.set_rng_state, module.get_rng_state(*which), *which))
    if any(_is_own(module) for module in model.modules()):  # reading these states takes longer than a small pass
        restores.append(partial(random.setstate, random.getstate()))
        restores.append(partial(np.random.set_state, np.random.get_state(legacy=False)))  # noqa: NPY002
        restores += _own_generators(model)

    def repeat() -> None:
        for restore in restores:
            restore()

    return repeat


def _is_own(module: nn.Module) -> bool:
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return bool(hooked) or not type(module).__module__.startswith("torch.nn.")


def _own_generators(model: nn.Module) -> Iterator[Callable[[], Any]]:
    for module in model.modules():
        for value in vars(module).values():
            match value:
                case torch.Generator():
                    yield partial(value.set_state, value.get_state())
                case np.random.Generator():
                    yield partial(setattr, value.bit_generator, "state", value.bit_generator.state)
                case np.random.RandomState():
                    yield partial(value.set_state, value.get_state(legacy=False))
                case random.Random():
                    yield partial(value.setstate, value.getstate())
