"""What finished trials keep of what they trained, and how it comes back."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import engram
from engram.lab import Arm, CorruptFileError, Experiment, Preset, Results, Run, TrialResult
from engram.lab.folder import TrialFolder
from engram.lab.kept import state_of
from engram.lab.last_run import from_record


@dataclasses.dataclass(frozen=True)
class Config:
    """Networks, one after another."""

    networks: int = 2
    """How many."""
    units: int = 3
    """Of each."""


def trial(config: Config, run: Run) -> dict[str, float]:
    """Train networks and their readouts, each where the one before has led, and then measure."""
    width, measured = config.units, np.zeros(4)
    for _ in range(config.networks):
        net, readout = nn.Linear(2, width), nn.Linear(width, 1)
        optimizer = torch.optim.SGD([*net.parameters(), *readout.parameters()], lr=0.1)
        sizes = np.zeros(2, dtype=int)
        for step in run.steps(2, net=net, sizes=sizes, readout=readout, optimizer=optimizer):
            loss = readout(net(torch.ones(2))).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sizes[step] = width + 1
            run.log(step, loss=loss)
        width = int(sizes[-1])  # only the state of the loop tells
        assert len(run.metrics())
    for step in run.steps(4, measured=measured):
        measured[step] = width
    return {"width": float(measured[-1])}


def measure(config: Config, run: Run) -> dict[str, float]:
    """Train nothing."""
    found = np.zeros(2)
    for step in run.steps(2, found=found):
        found[step] = config.units
    return {"width": float(found[0])}


def arms(config: Config) -> dict[str, Arm]:
    return {"trained": Arm(trial, config, 1.0), "measured": Arm(measure, config, 1.0)}


presets = {name: Preset(Config(), seeds=1) for name in ("smoke", "laptop", "paper")}
several = Experiment("several", "Networks", "None", presets, arms, (), lambda results: go.Figure())


@pytest.fixture
def runs(tmp_path) -> Path:
    return tmp_path / "runs"


def toy_results(**options: object) -> Results:
    return engram.run("toy", **{"preset": "smoke", "seeds": 1, "jobs": 1, "progress": False, **options})


@pytest.fixture
def finished(toy) -> TrialResult:
    toy_results()
    return engram.load(toy).trials[0]


def test_a_network_comes_back_as_it_was(finished):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    net, kept = finished.network(), finished.state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert set(kept) == {"net.1.weight", "net.1.bias", "velocity", "total"}
    for name, value in net.state_dict().items():
        assert torch.equal(value, kept[f"net.{name}"])
    assert kept["velocity"].any()
    assert torch.equal(finished.network("velocity"), kept["velocity"])
    net(torch.ones(64, 3)).sum().backward()  # it can be trained on
    assert net[1].weight.grad.any()


def test_what_is_kept_is_a_plain_safetensors_file(finished):
    kept = load_file(Path(finished.folder) / "state.safetensors")
    net = nn.Linear(3, 1)
    net.load_state_dict({"weight": kept["net.1.weight"], "bias": kept["net.1.bias"]})


def test_results_are_json_as_before(finished):
    assert set(json.loads(json.dumps(finished.to_json()))) == {
        "arm", "seed", "state", "result", "seconds", "folder", "message",
    }  # fmt: skip


def test_networks_that_lead_to_one_another_all_come_back(runs):
    trained, measured = engram.run(several, preset="smoke", jobs=1, runs=runs, progress=False).trials
    kept = trained.state_dict()
    assert [trained.network(name).in_features for name in ("net", "readout", "net-2", "readout-2")] == [2, 3, 2, 4]
    assert torch.equal(trained.network("net-2").weight, kept["net-2.weight"])
    assert kept["sizes"].tolist() == [4, 4]
    assert not [name for name in kept if name.startswith(("optimizer", "measured"))]
    message = "several, trained, seed 0 kept net, readout, net-2, readout-2: name one of them, as in network('net')"
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        trained.network()
    with pytest.raises(ValueError, match="name = 'nets': expected one of 'net', 'sizes', 'readout', "):
        trained.network("nets")
    assert measured.state_dict() == {}
    assert not (Path(measured.folder) / "state.safetensors").exists()
    with pytest.raises(ValueError, match="several, measured, seed 0: its loops train nothing"):
        measured.network()


def test_an_object_of_two_loops_is_kept_once(tmp_path):
    run, net, count = Run(TrialFolder(tmp_path), 0), nn.Linear(1, 1), torch.zeros(1)
    schedule = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(net.parameters(), lr=0.1), 1)
    for _ in range(2):
        list(run.steps(1, net=net, schedule=schedule, own=run.generator))
    list(run.steps(1, net=count, model=net))
    assert list(state_of(run.given)) == ["net", "net-2"]


def test_nothing_is_kept_where_it_is_not_wanted(toy, capsys):
    from engram import cli

    assert cli.run(["run", "toy", "--preset", "smoke", "--seeds", "1", "--jobs", "1", "--no-keep-state"]) == 0
    assert "keep" not in capsys.readouterr().err
    (trial, _) = engram.load(toy).trials
    assert not (Path(trial.folder) / "state.safetensors").exists()
    for get in (trial.network, trial.state_dict):
        with pytest.raises(ValueError, match=f"run without keeping its state: remove {trial.folder} and run it again"):
            get()
    shutil.rmtree(trial.folder)
    assert toy_results().trials[0].network() is not None


def test_how_much_is_kept_is_said(toy, capsys):
    toy_results(arms=["plain"], progress=True)
    first = capsys.readouterr().err
    assert "keeps what they train (each says how much; --no-keep-state: nothing)" in first
    size = int(first.partition("s, keeps ")[2].split()[0])
    engram.run("toy", preset="smoke", jobs=1)
    assert f"(at least {size} bytes, each says how much; " in capsys.readouterr().err
    engram.run("toy", preset="smoke", seeds=3, jobs=1)
    assert f"({2 * size / 1000:.1f} kB; " in capsys.readouterr().err


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
    for get in (finished.network, finished.state_dict):
        with pytest.raises(CorruptFileError, match=r"state\.safetensors is corrupt"):
            get()


def test_changed_code_is_named_and_refused_where_it_builds_something_else(finished):
    import toy_experiments

    path = Path(finished.folder) / "trial.json"
    path.write_text(path.read_text().replace('"code": "', '"code": "of-yesterday-'))
    with pytest.warns(match="toy, momentum, seed 0: its code has changed since") as warned:
        assert torch.equal(finished.network("total"), finished.state_dict()["total"])
    assert Path(warned[0].filename) == Path(__file__)

    def trial_of(change):
        def changed(config: toy_experiments.Config, run: Run) -> dict[str, object]:
            return change(config, run)

        experiment = toy_experiments.experiment
        arms = {"momentum": Arm(changed, toy_experiments.Config(), 1.0)}
        found = dataclasses.replace(experiment, arms=lambda config: arms, claims=())
        return engram.load(found).trials[0]

    larger = trial_of(lambda config, run: toy_experiments.trial(dataclasses.replace(config, size=9), run))
    with pytest.warns(match="has changed"), pytest.raises(ValueError, match="cannot build what was kept: "):
        larger.network()
    broadcast = trial_of(lambda config, run: list(run.steps(1, velocity=torch.zeros(2, 4))))
    with pytest.warns(match="has changed"), pytest.raises(ValueError, match=r"velocity.* shape \(2, 4\), .* \(4,\)"):
        broadcast.network()
    with pytest.warns(match="has changed"), pytest.raises(ValueError, match="gives its loops no net, velocity"):
        trial_of(lambda config, run: {}).network()
    without = dataclasses.replace(toy_experiments.experiment, arms=lambda config: {}, claims=())
    with pytest.raises(ValueError, match="toy, momentum, seed 0: the experiment has no such arm any more"):
        engram.load(without).trials[0].network()


def test_what_has_no_state_says_so(toy, finished):
    record = json.loads(json.dumps(engram.load(toy).record()))
    recorded = from_record(engram.registry.get("experiments", toy), record).trials[0]
    broken = toy_results(misbehave="raise").trials[0]
    for one, message in ((recorded, "is read from a record"), (broken, "holds no finished trial")):
        for get in (one.network, one.state_dict):
            with pytest.raises(ValueError, match=message):
                get()
    assert not (Path(broken.folder) / "state.safetensors").exists()
