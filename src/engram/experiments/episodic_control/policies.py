"""The rules that are compared for what stays in a memory that is too small."""

from collections.abc import Callable
from typing import Literal

from engram.memory.episodic.policies import (
    FIFO,
    LRU,
    DynamicKMeans,
    KMeans,
    MaxSurprise,
    MaxValue,
    Policy,
    RandomReplacement,
)

PolicyName = Literal["lru", "max-surprise", "max-value", "k-means", "dkm-author", "dkm", "fifo", "random"]
POLICIES: dict[PolicyName, Callable[[], Policy]] = {
    "lru": LRU,
    "max-surprise": MaxSurprise,
    "max-value": MaxValue,
    "k-means": lambda: KMeans(weighting="author"),
    "dkm-author": lambda: DynamicKMeans(weighting="author"),
    "dkm": DynamicKMeans,
    "fifo": FIFO,
    "random": RandomReplacement,
}
FORMS: tuple[PolicyName, ...] = ("lru", "dkm-author", "dkm")
PAIR: tuple[PolicyName, ...] = ("lru", "dkm")
COMPARED: tuple[PolicyName, ...] = ("lru", "max-surprise", "max-value", "k-means", "dkm-author", "dkm")
