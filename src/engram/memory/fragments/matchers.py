"""Matching of queries with stored keys: the most similar key determines the fragment."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from engram import checks


class Match(NamedTuple):
    """Where the best key leads, -1 where there is none; and its similarity. Arrays where there were several queries."""

    target: Any
    similarity: Any


NO_MATCH = Match(-1, -np.inf)


@runtime_checkable
class Matcher(Protocol):
    """Keys and the fragments to which they lead; among equally similar keys the first one added counts."""

    @abstractmethod
    def add(self, key: Any, target: int) -> None:
        """Store a key."""

    @abstractmethod
    def forget(self, target: int) -> None:
        """Remove all keys that lead there."""

    @abstractmethod
    def match(self, query: Any) -> Match:
        """The most similar key."""


class ExactMatcher:
    """Keys that a query has to equal: anything hashable, or the bytes of an array. The last key added counts."""

    __repr__ = checks.described

    def __init__(self) -> None:
        self.targets: dict[Hashable, int] = {}

    def add(self, key: Any, target: int) -> None:
        """Store a key."""
        self.targets[_hashable("key", key)] = target

    def forget(self, target: int) -> None:
        """Remove all keys that lead there."""
        self.targets = {key: leads for key, leads in self.targets.items() if leads != target}

    def match(self, query: Any) -> Match:
        """The equal key, with similarity 1."""
        target = self.targets.get(_hashable("query", query))
        return NO_MATCH if target is None else Match(target, 1.0)


class CosineMatcher:
    """Keys that are vectors; the similarity is the cosine, 0 for a vector of zeros. Many queries are one product.

    Examples:
        >>> matcher = CosineMatcher()
        >>> matcher.add(np.array([1.0, 0.0]), 7)
        >>> matcher.match(np.array([[3.0, 0.0], [1.0, 1.0]])).similarity.round(3).tolist()
        [1.0, 0.707]
    """

    __repr__ = checks.described

    def __init__(self) -> None:
        self.targets = np.empty(0, dtype=np.int64)
        self.keys = np.empty((0, 0))

    def add(self, key: Any, target: int) -> None:
        """Store a key, with length 1."""
        key = checks.array("key", key, ("features",))
        if not key.size:
            raise ValueError("key = []: expected at least one feature")
        key = _unit(key)
        if len(self.targets):
            checks.has_shape("key", key.shape, (self.keys.shape[1],))
        self.keys = np.vstack([self.keys.reshape(-1, len(key)), key])
        self.targets = np.append(self.targets, target)

    def forget(self, target: int) -> None:
        """Remove all keys that lead there."""
        stays = self.targets != target
        self.keys, self.targets = self.keys[stays], self.targets[stays]

    def match(self, query: Any) -> Match:
        """The key of the largest cosine, for a query, (features,), or each of several, (queries, features)."""
        several = np.ndim(query) == 2
        queries = _unit(checks.array("query", query, ("queries",) * several + ("features",)))
        if not len(self.targets):
            return Match(np.full(len(queries), -1), np.full(len(queries), -np.inf)) if several else NO_MATCH
        checks.has_shape("query", queries.shape[-1:], (self.keys.shape[1],))
        cosines = np.atleast_2d(queries) @ self.keys.T
        best = cosines.argmax(1)
        matches = Match(self.targets[best], cosines[np.arange(len(best)), best])
        return matches if several else Match(int(matches.target[0]), float(matches.similarity[0]))


class GeometricMatcher:
    """Keys that are lines in the plane of a fragment, crossed in one direction.

    A key is ``(fragment, direction, first row, first column, last row, last column)`` of a horizontal or vertical line,
    ends included; a query ``(fragment, direction, row, column)`` matches with similarity 1 where it stands on the line
    in its direction. Of two lines the last one added counts.

    Examples:
        >>> matcher = GeometricMatcher()
        >>> matcher.add((0, 3, 5, 2, 9, 2), 1)
        >>> matcher.match((0, 3, 6, 2)).target, matcher.match((0, 2, 6, 2)).target
        (1, -1)
    """

    __repr__ = checks.described

    def __init__(self) -> None:
        self.lines: dict[tuple[int, int], list[tuple[tuple[int, ...], int]]] = {}

    def add(self, key: Any, target: int) -> None:
        """Store a line."""
        fragment, direction, *ends = _integers("key", key, 6)
        if ends[0] > ends[2] or ends[1] > ends[3]:
            raise ValueError(f"key = {key}: expected a first row and column that are not after the last")
        self.lines.setdefault((fragment, direction), []).insert(0, (tuple(ends), target))

    def forget(self, target: int) -> None:
        """Remove all lines that lead there."""
        for place, lines in self.lines.items():
            self.lines[place] = [line for line in lines if line[1] != target]

    def match(self, query: Any) -> Match:
        """The line that is crossed."""
        fragment, direction, row, column = _integers("query", query, 4)
        for (top, left, bottom, right), target in self.lines.get((fragment, direction), ()):
            if top <= row <= bottom and left <= column <= right:
                return Match(target, 1.0)
        return NO_MATCH


class SimilarityMatcher:
    """Keys of any kind, and a function that says how similar a query is to one of them.

    Args:
        similarity: Function of a query and a key; the larger its value, the more similar they are.
    """

    __repr__ = checks.described

    def __init__(self, similarity: Callable[[Any, Any], float]) -> None:
        checks.arguments()
        self.similarity = similarity
        self.keys: list[tuple[Any, int]] = []

    def add(self, key: Any, target: int) -> None:
        """Store a key."""
        self.keys.append((key, target))

    def forget(self, target: int) -> None:
        """Remove all keys that lead there."""
        self.keys = [entry for entry in self.keys if entry[1] != target]

    def match(self, query: Any) -> Match:
        """The key that is most similar according to the function."""
        best = NO_MATCH
        for key, target in self.keys:
            similarity = checks.number("similarity(query, key)", self.similarity(query, key))
            best = Match(target, similarity) if similarity > best.similarity else best
        return best


MATCHERS: dict[str, Callable[[], Matcher]] = {
    "exact": ExactMatcher,
    "cosine": CosineMatcher,
    "geometric": GeometricMatcher,
}


def _hashable(name: str, value: Any) -> Hashable:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    try:
        hash(value)
    except TypeError as error:
        raise TypeError(f"{name} = {checks.shown(value)}: expected an array, or what can be hashed") from error
    return value  # type: ignore[no-any-return]


def _integers(name: str, value: Any, count: int) -> list[int]:
    if type(value) is tuple and list(map(type, value)) == [int] * count:
        return list(value)
    numbers = list(value) if isinstance(value, tuple | list | np.ndarray) else []
    if len(numbers) != count or not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in numbers):
        raise ValueError(f"{name} = {checks.shown(value)}: expected {count} integers")
    return numbers


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; those of zeros stay."""
    scaled = vectors / np.maximum(np.abs(vectors).max(-1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(scaled / np.maximum(np.linalg.norm(scaled, axis=-1, keepdims=True), np.finfo(float).tiny))
