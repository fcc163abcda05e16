from __future__ import annotations

import multiprocessing
import os
from importlib.metadata import entry_points
from multiprocessing.forkserver import ensure_running
from pathlib import Path

import pytest
from browser import check_report, find_browser, open_browser

import engram
from engram import registry
from engram.testing import check_experiment

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
# Of which a trial is also killed, and goes on, and whose report is opened in a browser; all are in ``make soak``. They
# differ in what a loop is given.
KILLED = ("evolved-plastic-networks", "noodl", "pattern-completion")


@pytest.fixture(scope="module")
def page():
    if find_browser() is None and "CI" not in os.environ:
        yield None
        return
    with open_browser() as page:  # for all reports
        yield page


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where reports are opened one after another: a browser keeps scripts compiled by their address."""
    return tmp_path_factory.mktemp("reports") / "report.html"


@pytest.fixture(scope="module", autouse=True)
def _imported_once():
    """Let one server import what most killed trials need, and what optimisers import when made, and fork them all."""
    modules = {entry.module for entry in entry_points(group="engram.experiments") if entry.name in KILLED}
    preloaded = ["torch._dynamo", "engram.lab.engine.check", *sorted(modules)]
    multiprocessing.get_context("forkserver").set_forkserver_preload(preloaded)
    ensure_running()


@pytest.mark.parametrize("name", registry.names("experiments"))
def test_experiment(name, tmp_path, page, address, effort):
    is_whole = name in KILLED or effort > 1
    report = check_experiment(name, tmp_path, killed=is_whole)
    if not is_whole:
        return
    if page is None:
        pytest.skip("no Chromium or Chrome here to open the report in")
    picture = ARTIFACTS / f"report-{name}.png" if effort > 1 else None
    check_report(report.replace(address), picture, page)


@pytest.mark.parametrize("name", registry.names("experiments"))
def test_a_study_uses_a_gpu_if_a_trial_of_its_experiment_asks_where_to_compute(name):
    experiment = registry.get("experiments", name)
    home = Path(engram.__file__).parent / "studies" / "experiments" / name.replace("-", "_")
    files = [*home.rglob("*.py")] if home.is_dir() else [home.with_suffix(".py")]
    asks = any("run.device" in file.read_text(encoding="utf-8") for file in files)
    assert any(study.gpu for study in experiment.by_name.values()) == asks
