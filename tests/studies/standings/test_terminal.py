"""What ``engram compare`` says in the terminal, from records where it can be."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from engram import cli
from engram.studies.experiments import continual_learners
from engram.studies.standings import Entry, Standing, standing_of_records
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


def test_what_the_seeds_leave_open_is_undecided_and_a_ranking_of_two_on_one_task_decides_nothing(said):
    text = said("optimizers", "--tasks", "policy", "--against", "momentum").out
    assert "It is undecided whether it is better than the baseline on a policy that keeps a pole up (" in text
    assert " of SGD, 5 seeds); more seeds may decide it." in text
    assert "fail" not in text
    assert (
        "The ranking decides nothing: over 1 task only mean ranks at least 1.96 apart differ significantly, and those "
        "of 2 methods are never more than 1 apart." in text
    )


def test_who_is_not_ranked_is_said():
    whole = standing_of_records("agents")
    entries = {task: dict(row) for task, row in whole.entries.items()}
    for task in whole.tasks[1:]:
        entries[task.name].pop(whole.by_rank[-1])
    first, *_ = replace(whole, entries=entries).sentences
    ranked, unranked = first.split("; ")
    assert re.fullmatch(r"[\w-]+ is number 1 of 6 with its mean rank of [\d.]+ over 8 tasks", ranked)
    assert unranked == "1 of 7 methods are not ranked, since they have no result there."


def test_a_ranking_that_decides_nothing_says_so_and_any_other_says_who_may_be_as_good():
    undecided = standing_of_records("replacement_policies")
    nothing = "The ranking decides nothing: over 3 tasks only mean ranks at least 6.94 apart differ significantly"
    assert any(sentence.startswith(nothing) for sentence in undecided.sentences)
    assert nothing in undecided.paragraph
    tasks = tuple(replace(undecided.tasks[0], name=f"task {number}") for number in range(8))
    row = {name: Entry({0: value, 1: value}) for name, value in zip("abcd", (4.0, 3.0, 2.0, 1.0), strict=True)}
    decided = " ".join(Standing("agents", (), tasks, {task.name: row for task in tasks}).sentences)
    assert "Mean ranks less than 1.7 apart do not differ significantly, so 1 of the others may be as good." in decided
    assert "decides nothing" not in decided


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
