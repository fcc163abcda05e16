"""What the memories of the experiment are asked, and how what they hold is counted."""

from itertools import product
from math import log2

import numpy as np
import pytest
import torch

from engram.studies.experiments.associative_memories import (
    APART,
    KIN,
    MEMORIES,
    Config,
    draw,
    entropy,
    lost,
    reached,
    trial,
)


def test_bits_of_a_family_are_those_of_its_distribution():
    total = 0.0
    for bits in product((0, 1), repeat=KIN):
        chance = sum(np.prod([APART if bit != parent else 1 - APART for bit in bits]) / 2 for parent in (0, 1))
        total -= chance * log2(chance)
    assert entropy("families") == pytest.approx(total / KIN)
    assert 1 / KIN < entropy("families") < entropy("random") == 1


def test_bits_that_errors_cost():
    assert lost(0.0) == 0
    assert lost(0.5) == pytest.approx(1)
    assert lost(0.11) == pytest.approx(0.5, abs=1e-3)


def test_patterns_of_a_family_are_alike_and_others_are_not():
    patterns = draw("families", 23, 4000, torch.Generator().manual_seed(0))
    assert patterns.shape == (23, 4000)
    overlaps = patterns @ patterns.T / 4000
    family = torch.arange(23) // KIN
    same = (family[:, None] == family) & ~torch.eye(23, dtype=torch.bool)
    assert overlaps[same].mean() == pytest.approx((1 - 2 * APART) ** 2, abs=0.02)
    assert overlaps[family[:, None] != family].abs().max() < 0.08
    assert draw("random", 7, 9, torch.Generator()).unique().tolist() == [-1, 1]


def test_where_errors_exceed_what_may_be():
    places = np.array([0.1, 0.2, 0.4])
    assert reached(places, np.array([0.0, 0.005, 0.015]), 0.01) == pytest.approx(0.3)
    assert reached(places, np.array([0.02, 0.0, 0.0]), 0.01) == 0
    assert reached(places, np.array([0.0, 0.0, 0.01]), 0.01) == pytest.approx(0.4)
    assert reached(places, np.array([0.0, 0.02, 0.0]), 0.01) == pytest.approx(0.15)


def test_a_memory_without_synapses_has_no_bits_even_where_it_is_right(performed):
    result, _ = performed(trial, Config(memory=MEMORIES["cue"], noise=0.0, units=20, points=2, cues=5))
    assert result == {"bits_a_synapse": 0.0, "load": 2.0, "weights": 0.0}
