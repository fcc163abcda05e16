"""What is compiled, and whether it was before."""

from __future__ import annotations

from engram import jit


def test_who_waits_for_a_compilation_is_told():
    told = []
    add = jit.inline(lambda a, b: a + b)
    with jit.telling(lambda: told.append("compiles")):
        assert add(1, 2) == 3
        compiled = len(told)
        assert add(2, 3) == 5
    assert compiled == len(told) > 0
    assert add(1.5, 2.0) == 3.5
    assert len(told) == compiled


def test_kernels_are_kept_where_numba_is_told_to(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert not jit.are_kept()
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "scan.nbi").touch()
    assert jit.are_kept()
