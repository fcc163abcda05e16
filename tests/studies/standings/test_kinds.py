"""Kinds of parts that are no subclasses: of each a bad one ends last, and another name changes nothing."""

from __future__ import annotations

import pytest

import engram
from engram.studies.standings.candidate import find_candidate
from engram.studies.standings.kinds import kind_of

OPTIONS = {"preset": "smoke", "jobs": 1, "progress": False, "seeds": 2}
POLICIES = '''
import numpy as np
from engram.memory.episodic.policies import LRU, replaced

class Twin:
    """The least recently used row makes room, under another name."""
    ages = True
    def write(self, table, batch, merging):
        return LRU().write(table, batch, merging)

class Stuck:
    """Nothing makes room but the first row."""
    ages = False
    def write(self, table, batch, merging):
        rank = np.where(np.arange(len(table.keys)) < table.n_filled, np.arange(len(table.keys)), table.coef)
        return replaced(table, batch, merging, rank)[0]
'''
AGENTS = '''
from engram.agents import MFEC
from engram.agents.from_spaces import mfec

def twin(observation_space, action_space, *, rng):
    return mfec(observation_space, action_space, rng=rng)

class Idle:
    """Turns where it is."""
    def __init__(self, observation_space, action_space, *, rng):
        if not hasattr(action_space, "n"):
            raise TypeError(f"action_space = {action_space}: expected numbered actions")
    def act(self, observation):
        return 0
    def observe(self, reward, terminated, truncated, observation):
        pass
    def learn(self):
        pass
'''


@pytest.fixture
def policies(tmp_path):
    (tmp_path / "policies_of_mine.py").write_text(POLICIES)
    return tmp_path / "policies_of_mine.py"


@pytest.fixture
def agents(tmp_path):
    (tmp_path / "agents_of_mine.py").write_text(AGENTS)
    return tmp_path / "agents_of_mine.py"


@pytest.mark.soak
def test_policies_of_a_file_stand_where_they_belong(policies, tmp_path):
    names = [f"{policies}:{name}" for name in ("Twin", "Stuck")]
    standing = engram.compare(*names, against=["lru", "dkm"], tasks=["points"], runs=tmp_path, **OPTIONS)
    (task,) = standing.tasks
    row = standing.entries[task.name]
    assert row["Twin"].values == row["lru"].values
    assert standing.relation(task.name, "Twin", "lru") == "as good"
    ranked = {method: standing.rank(task.name, method) for method in standing.scores[task.name]}
    assert set(ranked) == {"Twin", "Stuck", "lru", "dkm", "random"}
    assert max(ranked, key=ranked.__getitem__) == "Stuck"
    assert standing.broken == ()
    assert all(entry.step_seconds > 0 for entry in row.values())


@pytest.mark.parametrize("task", ["CartPole", pytest.param("four rooms", marks=pytest.mark.soak)])
def test_a_policy_of_a_file_keeps_what_agents_remember(task, policies, tmp_path):
    changed = OPTIONS | {"seeds": 1}
    standing = engram.compare(f"{policies}:Twin", against=["lru"], tasks=[task], runs=tmp_path, **changed)
    row = standing.entries[standing.tasks[0].name]
    assert row["Twin"].values == row["lru"].values
    assert row["Twin"].costs["bytes"] > 0


def test_agents_of_a_file_stand_where_they_belong(agents, tmp_path):
    names = [f"{agents}:{name}" for name in ("twin", "Idle")]
    options = {"kind": "agents", "against": ["mfec"], "tasks": ["a pole to be kept up"], "runs": tmp_path}
    standing = engram.compare(*names, **options, **OPTIONS)
    (task,) = standing.tasks
    row = standing.entries[task.name]
    assert row["twin"].values == row["mfec"].values
    ranked = {method: standing.rank(task.name, method) for method in standing.scores[task.name]}
    assert set(ranked) == {"twin", "Idle", "mfec", "random"}
    assert max(ranked, key=ranked.__getitem__) == "Idle"
    assert row["Idle"].costs["regret"] == pytest.approx(500 - row["Idle"].mean)
    assert standing.broken == ()
    assert all(entry.step_seconds > 0 for entry in row.values())


def test_an_agent_that_does_not_fit_says_so(agents, tmp_path):
    agents.write_text(
        "class Picky:\n    def __init__(self, observation_space, action_space, *, rng):\n"
        "        if action_space.n != 2: raise ValueError('two')\n    def act(self, observation): return 1\n"
        "    def observe(self, *outcome): pass\n    def learn(self): pass\n"
    )
    options = {"against": ["random"], "tasks": ["dead ends"], "runs": tmp_path}
    standing = engram.compare(f"{agents}:Picky", **options, **OPTIONS)
    assert standing.entries["a maze of dead ends and one goal"]["Picky"].note == "does not fit"


def test_nothing_is_run_where_the_candidate_does_not_fit(agents, tmp_path, monkeypatch):
    agents.write_text(
        "class Picky:\n    def __init__(self, observation_space, action_space, *, rng):\n"
        "        if action_space.n != 2: raise ValueError('two')\n    def act(self, observation): return 1\n"
        "    def observe(self, *outcome): pass\n    def learn(self): pass\n"
    )
    run = []
    monkeypatch.setattr("engram.studies.standings.arms.run", lambda *arguments, **_: run.append(arguments))
    options = {"tasks": ["dead ends"], "runs": tmp_path, "fresh": True}
    standing = engram.compare(f"{agents}:Picky", **options, **OPTIONS)
    assert {name: entry.note for name, entry in standing.entries["a maze of dead ends and one goal"].items()} == {
        "Picky": "does not fit"
    }
    assert run == []
    assert "does not fit" in standing.report(tmp_path / "compare.html").read_text()


def test_a_class_is_of_the_kind_whose_names_it_has(policies, agents):
    assert find_candidate(f"{policies}:Twin").kind == "replacement_policies"
    assert find_candidate(f"{agents}:Idle").kind == "agents"
    with pytest.raises(TypeError, match=r"expected a class or an object of .*Policy.*OnlineAgent"):
        kind_of(int)
