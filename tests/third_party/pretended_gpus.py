"""Pretends, in this process, that PyTorch sees GPUs; nothing is computed on them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import torch


def pretend(count: int, replace: Callable[[Any, str, Any], None] = setattr) -> list[str]:
    """Pretend to have GPUs.

    Args:
        count: How many this process may use, unless ``CUDA_VISIBLE_DEVICES`` says otherwise.
        replace: Replaces an attribute.

    Returns:
        The GPUs that are made the current one later on.
    """
    current: list[str] = []

    def visible() -> int:
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        return count if shown is None else len(list(filter(None, shown.split(","))))

    @contextlib.contextmanager
    def device(name: Any) -> Any:
        current.append(str(name))
        yield

    fakes: dict[str, Any] = {
        "is_available": lambda: visible() > 0,
        "device_count": visible,
        "get_device_name": lambda: "a pretended GPU",
        "device": device,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device: torch.empty(0),
        "set_rng_state": lambda state, device: None,
    }
    for name, fake in fakes.items():
        replace(torch.cuda, name, fake)
    return current
