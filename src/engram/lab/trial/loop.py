"""The run of a trial, kept in its folder: loops with exact resume, a log, checkpoints."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import annotated_types
import numpy as np
import polars as pl
import torch
from typing_extensions import TypedDict

from engram import checks
from engram.lab.trial import choice
from engram.lab.trial.folder import Status, TrialFolder
from engram.lab.trial.metrics import Mark, MetricsFile, ends
from engram.lab.trial.provenance import WRITTEN, Provenance, Use, merged, written
from engram.numeric.parallel import is_ending
from engram.storage import checkpoint
from engram.storage.files import CorruptFileError, in_shape

HEARTBEAT_SECONDS = 0.5


class Interrupted(Exception):  # noqa: N818
    """The run was asked to stop; the trial can be resumed from its last checkpoint, written after its last step."""


class Displaced(Interrupted):
    """Another process has taken over the folder, whose holder did not answer in time; nothing more is written to it."""


class Saved(TypedDict):
    """A checkpoint of a loop."""

    trial: str
    loop: int
    step: Annotated[int, annotated_types.Ge(0)]
    total: int
    seconds: float
    processor_seconds: float
    begun: float
    metrics: Mark
    windows: dict[int, tuple[int, int, dict[str, tuple[float, int]]]]
    made_by: Provenance
    state: dict[str, Any]


class TrialRun:
    """A ``Run`` that keeps metrics, checkpoints and results in the folder of its trial, from where it is resumed.

    Attributes:
        kept: The objects whose state the trial keeps, by name.

    Args:
        folder: The trial's folder, locked by the caller.
        seed: Seed of both generators, and of torch's global one for modules such as ``nn.Dropout`` that use no other.
        device: Where to compute.
        stop: If this file exists, the trial stops; it looks for the file every half second, after a step.
        checkpoint_seconds: Time between checkpoints; 0 writes one at every step.
        tensorboard: Write event files as well.
        use: The record of what the trial uses (default: a new one).
        made_by: What the process that started the run has found; checkpoints hold it too.
        named: Gives the files and folders that the trial's settings name and that exist.
    """

    def __init__(
        self,
        folder: TrialFolder,
        seed: int,
        device: str = "cpu",
        *,
        stop: Path | None = None,
        checkpoint_seconds: float = 10.0,
        tensorboard: bool = False,
        use: Use | None = None,
        made_by: Provenance | None = None,
        named: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        words = [int(word) for word in np.random.SeedSequence(seed).generate_state(3)]
        self.generator = torch.Generator().manual_seed(words[0])
        self.rng = np.random.default_rng(words[1])
        self.device = torch.device(device)
        torch.default_generator.manual_seed(words[2])  # torch.manual_seed would queue a call for each absent device
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(words[2])
        self._folder = folder
        self._status = replace(folder.status(), state="running", step=0, total=0, seconds=0.0, note="")
        self._stop = stop
        self._checkpoint_seconds = checkpoint_seconds
        self.kept: dict[str, Any] = {}
        self.choices: dict[str, choice.Choice] = {}
        self._loops = 0
        self._chooses = self._is_beaten = False
        self._resumed = folder.last_loop()
        self._metrics = MetricsFile(folder.metrics_path)
        self._use = Use(()) if use is None else use
        self._named = named
        self._used_before = made_by or {"versions": {}, "parts": {}, "files": {}}
        # By their length: the calls so far, the step of the last one, and the sum and count of each metric.
        self._windows: dict[int, tuple[int, int, dict[str, tuple[float, int]]]] = {}
        self._started = self._beat = self._saved = time.monotonic()
        self._computing = time.process_time()
        self._before = self._computed_before = 0.0
        self._events: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # Events after the checkpoint are hidden, since they are written again.
            metrics_file = MetricsFile(folder.metrics_path)
            if self._resumed >= 0:
                metrics_file.cut(self._saved_in(self._resumed)["metrics"])
            last = max(metrics_file.frame()["step"].to_list(), default=-1)
            self._events = SummaryWriter(folder.tensorboard, purge_step=last + 1)

    def steps(self, total: int, /, **state: Any) -> Iterator[int]:
        """Iterate over the steps of a training loop, resumably."""
        self._check_complete()
        total = checks.size("total", total, minimum=0, maximum=None)
        loop, self._loops = self._loops, self._loops + 1
        path = self._folder.checkpoint(loop)
        self._windows, step = {}, 0
        self._status = replace(self._status, begun=self._seconds(), choosing=self._chooses)
        if loop <= self._resumed:
            step = self._restore(loop, total, state)
        if step == total and not path.exists():
            self._save(loop, step, total, state)
        self._status = replace(self._status, step=step, total=total)
        while step < total:
            yield step
            step += 1
            self._status = replace(self._status, step=step)
            now = time.monotonic()
            beat = now - self._beat >= HEARTBEAT_SECONDS
            stopping = beat and self._is_to_stop()
            if beat:
                if self._folder.is_lost():
                    raise Displaced
                self._heartbeat()
            if stopping or step == total or self._is_beaten or now - self._saved >= self._checkpoint_seconds:
                self._save(loop, step, total, state)
                self._is_beaten = False
            if stopping and step < total:
                raise Interrupted

    def choose(
        self,
        name: str,
        candidates: Sequence[float],
        score: Callable[[float], float],
        /,
        *,
        accept: Callable[[float], bool] | None = None,
        extend: bool = True,
        bounds: tuple[float, float] = (0.0, math.inf),
        **state: Any,
    ) -> float:
        """Choose the candidate that scores best, resumably, and record the candidates and their scores."""
        choice.check_grid(name, candidates, bounds, self.choices)
        self._chooses = True
        options: dict[str, Any] = {"accept": accept, "extend": extend, "bounds": bounds, "state": state}
        self.choices[name] = choice.choose(self.steps, name, candidates, score, **options)
        self._chooses = False
        return self.choices[name]["chosen"]

    def log(self, step: int, /, *, every: float | torch.Tensor = 1, **values: float | torch.Tensor) -> dict[str, float]:
        """Add metrics: one row for each, at a step; or means over windows of steps."""
        try:
            index = operator.index(step)
        except TypeError:
            raise TypeError(f"step = {checks.shown(step)}: expected an int") from None
        step = checks.size("step", index, minimum=-(2**63), maximum=2**63 - 1)
        logged = {name: _scalar(name, value) for name, value in values.items()}
        if (length := checks.size("every", every)) > 1:
            logged = self._means(length, step, logged)
        for name, number in logged.items():
            self._metrics.append(step, name, number)
            if self._events is not None and self._loops > self._resumed:
                self._events.add_scalar(name, number, step)
        return logged

    def keep(self, **parts: Any) -> None:
        """Save the state that trained objects have when the trial ends, for ``TrialResult.load``."""
        if self._status.step < self._status.total:
            raise RuntimeError(f"run.keep({', '.join(parts)}) within a loop: keep objects before or after it")
        for name, part in parts.items():
            get_state(name, part)
        self.kept |= parts

    def uses(self, path: str | Path, /) -> Path:
        """Declare a file that the trial reads, or a folder whose files it reads."""
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"path = {str(path)!r}: expected a file or a folder")
        self._use.declare(path)
        return path

    def note(self, text: str, /) -> None:
        """Show a few words next to the trial's progress from now on; they are not saved."""
        self._status = replace(self._status, note=text)

    def beat(self, text: str = "", /) -> None:
        """Within a step that takes long: show how far it is, and stop if the run is to."""
        if time.monotonic() - self._beat < HEARTBEAT_SECONDS:
            return
        self._is_beaten = True
        if self._folder.is_lost():
            raise Displaced
        self._heartbeat(text)
        if self._is_to_stop():
            raise Interrupted

    def metrics(self) -> pl.DataFrame:
        """Everything logged so far, including before an interruption: columns step, metric and value."""
        return self._metrics.frame()

    def ends(self, metric: str, parts: int = 10) -> tuple[float, float]:
        """The means of a metric over the first and the last of some parts of its rows."""
        return ends(self.metrics(), metric, parts)

    def close(self) -> tuple[Mark, Status]:
        """End the trial and flush everything; return the mark of the metrics and the final status."""
        self._check_complete()
        if self._events is not None:
            self._events.close()
        return self._metrics.mark(), replace(self._status, state="finished", seconds=self._seconds(), note="")

    def made_by(self) -> Provenance:
        """Everything that the trial has used so far, including before an interruption."""
        made_by = merged(self._used_before, self._use.provenance())
        made_by["files"] |= dict.fromkeys(written(self._used_before, self._named()), WRITTEN)
        return made_by

    def _means(self, every: int, step: int, values: dict[str, float]) -> dict[str, float]:
        """Add values to the open window of this length; return the means if that completes it."""
        calls, last_step, sums = self._windows.pop(every, (0, step, {}))
        if calls and step == last_step and sums.keys().isdisjoint(values):
            own, others = ", ".join(values), ", ".join(sums)
            raise ValueError(f"step = {step}: expected {own} in the call with every = {every} that logs {others}")
        for name, value in values.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = (total + value, count + 1)
        if calls + 1 == every:
            return {name: total / count for name, (total, count) in sums.items()}
        self._windows[every] = (calls + 1, step, sums)
        return {}

    def _is_to_stop(self) -> bool:
        """Whether the run was asked to stop, or this worker is to end."""
        return is_ending() or (self._stop is not None and self._stop.exists())

    def _check_complete(self) -> None:
        """Refuse to go on after a ``break``: a resumed trial would not know about it."""
        if self._status.step < self._status.total:
            position = f"step {self._status.step} of {self._status.total}"
            advice = "run.steps supports neither break (skip the work in the remaining steps instead) nor nested loops"
            raise RuntimeError(f"the loop was left at {position}: {advice}")

    def _seconds(self) -> float:
        return round(self._before + time.monotonic() - self._started, 3)

    @property
    def processor_seconds(self) -> float:
        """The processor time spent so far, over all attempts that count; other processes are not included."""
        return round(self._computed_before + time.process_time() - self._computing, 3)

    def _heartbeat(self, note: str = "") -> None:
        self._beat = time.monotonic()
        self._folder.set_status(replace(self._status, seconds=self._seconds(), note=note or self._status.note))

    def _save(self, loop: int, step: int, total: int, state: dict[str, Any]) -> None:
        content: Saved = {
            "trial": self._folder.path.name,
            "loop": loop,
            "step": step,
            "total": total,
            "seconds": self._seconds(),
            "processor_seconds": self.processor_seconds,
            "begun": self._status.begun,
            "metrics": self._metrics.mark(),
            "windows": self._windows,
            "made_by": self.made_by(),
            "state": {name: get_state(name, item) for name, item in self._all(state).items()},
        }
        checkpoint.save(self._folder.checkpoint(loop), content)
        self._saved = time.monotonic()

    def _saved_in(self, loop: int) -> Saved:
        path = self._folder.checkpoint(loop)
        if not path.exists():
            raise CorruptFileError(path, "it is missing")
        content = in_shape(path, Saved, checkpoint.load(path))
        self._folder.check_own(path, content["trial"])
        return content

    def _restore(self, loop: int, total: int, state: dict[str, Any]) -> int:
        path, content, items = self._folder.checkpoint(loop), self._saved_in(loop), self._all(state)
        is_same = (content["loop"], content["total"], set(content["state"])) == (loop, total, set(items))
        if not is_same or content["step"] > total:
            raise CorruptFileError(path, "it is of another loop")
        for name, item in items.items():
            try:
                set_state(name, item, content["state"][name])
            except Exception as error:
                raise CorruptFileError(path, f"its state {name!r} does not fit: {error!r}") from error
        self._metrics.cut(content["metrics"])
        self._windows, self._used_before = content["windows"], merged(self._used_before, content["made_by"])
        self._before, self._computed_before = content["seconds"], content["processor_seconds"]
        self._status = replace(self._status, begun=content["begun"])
        self._started, self._computing = time.monotonic(), time.process_time()
        return content["step"]

    def _all(self, state: dict[str, Any]) -> dict[str, Any]:
        generators = {"run.generator": self.generator, "run.rng": self.rng, "torch.generators": _GlobalGenerators()}
        return {**state, **generators}


class _GlobalGenerators:
    """Torch's global generators, of the CPU and, if CUDA is in use, of each CUDA device."""

    def state_dict(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["cpu"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])


def _scalar(name: str, value: Any) -> float:
    """The value of a metric; TypeError if it is not a number."""
    try:
        return float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError):
        raise TypeError(f"metric {name!r} = {checks.shown(value)}: expected one number") from None
    except RuntimeError as error:  # perhaps from an earlier operation on a GPU
        checks.note(error, **{f"metric {name!r}": value})
        raise


def get_state(name: str, item: Any) -> Any:
    """The state of an object that a loop changes; raise TypeError if it cannot be saved."""
    match item:
        case torch.Tensor() | np.ndarray():
            return item
        case torch.Generator():
            return item.get_state()
        case np.random.Generator():
            return item.bit_generator.state
        case _ if hasattr(item, "state_dict") and hasattr(item, "load_state_dict"):
            return item.state_dict()
        case _:
            expected = "a tensor, an array, a generator or an object with state_dict and load_state_dict"
            raise TypeError(f"state {name!r} is of type {type(item).__name__}: expected {expected}")


def set_state(name: str, item: Any, stored: Any) -> None:
    """Restore what ``get_state`` returned.

    Args:
        name: Name of the state, for the error.
        item: The object to restore; changed in place.
        stored: Its state.

    Raises:
        ValueError: The shapes differ.
    """
    match item:
        case torch.Tensor() | np.ndarray() if item.shape != stored.shape:
            raise ValueError(f"state {name!r} has shape {tuple(item.shape)}, but the stored one {tuple(stored.shape)}")
        case torch.Tensor():
            with torch.no_grad():
                item.copy_(stored)
        case np.ndarray():
            item[...] = stored
        case torch.Generator():
            item.set_state(stored)
        case np.random.Generator():
            item.bit_generator.state = stored
        case _:
            item.load_state_dict(stored)
