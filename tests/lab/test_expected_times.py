"""How long trials take: what is known, and what is measured, by a clock that the trials themselves move."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from types import SimpleNamespace

import pytest

import engram
from engram import cli, registry
from engram.lab.engine import times, timing
from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.trial import Time, trials


class Clock:
    """The clock of the system, of the processor, and that which never goes back: all the same."""

    now = 1000.0

    def time(self):
        return self.now

    def tick(self, seconds):
        self.now += seconds

    monotonic = process_time = time


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def measure(tmp_path, clock, trial, **options) -> Time:
    """The time of a trial, a function of a run, that moves the clock by itself."""
    run = timing.TimedRun(TrialFolder(tmp_path), 0, "cpu", begin=timing.Begin.now(), **options)
    trial(run)
    run.finish()
    return timing._time(timing._progress(tmp_path), None)


@pytest.mark.parametrize(
    ("total", "cost"),
    [
        (40, lambda step: 0.1 + step / 10),  # cases that grow
        (100_000, lambda step: 0.1 + 5.0 * (step % 100 == 99)),  # a test now and then
        (5000, lambda step: 0.01 if step < 1000 else 0.1),  # a phase without training
        (300, lambda step: 0.2 + 3.0 * (step == 0)),  # the first step prepares something
        (10, lambda step: 0.1),
    ],
)
def test_the_time_of_a_loop_is_that_of_all_its_steps(tmp_path, clock, total, cost):
    def trial(run):
        clock.now += 0.5
        for step in run.steps(total):
            clock.now += cost(step)
        clock.now += 2.5

    expected = 3.0 + sum(map(cost, range(total)))
    said = measure(tmp_path, clock, trial)
    assert not said.is_least
    assert said.seconds == pytest.approx(expected, rel=0.35)
    assert clock.now - 1000.0 < timing.SECONDS + 3.0 or said.how == "measured: a whole trial"


def test_several_loops_share_the_time_and_what_lies_between_counts_whole(tmp_path, clock):
    def trial(run):
        for _ in range(5):
            clock.now += 0.2
            for _ in run.steps(1000):
                clock.now += 0.05
        for _ in run.steps(200):
            clock.now += 0.1

    said = measure(tmp_path, clock, trial)
    assert said.seconds == pytest.approx(5 * 50.2 + 20.0, rel=0.01)
    assert re.fullmatch(r"measured: \d+ of 5,200 steps", said.how)
    assert clock.now - 1000.0 < timing.SECONDS


def test_a_choice_costs_its_candidates_and_no_extension(tmp_path, clock):
    def trial(run):
        def score(rate):
            clock.now += 3.0
            return -abs(rate - 0.1)

        assert run.choose("rate", [0.01, 0.03, 0.1, 0.3, 1.0], score, accept=lambda rate: True) > 0
        for step in run.steps(1000):
            run.log(step, every=500, loss=1.0)
            clock.now += 0.1
        assert run.ends("loss") == (1.0, 1.0), "nothing is logged of a loop that is left early"
        run.keep()

    said = measure(tmp_path, clock, trial)
    assert 15.0 + 100.0 <= said.seconds < 18.1 + 100.0, "the step of acceptance may count like a candidate"


def test_a_trial_without_a_loop_is_measured_whole_or_said_to_take_longer(tmp_path, clock):
    def trial(run):
        clock.now += 4.0

    assert measure(tmp_path, clock, trial) == Time(4.0, "measured: a whole trial")
    timing.TimedRun(TrialFolder(tmp_path), 0, "cpu", begin=timing.Begin.now())
    cut = timing._time(timing._progress(tmp_path), clock.now + 19.0)
    assert cut == Time(19.0, "at least: no step begins in 20 s", is_least=True)


def test_a_step_that_is_too_long_gives_a_lower_bound(tmp_path, clock):
    run = timing.TimedRun(TrialFolder(tmp_path), 0, "cpu", begin=timing.Begin.now())
    for _ in run.steps(3):
        clock.now += 12.5
    cut = timing._time(timing._progress(tmp_path), clock.now + 6.0)
    assert cut == Time(3 * 12.5 + 6.0, "at least: 1 of 3 steps in 20 s", is_least=True)


def job_of(trial, folder):
    return SimpleNamespace(trial=trial, folder=TrialFolder(folder))


def test_a_trial_that_needs_its_steps_in_order_is_measured_by_the_first_ones(toy, tmp_path, clock):
    def in_order(config, run):
        last = -1
        for step in run.steps(1000):
            if step != last + 1:
                raise LookupError("a step was left out")
            last = step
            clock.now += 0.5

    def fails(config, run):
        raise LookupError("nothing is here")

    def needs_all(config, run):
        done = [clock.tick(1.0) for _ in run.steps(100)]
        if len(done) < 100:
            raise LookupError("too few")

    trial = trials(registry.get("experiments", toy), registry.get("experiments", toy).arms("smoke"), seeds=1)[0]
    timing._measure(job_of(dataclasses.replace(trial, function=in_order), tmp_path))
    said = timing._time(timing._progress(tmp_path), None)
    assert said.seconds == pytest.approx(500.0)
    timing._measure(job_of(dataclasses.replace(trial, function=needs_all), tmp_path))
    least = timing._time(timing._progress(tmp_path), None)
    assert (least.seconds, least.is_least) == (pytest.approx(100.0), True)
    assert re.fullmatch(r"at least: [1-9] of 100 steps; without the others what follows fails .*too few.*", least.how)
    timing._measure(job_of(dataclasses.replace(trial, function=fails), tmp_path))
    failed = timing._time(timing._progress(tmp_path), None)
    assert (failed.is_known, failed.how) == (
        False,
        "unknown: it fails if it is measured (LookupError: nothing is here)",
    )


def test_what_is_known_comes_from_runs_then_records_then_measurements(toy, tmp_path, monkeypatch):
    experiment = registry.get("experiments", toy)
    root = tmp_path / toy

    def known(arm, **changes):
        trial = trials(experiment, experiment.arms("smoke", changes), seeds=1, arms=[arm])[0]
        return times.known(experiment, trial, root)

    assert not known("plain").is_known
    trial = trials(experiment, experiment.arms("smoke"), seeds=1, arms=["plain"])[0]
    times.keep(trial, Time(7.0, "measured: 4 of 20 steps"), root)
    assert known("plain") == Time(7.0, "measured: 4 of 20 steps")
    assert not known("plain", episodes=21).is_known, "of other settings"
    with monkeypatch.context() as other:
        other.setattr(times, "versions", lambda: {"torch": "another"})
        assert not known("plain").is_known, "of other versions"
    record = {"revision": 1, "environment": {"versions": {}, "hardware": {"processor": times.hardware()["processor"]}}}
    stored = {"config": trial.identity()["config"], "seeds": [0, 1], "seconds": [1, 3], "results": {}}
    record["arms"] = {"plain": stored}
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    monkeypatch.setattr(times, "record_path", lambda experiment, preset: path if preset == "laptop" else None)
    assert known("plain") == Time(2.0, "from its record on this kind of machine")
    record["environment"]["hardware"]["processor"] = "Abacus"
    path.write_text(json.dumps(record))
    assert known("plain").how == "measured: 4 of 20 steps", "the record of another machine comes last"
    elsewhere = Time(2.0, "from its record on another machine (Abacus)", is_here=False)
    times.keep(trial, Time(1.0, "at least: 1 of 20 steps", is_least=True), root)
    assert known("plain") == elsewhere
    (root / times.FILE).write_text("{")
    assert known("plain") == elsewhere
    results = engram.run(toy, preset="smoke", seeds=2, arms=["plain"], jobs=1, runs=tmp_path, progress=False)
    took = [result.seconds for result in results.trials]
    assert known("plain") == Time(pytest.approx(sum(took) / 2), "from this machine's own runs")


def test_show_measures_what_is_unknown_and_run_expects_it(toy, tmp_path, capsys):
    arguments = ["show", toy, "--preset", "smoke", "--arms", "plain", "--runs", str(tmp_path)]
    assert cli.run(arguments) == 0
    first = capsys.readouterr()
    assert "measuring 1 arms" in first.err
    assert re.search(r"plain +1 s +measured: a whole trial", first.out)
    assert cli.run(arguments) == 0
    second = capsys.readouterr()
    assert (second.err, second.out) == ("", first.out), "it is measured again"
    assert cli.run(["run", toy, "--preset", "smoke", "--jobs", "1", "--runs", str(tmp_path)]) == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "expected time 1 s (measured; unknown for momentum)" in said
    with pytest.raises(ValueError, match=r"arms = \['plain'\]: expected only with a preset"):
        cli._run(["show", toy, "--arms", "plain"])


def test_times_are_shown_where_they_cannot_be_kept(toy, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert (
        cli.run(["show", toy, "--preset", "smoke", "--arms", "plain", "--runs", str(tmp_path / "file" / "runs")]) == 0
    )
    shown = capsys.readouterr()
    assert "these times are not kept: cannot write" in shown.err
    assert re.search(r"plain +1 s +measured: a whole trial", shown.out)


def test_a_trial_that_needs_more_memory_than_there_is_is_refused_before_it_starts(toy, tmp_path, monkeypatch, capsys):
    experiment = registry.get("experiments", toy)
    study = dataclasses.replace(experiment.studies, memory=lambda config: 3e9 * config.size)
    module = sys.modules["toy_experiments"]
    monkeypatch.setattr(module, "experiment", dataclasses.replace(experiment, studies=study))
    monkeypatch.setattr("engram.lab.engine.plan.memory", lambda: 8e9)
    monkeypatch.setattr("engram.lab.trial.machine.memory", lambda: 8e9)
    needs = "toy: arm momentum needs 9.0 GB of memory in each trial; this machine has 8.0 GB: choose other arms, or"
    with pytest.raises(ValueError, match=needs):
        engram.run(toy, preset="smoke", runs=tmp_path, progress=False)
    assert not list(tmp_path.glob("toy/*/status.json"))
    too_many = (
        "needs 6.0 GB of memory in each trial, 2 at once 12.0 GB; this machine has 8.0 GB: expected jobs of at most"
    )
    with pytest.raises(ValueError, match=too_many):
        engram.run(toy, preset="smoke", runs=tmp_path, progress=False, size=2, jobs=2)
    results = engram.run(toy, preset="smoke", runs=tmp_path, progress=False, size=2, seeds=1, arms=["plain"])
    assert results.trials[0].state == "finished"
    monkeypatch.setattr(timing, "measured", lambda trials: pytest.fail("it is measured") if [*trials] else [])
    assert cli.run(["show", toy, "--preset", "smoke", "--arms", "plain", "--runs", str(tmp_path)]) == 0
    assert re.search(r"plain +unknown +9.0 GB more than there is", capsys.readouterr().out)


def test_the_experiments_say_what_they_need():
    for name, arm, low, high in (
        ("hebbian-cnn", "pruned", 3e9, 4e9),
        ("generalization-difficulty", "omniglot", 10e9, 20e9),
        ("generalization-difficulty", "regression", 0, 0),
        ("one-shot-characters", "discriminants", 4e9, 5e9),
        ("one-shot-characters", "matching", 0, 0),
    ):
        experiment = registry.get("experiments", name)
        assert low <= experiment.arms([*experiment.presets][-1])[arm].memory <= high


@pytest.mark.soak
def test_a_measurement_ends_within_its_limit(toy, tmp_path):
    experiment = registry.get("experiments", toy)
    slow, fast = (
        trials(experiment, experiment.arms("smoke", {"step_seconds": seconds}), seeds=1, arms=["plain"])[0]
        for seconds in (1000.0, 0.0)
    )
    (_, said), (_, after) = timing.measured([slow, fast])
    assert said.is_least
    assert said.how == "at least: 0 of 20 steps in 20 s"
    assert after.how == "measured: a whole trial", "the next one is measured by another process"


def test_a_run_says_that_kernels_may_be_compiled_until_some_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))

    def expected(seeds: int) -> str:
        options = {"preset": "smoke", "arms": ["plastic"], "jobs": 1, "runs": tmp_path / "runs"}
        engram.run("pattern-completion", seeds=seeds, **options)
        return re.sub(r"\s+", " ", capsys.readouterr().err)

    begin = "and up to a minute more if kernels have to be compiled,"
    assert begin in expected(1)
    (tmp_path / "cache" / "rnn_0").mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache" / "rnn_0" / f"cpu.backward-1.py{sys.version_info.major}{sys.version_info.minor}.nbi").touch()
    assert begin not in expected(2)
