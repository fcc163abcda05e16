"""The programs in README and guides run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "docs/difficulty.md",
    "docs/getting-started.md",
    "docs/memory.md",
    "docs/meta-tasks.md",
    "docs/plasticity.md",
    "docs/same-solution.md",
    "docs/verification.md",
]
PROGRAMS = [
    pytest.param(program, id=f"{page}-{number}")
    for page in PAGES
    for number, program in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL))
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "program", "exec"), {})
    out = capsys.readouterr().out
    assert out
    if "of the bits are wrong" in out:  # and its network learns
        wrong = [float(value) for value in re.findall(r": ([\d.]+) of the bits", out)]
        assert wrong[0] > 0.4
        assert wrong[-1] < 0.2
