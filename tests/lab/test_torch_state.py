"""A trial in the caller's process, whatever the caller has set in torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
import torch

import engram


def state() -> list[object]:
    """Return what a caller may have set."""
    return [
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_autocast_enabled("cpu"),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_anomaly_enabled(),
        torch.is_anomaly_check_nan_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(),
        sys.float_info.min / 2 == 0,
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
    ]


STATES: dict[str, Callable[[], object]] = {
    "double precision": lambda: torch.set_default_dtype(torch.float64),
    "half precision": lambda: torch.set_default_dtype(torch.bfloat16),
    "default device": lambda: torch.set_default_device("meta"),
    "device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "anomalies": lambda: torch.autograd.detect_anomaly(check_nan=False),
    "deterministic": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "low precision": lambda: torch.set_float32_matmul_precision("medium"),
    "no denormals": lambda: torch.set_flush_denormal(True),
    "threads": lambda: torch.set_num_threads(2),
    "seed": lambda: torch.manual_seed(5),
}


@pytest.fixture
def back() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
    torch.set_flush_denormal(False)


def written(runs: Path, **options: object) -> list[object]:
    trials = engram.run("toy", preset="smoke", seeds=1, jobs=1, runs=runs, progress=False, **options).trials
    assert trials[1].state == "finished", trials[1].message
    metrics = Path(trials[1].folder, "metrics.csv").read_bytes()
    return [*((trial.state, trial.message, trial.result) for trial in trials), metrics]


@cache
def plain(runs: Path, misbehave: str) -> list[object]:
    """What a caller gets who has set nothing."""
    return written(runs / misbehave, misbehave=misbehave)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("names", [*([name] for name in STATES), ["half precision", "device", "autocast", "inference"]])
@pytest.mark.parametrize("misbehave", ["", "raise"])
@pytest.mark.usefixtures("back")
def test_what_the_caller_has_set_changes_nothing_and_is_left_as_it_was(
    toy, tmp_path, tmp_path_factory, names, misbehave
):
    expected = plain(tmp_path_factory.getbasetemp() / "nothing-set", misbehave)
    with ExitStack() as stack:
        for name in names:
            entered = STATES[name]()
            if hasattr(entered, "__enter__"):
                stack.enter_context(entered)
        before = state()
        assert written(tmp_path / "here", misbehave=misbehave) == expected
        assert state() == before
