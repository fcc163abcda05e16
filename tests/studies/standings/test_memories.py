"""Associative memories beside one another: real trials at size smoke."""

import pytest

import engram
from engram import cli

MEMORIES = '''
import torch
from engram.memory import AssociativeMemory, HebbHopfield, HopfieldMemory


class Own(AssociativeMemory):
    """A Hopfield memory of one's own, all units at once."""

    stored = ("weight",)

    def __init__(self, units, *, generator=None):
        super().__init__(units, generator=generator)
        self.weight = torch.zeros(units, units)

    def store(self, patterns):
        self.weight = (self.weight + patterns.T @ patterns / self.units).fill_diagonal_(0)

    def recall(self, cues):
        for _ in range(20):
            field = cues @ self.weight
            cues = torch.where(field == 0, cues, field.sign())
        return cues

    @property
    def n_weights(self):
        return self.units * (self.units - 1) // 2


class Bad(Own):
    """Answers with the opposite."""

    def recall(self, cues):
        return -super().recall(cues)


class Raises(Own):
    def recall(self, cues):
        raise RuntimeError("nothing comes to mind")


def twin(units, *, generator=None):
    """Hebb's rule under another name."""
    return HopfieldMemory(units, HebbHopfield, generator=generator)
'''


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    path = tmp_path_factory.mktemp("memories") / "my_memories.py"
    path.write_text(MEMORIES)
    return engram.compare(
        *(f"{path}:{name}" for name in ("Own", "Bad", "Raises", "twin")),
        kind="associative_memories",
        against=["hopfield", "dense-exponential"],
        seeds=2,
        runs=tmp_path_factory.mktemp("runs"),
        preset="smoke",
        jobs=1,
        progress=False,
    )


def test_the_same_memory_under_another_name_ties_with_itself(standing):
    for task, row in standing.entries.items():
        assert row["twin"].values == row["hopfield"].values
        assert standing.rank(task, "twin") == standing.rank(task, "hopfield")
        assert row["twin"].step_seconds > 0


def test_a_bad_memory_ends_last(standing):
    for task in standing.entries:
        ranked = {method: standing.rank(task, method) for method in standing.scores[task]}
        assert ranked["Bad"] == max(ranked.values()) > ranked["Own"]
    assert any("Bad breaks a promise" in promise for promise in standing.broken)
    assert all("nothing comes to mind" in row["Raises"].note for row in standing.entries.values())


def test_what_a_memory_of_ones_own_holds_is_about_what_hebbs_rule_holds(standing):
    for row in standing.entries.values():
        assert row["Own"].mean == pytest.approx(row["hopfield"].mean, rel=0.35)
        assert row["Own"].mean > row["cue"].mean
    assert not any("Own breaks" in promise or "twin breaks" in promise for promise in standing.broken)


def test_the_kind_stands_by_its_registered_parts(tmp_path):
    options = {"seeds": 1, "runs": tmp_path, "preset": "smoke", "jobs": 1, "progress": False}
    standing = engram.compare("associative-memories", tasks=["families"], **options)
    assert {*engram.registry.names("associative_memories"), "cue"} == set(standing.candidates)
    assert standing.entries["families of patterns"]["cue"].mean == 0


def test_a_comparison_that_has_nothing_to_run_makes_its_folder(tmp_path, capsys):
    runs = tmp_path / "new" / "runs"
    assert cli.run(["compare", "associative-memories", "--tasks", "noise", "--seeds", "1", "--runs", str(runs)]) == 0
    assert (runs / "compare.html").is_file()
    assert "few patterns" in capsys.readouterr().out
