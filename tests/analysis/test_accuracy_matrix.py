"""Figures of merit of continual learning: by hand, and against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.analysis import AccuracyMatrix

R = [[0.9, 0.2, 0.1], [0.7, 0.8, 0.3], [0.8, 0.5, 0.7]]


def test_two_tasks_by_hand():  # O16
    matrix = AccuracyMatrix([[0.9, 0.0], [0.5, 0.8]])
    assert matrix.average_accuracy() == pytest.approx(0.65)
    assert matrix.backward_transfer() == pytest.approx(-0.4)
    assert matrix.forgetting() == pytest.approx(0.4)


def test_three_tasks_by_hand():
    matrix = AccuracyMatrix(R, baseline=[0.1, 0.1, 0.2], joint=[1.0, 0.9, 0.8])
    assert matrix.average_accuracy() == pytest.approx(2.0 / 3)
    assert matrix.average_accuracy("incremental") == pytest.approx((0.9 + 1.5 / 2 + 2.0 / 3) / 3)
    assert matrix.average_accuracy("triangle") == pytest.approx((0.9 + 1.5 + 2.0) / 6)
    assert matrix.backward_transfer() == pytest.approx((-0.1 - 0.3) / 2)
    assert matrix.backward_transfer("all") == pytest.approx((-0.2 - 0.1 - 0.3) / 3)
    assert matrix.forward_transfer() == pytest.approx((0.1 + 0.1) / 2)
    assert matrix.forgetting() == pytest.approx((0.1 + 0.3) / 2)
    assert matrix.forgetting("first") == pytest.approx(0.2)
    assert matrix.learning_accuracy() == pytest.approx(0.8)
    assert matrix.intransigence() == pytest.approx((0.1 + 0.1 + 0.1) / 3)


@given(st.integers(2, 6), st.integers(0, 10**6))
def test_identities(tasks, seed):
    matrix = AccuracyMatrix(np.random.default_rng(seed).random((tasks, tasks)))
    whole = matrix.average_accuracy() - matrix.backward_transfer() * (tasks - 1) / tasks
    assert matrix.learning_accuracy() == pytest.approx(whole)
    assert matrix.forgetting() >= matrix.forgetting("first") - 1e-12


def test_what_was_not_measured_is_needed_or_not():
    lower = np.where(np.tri(3, dtype=bool), R, np.nan)
    matrix = AccuracyMatrix(lower)
    assert matrix.forgetting() == pytest.approx(0.2)
    for figure in (matrix.forward_transfer, matrix.intransigence):
        with pytest.raises(ValueError, match="None"):
            figure()
    with pytest.raises(ValueError, match="NaN"):
        AccuracyMatrix(lower, baseline=[0.1, 0.1, 0.1]).forward_transfer()
    with pytest.raises(ValueError, match="NaN"):
        AccuracyMatrix([[np.nan, np.nan], [0.5, 0.8]]).forgetting()


def test_one_task_has_neither_transfer_nor_forgetting():
    for figure in ("backward_transfer", "forgetting"):
        with pytest.raises(ValueError, match="at least 2"):
            getattr(AccuracyMatrix([[0.5]]), figure)()


def test_the_matrix_is_a_copy():
    values = torch.tensor([[1.0, 0.0], [0.5, 1.0]], dtype=torch.float64)
    accuracies = AccuracyMatrix(values)
    values.zero_()
    assert accuracies.forgetting() == 0.5
