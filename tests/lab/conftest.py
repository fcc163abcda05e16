"""Fixtures of the tests of the laboratory."""

from __future__ import annotations

import pytest

from engram.lab import provenance


@pytest.fixture
def files_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the test, the process forgets the modules that trials loaded during it; otherwise they would count later.

    Without this, a test passes or fails by the order in which the tests of a process run.
    """
    monkeypatch.setattr(provenance, "_late", {})
    monkeypatch.setattr(provenance, "_first_seen", {})
