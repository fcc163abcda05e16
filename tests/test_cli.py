from __future__ import annotations

import ctypes
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import polars as pl
import pytest
from browser import find_browser

import engram
from engram import cli, registry
from engram.cli import running
from engram.lab import load, recorded
from engram.lab.engine import plan
from engram.lab.output import report as lab_report
from engram.lab.output.export import draw
from engram.lab.output.record_files import answer_in_words
from engram.lab.trial.folder import Status
from engram.lab.trial.job import prepare
from engram.lab.trial.trial import Time, trials
from engram.run_options import RunOptions
from engram.storage.files import write_sealed
from engram.studies.papers import outcome, papers
from engram.verdicts import counted, recorded_counts, recorded_index, recorded_verdicts


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)  # which pytest-xdist sets to 80


def test_a_smoke_run_says_that_it_ran_and_where_claims_are_judged(toy, capsys):
    assert cli.run(["run", "toy", "--preset", "smoke", "--jobs", "1", "--seeds", "1"]) == 0
    printed = capsys.readouterr()
    assert "2 of 2 trials finished. This preset does not judge the claims; to judge them: engram run toy" in printed.out
    assert "testable" not in printed.out + printed.err


def test_list_names_every_experiment_and_its_last_run(toy, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "260")
    assert cli.run(["list"]) == 0
    assert "last run here" not in capsys.readouterr().out
    cli.run(["run", "toy", "--preset", "smoke", "--jobs", "1", "--seeds", "1"])
    capsys.readouterr()
    assert cli.run(["list"]) == 0
    out = capsys.readouterr().out
    assert "pattern-completion" in out
    assert "smoke: runs" in out
    assert re.search(
        r"pattern-completion +\d+ of \d+ claims hold; large: \d+ of \d+ claims hold +Plastic networks", out
    ), "nothing of the records"
    assert len(out.splitlines()) == 1 + len(registry.experiments()), "a line an experiment"
    cli.run(["run", "toy", "--jobs", "1"])
    capsys.readouterr()
    assert cli.run(["list"]) == 0
    assert "laptop: 1 of 2" in capsys.readouterr().out


def test_the_list_counts_claims_that_can_be_tested(capsys):
    assert cli.run(["list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    counts: dict[tuple[str, str], Counter[str]] = {}
    for (name, preset, _), judged in recorded_verdicts().items():
        counts.setdefault((name, preset), Counter())[judged.corrected] += 1
    for (name, _), of_preset in counts.items():
        assert counted(of_preset) in lines[name]


@pytest.mark.parametrize("width", [80, 120, 160])
def test_the_list_keeps_its_claims_in_any_window_and_cuts_at_words(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.run(["list"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= width
    words = {word for name in registry.experiments() for word in registry.summary(registry.documentation(name)).split()}
    place = lines[0].index("what it tests")
    shown = {word for line in lines[1:] for word in line[place:].split()}
    assert shown <= words | {"..."}, "a word is cut"
    (first,) = [line for line in lines if line.startswith("pattern-completion ")]
    assert re.search(
        r"pattern-completion +7 of 8( claims hold)?(; large: 4 of 5 claims hold)? +Plastic networks", first
    )


def test_the_list_loads_no_experiment_and_no_laboratory_also_after_a_run(tmp_path):
    engram.run("qss", preset="smoke", arms=["qss-4"], seeds=1, jobs=1, runs=tmp_path, progress=False)
    code = f"import sys; from engram import cli; assert cli.run(['list', '--runs', {str(tmp_path)!r}]) == 0; "
    code += "heavy = {'torch', 'numba', 'polars', 'engram.lab', 'engram.studies.experiments.maze'} & set(sys.modules); "
    code += "assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "smoke: runs" in done.stdout


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_papers_fit_any_window_with_verdict_and_size(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.run(["papers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    for paper in papers():
        start = next(number for number, line in enumerate(lines) if line.startswith(paper.name))
        words = " ".join(lines[start:]).split()
        assert set(paper.headlines[0].says.split()) <= set(words)
    text = "\n".join(lines)
    assert ("50 classes of 8 alphabets" in " ".join(text.split())) == (width == 160), "what is smaller needs room"
    assert re.search(r"agrees \(2 of 2\)[ ;]+reduced", text)
    assert "caveat: " in text


def test_a_paper_is_shown_with_its_claims_and_why_it_was_not_tried(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert cli.run(["papers", "anml"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(r"\(anml/remembers\)|anml/remembers", out)
    assert re.search(r">= 0\.\d+ 0\.\d+ \[0\.\d+, 0\.\d+\]; \d+ seeds", out)
    assert "why not: data: files are missing: the whole of Omniglot" in out
    assert cli.run(["papers", "nobody"]) == 2
    assert "unknown paper 'nobody'" in capsys.readouterr().err


def test_the_papers_are_json_with_the_same_verdicts(capsys):
    assert cli.run(["papers", "--json"]) == 0
    values = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [paper["name"] for paper in values] == [paper.name for paper in papers()]
    for paper, row in zip(papers(), values, strict=True):
        assert set(row) == {"name", "title", "source", "read", "note", "headlines"}
        for headline, value in zip(paper.headlines, row["headlines"], strict=True):
            result = outcome(headline, recorded_verdicts())
            assert (value["says"], value["verdict"], value["tried"]) == (headline.says, result.word, headline.tried)
            assert value["supporting"] + value["contradicting"] + value["undecided"] == result.tested
            assert [claim["claim"] for claim in value["claims"]] == [*headline.claims, *headline.against]
            assert all(claim["verdict"] and claim["corrected"] for claim in value["claims"])
            judged = [claim for claim in value["claims"] if claim["verdict"] != "not testable here"]
            assert all(claim["seeds"] >= 1 and claim["ours"] is not None for claim in judged)


def test_the_list_is_json_with_the_same_counts(capsys):
    assert cli.run(["list", "--json"]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert list(rows) == registry.experiments()
    assert {name: row["claims"] for name, row in rows.items() if row["claims"]} == recorded_counts()
    for name, row in rows.items():
        assert (row["kind"], row["summary"]) == ("experiments", registry.summary(registry.documentation(name)))
    assert cli.run(["list", "ewc", "plasticity-rules", "--json"]) == 0
    rows = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert [row["name"] for row in rows if row["kind"] == "plasticity_rules"] == registry.names("plasticity_rules")
    assert {"ewc", "online-ewc"} <= {row["name"] for row in rows if row["kind"] == "continual_methods"}
    assert all(row["summary"] and row["where"] for row in rows)


@pytest.mark.parametrize("name", ["pattern-completion", "dsa"])
def test_an_experiment_is_json_with_its_verdicts(name, capsys):
    assert cli.run(["show", name, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    experiment = registry.get("experiments", name)
    assert (values["name"], values["summary"], values["answer"]) == (
        name,
        experiment.summary,
        answer_in_words(experiment),
    )
    assert {preset: row["arms"] for preset, row in values["presets"].items()} == {
        preset: list(experiment.arms(preset)) for preset in experiment.presets
    }
    assert all(row["presets"].keys() == experiment.presets.keys() for row in values["settings"].values())
    judged = {
        (claim["id"], preset): (row["verdict"], row["corrected"], row["ours"], row["seeds"])
        for claim in values["claims"]
        for preset, row in claim["recorded"].items()
    }
    assert judged == {
        (row.claim, row.preset): (row.verdict, row.corrected, row.ours, row.seeds)
        for row in recorded_verdicts().values()
        if row.experiment == name and row.verdict != "not testable here"
    }
    measured = {(of["id"], preset): row for of in values["quantities"] for preset, row in of["recorded"].items()}
    assert measured == {
        (of.quantity, of.preset): {key: getattr(of, key) for key in ("ours", "low", "high", "seeds")}
        for of in recorded_index().quantities.values()
        if of.experiment == name
    }
    assert cli.run(["show", name, "--json", "--preset", "laptop"]) == 2
    assert "json = True: expected without a preset" in capsys.readouterr().err


def test_what_is_measured_is_shown_without_a_verdict(capsys):
    assert cli.run(["show", "d3g"]) == 0
    measured = capsys.readouterr().out.partition("\nMeasured")[2]
    of = recorded_index().quantities["d3g", "laptop", "cloning-over-random"]
    assert all(text in measured for text in ("(cloning-over-random, laptop)", *of.value.split(" ", 1), str(of.seeds)))
    running._print_results(recorded("d3g"))
    assert f"{of.ours:.4g}" in capsys.readouterr().out.partition("\nMeasured")[2]


def test_the_papers_load_neither_torch_nor_an_experiment():
    code = "import sys; from engram import cli; assert cli.run(['papers', 'anml']) == 0; "
    code += "heavy = {'torch', 'numba', 'polars', 'engram.lab', 'engram.studies.experiments'} & set(sys.modules); "
    code += "assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("loaded", ["", "triton"])
def test_imported_objects_are_left_at_the_end_unless_triton_looks_for_them(loaded):
    code = (
        "import atexit, gc, sys; from engram import cli; atexit.register(lambda: print(gc.get_freeze_count() > 0))\n"
        f"sys.modules.update(dict.fromkeys({loaded!r}.split())); cli.main(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == str(not loaded)


def test_what_is_read_of_an_experiment_without_loading_it_is_what_it_is():
    for name in registry.experiments():
        assert registry.summary(registry.documentation(name)) == registry.get("experiments", name).summary


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("plasticity_rules", r"hebb +Decaying Hebbian rule: .*engram\.plasticity\.hebb\.Hebb"),
        ("environments", r"two-step +Choose between two states.* engram/TwoStep-v0"),
        ("modules", r"engram\.plasticity\.plastic_rnn\.PlasticRNN"),
        ("tasks", r"engram\.tasks\.flip_flop\.FlipFlop"),
        ("optimizers", r"engram\.optim\.cma_es\.CMAES"),
        ("associative_memories", r"hopfield +The classic network with Hebb's rule"),
        ("similarity_measures", r"cka +One minus linear CKA"),
        ("curiosities", r"hash-counts +A bonus of one over the square root of how often"),
        ("estimators", r"engram\.analysis\.similarity\.dsa\.DSA"),
    ],
)
def test_list_shows_other_parts(capsys, kind, said):
    assert cli.run(["list", "--" + kind.replace("_", "-")]) == 0
    out = capsys.readouterr().out
    assert re.search(said, out)
    assert "cannot be loaded" not in out
    assert len(out.splitlines()) > len(registry.names(kind))
    assert cli.run(["list", kind.replace("_", "-")]) == 0
    assert capsys.readouterr().out == out


def test_a_word_names_all_kinds_that_end_with_it(capsys):
    assert cli.run(["list", "rules"]) == 0
    out = capsys.readouterr().out
    assert all(title in out for title in ("Plasticity rules", "Learning rules", "Synaptic rules"))
    assert "Modules" not in out


def test_a_part_is_found_by_a_word_of_its_name(capsys):
    assert cli.run(["list", "EWC"]) == 0
    out = capsys.readouterr().out
    assert {"ewc", "online-ewc", "engram.continual.ewc.EWC"} <= set(out.split())
    assert "pattern-completion" not in out
    assert cli.run(["list", "pattern-comp"]) == 0
    assert "engram show pattern-completion" in capsys.readouterr().out
    assert cli.run(["list", "nothing-has-this"]) == 2


def test_what_a_program_reads_of_the_list_is_whole(capsys):
    assert cli.run(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(registry.experiments())
    assert not [line for line in lines if line.rstrip().endswith("...")]
    summaries = [registry.get("experiments", name).summary for name in ("anml", "one-shot-characters")]
    assert all(any(line.rstrip().endswith(summary) for line in lines) for summary in summaries)


@pytest.mark.parametrize(("option", "meant"), [("--sedes", "seeds"), ("--job", "jobs"), ("--preste", "preset")])
def test_a_misspelt_option_of_every_run_is_known(toy, capsys, option, meant):
    assert cli.run(["run", "toy", option, "3"]) == 2
    assert f"did you mean '{meant}'?" in capsys.readouterr().err


def test_data_takes_the_name_of_a_set_alone(capsys):
    assert cli.run(["data", "mnist"]) == 0
    alone = capsys.readouterr().out
    assert cli.run(["data", "list", "mnist"]) == 0
    assert capsys.readouterr().out == alone
    assert "terms: CC BY-SA 3.0" in alone
    assert "to cite: LeCun, Bottou, Bengio and Haffner (1998)" in alone


@pytest.mark.parametrize(
    "arguments", [["list"], ["list", "--plasticity-rules"], ["show", "toy"], ["data"], ["run", "toy", "--jobs", "1"]]
)
def test_what_is_printed_fits_a_narrow_window(toy, capsys, monkeypatch, arguments):
    monkeypatch.setenv("COLUMNS", "60")
    code = cli.run(arguments)
    out, errors = capsys.readouterr()
    assert code == (1 if "run" in arguments else 0), errors + out  # else paths of failed trials, which are not broken
    assert max(map(len, out.splitlines())) <= 60


@pytest.fixture
def small_demo(monkeypatch):
    experiment = registry.get("experiments", "pattern-completion")
    of_demo = experiment.presets["demo"]
    changes = {**of_demo.changes, "episodes": 10, "bits": 4, "hidden_size": 5, "plastic": {"learning_rate": 1e-3}}
    presets = {**experiment.presets, "demo": replace(of_demo, changes=changes, seeds=3)}
    monkeypatch.setattr(
        "engram.lab.trial.experiment.find_experiment", lambda name: replace(experiment, presets=presets)
    )
    monkeypatch.setattr("engram.lab.trial.machine.cores", lambda: 1)


def test_the_demo_ends_with_numbers_of_its_run_and_what_to_do_next(small_demo, tmp_path, capsys):
    assert cli.run(["demo", "--runs", str(tmp_path)]) == 0, "a claim that fails is a result"
    out, errors = capsys.readouterr()
    seeds = [line for line in errors.splitlines() if line.startswith("seed ")]
    assert [line.partition(",")[0] for line in seeds] == ["seed 0", "seed 1", "seed 2"]
    assert errors.index("seed 0,") < errors.index("plastic, seed 1"), "both networks of a seed, before the next seed"
    mean = sum(float(re.search(r"(?<!-)plastic (.*),", line)[1]) for line in seeds) / 3
    assert float(re.search("a plastic network gets (.*) of the bits wrong", out)[1]) == pytest.approx(mean, abs=1e-3)
    assert len(re.findall("^Claim: .* 3 seeds: ", out, flags=re.M)) == 2
    assert len(re.findall("  engram .*", out)) == 3
    assert "pattern" in (tmp_path / "report.html").read_text()


def test_a_demo_that_has_judged_nothing_is_an_error(small_demo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "engram.lab.engine.laboratory.perform_all", lambda jobs, **_: [Status("interrupted") for _ in jobs]
    )
    assert cli.run(["demo", "--runs", str(tmp_path)]) == 130
    out = capsys.readouterr().out
    assert "nothing to compare yet" in out
    assert "0 of" not in out
    page = (tmp_path / "report.html").read_text()
    body = page[page.index("<body>") :]
    assert "No trial of this run has finished" in body
    assert "no claim has been tried yet" in body
    assert 'class="plot"' not in body
    assert 'class="bar"' not in body
    assert "0 of 2" not in body
    monkeypatch.setattr("engram.lab.engine.laboratory.perform_all", lambda jobs, **_: [Status("failed") for _ in jobs])
    assert cli.run(["demo", "--runs", str(tmp_path)]) == 2


def test_a_comparison_prints_its_table_and_writes_its_report(capsys, tmp_path):
    command = ["compare", "last-layer", "--against", "backprop,fa", "--tasks", "narrow", "--seeds", "1"]
    command += ["--preset", "smoke", "--jobs", "1", "--runs", str(tmp_path)]
    assert cli.run(command) == 0
    printed = capsys.readouterr().out
    assert {"backprop", "fa", "last-layer"} <= set(printed.split())
    assert (tmp_path / "compare.html").read_text().startswith("<!doctype html>")
    assert cli.run([*command, "--export", "latex"]) == 0
    assert r"\toprule" in capsys.readouterr().out
    assert cli.run(["compare"]) == 2
    assert cli.run(["compare", "fq"]) == 2


def test_help_names_the_experiments_and_their_fields(toy, capsys):
    assert cli.run(["run", "--help"]) == 0
    whole = capsys.readouterr().out
    assert "NAME" in whole.splitlines()[0]
    assert cli.run(["run", "toy", "--help"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"--noise\.scale +float >= 0 +0\.1 +0\.1 +0\.1 +standard deviation", out)
    assert out.startswith(whole)


@pytest.mark.parametrize("arguments", [["list", "--plasticity-rules"], ["--version"]])
def test_a_reader_that_has_seen_enough_is_no_error(toy, arguments):
    engram = [sys.executable, "-m", "engram", *arguments]
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(engram, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (process.returncode, process.stderr) == (0, "")


def test_a_run_without_its_data_does_not_begin(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_DATA", str(tmp_path))
    arguments = ["run", "plastic-language", "--preset", "large"]
    assert cli.run(arguments) == 2
    error = capsys.readouterr().err
    assert "plastic-language cannot run" in error
    assert "ptb.train.txt" in error
    assert not list((tmp_path / "runs").glob("*/*"))


def test_arms_that_need_no_data_are_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_DATA", str(tmp_path))
    monkeypatch.setenv("ENGRAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nothing answers
    assert cli.run(["run", "one-shot-characters"]) == 2
    error = capsys.readouterr().err
    networks = ("connection", "homogeneous", "matching", "discriminants", "blurred-pixels")
    absent = ", ".join(f"omniglot-{network}" for network in networks)
    assert f"cannot run {absent} here: omniglot/images_background.zip" in error
    assert (
        "Without it you can run: --arms connection,homogeneous,matching,discriminants,blurred-pixels,non-plastic"
        in error
    )


def test_a_run_without_its_extra_does_not_begin(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    assert cli.run(["run", "episodic-control", "--preset", "published"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "An Atari game needs ale_py, which is not installed: " in error
    assert "[rl]'" in error
    assert not list((tmp_path / "runs").glob("*/*"))


@pytest.mark.usefixtures("interrupts")
def test_what_was_not_reached_is_undecided(toy, capsys):
    arguments = ["run", "toy", "--misbehave", "interrupt", "--jobs", "1", "--json"]
    assert cli.run(["run", "toy", "--jobs", "1", "--arms", "momentum", "--json"]) == 0
    claims = json.loads(capsys.readouterr().out)["claims"]
    assert [claim["verdict"] for claim in claims] == ["agrees", "not testable here"]
    assert cli.run(arguments) == 130
    captured = capsys.readouterr()
    assert captured.err.count("the same command resumes") == captured.err.count("stopping: ") == 1
    results = load("toy")
    judged = dataclasses.replace(results, changed={}).claims()
    assert [(one.verdict, one.why) for one in judged][1] == (
        "undecided",
        "no seed has results of all its arms yet: plain",
    )


def test_show_lists_arms_options_and_claims(toy, capsys):
    assert cli.run(["show", "toy"]) == 0
    out = capsys.readouterr().out
    for text in ("momentum, plain", "--learning-rate", "float > 0 and <= 1", "steps of training", "<= 100"):
        assert text in out


def test_json_is_one_object_on_standard_output(toy, capsys):
    assert cli.run(["run", "toy", "--preset", "laptop", "--jobs", "1", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert {"experiment", "preset", "seeds", "claims", "trials"} <= set(content)
    assert [claim["verdict"] for claim in content["claims"]] == ["agrees", "disagrees"]
    for claim in content["claims"]:
        assert {"id", "published", "ours", "low", "high", "verdict"} <= set(claim)
        assert claim["low"] <= claim["ours"] <= claim["high"]


def test_non_finite_numbers_are_null_in_json(toy, capsys):
    code = cli.run(["run", "toy", "--preset", "smoke", "--misbehave", "nan", "--jobs", "1", "--json"])
    out = capsys.readouterr().out
    assert code == 0
    assert "NaN" not in out
    assert json.loads(out)["trials"][0]["result"]["loss"] is None


def test_config_fields_are_typed_options(toy, capsys):
    options = ["--episodes", "6", "--learning-rate=0.5", "--no-momentum"]
    assert cli.run(["run", "toy", "--preset", "smoke", "--jobs", "1", "--json", *options]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["changed"] == {"episodes": 6, "learning_rate": 0.5, "momentum": False}
    assert content["arms"]["momentum"]["episodes"] == 6
    assert {claim["verdict"] for claim in content["claims"]} == {"not testable here"}
    assert "episodes = 6" in content["claims"][0]["why"]


def test_fields_of_a_study_are_options_with_a_dot(toy, capsys):
    options = ["--noise.scale", "0.5", "--noise.no-shared", "--episodes", "6"]
    assert cli.run(["run", "toy", "--preset", "smoke", "--jobs", "1", "--seeds", "1", "--json", *options]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["changed"] == {"episodes": 6, "noise.scale": 0.5, "noise.shared": False}
    assert content["arms"]["plain"]["noise"] == {"scale": 0.5, "shared": False}
    assert "noise.scale = 0.5" in content["claims"][0]["why"]
    assert cli.run(["report", "toy"]) == 0
    report = Path(capsys.readouterr().out.strip().removeprefix("report: ")).read_text()
    assert "noise.scale = 0.5" in report
    assert cli.run(["show", "toy"]) == 0
    assert re.search(r"--noise\.scale +float >= 0 +0\.1 +0\.1 +0\.1 +standard deviation", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "pattern-completon"], "unknown experiment 'pattern-completon'; did you mean 'pattern-completion'?"),
        (["run", "zzz"], "unknown experiment 'zzz'; known: "),
        (["run"], "no experiment named (write the names before the config fields); known: "),
        (["show", "zzz"], "unknown experiment 'zzz'"),
        (["run", "toy", "--epsiodes", "3"], "unknown field 'epsiodes'; did you mean 'episodes'?"),
        (["run", "toy", "pattern-completion", "--misbehave", "x"], "unknown field 'misbehave'"),
        (["run", "toy", "--episodes", "0"], "episodes = 0: expected int >= 1"),
        (["run", "toy", "--learning-rate", "1.5"], "learning_rate = 1.5: expected float > 0 and <= 1"),
        (["run", "toy", "--noise.scael", "1"], "unknown field 'noise.scael'; did you mean 'noise.scale'?"),
        (["run", "toy", "--scale", "1"], "unknown field 'scale'; did you mean 'noise.scale'?"),
        (["run", "maze", "--retroactive.size", "9"], "arm = 'retroactive': preset 'laptop' of maze leaves it out"),
        (
            ["run", "noodl", "--lasso-0.1.step", "3"],
            "unknown field 'lasso-0.1.step'; did you mean 'lasso-0.1.dict_step'?",
        ),
        (["run", "toy", "--noise.scale", "-1"], "noise.scale = -1.0: expected float >= 0"),
        (["run", "toy", "--seeds", "0"], "seeds = 0: expected at least 1"),
        (
            ["run", "toy", "--until-decided", "--at-most", "60x"],
            "at_most = '60x': expected a time such as 90s, 60m or 2h",
        ),
        (["run", "toy", "--jobs", "0"], "jobs = 0: expected at least 1"),
        (["run", "toy", "--arms", "momentum,mad"], "unknown arm 'mad' of toy; known: momentum, plain"),
        (["run", "toy", "--arms", "momentm"], "unknown arm 'momentm' of toy; did you mean 'momentum'?"),
        (["run", "pattern-completion", "--lr", "1"], "unknown field 'lr'; did you mean 'learning_rate'?"),
        (
            ["run", "pattern-completion", "--plastc.learning-rate", "1"],
            "unknown field 'plastc.learning_rate'; did you mean 'plastic.learning_rate'?",
        ),
        (["list", "zzyzx"], "unknown kind or name of a part 'zzyzx'; "),
        (["list", "rulez"], "did you mean 'plasticity-rules' or 'learning-rules' or 'synaptic-rules'?"),
        (["show", "patern"], "unknown experiment 'patern'; did you mean 'pattern-completion'?"),
        (["compare", "ewcc"], "candidate = 'ewcc': expected a registered name (did you mean 'ewc'?)"),
        (["data", "mnst"], "unknown data set 'mnst'; did you mean 'mnist'?"),
        (["run", "toy", "--device", "cuda"], "device = 'cuda': no CUDA device is available"),
        (["run", "--episodes", "6", "toy"], "no experiment named (write the names before the config fields)"),
        (["run", "toy", "--address", "auto"], "address = 'auto': expected only with engine 'ray'"),
        (["run", "pattern-completion", "--network", "lstm"], "network = 'lstm': no arm of pattern-completion depends"),
        (["run", "toy", "--checkpoint-seconds", "-1"], "checkpoint_seconds = -1.0: expected a number of at least 0"),
        (["report"], " has no runs of registered experiments yet; name another one by its place, or try: "),
        (["report", "toy"], "toy was not run in"),
        (["export", "toy"], "toy was not run in"),
        (["export", "toi"], "unknown experiment 'toi'; did you mean 'toy'?"),
        (["data", "fetch"], "no data set named; known: "),
        (["data", "verify", "mnits"], "unknown data set 'mnits'; did you mean 'mnist'?"),
        (["list", "--nonsense"], "unknown argument '--nonsense'"),
        (["--bogus"], "unknown argument '--bogus'; try --help"),
        (["bogus"], "unknown command 'bogus'; known: papers, list, show, demo, run, "),
        (["lst"], "unknown command 'lst'; did you mean 'list'?"),
        (["run", "toy", "--seeds", "two"], "seeds = 'two': expected an int"),
        (["run", "toy", "--seeds"], "seeds without a value: expected one, as in --seeds INT"),
        (["run", "toy", "--engine=dask"], "engine = 'dask': expected one of 'loky', 'ray'"),
        (["run", "toy", "--episodes", "many"], "episodes = 'many': expected int >= 1"),
        (["run", "toy", "--noise.scale=x"], "noise.scale = 'x': expected float >= 0"),
        (["show"], "NAME is missing: engram show --help"),
        (["sweep", "toy"], "no field to change: expected at least one with its values"),
        (["sweep", "toy", "--episodes", "5,0"], "episodes = 0: expected int >= 1"),
        (["sweep", "toy", "--episodes", "5:9"], "episodes = 5:9: a range needs samples, the number to draw"),
        (["sweep", "toy", "--epsiodes", "5"], "unknown field 'epsiodes'; did you mean 'episodes'?"),
        (["sweep", "toy", "--momentum", "maybe"], "momentum = 'maybe': expected one of 'true', 'false'"),
        (["sweep", "toy", "--episodes", "9:5", "--samples", "2"], "episodes = '9:5': expected a smaller number before"),
        (["sweep", "toy", "--episodes", "5:6:7"], "episodes = '5:6:7': expected a range of two numbers, as in 0.1:1"),
    ],
)
def test_bad_usage_is_explained_and_ends_with_2(toy, capsys, arguments, message):
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("a CUDA device is available")
    assert cli.run(arguments) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "Traceback" not in error


def test_what_is_noted_about_an_error_is_printed_too(monkeypatch, capsys):
    def broken(command: cli.Doctor) -> None:
        error = ValueError("it broke")
        error.add_note("agent 'mine' is registered as 'mine:Part'")
        raise error

    monkeypatch.setitem(cli.ACTIONS, cli.Doctor, broken)
    assert cli.run(["doctor"]) == 2
    assert capsys.readouterr().err.splitlines() == ["error: it broke", "agent 'mine' is registered as 'mine:Part'"]


def test_nothing_runs_when_one_of_several_names_is_wrong(toy, capsys, tmp_path):
    assert cli.run(["run", "toy", "zzz", "--preset", "smoke"]) == 2
    assert not (tmp_path / "runs").exists()


def test_a_failed_trial_keeps_its_traceback_and_is_tried_again(toy, capsys, tmp_path):
    arguments = ["run", "toy", "--preset", "smoke", "--seeds", "1", "--jobs", "1", "--misbehave", "raise"]
    for attempt in (1, 2):
        assert cli.run(arguments) == 2
        captured = capsys.readouterr()
        assert "momentum, seed 0 failed: RuntimeError: the toy broke" in captured.out
        (folder,) = (tmp_path / "runs" / "toy").glob("momentum-0-*")
        assert "RuntimeError: the toy broke" in (folder / "error.txt").read_text()
        assert json.loads((folder / "status.json").read_text())["attempts"] == attempt
        assert "plain, seed 0: finished" in captured.err or attempt == 2


def test_a_folder_that_cannot_be_made_is_named(toy, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert cli.run(["run", "toy", "--preset", "smoke", "--runs", str(tmp_path / "file" / "runs")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_full_disk_fails_the_trial_and_loses_nothing(toy, capsys, no_file_larger_than):
    arguments = ["run", "toy", "--preset", "smoke", "--seeds", "1", "--jobs", "1", "--size", "150000", "--json"]
    with no_file_larger_than(300_000):  # metrics and manifests fit, checkpoints do not
        assert cli.run(arguments) == 2
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert "cannot write" in trials[0]["message"]
    assert "File too large" in trials[0]["message"]
    assert cli.run(arguments) == 0


@pytest.mark.parametrize("name", ["result.json", "metrics.csv"])
@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b.replace(b"1", b"2")], ids=["cut", "altered"])
def test_a_corrupt_file_of_a_finished_trial_is_kept_aside_and_the_trial_runs_again(toy, capsys, tmp_path, name, damage):
    arguments = ["run", "toy", "--preset", "smoke", "--seeds", "1", "--jobs", "1", "--json"]
    cli.run(arguments)
    before = json.loads(capsys.readouterr().out)
    (folder,) = (tmp_path / "runs" / "toy").glob("momentum-0-*")
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    assert cli.run(arguments) == 0
    captured = capsys.readouterr()
    assert f"{name} is corrupt" in captured.err.replace("\n", "")
    assert (folder / f"{name}.corrupt-1").exists()
    again = json.loads(captured.out)
    assert [trial["result"] for trial in again["trials"]] == [trial["result"] for trial in before["trials"]]


def test_a_corrupt_checkpoint_is_kept_aside_and_the_trial_starts_again(toy, capsys, tmp_path):
    arguments = ["run", "toy", "--preset", "smoke", "--seeds", "1", "--jobs", "1", "--json", "--arms", "momentum"]
    cli.run([*arguments, "--runs", str(tmp_path / "whole")])
    whole = json.loads(capsys.readouterr().out)["trials"][0]["result"]
    cli.run([*arguments, "--misbehave", "raise", "--checkpoint-seconds", "0"])
    (broken,) = (tmp_path / "runs" / "toy").glob("momentum-0-*")
    (finished,) = (tmp_path / "whole" / "toy").glob("momentum-0-*")
    # A checkpoint cut short in the folder of the trial that does not misbehave.
    folder = tmp_path / "runs" / "toy" / finished.name
    folder.mkdir()
    content = (broken / "checkpoint-0.safetensors").read_bytes()
    (folder / "checkpoint-0.safetensors").write_bytes(content[: len(content) // 2])
    capsys.readouterr()
    assert cli.run(arguments) == 0
    captured = capsys.readouterr()
    assert "checkpoint-0.safetensors is corrupt" in captured.err.replace("\n", "")
    assert (folder / "checkpoint-0.safetensors.corrupt-1").exists()
    assert json.loads(captured.out)["trials"][0]["result"] == whole


NESTED = '{"arms": ' * 100_000


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", NESTED, '{"preset": "huge", "changed": {}, "arms": {}, "seeds": 1, "trials": []}', None],
    ids=["cut", "list", "empty", "nested", "preset", "folder"],
)
def test_a_corrupt_note_of_the_last_run_is_named(toy, capsys, tmp_path, content):
    note = tmp_path / "runs" / "toy" / "last-run.json"
    note.parent.mkdir(parents=True)
    if content is None:
        note.mkdir()
    else:
        note.write_text(content)
    assert cli.run(["report", "toy"]) == 2
    assert "last-run.json is corrupt" in capsys.readouterr().err.replace("\n", "")
    assert cli.run(["list"]) == 0


def test_a_run_of_an_experiment_that_has_changed_is_left_out_of_the_report(toy, capsys, tmp_path):
    assert cli.run(["run", "toy", "--preset", "smoke", "--seeds", "1", "--jobs", "1"]) == 0
    note = tmp_path / "runs" / "maze" / "last-run.json"
    note.parent.mkdir()
    arms = {"an-older-arm": {}}
    write_sealed(note, {"experiment": "maze", "preset": "smoke", "changed": {}, "arms": arms, "seeds": 1, "trials": []})
    capsys.readouterr()
    assert cli.run(["report"]) == 0
    printed = capsys.readouterr()
    assert "report: maze is left out: " in printed.err
    assert "toy" in Path(printed.out.strip().removeprefix("report: ")).read_text()
    assert cli.run(["report", "maze"]) == 2
    (tmp_path / "runs" / "toy" / "last-run.json").write_text("{")
    assert cli.run(["report"]) == 2, "no run is left"


@pytest.mark.parametrize("name", ["result.json", "trial.json", "status.json"])
@pytest.mark.parametrize(
    "content", ["{}", '{"result": 1, "state": []}', NESTED, None], ids=["empty", "1", "nested", "-"]
)
def test_a_file_of_another_shape_costs_its_trial_alone(toy, capsys, tmp_path, name, content):
    arguments = ["run", "toy", "--preset", "smoke", "--seeds", "1", "--jobs", "1", "--json"]
    cli.run(arguments)
    before = json.loads(capsys.readouterr().out)
    path = next((tmp_path / "runs" / "toy").glob("momentum-0-*")) / name
    path.unlink()
    path.mkdir() if content is None else path.write_text(content)
    assert cli.run(["report", "toy"]) == 0
    assert cli.run(["list"]) == 0
    capsys.readouterr()
    assert cli.run(arguments) == 0
    again = json.loads(capsys.readouterr().out)
    assert [trial["state"] for trial in again["trials"]] == ["finished"] * 2
    assert [trial["result"] for trial in again["trials"]] == [trial["result"] for trial in before["trials"]]
    assert name == "status.json" or path.with_name(f"{name}.corrupt-1").exists()


def test_a_folder_that_cannot_be_locked_fails_its_trial_alone(toy, capsys, tmp_path):
    arguments = ["run", "toy", "--preset", "smoke", "--seeds", "1", "--jobs", "1", "--json"]
    cli.run(arguments)
    (folder,) = (tmp_path / "runs" / "toy").glob("momentum-0-*")
    (folder / "result.json").unlink()
    (folder / "lock").unlink()
    (folder / "lock").mkdir()
    capsys.readouterr()
    assert cli.run(arguments) == 2
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert [trial["state"] for trial in trials] == ["failed", "finished"]
    assert "cannot lock" in trials[0]["message"]


def test_an_unexpected_error_ends_with_2_and_a_traceback(toy, capsys, monkeypatch):
    def broken(runs, path):
        raise KeyError("page")

    monkeypatch.setattr(lab_report, "write_report", broken)
    assert cli.run(["run", "toy", "--preset", "smoke", "--jobs", "1"]) == 0
    assert cli.run(["report", "toy"]) == 2
    assert "KeyError" in capsys.readouterr().err


def test_a_run_without_an_arm_is_reported_without_what_it_lacks(tmp_path, capsys):
    runs = ["--runs", str(tmp_path)]
    cli.run(["run", "expander-memory", "--preset", "smoke", "--arms", "packing", *runs])
    assert cli.run(["report", "expander-memory", *runs]) == 0
    report = (tmp_path / "report.html").read_text()
    assert "Not the whole of the experiment as it is now: without 5-6, local" in report
    assert report.count('class="claim"') == len(registry.get("experiments", "expander-memory").claims)


def test_a_run_that_may_only_be_read_can_be_listed_and_reported(toy, tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "report.html"
    engram.run(toy, preset="smoke", jobs=1, runs=runs, progress=False)
    everything = [runs, *runs.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in everything}

    def like_others():  # root loses what lets it write where it may not: PR_CAPBSET_DROP of CAP_DAC_OVERRIDE
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)

    try:
        commands = [[*words, "--runs", str(runs)] for words in (["list"], ["report", toy, "--out", str(out)])]
        program = f"from engram import cli; print([cli.run(words) for words in {commands}])"
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, preexec_fn=like_others, capture_output=True, text=True, check=False)
        assert done.stdout.endswith("[0, 0]\n"), done.stderr
        assert toy in out.read_text()
        assert before == {path: path.stat().st_mtime_ns for path in [runs, *runs.rglob("*")]}
    finally:
        for path in everything:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_report_and_doctor_and_data(toy, capsys, tmp_path):
    cli.run(["run", "toy", "--preset", "smoke", "--jobs", "1"])
    capsys.readouterr()
    assert cli.run(["report"]) == 0
    assert capsys.readouterr().out.strip() == f"report: {tmp_path / 'runs' / 'report.html'}"
    assert cli.run(["report", "toy", "--out", str(tmp_path / "own.html")]) == 0
    assert "It learns" in (tmp_path / "own.html").read_text()
    assert cli.run(["report", "--preset", "smoke"]) == 0
    capsys.readouterr()
    assert cli.run(["report", "toy", "--preset", "laptop"]) == 2
    assert "preset = 'laptop': toy was last run with preset 'smoke'" in " ".join(capsys.readouterr().err.split())
    assert cli.run(["report", "--preset", "laptop"]) == 2
    assert "preset = 'laptop': no last run in" in capsys.readouterr().err
    assert cli.run(["doctor"]) == 0
    assert "torch" in capsys.readouterr().out
    assert cli.run(["data"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^mnist .* 4 +11\.6 MB ", out, re.MULTILINE)
    assert len(re.findall("^acasxu", out, re.MULTILINE)) == 1
    assert cli.run(["--version"]) == 0


def exported(out: str) -> dict[str, Path]:
    return {path.name: path for path in map(Path, out.splitlines())}


def test_methods_that_are_in_the_record_of_their_experiment_need_no_other(capsys):
    assert cli.run(["record", "agents", "--comparisons"]) == 0
    assert capsys.readouterr().out == "agents: its own record has all methods\n"


def test_a_record_is_reported_where_nothing_ran(capsys, tmp_path):
    runs = tmp_path / "runs"
    assert cli.run(["report", "pattern-completion", "--recorded", "--runs", str(runs)]) == 0
    page = (runs / "report.html").read_text()
    experiment = registry.get("experiments", "pattern-completion")
    assert page.count('class="claim"') == len(experiment.claims)
    assert f"{len(recorded(experiment).trials)} trials finished" in " ".join(page.split())
    assert cli.run(["report", "--recorded"]) == 2
    assert "no experiment named" in capsys.readouterr().err
    page = tmp_path / "published.html"
    published = ["--recorded", "--preset", "published"]
    assert cli.run(["report", "evolved-plastic-networks", *published, "--out", str(page)]) == 0
    assert "preset published" in page.read_text()
    assert cli.run(["report", "cue-reward", *published]) == 2
    assert "has no record of preset published" in capsys.readouterr().err


def test_a_run_is_exported_as_tables_and_figures(toy, capsys, tmp_path):
    cli.run(["run", "toy", "--preset", "smoke", "--jobs", "1"])
    capsys.readouterr()
    assert cli.run(["export", "toy"]) == 0
    files = exported(capsys.readouterr().out)
    assert {path.parent for path in files.values()} == {tmp_path / "runs" / "toy" / "export"}
    figures = {"figure", "curves-loss", "curves-test"}  # between is logged once, which is no curve
    assert set(files) == {"metrics.csv", "results.csv", "claims.csv", "plotly.min.js", *(f"{f}.html" for f in figures)}
    assert 'src="plotly.min.js"' in files["figure.html"].read_text()
    run = load("toy")
    assert pl.read_csv(files["metrics.csv"]).equals(run.metrics)
    assert pl.read_csv(files["results.csv"])["loss"].to_list() == [trial.result["loss"] for trial in run.trials]
    assert pl.read_csv(files["claims.csv"])["id"].to_list() == ["learns", "impossible"]

    assert cli.run(["export", "toy", "--format", "parquet", "--out", str(tmp_path / "own" / "folder")]) == 0
    files = exported(capsys.readouterr().out)
    assert pl.read_parquet(files["metrics.parquet"]).equals(run.metrics)
    assert files["metrics.parquet"].parent == tmp_path / "own" / "folder"


@pytest.mark.parametrize(("kind", "begin"), [("svg", b"<svg"), pytest.param("png", b"\x89PNG", marks=pytest.mark.soak)])
def test_figures_are_drawn_as_pictures(kind, begin):
    if find_browser() is None and "CI" not in os.environ:
        pytest.skip("no Chromium or Chrome here to draw with")
    figures = {"a": go.Figure(go.Scatter(y=[1, 2])), "b": go.Figure(go.Bar(y=[1, 2]), layout={"height": 100})}
    drawn = draw(figures, kind)
    assert list(drawn) == ["a", "b"]
    assert all(picture.startswith(begin) for picture in drawn.values())
    if kind == "svg":
        assert b'width="860" height="420"' in drawn["a"]
        assert b'width="860" height="100"' in drawn["b"]


@pytest.mark.parametrize(
    ("missing", "message"), [("kaleido", "[images]'; or write html"), ("browser", "cannot be drawn: ")]
)
def test_a_picture_that_cannot_be_drawn_is_an_error_that_says_why(toy, capsys, monkeypatch, missing, message):
    cli.run(["run", "toy", "--preset", "smoke", "--seeds", "1", "--jobs", "1"])
    if missing == "kaleido":
        monkeypatch.setitem(sys.modules, "kaleido", None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("BROWSER_PATH", "/nowhere")
    assert cli.run(["export", "toy", "--figures", "svg"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "Traceback" not in error


def test_an_experiment_that_cannot_be_loaded_hides_no_other(toy, capsys, tmp_path, monkeypatch):
    package = tmp_path / "packages"
    information = package / "broken_toys-0.1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-toys\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text("[engram.experiments]\nbroken = toy_experiments:missing\n")
    monkeypatch.syspath_prepend(str(package))
    assert cli.run(["list"]) == 0
    out = capsys.readouterr().out
    assert "cannot be loaded" in out
    assert "A linear regression learns" in out


@pytest.mark.parametrize("name", ["lr=1/2", "../up", "", ".hidden", "a\nb", "[/x]"])
def test_a_name_that_names_no_folder_is_refused_where_it_is_given(toy, name):
    experiment = registry.get("experiments", toy)
    study = dataclasses.replace(experiment.studies, arms={name: {}})
    with pytest.raises(ValueError, match=re.escape(f"name = {name!r} in experiment")):
        dataclasses.replace(experiment, claims=(), studies=study)
    with pytest.raises(ValueError, match=re.escape(f"name = {name!r} in experiment")):
        dataclasses.replace(experiment, name=name)


def test_markup_in_the_texts_of_others_is_text(toy, capsys, monkeypatch):
    texts = {"about": "[/x] learns [red]", "paper": "[bold", "claims": ()}
    odd = dataclasses.replace(registry.get("experiments", toy), **texts)
    get = registry.get
    monkeypatch.setattr(registry, "get", lambda kind, name: odd if name == toy else get(kind, name))
    for command in (["list"], ["show", toy], ["run", toy, "--preset", "smoke", "--seeds", "1", "--jobs", "1"]):
        assert cli.run(command) == 0
    assert "[/x] learns [red]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": "2"}, "seeds = '2': expected"),
        ({"seeds": 30_000_000}, "seeds = 30000000: expected 1 to 100000"),
        ({"jobs": 1.5}, "jobs = 1.5: expected an int"),
        ({"checkpoint_seconds": None}, "checkpoint_seconds = None: expected"),
        ({"runs": 5}, "runs = 5: expected the path of a folder"),
    ],
)
def test_wrong_arguments_of_run_are_named(toy, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        engram.run(toy, preset="smoke", progress=False, **options)


def test_no_more_workers_are_announced_than_there_are_trials(toy, capsys):
    assert cli.run(["run", "toy", "--preset", "smoke", "--seeds", "1", "--arms", "plain", "--jobs", "10"]) == 0
    assert "with 1 at once" in capsys.readouterr().err


@pytest.mark.parametrize(("step_seconds", "workers"), [(0.0, 1), (1.0, 2), (100.0, 4)])
def test_workers_are_started_where_they_are_worth_it(toy, tmp_path, monkeypatch, step_seconds, workers):
    monkeypatch.setattr(plan, "cores", lambda: 4)
    experiment = registry.get("experiments", toy)
    todo = trials(experiment, experiment.arms("smoke"), seeds=1)
    timed = [dataclasses.replace(trial, time=Time(6 * step_seconds)) for trial in todo]
    jobs = [prepare(trial, tmp_path, tmp_path / "stop") for trial in timed]
    assert plan.workers_for(experiment, RunOptions(preset="smoke"), jobs) == workers


@pytest.mark.parametrize("closed", [pytest.param(">&-", marks=pytest.mark.soak), "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(closed, tmp_path):
    program = f"{sys.executable} -m engram data list {closed}"
    done = subprocess.run(program, check=False, shell=True, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_goes_on_if_nobody_reads_its_progress(toy, tmp_path, monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        results = engram.run(toy, preset="smoke", seeds=1, jobs=1, arms=["plain"], runs=tmp_path)
        assert results.trials[0].state == "finished"


def test_what_a_command_starts_has_streams_too_where_they_were_closed():
    starts = "import os; os.system('echo heard')"
    program = f"import sys; from engram.cli.output import open_streams; open_streams(); {starts}; sys.stdin.read()"
    command = f'{sys.executable} -c "{program}" >&- <&-'
    done = subprocess.run(command, check=False, shell=True, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
