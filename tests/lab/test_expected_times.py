from __future__ import annotations

import importlib
import json
import math
import re
import sys

import engram

TIMED = '''
"""An experiment whose time is that of its steps."""
from engram.lab import Experiment, Preset, Run, Study, setting, settings


@settings
class Config:
    steps: int = setting(4, "steps", ge=0, scales=True)


def trial(config: Config, run: Run):
    return {}


experiment = Experiment(
    name="timed",
    about=__doc__,
    paper="none",
    figure=None,
    studies=Study(trial, {"known": {}, "none": {}, "new": {}}),
    presets={size: Preset(seeds=1) for size in ("smoke", "laptop")},
    claims=[],
)
'''


def test_a_recorded_time_is_scaled_and_one_of_scale_0_tells_nothing(tmp_path, monkeypatch):
    package = tmp_path / "timed_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "timed.py").write_text(TIMED)
    (package / "seconds.json").write_text(json.dumps({"timed": {"known": [3.0, 2.0], "none": [3.0, 0.0]}}))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("timed_package", "timed_package.timed"):  # so that they are gone afterwards
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]
    arms = importlib.import_module("timed_package.timed").experiment.arms("smoke")
    assert arms["known"].seconds == 6.0
    assert math.isnan(arms["none"].seconds)
    assert math.isnan(arms["new"].seconds)


def test_a_run_says_that_kernels_may_be_compiled_until_some_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))

    def expected(seeds: int) -> str:
        options = {"preset": "smoke", "arms": ["plastic"], "jobs": 1, "runs": tmp_path / "runs"}
        engram.run("pattern-completion", seeds=seeds, **options)
        return re.sub(r"\s+", " ", capsys.readouterr().err)

    begin = "and up to a minute more if kernels have to be compiled,"
    assert begin in expected(1)
    (tmp_path / "cache" / "rnn_0").mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache" / "rnn_0" / f"cpu.backward-1.py{sys.version_info.major}{sys.version_info.minor}.nbi").touch()
    assert begin not in expected(2)
