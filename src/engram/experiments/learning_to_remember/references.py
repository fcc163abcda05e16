"""Known rules on the same windows: Hebb's, the delta rule, the pseudo-inverse, and gradient descent online."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from engram.lab import Run
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


@dataclass(frozen=True)
class References:
    """Memories of known rules, one pass over the snippets of each window."""

    bits: Annotated[int, Ge(2)] = 12
    """Bits of a pattern."""
    snippets: tuple[int, ...] = (2, 4, 6, 12)
    """Snippets of a window."""
    windows: Annotated[int, Ge(1)] = 2000
    """Windows."""
    hidden: Annotated[int, Ge(1)] = 24
    """Hidden units of the network that learns by gradient descent."""
    decay: Annotated[float, Gt(0), Le(1)] = 0.9
    """What remains of a decaying Hebbian memory at each snippet."""


def trial(config: References, run: Run) -> dict[str, Any]:
    """Return the share of right bits of each memory, by the number of snippets; of gradient descent the best rate's."""
    result: dict[str, float] = {}
    for step in run.steps(len(config.snippets)):
        count = config.snippets[step]
        snippets = SnippetStream(config.bits, count).sample(config.windows, run.generator).snippets
        x, y = snippets.unbind(2)
        weights = {
            "hebb": hebb_memory(x, y),
            "decay": hebb_memory(x, y, config.decay),
            "delta": delta_memory(x, y),
            "pseudo_inverse": pseudo_inverse_memory(x, y),
        }
        found = {name: float(bit_accuracy(x @ weight.transpose(1, 2), y)) for name, weight in weights.items()}
        linear = [float(bit_accuracy(x @ delta_memory(x, y, rate).transpose(1, 2), y)) for rate in RATES]
        deep = [float(bit_accuracy(sgd_recall(x, y, rate, config.hidden, run.generator), y)) for rate in RATES]
        found |= {"sgd_linear": max(linear), "sgd_deep": max(deep), "bodies": body_only_accuracy(count)}
        run.log(count, **found)
    for _, metric, value in sorted(run.metrics().select("step", "metric", "value").rows()):
        result[f"{metric}_{_}"] = value
    return result


def seconds(config: References) -> float:
    """Time of a trial on one core."""
    return 1 + 3e-4 * config.windows * sum(config.snippets) / 10
