"""How well snippets are recalled, by how long ago they were shown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram import checks
from engram.learned.learning_to_remember.training import bit_accuracy


@dataclass(frozen=True)
class Recall:
    """Recall of frames that were shown a given number of windows ago.

    Attributes:
        age: Number of windows since they were shown.
        accuracy: Fraction of the queried bits that are correct.
        exact: Fraction of the queried frames in which all queried bits are correct.
        bits: Information in an answer about its frame: (queried bits) (1 - H2(fraction of wrong bits)), where H2 is the
            binary entropy.
    """

    age: int
    accuracy: float
    exact: float
    bits: float


def recall_by_age(
    logits: Float[Tensor, "time batch outputs"],
    targets: Float[Tensor, "time batch outputs"],
    age: Int[Tensor, "time batch"],
) -> list[Recall]:
    """Recall for each age that is queried, the most recent first.

    Args:
        logits: Logits of +1 against -1.
        targets: -1 and +1, and 0 where nothing is queried.
        age: Number of windows since the snippet of each frame was shown.

    Examples:
        >>> recall_by_age(torch.tensor([[[2.0, 1.0]]]), torch.tensor([[[1.0, 1.0]]]), torch.tensor([[3]]))
        [Recall(age=3, accuracy=1.0, exact=1.0, bits=2.0)]
    """
    checks.arguments()
    is_queried = targets != 0
    recalls = []
    for window_age in sorted(set(age[is_queried.any(2)].tolist())):
        frames = is_queried.any(2) & (age == window_age)
        frame_logits, frame_targets = logits[frames], targets[frames]
        accuracy = float(bit_accuracy(frame_logits[None], frame_targets[None]))
        exact = float(((frame_logits * frame_targets > 0) | (frame_targets == 0)).all(1).float().mean())
        error = torch.tensor(min(1 - accuracy, 0.5), dtype=torch.float64)
        entropy = float((torch.special.entr(error) + torch.special.entr(1 - error)) / torch.tensor(2.0).log())
        bits = float((frame_targets != 0).sum(1).float().mean()) * (1 - entropy)
        recalls.append(Recall(int(window_age), accuracy, exact, bits))
    return recalls
