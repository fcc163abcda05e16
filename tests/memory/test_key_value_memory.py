from __future__ import annotations

import copy
import pickle
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.memory import DND, FaissSearch, KeyValueMemory
from engram.memory.episodic.estimate import Averaging, estimate
from engram.memory.episodic.key_index import KeyIndex
from engram.memory.episodic.policies import (
    FIFO,
    LRU,
    Aggregate,
    DynamicKMeans,
    KMeans,
    MaxSurprise,
    MaxValue,
    RandomReplacement,
)

POLICIES = [
    LRU(),
    FIFO(),
    RandomReplacement(),
    MaxValue(),
    MaxSurprise(k=3),
    Aggregate(0.2),
    KMeans(),
    KMeans("author"),
    DynamicKMeans(),
    DynamicKMeans(merge_radius=0.1),
    DynamicKMeans.with_fixed_loss(),
    DynamicKMeans("author"),
]
pytestmark = pytest.mark.filterwarnings("ignore:a batch of more than a quarter:RuntimeWarning")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def column(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)[:, None]


def filled(policy, keys, values, capacity=None, **settings):
    """A memory in which keys (numbers) with values were written one after another."""
    memory = KeyValueMemory(capacity or len(keys), 1, policy=policy, **settings)
    for key, value in zip(keys, values, strict=True):
        memory.write(column(key), column(value))
    return memory


def stored(memory):
    """The rows of a memory of keys of length 1 as {key: value}."""
    keys, values = (rows[memory.filled].flatten().tolist() for rows in (memory.keys, memory.values))
    return dict(zip(keys, values, strict=True))


# Look-ups.


def test_the_estimates_of_the_specification():
    memory = filled(LRU(), [1, 3], [10, 20])
    assert memory.query(column(0), k=2, delta=0.0).values.item() == pytest.approx(11)
    assert memory.query(column(0), k=2, kernel="mean").values.item() == 15
    assert memory.query(column(0), k=2, delta="auto").values.item() == pytest.approx(
        (10 / 6 + 20 / 14) / (1 / 6 + 1 / 14)
    )
    near = filled(LRU(), [0, 1e-4], [10, 20])
    assert near.query(column(0), k=2).values.item() == 10
    assert near.query(column(0), k=2, exact_match=False).values.item() == pytest.approx(15, abs=0.01)
    assert near.query(column(0), k=2, exact_match=False, delta=0.0).values.item() == 10


def test_only_filled_rows_count():
    memory = KeyValueMemory(50, 1, empty_value=-7.0)
    empty = memory.query(column(0), k=3)
    assert empty.values.item() == -7
    assert empty.rows.tolist() == [[-1, -1, -1]]
    memory.write(column(5), column(2))
    recalled = memory.query(column(0), k=3, kernel="mean")
    assert recalled.values.item() == 2
    assert recalled.squared_distances.tolist() == [[25, float("inf"), float("inf")]]


def test_of_equal_distances_the_lowest_row_comes_first():
    memory = filled(MaxValue(), [1, -1, 1, -1], [0, 1, 2, 3])
    assert memory.query(column(0), k=3).rows.tolist() == [[0, 1, 2]]


@given(
    seed=st.integers(0, 10**6),
    samples=st.sampled_from([1, 7, 40]),
    features=st.sampled_from([1, 3, 12, 33]),
    capacity=st.sampled_from([2, 70, 300]),
    scale=st.sampled_from([1e-3, 1.0, 1e4, 1e25]),
)
def test_all_ways_of_search_find_the_nearest(seed, samples, features, capacity, scale):
    generator = seeded(seed)
    memory = KeyValueMemory(capacity, features, tables=2, policy=MaxValue())
    if scale > 1e20:  # squares are infinite, as distances are; one that is 0 is found all the same
        memory.double()
    n = int(torch.randint(1, 2 * capacity, (1,), generator=generator))
    keys = scale * (3 + torch.randn(n, features, generator=generator)).round(decimals=1)
    memory.write(keys, torch.rand(n, generator=generator), tables=torch.randint(0, 2, (n,), generator=generator))
    x = scale * (3 + torch.randn(samples, features, generator=generator)).round(decimals=1)
    x[0] = keys[0]
    k = min(5, capacity)
    recalled = memory.query(x, k)
    for table in range(2):
        count = int(memory.n_filled[table])
        exact = (x[:, None].double() - memory.keys[table, :count].double()).square().sum(-1).sort(stable=True)
        some = min(k, count)
        torch.testing.assert_close(
            recalled.squared_distances[:, table, :some].double(), exact.values[:, :some], rtol=1e-5, atol=0
        )
        alone = memory.query(x, k, tables=torch.full((samples,), table))
        assert torch.equal(alone.rows, recalled.rows[:, table])
        assert torch.equal(alone.squared_distances, recalled.squared_distances[:, table])


@given(seed=st.integers(0, 10**6), kernel=st.sampled_from(["idw", "mean"]), delta=st.sampled_from([0.0, 1e-3, "auto"]))
def test_the_kernel_estimates_as_the_definition(seed, kernel, delta):
    generator = seeded(seed)
    memory = KeyValueMemory(20, 2, value_dim=3, empty_value=0.5, policy=FIFO(), tables=2)
    for _ in range(int(torch.randint(0, 3, (1,), generator=generator))):
        memory.write(torch.randint(0, 3, (3, 2), generator=generator).float(), torch.rand(3, 3, generator=generator))
    x = torch.randint(0, 3, (4, 2), generator=generator).float()
    for exact_match in (False, True):
        how = {"kernel": kernel, "delta": delta, "exact_match": exact_match}
        recalled = memory.query(x, 5, **how)
        table = torch.arange(2)[None, :, None]
        values = memory.values[table, recalled.rows.clamp(min=0)]
        torch.testing.assert_close(
            recalled.values, estimate(values, recalled.squared_distances, Averaging(empty_value=0.5, **how))
        )


@pytest.mark.parametrize("scale", [1e-22, 1e-12, 1.0, 1e15, 1e21])
def test_estimates_do_not_depend_on_the_scale_of_the_keys(scale):
    memory = filled(FIFO(), [0, scale, 2 * scale], [1, 2, 3])
    answer = memory.query(column(3 * scale), k=3, delta=0.0).values.item()
    assert answer == pytest.approx((1 / 9 + 2 / 4 + 3) / (1 / 9 + 1 / 4 + 1))
    near = memory.query(column(0), k=3, delta=0.0, exact_match=False).values.item()
    assert near == 1, "an infinite weight"


def test_large_values_are_averaged_without_overflow():
    memory = filled(FIFO(), [0, 1], [3e38, 3e38])
    for kernel in ("idw", "mean"):
        assert memory.query(column(0.01), k=2, kernel=kernel).values.item() == pytest.approx(3e38)


def test_the_largest_value_of_a_state_in_a_batch_counts():
    for update, expected in (("ema", 0.5), ("max", 5.0), ("mean", 2.0)):
        memory = filled(FIFO(), [0], [0], capacity=2, value_update=update)
        memory.write(column(0, 0), column(5, 1))
        assert stored(memory) == {0.0: expected}


# What is kept.


def test_lru_keeps_what_is_looked_up():
    for look, gone in ((True, 2.0), (False, 1.0)):
        memory = filled(LRU(), [1, 2, 3], [0, 0, 0])
        memory.query(column(1), k=1, use=look)
        memory.write(column(4), column(0))
        assert set(stored(memory)) == {1.0, 2.0, 3.0, 4.0} - {gone}


def test_lru_uses_rows_in_the_order_of_a_batch_of_look_ups():
    memory = filled(LRU(), [1, 2, 3], [0, 0, 0])
    memory.query(column(3, 1, 2), k=1)
    memory.write(column(4, 5), column(0, 0))
    assert set(stored(memory)) == {2.0, 4.0, 5.0}


@pytest.mark.parametrize(
    ("settings", "lower", "higher"),
    [
        ({}, 5, 8),
        ({"value_update": "mean"}, (5 + 1) / 2, (5 + 1 + 8) / 3),
        ({"value_update": "ema"}, 5 + 0.1 * (1 - 5), 4.6 + 0.1 * (8 - 4.6)),
    ],
)
@pytest.mark.parametrize("policy", [LRU(), FIFO(), RandomReplacement(), KMeans(), Aggregate(0.1)])
def test_a_state_that_comes_again_updates_its_value(policy, settings, lower, higher):
    memory = filled(policy, [1, 2], [5, 0], 3, **settings)
    memory.write(column(1), column(1))
    assert stored(memory)[1.0] == pytest.approx(lower)
    memory.write(column(1), column(8))
    assert stored(memory) == {1.0: pytest.approx(higher), 2.0: 0.0}


def test_equal_samples_of_a_batch_are_one():
    for update, value in (("max", 4.0), ("mean", 2.5)):
        memory = KeyValueMemory(8, 1, value_update=update)
        memory.write(column(1, 0.0, 1, -0.0), column(1, 0, 4, 0))
        assert stored(memory) == {1.0: value, 0.0: 0.0}
        assert memory.counts[0, :2].tolist() == [2, 2]


@pytest.mark.parametrize("at_once", [True, False])
def test_of_values_of_several_numbers_the_first_decides_which_stays(at_once):
    memory = KeyValueMemory(8, 1, 2)
    for value in torch.tensor([[[1.0, 9.0], [4.0, 2.0], [3.0, 5.0]]] if at_once else [[[1.0, 9.0]], [[4.0, 2.0]]]):
        memory.write(torch.ones(len(value), 1), value)
    assert memory.values[0, 0].tolist() == [4, 2]


def test_fifo_forgets_the_first():
    memory = filled(FIFO(), [1, 2, 3], [0, 0, 0])
    memory.query(column(1), k=1)
    memory.write(column(1), column(9))
    memory.write(column(4), column(0))
    assert set(stored(memory)) == {2.0, 3.0, 4.0}
    memory.write(column(5, 6), column(0, 0))
    memory.write(column(7), column(0))
    assert set(stored(memory)) == {5.0, 6.0, 7.0}


def test_fifo_knows_the_order_within_a_batch():
    memory = filled(FIFO(), [1, 2, 3, 4, 5], [0] * 5, 3)  # 3, in the last row, is the oldest
    memory.write(column(6, 7), column(0, 0))  # 6 takes the place of 3, 7 that of 4
    memory.write(column(8, 9), column(0, 0))  # in place of 5, then of 6
    assert set(stored(memory)) == {7.0, 8.0, 9.0}


def test_random_replacement_is_uniform_and_settled_by_its_generator():
    survivors = torch.zeros(4)
    for seed in range(200):
        memory = KeyValueMemory(4, 1, policy=RandomReplacement(), generator=seeded(seed))
        memory.write(column(0, 1, 2, 3), column(0, 0, 0, 0))
        memory.write(column(9), column(0))
        survivors += torch.tensor([float(i) in stored(memory) for i in range(4)])
    assert ((survivors > 120) & (survivors < 180)).all()


def test_max_value_and_max_surprise_overwrite_whatever_comes():
    memory = filled(MaxValue(), [1, 2, 3], [5, 9, 7])
    memory.write(column(4, 4), column(0, 1))
    assert stored(memory) == {4.0: 1.0, 2.0: 9.0, 3.0: 7.0}
    memory = filled(MaxSurprise(k=1), [0, 0.1, 5], [3, 3.5, 9])  # surprises 3, 0.5 and 5.5
    memory.write(column(5), column(9))  # no surprise, and yet
    memory.write(column(7), column(0))
    assert stored(memory) == {0.0: 3.0, 7.0: 0.0, 5.0: 9.0}


def test_aggregation_merges_within_a_radius():
    memory = KeyValueMemory(3, 1, policy=Aggregate(0.5))
    memory.write(column(0, 0.4, 0.8, 0.3), column(1, 2, 3, 0))
    assert list(stored(memory).values()) == [2.0, 3.0]
    memory.write(column(0.9, 0.1), column(4, 1))
    assert list(stored(memory).values()) == [2.0, 4.0]
    memory.write(column(5, 6), column(0, 0))
    assert memory.n_filled.item() == 3


# K-means.


@pytest.mark.parametrize("policy", [KMeans(), KMeans("author")])
def test_k_means_of_single_samples_is_the_running_mean(policy):
    memory = filled(policy, [0, 100], [0, 0])
    for sample, mean, count in ((1, 0.5, 2), (2, 1.0, 3), (3, 1.5, 4)):
        memory.write(column(sample), column(sample))
        assert memory.keys[0, 0].item() == memory.values[0, 0].item() == mean
        assert memory.counts[0].tolist() == [count, 1]


@pytest.mark.parametrize(("weighting", "key"), [("author", 1.0), ("count", 4 / 3)])
def test_samples_that_join_one_cluster(weighting, key):
    memory = filled(DynamicKMeans(weighting), [0, *range(100, 199)], [0] * 100)
    memory.counts.fill_(1)
    memory.write(column(1, 3), column(1, 3))
    assert memory.keys[0, 0].item() == memory.values[0, 0].item() == pytest.approx(key)
    assert memory.counts[0, 0].item() == pytest.approx(3 - 2 / 100)


@pytest.mark.parametrize("weighting", ["author", "count"])
@pytest.mark.parametrize("capacity", [4, 3])
def test_a_cluster_that_is_not_fed_lives_as_many_samples_as_there_are_rows(weighting, capacity):
    memory = filled(DynamicKMeans(weighting), [10 * i for i in range(capacity)], [0] * capacity)
    memory.counts.fill_(1)
    for sample in range(capacity):
        assert (memory.counts > 1e-6).all()
        memory.write(column(0.1 * sample + 0.1), column(0))
    assert (memory.counts[0, 1:] <= 1e-6).all()
    assert memory.counts[0, 0].item() == pytest.approx(capacity)
    changed = memory.write(column(0.2), column(5))
    assert changed.fresh.tolist() == [True]
    assert changed.rows.tolist() == [1]


@given(
    seed=st.integers(0, 10**6),
    policy=st.sampled_from(
        [DynamicKMeans("author"), DynamicKMeans(), DynamicKMeans(horizon=2.5), DynamicKMeans(horizon=None)]
    ),
    n=st.integers(1, 12),
)
def test_the_sum_of_counts_is_kept(seed, policy, n):
    generator = seeded(seed)
    memory = KeyValueMemory(12, 2, policy=policy)
    for _ in range(12):
        before = memory.counts[0].clone()
        keys = torch.randint(0, 4, (n, 2), generator=generator).float()
        equal = (keys[:, None] == memory.keys[0]).all(-1) & (torch.arange(12) < memory.n_filled[0])
        recurring = equal[equal.any(1)].int().argmax(1)
        changed = memory.write(keys, torch.rand(n, generator=generator))
        fresh = changed.rows[changed.fresh]
        total = memory.counts.sum().item()
        if policy.weighting == "count":
            # Those that were merged into a row so starved that another sample takes it go with it.
            came = n + (before.sum() - before[fresh].sum()).item() - torch.isin(recurring, fresh).sum().item()
            expected = came - n if policy.horizon is None else min(came, 12 * policy.horizon)
            assert total == pytest.approx(expected, abs=1e-9)
        elif not len(fresh):
            assert total == pytest.approx(before.sum().item())


def test_only_a_row_that_was_empty_is_free_of_charge():
    memory = filled(DynamicKMeans(), [10, 20, 30, 40], [0] * 4)
    assert memory.counts.tolist() == [[1, 1, 1, 1]]
    for sample in (11, 12, 13, 14, 50):
        memory.write(column(sample), column(0))
    assert memory.counts.sum().item() == pytest.approx(4)
    assert memory.counts[0, 1].item() == pytest.approx(0.75)  # recycled, for the fifth sample
    for sample in range(11, 27):
        remembering = filled(DynamicKMeans(horizon=3.0), [10, 20, 30, 40, *range(11, sample)], [0] * (sample - 7), 4)
        assert remembering.counts.sum().item() == pytest.approx(min(sample - 7, 12))
    published = filled(DynamicKMeans("author"), [10, 20, 30, 40, 11, 12, 13, 14, 50], [0] * 9, 4)
    assert published.counts.sum().item() == pytest.approx(5)


def test_with_a_fixed_loss_new_samples_one_by_one_find_the_oldest_row_starved():
    memory = filled(DynamicKMeans(horizon=None), range(0, 90, 10), [0] * 9, 4)
    assert sorted(stored(memory)) == [50, 60, 70, 80]
    assert memory.counts.sum().item() == pytest.approx((1 - 1 / 4) * 4 / 2)
    memory.write(column(51, 61, 71), column(0, 0, 0))  # two join, since only one row is free
    assert sorted(stored(memory)) == pytest.approx([51, 60 + 1 / 1.25, 70 + 1 / 1.5, 80], abs=1e-4)


def test_a_row_that_starved_long_ago_is_free_although_a_sample_meets_it():
    memory = filled(DynamicKMeans(), [10, 20, 30, 40, *[10] * 12], [0] * 16, 4)
    assert memory.counts.tolist() == [[10, -2, -2, -2]]
    written = memory.write(column(20, 97, 98, 99), column(5, 1, 2, 3))
    assert stored(memory) == {10.0: 0.0, 97.0: 1.0, 98.0: 2.0, 99.0: 3.0}
    assert written.rows.tolist() == [1, 2, 3]
    assert written.fresh.all()


def test_the_published_code_finds_clusters_before_it_fills_rows():
    memory = filled(DynamicKMeans("author"), [0, 10], [0, 0])
    memory.counts[0] = torch.tensor([-0.1, 3.0])
    memory.write(column(50, 1), column(0, 1))  # 1 is nearest to 0, whose row has become 50
    assert stored(memory) == {25.5: 0.5, 10.0: 0.0}
    fresh = filled(DynamicKMeans(), [0, 10], [0, 0])
    fresh.counts[0] = torch.tensor([-0.1, 3.0])
    fresh.write(column(50, 1), column(0, 4))
    assert stored(fresh) == {50.0: 0.0, 7.75: 1.0}


def test_clusters_are_joined_by_key_or_by_hash():
    for assign, moved in (("key", 0), ("hash", 1)):
        memory = KeyValueMemory(2, 1, policy=DynamicKMeans(), hash_dim=1, assign=assign)
        memory.write(column(0, 10), column(0, 0), column(10, 0))
        memory.write(column(1), column(7), column(1))
        assert memory.values[0].flatten().tolist() == [3.5 if row == moved else 0 for row in range(2)]
        assert memory.hashes[0, moved].item() == {0: 5.5, 1: 0.5}[moved]


def test_states_are_recognised_by_their_hashes():
    memory = KeyValueMemory(4, 1, hash_dim=2)
    memory.write(column(1, 1), column(5, 6), torch.eye(2))
    assert memory.n_filled.item() == 2
    memory.write(column(3), column(9), torch.eye(2)[1:])
    assert memory.values[0, :2].flatten().tolist() == [5, 9]


def test_dynamic_k_means_warns_of_large_batches():
    memory = KeyValueMemory(8, 1, policy=DynamicKMeans())
    with pytest.warns(RuntimeWarning, match="more than a quarter of capacity = 8"):
        memory.write(column(1, 2, 3), column(0, 0, 0))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 6e19])
@pytest.mark.parametrize("samples", [1, 20])
def test_keys_of_any_size_are_told_apart(scale, samples):
    memory = KeyValueMemory(8, 16)
    keys = scale * torch.arange(1.0, 4.0)[:, None].expand(3, 16)
    memory.write(keys, torch.tensor([1.0, 2.0, 3.0]))
    recalled = memory.query(keys.repeat(samples, 1), k=2, delta=0.0)
    assert recalled.values.flatten().tolist() == [1.0, 2.0, 3.0] * samples
    assert recalled.squared_distances[:3, 1].tolist() == pytest.approx([16 * scale**2] * 3, rel=1e-5)
    changed = memory.write(keys, torch.full((3,), 9.0))
    assert changed.rows.tolist() == [0, 1, 2]
    assert not changed.fresh.any()


# All policies.


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_table_fills_up_and_stays_full(policy):
    generator = seeded()
    memory = KeyValueMemory(12, 2, 2, policy, tables=2, generator=generator)
    last = torch.zeros(2, dtype=torch.long)
    for n in (1, 12, 3, 0, 30, 1, 12, 25):
        keys, values = torch.rand(n, 2, generator=generator), torch.rand(n, 2, generator=generator)
        before = copy.deepcopy(memory.state_dict())
        changed = memory.write(keys, values, tables=torch.randint(0, 2, (n,), generator=generator))
        assert (memory.n_filled >= last).all()
        last = memory.n_filled.clone()
        still = torch.ones(2, 12, dtype=torch.bool)
        still[changed.tables, changed.rows] = False
        assert len(changed.rows) == int((~still).sum())
        for name in ("keys", "values"):
            assert torch.equal(getattr(memory, name)[still], before[name][still])
    assert (memory.n_filled == 12).all() or isinstance(policy, Aggregate)
    assert memory.keys.isfinite().all()
    assert ((memory.values >= 0) & (memory.values <= 1)).all()


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("way", ["file", "state", "copy", "pickle"])
def test_a_memory_goes_on_exactly_where_it_was(policy, way, tmp_path):
    def lived(memory, generator, lives):
        for _ in range(lives):
            n = int(torch.randint(1, 5, (1,), generator=generator))
            x = torch.randint(0, 5, (n, 3), generator=generator).float()
            memory.query(x, 3)
            memory.write(
                x, torch.rand(n, generator=generator), x[:, :2], tables=torch.randint(0, 2, (n,), generator=generator)
            )

    def fresh(seed):
        return KeyValueMemory(20, 3, policy=policy, tables=2, hash_dim=2, generator=seeded(seed), assign="hash")

    generator, memory = seeded(1), fresh(1)
    lived(memory, generator, 30)
    if way == "file":
        memory.save(tmp_path / "memory")
        again = KeyValueMemory.load(tmp_path / "memory")
        assert again.policy == policy
        assert again.merging == memory.merging
    elif way == "state":
        again = fresh(2)
        again.load_state_dict(memory.state_dict())
    else:
        again = copy.deepcopy(memory) if way == "copy" else pickle.loads(pickle.dumps(memory))
    other = torch.Generator()
    other.set_state(generator.get_state())
    lived(memory, generator, 10)
    lived(again, other, 10)
    for name, tensor in memory.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_its_bytes_are_those_of_its_arrays():
    memory = KeyValueMemory(100, 4, 2, tables=3, hash_dim=5)
    assert memory.nbytes == 3 * (100 * (4 * (4 + 2 + 5) + 8 + 8) + 8 + 8 + 8)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 2)), min_size=1, max_size=30))
def test_a_table_with_room_is_a_dictionary_of_the_best_values(samples):
    memory, best = KeyValueMemory(30, 1), {}
    for key, value in samples:
        memory.write(column(key), column(value))
        best[float(key)] = max(value, best.get(float(key), value))
    assert stored(memory) == best
    batch = KeyValueMemory(30, 1)
    batch.write(column(*(key for key, _ in samples)), column(*(value for _, value in samples)))
    assert stored(batch) == best


# How states are found.

NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0**-149, 3e38, np.inf, np.nan])
KEY = st.tuples(NUMBERS, NUMBERS)
CHANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 1), st.integers(0, 4), st.integers(0, 5), KEY), max_size=30)


@given(CHANGES, st.lists(KEY, min_size=1, max_size=4))
def test_an_index_finds_what_a_scan_finds(changes, asked):
    keys, n_filled = torch.zeros(2, 5, 2), torch.zeros(2, dtype=torch.long)
    index = KeyIndex()
    x = np.nan_to_num(np.array(asked, np.float32), posinf=3.0)
    for ours, table, drawn, count, key in [(False, 0, 0, 0, (0.0, 0.0)), *changes]:
        row = min(drawn, int(n_filled[table]))  # rows are filled one after another
        with index.changing(keys, n_filled, table, np.array([row])) if ours else nullcontext():
            keys[table, row] = torch.tensor(key)
            n_filled[table] = max(row + 1, int(n_filled[table])) if ours else count
        for each in range(2):
            equal = (keys[each].numpy() == x[:, None]).all(-1) & (np.arange(5) < n_filled[each].item())
            expected = np.where(equal.any(1), equal.argmax(1), -1)
            assert index.rows(keys, n_filled, each, x).tolist() == expected.tolist()


@given(
    st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=8), min_size=1, max_size=12), st.sampled_from(POLICIES)
)
def test_what_is_written_does_not_depend_on_how_states_are_found(batches, policy):
    # Keys that an optimiser may move are searched.
    indexed, searched = (DND(8, 1, policy=policy, train_memory=train, generator=seeded()) for train in (False, True))
    for batch in batches:
        for memory in (indexed, searched):
            memory.write(column(*batch), column(*range(len(batch))))
    for name, tensor in indexed.state_dict().items():
        assert torch.equal(tensor, searched.state_dict()[name]), name


def test_a_memory_may_live_in_inference_mode():
    with torch.inference_mode():
        memory = KeyValueMemory(4, 1)
        for _ in range(2):
            memory.write(column(1, 2), column(3, 4))
    assert stored(memory) == {1: 3, 2: 4}


# The differentiable dictionary.


@pytest.mark.parametrize("how", [{}, {"delta": "auto"}, {"kernel": "mean"}])
def test_a_dnd_has_the_right_gradients(how):
    memory = DND(8, 2, 2, tables=2, train_memory=True).double()
    generator = seeded()
    memory.write(
        torch.randn(13, 2, generator=generator), torch.randn(13, 2, generator=generator), tables=torch.arange(13) % 2
    )
    x = torch.randn(4, 2, generator=generator, dtype=torch.double, requires_grad=True)
    chosen = torch.tensor([0, 1, 1, 0])

    def answer(x, keys, values):
        swapped = {"keys": keys, "values": values}
        call = torch.func.functional_call
        every = call(memory, swapped, (x, 5), {**how, "use": False}).values
        return every, call(memory, swapped, (x, 5), {**how, "use": False, "tables": chosen}).values

    assert torch.autograd.gradcheck(answer, (x, memory.keys, memory.values))
    every, selected = answer(x, memory.keys, memory.values)
    assert torch.equal(every[torch.arange(4), chosen], selected)
    plain = KeyValueMemory(8, 2, 2, tables=2).double()
    plain.load_state_dict(memory.state_dict())
    torch.testing.assert_close(plain.query(x, 5, exact_match=False, **how).values, every.detach())


def test_an_optimiser_trains_what_a_dnd_stores(tmp_path):
    memory = DND(30, 2, train_memory=True)
    x = torch.randn(20, 2, generator=seeded())
    memory.write(x, torch.zeros(20))
    target = x.sum(1, keepdim=True)
    optimiser = torch.optim.RMSprop(memory.parameters(), 0.05)
    losses = []
    for _ in range(50):
        loss = (memory.query(x, 3).values - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
    memory.save(tmp_path / "dnd")
    again = DND.load(tmp_path / "dnd")
    assert torch.equal(again.query(x, 3).values, memory.query(x, 3).values)
    assert not list(DND(30, 2).parameters())
    assert again.merging.value_update == "ema"


# Bad input.


def bad(**arguments):
    return lambda: KeyValueMemory(**{"capacity": 10, "key_dim": 2, **arguments})


MEMORY = KeyValueMemory(10, 2, tables=2)
HASHED = KeyValueMemory(10, 2, hash_dim=3)
NAN = torch.tensor([[1.0, float("nan")]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (bad(capacity=1), "capacity = 1: expected at least 2"),
        (bad(key_dim=0), "key_dim = 0"),
        (bad(tables=0), "tables = 0"),
        (bad(value_update="min"), "value_update = 'min': expected one of 'max'"),
        (bad(value_step=0.0), "value_step = 0.0"),
        (bad(assign="hash"), "hash_dim = None: expected the length of hashes"),
        (bad(empty_value=float("nan")), "empty_value = nan"),
        (lambda: DynamicKMeans("mean"), "weighting = 'mean'"),
        (lambda: DynamicKMeans("author", 0.1), "merge_radius = 0.1: expected 0 with"),
        (lambda: KMeans(merge_radius=-1.0), "merge_radius = -1.0"),
        (lambda: DynamicKMeans(horizon=0.5), "horizon = 0.5"),
        (lambda: DynamicKMeans("author", horizon=2.0), "horizon = 2.0: expected 1 with"),
        (lambda: DynamicKMeans("author", horizon=None), "horizon = None: expected 1 with"),
        (lambda: Aggregate(0.0), "radius = 0.0"),
        (lambda: MaxSurprise(k=0), "k = 0"),
        (lambda: MEMORY.query(torch.ones(1, 3)), r"x.shape = \(1, 3\): expected \(batch, 2\)"),
        (lambda: MEMORY.query(NAN), r"x\[0, 1\] = nan: expected a finite number"),
        (lambda: MEMORY.query(torch.ones(1, 2), 0), "k = 0"),
        (lambda: MEMORY.query(torch.ones(1, 2), delta=-1.0), "delta = -1.0"),
        (lambda: MEMORY.query(torch.ones(1, 2), kernel="rbf"), "kernel = 'rbf'"),
        (
            lambda: MEMORY.query(torch.ones(1, 2), tables=torch.tensor([2])),
            "tables from 2 to 2: expected 0",
        ),
        (lambda: MEMORY.write(NAN, torch.ones(1)), r"keys\[0, 1\] = nan"),
        (lambda: MEMORY.write(torch.ones(1, 2), torch.tensor([float("inf")])), r"values\[0, 0\] = inf"),
        (
            lambda: MEMORY.write(torch.full((1, 2), 1e300, dtype=torch.double), torch.ones(1)),
            r"keys\[0, 0\] = 1e\+300",
        ),
        (lambda: MEMORY.write(torch.ones(2, 2), torch.ones(1)), "values has 1 samples: expected 2"),
        (lambda: MEMORY.write(torch.ones(1, 2), torch.ones(1, 2)), r"values.shape = \(1, 2\)"),
        (lambda: MEMORY.write(torch.ones(1, 2), torch.ones(1), torch.ones(1, 2)), "hashes: expected none"),
        (lambda: MEMORY.write(torch.ones(1, 2), torch.ones(1), tables=-1), "tables from -1 to -1"),
        (lambda: MEMORY.write(torch.ones(1, 2), torch.ones(1), tables=torch.ones(1)), "torch.float32: exp"),
        (lambda: MEMORY.write(torch.ones(1, 2), torch.ones(1), tables=torch.ones(1) > 0), "torch.bool: exp"),
        (lambda: HASHED.write(torch.ones(1, 2), torch.ones(1)), "hashes: expected some"),
        (lambda: HASHED.write(torch.ones(1, 2), torch.ones(1), NAN), r"hashes.shape = \(1, 2\)"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not MEMORY.n_filled.any()
    assert not HASHED.n_filled.any()


def test_more_neighbours_than_rows_are_warned_of():
    memory = filled(LRU(), [1, 3], [10, 20])
    with pytest.warns(RuntimeWarning, match="k = 11: only 2 rows"):
        assert memory.query(column(0), kernel="mean").rows.shape == (1, 2)


def test_nothing_asked_and_nothing_written_is_nothing():
    memory = KeyValueMemory(12, 2, tables=3)
    assert memory.query(torch.zeros(0, 2)).values.shape == (0, 3, 1)
    assert len(memory.write(torch.zeros(0, 2), torch.zeros(0)).rows) == 0
    assert not memory.n_filled.any()


# Large tables.


def test_a_search_by_an_index_never_lags_behind_writes():
    pytest.importorskip("faiss")
    generator = seeded()
    memory = KeyValueMemory(3000, 8, search=FaissSearch("Flat", rebuild=0.1, smallest=500), policy=LRU())
    exact = KeyValueMemory(3000, 8, policy=LRU())
    agree = []
    for _ in range(12):
        keys = torch.randn(400, 8, generator=generator)
        for each in (memory, exact):
            each.write(keys, keys[:, 0])
        x = torch.randn(50, 8, generator=generator)
        recalled, right = memory.query(x, 5, use=False), exact.query(x, 5, use=False)
        agree.append((recalled.rows == right.rows).float().mean().item())
        same = recalled.rows == right.rows
        assert torch.equal(recalled.squared_distances[same], right.squared_distances[same])
        assert torch.equal(memory.query(keys[-3:], 1, use=False).values, keys[-3:, :1])
    assert np.mean(agree) > 0.99
    again = copy.deepcopy(memory)
    assert (again.query(x, 5, use=False).rows == right.rows).float().mean() > 0.99


def test_a_search_without_faiss_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install .*\[faiss\]'"):
        FaissSearch()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_filled", torch.tensor([6]), r"state_dict\['n_filled'\] = 6: expected 0 to 5"),
        ("n_filled", torch.tensor([-1]), r"state_dict\['n_filled'\] = -1: expected 0 to 5"),
        ("clock", torch.tensor([-1]), r"state_dict\['clock'\] = -1: expected at least 0"),
        ("keys", torch.full((1, 5, 2), torch.nan), r"state_dict\['keys'\].*NaN"),
    ],
)
def test_a_state_that_no_memory_can_have_is_refused(name, value, message):
    memory = KeyValueMemory(5, key_dim=2)
    memory.write(torch.ones(1, 2), torch.ones(1))
    state = {**memory.state_dict(), name: value}
    with pytest.raises(ValueError, match=message):
        memory.load_state_dict(state)
    assert memory.query(torch.ones(1, 2), k=1).values.item() == 1
    with pytest.raises(ValueError, match=message.replace(r"\['", r"\['memory.")):
        torch.nn.ModuleDict({"memory": memory}).load_state_dict({f"memory.{key}": item for key, item in state.items()})


@pytest.mark.parametrize("kind", [KeyValueMemory, DND])
def test_states_with_one_key_answer_with_their_mean(kind):
    keys, values = column(1, 1, 1, 4), column(10, 20, 60, 7)
    memory = kind(8, 1, hash_dim=1)
    memory.write(keys, values, column(1, 2, 3, 4))
    for kernel, delta in (("idw", 1e-3), ("idw", "auto"), ("mean", 0.0)):
        answer = memory.query(column(1, 4), k=4, kernel=kernel, delta=delta, exact_match=True)
        assert answer.values.flatten().tolist() == [30, 7]
    assert memory.query(column(1), k=2, exact_match=True).values.item() == 15  # of as many as are asked for
    assert memory.query(column(1), k=1, exact_match=True).values.item() == 10
    wide = kind(8, 1, 2, hash_dim=1)
    wide.write(keys, values.expand(-1, 2) * torch.tensor([1.0, -1.0]), column(1, 2, 3, 4))
    assert wide.query(column(1), k=4, exact_match=True).values.tolist() == [[30, -30]]


def test_a_state_that_a_policy_repeats_answers_with_its_first_row():
    """As in the published code, where such a policy does not look whether a state is stored."""
    memory = filled(MaxValue(), [1, 1, 3], [10, 20, 5], capacity=4)
    assert memory.query(column(1), k=3).values.item() == 10


def test_surprise_is_measured_by_what_the_memory_answers():
    memory = KeyValueMemory(4, 1, policy=MaxSurprise(k=3), hash_dim=1)
    memory.write(column(1), column(10), column(1))
    memory.write(column(1), column(20), column(2))  # a surprise of 10
    memory.write(column(1), column(21), column(3))  # of 21 - 15
    assert memory.coef[0, :3].tolist() == [10, 10, 6]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_deleted_rows_are_forgotten(policy):
    rng = np.random.default_rng(0)
    memory = KeyValueMemory(12, 2, policy=policy, tables=2, generator=seeded())
    x = torch.from_numpy(rng.normal(size=(40, 2)).astype(np.float32))
    tables = torch.arange(40) % 2
    written = 0
    for count in (3, 5, 30, 40):  # rows are deleted from tables that are partly filled, full, and full again
        memory.write(x[written:count], x[written:count, 0], tables=tables[written:count])
        written = count
        n_filled = memory.n_filled.tolist()
        before = [
            {tuple(key): (value, n) for key, value, n in zip(*rows, strict=True)}
            for rows in zip(
                *(part.tolist() for part in (memory.keys, memory.values[..., 0], memory.counts)), strict=True
            )
        ]
        deleted = torch.tensor([0, n_filled[1] - 1, 0])
        gone = [tuple(memory.keys[table, row].tolist()) for table, row in zip((0, 1, 1), deleted, strict=True)]
        old = memory.keys.clone()
        changed = memory.delete(deleted, tables=torch.tensor([0, 1, 1]))
        assert memory.n_filled.tolist() == [n_filled[0] - 1, n_filled[1] - len({0, n_filled[1] - 1})]
        for table in range(2):
            rows = memory.n_filled[table]
            left = [tuple(key) for key in memory.keys[table, :rows].tolist()]
            assert not set(left) & {key for key, of in zip(gone, (0, 1, 1), strict=True) if of == table}
            for row, key in enumerate(left):
                assert before[table][key] == (memory.values[table, row, 0].item(), memory.counts[table, row].item())
            for key in memory.keys[table, :rows]:
                answer = memory.query(key[None], k=1, tables=torch.tensor([table]), use=False)
                assert answer.squared_distances.item() == 0
            assert not memory.keys[table, rows:].any()
        is_changed = torch.zeros(memory.keys.shape[:2], dtype=torch.bool)
        is_changed[changed.tables, changed.rows] = True
        assert torch.equal((memory.keys != old).any(2), is_changed)
        assert changed.fresh.all()
    state = copy.deepcopy(memory)
    for each in (memory, state):
        each.write(x + 1, x[:, 0], tables=tables)
    assert torch.equal(memory.keys, state.keys)
    if not isinstance(policy, KMeans):
        assert (memory.n_filled == 12).all()


def test_a_deleted_state_is_new_when_it_is_written_again():
    memory = filled(LRU(), [1, 2, 3], [10, 20, 30], capacity=5)
    memory.delete(torch.tensor([0, 1]))
    assert memory.n_filled.tolist() == [1]
    assert memory.keys[0, 0].item() == 3
    memory.write(column(1, 3), column(5, 40))
    assert memory.query(column(1, 3, 0), k=1).values.flatten().tolist() == [5, 40, 5]
    memory.delete(torch.tensor([0, 1]))
    assert memory.query(column(1), k=1).rows.item() == -1
    assert memory.delete(torch.zeros(0, dtype=torch.long)).rows.tolist() == []


def test_rows_of_a_trained_memory_can_be_deleted():
    memory = DND(4, 1, train_memory=True)
    memory.write(column(1, 2, 3), column(10, 20, 30))
    memory.delete(torch.tensor([1]))
    assert memory.keys.requires_grad
    assert memory.query(column(3.0), k=1, delta=0.0).values.item() == 30
    assert memory.n_filled.tolist() == [2]


@pytest.mark.parametrize(
    ("rows", "tables", "message"),
    [
        (torch.tensor([3]), 0, "rows = 3: expected 0 to 2"),
        (torch.tensor([-1]), 0, "rows = -1: expected 0 to 2"),
        (torch.tensor([0.0]), 0, "rows of shape .*float32: expected integers"),
        (torch.tensor(0), 0, r"rows of shape \(\)"),
        (torch.tensor([0, 1]), torch.tensor([0]), "tables of shape"),
        (torch.tensor([0]), 1, "tables from 1 to 1"),
        (torch.tensor([True]), 0, "rows of shape .*bool"),
    ],
)
def test_a_row_that_is_not_in_use_is_not_deleted(rows, tables, message):
    memory = filled(LRU(), [1, 2, 3], [10, 20, 30], capacity=5)
    with pytest.raises(ValueError, match=message):
        memory.delete(rows, tables=tables)
    assert memory.n_filled.tolist() == [3]


def test_an_index_follows_keys_that_an_optimiser_moves_and_belongs_to_one_memory():
    pytest.importorskip("faiss")
    search = FaissSearch("Flat", smallest=100)
    first, second = (KeyValueMemory(2000, 4, search=search) for _ in range(2))
    keys, other, x = (torch.randn(count, 4, generator=seeded(seed)) for seed, count in enumerate((1500, 400, 20)))
    first.write(keys, torch.zeros(1500))
    second.write(other, torch.arange(400.0))
    first.query(x, 3)
    rows = torch.cdist(x, other).topk(3, largest=False).indices
    assert torch.equal(second.query(x, 3).rows, rows)
    second.keys.copy_(second.keys.flip(1))
    rows = torch.cdist(x, second.keys[0, :400]).topk(3, largest=False).indices
    assert torch.equal(second.query(x, 3).rows, rows)
    second.write(x[:1], torch.ones(1))
    assert second.query(x[:1], 1).values.item() == 1


def test_a_frozen_memory_knows_its_states_in_another_precision():
    memory = DND(5, 1, train_memory=True).requires_grad_(False)
    keys, values = torch.tensor([[0.1], [0.3]]), torch.ones(2)
    memory.write(keys, values)
    memory.write(keys, values)
    memory.double()  # which moves the numbers of parameters, and torch counts no change
    memory.write(keys.double(), values)
    assert memory.n_filled.tolist() == [2]
