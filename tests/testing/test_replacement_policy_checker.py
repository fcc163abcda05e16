from __future__ import annotations

import numpy as np
import pytest

from engram.memory.episodic.policies import LRU, replaced
from engram.testing import check_replacement_policy


class Flawed:
    """The least recently used row makes room; ``flaw`` says what is wrong with it."""

    ages = True

    def __init__(self, flaw=""):
        self.flaw, self.calls = flaw, 0

    def write(self, table, batch, merging):
        rank = table.coef
        if self.flaw == "random":
            rank = np.where(rank < 0, rank, np.random.random(len(rank)))  # noqa: NPY002 - below 0 are empty rows
        if self.flaw == "hidden":
            self.calls += 1
            rank = np.roll(rank, self.calls) if table.n_filled == len(rank) else rank
        if self.flaw == "in place":
            table.coef[0] += 1
        change, _ = replaced(table, batch, merging, rank)
        now = table.clock + 1
        change = change._replace(coef=np.full(change.rows.size, float(now)), clock=now)
        match self.flaw:
            case "twice":
                return change._replace(rows=np.zeros_like(change.rows))
            case "beyond":
                return change._replace(rows=change.rows + 1)
            case "gap" if table.n_filled == 0:
                return change._replace(rows=change.rows[::-1] + len(table.keys) - change.rows.size)
            case "nan":
                return change._replace(keys=change.keys * np.nan)
            case "invents":
                return change._replace(keys=change.keys + 100)
            case "clock":
                return change._replace(clock=0)
            case "shape":
                return change._replace(values=change.values[:, 0])
            case "forgetful" if table.n_filled == 1:
                return change._replace(rows=np.arange(change.rows.size))
        return change


class Unsaid(Flawed):
    ages = None


@pytest.mark.parametrize("make", [LRU, Flawed])
def test_a_sound_policy_keeps_the_contract(make):
    check_replacement_policy(make)


@pytest.mark.parametrize(
    ("flaw", "promise", "finding"),
    [
        ("twice", "returns a Change", "expected each once, from 0 to 11"),
        ("beyond", "returns a Change", "expected (each once|empty ones in their order)"),
        ("gap", "returns a Change", "expected empty ones in their order, from 0 on"),
        ("nan", "returns a Change", "expected finite numbers"),
        ("clock", "returns a Change", "clock = 0: expected an integer, at least"),
        ("shape", "returns a Change", r"values of shape \(\d+,\): expected"),
        ("in place", "changes neither the table nor the batch", "changed in place"),
        ("hidden", "changes neither the table nor the batch", "the policy is"),
        ("random", "changes neither the table nor the batch", "hidden state"),
        ("forgetful", "are all kept until every row is used", "rows are in use"),
        ("invents", "are all kept until every row is used", "are there"),
    ],
)
def test_a_flawed_policy_is_refused(flaw, promise, finding):
    with pytest.raises(AssertionError, match=f"(?s)Flawed breaks a promise: .*{promise}.*Found: .*{finding}"):
        check_replacement_policy(Flawed, flaw=flaw)


def test_a_policy_says_whether_it_ages():
    with pytest.raises(AssertionError, match="ages = None: expected True or False"):
        check_replacement_policy(Unsaid)
