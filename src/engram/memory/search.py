"""How the nearest keys are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Search(Protocol):
    """What finds the nearest keys of a table."""


@dataclass(frozen=True)
class ExactSearch:
    """All keys are looked at."""


@dataclass(frozen=True)
class FaissSearch:
    """Candidates from an index of faiss, the extra ``engram[faiss]``; rows written since it was built are all looked at.

    Args:
        index: What index, in the words of faiss's ``index_factory``.
        rebuild: The index is built anew when this share of the rows has been written since.
    """

    index: str = "HNSW32"
    rebuild: float = 0.05
