"""The package as its users get it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import engram

ROOT = Path(__file__).parents[1]


def test_importing_engram_loads_neither_torch_nor_any_part():
    code = (
        "import sys, engram; heavy = {'torch', 'numpy', 'polars', 'plotly'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    for name in engram.__all__:
        assert getattr(engram, name) is not None
    assert dir(engram) == sorted(engram.__all__)
    with pytest.raises(AttributeError, match="module 'engram' has no attribute 'plastisity'"):
        _ = engram.plastisity


def test_the_list_of_experiments_can_be_called_before_and_after_one_is_loaded():
    code = "import engram; a = engram.experiments(); import engram.experiments.pattern_completion as p; "
    code += "assert p.experiment.name in a == engram.experiments()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_run_from_python():
    results = engram.run("pattern-completion", preset="smoke", seeds=1, arms=["plastic"], jobs=1, progress=False)
    assert [(trial.arm, trial.seed, trial.state) for trial in results.trials] == [("plastic", 0, "finished")]
    assert results.metrics.columns == ["arm", "seed", "step", "metric", "value"]
    assert {judged.verdict for judged in results.claims()} == {"not testable here"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "huge"}, "preset = 'huge': expected one of 'smoke', 'laptop', 'paper'"),
        ({"engine": "dask"}, "engine = 'dask': expected one of 'loky', 'ray'"),
        ({"device": "tpu"}, "device = 'tpu': expected one of 'auto', 'cpu', 'cuda'"),
        ({"arms": "plastic"}, "arms = 'plastic': expected a list of names"),
        ({"long_bits": 7}, "long_bits = 7: expected an even number"),
        ({"long_episodes": 0}, "long_episodes = 0: expected int >= 10"),
        ({"episodes": 10.5}, "episodes = 10.5: expected int >= 10"),
        ({"bits": 11}, "bits = 11: expected an even number"),
        ({"bits": 12}, "hidden_size = 11: expected more than bits = 12"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError) as caught:
        engram.run("pattern-completion", **{"preset": "smoke", "jobs": 2, "progress": False, **options})
    assert message in str(caught.value)


def needed_by_engram() -> list[metadata.Distribution]:
    """Return the installed packages that engram asks for, without its extras, and those that they ask for."""
    found: dict[str, metadata.Distribution] = {}
    pending = metadata.requires("engram") or []
    while pending:
        requirement = Requirement(pending.pop())
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and canonicalize_name(requirement.name) not in found:
            found[canonicalize_name(requirement.name)] = package = metadata.distribution(requirement.name)
            pending += package.requires or []
    return list(found.values())


@pytest.mark.parametrize("download", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_the_wheel_works_in_a_fresh_environment(tmp_path, download):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("engram-*.whl")
    venv.create(tmp_path / "venv")
    binaries = tmp_path / "venv" / "bin"
    install = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install", "--quiet", str(wheel)]
    if download:
        install += ["--constraint", str(ROOT / "constraints.txt")]
    else:  # the packages that it needs, and no others, are those that are installed here
        install += ["--no-deps", "--no-index"]
        (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
        for package in needed_by_engram():
            for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
                (site / top).symlink_to(str(package.locate_file(top)))
    subprocess.run(install, check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [str(binaries / "engram"), *arguments],
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        return done.stdout

    listed = command("list")
    assert all(name in listed for name in engram.experiments())
    assert "cannot be loaded" not in listed
    # Nothing is compiled for this one, which would take longer than all the rest.
    content = json.loads(command("run", "property-verification", "--preset", "smoke", "--jobs", "1", "--json"))
    assert {trial["state"] for trial in content["trials"]} == {"finished"}
    assert Path(command("report").removeprefix("report: ").strip()).stat().st_size > 1_000_000
