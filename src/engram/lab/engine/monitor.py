"""The progress of a run as bars or log lines, read from the folders of its trials, with any engine."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from engram.lab.trial.folder import Status
from engram.lab.trial.job import Job
from engram.lab.trial.trial import duration

POLL_SECONDS = 0.25
LINE_SECONDS = 30.0
AHEAD = 16  # number of waiting trials per worker whose statuses are read
_DONE = ("finished", "failed")


class Monitor:
    """Shows a bar for each running trial and one for the run on a terminal, and plain log lines elsewhere.

    Args:
        console: Where to show the progress.
        jobs: The trials, in the order in which they start.
        workers: Number of trials at once.
        on_finished: Called with each finished trial; returns lines to show, such as a verdict.
        names: Names of the trials to show (default: arm and seed).
    """

    def __init__(
        self,
        console: Console,
        jobs: Sequence[Job],
        workers: int,
        on_finished: Callable[[Job], list[str]],
        names: Sequence[str] | None = None,
    ) -> None:
        self._names = names or [f"{job.trial.arm}, seed {job.trial.seed}" for job in jobs]
        self._console, self._jobs, self._workers, self._on_finished = console, jobs, workers, on_finished
        self._expected = [job.trial.time.seconds for job in jobs]
        self._known = tuple(self._expected)  # NaN for what is unknown before the run
        self._status = [Status() for _ in jobs]
        self._reported = [Status() for _ in jobs]
        self._finished = 0
        self._told: dict[str, bool] = {}  # by the process, whether it was all that was left
        self._closing = threading.Event()
        self._last_line = time.monotonic()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._bars: dict[int, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all = self._progress.add_task(f"{len(jobs)} trials", total=1.0, note="")

    def __enter__(self) -> Monitor:
        self._progress.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()
        self._progress.stop()

    def write(self, line: str) -> None:
        """Write a line above the bars."""
        self._progress.console.print(line, highlight=False, soft_wrap=True)

    def _watch(self) -> None:
        last = False
        while not last:
            last = self._closing.wait(POLL_SECONDS)
            waiting = 0
            for index, job in enumerate(self._jobs):
                if self._reported[index].state in _DONE:
                    continue
                self._status[index] = job.folder.status()
                self._report(index)
                waiting += self._status[index].state == "waiting"
                if waiting > AHEAD * self._workers and not last:
                    break  # trials start in order, so the later ones are waiting too
            if not last:
                self._tell_of_others(waiting)
            if self._console.is_terminal or time.monotonic() - self._last_line >= LINE_SECONDS:
                self._show()

    def _tell_of_others(self, waiting: int) -> None:
        """Say what other processes are at work on, once they are seen, and once nothing else is left."""
        own = self._jobs[0].stop.stem
        running = [status for status in self._status if status.state == "running" and status.owner]
        others = dict(Counter(status.owner for status in running if status.run != own))
        is_all = waiting == 0 and len(running) == sum(others.values())
        for owner, count in others.items():
            if owner not in self._told or (is_all and not self._told[owner]):
                self._told[owner] = is_all
                trials = f"{count} trials are" if count > 1 else "1 trial is"
                self.write(f"[yellow]{trials} at work in {escape(owner)}{': waiting for it' * is_all}[/]")

    def _report(self, index: int) -> None:
        status, reported = self._status[index], self._reported[index]
        self._reported[index] = status
        name = self._names[index]
        if status.message and status.message != reported.message and status.state != "failed":
            self.write(f"[yellow]{name}: {escape(status.message)}[/]")
        if status.state == reported.state:
            return
        if status.state == "finished":
            self._finished += 1
            state_bytes = self._jobs[index].folder.kept_bytes()
            saves = f", saves {decimal(state_bytes)}" if state_bytes else ""
            self.write(rf"\[{self._finished}/{len(self._jobs)}] {name}: finished in {status.seconds:.1f} s{saves}")
            for line in self._on_finished(self._jobs[index]):
                self.write(line)
        elif status.state == "failed":
            self.write(f"[red]{name}: failed: {escape(status.message)}[/]")

    def _show(self) -> None:
        fractions = [_fraction(status, seconds) for status, seconds in zip(self._status, self._known, strict=True)]
        self._estimate(fractions)
        is_unknown = any(map(math.isnan, self._expected))  # no trial has come far enough to tell
        shares = [1.0 if is_unknown and seconds else seconds for seconds in self._expected]
        fraction_done = sum(f * share for f, share in zip(fractions, shares, strict=True)) / (sum(shares) or 1.0)
        time_left = "time left unknown" if is_unknown else f"about {duration(self._left(fractions))} left"
        self._progress.update(self._all, completed=fraction_done, note=time_left)
        shown = [f or _fraction_of_loop(status) for f, status in zip(fractions, self._status, strict=True)]
        for index, status in enumerate(self._status):
            if status.state == "running" and index not in self._bars:
                self._bars[index] = self._progress.add_task(f"  {self._names[index]}", total=1.0, note="")
            elif status.state != "running" and index in self._bars:
                self._progress.remove_task(self._bars.pop(index))
            if index in self._bars:
                step = f"{status.step}/{status.total}" if status.total else ""
                note = f"{step}  {escape(status.note)}".rstrip()
                self._progress.update(self._bars[index], completed=shown[index], note=note)
        if not self._console.is_terminal:
            self._last_line = time.monotonic()
            running = "; ".join(
                f"{name} at {fraction:.0%}" + (f" ({escape(status.note)})" if status.note else "")
                for name, fraction, status in zip(self._names, shown, self._status, strict=True)
                if status.state == "running"
            )
            self.write(f"{fraction_done:.0%} done, {time_left}; running: {running or 'none'}")

    def _estimate(self, fractions: Sequence[float]) -> None:
        """Estimate the time of trials whose arm has no record, from its first trials here, or from any trial.

        A trial that has failed takes no more time.
        """
        seconds_by_arm: defaultdict[str, list[float]] = defaultdict(list)
        for status, fraction, job in zip(self._status, fractions, self._jobs, strict=True):
            if fraction and status.state != "failed":
                seconds_by_arm[job.trial.arm].append(status.seconds / fraction)
        all_seconds = [seconds for arm_seconds in seconds_by_arm.values() for seconds in arm_seconds] or [math.nan]
        overall_mean = sum(all_seconds) / len(all_seconds)
        mean = {arm: sum(seconds) / len(seconds) for arm, seconds in seconds_by_arm.items()}
        for index, (status, job) in enumerate(zip(self._status, self._jobs, strict=True)):
            if status.state == "failed":
                self._expected[index] = 0.0
            elif math.isnan(self._known[index]):
                self._expected[index] = mean.get(job.trial.arm, overall_mean)

    def _left(self, fractions: Sequence[float]) -> float:
        """Estimate the seconds left from expected times, corrected by the times in this run so far."""
        seconds_spent = sum(status.seconds for status in self._status if status.state != "failed")
        predicted = sum(fraction * seconds for fraction, seconds in zip(fractions, self._expected, strict=True))
        pace = seconds_spent / predicted if predicted > 0 and seconds_spent > 0 else 1.0
        remaining = sum((1 - fraction) * seconds for fraction, seconds in zip(fractions, self._expected, strict=True))
        return pace * remaining / self._workers


def _fraction(status: Status, expected: float) -> float:
    """The share of a trial's time that is spent; 0 if it is not known.

    Before the first step of a loop, and during a choice, after which other loops follow, the rest of the trial is known
    from its expected time alone.

    Args:
        status: How far it is.
        expected: The time that it is expected to take; NaN if that is unknown.
    """
    if status.state in _DONE:
        return 1.0
    if not status.step or not status.seconds:
        return 0.0 if math.isnan(expected) or not expected else min(status.seconds / expected, 1.0)
    whole = status.seconds + (status.seconds - status.begun) * (status.total / status.step - 1)
    if status.choosing:
        whole = max(whole, expected) if not math.isnan(expected) else math.inf
    return status.seconds / whole


def _fraction_of_loop(status: Status) -> float:
    return status.step / status.total if status.total else 0.0
