"""Stored fragments, keys that lead to them, and a graph of their borders."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from engram import checks
from engram.memory.fragments.matchers import MATCHERS, Match, Matcher, SimilarityMatcher
from engram.state import check_state

T = TypeVar("T")
UNKNOWN = -1
"""The source of a key that has none, or whose source was removed."""


class StoredKey(NamedTuple):
    """A key, the fragment that it leads to, and the fragment in which it was met."""

    key: Any
    target: int
    source: int


class LongTermStore(Generic[T]):
    """A store of numbered fragments, with keys that lead to them and a graph of neighbouring fragments.

    Queries are compared with keys; ``match`` returns the fragment to which the best key leads, and the similarity. An
    edge has a payload at each end, such as where the other fragment begins in the coordinates of this one. If there is
    no room, the least recently used fragment is removed, with its edges and the keys that lead to it; keys that were
    met in it stay, with source -1.

    Args:
        matcher: ``"exact"``, ``"cosine"``, ``"geometric"``, a function that returns the similarity of a query and a
            key, or any ``Matcher``.
        capacity: Largest number of fragments; None: no limit.

    Attributes:
        keys: The stored keys, in the order in which they were added.

    Source: Hwang et al., "Grid cell-inspired fragmentation and recall for efficient map building" (2024).

    Examples:
        >>> store = LongTermStore[str]("exact")
        >>> attic = store.write("the attic", key="stairs up")
        >>> store.get(store.match("stairs up").target)
        'the attic'
    """

    __repr__ = checks.described

    def __init__(
        self, matcher: str | Matcher | Callable[[Any, Any], float] = "cosine", capacity: int | None = None
    ) -> None:
        if isinstance(matcher, str):
            self._matcher = MATCHERS[checks.choice("matcher", matcher, MATCHERS)]()
        elif isinstance(matcher, Matcher):
            self._matcher = matcher
        elif callable(matcher):
            self._matcher = SimilarityMatcher(matcher)
        else:
            raise TypeError(f"matcher = {checks.shown(matcher)}: expected one of {', '.join(MATCHERS)}, or a function")
        self.capacity = None if capacity is None else checks.size("capacity", capacity)
        self.keys: list[StoredKey] = []
        self._items: dict[int, T] = {}
        self._used: dict[int, float] = {}
        self._edges: list[tuple[int, int, Any, Any]] = []
        self._clock, self._next = 0.0, 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, id: object) -> bool:  # noqa: A002
        return id in self._items

    @property
    def ids(self) -> list[int]:
        """The numbers of all fragments, the most recently used first."""
        return sorted(self._used, key=lambda number: (-self._used[number], -number))

    def write(self, item: T, key: Any = None, source: int | None = None, *, in_use: Collection[int] = ()) -> int:
        """Store a fragment.

        Args:
            item: The fragment.
            key: A key that leads to it; None: no key yet.
            source: The fragment in which the key was met.
            in_use: Fragments that must not be removed to make room.

        Returns:
            The fragment's number; no number is used twice.

        Raises:
            ValueError: No room can be made, or the source is unknown, or the key does not fit those stored already.
        """
        if source is not None:
            self._existing_id("source", source)
        n_removed = 0 if self.capacity is None else max(0, len(self) + 1 - self.capacity)
        idle = [number for number in self.ids if number not in in_use] if n_removed else []
        if len(idle) < n_removed:
            raise ValueError(f"in_use = {list(in_use)}: no room can be made with capacity = {self.capacity}")
        number, key = self._next, copy.deepcopy(key)
        if key is not None:
            self._matcher.add(key, number)  # before anything is removed or stored, as it may refuse the key
        for evicted in idle[len(idle) - n_removed :]:
            self._evict(evicted)
        self._next += 1
        self._items[number] = item
        self.touch(number)
        if key is not None:  # the source may have been removed
            self.keys.append(StoredKey(key, number, source if source in self._items else UNKNOWN))
        return number

    def add_key(self, key: Any, target: int, source: int | None = None) -> None:
        """Store another key that leads to a fragment.

        Args:
            key: The key; a copy of it is stored.
            target: Number of the fragment to which it leads.
            source: Number of the fragment in which it was met (default: unknown).
        """
        self._existing_id("target", target)
        source = UNKNOWN if source is None else self._existing_id("source", source)
        key = copy.deepcopy(key)
        self._matcher.add(key, target)
        self.keys.append(StoredKey(key, target, source))

    def get(self, id: int) -> T:  # noqa: A002
        """The fragment with this number; ValueError if there is none."""
        return self._items[self._existing_id("id", id)]

    def replace(self, id: int, item: T) -> None:  # noqa: A002
        """Replace the fragment with this number."""
        self._items[self._existing_id("id", id)] = item

    def touch(self, id: int, time: float | None = None) -> None:  # noqa: A002
        """Mark a fragment as used at a time, by default the latest so far."""
        self._existing_id("id", id)
        self._clock = max(self._clock, self._clock + 1 if time is None else checks.number("time", time))
        self._used[id] = self._clock if time is None else float(time)

    def match(self, query: Any) -> Match:
        """The fragment to which the key most similar to a query leads, -1 if there is none, and the similarity."""
        try:
            return self._matcher.match(query)
        except Exception as error:
            checks.note(error, query=query)
            raise

    def connect(self, i: int, j: int, payload_i: Any = None, payload_j: Any = None) -> None:
        """Add an edge between two fragments, with a payload at each end.

        Args:
            i: Number of a fragment.
            j: Number of another fragment.
            payload_i: Payload at the end of i.
            payload_j: Payload at the end of j.

        Raises:
            ValueError: A fragment is not stored, or both are the same.
        """
        if self._existing_id("i", i) == self._existing_id("j", j):
            raise ValueError(f"j = {j}: expected another fragment than i")
        self._edges.append((i, j, payload_i, payload_j))

    def neighbors(self, id: int) -> dict[int, list[Any]]:  # noqa: A002
        """The neighbours of a fragment, each with the payload at this fragment's end of the edge."""
        self._existing_id("id", id)
        neighbours: dict[int, list[Any]] = {}
        for i, j, payload_i, payload_j in self._edges:
            if id in (i, j):
                neighbour, payload = (j, payload_i) if id == i else (i, payload_j)
                neighbours.setdefault(neighbour, []).append(payload)
        return neighbours

    def state_dict(self) -> dict[str, Any]:
        """Everything that is stored; a fragment that has a ``state_dict`` is stored as that."""
        items = [item.state_dict() if hasattr(item, "state_dict") else item for item in self._items.values()]
        return copy.deepcopy(
            {"ids": list(self._items), "items": items, "used": [self._used[number] for number in self._items]}
            | {"keys": [list(key) for key in self.keys], "edges": [list(edge) for edge in self._edges]}
            | {"clock": self._clock, "next": self._next}
        )

    def load_state_dict(self, state: Mapping[str, Any], factory: Callable[[], T] | None = None) -> None:
        """Continue from a state of ``state_dict``.

        Args:
            state: The state.
            factory: Function that makes a fragment into which a stored state is loaded; None: stored fragments are
                used as they are.

        Raises:
            ValueError, TypeError: The state has another form.
        """
        check_state(state, self._form(checks.instance("state", state, dict)))
        state = copy.deepcopy(dict(state))
        items = []
        for stored in state["items"]:
            item: Any = stored if factory is None else factory()
            if factory is not None:
                item.load_state_dict(stored)
            items.append(item)
        keys = [StoredKey(*key) for key in state["keys"]]
        edges: list[Any] = [(i, j, payload_i, payload_j) for i, j, payload_i, payload_j in state["edges"]]
        for number in self._items:
            self._matcher.forget(number)
        try:
            for key in keys:
                self._matcher.add(key.key, checks.choice("target of a key", key.target, state["ids"]))
        except Exception:  # the matcher refused a key: it gets the old ones back
            for number in state["ids"]:
                self._matcher.forget(number)
            for key in self.keys:
                self._matcher.add(key.key, key.target)
            raise
        self._items = dict(zip(state["ids"], items, strict=True))
        self._used = dict(zip(state["ids"], state["used"], strict=True))
        self.keys, self._edges = keys, edges
        self._clock, self._next = float(state["clock"]), int(state["next"])

    @staticmethod
    def _form(state: Mapping[str, Any]) -> dict[str, Any]:
        """The expected form of a state with the same number of fragments."""
        count = len(state["ids"]) if isinstance(state.get("ids"), list) else 0
        lists = {"ids": [int] * count, "items": [object] * count, "used": [float] * count}
        return lists | {"keys": list, "edges": list, "clock": float, "next": int}

    def _existing_id(self, name: str, id: Any) -> int:  # noqa: A002
        if type(id) is int and id in self._items:
            return id
        if checks.size(name, id, minimum=0) not in self._items:
            raise ValueError(f"{name} = {id}: expected the number of a fragment that is stored")
        return int(id)

    def _evict(self, id: int) -> None:  # noqa: A002
        del self._items[id], self._used[id]
        self._matcher.forget(id)
        stays = [key for key in self.keys if key.target != id]
        self.keys = [key._replace(source=UNKNOWN) if key.source == id else key for key in stays]
        self._edges = [edge for edge in self._edges if id not in edge[:2]]
