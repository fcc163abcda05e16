"""Runs an experiment: plans the trials, performs those that are not done yet, and judges the claims."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from engram import references
from engram.claim_rows import as_line
from engram.lab.claims.claim import Claim, JudgedClaim, judge_claim
from engram.lab.engine.console import progress_console
from engram.lab.engine.monitor import Monitor
from engram.lab.engine.parallel import perform_all
from engram.lab.engine.plan import Plan, Request, plan, reused
from engram.lab.engine.stop import end, stop_file, stoppable, time_limit
from engram.lab.output.read_runs import Note, note_of, read_back, write_note
from engram.lab.output.results import Results
from engram.lab.trial import config as configs
from engram.lab.trial.experiment import Arm, Experiment, find_experiment
from engram.lab.trial.folder import Status
from engram.lab.trial.job import Job, queue
from engram.numeric.parallel import Backend
from engram.numeric.ray_tasks import connected
from engram.run_options import RunOptions
from engram.storage.files import CannotWriteError, CorruptFileError


def run(
    experiment: str | Experiment,
    *,
    preset: str = "laptop",
    seeds: int | None = None,
    arms: Sequence[str] | None = None,
    jobs: int | None = None,
    engine: Backend = "loky",
    address: str | None = None,
    runs: str | Path | None = None,
    device: str = "auto",
    gpus_per_trial: float = 1.0,
    tensorboard: bool = False,
    keep_state: bool = True,
    checkpoint_seconds: float = 10.0,
    progress: bool = True,
    until_decided: bool = False,
    at_most: float | None = None,
    reuse: bool = False,
    **changes: Any,
) -> Results:
    """Run an experiment and judge its claims; finished trials are reused, interrupted ones resume.

    With ``until_decided`` the claims are judged after 5, 10, 20 and 40 seeds (the preset's ``looks``), and only arms
    that undecided claims read are run with more seeds. The error over all looks is still 5 %.

    Args:
        experiment: The experiment, or its name in the registry.
        preset: ``"smoke"``, ``"laptop"``, or another one of the experiment, such as ``"published"`` or ``"large"``.
        seeds: Number of seeds (default: the preset's).
        arms: Only these arms (default: all).
        jobs: Number of trials at once (default: as many as fit on the cores, or on the GPUs where the experiment uses
            them, and in memory, if workers are worth starting; on a cluster, as many as it takes); 1: all run in this
            process, or in one worker with ``at_most``.
        engine: ``"loky"`` (this machine) or ``"ray"``.
        address: Address of an existing Ray cluster.
        runs: Folder of all runs (default: ``ENGRAM_RUNS``, else ``runs``).
        device: ``"cpu"``, ``"cuda"``, one GPU such as ``"cuda:1"``, or ``"auto"``: CUDA if there is a GPU where the
            trials run, for the studies that use one.
        gpus_per_trial: Number of GPUs that each trial of these sees, or the fraction of one that it needs.
        tensorboard: Write event files as well.
        keep_state: Save the objects that each finished trial trained, for ``TrialResult.load``.
        checkpoint_seconds: Time between checkpoints.
        progress: Show the progress on the standard error stream.
        until_decided: Whether to run more seeds until every claim is decided.
        reuse: Take finished trials although engram or a file of yours was edited since; the report says so.
        at_most: Seconds after which running trials are stopped, after their step if it ends within five seconds; looks
            completed by then are judged.
        **changes: Settings to change from the preset; those of one arm or study as a mapping, ``lstm={"steps": 50}``.

    Returns:
        The results, even if some trials failed or the time was up; each trial has its state.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM has stopped the run; raised once its trials have written their checkpoints,
            with the results so far as ``results``.
        TypeError, ValueError: An argument is not as described.
        CannotWriteError: The folder of runs cannot be written.

    Examples:
        >>> results = run("pattern-completion", preset="smoke", seeds=1, arms=["plastic"], jobs=1, progress=False)
        >>> results.claims()[0].verdict, results.claims()[0].why
        ('not testable here', 'needs preset laptop')
    """
    references.refuse_while_loading("engram.lab.run")
    options = RunOptions(
        preset=preset,
        seeds=seeds,
        until_decided=until_decided,
        at_most=at_most,
        arms=arms,
        reuse=reuse,
        jobs=jobs,
        engine=engine,
        address=address,
        runs=runs,
        device=device,
        gpus_per_trial=gpus_per_trial,
        checkpoint_seconds=checkpoint_seconds,
        tensorboard=tensorboard,
        keep_state=keep_state,
    )
    return carry_out(Request(find_experiment(experiment), options, changes), progress=progress)


def carry_out(request: Request, *, progress: bool = True) -> Results:
    """Run what is asked for, as ``run`` does.

    Args:
        request: The experiment, the options and the changes; they were checked when it was made.
        progress: Show the progress on the standard error stream.

    Raises:
        KeyboardInterrupt, ValueError, CannotWriteError: As in ``run``.
    """
    console, options, stop = progress_console(shown=progress), request.options, stop_file(request.root)
    say_own_values(request.experiment, request.compared, request.changed, options.arms, console)
    with connected(options.address) if options.engine == "ray" else nullcontext():
        planned = plan(request, stop, request.counts[0])  # what cannot be run is refused before there is a folder
        with stoppable(stop, console, writes=False), time_limit(stop, options.at_most) as deadline:
            results = carry_out_looks(planned, stop, console, deadline)
    end(stop, results)
    return results


def carry_out_looks(planned: Plan, stop: Path, console: Console, deadline: float | None) -> Results:
    """Perform the trials of a plan and, until its claims are decided, of the looks after it.

    Args:
        planned: The plan of the first look.
        stop: The file whose existence asks the trials to stop.
        console: Where to show the progress.
        deadline: When the trials are to stop, by the monotonic clock.
    """
    request, before, results = planned.request, None, None
    later_looks = iter(request.counts[1:])
    while True:
        console.print(str(planned), highlight=False, soft_wrap=True)
        note = write_down(planned)
        look = judge(planned, note, perform(planned, console, deadline))
        if is_over(deadline) and not look.is_whole and before is not None and results is not None:
            write_down(before, results.ended)  # an incomplete look decides nothing
            break
        before, results = planned, look
        write_down(planned, results.ended)
        if not request.options.until_decided or not results.is_whole:
            break
        claims = worth_more_seeds(results)
        console.print(f"{planned.seeds} seeds: {len(claims)} claims are open", highlight=False)
        if not claims or is_over(deadline) or (seeds := next(later_looks, None)) is None:
            break
        planned = plan(request, stop, seeds, claims, before)
    return results


def write_down(planned: Plan, ended: str = "") -> Note:
    """Write down what is run, and how it has ended, for ``load``, the reports and ``engram list``.

    Raises:
        CannotWriteError: The folder cannot be written, and trials are still to be done.
    """
    request = planned.request
    note = note_of(
        request.experiment,
        request.options.preset,
        int(planned.seeds),
        planned.jobs,
        changed=request.changed,
        looks=request.looks,
        reused=reused(planned.jobs),
        ended=ended,
    )
    try:
        write_note(request.root, note)
    except CannotWriteError:
        if planned.remaining:
            raise
    return note


def is_over(deadline: float | None) -> bool:
    """Whether the time of a run is up."""
    return deadline is not None and time.monotonic() >= deadline


def perform(planned: Plan, console: Console, deadline: float | None = None) -> dict[str, Status]:
    """Perform the trials of a plan that are still to be done.

    Args:
        planned: The plan.
        console: Where to show the progress, and the verdicts on claims whose trials are complete.
        deadline: When the trials are to stop, by the monotonic clock.

    Returns:
        The last statuses by the names of the trials' folders.
    """
    request = planned.request
    return perform_jobs(
        planned.remaining,
        console,
        planned.workers,
        Announcer(planned),
        engine=request.options.engine,
        deadline=deadline,
    )


def perform_jobs(
    jobs: Sequence[Job],
    console: Console,
    workers: int,
    on_finished: Callable[[Job], list[str]],
    *,
    engine: Backend = "loky",
    names: Sequence[str] | None = None,
    deadline: float | None = None,
) -> dict[str, Status]:
    """Perform trials, and show their progress.

    Args:
        jobs: The trials.
        console: Where to show the progress.
        workers: Number of trials at once.
        on_finished: Called with each finished trial; returns lines to show, such as a verdict.
        engine: ``"loky"`` (this machine) or ``"ray"``.
        names: Names of the trials to show (default: arm and seed).
        deadline: When the trials are to stop, by the monotonic clock.

    Returns:
        The last statuses by the names of the trials' folders.
    """
    if not jobs:
        return {}
    for job in jobs:
        queue(job)
    with Monitor(console, jobs, workers, on_finished, names):
        statuses = perform_all(jobs, workers=workers, engine=engine, deadline=deadline)
    return {job.folder.path.name: status for job, status in zip(jobs, statuses, strict=True)}


def judge(planned: Plan, note: Note, statuses: Mapping[str, Status]) -> Results:
    """The results of a plan, which judge the claims.

    Args:
        planned: The plan.
        note: What was run.
        statuses: The last statuses of the trials that were performed.
    """
    return read_back(planned.request.experiment, planned.request.root, note, statuses)


def worth_more_seeds(results: Results) -> list[Claim]:
    """The open claims whose arms have no failed trial."""
    failing = {trial.arm for trial in results.trials if trial.state == "failed"}
    open_claims = [judged.claim for judged in results.claims() if judged.is_open]
    return [claim for claim in open_claims if failing.isdisjoint(claim.arms)]


class Announcer:
    """A function that takes a finished trial and returns verdict lines for the claims that it completes.

    Args:
        planned: The plan whose claims are announced.
    """

    def __init__(self, planned: Plan) -> None:
        self._planned = planned
        self._results: dict[int, dict[str, Any]] = {}
        self._finished_counts: Counter[str] = Counter()
        self._waiting = list(planned.claims)
        for job in planned.finished:
            self._count(job)

    def __call__(self, job: Job) -> list[str]:
        """The verdict lines that a finished trial adds."""
        self._count(job)
        request, seeds, lines = self._planned.request, self._planned.seeds, []
        for claim in list(self._waiting):
            if all(self._finished_counts[arm] == seeds for arm in claim.arms):
                self._waiting.remove(claim)
                judged = judge_claim(
                    claim,
                    self._results,
                    preset=request.options.preset,
                    is_published=bool(request.experiment.presets[request.options.preset].published),
                    seeds=seeds,
                    looks=request.looks,
                )
                lines += [] if judged.is_open else [verdict_line(judged)]
        return lines

    def _count(self, job: Job) -> None:
        with suppress(CorruptFileError):
            if (stored := job.folder.result()) is not None:
                self._results.setdefault(job.trial.seed, {})[job.trial.arm] = stored["result"]
                self._finished_counts[job.trial.arm] += 1


def say_own_values(
    experiment: Experiment,
    compared: Mapping[str, Arm],
    changed: Mapping[str, Any],
    arms: Sequence[str] | None,
    console: Console,
) -> None:
    """Print which arms a change of all arms does not reach.

    Args:
        experiment: The experiment.
        compared: Its arms, with the changes.
        changed: The changes by dotted field.
        arms: The arms that are to run (default: all).
        console: Where to print.
    """
    selected = {name: arm for name, arm in compared.items() if arms is None or name in arms}
    for field, value in changed.items():
        own_values = {
            arm: own_value
            for arm, own_value in experiment.values_of(selected, field).items()
            if not configs.is_same(own_value, value)
        }
        if not own_values:
            continue
        values = ", ".join(f"{arm} ({own_value!r})" for arm, own_value in own_values.items())
        console.print(
            f"{field} = {value!r} does not reach arms with a value of their own: {values}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def verdict_line(judged: JudgedClaim) -> str:
    """A judged claim as one line with rich's markup."""
    note = f" (analysis {judged.look})" if judged.look else ""
    return f"claim [bold]{judged.claim.id}[/]: {as_line(judged.row('.3g', note=note))}"
