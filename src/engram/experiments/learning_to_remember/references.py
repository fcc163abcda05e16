"""Known rules on the same windows: Hebb's, the delta rule, the pseudo-inverse, and gradient descent online."""

from __future__ import annotations

from typing import Any

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
    """Memories of known rules, one pass over the snippets of each window."""

    bits: int = setting(12, "bits of a pattern", ge=2)
    snippets: tuple[int, ...] = setting((2, 4, 6, 12), "snippets of a window")
    windows: int = setting(2000, "windows", ge=1, scales=True)
    hidden: int = setting(24, "hidden units of the network that learns by gradient descent", ge=1)
    decay: float = setting(0.9, "what remains of a decaying Hebbian memory at each snippet", gt=0, le=1)


def trial(config: References, run: Run) -> dict[str, Any]:
    """The share of right bits of each memory, by the number of snippets; of gradient descent the best rate's."""
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
        shares = {name: float(bit_accuracy(x @ weight.transpose(1, 2), y)) for name, weight in weights.items()}
        linear = [float(bit_accuracy(x @ delta_memory(x, y, rate).transpose(1, 2), y)) for rate in RATES]
        deep = [float(bit_accuracy(sgd_recall(x, y, rate, config.hidden, run.generator), y)) for rate in RATES]
        shares |= {"sgd_linear": max(linear), "sgd_deep": max(deep), "bodies": body_only_accuracy(count)}
        run.log(count, **shares)
    rows = sorted(run.metrics().select("step", "metric", "value").rows())
    return {f"{metric}_{count}": value for count, metric, value in rows}
