"""Fixtures of the tests of the laboratory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator

import pytest

import engram
from engram.lab.trial import provenance

FORKING = multiprocessing.get_context("forkserver")  # from a process that has done the imports, which take seconds
Start = Callable[..., multiprocessing.Process]


@pytest.fixture
def beside(toy: str) -> Iterator[Start]:
    """Start a function in another process, which ends with the test; by default, a run."""
    FORKING.set_forkserver_preload(["engram.lab", "engram.cli"])
    started = []

    def start(*arguments: object, target: Callable[..., object] = engram.run, **options: object):
        process = FORKING.Process(target=target, args=arguments, kwargs=options)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.fixture
def files_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the test, the process forgets the modules that trials loaded during it; otherwise they would count later.

    Without this, a test passes or fails by the order in which the tests of a process run.
    """
    monkeypatch.setattr(provenance, "_late", {})
    monkeypatch.setattr(provenance, "_first_seen", {})
