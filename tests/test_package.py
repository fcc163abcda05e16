"""The package as its users get it."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import engram
from engram import cli, extras
from engram.distribution import other_engram

ROOT = Path(__file__).parents[1]
CPU_WHEEL = "--extra-index-url https://download.pytorch.org/whl/cpu"


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


def test_run_from_python():
    results = engram.run("pattern-completion", preset="smoke", seeds=1, arms=["plastic"], jobs=1, progress=False)
    assert [(trial.arm, trial.seed, trial.state) for trial in results.trials] == [("plastic", 0, "finished")]
    assert results.metrics.columns == ["arm", "seed", "step", "metric", "value"]
    assert {judged.verdict for judged in results.claims()} == {"not testable here"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "huge"}, "preset = 'huge': expected one of 'smoke', 'demo', 'laptop', 'large', 'published'"),
        ({"engine": "dask"}, "engine = 'dask': expected one of 'loky', 'ray'"),
        ({"device": "tpu"}, "device = 'tpu': expected 'auto', 'cpu', 'cuda', or one GPU, as in 'cuda:1'"),
        ({"seeds": [0, 1]}, "seeds = [0, 1]: expected the number of seeds, an int, and not the seeds"),
        ({"arms": "plastic"}, "arms = 'plastic': expected a list of names"),
        ({"plastic-long": {"bits": 7}}, "plastic-long.bits = 7: expected an even number"),
        ({"plastic-long.episodes": 0}, "plastic-long.episodes = 0: expected int >= 10"),
        ({"episodes": 10.5}, "episodes = 10.5: expected int >= 10"),
        ({"bits": 11}, "bits = 11: expected an even number"),
        ({"bits": 12}, "hidden_size = 11: expected at least 13, with bits = 12"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        engram.run("pattern-completion", **{"preset": "smoke", "jobs": 2, "progress": False, **options})
    assert message in str(caught.value)


def needed_by(*requirements: str, extra: str = "") -> dict[str, metadata.Distribution]:
    """Return the installed packages that some requirements ask for, and those that they ask for, by name."""
    packages: dict[str, metadata.Distribution] = {}
    pending = list(requirements)
    while pending:
        requirement = Requirement(pending.pop())
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if wanted and canonicalize_name(requirement.name) not in packages:
            packages[canonicalize_name(requirement.name)] = package = metadata.distribution(requirement.name)
            pending += package.requires or []
    return packages


ONLY = """
import sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
allowed, owners = set({allowed!r}), packages_distributions()

class Only(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        own = [owner.lower().replace("_", "-").replace(".", "-") for owner in owners.get(name, ())]
        return super().find_spec(name, path, target) if not own or allowed & set(own) else None

sys.meta_path[:] = [Only if finder is PathFinder else finder for finder in sys.meta_path]
"""


def only_with(packages: dict[str, metadata.Distribution], code: str) -> subprocess.CompletedProcess[str]:
    """Run code where engram and these packages are installed, and no others."""
    blocked = ONLY.format(allowed=sorted([*packages, "engram-torch"]))
    return subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True, check=False)


def test_a_plastic_network_needs_little_beside_torch():
    code = """
import torch
from engram.plasticity import Oja, PlasticLSTM, PlasticRNN
for kind in (PlasticRNN, PlasticLSTM):
    net = kind(3, 4, generator=torch.Generator().manual_seed(0))
    output, state = net(torch.ones(5, 2, 3))
    output.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
assert not {"sklearn", "scipy", "gymnasium", "pydantic", "polars", "plotly"} & set(sys.modules)
"""
    done = only_with(needed_by("torch", "numpy", "numba", "jaxtyping", "beartype"), code)
    assert done.returncode == 0, done.stderr


PACKAGES = [
    "agents",
    "continual",
    "learned",
    "memory",
    "meta",
    "nn",
    "optim",
    "plasticity",
    "rules",
    "spatial",
    "tasks",
]


LEARNERS = ["continual.EWC", "agents.D3G", "agents.MFEC", "agents.PPO", "rules.Backprop", "memory.DenseHopfield"]
COMPILER = "torch._dynamo"
# What must not be loaded after each line of a program, which has run all lines above it too.
LIGHT = {
    tuple("from engram.{} import {}".format(*learner.split(".")) for learner in LEARNERS): {
        "numba", "scipy", "sklearn", COMPILER,
    },
    tuple(f"import engram.{package}" for package in PACKAGES): {"sklearn", "scipy.stats", "pandas", COMPILER},
    ("import engram.analysis",): {"triton", "torch.utils.flop_counter", COMPILER},
}  # fmt: skip
IMPORTS = """
import pkgutil, sys, torch, engram
torch.cuda.is_available = torch.cuda.device_count = None  # a process that asked for a GPU has no fork that can use it
names = engram.experiments()
for lines, unwanted in {light!r}.items():
    for line in lines:
        exec(line)
        assert not unwanted & set(sys.modules), (line, unwanted & set(sys.modules))
from engram.studies.experiments.pattern_completion import experiment
assert experiment.name in names == engram.experiments()
for module in pkgutil.walk_packages(engram.__path__, "engram."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
"""


def test_imports_are_light_ask_for_no_gpu_and_do_not_change_the_list_of_experiments():
    program = IMPORTS.format(light=LIGHT)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "package", ["continual", "learned.blur", "memory", "plasticity", "rules", "rules.hebbian_conv"]
)
def test_what_a_package_loads_late_is_there(package):
    module = importlib.import_module(f"engram.{package}")
    assert dir(module) == sorted(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'plastisity'"):
        _ = module.plastisity


BEHIND_THE_COMMANDS = {"cli", "storage", "studies"}


def test_every_package_of_the_library_is_an_attribute():
    packages = {module.name for module in pkgutil.iter_modules(engram.__path__) if module.ispkg} - BEHIND_THE_COMMANDS
    assert packages <= set(engram.__all__)
    for name in packages:
        assert getattr(engram, name).__name__ == f"engram.{name}"


PARTS = "agents analysis continual generative learned memory meta nn numeric optim plasticity registry rules spatial"
PARTS += " storage tasks tasks.data tasks.meta verify"


@pytest.mark.soak
def test_every_part_can_be_had_without_the_laboratory(tmp_path):
    code = "".join(f"import engram.{part}\n" for part in PARTS.split())
    code += "from engram.memory import NOODL; import gymnasium; gymnasium.make('engram/Bandit-v0').reset(seed=0)\n"
    code += "from engram.analysis import DSA; engram.tasks.data.verify('mnist')"
    done = only_with(needed_by(*metadata.requires("engram-torch")), code)
    assert done.returncode == 0, done.stderr


NEEDS_THE_LABORATORY = {
    "import engram; engram.run('cue-reward')": "engram.lab needs ",
    "import engram.lab": "engram.lab needs ",
    "from engram.__main__ import main; sys.argv[1:] = ['list']; main()": "error: The command engram needs ",
    "from engram.tasks import data; data.load('cifar10-jpeg')": "The data set cifar10-jpeg needs polars",
}
EACH_MESSAGE = """
sys.stderr = sys.stdout
for code in {codes!r}:
    try:
        exec(code)
    except ImportError as error:
        print(error)
    except SystemExit as end:
        assert end.code == 2
"""


@pytest.mark.soak
def test_what_needs_the_laboratory_says_how_it_is_installed():
    needed = needed_by(*metadata.requires("engram-torch"))
    done = only_with(needed, EACH_MESSAGE.format(codes=list(NEEDS_THE_LABORATORY)))
    for message, what in zip(done.stdout.splitlines(), NEEDS_THE_LABORATORY.values(), strict=True):
        assert what in message
        assert re.search(r", which is not installed: .*pip install .*\[lab\]'$", message)
    assert done.returncode == 0, done.stderr


def test_the_hint_names_where_engram_was_installed_from(monkeypatch):
    def installed(url: str | None, **about: object) -> str:
        text = json.dumps({"url": url, **about}) if url else None
        # Another library may have put its own finder of distributions in place.
        monkeypatch.setattr(type(metadata.distribution("engram-torch")), "read_text", lambda self, name: text)
        extras.install.cache_clear()
        return extras.install("rl")

    assert installed(None).endswith("pip install 'engram-torch[rl]'")
    assert installed("file:///a%20b/c", dir_info={"editable": True}).endswith("pip install --editable '/a b/c[rl]'")
    assert installed("file:///c", dir_info={}).endswith("pip install '/c[rl]'")
    assert installed("https://x/e.whl", archive_info={}).endswith("pip install 'engram-torch[rl] @ https://x/e.whl'")
    vcs = {"vcs": "git", "commit_id": "1f2e"}
    assert installed("https://x/e.git", vcs_info=vcs).endswith("'engram-torch[rl] @ git+https://x/e.git@1f2e'")
    extras.install.cache_clear()


def test_a_part_is_named_by_a_string():
    with pytest.raises(TypeError, match="name = 3: expected the name of a part"):
        engram.registry.get("tasks", 3)


@pytest.fixture
def both(tmp_path):
    """A folder of installed packages where the project that has the name engram on the package index came first."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "engram").symlink_to(ROOT / "src" / "engram")
    info = site / "engram-0.1.0a1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: engram\nVersion: 0.1.0a1\n")
    return site


def test_the_first_import_names_the_other_project_of_this_name(both):
    command = [sys.executable, "-c", "import engram; import engram.version"]
    environment = {**os.environ, "PYTHONPATH": str(both)}
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stderr
    assert said.count("engram 0.1.0a1 is another project") == 1
    assert "pip uninstall engram engram-torch, then install engram-torch again" in said
    assert other_engram(str(both)) == "engram 0.1.0a1"
    (both / "engram-0.1.0a1.dist-info").rename(both / "engram_torch-0.1.0.dist-info")
    assert other_engram(str(both)) == ""
    assert not subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stderr


def test_the_doctor_names_the_other_project_of_this_name(both, monkeypatch, capsys):
    assert cli.run(["doctor"]) == 0
    assert "conflict" not in capsys.readouterr().out
    monkeypatch.syspath_prepend(both)
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.run(["doctor"]) == 0
    assert re.search(r"conflict +engram 0.1.0a1 is another project", capsys.readouterr().out)


def test_no_page_names_the_package_of_others():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("src/**/*.py"), ROOT / "pyproject.toml"]
    for page in pages:
        assert not re.search(r"(pip install '?|[`\"' ])engram(\[[a-z,]+\]|-0\.)", page.read_text()), page


@pytest.mark.soak
@pytest.mark.parametrize("download", [False, True])
def test_the_wheel_works_in_a_fresh_environment(tmp_path, download):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("engram_torch-*.whl")
    venv.create(tmp_path / "venv")
    binaries = tmp_path / "venv" / "bin"
    install = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install", "--quiet", f"{wheel}[lab]"]
    if download:
        install += ["--constraint", str(ROOT / "constraints.txt")]
    else:  # the packages that it needs, and no others, are those that are installed here
        install += ["--no-deps", "--no-index"]
        (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
        for package in needed_by(*metadata.requires("engram-torch"), extra="lab").values():
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
    recorded = command("report", "pattern-completion", "--recorded", "--out", "recorded.html")
    assert 'class="claim"' in (tmp_path / recorded.removeprefix("report: ").strip()).read_text()


def test_what_is_tested_and_listed_is_what_is_published():
    def commands(*targets: str) -> str:
        make = ["make", "--dry-run", "--old-file", ".venv/built", *targets]
        return subprocess.run(make, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert "-m build" in commands("dist")
    built = subprocess.run(
        ["make", "--dry-run", "--always-make", ".venv/built"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "-m build" in built.stdout
    assert "--editable" not in built.stdout, "what builds a wheel does not need what it brings along"
    tested = commands("installs", "sbom")
    assert "tests/installs.py dist/*.whl dist/*.tar.gz" in tested
    assert "-m build" not in tested


def test_a_clone_is_installed_in_one_way():
    recipe = (ROOT / "Makefile").read_text()
    command = f"pip install {CPU_WHEEL} --constraint constraints.txt --editable '.[lab]'"
    _, said = next(line for line in recipe.splitlines() if line.startswith("PIP :=")).split("-m ")
    said = f"{said} --editable '.[lab]'".replace("--quiet --disable-pip-version-check", CPU_WHEEL)
    assert said == command
    assert CPU_WHEEL.partition(" ")[2] in recipe, "before the rest, so that no other PyTorch comes down"
    assert "$(PIP) --editable '.[lab]'" in recipe
    for page in ("README.md", "docs/getting-started.md"):
        text = (ROOT / page).read_text()
        file = f"'dist/engram_torch-{engram.__version__}-py3-none-any.whl[lab]'"
        ways = {f"pip install {CPU_WHEEL} {file}", f"uv pip install --torch-backend=cpu {file}"}
        ways |= {command} if page != "README.md" else set()
        installed = re.findall(r"^\$ ((?:uv )?pip install .*?)(?: +#.*)?$", text, flags=re.MULTILINE)
        assert set(installed) == ways


def test_every_paper_of_an_experiment_is_cited():
    cited = (ROOT / "CITATION.cff").read_text()
    for name in engram.experiments():
        for paper in engram.registry.get("experiments", name).paper.split("; "):
            numbers = re.findall(r"arXiv (\d+\.\d+)", paper)
            assert all(f"arXiv:{number}" in cited for number in numbers), paper
            titles = re.findall(r'title: "(.+)"', cited)
            assert numbers or "No paper" in paper or "difficulty of" in paper or any(t in paper for t in titles), paper
