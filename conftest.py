"""What all tests and doctests share: the experiments of another package, registered as such a package does it."""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

# As many workers as cores compute: threads beside them, also of what tests start, would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import beartyped
import jaxtyping
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from joblib.externals.loky import reusable_executor
from numba.core.caching import NullCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

# The same examples each time, and no test asserts a time.
settings.register_profile("test", deadline=None, derandomize=True, max_examples=12)
settings.register_profile("soak", deadline=None, max_examples=1000)

jaxtyping.jaxtyped = beartyped.jaxtyped  # which the import hook of jaxtyping puts on every function and class
_compile = Dispatcher.compile
_know_toy: set[int] = set()  # worker processes that were started while the toy could be imported
LONG = ("test_docs.py", "test_experiments.py", "test_programs.py", "test_processes.py")
SOURCE, THIRD_PARTY = Path(__file__).parent / "src", Path(__file__).parent / "tests" / "third_party"
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="the same tests at a larger size: about an hour on two cores")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("soak" if config.getoption("--soak") else "test")
    if config.getoption("--soak"):
        beartyped.STRIDE = 1
    Dispatcher.compile = _compiled_once
    os.fsync = lambda file: None  # a tenth of the time of tests that run experiments: no power fails here


def pytest_collectstart() -> None:
    gc.disable()  # imports make little garbage, and the collector takes a quarter of the time of collecting tests


def pytest_collect_file(file_path: Path) -> None:
    """Import a module as programs do: pytest's importlib mode imports those twice that their package imports too."""
    if file_path.suffix == ".py" and file_path.is_relative_to(SOURCE):
        name = ".".join(file_path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        with suppress(Exception):  # which pytest meets again, and reports
            importlib.import_module(name)


def pytest_collection_finish() -> None:
    gc.freeze()  # imported objects stay, so the collector need not visit them again and again
    gc.enable()


def _compiled_once(dispatcher: Any, signature: Any) -> Any:
    """Compile a cached numba function in one of the workers, while the others wait for it and then load it."""
    if isinstance(dispatcher._cache, NullCache):
        return _compile(dispatcher, signature)
    name = f"{dispatcher._cache.cache_path}:{dispatcher.py_func.__qualname__}"
    lock = Path(tempfile.gettempdir()) / f"engram-compiles-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
    collects = gc.isenabled()
    gc.disable()  # which takes a fifteenth of the time of a compilation, and frees little
    try:
        with global_compiler_lock, FileLock(lock):  # in this order, as a function may compile those that it calls
            return _compile(dispatcher, signature)
    finally:
        if collects:
            gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``soak``, further sizes of tests and tests that take long; begin with what is long.

    Begun last, one worker would build the site, or run an experiment, and the others wait.
    """
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    if not config.getoption("--soak"):
        left_out = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


@pytest.fixture(scope="session")
def effort(request: pytest.FixtureRequest) -> int:
    """How many times as large a campaign is as ``make test`` needs it: 1, or 20 in ``make soak``."""
    return 20 if request.config.getoption("--soak") else 1


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _first_calls_are_checked() -> None:
    beartyped.begin_test()


@pytest.fixture(autouse=True)
def _runs_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGRAM_RUNS", str(tmp_path / "runs"))


@pytest.fixture(autouse=True)
def _needs_data(request: pytest.FixtureRequest) -> None:
    """Skip a test marked ``needs_data(file)`` where the file is not under ENGRAM_DATA."""
    for mark in request.node.iter_markers("needs_data"):
        if not ("ENGRAM_DATA" in os.environ and Path(os.environ["ENGRAM_DATA"], *mark.args).is_file()):
            pytest.skip(f"{mark.args[0]} is not under ENGRAM_DATA")


def _workers() -> Iterable[int]:
    """The worker processes that the next run would use again."""
    return getattr(reusable_executor._executor, "_processes", None) or ()


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Register the toy experiment here and in every process that a test starts; return its name."""
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    monkeypatch.setenv("PYTHONPATH", str(THIRD_PARTY))
    if not _know_toy.issuperset(_workers()):
        reusable_executor._executor.shutdown(wait=True)  # some were started without its path
    yield "toy"
    _know_toy.update(_workers())
    sys.modules.pop("toy_experiments", None)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl-C as in a terminal, also where the shell of the tests ignores it, as it does for its background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Return a function that runs the command line in a process of its own."""

    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "engram", *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "160"},
            check=False,
            **options,
        )

    return run


@pytest.fixture
def no_file_larger_than() -> Callable[[int], AbstractContextManager[None]]:
    """Return a context manager in which the kernel refuses larger writes, as a full disk does."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)

    return limited


@pytest.fixture
def hurry() -> Callable[[Path], None]:
    """Let the steps of the toy's trials in a folder of runs, also of running ones, take no time any more."""
    return lambda runs: (runs / "toy" / "hurry").touch()
