"""The work on one trial: lock its folder, begin or resume it, write its result."""

from __future__ import annotations

import itertools
import os
import platform
import random
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from joblib.externals.loky.cloudpickle_wrapper import dumps, loads

from engram import checks, references
from engram.errors import message_of
from engram.lab.trial.config import to_dict
from engram.lab.trial.digest import leave_out, name_of_file
from engram.lab.trial.folder import Status, TrialFolder, name_of, printable
from engram.lab.trial.loop import Displaced, Interrupted, TrialRun, get_state
from engram.lab.trial.provenance import OWN, Provenance, Use, difference, digests, strangeness
from engram.lab.trial.trial import Trial, computing
from engram.numeric import jit
from engram.numeric.parallel import is_ending, is_worker
from engram.run_options import RunOptions
from engram.storage import locks
from engram.storage.files import CannotWriteError, CorruptFileError, sweep, writing

SHARED = "other trials of its process see, and no checkpoint: draw from run.rng, and let settings say the rest"
RESTARTS = 3  # maximum number of attempts if files are corrupt
LONGEST_PATH = 1000
AS_USUAL = RunOptions()


@dataclass(frozen=True)
class Job:
    """A trial and the options with which a worker runs it.

    Attributes:
        trial: The trial.
        identity: What names the trial.
        made_by: The versions and files in the process that starts the run.
        folder: The folder of the trial.
        stop: The file whose existence asks the trial to stop.
        options: The options of the run.
        finished: Whether there is a result that is still valid.
        differs: What has changed, if there is a result or a checkpoint that is no longer valid, or if the finished
            result is taken all the same.
        owner: In words, the process that has started the run, which others are told.
    """

    trial: Trial
    identity: dict[str, Any]
    made_by: Provenance
    folder: TrialFolder
    stop: Path
    options: RunOptions = AS_USUAL
    finished: bool = False
    differs: str = ""
    owner: str = field(default_factory=lambda: f"process {os.getpid()} on {platform.node()}")

    @property
    def needs(self) -> dict[str, float]:
        """What it needs of a node of a Ray cluster."""
        memory = {"memory": self.trial.memory} if self.trial.memory else {}
        gpus = self.options.gpus_per_trial if self.trial.device == "cuda" else 0
        return {"num_cpus": self.trial.threads, "num_gpus": gpus, **memory}

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process, which first loads the file that the trial is defined in, if it is given by its place."""
        return _job_of, (references.files_of(self.trial.modules), dumps(vars(self)))


def _job_of(files: Sequence[str], fields: bytes) -> Job:
    for file in files:
        references.load(f"{file}:__name__")
    return Job(**loads(fields))


def use_of(trial: Trial) -> Use:
    """Start recording what a trial uses, in this process."""
    texts = strings(to_dict(trial.config))
    modules = {references.place_of(text).rpartition(":")[0] for text in texts if references.is_reference(text)}
    return Use(trial.modules | modules, [*named_paths(trial), *trial.uses])


def named_paths(trial: Trial) -> list[str]:
    """The files and folders that a trial's settings name, from the working directory or the folder of its module.

    Names may begin with ``~`` and hold variables. A folder that the program itself is in does not count, nor does the
    user's whole home.
    """
    file = getattr(sys.modules.get(trial.function.__module__), "__file__", None) or ""
    folder = "" if not file or Path(file).is_relative_to(OWN) else os.path.dirname(os.path.abspath(file))  # noqa: PTH100, PTH120
    around = [folder, os.path.expanduser("~")]  # noqa: PTH111
    with suppress(OSError):  # the working directory was removed
        around.append(os.getcwd())  # noqa: PTH109
    paths = []
    for text in strings(to_dict(trial.config)):
        place = text.rpartition(":")[0]
        if references.is_reference(text) and place.endswith(".py") and os.path.isfile(place):  # noqa: PTH113
            if references.place_of(text).rpartition(":")[0] not in sys.modules:  # the module that it will be
                paths.append(os.path.realpath(place))
            continue
        for path in dict.fromkeys((text, os.path.expandvars(os.path.expanduser(text)))):  # noqa: PTH111
            beside = [os.path.join(folder, path)] if folder and not os.path.isabs(path) else []  # noqa: PTH118, PTH117
            for candidate in (path, *beside):
                if os.path.isfile(candidate) or _is_data(candidate, around):  # noqa: PTH113 - Path raises if it is long
                    paths.append(candidate)
                    break
    return paths


def _is_data(folder: str, around: Iterable[str]) -> bool:
    """Whether a name is that of a folder, and not of one that certain folders lie in."""
    if not any(map(str.isalnum, folder)) or not os.path.isdir(folder):  # noqa: PTH112
        return False
    place = Path(folder).resolve()
    return not any(each and Path(each).resolve().is_relative_to(place) for each in around)


def strings(settings: Any) -> set[str]:
    """The strings in settings that are JSON values, except empty strings and those that are too long for a path."""
    if isinstance(settings, Mapping):
        settings = settings.values()
    if isinstance(settings, str):
        return {settings} if settings and len(settings) <= LONGEST_PATH and "\0" not in settings else set()
    return {text for value in settings for text in strings(value)} if isinstance(settings, Iterable) else set()


def prepare(
    trial: Trial,
    root: Path,
    stop: Path,
    options: RunOptions = AS_USUAL,
    *,
    loaded: Mapping[str, str] | None = None,
) -> Job:
    """Make the job that performs a trial in its folder below ``root``.

    If what a result was made by has changed, the result stays where it is, in case the change is undone, and the trial
    runs in another folder next to it, ``<name>.2``. ``differs`` then refers to the result that was used last.

    Args:
        trial: The trial.
        root: The folder of its experiment.
        stop: The file whose existence asks the trial to stop.
        options: The options of the run; with ``reuse``, the result that was used last is taken all the same.
        loaded: ``provenance.digests()``, shared when many jobs are prepared.
    """
    identity = trial.identity()
    leave_out(root.parent)
    use = use_of(trial)
    now = use.starts_from()
    loaded = digests() if loaded is None else loaded
    name = name_of(identity)
    made_by: Provenance = {"versions": {}, "parts": {}, "files": {}}
    free, stale, differs, last_used = None, None, "", -1.0
    for number in itertools.count(1):
        folder = TrialFolder(root / (f"{name}.{number}" if number > 1 else name))
        if not folder.path.exists():
            break
        try:
            is_finished, why = _holds(folder, loaded, now)
        except CorruptFileError:  # the worker reports it, sets it aside and starts again
            is_finished, why = False, ""
        if is_finished and not why:
            folder.mark_used()
            return Job(trial, identity, made_by, folder, stop, options, finished=True)
        free = folder if not why else free
        if why and (used := folder.last_used()) >= last_used:
            stale = folder if is_finished else stale
            differs, last_used = why, used
    if options.reuse and stale is not None:
        return Job(trial, identity, made_by, stale, stop, options, finished=True, differs=differs)
    made_by = use.provenance()
    return Job(trial, identity, made_by, free or folder, stop, options, differs="" if free else differs)


def _holds(folder: TrialFolder, loaded: Mapping[str, str], now: Provenance) -> tuple[bool, str]:
    """Whether a trial is finished, and what has changed since its result or its last checkpoint was written."""
    stored = folder.result()
    made_by = folder.made_by() if stored is None else stored["made_by"]
    return stored is not None, difference(made_by, loaded) or strangeness(made_by, now) if made_by else ""


def perform(job: Job) -> Status:
    """Perform or resume a trial, unless it is finished already; return its status afterwards.

    A failure, including a failed write, is returned rather than raised, so that other trials go on.
    """
    if is_worker():
        with suppress(OSError):  # there is no standard error stream
            os.dup2(2, 1)  # the standard output is reserved for the results
    folder = job.folder
    leave_out(folder.path.parent.parent)
    if (why := _another(job)) is not None:
        return Status("failed", message=why)
    try:
        with writing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        with folder.held():
            if job.stop.exists() or is_ending():
                raise Interrupted
            return _perform(job, folder)
    except (filelock.Timeout, Displaced):
        return replace(folder.status(), state="elsewhere")
    except Interrupted:
        return replace(folder.status(), state="interrupted")
    except CannotWriteError as error:
        return Status("failed", message=str(error))


def _another(job: Job) -> str | None:
    """Say what differs from the process that started the run: the folder of runs, or the code; None if neither does."""
    if not token(job.stop).exists():
        return f"{job.folder.path.parent} is not the folder of the run on {platform.node()}: all nodes must share it"
    try:
        here = use_of(job.trial).provenance()
    except ValueError as error:
        return str(error)
    for package, version in job.made_by["versions"].items():
        if (found := here["versions"].get(package, "not installed")) != version:
            return f"{package} is {found} on {platform.node()}, and {version} where the run was started"
    if job.trial.device == "cuda" and not torch.cuda.is_available():
        return f"device = 'cuda': no CUDA device is available on {platform.node()}"
    folders = {name_of_file(path) for path in named_paths(job.trial) if Path(path).is_dir()}  # trials may write there
    used = {name: sha for name, sha in here["files"].items() if name not in folders}
    edited = next((name for name, sha in used.items() if job.made_by["files"].get(name, sha) != sha), None)
    if edited is None:
        return None
    return (
        f"{edited} on {platform.node()} is not the code that started the run: "
        "install the same code on every node, and after an edit reload it or restart Python"
    )


def token(stop: Path) -> Path:
    """The path of the file that exists in the folder of runs while a run, which ``stop`` stops, is in progress."""
    return stop.with_suffix(".run")


def queue(job: Job) -> None:
    """Reset the status of an attempt that has ended, so that it is not shown as news, nor the trial left out.

    A trial that has failed in a run that is still in progress stays failed: other commands on its folder are part of
    that run.
    """
    status, ended = job.folder.status(), False
    if status.state == "failed":
        failed_in = job.stop.with_name(f"{status.run}.run")
        with suppress(OSError):  # another user's file, which may not be locked: the run counts as being in progress
            ended = not failed_in.exists() or not locks.is_held(failed_in)
    else:
        ended = status.state == "interrupted" or (status.state == "running" and not job.folder.is_locked())
    if ended:
        with suppress(CannotWriteError):  # the attempt says so
            job.folder.set_status(replace(status, state="waiting", message=""))


def _perform(job: Job, folder: TrialFolder) -> Status:
    sweep(folder.path)
    status = replace(folder.status(), message="", note="")
    try:
        is_finished, differs = _holds(folder, digests(), use_of(job.trial).starts_from())
        if differs:
            why = f"{differs} since another process ran it with other code: the same command runs it in a new folder"
            return replace(status, state="failed", message=why)
        if is_finished:
            return replace(status, state="finished")
        if status.state == "failed":  # in another process, since this run began
            return folder.status()
    except CorruptFileError as error:
        status = _restart(folder, status, error)
    warning = folder.begin(job.identity)
    status = replace(status, message=warning or status.message)
    restarts = 0
    while True:
        restarts += 1
        status = replace(status, state="running", attempts=status.attempts + 1, run=job.stop.stem, owner=job.owner)
        folder.set_status(status)
        try:
            with computing(job.trial):
                return _attempt(job, folder)
        except CorruptFileError as error:
            # A file outside the folder belongs to the user, not to the trial.
            if folder.path in error.path.absolute().parents and restarts < RESTARTS:
                status = _restart(folder, status, error)
            else:
                folder.fail(traceback.format_exc())
                status = replace(folder.status(), state="failed", message=printable(str(error)))
        except (CannotWriteError, Displaced):
            raise
        except Interrupted:
            status = replace(folder.status(), state="interrupted", note="")
        except (Exception, SystemExit) as error:  # a script that a trial calls may exit
            folder.fail(traceback.format_exc())
            status = replace(folder.status(), state="failed", message=printable(message_of(error)))
        if status.state in ("interrupted", "failed"):
            folder.set_status(status)
            return status


def _attempt(job: Job, folder: TrialFolder) -> Status:
    # A worker sees one GPU, the one of its trial.
    device = torch.device(job.options.gpu if job.trial.device == "cuda" and not is_worker() else job.trial.device)
    run = TrialRun(
        folder,
        job.trial.seed,
        str(device),
        stop=job.stop,
        checkpoint_seconds=job.options.checkpoint_seconds,
        tensorboard=job.options.tensorboard,
        use=use_of(job.trial),
        made_by=job.made_by,
        named=lambda: named_paths(job.trial),
    )

    def tell() -> None:
        folder.set_status(replace(folder.status(), note="compiling kernels"))

    before = _globals()
    with jit.on_compile(tell), nullcontext() if device.index is None else torch.cuda.device(device):
        result = job.trial.function(job.trial.config, run)
    check_result(result)
    status: Status
    mark, status = run.close()
    if changed := [name for name, value in _globals().items() if value != before[name]]:
        status = replace(status, message=f"the trial has changed {' and '.join(changed)}, which {SHARED}")
    state = {name: get_state(name, part) for name, part in run.kept.items()} if job.options.keep_state else None
    if folder.is_lost():
        raise Displaced
    folder.finish(result, mark, run.processor_seconds, run.made_by(), state, choices=run.choices)
    folder.set_status(status)
    return status


def _globals() -> dict[str, Any]:
    """What all trials of a process share, apart from torch's generators, which each trial seeds and saves."""
    numpy_state: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
    numbers = {**numpy_state, **numpy_state["state"], "state": None}.values()
    return {
        "the state of Python's global generator (random)": random.getstate(),
        "the state of NumPy's global generator (np.random)": [
            n.tobytes() if isinstance(n, np.ndarray) else n for n in numbers
        ],
        # Torch sets its own variables when it makes a first optimiser.
        "os.environ": {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR_")},
    }


def check_result(result: Any) -> None:
    """Raise TypeError unless a trial has returned a dict of JSON values."""
    if not isinstance(result, dict):
        raise TypeError(f"the trial returned {checks.shown(result)}: expected a dict of results")
    for name, value in result.items():
        if not isinstance(name, str):
            raise TypeError(f"result name {checks.shown(name)}: expected a string")
        if changed := _changed_by_json({name: value}):
            expected = "Python's numbers, strings of UTF-8, booleans, None, lists, and dicts of these by string"
            raise TypeError(f"result {name!r} = {checks.shown(value)}: expected {expected} (not {changed})")


def _changed_by_json(value: Any) -> str:
    """The first part of a value that JSON refuses or would return as another, in words; empty if there is none."""
    if value is None or type(value) in (bool, int, float) or isinstance(value, float):  # a NumPy double is a float
        return ""
    if type(value) is str:
        return "" if value == value.encode(errors="replace").decode() else f"the string {value!a}"
    if type(value) is list:
        return next(filter(None, map(_changed_by_json, value)), "")
    if type(value) is dict:
        keys = (f"the key {checks.shown(key)}" for key in value if type(key) is not str or _changed_by_json(key))
        return next(itertools.chain(keys, filter(None, map(_changed_by_json, value.values()))), "")
    return f"the {type(value).__name__} {checks.shown(value)}"


def _restart(folder: TrialFolder, status: Status, error: CorruptFileError) -> Status:
    folder.restart(error)
    return replace(status, state="waiting", message=f"{error}; it is set aside and the trial starts again")
