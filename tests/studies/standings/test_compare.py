"""Comparisons at size smoke: real trials of real rules."""

from __future__ import annotations

import ast
import json
import math
import re
import subprocess
import sys
from dataclasses import replace

import pytest

import engram
from engram import references, registry
from engram.lab import Task, run
from engram.lab.output.report import script
from engram.studies.experiments import continual_learners
from engram.studies.standings import Entry, Standing, arms, comparison, record, recorded, standing_of_records
from engram.studies.standings.arms import Arms
from engram.studies.standings.candidate import check_honest
from engram.studies.standings.kinds import KINDS, tasks_of
from engram.tasks.data import DataError

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


def test_what_ships_is_taken_if_it_is_of_the_same_revision(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "TABLE", tmp_path / "standings.json")
    recorded.all_records.cache_clear()
    task, options = "digits, narrow network", {"against": ["backprop", "fa"], "tasks": ["narrow"], "seeds": 1}
    options |= {"runs": tmp_path, **OPTIONS}
    fresh = engram.compare("last-layer", **options).entries[task]
    assert not fresh["fa"].is_recorded
    ((experiment, found),) = [pair for pair in tasks_of("learning_rules") if pair[1].name == task]
    compared = Arms.of(experiment, found, [], ["backprop", "fa"], "smoke")
    results = run(compared.experiment, preset="smoke", arms=["backprop", "fa"], seeds=1, runs=tmp_path, jobs=1)
    recorded.ship(results, 1, compared.to_ship(fresh))
    shipped = engram.compare("last-layer", **options).entries[task]
    assert shipped["fa"].is_recorded
    assert shipped["fa"].values == pytest.approx(fresh["fa"].values, rel=1e-5)
    assert shipped["fa"].curve[0] == [0, 1]
    assert not engram.compare("last-layer", fresh=True, **options).entries[task]["fa"].is_recorded
    recorded.all_records()["learning-rules"]["revision"] = 2
    assert not engram.compare("last-layer", **options).entries[task]["fa"].is_recorded
    recorded.ship(results, 1, {})
    assert recorded.all_records()["learning-rules"]["arms"] == {}, "what was of another revision is gone"
    recorded.all_records.cache_clear()


def test_tasks_are_recorded_one_after_another(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "TABLE", tmp_path / "standings.json")
    recorded.all_records.cache_clear()
    options = {"jobs": 1, "runs": tmp_path}
    monkeypatch.setattr(comparison, "run", lambda *given, **more: run(*given, **more, progress=False, cues=4, points=3))
    monkeypatch.setattr(comparison, "of_record", lambda *given: None)
    record("associative_memories", 1, tasks=["random patterns"], **options)
    first = recorded.all_records()["associative-memories"]["arms"]
    record("associative_memories", 1, tasks=["families"], **options)
    both = recorded.all_records()["associative-memories"]["arms"]
    assert set(first) < set(both)
    assert {name: both[name] for name in first} == first
    assert {name.partition("-")[0] for name in both} == {"random", "families"}
    assert all(arm["curve"][0] for arm in both.values())
    table = json.loads(recorded.TABLE.read_text())
    del table["associative-memories"]["arms"][(gone := next(iter(first)))]
    recorded.TABLE.write_text(json.dumps(table))
    recorded.all_records.cache_clear()
    record("associative_memories", 2, missing=True, tasks=["random patterns", "families"], **options)
    assert recorded.all_records()["associative-memories"]["arms"].keys() == both.keys()
    added = {path.name for path in tmp_path.glob("compare/associative-memories/*-1-*")}
    assert {name.rpartition("-1-")[0] for name in added} == {gone}
    recorded.all_records.cache_clear()
    with pytest.raises(ValueError, match="tasks = 'chess'"):
        record("associative_memories", 1, tasks=["chess"], **options)


def test_arms_of_the_experiment_s_own_record_are_not_run_again(tmp_path, monkeypatch, request):
    request.addfinalizer(recorded.all_records.cache_clear)
    shipped = recorded.all_records()["learning-rules-on-images"]["arms"]
    monkeypatch.setattr(recorded, "TABLE", tmp_path / "standings.json")
    recorded.all_records.cache_clear()
    monkeypatch.setattr(comparison, "run", None)
    record("learning_rules", tasks=["CIFAR"], jobs=1, runs=tmp_path)
    assert recorded.all_records()["learning-rules-on-images"]["arms"] == shipped
    assert {len(arm["values"]) for arm in shipped.values()} == {5}
    assert {arm["data"] for arm in shipped.values()} == {recorded.checksum("cifar10-jpeg")}
    (experiment, task), *_ = tasks_of("learning_rules")
    arms_here = Arms.of(experiment, task, [], None, "laptop")
    assert set(arms_here.recorded_entries(shipped)) >= {"fa", "usf", "backprop"}
    original = {name: {**arm, "data": recorded.checksum("cifar10")} for name, arm in shipped.items()}
    assert arms_here.recorded_entries(original) == {}, "images that were not re-encoded are others"
    assert comparison.of_record(experiment, arms_here, ["fa"], 6) is None


def test_an_interrupted_run_ships_nothing(tmp_path, monkeypatch, request):
    request.addfinalizer(recorded.all_records.cache_clear)
    monkeypatch.setattr(recorded, "TABLE", tmp_path / "standings.json")
    recorded.all_records.cache_clear()

    def stopped(*given, **more):
        results = run(*given, **more, progress=False, cues=4, points=3)
        first, *others = results.trials
        return replace(results, trials=[replace(first, state="interrupted"), *others])

    monkeypatch.setattr(comparison, "run", stopped)
    monkeypatch.setattr(comparison, "of_record", lambda *given: None)
    with pytest.raises(RuntimeError, match=r"associative-memories: .*, seed 0 is interrupted: run it to its end"):
        record("associative_memories", 1, tasks=["random patterns"], jobs=1, runs=tmp_path)
    assert not recorded.TABLE.exists()


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
def test_every_kind_ships_what_the_current_revisions_give(kind):
    shipped = {*KINDS[kind].experiments} & {*recorded.all_records()}
    assert shipped
    for name in shipped:
        assert recorded.all_records()[name]["revision"] == registry.get("experiments", name).revision
    assert {task.name for task in standing_of_records(kind).tasks} == {task.name for _, task in tasks_of(kind)}


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


def test_what_ships_of_another_revision_is_no_result(monkeypatch):
    experiment, task = tasks_of("associative_memories")[0]
    assert comparison.shipped_row(experiment, task)
    record_of_it = recorded.all_records()[experiment.name]
    monkeypatch.setitem(record_of_it, "revision", record_of_it["revision"] + 1)
    assert comparison.shipped_row(experiment, task) == {}, "else `missing=True` runs nothing, and loses it"
