import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.memory import FragmentAndRecall, LongTermStore, SurprisalMonitor
from engram.memory.fragments import ExactMatcher, GeometricMatcher

FARMAP = {"min_samples": 26}
CURIOSITY = {"criterion": "ratio", "threshold": 10.0, "min_samples": 25, "append_on_trigger": False,
             "reset_on_trigger": False, "skip_repeats": True}  # fmt: skip


def watched(stream, *, criterion="zscore", threshold=2.0, min_samples=26, window=None, std_floor=1e-6,
            append_on_trigger=True, reset_on_trigger=True, skip_repeats=False):  # fmt: skip
    """Return when a monitor fires, from the definition: lists, and the module statistics."""
    past, fired, previous = [], [], None
    for x in stream:
        repeated, previous = skip_repeats and x == previous, x
        seen, fires = past[-window:] if window else past, False
        if repeated:
            fired.append(False)
            continue
        if len(seen) >= max(min_samples, 2) and criterion == "zscore":
            std = statistics.stdev(seen)
            fires = std > std_floor and (x - statistics.fmean(seen)) / std > threshold
        elif len(seen) >= min_samples and criterion == "ratio" and seen:
            fires = statistics.fmean(seen) > 0 and x >= threshold * statistics.fmean(seen)
        if fires and reset_on_trigger:
            past = []
        if not fires or append_on_trigger:
            past.append(x)
        fired.append(fires)
    return fired


def rare_peaks(seed, length=400):
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 0.1, length) + (rng.random(length) < 0.03) * rng.uniform(1, 5, length)
    repeated = rng.random(length) < 0.1
    for i in np.flatnonzero(repeated[1:]) + 1:
        values[i] = values[i - 1]
    return values.tolist()


@given(
    seed=st.integers(0, 10**6),
    options=st.fixed_dictionaries(
        {
            "criterion": st.sampled_from(["zscore", "ratio"]),
            "threshold": st.sampled_from([1.5, 2.0, 3.0]),
            "min_samples": st.integers(0, 30),
            "window": st.sampled_from([None, 30, 64]),
            "append_on_trigger": st.booleans(),
            "reset_on_trigger": st.booleans(),
            "skip_repeats": st.booleans(),
        }
    ),
)
@settings(max_examples=25, deadline=None)
def test_a_monitor_fires_as_defined(seed, options):
    stream, monitor = rare_peaks(seed), SurprisalMonitor(**options)
    assert [monitor.observe(x) for x in stream] == watched(stream, **options)


@pytest.mark.parametrize("published", [FARMAP, CURIOSITY])
def test_the_published_settings_fire(published):
    stream = rare_peaks(3, 1500)
    fired = [SurprisalMonitor(**published).observe(x) for x in stream]
    assert fired == [False] * 1500, "a fresh monitor has nothing to compare with"
    monitor = SurprisalMonitor(**published)
    fired = [monitor.observe(x) for x in stream]
    assert fired == watched(stream, **published)
    assert sum(fired) > 2


def test_streams_are_as_many_monitors():
    streams = np.array([rare_peaks(seed) for seed in range(3)])
    together = SurprisalMonitor(streams=3, window=40)
    alone = [SurprisalMonitor(window=40) for _ in range(3)]
    fired = np.array([together.observe(x) for x in streams.T])
    np.testing.assert_array_equal(fired, [[m.observe(v) for m, v in zip(alone, x, strict=True)] for x in streams.T])
    assert fired.any(0).all()


def test_controls_fire_at_their_rate():
    uniform = SurprisalMonitor("uniform", 50.0, min_samples=0)
    assert np.flatnonzero([uniform.observe(0.0) for _ in range(205)]).tolist() == [49, 99, 149, 199]
    generator = torch.Generator().manual_seed(0)
    random = SurprisalMonitor("random", 0.1, min_samples=0, generator=generator)
    count = sum(random.observe(0.0) for _ in range(2000))
    assert 160 < count < 240
    again = SurprisalMonitor("random", 0.1, min_samples=0, generator=torch.Generator().manual_seed(0))
    assert sum(again.observe(0.0) for _ in range(2000)) == count


def test_nothing_fires_on_constants_or_unarmed_and_the_samples_count_all_the_same():
    monitor = SurprisalMonitor()
    assert not any(monitor.observe(0.3) for _ in range(100))
    assert np.isnan(monitor.statistic[0])
    peaked = SurprisalMonitor(min_samples=3)
    for x in (1.0, 2.0, 3.0):
        peaked.observe(x)
    assert not peaked.observe(9.0, armed=False)
    assert peaked.statistic[0] == pytest.approx(7.0)
    assert peaked.observe(14.0) == ((14 - 3.75) / statistics.stdev([1, 2, 3, 9]) > 2)


def test_a_state_goes_on_as_the_monitor_would():
    stream = rare_peaks(5)
    for criterion, threshold in [("zscore", 2.0), ("random", 0.05)]:
        first, second = (SurprisalMonitor(criterion, threshold, min_samples=5, window=50) for _ in range(2))
        for x in stream[:200]:
            first.observe(x)
        second.load_state_dict(first.state_dict())
        assert [first.observe(x) for x in stream[200:]] == [second.observe(x) for x in stream[200:]]
    with pytest.raises(ValueError, match=r"state\['rings'\]"):
        SurprisalMonitor().load_state_dict(second.state_dict())


def test_a_full_store_lets_the_fragment_go_that_was_used_longest_ago():
    store = LongTermStore("exact", capacity=2)
    a = store.write("A", key="to a")
    b = store.write("B", key="to b", source=a)
    store.add_key("to b from nowhere", b)
    store.connect(a, b, "end at a", "end at b")
    assert store.neighbors(b) == {a: ["end at b"]}
    store.touch(b)
    c = store.write("C", key="to c", source=b)
    assert (a in store, store.ids, len(store)) == (False, [c, b], 2)
    assert store.match("to a").target == -1
    assert [(key.target, key.source) for key in store.keys] == [(b, -1), (b, -1), (c, b)]
    assert store.neighbors(b) == {}
    with pytest.raises(ValueError, match="id = 0: expected the number of a fragment"):
        store.get(a)
    with pytest.raises(ValueError, match="in_use"):
        store.write("D", in_use=(b, c))
    with pytest.raises(ValueError, match="source = 0"):
        store.add_key("to b", b, source=a)
    d = store.write("D", key="to d", source=b, in_use=(c,))  # takes the room of its source
    assert store.keys[-1] == ("to d", d, -1)


def test_of_equal_keys_the_next_counts_when_a_fragment_is_removed():
    store = LongTermStore("exact", capacity=2)
    a, b = store.write("A", key="door"), store.write("B", key="door")
    assert store.match("door").target == b
    store.touch(a)
    store.write("C")
    assert (b in store, store.match("door").target) == (False, a)


def test_a_key_that_is_changed_later_matches_as_it_was_stored():
    store, key = LongTermStore("cosine"), np.array([1.0, 0.0])
    store.write("A", key=key)
    key[:] = 0, 1
    assert store.match(np.array([1.0, 0.0])).similarity == 1


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_cosine_matches_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    keys, queries = rng.normal(size=(6, 4)), rng.normal(size=(5, 4))
    store = LongTermStore("cosine")
    ids = [store.write(number, key=key) for number, key in enumerate(keys)]
    cosine = [[q @ k / np.linalg.norm(q) / np.linalg.norm(k) for k in keys] for q in queries]
    match = store.match(queries)
    np.testing.assert_array_equal(match.target, np.array(ids)[np.argmax(cosine, 1)])
    np.testing.assert_allclose(match.similarity, np.max(cosine, 1))
    assert store.match(queries[0]).target == match.target[0]
    assert store.match(np.zeros(4)).similarity == 0.0


def test_a_line_is_crossed_in_its_direction_only_and_within_its_ends():
    matcher = GeometricMatcher()
    matcher.add((0, 3, 5, 2, 9, 2), 1)
    crossed = {
        (fragment, way, row, column)
        for fragment in (0, 1) for way in range(4) for row in range(3, 12) for column in range(5)
        if matcher.match((fragment, way, row, column)).target == 1
    }  # fmt: skip
    assert crossed == {(0, 3, row, 2) for row in range(5, 10)}
    matcher.add((0, 3, 9, 2, 9, 8), 2)
    assert [matcher.match((0, 3, row, 2)).target for row in (8, 9)] == [1, 2], "the line that came last counts"
    matcher.forget(2)
    assert matcher.match((0, 3, 9, 2)).target == 1


def test_a_function_may_say_how_similar_keys_are():
    store = LongTermStore(lambda query, key: -abs(query - key))
    near, _ = store.write("near", key=3), store.write("far", key=30)
    assert store.match(5) == (near, -2)


def events(far, stream, rooms):
    return [far.step(x, room)[:3] for x, room in zip(stream, rooms, strict=True)]


@given(seed=st.integers(0, 10**6), capacity=st.sampled_from([None, 2, 4]), burn_in=st.integers(0, 3))
@settings(max_examples=12, deadline=None)
def test_fragments_grow_by_one_recalls_leave_them_and_a_replay_decides_the_same(seed, capacity, burn_in):
    rng = np.random.default_rng(seed)
    stream, rooms = rare_peaks(seed, 200), rng.integers(0, 6, 200).tolist()

    def made():
        monitor = SurprisalMonitor(min_samples=5)
        return FragmentAndRecall(dict, LongTermStore("exact", capacity), monitor, burn_in=burn_in)

    far, since = made(), burn_in
    for x, room in zip(stream, rooms, strict=True):
        before, edges = len(far.store), list(far.store._edges)
        decision = far.step(x, room)
        grown = decision.kind == "fragment" and before != capacity
        assert len(far.store) == before + grown
        assert (decision.source != decision.target) == (decision.kind != "keep")
        assert far.current_id == decision.target in far.store
        assert decision.kind != "recall" or far.store._edges == edges
        assert since >= burn_in or decision.kind == "keep"
        since = 0 if decision.kind == "fragment" else since + 1
        for other in far.store.neighbors(far.current_id):
            assert far.current_id in far.store.neighbors(other)
    first, second = made(), made()
    decisions = events(first, stream[:100], rooms[:100])
    assert decisions == events(second, stream[:100], rooms[:100])
    third = made()
    third.load_state_dict(first.state_dict())
    assert events(third, stream[100:], rooms[100:]) == events(second, stream[100:], rooms[100:])


def test_recall_comes_before_a_fragment_and_its_surprisal_is_the_recalled_ones():
    far = FragmentAndRecall(dict, LongTermStore("exact"), SurprisalMonitor(min_samples=3))
    decisions = events(far, [1.0, 2.0, 1.0, 9.0], ["a", "a", "a", "door"])
    assert [kind for kind, *_ in decisions] == ["keep"] * 3 + ["fragment"]
    old = decisions[-1][1]
    far.store.add_key("back", old, far.current_id)
    asked = []
    decision = far.step(lambda fragment: asked.append(fragment) or 100.0, "back")
    assert (decision.kind, decision.target) == ("recall", old)
    assert asked == [far.store.get(old)]


def test_a_familiar_query_begins_no_fragment():
    store = LongTermStore("cosine")
    far = FragmentAndRecall(dict, store, SurprisalMonitor(min_samples=3), novelty_threshold=0.75)
    key = np.array([1.0, 0.0])
    store.add_key(key, far.current_id)
    for x in (1.0, 2.0, 3.0):
        far.step(x, np.array([0.0, 1.0]))
    assert far.step(50.0, key).kind == "keep"
    for x in (1.0, 2.0, 3.0):
        far.step(x, np.array([0.0, 1.0]))
    assert far.step(500.0, np.array([0.0, 1.0])).kind == "fragment"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SurprisalMonitor("z"), "criterion = 'z'"),
        (lambda: SurprisalMonitor(threshold=0.0), "threshold = 0.0"),
        (lambda: SurprisalMonitor("random", 1.5), "threshold = 1.5"),
        (lambda: SurprisalMonitor(window=10), "window = 10"),
        (lambda: SurprisalMonitor().observe(float("nan")), "x = nan"),
        (lambda: SurprisalMonitor(streams=2).observe(np.zeros(3)), "x.shape"),
        (lambda: LongTermStore(capacity=0), "capacity = 0"),
        (lambda: LongTermStore("nearest"), "matcher = 'nearest'"),
        (lambda: LongTermStore("geometric").match((0, 1)), "query = "),
        (lambda: FragmentAndRecall(dict, LongTermStore(capacity=1), SurprisalMonitor()), "store has 0 .* capacity = 1"),
        (lambda: FragmentAndRecall(dict, LongTermStore(), SurprisalMonitor(streams=2)), "monitor.streams = 2"),
        (lambda: LongTermStore().load_state_dict({"ids": [1]}), "state"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_only_the_random_criterion_draws():
    for criterion, draws in (("zscore", False), ("random", True)):
        before = torch.random.get_rng_state()
        SurprisalMonitor(criterion, threshold=0.5)
        assert torch.equal(torch.random.get_rng_state(), before) != draws


@pytest.mark.parametrize(
    ("key", "query", "is_equal"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]), True),
        (torch.tensor([1.0, 2.0]), np.array([1, 2]), True),
        (np.array([0.0, 1.0]), np.array([-0.0, 1.0], np.float32), True),
        (np.array([2**53 + 1]), np.array([2**53]), False),
        (np.array([1.0, 2.0]), np.array([[1.0, 2.0]]), False),
        (np.array([0.5]), np.array([0.25]), False),
        ("a", "a", True),
        (1, 1.0, True),
        (torch.tensor(1), 1, True),
        (0.5, np.array(0.5, np.float32), True),
        (torch.tensor(True), 1, False),
        (True, np.True_, True),
        (True, 1, False),
        (0, False, False),
        (("room", (True,)), ("room", (1,)), False),
        (("room", (True,)), ("room", (True,)), True),
        (np.array([True, "b"], dtype=object), np.array([1, "b"], dtype=object), False),
    ],
)
def test_equal_keys_match_exactly(key, query, is_equal):
    store = LongTermStore("exact")
    target = store.write("room", key=key)
    assert store.match(query).target == (target if is_equal else -1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8])
def test_an_exact_key_is_known_by_its_numbers_in_any_precision(dtype):
    matcher = ExactMatcher()
    matcher.add(torch.tensor([1, 2]).to(dtype), 7)
    assert [matcher.match(query).target for query in (np.array([1.0, 2.0]), np.array([1.0, 3.0]))] == [7, -1]


def test_an_exact_key_of_strings_or_objects_is_known_by_its_items():
    matcher = ExactMatcher()
    matcher.add(np.array(["a", "longer"])[:1], 1)
    matcher.add(np.array([10**30, "b"], dtype=object), 2)
    assert matcher.match(np.array(["a"])).target == 1
    assert matcher.match(np.array([10**29 * 10, "b"], dtype=object)).target == 2
    with pytest.raises(TypeError, match="expected an array or a tensor of numbers or strings, or what can be hashed"):
        matcher.add(np.array([[], None], dtype=object), 3)


def test_a_statistic_that_was_read_stays_as_it_was():
    monitor = SurprisalMonitor("uniform", 3.0, streams=2)
    trace = []
    for x in (1.0, 2.0):
        monitor.observe(np.array([x, x]))
        trace.append(monitor.statistic)
    assert np.array_equal(trace, [[1, 1], [2, 2]])
