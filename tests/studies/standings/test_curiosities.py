"""Curiosities beside one another: real trials at size smoke."""

import numpy as np
import pytest

import engram

CURIOSITIES = '''
import torch
from torch import nn
from engram.agents.bonuses.from_shapes import rnd


def twin(obs_shape, num_envs, *, generator):
    return rnd(obs_shape, num_envs, generator=generator)


class Habit(nn.Module):
    """Pays more and more, whatever it sees."""

    def __init__(self, obs_shape, num_envs, *, generator):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def bonus(self, next_obs, done):
        self.calls += 1
        return self.calls.expand(done.shape)

    def update(self, obs, valid=None, envs=None):
        return 0.0


class Raises(Habit):
    def update(self, obs, valid=None, envs=None):
        raise RuntimeError("nothing to learn")


class Infinite(Habit):
    def bonus(self, next_obs, done):
        return super().bonus(next_obs, done) / 0
'''
OPTIONS = {"kind": "curiosities", "preset": "smoke", "jobs": 1, "progress": False}
AGAIN, EXPLORING = "a known room again", "exploring"


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    path = tmp_path_factory.mktemp("curiosities") / "my_curiosities.py"
    path.write_text(CURIOSITIES)
    names = [f"{path}:{name}" for name in ("twin", "Habit", "Raises", "Infinite")]
    runs = tmp_path_factory.mktemp("runs")
    return engram.compare(*names, against=["rnd", "hash-counts"], tasks=[AGAIN], seeds=2, runs=runs, **OPTIONS)


@pytest.mark.soak
def test_the_same_curiosity_under_another_name_ties_with_itself(standing):
    row = standing.entries[AGAIN]
    assert row["twin"].values == row["rnd"].values
    assert row["twin"].step_seconds > 0
    assert standing.relation(AGAIN, "twin", "rnd") == "as good"


@pytest.mark.soak
def test_a_bad_curiosity_ends_last(standing):
    row = standing.entries[AGAIN]
    assert set(row) == {"twin", "Habit", "Raises", "Infinite", "rnd", "hash-counts", "none"}
    assert set(row["none"].values.values()) == {1.0}
    assert row["rnd"].mean < 1 < row["Habit"].mean
    assert standing.rank(AGAIN, "Habit") == len(standing.scores[AGAIN]) == 5


@pytest.mark.soak
def test_one_that_raises_or_is_not_finite_has_that_said_in_its_cell(standing):
    row = standing.entries[AGAIN]
    assert row["Raises"].note == "raised RuntimeError: nothing to learn"
    assert "bonus of Infinite at (time=0, env=0) is inf" in row["Infinite"].note
    assert any("Raises breaks a promise" in promise for promise in standing.broken)
    assert any("Infinite breaks a promise" in promise for promise in standing.broken)
    assert not any(f"{name} breaks" in promise for name in ("twin", "Habit") for promise in standing.broken)


def test_a_class_of_bonus_and_update_is_a_curiosity(tmp_path):
    (tmp_path / "of_mine.py").write_text(CURIOSITIES)
    options = {name: value for name, value in OPTIONS.items() if name != "kind"}
    standing = engram.compare(
        f"{tmp_path / 'of_mine.py'}:Habit", against=["hash-counts"], tasks=["again"], seeds=1, runs=tmp_path, **options
    )
    assert standing.kind == "curiosities"


@pytest.mark.soak
def test_the_kind_stands_by_its_registered_parts_in_both_tasks(tmp_path):
    options = {name: value for name, value in OPTIONS.items() if name != "kind"}
    standing = engram.compare("curiosities", seeds=1, runs=tmp_path, **options)
    assert [task.name for task in standing.tasks] == [AGAIN, EXPLORING]
    for row in standing.entries.values():
        assert set(row) == {"rnd", "fragmented-rnd", "hash-counts", "none"}
        assert all(np.isfinite(entry.mean) and not entry.note for entry in row.values())
