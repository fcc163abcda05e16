from __future__ import annotations

from joblib.externals.loky import get_reusable_executor

from engram.numeric.parallel import parallel_map


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
