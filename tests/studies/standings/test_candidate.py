from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from engram import registry
from engram.lab.trial.experiment import find_experiment
from engram.rules import FeedbackAlignment
from engram.studies.experiments.agents import rates_of
from engram.studies.standings.candidate import find_candidate, place_of

RULE = """
from engram.rules import FeedbackAlignment
class Mine(FeedbackAlignment): pass
mine = Mine()
"""


def test_a_part_is_found_by_name_by_place_and_as_it_is(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(RULE)
    by_name = find_candidate("fa")
    assert (by_name.kind, by_name.name, by_name.make) == ("learning_rules", "fa", FeedbackAlignment)
    by_place = find_candidate(f"{path}:Mine")
    assert (by_place.kind, by_place.name, by_place.place) == ("learning_rules", "Mine", f"{path}:Mine")
    assert find_candidate(FeedbackAlignment).place == "engram.rules.feedback_alignment:FeedbackAlignment"
    assert registry.get("learning_rules", f"{path}:Mine") is by_place.make
    assert place_of(sys.modules[by_place.make.__module__].mine).endswith(":mine")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("fq", "candidate = 'fq': expected a registered name .known: "),
        ("plastic", "candidate = 'plastic': expected its kind, agents or associative_memories, or its place, as"),
        ("nowhere.py:Mine", r"nowhere.py:Mine'.*expected 'module:Name' or 'file.py:Name'"),
        ("folder/file:Mine", r"folder/file:Mine': invalid format.*expected 'module:Name' or 'file.py:Name'"),
        ("engram.rules:FeedbackAlignmnt", "engram.rules has no 'FeedbackAlignmnt'; did you mean 'FeedbackAlignment'"),
        ("ewc", None),
    ],
)
def test_what_is_no_part_is_named(part, message):
    if message is None:
        assert find_candidate(part).kind == "continual_methods"
    else:
        with pytest.raises(ValueError, match=message):
            find_candidate(part)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("open('data.csv')", r"cannot be loaded: FileNotFoundError: .*mine.py, line 1\)"),
        ("import nosuch", r"mine.py:Mine' cannot be loaded: ModuleNotFoundError: No module.*mine.py, line 1\)"),
        ("x = 1\nx / 0", r"cannot be loaded: ZeroDivisionError: division by zero \(.*mine.py, line 2\)"),
        ("def f(:", r"cannot be loaded: SyntaxError: invalid syntax \(mine.py, line 1\)$"),
    ],
)
def test_an_error_in_the_file_of_a_part_says_where(tmp_path, source, message):
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(ValueError, match=message):
        registry.get("learning_rules", f"{tmp_path}/mine.py:Mine")


def test_a_registered_part_that_cannot_be_loaded_is_named(monkeypatch):
    entry = EntryPoint("broken", "nosuch.module:Part", "engram.agents")
    monkeypatch.setattr(registry, "entries", lambda kind: (entry,))
    with pytest.raises(ModuleNotFoundError) as caught:
        registry.get("agents", "broken")
    assert caught.value.__notes__ == ["agent 'broken' is registered as 'nosuch.module:Part'"]


def test_an_object_without_a_name_is_refused():
    with pytest.raises(ValueError, match="expected one with a name in its module"):
        find_candidate(FeedbackAlignment())


@pytest.mark.parametrize(
    "line",
    [
        "from sklearn.datasets import load_digits",
        "from engram.studies.experiments.learning_rules import networks",
        "import engram.tasks.data",
        "def update():\n    from sklearn import datasets",
        "import beside",
    ],
)
def test_a_method_that_imports_what_it_is_judged_by_is_refused(tmp_path, line):
    (tmp_path / "beside.py").write_text("from sklearn.datasets import load_digits\n")
    path = tmp_path / "cheat.py"
    path.write_text(f"{RULE}{line}\n")
    with pytest.raises(ValueError, match="which contains the test data"):
        find_candidate(f"{path}:Mine")
    sys.modules.pop("beside", None)


def test_what_a_file_does_as_a_script_is_its_own_affair(tmp_path):
    path = tmp_path / "honest.py"
    path.write_text(f'{RULE}if __name__ == "__main__":\n    from sklearn.datasets import load_digits\n')
    assert find_candidate(f"{path}:Mine").name == "Mine"


def test_a_part_may_be_in_a_package_whose_init_is_empty(tmp_path, monkeypatch):
    package = tmp_path / "package_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rules.py").write_text(f"import package_of_mine\n{RULE}")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_candidate("package_of_mine.rules:Mine").name == "Mine"


@pytest.mark.parametrize("first", [b"\xef\xbb\xbf", b"# -*- coding: latin-1 -*-\n# caf\xe9\n"], ids=["mark", "coding"])
def test_a_file_in_any_encoding_that_python_reads_is_taken(tmp_path, first):
    path = tmp_path / f"encoded_{len(first)}.py"
    path.write_bytes(first + b"from engram.rules import Backprop\nclass Mine(Backprop):\n    pass\n")
    assert find_candidate(f"{path}:Mine").name == "Mine"


def test_a_file_that_was_edited_since_it_was_loaded_is_loaded_again(tmp_path):
    path = tmp_path / "edited.py"
    path.write_text(f"{RULE}SIZE = 1\n")
    first = find_candidate(f"{path}:Mine")
    assert find_candidate(f"{path}:Mine").make is first.make
    path.write_text(f"{RULE}SIZE = 2\n")  # as long as before, and within the same second
    second = find_candidate(f"{path}:Mine")
    assert second.make is not first.make
    assert sys.modules[second.make.__module__].SIZE == 2
    path.write_text("def f(:")
    for _ in range(2):
        with pytest.raises(ValueError, match="cannot be loaded: SyntaxError"):
            find_candidate(f"{path}:Mine")
    path.write_text(RULE)
    assert find_candidate(f"{path}:Mine").make is not second.make


def test_what_is_remembered_of_a_part_is_forgotten_once_its_file_is_edited(tmp_path):
    path = tmp_path / "rates.py"
    path.write_text("class Mine:\n    def __init__(self, observation_space, action_space, *, rng): ...\n")
    find_candidate(f"{path}:Mine", "agents")
    assert rates_of(f"{path}:Mine") == ()
    path.write_text("class Mine:\n    def __init__(self, observation_space, *, learning_rate=1.0): ...\n")
    find_candidate(f"{path}:Mine", "agents")
    assert 1.0 in rates_of(f"{path}:Mine")


def test_an_experiment_in_an_edited_file_is_loaded_again(tmp_path):
    path = tmp_path / "edited_experiment.py"
    path.write_text("from engram.studies.experiments.pattern_completion import experiment as mine\n")
    assert find_experiment(f"{path}:mine").name == "pattern-completion"
    path.write_text("from engram.studies.experiments.image_completion import experiment as mine\n")
    assert find_experiment(f"{path}:mine").name == "image-completion"


@pytest.mark.parametrize(
    "start", ["engram.compare('fa')", "engram.lab.run('maze')", "engram.lab.sweep('maze', seed=1)"]
)
def test_a_script_that_starts_itself_whenever_it_is_imported_is_refused(tmp_path, start):
    path = tmp_path / "script.py"
    path.write_text(f"import engram, engram.lab\n{RULE}{start}\n")
    name = start.partition("(")[0]
    with pytest.raises(
        ValueError, match=rf"script.py calls {name} while it is imported.*__main__.*script.py, line 6\)"
    ):
        find_candidate(f"{path}:Mine")
    path.write_text(f"import engram\nfrom engram import lab\n{RULE}if __name__ == '__main__':\n    {start}\n")
    assert find_candidate(f"{path}:Mine").name == "Mine"


def test_what_a_notebook_defines_is_refused(monkeypatch):
    main = sys.modules["__main__"]
    mine = type("InNotebook", (FeedbackAlignment,), {"__module__": "__main__"})
    monkeypatch.setattr(main, "InNotebook", mine, raising=False)
    monkeypatch.delattr(main, "__file__", raising=False)
    for given in (mine, "__main__:InNotebook"):
        with pytest.raises(ValueError, match=r"save it to a file, and give its place, as 'file.py:InNotebook'"):
            find_candidate(given)
