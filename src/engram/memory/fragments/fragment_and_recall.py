"""Fragmentation and recall: at each step the current fragment is kept, another begins, or an old one is recalled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from engram import checks
from engram.memory.fragments.long_term_store import LongTermStore
from engram.memory.fragments.matchers import NO_MATCH
from engram.memory.fragments.surprisal_monitor import SurprisalMonitor
from engram.state import check_state

T = TypeVar("T")
Link = Callable[[LongTermStore[Any], int, int, Any], None]


class Decision(NamedTuple):
    """The decision at a step.

    Attributes:
        kind: Whether the current fragment was kept, or left for a new or a stored one.
        source: The current fragment before the step.
        target: The current fragment after it.
        statistic: The monitor's statistic, which it compared with its threshold, or NaN.
        similarity: Similarity of the best key; minus infinity if there is none.
    """

    kind: Literal["keep", "fragment", "recall"]
    source: int
    target: int
    statistic: float
    similarity: float


def link(store: LongTermStore[Any], source: int, target: int, query: Any) -> None:
    """Connect two fragments, and store the query at their border as a key that leads to the new one.

    Args:
        store: The store that holds both fragments.
        source: Number of the old fragment.
        target: Number of the new fragment.
        query: The query at their border; None: no key is stored.
    """
    store.connect(source, target)
    if query is not None:
        store.add_key(query, target, source)


class FragmentAndRecall(Generic[T]):
    """A current fragment and stored ones; a surprise begins a new one, a familiar query recalls an old one.

    At each step: recall a fragment, if the best key leads to another one with a similarity of at least
    ``recall_threshold``; else begin a new one, if the monitor fires and the query is novel; else keep the current one.
    The current fragment is in the store as well, always under the same number.

    Args:
        factory: Function that makes an empty fragment.
        store: The store of fragments; empty, with room for at least two.
        monitor: The monitor of the surprisal, for one stream.
        recall_threshold: Minimum similarity for a recall.
        novelty_threshold: Similarity at and above which a query is too familiar to begin a fragment; None: no limit.
        burn_in: Number of steps after a new fragment in which the current fragment is always kept.
        link: Called with the store, the old and the new fragment and the query when a fragment begins; by default it
            connects them and stores the query as a key that leads to the new one.

    Attributes:
        current_id: Number of the current fragment.

    Source: Hwang et al., "Grid cell-inspired fragmentation and recall for efficient map building" (2024).

    Examples:
        >>> far = FragmentAndRecall(list, LongTermStore("exact"), SurprisalMonitor(min_samples=3))
        >>> [far.step(s, room).kind for s, room in zip([1.0, 2.0, 1.0, 9.0, 1.0], "aaaba")]
        ['keep', 'keep', 'keep', 'fragment', 'keep']
    """

    __repr__ = checks.described

    def __init__(
        self,
        factory: Callable[[], T],
        store: LongTermStore[T],
        monitor: SurprisalMonitor,
        *,
        recall_threshold: float = 0.99,
        novelty_threshold: float | None = None,
        burn_in: int = 0,
        link: Link = link,
    ) -> None:
        checks.arguments()
        if len(store) or (store.capacity is not None and store.capacity < 2):
            holds = f"store has {len(store)} fragments and capacity = {store.capacity}"
            raise ValueError(f"{holds}: expected none, and room for two")
        if monitor.streams is not None:
            raise ValueError(f"monitor.streams = {monitor.streams}: expected None, a monitor of one stream")
        self.recall_threshold = checks.number("recall_threshold", recall_threshold)
        if novelty_threshold is not None:
            checks.number("novelty_threshold", novelty_threshold)
        self.novelty_threshold = novelty_threshold
        self.burn_in = checks.size("burn_in", burn_in, minimum=0)
        self.factory, self.store, self.monitor, self.link = factory, store, monitor, link
        self.current_id = store.write(factory())
        self._waits = 0

    @property
    def current(self) -> T:
        """The current fragment."""
        return self.store.get(self.current_id)

    def step(
        self, surprisal: float | Callable[[T], float], query: Any = None, *, may_fragment: bool = True
    ) -> Decision:
        """Decide whether to keep the current fragment, begin a new one or recall an old one.

        Args:
            surprisal: Prediction error of the current fragment; or a function that returns that of the fragment that
                is current after recall.
            query: Query that is compared with the keys; None: nothing is recalled.
            may_fragment: Whether a surprise may begin a fragment at this step.

        Raises:
            ValueError: The surprisal is not finite. The monitor is unchanged, but the recall, the time of use and the
                count of ``burn_in`` are not undone.
        """
        source = self.current_id
        best = NO_MATCH if query is None else self.store.match(query)
        waiting, self._waits = self._waits > 0, max(0, self._waits - 1)
        recalled = not waiting and best.target not in (-1, source) and best.similarity >= self.recall_threshold
        if recalled:
            self.current_id = best.target
        self.store.touch(self.current_id)
        novel = self.novelty_threshold is None or best.similarity < self.novelty_threshold
        try:
            value = surprisal(self.current) if callable(surprisal) else surprisal
            armed = may_fragment and novel and not recalled and not waiting
            triggered = self.monitor.observe(value, armed=armed)
        except Exception as error:
            checks.note(error, surprisal=surprisal, may_fragment=may_fragment)
            raise
        if triggered:
            self.current_id = self.store.write(self.factory(), in_use=(source,))
            self.link(self.store, source, self.current_id, query)
            self._waits = self.burn_in
        kind: Any = "recall" if recalled else "fragment" if triggered else "keep"
        statistic = float(self.monitor.statistic[0])
        return Decision(kind, source, self.current_id, statistic, float(best.similarity))

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""
        components = {"store": self.store.state_dict(), "monitor": self.monitor.state_dict()}
        return components | {"current_id": self.current_id, "waits": self._waits}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that ``state_dict`` returned; TypeError or ValueError if it has another form."""
        check_state(state, {"store": dict, "monitor": self.monitor.state_dict(), "current_id": int, "waits": int})
        check_state(state["store"], self.store._form(state["store"]), "state['store']")
        checks.choice("state['current_id']", state["current_id"], state["store"]["ids"])
        fragment = self.factory()
        self.store.load_state_dict(state["store"], self.factory if hasattr(fragment, "load_state_dict") else None)
        self.monitor.load_state_dict(state["monitor"])
        self.current_id, self._waits = int(state["current_id"]), int(state["waits"])
