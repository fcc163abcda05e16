"""What is compiled, and whether it was before."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

from numba import njit
from numba.core import caching

from engram.numeric import jit


def test_who_waits_for_a_compilation_is_told():
    compilations = []
    add = jit.inline(lambda a, b: a + b)
    with jit.on_compile(lambda: compilations.append("compiles")):
        assert add(1, 2) == 3
        compiled = len(compilations)
        assert add(2, 3) == 5
    assert compiled == len(compilations) > 0
    assert add(1.5, 2.0) == 3.5
    assert len(compilations) == compiled


def test_what_is_compiled_into_kernels_is_called_by_python_too():
    add = jit.inline(lambda a, b: a + b)
    following = njit(lambda a: add(a, 1))
    assert following(1) == 2 == add(1, 1)


def test_a_kernel_runs_where_nothing_can_be_written(tmp_path, monkeypatch):
    def twice(x):
        return 2 * x

    for locator in caching.CacheImpl._locator_classes:
        monkeypatch.setattr(locator, "from_function", classmethod(lambda cls, function, file: None))
    assert jit.cache_folder() is None
    assert jit.njit(twice, cache=True)(4) == 8
    assert jit.njit(cache=True, nogil=True)(twice)(4) == 8


def test_a_kernel_runs_where_the_disk_is_full(monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.FunctionCache, "save_overload", full)
    assert jit.njit(lambda x: x + 1, cache=True)(1) == 2
    assert jit.cache_folder() is not None


SCAN = "from numba import njit\n@njit(cache=True)\ndef scan(x):\n    return x + 1\n"


def test_whether_any_kernel_is_compiled_is_known_by_the_files_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "kernels.py").write_text(SCAN)
    assert not jit.is_any_compiled()
    subprocess.run([sys.executable, "-c", "import kernels; kernels.scan(1)"], cwd=tmp_path, check=True)
    assert jit.is_any_compiled()


def test_a_kernel_is_compiled_anew_when_one_that_it_imports_has_changed(tmp_path):
    package = tmp_path / "somebodys"
    (package / "deep").mkdir(parents=True)
    for folder in (package, package / "deep"):
        (folder / "__init__.py").touch()
    (package / "step.py").write_text("from engram.numeric.jit import inline\n@inline\ndef step(x):\n    return x + 1\n")
    source = "from engram.numeric.jit import jit\nfrom {} import step\n@jit\ndef scan(x):\n    x[0] = step(x[0])\n"
    (package / "deep" / "scan.py").write_text(source.format("..step"))
    (package / "other.py").write_text(source.format("somebodys.step"))

    def printed() -> list[str]:
        program = (
            "import numpy; from somebodys.deep.scan import scan; from somebodys.other import scan as other\n"
            "x = numpy.zeros(1); scan(x); other(x); "
            "print(x[0], sum(sum(each.stats.cache_misses.values()) for each in (scan, other)))"
        )
        where = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env={**os.environ, **where}, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert printed() == ["2.0", "2"]
    assert printed() == ["2.0", "0"]
    step = package / "step.py"
    step.write_text(step.read_text().replace("x + 1", "x + 10"))
    assert printed() == ["20.0", "2"]


def test_a_process_says_once_that_engram_compiles_unless_somebody_is_told(monkeypatch):
    def kernel(module):
        def twice(x):
            return 2 * x

        twice.__module__ = module
        return njit(twice)

    said = []
    monkeypatch.setattr(jit._Told, "is_done", False)
    monkeypatch.setattr(logging.getLogger("engram"), "warning", said.append)
    kernel("another.package")(1)
    with jit.on_compile(lambda: None):
        kernel("engram.kernels")(1)
    assert said == []
    ours = kernel("engram.kernels")
    assert (ours(1), ours(1.5), ours(2)) == (2, 3.0, 4)
    monkeypatch.setattr(jit._Told, "is_done", False)
    monkeypatch.setattr(jit, "cache_folder", lambda: None)
    assert ours(1j) == 2j
    found, anew = said
    assert found.startswith("engram compiles kernels")
    assert found.endswith("later processes find them")
    assert anew.endswith("later processes compile them again, since no folder for them can be written")
