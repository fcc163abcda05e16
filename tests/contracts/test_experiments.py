from __future__ import annotations

import os
from pathlib import Path

import pytest

from engram import registry
from engram.testing import check_experiment, check_report, find_browser, open_browser

ARTIFACTS = Path(__file__).parents[2] / "artifacts"


@pytest.fixture(scope="module")
def browser():
    if find_browser() is None and "CI" not in os.environ:
        yield None
        return
    with open_browser() as one:  # for all reports
        yield one


@pytest.mark.parametrize("name", registry.names("experiments"))
def test_experiment(name, tmp_path, browser):
    report = check_experiment(name, tmp_path)
    if browser is None:
        pytest.skip("no Chromium or Chrome here to open the report in")
    check_report(report, ARTIFACTS / f"report-{name}.png", browser)
