"""How well snippets are recalled, by how long ago they were shown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram.learned.remember.training import bit_accuracy


@dataclass(frozen=True)
class Recall:
    """How well frames are recalled that were shown in a window so many windows ago.

    Attributes:
        age: How many windows ago.
        accuracy: Share of the bits asked for that are right.
        exact: Share of the frames asked for of which all are right.
        bits: What a frame's answer tells of it: (bits asked for) (1 - H2(share of wrong bits)).
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
    """Return how well what is asked for is recalled, for each age at which something is, the last shown first.

    Args:
        logits: Of +1 against -1.
        targets: -1 and +1, and 0 where nothing is asked for.
        age: For each frame, how many windows ago its snippet was shown.

    Examples:
        >>> recall_by_age(torch.tensor([[[2.0, 1.0]]]), torch.tensor([[[1.0, 1.0]]]), torch.tensor([[3]]))
        [Recall(age=3, accuracy=1.0, exact=1.0, bits=2.0)]
    """
    asked = targets != 0
    found = []
    for one in sorted(set(age[asked.any(2)].tolist())):
        frames = asked.any(2) & (age == one)
        some, wanted = logits[frames], targets[frames]
        accuracy = float(bit_accuracy(some[None], wanted[None]))
        exact = float(((some * wanted > 0) | (wanted == 0)).all(1).float().mean())
        error = torch.tensor(min(1 - accuracy, 0.5), dtype=torch.float64)
        entropy = float((torch.special.entr(error) + torch.special.entr(1 - error)) / torch.tensor(2.0).log())
        bits = float((wanted != 0).sum(1).float().mean()) * (1 - entropy)
        found.append(Recall(int(one), accuracy, exact, bits))
    return found
