"""Fixtures of the tests of the laboratory."""

from __future__ import annotations

import pytest

from engram.lab import loaded


@pytest.fixture
def files_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the test, the process forgets the files that the test loaded and opened; otherwise they would count later.

    Without this, a test passes or fails by the order in which the tests of a process run.
    """
    for name in ("sources", "opened", "listed", "openers", "lately", "named", "written"):
        monkeypatch.setattr(loaded, name, getattr(loaded, name).copy())
