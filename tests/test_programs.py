"""The programs in README and guides run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from textwrap import dedent

import pytest

from engram import cli, registry
from engram.testing import check_experiment
from engram.testing.promises import no_global_draws

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "docs/index.md",
    "docs/compare.md",
    "docs/composition.md",
    "docs/continual.md",
    "docs/difficulty.md",
    "docs/evolution.md",
    "docs/getting-started.md",
    "docs/inner-loop.md",
    "docs/learning-rules.md",
    "docs/map-induction.md",
    "docs/memory.md",
    "docs/meta-tasks.md",
    "docs/method.md",
    "docs/plasticity.md",
    "docs/preconditioning.md",
    "docs/recipes.md",
    "docs/recordings.md",
    "docs/same-solution.md",
    "docs/sequence-design.md",
    "docs/judge.md",
    "docs/transitions.md",
    "docs/verification.md",
    "docs/which-rule.md",
]
RECIPES = ("datasets", "huggingface_hub", "lightning", "mlflow", "stable_baselines3", "wandb")
THEIRS = pytest.mark.filterwarnings("default")  # a warning of another library's own is not ours to mend
# What seeds the global generators, so that it may draw from them.
SEEDS = ("manual_seed(", "seed_everything(", "PPO(", "DQN(", "check_continual_method(")
MARKS = {"docs/recipes.md": THEIRS}
# Programs of several seconds, each with words that it alone has; they run in ``make soak``.
LONG = (
    "multiprocessing.spawn", "lightning.Fabric", "mlflow", "wandb", "signed_error.py", "choices.csv",
    "absolute_ewc.py", "busy.py", "torch.optim:RAdam", "crowded.py", "deep_q.py", "timescale.py", "unusual.py",
    "gradient_cosine", "import D3G",
)  # fmt: skip
# Their blocks are cells of one notebook; those of other pages stand alone.
NOTEBOOKS = re.findall(
    r"[\w-]+\.md", (ROOT / "docs" / "notebooks.py").read_text().partition("GUIDES =")[2].partition(")")[0]
)


def programs(page: str) -> list[str]:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    blocks = [dedent(block) for block in blocks]  # those of tabs stand in
    return ["\n".join(blocks)] if Path(page).name in NOTEBOOKS else blocks


def marks(page: str, program: str) -> list[pytest.MarkDecorator]:
    of_page = [MARKS[page]] if page in MARKS else []
    return of_page + [pytest.mark.soak] * any(words in program for words in LONG)


PROGRAMS = [
    pytest.param(program, id=f"{page}-{number}", marks=marks(page, program))
    for page in PAGES
    for number, program in enumerate(programs(page))
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "__main__" in program:  # whose processes import it
        if "import lightning" in program:
            pytest.importorskip("lightning")
        (tmp_path / "program.py").write_text(program)
        done = subprocess.run([sys.executable, "program.py"], capture_output=True, text=True, check=False)
        assert "True" in done.stdout, done.stderr
        return
    seeded = nullcontext() if any(seed in program for seed in SEEDS) else no_global_draws()
    try:
        with seeded:
            exec(compile(program, "program", "exec", dont_inherit=True), {})
    except ModuleNotFoundError as missing:
        if missing.name not in RECIPES:
            raise
        pytest.skip(f"{missing.name} is not installed; the extra `recipes` has it")
    out = capsys.readouterr().out
    assert out
    if "of the bits are wrong" in out:  # and its network learns
        wrong = [float(value) for value in re.findall(r": ([\d.]+) of the bits", out)]
        assert wrong[0] > 0.4
        assert wrong[-1] < 0.2


def test_the_first_experiment_is_a_package_that_does_what_its_page_says(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "first-experiment.md").read_text()
    for name, content in re.findall(r'```\w+ title="(.*?)"\n(.*?)```', page, flags=re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    site = tmp_path / "site"
    install = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", *install, str(tmp_path / "my-questions")], check=True)
    lines = re.findall(r"^\$ engram (.*)$", page, flags=re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("COLUMNS", "160")
    said = {}
    for line in lines:
        code = cli.run([*line.split(), *["--jobs", "1"] * line.startswith(("run", "sweep"))])
        said[line], errors = capsys.readouterr()
        assert code == 0, f"{line}: {errors}"
    assert said["run digits-feedback"].count(" holds ") == 2
    assert len(said) == 5
    check_experiment("digits-feedback", killed=False)  # a kill takes seconds, and the contracts have it
    sys.modules.pop("my_questions")


def test_the_presets_of_the_first_page_are_those_that_experiments_have():
    page = (ROOT / "docs" / "getting-started.md").read_text()
    table = page.partition("| Preset | Size |")[2].partition("\n\n")[0]
    presets = registry.get("experiments", "pattern-completion").presets
    assert re.findall(r"^\| `(.*?)` \|", table, flags=re.MULTILINE) == list(presets)
