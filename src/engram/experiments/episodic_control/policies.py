"""The rules that are compared for what stays in a memory that is too small."""

from collections.abc import Callable
from typing import Literal

from engram.memory.episodic import policies

PolicyName = Literal["lru", "max-surprise", "max-value", "k-means", "dkm-author", "dkm", "fifo", "random"]
POLICIES: dict[PolicyName, Callable[[], policies.Policy]] = {
    "lru": policies.LRU,
    "max-surprise": policies.MaxSurprise,
    "max-value": policies.MaxValue,
    "k-means": lambda: policies.KMeans(weighting="author"),
    "dkm-author": lambda: policies.DynamicKMeans(weighting="author"),
    "dkm": policies.DynamicKMeans,
    "fifo": policies.FIFO,
    "random": policies.RandomReplacement,
}
FORMS: tuple[PolicyName, ...] = ("lru", "dkm-author", "dkm")
PAIR: tuple[PolicyName, ...] = ("lru", "dkm")
COMPARED: tuple[PolicyName, ...] = ("lru", "max-surprise", "max-value", "k-means", "dkm-author", "dkm")
