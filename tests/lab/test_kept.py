"""What finished trials keep of what they trained, and how it comes back."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import engram
from engram.lab import CorruptFileError, Experiment, Preset, Results, Run, Study, TrialResult, setting, settings
from engram.lab.output.export import export
from engram.lab.output.record_files import as_record, from_record


@settings
class Config:
    """A network and its readout."""

    units: int = setting(3, "of the network", ge=1)


def build(config: Config) -> tuple[nn.Linear, nn.Linear]:
    return nn.Linear(2, config.units), nn.Linear(config.units, 1)


def trial(config: Config, run: Run) -> dict[str, float]:
    net, readout = build(config)
    run.keep(net=net, readout=readout, generator=run.generator)
    torch.rand((), generator=run.generator)
    with torch.no_grad():
        for step in run.steps(3, net=net, readout=readout):
            net.weight += 1
            readout.weight -= 1
            run.log(step, size=net.weight.norm())
    following = torch.Generator()
    following.set_state(run.generator.get_state())
    return {"size": float(net.weight.detach().norm()), "next": float(torch.rand((), generator=following))}


presets = {name: Preset(seeds=1) for name in ("smoke", "laptop")}
two = Experiment("two", "Networks.", "None", Study(trial, {"a": {}}), presets, (), lambda results: go.Figure())


def toy_results(**options: object) -> Results:
    return engram.run("toy", **{"preset": "smoke", "seeds": 1, "jobs": 1, "progress": False, **options})


def toy_network(size: int = 3) -> nn.Module:
    return nn.Sequential(nn.Dropout(0.2), nn.Linear(size, 1))


@pytest.fixture
def finished(toy) -> TrialResult:
    toy_results()
    return engram.load(toy).trials[0]


def test_a_network_comes_back_as_it_was(finished):
    net = finished.load(toy_network())
    tensors = finished.state_dict()
    assert set(tensors) == {"net.1.weight", "net.1.bias"}
    for name, value in net.state_dict().items():
        assert torch.equal(value, tensors[f"net.{name}"])
    net(torch.ones(64, 3)).sum().backward()  # it can be trained on
    assert net[1].weight.grad.any()


def test_what_is_kept_is_a_plain_safetensors_file(finished):
    tensors = load_file(Path(finished.folder) / "state.safetensors")
    nn.Linear(3, 1).load_state_dict({"weight": tensors["net.1.weight"], "bias": tensors["net.1.bias"]})


def test_several_parts_are_kept_by_name_as_they_are_in_the_end(tmp_path):
    results = engram.run(two, preset="smoke", jobs=1, runs=tmp_path, progress=False)
    (trial,), config = results.trials, results.configs["a"]
    net, readout = build(config)
    assert float(trial.load(net, "net").weight.detach().norm()) == trial.result["size"]
    assert torch.equal(trial.load(readout, "readout").weight, trial.state_dict()["readout.weight"])
    assert float(torch.rand((), generator=trial.load(torch.Generator(), "generator"))) == trial.result["next"]
    with pytest.raises(ValueError, match=re.escape("a, seed 0 saved net, readout, generator: name one of them")):
        trial.load(net)
    with pytest.raises(ValueError, match="name = 'nets': expected one of 'net', 'readout', 'generator'"):
        trial.load(net, "nets")
    with pytest.raises(ValueError, match="a, seed 0: the state that it saved as 'net' does not fit: "):
        trial.load(readout, "net")


def test_nothing_is_kept_where_it_is_not_wanted(toy, capsys):
    from engram import cli

    assert cli.run(["run", "toy", "--preset", "smoke", "--seeds", "1", "--jobs", "1", "--no-keep-state"]) == 0
    assert "keep" not in capsys.readouterr().err
    (trial, _) = engram.load(toy).trials
    assert not (Path(trial.folder) / "state.safetensors").exists()
    with pytest.raises(ValueError, match=f"run without keeping its state: remove {trial.folder} and run it again"):
        trial.state_dict()
    shutil.rmtree(trial.folder)
    assert toy_results().trials[0].state_dict()


def test_how_much_is_kept_is_said(toy, capsys):
    toy_results(arms=["plain"], progress=True)
    first = capsys.readouterr().err
    assert "saves the trained networks (each trial prints its size; --no-keep-state: none)" in first
    size = int(first.partition("s, saves ")[2].split()[0])
    engram.run("toy", preset="smoke", jobs=1)
    assert f"(at least {size} bytes, each trial prints its size; " in capsys.readouterr().err
    engram.run("toy", preset="smoke", seeds=3, jobs=1)
    assert f"({2 * size} bytes; " in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-5], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: None],
    ids=["cut", "altered", "removed"],
)
def test_a_damaged_state_is_named_and_costs_no_result(finished, damage):
    path = Path(finished.folder) / "state.safetensors"
    content = damage(path.read_bytes())
    path.unlink() if content is None else path.write_bytes(content)
    assert engram.load("toy").trials[0].state == "finished"
    for get in (lambda: finished.load(toy_network()), finished.state_dict):
        with pytest.raises(CorruptFileError, match=r"state\.safetensors is corrupt"):
            get()


def test_what_has_no_state_says_so(toy, finished):
    experiment = engram.registry.get("experiments", toy)
    recorded = from_record(experiment, *as_record(experiment, engram.load(toy))).trials[0]
    broken = toy_results(misbehave="raise").trials[0]
    for stateless, message in ((recorded, "is read from a record"), (broken, "holds no finished trial")):
        with pytest.raises(ValueError, match=message):
            stateless.load(toy_network())
    assert not (Path(broken.folder) / "state.safetensors").exists()


def test_a_tracker_is_handed_every_metric_of_a_trial_in_the_order_of_steps(toy):
    results = toy_results()
    (trial, *_), logged = results.trials, []
    results.replay(trial, lambda name, value, step: logged.append((trial.arm, trial.seed, step, name, value)))
    own = results.metrics.filter((results.metrics["arm"] == trial.arm) & (results.metrics["seed"] == trial.seed))
    assert sorted(logged) == sorted(own.rows())
    assert logged
    steps = [row[2] for row in logged]
    assert steps == sorted(steps)
    with pytest.raises(ValueError, match="trial = elsewhere, seed 0: expected one of"):
        results.replay(TrialResult("elsewhere", 0, "finished", {}), print)


def test_what_cannot_load_a_state_says_so(finished):
    with pytest.raises(ValueError, match="the state that it saved as 'net' does not fit: 'object' object has no"):
        finished.load(object())


def test_results_named_like_columns_of_the_table_are_told_apart_when_exported(toy, tmp_path):
    results = toy_results()
    first = replace(results.trials[0], result={"seed": 7, "state": "odd", "loss": 0.5})
    export(engram.registry.get("experiments", toy), replace(results, trials=[first]), tmp_path)
    (row,) = pl.read_csv(tmp_path / "results.csv").to_dicts()
    assert (row["seed"], row["state"], row["loss"]) == (0, "finished", 0.5)
    assert (row["result.seed"], row["result.state"]) == (7, "odd")


def test_numbers_that_are_not_finite_are_told_apart_when_exported(toy, tmp_path):
    results = toy_results()
    first = replace(results.trials[0], result={"losses": [0.5, math.inf, math.nan], "best": {"loss": -math.inf}})
    export(engram.registry.get("experiments", toy), replace(results, trials=[first]), tmp_path)
    (row,) = pl.read_csv(tmp_path / "results.csv").to_dicts()
    assert json.loads(row["losses"]) == [0.5, "Infinity", "NaN"], "as a record has them"
    assert json.loads(row["best"]) == {"loss": "-Infinity"}
