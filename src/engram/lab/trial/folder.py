"""One trial's folder: its identity, progress, metrics and result.

``trial.json`` (identity, machine), ``status.json`` (state, step), ``metrics.csv``, ``checkpoint-<loop>.safetensors``,
``state.safetensors`` (what it trained), ``result.json``, ``error.txt``. The folder is the only record of what was run.
Every file about a result names its trial by the folder's name, which ends in a hash of everything that determines the
result; a file that belongs to another trial counts as corrupt.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import filelock
import pydantic
from typing_extensions import TypedDict

from engram.lab.trial import metrics
from engram.lab.trial.choice import Choice
from engram.lab.trial.machine import hardware, versions
from engram.lab.trial.provenance import Provenance
from engram.storage import checkpoint, locks
from engram.storage.files import (
    CannotWriteError,
    CorruptFileError,
    keep_aside,
    read_json,
    read_sealed,
    write_atomic,
    write_json,
    write_sealed,
)

FRESH_SECONDS = 60.0
_AGAIN = re.compile(r"(\.\d+)?")  # the end of the name of a trial that ran again
_CHECKPOINT = re.compile(r"checkpoint-(0|[1-9][0-9]*)\.safetensors")
State = Literal["waiting", "running", "elsewhere", "interrupted", "failed", "finished"]


@dataclass(frozen=True)
class Status:
    """The progress of a trial.

    Attributes:
        state: ``waiting`` (not begun), ``running``, ``interrupted`` (can be resumed), ``failed`` or ``finished``; or
            ``elsewhere``, for a process that finds another one at work, in whose status it is ``running``.
        step, total: Steps done and total steps of the current loop; 0 before it begins.
        seconds, attempts: Time spent so far, over all attempts that count, and how many times it was started.
        begun, choosing: Time spent before the current loop, and whether it is a choice, after which others follow.
        message, note: Why it failed, or a warning, in one line, and the trial's own note on its progress.
        run, owner: The name of the run that works or worked on it, and in words the process of that run.
    """

    state: State = "waiting"
    step: int = 0
    total: int = 0
    seconds: float = 0.0
    begun: float = 0.0
    choosing: bool = False
    attempts: int = 0
    message: str = ""
    note: str = ""
    run: str = ""
    owner: str = ""


class Origin(TypedDict):
    """The identity of a trial, and the machines it ran on."""

    identity: dict[str, Any]  # all that determines the result
    versions: dict[str, Any]
    hardware: dict[str, Any]
    attempts: list[dict[str, Any]]


class Stored(TypedDict):
    """The record of a finished trial."""

    trial: str
    result: dict[str, Any]
    choices: dict[str, Choice]
    metrics: metrics.Mark
    seconds: float
    state: metrics.Mark | None  # None if the trial was asked to keep none
    made_by: Provenance


def name_of(identity: Mapping[str, Any]) -> str:
    """The name of a trial: arm, seed, and 12 digits of the SHA-256 of everything that determines its result."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{identity.get('arm')}-{identity.get('seed')}-{digest[:12]}"


def printable(text: str) -> str:
    """A text in which backslash escapes replace what UTF-8 cannot encode, such as parts of undecodable file names."""
    return text.encode(errors="backslashreplace").decode()


class TrialFolder:
    """The folder of one trial; it need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_path = path / "metrics.csv"
        self.state_path = path / "state.safetensors"
        self.tensorboard = path / "tensorboard"
        self._lock: locks.Lock | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, so that no other process works in it.

        Raises:
            filelock.Timeout: Another process holds it.
            CannotWriteError: It cannot be locked.
        """
        try:
            self._lock = lock = locks.acquire(self.path / "lock")
        except filelock.Timeout:
            raise
        except OSError as error:
            raise CannotWriteError(f"cannot lock {self.path}: {error}") from error
        try:
            yield
        finally:
            self._lock = None
            lock.release()

    def is_lost(self) -> bool:
        """Whether another process has taken over the folder that this one holds, and works in it."""
        return self._lock is not None and locks.is_lost(self._lock)

    def begin(self, identity: dict[str, Any]) -> str:
        """Record the trial's identity and this machine, next to the machines of earlier attempts.

        Returns:
            A warning if it resumes a trial that another kind of machine began; else the empty string.
        """
        self._set_aside(path for path in self._files() if path.is_dir() and not path.is_symlink())
        this_machine = hardware()
        machines: list[dict[str, Any]] = []
        if self.last_loop() >= 0:
            with contextlib.suppress(CorruptFileError):
                machines = self.origin()["attempts"]
        content: Origin = {
            "identity": identity,
            "versions": versions(),
            "hardware": this_machine,
            "attempts": [*machines, this_machine],
        }
        write_sealed(self.path / "trial.json", content, named=False)  # the next checkpoint or result makes it durable
        kinds = {
            tuple(machine.get(name) for name in ("processor", "kernels", "blas")) for machine in content["attempts"]
        }
        if len(kinds) == 1:
            return ""
        processors = " and ".join(dict.fromkeys(str(machine.get("processor")) for machine in content["attempts"]))
        return f"it goes on from what another kind of processor began ({processors}): the last digits may differ"

    def origin(self) -> Origin:
        """Read what ``begin`` wrote; raise CorruptFileError if it is unreadable, altered or of another trial."""
        path = self.path / "trial.json"
        try:
            origin = read_sealed(path, Origin)
        except FileNotFoundError:
            raise CorruptFileError(path, "it is missing") from None
        own_name, name = name_of(origin["identity"]), self.path.name
        is_own = name.startswith(own_name) and _AGAIN.fullmatch(name[len(own_name) :])
        self.check_own(path, name if is_own else own_name)
        return origin

    def check_own(self, path: Path, trial: str) -> None:
        """Raise CorruptFileError if a file names a trial other than this folder's."""
        if trial != self.path.name:
            raise CorruptFileError(path, f"it is of another trial, {trial}")

    def status(self) -> Status:
        """The status; ``waiting`` if nothing was written or it cannot be read."""
        try:
            return read_json(self.path / "status.json", Status)
        except (FileNotFoundError, CorruptFileError):
            return Status()

    def set_status(self, status: Status) -> None:
        """Replace the status."""
        write_json(self.path / "status.json", vars(status), durable=False)

    def checkpoint(self, loop: int) -> Path:
        """The path of the checkpoint of the trial's ``loop``-th loop."""
        return self.path / f"checkpoint-{loop}.safetensors"

    def last_loop(self) -> int:
        """The number of the last loop that has a checkpoint; -1 without any."""
        return max(self._checkpoints(), default=-1)

    def _checkpoints(self) -> dict[int, Path]:
        matches = ((_CHECKPOINT.fullmatch(path.name), path) for path in self.path.glob("checkpoint-*"))
        return {int(match[1]): path for match, path in matches if match}

    def made_by(self) -> Provenance | None:
        """What the last checkpoint of an unfinished trial was made by; None if there is no readable one."""
        with contextlib.suppress(FileNotFoundError, CorruptFileError, pydantic.ValidationError):
            stored = checkpoint.peek(self.checkpoint(self.last_loop()), "made_by")
            return pydantic.TypeAdapter(Provenance).validate_python(stored)
        return None

    def finish(
        self,
        result: dict[str, Any],
        mark: metrics.Mark,
        seconds: float,
        made_by: Provenance,
        state: dict[str, Any] | None = None,
        *,
        choices: Mapping[str, Choice] | None = None,
    ) -> None:
        """Write the state that the trial keeps, then the result, which finishes the trial; remove its checkpoints.

        Args:
            result: The result, as JSON values.
            mark: The mark of the complete metrics file.
            seconds: Processor time of the trial.
            made_by: Everything that the trial used.
            state: The state to keep, by name; None if the trial was asked to keep none.
            choices: The trial's choices, by name.
        """
        self.state_path.unlink(missing_ok=True)
        if state:
            checkpoint.save(self.state_path, state)
        state_mark = None if state is None else metrics.mark(self.state_path)
        stored: Stored = {
            "trial": self.path.name,
            "result": result,
            "choices": dict(choices or {}),
            "metrics": mark,
            "seconds": seconds,
            "state": state_mark,
            "made_by": made_by,
        }
        write_sealed(self.path / "result.json", stored)
        for path in self._checkpoints().values():
            path.unlink()

    def mark_used(self) -> None:
        """Record that the result is used again, by the modification time of its file."""
        with contextlib.suppress(OSError):  # it may be another user's file, and read-only
            os.utime(self.path / "result.json")

    def last_used(self) -> float:
        """When the result was written or last used, or the last checkpoint written; 0 without either."""
        paths = [self.path / "result.json", *self._checkpoints().values()]
        return max((path.stat().st_mtime for path in paths if path.exists()), default=0.0)

    def result(self) -> Stored | None:
        """The outcome of a finished trial; None if unfinished. Raises the same errors as ``finished``."""
        finished = self.finished()
        return None if finished is None else finished[0]

    def finished(self) -> tuple[Stored, Origin] | None:
        """The outcome of a finished trial, and its identity with its machines; None if unfinished.

        Raises:
            CorruptFileError: The result or the metrics are truncated, altered or of another trial, or the trial's
                identity cannot be read.
        """
        path = self.path / "result.json"
        try:
            stored = read_sealed(path, Stored)
        except FileNotFoundError:
            return None
        self.check_own(path, stored["trial"])
        metrics.check(self.metrics_path, stored["metrics"])
        return stored, self.origin()

    def kept(self) -> dict[str, Any]:
        """The state that a finished trial kept, by name; empty if it keeps nothing.

        Raises:
            ValueError: The trial has not finished, or was asked to keep no state.
            CorruptFileError: The result or the state is truncated or altered, or the state is missing.
        """
        stored = self.result()
        if stored is None:
            raise ValueError(f"{self.path} holds no finished trial: only a finished one has kept what it trained")
        mark = stored["state"]
        if mark is None:
            raise ValueError(f"the trial was run without keeping its state: remove {self.path} and run it again")
        metrics.check(self.state_path, mark)
        return dict(checkpoint.load(self.state_path)) if mark["bytes"] else {}

    def kept_bytes(self) -> int:
        """The size of the state that the trial kept; 0 where there is none."""
        return self.state_path.stat().st_size if self.state_path.exists() else 0

    def fail(self, traceback: str) -> None:
        """Write the traceback of a failed attempt."""
        write_atomic(self.path / "error.txt", printable(traceback).encode())

    def restart(self, error: CorruptFileError) -> None:
        """Set the corrupt file aside, with the files that are useless without it, so that the trial can start again."""
        useless = (self.metrics_path, self.state_path, self.path / "result.json", *self._checkpoints().values())
        self._set_aside({error.path, *useless})

    def _files(self) -> list[Path]:
        names = ("trial.json", "status.json", "result.json", "error.txt")
        return [self.metrics_path, self.state_path, *(self.path / name for name in names)]

    def _set_aside(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if os.path.lexists(path):  # true for a broken link too
                keep_aside(path)

    def is_locked(self) -> bool:
        """Whether another process is at work in the folder."""
        if not self.path.exists():
            return False
        try:
            return locks.is_held(self.path / "lock")
        except OSError:  # another user's folder: its status shows whether somebody is at work
            with contextlib.suppress(OSError):
                return time.time() - (self.path / "status.json").stat().st_mtime < FRESH_SECONDS
            return False
