"""Known rules on the same windows: Hebb's, the delta rule, the pseudo-inverse, and online gradient descent."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from engram.lab import Run, setting, settings
from engram.learned.learning_to_remember import (
    bit_accuracy,
    body_only_accuracy,
    delta_memory,
    hebb_memory,
    pseudo_inverse_memory,
    sgd_recall,
)
from engram.tasks import SnippetStream

RATES = tuple(10 ** (-3 + k / 2) for k in range(7))  # 0.001 to 1


@settings
class References:
    """The settings of memories with known rules, which see the snippets of each window once."""

    bits: int = setting(12, "bits of a pattern", ge=2)
    snippets: tuple[int, ...] = setting((2, 4, 6, 12), "snippets of a window")
    windows: int = setting(2000, "windows", ge=1)
    hidden: int = setting(24, "hidden units of the network trained by gradient descent", ge=1)
    decay: float = setting(0.9, "factor by which a decaying Hebbian memory shrinks at each snippet", gt=0, le=1)


def trial(config: References, run: Run) -> dict[str, Any]:
    """Measure the share of correct bits of each memory for each number of snippets; descent has a chosen rate."""
    shares: dict[str, float] = {}
    for count in config.snippets:
        stream = SnippetStream(config.bits, count)
        x, y = stream.sample(config.windows, run.generator).snippets.unbind(2)
        linear = run.choose(f"sgd_linear_{count}", RATES, partial(linear_share, x, y))
        deep = run.choose(f"sgd_deep_{count}", RATES, partial(deep_share, x, y, config.hidden, run.generator))
        x, y = stream.sample(config.windows, run.generator).snippets.unbind(2)
        outputs = {
            "hebb": answered(x, hebb_memory(x, y)),
            "decay": answered(x, hebb_memory(x, y, config.decay)),
            "delta": answered(x, delta_memory(x, y)),
            "pseudo_inverse": answered(x, pseudo_inverse_memory(x, y)),
        }
        by_memory = {name: float(bit_accuracy(output, y)) for name, output in outputs.items()}
        by_memory |= {"sgd_linear": linear_share(x, y, linear), "bodies": body_only_accuracy(count)}
        by_memory["sgd_deep"] = deep_share(x, y, config.hidden, run.generator, deep)
        run.log(count, **by_memory)
        shares |= {f"{name}_{count}": share for name, share in by_memory.items()}
    return shares


def answered(x: Tensor, weight: Tensor) -> Tensor:
    """The outputs of a memory for cues."""
    return x @ weight.transpose(1, 2)


def linear_share(x: Tensor, y: Tensor, rate: float) -> float:
    """The share of correct bits after online gradient descent on a linear layer, which is the delta rule.

    Args:
        x: The inputs in their order.
        y: The bits to be answered.
        rate: The learning rate.
    """
    return float(bit_accuracy(answered(x, delta_memory(x, y, rate)), y))


def deep_share(x: Tensor, y: Tensor, hidden: int, generator: torch.Generator, rate: float) -> float:
    """The share of correct bits after online gradient descent in a network with a hidden layer.

    Args:
        x: The inputs in their order.
        y: The bits to be answered.
        hidden: Number of hidden units.
        generator: Source of the initial weights.
        rate: The learning rate.
    """
    return float(bit_accuracy(sgd_recall(x, y, rate, hidden, generator), y))
