"""Matching queries with stored keys: the most similar key determines the fragment."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from engram import checks


class Match(NamedTuple):
    """The fragment to which the best key leads, -1 if there is none, and its similarity; arrays for several queries."""

    target: Any
    similarity: Any


NO_MATCH = Match(-1, -np.inf)


@runtime_checkable
class Matcher(Protocol):
    """Keys and the fragments to which they lead; each class defines which of several equally similar keys counts."""

    @abstractmethod
    def add(self, key: Any, target: int) -> None:
        """Store ``key``, which leads to the fragment with the number ``target``."""

    @abstractmethod
    def forget(self, target: int) -> None:
        """Remove all keys that lead to the fragment with the number ``target``."""

    @abstractmethod
    def match(self, query: Any) -> Match:
        """The most similar key."""


class ExactMatcher:
    """Keys that a query must equal: hashable objects, or arrays and tensors. The last of several equal keys counts.

    Numbers are equal in any precision, 1, 1.0 and ``torch.tensor(1)`` too, but no number equals a bool, also within
    tuples.
    """

    __repr__ = checks.described

    def __init__(self) -> None:
        self.targets: dict[Hashable, list[int]] = {}

    def add(self, key: Any, target: int) -> None:
        """Store ``key``, which leads to the fragment with the number ``target``."""
        self.targets.setdefault(_hashable("key", key), []).append(target)

    def forget(self, target: int) -> None:
        """Remove all keys that lead to the fragment with the number ``target``."""
        remaining = {
            key: [stored_target for stored_target in targets if stored_target != target]
            for key, targets in self.targets.items()
        }
        self.targets = {key: targets for key, targets in remaining.items() if targets}

    def match(self, query: Any) -> Match:
        """The equal key, with similarity 1."""
        targets = self.targets.get(_hashable("query", query))
        return Match(targets[-1], 1.0) if targets else NO_MATCH


class CosineMatcher:
    """Keys that are vectors; the similarity is the cosine, 0 for a zero vector. Several queries are one matrix product.

    If several keys are equally similar, the key that was added first counts.

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
        """Store ``key``, (features,), scaled to length 1, which leads to the fragment with the number ``target``."""
        key = checks.array("key", key, ("features",))
        if not key.size:
            raise ValueError("key = []: expected at least one feature")
        key = _unit(key)
        if len(self.targets):
            checks.has_shape("key", key.shape, (self.keys.shape[1],))
        self.keys = np.vstack([self.keys.reshape(-1, len(key)), key])
        self.targets = np.append(self.targets, target)

    def forget(self, target: int) -> None:
        """Remove all keys that lead to the fragment with the number ``target``."""
        is_other = self.targets != target
        self.keys, self.targets = self.keys[is_other], self.targets[is_other]

    def match(self, query: Any) -> Match:
        """The match of largest cosine for a query, (features,), or for each of several queries, (queries, features)."""
        is_batch = np.ndim(query) == 2
        queries = _unit(checks.array("query", query, ("queries",) * is_batch + ("features",)))
        if not len(self.targets):
            return Match(np.full(len(queries), -1), np.full(len(queries), -np.inf)) if is_batch else NO_MATCH
        checks.has_shape("query", queries.shape[-1:], (self.keys.shape[1],))
        cosines = np.atleast_2d(queries) @ self.keys.T
        best_keys = cosines.argmax(1)
        matches = Match(self.targets[best_keys], cosines[np.arange(len(best_keys)), best_keys])
        return matches if is_batch else Match(int(matches.target[0]), float(matches.similarity[0]))


class GeometricMatcher:
    """Keys that are lines in the plane of a fragment, crossed in one direction.

    A key is ``(fragment, direction, first row, first column, last row, last column)`` of a horizontal or vertical line,
    ends included; a query ``(fragment, direction, row, column)`` on the line and in its direction matches with
    similarity 1. If several lines match, the last one added counts.

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
        """Remove all lines that lead to a fragment."""
        for group, lines in self.lines.items():
            self.lines[group] = [line for line in lines if line[1] != target]

    def match(self, query: Any) -> Match:
        """The line that is crossed."""
        fragment, direction, row, column = _integers("query", query, 4)
        for (top, left, bottom, right), target in self.lines.get((fragment, direction), ()):
            if top <= row <= bottom and left <= column <= right:
                return Match(target, 1.0)
        return NO_MATCH


class SimilarityMatcher:
    """Keys of any kind, compared with queries by a function; the first of several equally similar keys counts.

    Args:
        similarity: Function of a query and a key; the larger its value, the more similar they are.
    """

    __repr__ = checks.described

    def __init__(self, similarity: Callable[[Any, Any], float]) -> None:
        checks.arguments()
        self.similarity = similarity
        self.keys: list[tuple[Any, int]] = []

    def add(self, key: Any, target: int) -> None:
        """Store ``key``, which leads to the fragment with the number ``target``."""
        self.keys.append((key, target))

    def forget(self, target: int) -> None:
        """Remove all keys that lead to the fragment with the number ``target``."""
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


def _hashable(name: str, key: Any) -> Hashable:
    value = checks.as_array(key)
    if isinstance(value, np.ndarray) and not value.ndim:  # the number that a tensor holds, which equals a plain one
        value = value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biufcmM":  # bytes would be addresses, or be padded
        value = "array", value.shape, tuple(value.ravel().tolist())
    if isinstance(value, np.ndarray):
        is_exact = value.dtype.kind == "f" or (value.dtype.kind in "iu" and (abs(value.astype(float)) < 2**53).all())
        value = value.astype(float) + 0.0 if is_exact else value  # equal numbers are equal keys, also 0 and -0
        return value.dtype.str, value.shape, value.tobytes()
    value = _with_bools_apart(value)
    try:
        hash(value)
    except TypeError as error:
        expected = "expected an array or a tensor of numbers or strings, or what can be hashed"
        raise TypeError(f"{name} = {checks.shown(key)}: {expected}") from error
    return value  # type: ignore[no-any-return]


def _with_bools_apart(value: Any) -> Any:
    """The key with each bool b replaced by (bool, b): True equals 1 in Python, but not in arrays."""
    if isinstance(value, tuple):
        return tuple(map(_with_bools_apart, value))
    return (bool, bool(value)) if isinstance(value, bool | np.bool_) else value


def _integers(name: str, value: Any, count: int) -> list[int]:
    if type(value) is tuple and list(map(type, value)) == [int] * count:
        return list(value)
    numbers = list(value) if isinstance(value, tuple | list | np.ndarray) else []
    if len(numbers) != count or not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in numbers):
        raise ValueError(f"{name} = {checks.shown(value)}: expected {count} integers")
    return numbers


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors scaled to length 1; zero vectors stay zero."""
    scaled = vectors / np.maximum(np.abs(vectors).max(-1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(scaled / np.maximum(np.linalg.norm(scaled, axis=-1, keepdims=True), np.finfo(float).tiny))
