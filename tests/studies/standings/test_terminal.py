"""What ``engram compare`` says in the terminal, from records where it can be."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from engram import cli
from engram.studies.experiments import continual_learners
from engram.studies.standings import Entry, standing_of_records
from engram.tasks.data import DataError

FORGETFUL = '''
"""Keeps a table like ``torch.cat`` would."""
import torch
from engram.memory import AssociativeMemory


class Forgetful(AssociativeMemory):
    def __init__(self, units, *, generator=None):
        super().__init__(units, generator=generator)
        self.table = torch.zeros(0, units)

    def store(self, patterns):
        self.table = torch.cat((self.table, patterns))

    def recall(self, cues):
        return self.table[(cues @ self.table.T).argmax(1)]

    @property
    def n_weights(self):
        return self.table.numel()
'''


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "160")

    def compare(*words):
        assert cli.run(["compare", *words, "--runs", str(tmp_path), "--jobs", "1"]) == 0
        return capsys.readouterr()

    return compare


def test_what_the_seeds_leave_open_is_undecided_and_two_on_one_task_do_not_differ_in_rank(said):
    text = said("optimizers", "--tasks", "policy", "--against", "momentum").out
    assert re.search(r"^a policy that keeps a pole up: \S+ \S+, SGD \S+ \(undecided, n = 5\)\.$", text, re.M)
    assert "fail" not in text
    assert "Mean ranks over a policy that keeps a pole up differ significantly from 1.96 apart: none of 2 do." in text


def test_a_ranking_says_whether_any_mean_ranks_differ():
    undecided = standing_of_records("replacement_policies")
    assert " apart: none of 9 do" in undecided.lines[0]
    tasks = tuple(replace(undecided.tasks[0], name=f"task {number}") for number in range(8))
    row = {name: Entry({0: value, 1: value}) for name, value in zip("abcd", (4.0, 3.0, 2.0, 1.0), strict=True)}
    decided = replace(undecided, tasks=tasks, entries={task.name: row for task in tasks}).lines[0]
    assert re.search(r" differ significantly from 1\.66 apart: some of 4 do \(Friedman: p = ", decided)


def test_missing_data_stand_under_their_own_heading_with_what_to_do(said, tmp_path, monkeypatch):
    def absent(name, **part):
        raise DataError(f"{name} is absent\nFetch it where there is a connection and put it in place by hand")

    monkeypatch.setattr(continual_learners, "load", absent)
    continual_learners.images_of.cache_clear()
    text = said("continual-methods", "--tasks", "split", "--against", "frozen").out
    assert "Left out for lack of data: split CIFAR-10. cifar10-jpeg is absent\nFetch it where there is a " in text
    assert "Once the files are in place, the same command adds these tasks and reuses all finished trials." in text
    assert "Contract" not in text
    page = (tmp_path / "compare.html").read_text()
    assert "Left out for lack of data: split CIFAR-10." in page
    assert "Contract" not in page


def test_a_broken_promise_is_said_in_plain_text(said, tmp_path):
    (tmp_path / "forgetful.py").write_text(FORGETFUL)
    place = f"{tmp_path / 'forgetful.py'}:Forgetful"
    text = said(place, "--tasks", "noise", "--against", "hopfield", "--preset", "smoke", "--seeds", "2")
    promise = "Forgetful breaks a promise: A new memory that loads the state_dict from a file answers bit for bit as"
    assert f"Contract: {promise}" in text.out
    assert promise in text.err
    assert "`" not in text.out + text.err
    assert "Keeps a table like torch.cat would" in (tmp_path / "compare.html").read_text()
