"""Trials as tasks of a Ray cluster, whose nodes are processes of this machine; their GPUs are pretended."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import engram
from engram.lab.output.results import Results

pytestmark = pytest.mark.soak
THIRD_PARTY = Path(__file__).parents[1] / "third_party"
GPUS = {"TOY_PRETENDS_GPUS": "2", "CUDA_VISIBLE_DEVICES": "0,1"}


@pytest.fixture(scope="module")
def other_torch(tmp_path_factory) -> Path:
    """A folder that makes a Python believe that it has another version of PyTorch."""
    folder = tmp_path_factory.mktemp("torch")
    (folder / "torch-0.1.dist-info").mkdir()
    (folder / "torch-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")
    return folder


@pytest.fixture(scope="module")
def cluster(other_torch) -> Iterator[str]:
    """The address of a cluster: two nodes with two GPUs each, and one with two CPUs that has another PyTorch."""
    from ray.cluster_utils import Cluster

    path = f"{THIRD_PARTY}:{os.environ.get('PYTHONPATH', '')}"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for name in ("first", "second"):
        cluster.add_node(num_cpus=2, num_gpus=2, env_vars={"TOY_NODE": name, "PYTHONPATH": path, **GPUS})
    cluster.add_node(num_cpus=2, env_vars={"TOY_NODE": "other", "PYTHONPATH": f"{other_torch}:{path}"})
    yield cluster.address
    cluster.shutdown()


def run(address: str, runs: Path, **options: Any) -> Results:
    options = {"preset": "smoke", "misbehave": "tell", "arms": ["momentum"], "progress": False, **options}
    return engram.run("toy", engine="ray", address=address, runs=runs, **options)


def told(results: Results, name: str) -> list[Any]:
    assert {trial.state for trial in results.trials} == {"finished"}, [trial.message for trial in results.trials]
    return [trial.result[name] for trial in results.trials]


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_driver_without_a_gpu_places_trials_where_the_gpus_are(toy, cluster, tmp_path, share, capsys):
    results = run(cluster, tmp_path, seeds=8, step_seconds=0.2, gpus_per_trial=share, progress=True)
    assert set(told(results, "device")) == {"cuda"}
    assert set(told(results, "visible")) == ({"0", "1"} if share == 1 else {"0"})  # Ray fills one before the next
    assert set(told(results, "node")) == {"first", "second"}
    assert "with 4 at once" in capsys.readouterr().err  # each takes a core, of which there are four beside GPUs


def test_a_trial_that_asks_for_several_gpus_sees_them(toy, cluster, tmp_path):
    results = run(cluster, tmp_path, seeds=2, gpus_per_trial=2.0)
    assert {frozenset(shown.split(",")) for shown in told(results, "visible")} == {frozenset("01")}


def test_what_no_node_has_is_refused_before_anything_starts(toy, cluster, tmp_path):
    with pytest.raises(ValueError, match=r"toy: each trial needs num_cpus = 1, num_gpus = 3: no node of the cluster"):
        run(cluster, tmp_path, gpus_per_trial=3.0)


def test_a_trial_without_a_gpu_sees_none_and_a_node_with_another_package_is_refused(toy, cluster, tmp_path):
    results = run(cluster, tmp_path, seeds=12, step_seconds=0.1, device="cpu", jobs=12)  # more than there are CPUs
    by_state = Counter(trial.state for trial in results.trials)
    assert set(by_state) == {"finished", "failed"}, by_state
    for trial in results.trials:
        if trial.state == "finished":
            assert (trial.result["device"], trial.result["visible"]) == ("cpu", "")
            assert trial.result["node"] in ("first", "second")
        else:
            assert "torch is 0.1 on " in trial.message


def test_one_trial_at_once_of_an_experiment_in_a_file_runs_on_a_worker(cluster, tmp_path):
    file = tmp_path / "my_questions.py"
    file.write_text((THIRD_PARTY / "toy_experiments.py").read_text())
    results = engram.run(
        f"{file}:experiment",
        engine="ray",
        address=cluster,
        jobs=1,
        seeds=1,
        device="cuda",
        arms=["momentum"],
        misbehave="tell",
        preset="smoke",
        runs=tmp_path,
        progress=False,
    )
    assert set(told(results, "node")) <= {"first", "second"}
    assert os.getpid() not in told(results, "process")
