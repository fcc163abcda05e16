from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn

from engram.lab import CorruptFileError
from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import Interrupted, TrialRun


class CrashError(Exception):
    pass


def train(run: TrialRun, *, crash_at: int = -1) -> dict[str, object]:
    """Two loops that use every kind of state; log between them; crash at a step of their count if asked."""
    net = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(generator=run.generator)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    total, counts, own = torch.zeros(()), np.zeros(2), np.random.default_rng(5)
    state = {"net": net, "optimizer": optimizer, "schedule": schedule, "total": total, "counts": counts, "own": own}
    for loop in range(2):
        for step in run.steps(6, **state):
            if crash_at == 6 * loop + step:
                raise CrashError
            x = torch.randn(3, 2, generator=run.generator) + float(run.rng.normal()) + float(own.normal())
            loss = net(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
            counts[loop] += 1
            run.log(6 * loop + step, every=2, loss=loss)
        run.log(100 + loop, between=float(torch.rand(())), so_far=len(run.metrics()))
    return {"total": float(total), "counts": counts.tolist(), "rows": run.metrics().rows()}


@pytest.mark.parametrize("crash_at", range(12))
def test_a_crash_at_any_step_changes_nothing(tmp_path, crash_at):
    (tmp_path / "whole").mkdir()
    (tmp_path / "crashed").mkdir()
    whole = train(TrialRun(TrialFolder(tmp_path / "whole"), 3, checkpoint_seconds=0.0))
    with pytest.raises(CrashError):
        train(TrialRun(TrialFolder(tmp_path / "crashed"), 3, checkpoint_seconds=0.0), crash_at=crash_at)
    assert train(TrialRun(TrialFolder(tmp_path / "crashed"), 3, checkpoint_seconds=0.0)) == whole


def test_a_crash_without_any_checkpoint_changes_nothing(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "crashed").mkdir()
    whole = train(TrialRun(TrialFolder(tmp_path / "whole"), 3))
    with pytest.raises(CrashError):
        train(TrialRun(TrialFolder(tmp_path / "crashed"), 3), crash_at=3)
    assert train(TrialRun(TrialFolder(tmp_path / "crashed"), 3)) == whole


def test_seeds_differ_and_the_callers_seed_does_not_matter(tmp_path):
    folder = TrialFolder(tmp_path)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(draws))
        run = TrialRun(folder, seed)
        draws.append((float(torch.rand((), generator=run.generator)), float(run.rng.random()), float(torch.rand(()))))
    assert draws[0] == draws[1]
    assert not set(draws[0]) & set(draws[2])


def test_a_request_to_stop_is_met_with_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("engram.lab.trial.loop.HEARTBEAT_SECONDS", 0.0)
    folder, stop = TrialFolder(tmp_path), tmp_path / "stop"
    seen = []

    def train_until_stopped() -> None:
        for step in TrialRun(folder, 0, stop=stop).steps(5):
            seen.append(step)
            if step == 2:
                stop.touch()

    with pytest.raises(Interrupted):
        train_until_stopped()
    seen.extend(TrialRun(folder, 0).steps(5))
    assert seen == [0, 1, 2, 3, 4]


def test_a_request_to_stop_is_met_within_a_step_that_takes_long_and_the_step_is_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr("engram.lab.trial.loop.HEARTBEAT_SECONDS", 0.0)
    folder, stop = TrialFolder(tmp_path), tmp_path / "stop"

    def train(drawn: list[float], *, stops: bool) -> None:
        run = TrialRun(folder, 0, stop=stop, checkpoint_seconds=0.0)
        for step in run.steps(3):
            for half in range(2):
                drawn.append(float(torch.rand((), generator=run.generator)))
                if stops and (step, half) == (1, 0):
                    stop.touch()
                run.beat(f"half {half}")

    begun: list[float] = []
    with pytest.raises(Interrupted):
        train(begun, stops=True)
    assert folder.status().note == "half 0"
    stop.unlink()
    rest: list[float] = []
    train(rest, stops=False)
    assert (len(begun), len(rest)) == (3, 4)
    assert rest[0] == begun[2], "the second step begins anew"
    assert folder.status().note == ""


def test_what_cannot_be_saved_is_named(tmp_path):
    with pytest.raises(TypeError, match="state 'history' is of type list: expected a tensor"):
        list(TrialRun(TrialFolder(tmp_path), 0).steps(1, history=[]))


@pytest.mark.parametrize("change", [{"total": 4}, {"name": "other"}])
def test_a_checkpoint_of_another_loop_is_not_used(tmp_path, change):
    folder = TrialFolder(tmp_path)
    list(TrialRun(folder, 0).steps(3, x=torch.zeros(1)))
    with pytest.raises(CorruptFileError, match="of another loop"):
        list(TrialRun(folder, 0).steps(change.get("total", 3), **{change.get("name", "x"): torch.zeros(1)}))


def test_a_loop_without_steps(tmp_path):
    folder = TrialFolder(tmp_path)
    for steps_left in ([0], []):
        run = TrialRun(folder, 0)
        assert list(run.steps(0)) == []
        run.log(0, x=1.0)
        assert list(run.steps(1)) == steps_left
        assert run.metrics().rows() == [(0, "x", 1.0)]


def test_processor_time_adds_up_over_attempts(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    folder = TrialFolder(tmp_path)
    for _ in TrialRun(folder, 0, checkpoint_seconds=0.0).steps(2):
        clock[0] += 3.0  # the second step is done, but no checkpoint has it
        if clock[0] == 106.0:
            break
    clock[0] = 0.0
    run = TrialRun(folder, 0)
    for _ in run.steps(2):
        clock[0] += 4.0
    assert run.processor_seconds == 7.0


def test_a_loop_that_was_left_is_refused(tmp_path):
    run = TrialRun(TrialFolder(tmp_path), 0)
    for _ in run.steps(5):
        break
    with pytest.raises(RuntimeError, match=r"left at step 0 of 5: run\.steps supports neither break"):
        list(run.steps(5))
    with pytest.raises(RuntimeError, match="left at step 0 of 5"):
        run.close()


@pytest.mark.parametrize(
    ("step", "values", "error", "message"),
    [
        (0.5, {"x": 1.0}, TypeError, r"step = 0\.5: expected an int"),
        (2**63, {"x": 1.0}, ValueError, "step = 9223372036854775808: expected"),
        (1, {"x": "many"}, TypeError, "metric 'x' = 'many': expected one number"),
        (1, {"x": torch.ones(2)}, TypeError, r"metric 'x' = tensor of shape \(2,\) and dtype torch.float32: expected"),
        (1, {"a b": 1}, ValueError, "metric = 'a b': expected letters"),
    ],
)
def test_what_is_no_metric_is_refused(tmp_path, step, values, error, message):
    run = TrialRun(TrialFolder(tmp_path), 0)
    with pytest.raises(error, match=message):
        run.log(step, **values)
    assert run.metrics().is_empty()


def test_an_error_of_reading_a_metric_names_it(tmp_path):
    with pytest.raises(RuntimeError) as caught:  # as the error of an earlier operation on a GPU
        TrialRun(TrialFolder(tmp_path), 0).log(1, loss=torch.ones((), device="meta"))
    assert caught.value.__notes__ == ["metric 'loss' = tensor of shape () and dtype torch.float32"]


def test_means_over_windows_are_written_by_the_call_that_completes_one(tmp_path):
    run = TrialRun(TrialFolder(tmp_path), 0)
    written = []
    for step in range(1, 7):
        even = {} if step % 2 else {"even": step}
        written.append(run.log(step, every=3, all=step, **even))
        run.log(step, every=2, tens=10 * step)
    assert written == [{}, {}, {"all": 2.0, "even": 2.0}, {}, {}, {"all": 5.0, "even": 5.0}]
    assert run.log(7, plain=1) == {"plain": 1.0}
    tens = [(step, value) for step, name, value in run.metrics().rows() if name == "tens"]
    assert tens == [(2, 15.0), (4, 35.0), (6, 55.0)]
    with pytest.raises(ValueError, match="every = 0: expected at least 1"):
        run.log(8, every=0, x=1.0)


def test_event_files_hold_the_same_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = TrialFolder(tmp_path)
    with pytest.raises(CrashError):
        train(TrialRun(folder, 3, checkpoint_seconds=0.0, tensorboard=True), crash_at=9)
    run = TrialRun(folder, 3, checkpoint_seconds=0.0, tensorboard=True)
    train(run)
    run.close()
    events = EventAccumulator(str(folder.tensorboard)).Reload()
    written = {(event.step, round(event.value, 4)) for event in events.Scalars("loss")}
    logged = run.metrics().filter(run.metrics()["metric"] == "loss")
    assert written == {(step, round(value, 4)) for step, value in zip(logged["step"], logged["value"], strict=True)}


def test_a_window_ends_with_its_loop(tmp_path):
    run = TrialRun(TrialFolder(tmp_path), 0)
    for value in (0.0, 10.0):
        for step in run.steps(3):
            run.log(step, every=2, x=value)
    assert run.metrics().rows() == [(1, "x", 0.0), (1, "x", 10.0)]


def test_objects_are_kept_between_loops_only(tmp_path):
    run, total = TrialRun(TrialFolder(tmp_path), 0), torch.zeros(1)
    for _ in run.steps(2, total=total):
        with pytest.raises(RuntimeError, match=r"run\.keep\(total\) within a loop"):
            run.keep(total=total)
    with pytest.raises(TypeError, match="state 'history' is of type list"):
        run.keep(history=[])


def test_a_number_of_steps_is_an_integer(tmp_path):
    folder = TrialFolder(tmp_path)
    assert list(TrialRun(folder, 0).steps(np.int64(2))) == [0, 1]
    assert list(TrialRun(folder, 0).steps(2)) == []
    for total, error in ((-1, ValueError), (2.0, TypeError)):
        with pytest.raises(error, match=f"total = {total}: expected"):
            list(TrialRun(folder, 0).steps(total))
