"""The README's programs run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_program(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert out
    if "of the bits are wrong" in out:  # and its network learns
        wrong = [float(value) for value in re.findall(r": ([\d.]+) of the bits", out)]
        assert wrong[0] > 0.4
        assert wrong[-1] < 0.2
