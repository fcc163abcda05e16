"""Comparisons at size smoke: real trials of real rules."""

from __future__ import annotations

import ast
import importlib
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

import engram
from engram import references, registry
from engram.lab import Task, run
from engram.lab.output import record_files
from engram.lab.output.record_files import write_record
from engram.lab.output.report import script
from engram.studies.experiments import continual_learners
from engram.studies.standings import Entry, Standing, arms, comparison, standing_of_records
from engram.studies.standings.arms import Arms
from engram.studies.standings.candidate import check_honest
from engram.studies.standings.kinds import KINDS, tasks_of
from engram.tasks.data import DataError

record_comparisons = importlib.import_module("engram.studies.standings.record_comparisons")
OPTIONS = {"preset": "smoke", "jobs": 1, "progress": False}
RULES = '''
import torch
from engram.rules import Backprop, FeedbackAlignment

class Twin(Backprop):
    """Backpropagation under another name."""

class Bad(Backprop):
    """Goes up the gradient."""
    def update(self, model, x, target, state):
        update = super().update(model, x, target, state)
        return update._replace(grads={name: -grad for name, grad in update.grads.items()})

class Raises(Backprop):
    def update(self, model, x, target, state):
        raise RuntimeError("no luck today")

class Diverges(Backprop):
    def update(self, model, x, target, state):
        update = super().update(model, x, target, state)
        return update._replace(grads={name: grad * torch.nan for name, grad in update.grads.items()})
'''


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "rules_of_mine.py"
    path.write_text(RULES)
    return path


@pytest.fixture(scope="module")
def standing(file, tmp_path_factory):
    names = [f"{file}:{name}" for name in ("Twin", "Bad", "Raises", "Diverges")]
    runs = tmp_path_factory.mktemp("runs")
    return engram.compare(*names, against=["backprop", "fa"], tasks=["narrow"], seeds=2, runs=runs, **OPTIONS)


def test_backpropagation_under_another_name_ties_with_itself(standing):
    (task,) = standing.tasks
    row = standing.entries[task.name]
    assert row["Twin"].values == row["backprop"].values
    assert standing.rank(task.name, "Twin") == standing.rank(task.name, "backprop")
    assert standing.relation(task.name, "Twin", "backprop") == "as good"


def test_a_bad_rule_ends_last(standing):
    (task,) = standing.tasks
    ranked = {method: standing.rank(task.name, method) for method in standing.scores[task.name]}
    assert max(ranked, key=ranked.__getitem__) == "Bad"


def test_a_part_that_fails_says_so_and_the_others_go_on(standing):
    (task,) = standing.tasks
    row = standing.entries[task.name]
    assert "RuntimeError: no luck today" in row["Raises"].note
    assert "FloatingPointError" in row["Diverges"].note or "not finite" in row["Diverges"].note
    assert {"Twin", "Bad", "backprop", "fa"} <= set(standing.scores[task.name])
    assert any("Raises breaks a promise" in promise for promise in standing.broken)


def test_tables_and_report(standing, tmp_path):
    frame = standing.frame
    assert frame["candidate"].to_list()[:2] == ["backprop", "Twin"] or frame["candidate"].to_list()[:2] == [
        "Twin",
        "backprop",
    ]
    assert frame.filter(frame["own"])["step_milliseconds"].drop_nans().min() > 0
    assert standing.text("csv").startswith("task,candidate,own,rank")
    assert standing.text("markdown").count("\n") == 2 + len(standing.candidates)
    assert r"\begin{tabular}" in standing.text("latex")
    page = standing.report(tmp_path / "page.html").read_text()
    for said in (*standing.candidates, *standing.lines, "no luck today"):
        assert said.replace("'", "&#39;") in page
    assert 'class="plot"' in page
    assert page.endswith(f"<script>{script()}</script></body></html>"), "nothing draws the figures"
    with pytest.raises(ValueError, match="form = 'word'"):
        standing.text("word")


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:eta of")  # of rules that are trained for a few steps
def test_a_plasticity_rule_takes_part_in_every_task_of_its_kind(tmp_path):
    path = tmp_path / "plasticity_of_mine.py"
    path.write_text("from engram.plasticity import Hebb\n\n\nclass Twin(Hebb):\n    pass\n")
    standing = engram.compare(f"{path}:Twin", against=["hebb"], seeds=1, runs=tmp_path, **OPTIONS)
    assert len(standing.tasks) == 6
    for task in standing.tasks:
        row = standing.entries[task.name]
        # A kernel computes Hebb(), but not a subclass, which may have changed anything.
        assert row["Twin"].values == pytest.approx(row["hebb"].values, rel=1e-6)
        assert row["Twin"].values
        assert not row["Twin"].note
        assert set(row) == {"Twin", "hebb", task.trivial}
    assert {task.trivial for task in standing.tasks} == {"non-plastic", "nearest-pixels"}


def test_a_task_without_its_data_is_left_out_and_said(tmp_path, monkeypatch):
    def absent(name, **part):
        raise DataError(f"{name} is neither here nor to be had")

    monkeypatch.setattr(continual_learners, "load", absent)
    continual_learners.images_of.cache_clear()
    options = {"against": [], "seeds": 1, "runs": tmp_path, **OPTIONS}
    standing = engram.compare("frozen", tasks=["split"], **options)
    assert [task.name for task in standing.tasks] == ["split digits"]
    assert standing.left_out == {"split CIFAR-10": "cifar10-jpeg is neither here nor to be had"}
    assert standing.broken == ()
    with pytest.raises(ValueError, match="the data of these tasks are missing: permuted MNIST is left out"):
        engram.compare("frozen", tasks=["permuted MNIST"], **options)


def test_a_kind_stands_by_its_registered_parts(tmp_path):
    standing = engram.compare(
        "learning-rules", against=["fa", "dfa"], tasks=["wide"], seeds=1, runs=tmp_path, **OPTIONS
    )
    assert standing.own == ()
    assert set(standing.candidates) == {"fa", "dfa", "last-layer"}
    assert standing.lines


def test_what_is_recorded_is_taken_with_the_same_revision_and_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(record_files, "record_folders", lambda experiment: [tmp_path])
    task, options = "digits, narrow network", {"against": ["backprop", "fa"], "tasks": ["narrow"], "seeds": 1}
    options |= {"runs": tmp_path, **OPTIONS}
    fresh = engram.compare("last-layer", **options).entries[task]
    assert not fresh["fa"].is_recorded
    ((experiment, found),) = [pair for pair in tasks_of("learning_rules") if pair[1].name == task]
    compared = Arms.of(experiment, found, [], ["backprop", "fa"], "smoke")
    results = run(compared.experiment, preset="smoke", arms=["backprop", "fa"], seeds=1, runs=tmp_path, jobs=1)
    path = write_record(compared.experiment, results, tmp_path, "compare")
    recorded = engram.compare("last-layer", **options).entries[task]
    assert recorded["fa"] == replace(fresh["fa"], is_recorded=True, step_seconds=recorded["fa"].step_seconds)
    assert recorded["fa"].curve[0] == [0, 1]
    assert not engram.compare("last-layer", fresh=True, **options).entries[task]["fa"].is_recorded
    assert compared.recorded("smoke", 2) == {}, "the record has one seed"
    assert compared.recorded("laptop", 1) == {}, "the record is of another size"
    content = json.loads(path.read_text())
    content["arms"]["fa"]["config"]["epochs"] += 1
    path.write_text(json.dumps(content))
    assert list(compared.recorded("smoke", 1)) == ["backprop"]
    path.write_text(json.dumps({**content, "revision": 2}))
    assert compared.recorded("smoke", 1) == {}


@pytest.fixture
def small_memories(tmp_path, monkeypatch):
    """The comparisons of memories in trials of milliseconds, which have no record."""
    for module in (record_files, record_comparisons):
        monkeypatch.setattr(module, "record_folders", lambda experiment: [tmp_path])
    monkeypatch.setattr(record_comparisons, "SEEDS", 2)
    experiment = registry.get("experiments", "associative-memories")
    laptop = replace(experiment.presets["laptop"], changes={"cues": 4, "points": 3})
    presets = {"smoke": experiment.presets["smoke"], "laptop": laptop}
    return replace(experiment, presets=presets, claims=(), answer="")


def test_a_record_of_comparisons_has_what_the_own_record_lacks(small_memories, tmp_path, monkeypatch):
    options = {"jobs": 1, "runs": tmp_path}
    extended, names = record_comparisons.with_candidates(small_memories)
    assert {name.partition("-")[0] for name in names} == {"random", "families", "noise"}
    path, added = record_comparisons.record_comparisons(small_memories, **options)
    assert (path, added) == (tmp_path / "associative-memories-compare.json", names)
    rows = {task.name: Arms.of(small_memories, task, [], None, "laptop") for task in small_memories.tasks}
    assert all(len(arms.recorded("laptop", 2)) == len(arms.against) for arms in rows.values())
    whole = json.loads(path.read_text())
    assert {tuple(arm["seeds"]) for arm in whole["arms"].values()} == {(0, 1)}
    gone, changed, *others = names
    stored = {**whole["arms"], changed: {**whole["arms"][changed], "config": {}}}
    del stored[gone]
    path.write_text(json.dumps({**whole, "arms": stored}))
    shutil.rmtree(tmp_path / "compare")
    assert record_comparisons.record_comparisons(small_memories, **options) == (path, [gone, changed])
    again = json.loads(path.read_text())
    assert {name: arm["results"] for name, arm in again["arms"].items()}.keys() == set(names)
    assert [again["arms"][name]["config"] for name in names] == [whole["arms"][name]["config"] for name in names]
    assert record_comparisons.record_comparisons(small_memories, **options) == (path, [])

    monkeypatch.setattr(record_comparisons, "run", None)
    own = run(extended, seeds=2, arms=others, runs=tmp_path / "compare", jobs=1, progress=False)
    write_record(extended, own, tmp_path)
    assert record_comparisons.record_comparisons(small_memories, **options) == (path, [])
    assert list(json.loads(path.read_text())["arms"]) == [gone, changed]
    assert all(len(arms.recorded("laptop", 2)) == len(arms.against) for arms in rows.values())
    write_record(extended, run(extended, seeds=2, arms=names, runs=tmp_path / "compare", jobs=1), tmp_path)
    assert record_comparisons.record_comparisons(small_memories, **options) == (None, [])
    assert [each.name for each in tmp_path.glob("*-compare.*")] == []


def test_an_interrupted_run_records_nothing(small_memories, tmp_path, monkeypatch):
    def stopped(*given, **more):
        results = run(*given, **more, progress=False)
        first, *others = results.trials
        return replace(results, trials=[replace(first, state="interrupted"), *others])

    monkeypatch.setattr(record_comparisons, "run", stopped)
    with pytest.raises(ValueError, match="associative-memories gives no record of preset laptop; not finished: "):
        record_comparisons.record_comparisons(small_memories, jobs=1, runs=tmp_path)
    assert not list(tmp_path.glob("*-compare.*"))
    with pytest.raises(ValueError, match="experiment = 'associative-memories': expected one with tasks"):
        record_comparisons.record_comparisons(replace(small_memories, tasks=()))
    monkeypatch.setattr(record_comparisons, "record_folders", lambda experiment: [tmp_path / "none"])
    with pytest.raises(ValueError, match="no folder `results` above its module"):
        record_comparisons.record_comparisons(small_memories)


def test_arms_of_the_experiment_s_own_record_are_not_run_again(monkeypatch):
    monkeypatch.setattr(record_comparisons, "run", None)
    (experiment, task), *_ = tasks_of("learning_rules")
    assert record_comparisons.record_comparisons(experiment) == (None, [])
    arms_here = Arms.of(experiment, task, [], None, "laptop")
    shipped = arms_here.recorded("laptop", 5)
    assert set(shipped) == set(arms_here.against) >= {"fa", "usf", "backprop"}
    assert {tuple(entry.values) for entry in shipped.values()} == {(0, 1, 2, 3, 4)}
    assert arms_here.recorded("laptop", 41) == {}


@pytest.mark.parametrize("name", sorted({experiment.name for kind in KINDS for experiment, _ in tasks_of(kind)}))
def test_an_arm_of_a_candidate_is_called_the_same_on_one_task_as_on_all(name):
    experiment = registry.get("experiments", name)
    of_task = [Arms.of(experiment, task, [], None, "laptop") for task in experiment.tasks]
    extended, names = record_comparisons.with_candidates(experiment)
    assert names == list(dict.fromkeys(arm for arms in of_task for arm in arms.names.values()))
    compared = extended.arms("laptop")
    assert all(compared[arm] == arms.compared[arm] for arms in of_task for arm in arms.names.values())


def test_seeds_are_added_only_for_what_is_open(file, tmp_path):
    options = {"against": ["backprop", "fa"], "tasks": ["narrow"], "runs": tmp_path, **OPTIONS}
    (experiment,) = [each for each, task in tasks_of("learning_rules") if task.name == "digits, narrow network"]
    looks = experiment.presets["smoke"].looks
    standing = engram.compare(f"{file}:Twin", until_decided=True, **options)
    row = standing.entries["digits, narrow network"]
    assert standing.confidence["digits, narrow network"] > 0.95  # as the errors of all looks add up to 5 %
    assert len(row["Twin"].values) == max(len(entry.values) for entry in row.values()) in looks
    for name in ("backprop", "fa", "last-layer"):
        is_open = standing.relation("digits, narrow network", "Twin", name) == "open"
        assert len(row[name].values) == looks[-1] if is_open else len(row[name].values) in looks
    assert len(row["backprop"].values) == looks[0]  # a tie with itself is decided at the first look


def test_after_an_interruption_the_same_command_goes_on(tmp_path, monkeypatch):
    options = {"against": ["fa"], "tasks": ["narrow"], "seeds": 1, "runs": tmp_path, **OPTIONS}
    real, calls = arms.run, []

    def interrupted(*arguments, **more):
        results = real(*arguments, **more)
        calls.append(more["arms"])
        if len(calls) == 1:
            raise KeyboardInterrupt
        return results

    monkeypatch.setattr(arms, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engram.compare("dfa", **options)
    before = {path: path.read_bytes() for path in tmp_path.rglob("result.json")}
    assert before
    row = engram.compare("dfa", **options).entries["digits, narrow network"]
    assert all(entry.values for entry in row.values())
    after = {path: path.read_bytes() for path in tmp_path.rglob("result.json")}
    assert {path: after[path] for path in before} == before  # what was finished is not run again
    assert len(after) > len(before)


CURVES = [(kind, experiment.name, task.name) for kind in KINDS for experiment, task in tasks_of(kind)]
FIRST = [next(row for row in CURVES if row[1] == name) for name in dict.fromkeys(name for _, name, _ in CURVES)]


@pytest.mark.filterwarnings("default")  # a probe of so few images need not converge
@pytest.mark.parametrize(
    ("kind", "task"),
    [
        pytest.param(kind, task, id=task, marks=[pytest.mark.soak] * ((kind, name, task) not in FIRST))
        for kind, name, task in CURVES
    ],
)
def test_every_task_has_a_learning_curve(kind, task, tmp_path):
    ((experiment, found),) = [pair for pair in tasks_of(kind) if pair[1].name == task]
    names = [*(found.baselines or registry.names(kind))]
    compared = Arms.of(experiment, found, [], names[:1], "smoke")
    try:
        found.check_requirements()
    except DataError as error:
        pytest.skip(str(error))
    candidate = next(iter(compared.names))
    results = run(
        compared.experiment,
        preset="smoke",
        arms=[compared.names[candidate]],
        seeds=1,
        runs=tmp_path,
        jobs=1,
        progress=False,
    )
    steps, values = compared.entry(results, candidate).curve
    assert len(steps) == len(values)
    assert steps or results.metrics.is_empty()  # an agent's first episode may be longer than so short a run


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_records(kind):
    standing = standing_of_records(kind)
    assert standing.tasks
    assert {task.name for task in standing.tasks} <= {task.name for _, task in tasks_of(kind)}
    assert all(entry.is_recorded for row in standing.entries.values() for entry in row.values())


WITHOUT_A_TIME = pytest.param("student of a network", marks=pytest.mark.soak)  # as no record has it


@pytest.mark.parametrize("task", ["digits, narrow network", WITHOUT_A_TIME])
def test_a_method_that_takes_ten_times_as_long_is_stopped_and_goes_on_later(tmp_path, monkeypatch, task):
    path, is_slow = tmp_path / "slow.py", tmp_path / "is_slow"
    is_slow.touch()  # a file, since a worker that was started before would not see a variable of the environment
    path.write_text(
        "import time\nfrom pathlib import Path\nfrom engram.rules import Backprop\nclass Slow(Backprop):\n"
        f"    def update(self, *batch):\n        time.sleep(0.02 * Path({str(is_slow)!r}).exists())\n"
        "        return super().update(*batch)\n"
    )
    options = {"against": ["backprop"], "tasks": [task], "seeds": 1, "runs": tmp_path, **OPTIONS}
    with monkeypatch.context() as patch:
        patch.setattr(arms, "STARTING", 0.5)
        patch.setattr(arms, "SLOW", 0.0)  # so that the limit is half a second on every machine
        patch.setattr(arms, "ROUNDS", 1)
        entry = engram.compare(f"{path}:Slow", **options).entries[task]["Slow"]
    assert re.match("stopped after .* over ten times as long as the others", entry.note)
    assert entry.values == {}
    is_slow.unlink()
    later = engram.compare(f"{path}:Slow", **options).entries[task]
    assert later["Slow"].values == later["backprop"].values


@pytest.mark.soak
def test_after_an_edit_of_a_method_it_alone_is_run_again(tmp_path, monkeypatch):
    no_limit = "arms.Arms._limit = lambda *_: None"  # which would take a worker process
    monkeypatch.setattr(arms.Arms, "_limit", lambda *_: None)
    path = tmp_path / "mine.py"
    path.write_text("from engram.rules import Backprop\nclass Mine(Backprop): pass\n")
    options = {"against": ["fa"], "tasks": ["narrow"], "seeds": 1, "runs": tmp_path / "runs", **OPTIONS}
    first = engram.compare(f"{path}:Mine", **options).scores["digits, narrow network"]

    def trials():
        return {path.parent.name: path.read_bytes() for path in (tmp_path / "runs").rglob("result.json")}

    before = trials()  # with the seconds that each took
    engram.compare(f"{path}:Mine", **options)
    assert trials() == before
    path.write_text("from engram.rules import LastLayerOnly\nclass Mine(LastLayerOnly): pass\n")
    program = f"import engram; from engram.studies.standings import arms; {no_limit}\n"
    program += f"print(engram.compare({f'{path}:Mine'!r}, **{options!r}).scores)"
    program = program.replace(f"PosixPath({str(tmp_path / 'runs')!r})", repr(str(tmp_path / "runs")))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    scores = ast.literal_eval(done.stdout)["digits, narrow network"]
    assert scores["fa"] == first["fa"]
    assert scores["Mine"] < first["Mine"] - 0.1
    after = trials()
    assert {name for name, content in after.items() if before.get(name) != content} == set(after) - set(before)
    assert all(name.startswith("Mine-0-") for name in set(after) - set(before))


def entry(*values, **more):
    return Entry(dict(enumerate(values)), **more)


def task_of(name, measure, **options):
    return Task("learning_rules", name, "{}".format, lambda candidate: {}, measure, **options)


def standing_of(row, **task):
    return Standing("learning_rules", ("mine",), (task_of("one", "error", **task),), {"one": row})


@pytest.mark.parametrize(
    ("other", "relation"),
    [
        ((0.5, 0.52, 0.51), "better"),
        ((0.1, 0.12, 0.11), "worse"),
        ((0.3, 0.301, 0.3), "as good"),
        ((0.1, 0.5, 0.3), "open"),
    ],
)
def test_a_relation_is_decided_by_the_interval_of_the_differences(other, relation):
    standing = standing_of({"mine": entry(0.3, 0.301, 0.3), "other": entry(*other)}, maximize=False)
    assert standing.relation("one", "mine", "other") == relation


def test_less_is_better_where_the_measure_says_so():
    row = {"mine": entry(0.3), "other": entry(0.2)}
    assert standing_of(row, maximize=False).rank("one", "mine") == 2
    assert standing_of(row).rank("one", "mine") == 1
    assert math.isnan(standing_of({**row, "mine": Entry(note="raised")}).rank("one", "mine"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["chess"]}, "tasks = 'chess': expected part of one of CIFAR-10"),
        ({"against": ["fq"]}, "against = 'fq': expected a registered name"),
        ({"seeds": 0}, "seeds = 0"),
        ({"tasks": []}, r"tasks = \[\]: expected at least one"),
        ({"tasks": "narrow"}, "tasks = 'narrow': expected a list of names"),  # not of its letters
        ({"tasks": ["narrow", ""]}, r"tasks = \['narrow', ''\]: expected a list of names, none of them empty"),
        ({"against": "backprop"}, "against = 'backprop': expected a list of names"),
        ({"against": ["engram.rules:Backprp"]}, "engram.rules has no 'Backprp'; did you mean 'Backprop'"),
        ({"against": ["torch.optim:SGD"]}, "expected a method of learning_rules, and not of optimizers"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        engram.compare("fa", **options)


def test_methods_of_two_kinds_are_not_compared():
    with pytest.raises(ValueError, match="expected methods of one kind"):
        engram.compare("fa", "ewc")


def test_two_methods_of_one_name_are_refused(tmp_path):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rules.py").write_text("from engram.rules import Backprop\nclass Mine(Backprop): pass\n")
    (tmp_path / "rules.py").write_text("from engram.rules import Backprop\nfa = Backprop\n")
    both = [f"{tmp_path / folder / 'rules.py'}:Mine" for folder in ("first", "second")]
    for names in (both, [f"{tmp_path / 'rules.py'}:fa"]):
        with pytest.raises(ValueError, match=r"another method is called '(Mine|fa)' too; rename one"):
            engram.compare(*names, progress=False)
    with pytest.raises(ValueError, match="another method is called 'Mine' too"):
        engram.compare("fa", against=both, progress=False)
    (tmp_path / "optimizers.py").write_text("import torch\nclass SGD(torch.optim.SGD): pass\n")
    with pytest.raises(ValueError, match="another method is called 'SGD' too"):
        engram.compare(f"{tmp_path / 'optimizers.py'}:SGD", progress=False)


def test_a_method_may_import_engram_itself(tmp_path):
    (tmp_path / "plain.py").write_text("import engram\nfrom engram import rules\nclass Own(rules.Backprop): pass\n")
    own = references.load(f"{tmp_path / 'plain.py'}:Own")
    check_honest(sys.modules[own.__module__])


@pytest.mark.parametrize(("others", "options"), [(("fa",), {}), ((), {"until_decided": True})])
def test_a_kind_stands_alone(others, options):
    with pytest.raises(ValueError, match="expected a method first, and not the kind 'learning-rules'"):
        engram.compare("learning-rules", *others, **options)


def test_more_seeds_are_not_run_for_a_method_that_failed():
    row = {"mine": Entry(note="does not fit"), "other": entry(1.0, 2.0)}
    assert not comparison._is_open(standing_of(row), "mine", "other")
    assert comparison._is_open(standing_of(row | {"mine": entry(0.5, 2.5)}), "mine", "other")


def test_what_ships_of_another_revision_is_no_result():
    experiment, task = tasks_of("associative_memories")[0]
    assert comparison.shipped_row(experiment, task)
    assert comparison.shipped_row(replace(experiment, revision=experiment.revision + 1), task) == {}
