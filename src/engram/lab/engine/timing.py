"""Measuring how long a trial takes: it is performed in a process of its own, with a few steps of each of its loops.

What lies before, between and after the loops is performed whole. Of a long loop, the first steps are performed, then
single steps spread over the rest of it, so that steps that cost more count as often as they occur.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import psutil
import torch
from joblib.externals.loky.process_executor import ProcessPoolExecutor
from typing_extensions import TypedDict

from engram import checks
from engram.errors import message_of
from engram.lab.trial.choice import EXTENSIONS
from engram.lab.trial.folder import TrialFolder, printable
from engram.lab.trial.job import Job
from engram.lab.trial.loop import TrialRun
from engram.lab.trial.trial import Time, Trial, computing
from engram.numeric import jit
from engram.numeric.parallel import end_with_parent, may_have_workers
from engram.storage.files import CorruptFileError, read_json, write_json

SECONDS = 20.0  # of the processor: limit on the measurement of a trial
BUSY = 3.0  # a measurement on a busy machine may last this many times as long
COMPILING = 90.0  # added once if kernels are compiled
STARTING = 120.0  # limit on the start of a process
IN_LOOPS = 0.6  # share of the limit after which a loop is left after a single step
SHARE = 0.5  # of the time left for loops that the first loop of its kind may take
FEW = 100  # a loop of no more steps is about different cases rather than training
POLL_SECONDS = 0.1
WRITE_SECONDS = 0.25
ENOUGH = 8  # number of spread steps whose mean counts alone
GOLDEN = (math.sqrt(5) - 1) / 2


class Begin(NamedTuple):
    """When something began, by the system's clock and by the processor time of its process."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Begin:
        """This moment, in this process."""
        return cls(time.time(), time.process_time())

    def spent(self, processor: float | None = None) -> float:
        """The part of a limit spent since: seconds of the processor, or a third of those of the clock if that is more.

        Args:
            processor: The processor time of the process (default: of this one).
        """
        processor = time.process_time() if processor is None else processor
        return max(processor - self.processor, (time.time() - self.wall) / BUSY)


class Progress(TypedDict):
    """How far a measurement has come.

    ``seconds`` is the estimated time of the trial up to where ``clock`` was the processor time of its process;
    ``steps`` of ``total`` were performed in the loops up to then. ``state`` is ``running``, ``finished`` or the error
    that ended it. The measurement ``began`` at a time of the system's clock, and at ``begin_clock`` of the processor.
    """

    state: str
    seconds: float
    steps: int
    total: int
    began: float
    begin_clock: float
    process: int
    clock: float
    compiled: bool


class TimedRun(TrialRun):
    """A run that performs a few steps of each loop and estimates the time of all of them.

    Args:
        folder: A temporary folder.
        seed: Seed of the trial.
        device: Where to compute.
        begin: When the measurement began, by the system's clock and by the processor time of this process.
        spread: Whether steps are spread over a loop; if not, only its first steps are performed.
    """

    def __init__(self, folder: TrialFolder, seed: int, device: str, *, begin: Begin, spread: bool = True) -> None:
        super().__init__(folder, seed, device)
        self._begin = begin
        self._spread = spread
        self._counted: Sequence[int] | None = None
        self._kinds: Counter[tuple[Any, ...]] = Counter()
        self._clock, self._written = time.process_time(), -math.inf
        self._progress: Progress = {
            "state": "running",
            "seconds": 0.0,
            "steps": 0,
            "total": 0,
            "began": begin.wall,
            "begin_clock": begin.processor,
            "process": os.getpid(),
            "clock": self._clock,
            "compiled": False,
        }
        self.tell()

    def steps(self, total: int, /, **state: Any) -> Iterator[int]:
        """Iterate over some of the steps of a loop."""
        self._check_complete()
        total = checks.size("total", total, minimum=0, maximum=None)
        numbers, self._counted = self._counted or range(total), None
        kind, begin = (total, *sorted(state)), Begin.now()
        limit = max(0.0, IN_LOOPS * SECONDS - self._begin.spent()) * SHARE / (1 + self._kinds[kind])
        self._kinds[kind] += 1
        self._loops += 1
        self._windows = {}
        took: dict[int, float] = {}
        self._progress["seconds"] = before = self._progress["seconds"] + self._lap()
        steps_before = self._progress["steps"]
        self._progress["total"] += len(numbers)
        self.tell()
        n_first = 0
        while len(took) < len(numbers) and not (took and begin.spent() > limit):
            if not took or not self._spread or (len(numbers) > FEW and begin.spent() < limit / 2):
                place, n_first = n_first, n_first + 1
            else:
                place = _place(len(took) - n_first, n_first, len(numbers), took)
            self._status = replace(self._status, step=numbers[place], total=max(total, 1))
            yield numbers[place]
            took[place] = self._lap()
            self._progress["seconds"] = before + _estimate(took, n_first, len(numbers))
            self._progress["steps"] = steps_before + len(took)
            self.tell(every=WRITE_SECONDS)
        self._status = replace(self._status, step=total, total=total)
        for _, last, sums in self._windows.values():  # windows that would have been completed in the steps left out
            for name, (value, count) in sums.items():
                self._metrics.append(last, name, value / count)

    def choose(
        self, name: str, candidates: Sequence[float], score: Callable[[float], float], /, **options: Any
    ) -> float:
        """Score some of the candidates; extensions of the grid are not expected."""
        extensions = EXTENSIONS * bool(options.get("extend", True))
        accepting = [len(candidates) + extensions] * (options.get("accept") is not None)
        self._counted = [*range(len(candidates)), *accepting]
        return super().choose(name, candidates, score, **options)

    def tell(self, state: str = "running", *, every: float = 0.0) -> None:
        """Write down how far the measurement has come, unless that was done within the last ``every`` seconds."""
        if time.monotonic() - self._written >= every:
            self._progress |= {"state": state, "clock": self._clock}
            write_json(_progress_path(self._folder.path), self._progress, durable=False)
            self._written = time.monotonic()

    def tell_compiling(self) -> None:
        """Write down that a kernel is compiled."""
        self._progress["compiled"] = True
        self.tell()

    def finish(self) -> None:
        """Count what lay behind the last loop."""
        self._progress["seconds"] += self._lap()
        self.tell("finished")

    @property
    def measured_steps(self) -> int:
        """The number of steps that were performed."""
        return self._progress["steps"]

    @property
    def has_compiled(self) -> bool:
        """Whether a kernel was compiled."""
        return self._progress["compiled"]

    def _lap(self) -> float:
        """The seconds of the processor since the last call."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        before, self._clock = self._clock, time.process_time()
        return self._clock - before


def _progress_path(folder: Path) -> Path:
    return folder / "progress.json"


def _place(number: int, low: int, high: int, taken: Collection[int]) -> int:
    """The ``number``-th of places spread evenly over a range, or the next one that is not taken."""
    place = low + int((number + 1) * GOLDEN % 1.0 * (high - low))
    while place in taken:
        place = place + 1 if place + 1 < high else low
    return place


def _estimate(took: Mapping[int, float], n_first: int, total: int) -> float:
    """The seconds of a loop from those of some of its steps, by place.

    Args:
        took: The seconds.
        n_first: Number of steps at the beginning that were performed one after another.
        total: Number of steps of the loop.
    """
    others = [seconds for place, seconds in took.items() if place >= n_first]
    if len(others) < ENOUGH:
        others = list(took.values())[len(took) > 2 :]  # the very first one may prepare something
    return sum(took.values()) + (total - len(took)) * mean(others)


def _measure(job: Job) -> None:
    """Perform a trial with a few steps of each loop; the folder of the job tells how far it has come.

    If it fails because steps were left out, only first steps are performed. If kernels had to be compiled, it is
    performed once more.
    """
    trial, spread, has_compiled, begin = job.trial, True, False, Begin.now()
    before: TimedRun | None = None
    while True:
        run = TimedRun(job.folder, trial.seed, trial.device, begin=begin, spread=spread)
        try:
            with computing(trial), jit.on_compile(run.tell_compiling):
                trial.function(trial.config, run)
        except Exception as error:
            if not spread:
                furthest = before if before is not None and before.measured_steps > run.measured_steps else run
                furthest.tell(printable(message_of(error)))
                return
            before, spread = run, False
            continue
        if not run.has_compiled or has_compiled:
            run.finish()
            return
        has_compiled, begin = True, Begin.now()


def _begin_process() -> None:
    """Make this process silent, and end it with its parent."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    end_with_parent()


def measured(trials: Iterable[Trial]) -> Iterator[tuple[Trial, Time]]:
    """Measure trials, one after another, each in at most 20 seconds of the processor; kernels are compiled before.

    Yields:
        Each trial, and its time: a lower bound if the limit did not suffice, unknown if the trial fails.
    """
    pool: ProcessPoolExecutor | None = None
    try:
        for trial in trials:
            if not may_have_workers(1):
                yield trial, Time(how="unknown: this process may start no others")
                continue
            with tempfile.TemporaryDirectory(prefix="engram-") as folder:
                path = Path(folder)
                pool = pool or ProcessPoolExecutor(1, initializer=_begin_process)
                job = Job(trial, {}, {"versions": {}, "parts": {}, "files": {}}, TrialFolder(path), path / "stop")
                clock = _watched(pool.submit(_measure, job), path)
                if clock is not None:
                    pool.shutdown(kill_workers=True)
                    pool = None
                yield trial, _time(_progress(path), clock)
    finally:
        if pool is not None:
            pool.shutdown(kill_workers=True)


def _watched(future: Future[None], folder: Path) -> float | None:
    """Wait for a measurement; if it does not end within its limit, return the processor time of its process."""
    started = time.monotonic()
    while not future.done():
        with warnings.catch_warnings():  # loky warns when it replaces a worker whose memory has grown
            warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
            wait([future], timeout=POLL_SECONDS)
        progress = _progress(folder)
        if progress is None and time.monotonic() - started > STARTING:
            return 0.0
        if progress is not None:
            try:
                clock = float(sum(psutil.Process(progress["process"]).cpu_times()[:2]))
            except psutil.NoSuchProcess:  # it has died, of which the pool will hear
                continue
            spent = Begin(progress["began"], progress["begin_clock"]).spent(clock)
            if spent > SECONDS + COMPILING * progress["compiled"]:
                return clock
    return None if future.exception() is None else 0.0


def _progress(folder: Path) -> Progress | None:
    try:
        return read_json(_progress_path(folder), Progress)
    except (FileNotFoundError, CorruptFileError):
        return None


def _time(progress: Progress | None, clock: float | None) -> Time:
    """The time of a trial from how far its measurement has come.

    Args:
        progress: How far; None if it did not begin.
        clock: The processor time at which it was ended; None if it has ended by itself.
    """
    if progress is None:
        return Time(how="unknown: its process did not begin to work")
    steps = f"{progress['steps']:,} of {progress['total']:,} steps"
    if progress["state"] == "finished":
        is_whole = progress["steps"] == progress["total"]
        return Time(progress["seconds"], "measured: a whole trial" if is_whole else f"measured: {steps}")
    if progress["state"] != "running" or not clock:
        error = "its process died" if progress["state"] == "running" else progress["state"]
        if not progress["steps"]:
            return Time(how=f"unknown: it fails if it is measured ({error})")
        return Time(progress["seconds"], f"at least: {steps}; without the others what follows fails ({error})", True)
    within = f"in {SECONDS:.0f} s"
    how = f"at least: {steps} {within}" if progress["total"] else f"at least: no step begins {within}"
    return Time(progress["seconds"] + max(0.0, clock - progress["clock"]), how, True)
