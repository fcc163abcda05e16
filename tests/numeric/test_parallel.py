from __future__ import annotations

import subprocess
import sys

from joblib.externals.loky import get_reusable_executor

from engram.numeric.parallel import _on_loky, parallel_map


def test_a_worker_that_has_grown_is_replaced_without_a_word_and_nothing_waits_for_it():
    def grow(item):
        import builtins
        import os
        import time

        if hasattr(builtins, "grown"):
            builtins.grown.append(bytearray(os.urandom(1) * 350_000_000))  # which loky takes for a leak
            time.sleep(1.1)  # as often as it looks
        builtins.grown = getattr(builtins, "grown", [])
        return item, os.getpid()

    results = parallel_map(grow, range(5), workers=2)
    assert [item for item, _ in results] == list(range(5))
    assert len({pid for _, pid in results}) > 2


def test_no_more_workers_are_started_than_there_are_items():
    get_reusable_executor().shutdown()
    assert parallel_map(abs, [-1, -2, -3], workers=10) == [1, 2, 3]
    assert len(get_reusable_executor(reuse=True)._processes) == 3


def test_each_worker_sees_the_gpu_of_its_place_which_its_successor_takes_over(tmp_path):
    def shown(item):
        import os
        import time
        from pathlib import Path

        if item == "die" and not Path(marker).exists():
            Path(marker).touch()
            os._exit(1)
        time.sleep(0.3)
        return os.environ["CUDA_VISIBLE_DEVICES"], os.getpid()

    marker = str(tmp_path / "died")
    results = parallel_map(shown, ["", "", "", "", "die"], workers=2, gpus=["3", "5"])
    assert {gpu for gpu, _ in results} == {"3", "5"}
    by_worker = {pid: gpu for gpu, pid in results}
    assert {(gpu, pid) for pid, gpu in by_worker.items()} == set(results), "a worker has changed its GPU"


def test_workers_are_where_their_parent_is(tmp_path, monkeypatch):
    def around(name):
        import os
        import sys
        from pathlib import Path

        return str(Path.cwd()), os.environ.get(name), sys.path[0], os.getpid()

    seen, workers = [], set()
    for place, value in (("one", "1"), ("two", "2"), ("one", None)):
        (tmp_path / place).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / place)
        monkeypatch.setattr(sys, "path", [str(tmp_path / place), *sys.path])
        monkeypatch.setenv("SOMEBODYS", value) if value else monkeypatch.delenv("SOMEBODYS")
        for folder, variable, path, worker in parallel_map(around, ["SOMEBODYS"] * 4, workers=2):
            workers.add(worker)
            seen.append((folder, variable, path))
    places = zip(("one", "two", "one"), ("1", "2", None), strict=True)
    expected = [(str(tmp_path / place), value, str(tmp_path / place)) for place, value in places]
    assert seen == [each for each in expected for _ in range(4)]
    assert len(workers) <= 2, "none was started again"


NESTED = """
import multiprocessing
import warnings

from engram.numeric.parallel import parallel_map


def nested(numbers):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        return parallel_map(abs, numbers, workers=3), str(said[0].message)


if __name__ == "__main__":
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        print(pool.apply(nested, ([-1, 2],)))
"""


def test_a_process_that_may_start_no_others_does_the_work_itself_and_says_so(tmp_path):
    (tmp_path / "nested.py").write_text(NESTED)  # whose functions a worker finds, however these tests were started
    command = [sys.executable, str(tmp_path / "nested.py")]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    assert printed.startswith("([1, 2], ")
    assert "3 workers: a daemonic process" in printed


def test_a_worker_without_items_so_far_forgets_what_its_parent_has_removed(monkeypatch):
    def shown(name):
        import os

        return os.environ.get(name)

    get_reusable_executor().shutdown()
    monkeypatch.setenv("SOMEBODYS", "1")
    submit = _on_loky(2, ())
    assert get_reusable_executor(reuse=True).submit(shown, "SOMEBODYS").result() == "1"  # as no item of ours
    monkeypatch.delenv("SOMEBODYS")
    assert [submit(shown, "SOMEBODYS", {}).result() for _ in range(2)] == [None, None]
