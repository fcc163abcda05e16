"""What a memory keeps when there is no room: each policy a frozen dataclass with one pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Policy(Protocol):
    """What is done with new samples."""


@dataclass(frozen=True)
class LRU:
    """The row that was not used for longest makes room; look-ups and writes use a row (MFEC, NEC)."""


@dataclass(frozen=True)
class FIFO:
    """The row that was written first makes room."""


@dataclass(frozen=True)
class RandomReplacement:
    """A random row makes room."""


@dataclass(frozen=True)
class MaxValue:
    """The rows of the smallest values make room, unconditionally."""


@dataclass(frozen=True)
class MaxSurprise:
    """The rows make room whose values were predicted best when they were written.

    Args:
        k: Neighbours of the prediction.
        kernel: Its kernel.
        delta: Its delta.
    """

    k: int = 11
    kernel: str = "idw"
    delta: float | str = 1e-3


@dataclass(frozen=True)
class Aggregate:
    """A sample within ``radius`` of a key is merged into its row; for others the least recently used makes room."""

    radius: float


@dataclass(frozen=True)
class OnlineKMeans:
    """Samples join the nearest cluster, and move it by 1 / its count; nothing makes room.

    Args:
        weighting: ``"count"`` or ``"author"``, as in ``DynamicKMeans``.
        merge_radius: As in ``DynamicKMeans``.
    """

    weighting: str = "count"
    merge_radius: float = 0.0


@dataclass(frozen=True)
class DynamicKMeans:
    """Online k-means whose clusters lose weight over time and make room when they starve.

    Args:
        weighting: ``"count"``, the corrected update, or ``"author"``, the published one.
        merge_radius: Under ``"count"``, distance up to which a sample is taken for the same as a row; 0: equality.
    """

    weighting: str = "count"
    merge_radius: float = 0.0
