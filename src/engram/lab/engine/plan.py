"""The plan of a run: what is asked for, and the trials that it needs, of which some are done."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.filesize import decimal
from rich.markup import escape

from engram import checks
from engram.errors import message_of
from engram.lab.claims.claim import Claim
from engram.lab.engine.times import timed
from engram.lab.trial.experiment import Arm, Experiment
from engram.lab.trial.job import Job, prepare
from engram.lab.trial.machine import cores, gpu_places, memory
from engram.lab.trial.provenance import digests
from engram.lab.trial.trial import Trial, check_arms, duration, trials
from engram.numeric import jit
from engram.numeric.ray_tasks import capacity
from engram.run_options import RunOptions, check_device
from engram.storage.files import runs_folder

WORKER_SECONDS = 5.0  # time a worker needs for its imports


@dataclass(frozen=True)
class Request:
    """What a run is asked for: an experiment, the options of the run, and settings to change.

    Attributes:
        experiment: The experiment.
        options: The options of the run.
        changes: Settings to change from the preset.

    Raises:
        TypeError, ValueError: The experiment has no such preset, arm or setting, or the device is not there.
    """

    experiment: Experiment
    options: RunOptions = field(default_factory=RunOptions)
    changes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        options = self.options
        checks.choice("preset", options.preset, self.experiment.presets)
        check_arms(self.experiment, self.compared, options.arms)
        if options.address is None:  # else it is known once the cluster is connected
            device_of(options.device)

    @cached_property
    def changed(self) -> dict[str, Any]:
        """The changes that differ from the preset, by dotted field."""
        return self.experiment.changed(self.options.preset, self.changes, self.options.arms)

    @cached_property
    def compared(self) -> dict[str, Arm]:
        """The arms of the experiment at the size to run, by name."""
        return self.experiment.arms(self.options.preset, self.changed)

    @property
    def looks(self) -> list[int]:
        """The numbers of seeds after which claims are judged; empty for a fixed number of seeds."""
        preset = self.experiment.presets[self.options.preset]
        return [int(look) for look in preset.looks] if self.options.until_decided else []

    @property
    def counts(self) -> list[int]:
        """The numbers of seeds, one after another."""
        seeds = self.options.seeds
        return self.looks or [self.experiment.presets[self.options.preset].seeds if seeds is None else seeds]

    @property
    def claims(self) -> list[Claim]:
        """The claims that the run judges."""
        preset = self.options.preset
        return [] if self.changed else [claim for claim in self.experiment.claims if claim.is_judged_at(preset)]

    @property
    def root(self) -> Path:
        """The folder that the experiment is run in."""
        return runs_folder(self.options.runs) / self.experiment.name


@dataclass(frozen=True)
class Plan:
    """The trials of a run up to one of its looks.

    Attributes:
        request: What was asked for.
        seeds: Number of seeds of this look.
        claims: The claims to judge as soon as their trials are done.
        jobs: All trials so far, in the order in which results list them.
        new: Those of them that this look adds.
        remaining: Those that are still to be done, in the order in which they start: seeds in turn, so that a first
            comparison of all arms comes early.
        workers: Number of trials at once.
    """

    request: Request
    seeds: int
    claims: Sequence[Claim]
    jobs: Sequence[Job]
    new: Sequence[Job]
    remaining: Sequence[Job]
    workers: int

    @property
    def finished(self) -> list[Job]:
        """The trials that were done before this look's begin."""
        begun = {job.folder.path for job in self.remaining}
        return [job for job in self.jobs if job.folder.path not in begun]

    def __str__(self) -> str:
        """The number of trials done, the time left and the size of what will be saved, as a line with rich's markup."""
        options = self.request.options
        title = f"{self.request.experiment.name}, preset {options.preset}"
        return say_expected(title, self.new, self.workers) + (
            saved_size(self.finished, self.remaining) if options.keep_state else ""
        )


def plan(
    request: Request, stop: Path, seeds: int, claims: Sequence[Claim] | None = None, before: Plan | None = None
) -> Plan:
    """Plan a run up to a number of seeds.

    Args:
        request: What is asked for.
        stop: The file whose existence asks the trials to stop.
        seeds: Number of seeds.
        claims: The open claims, whose arms get them (default: all that the run judges, and all arms asked for).
        before: The plan of the look before, whose trials are done.

    Raises:
        ValueError: An arm is unknown, or some arms lack data, or a package of an extra.
    """
    experiment, compared, options = request.experiment, request.compared, request.options
    first, done = (0, []) if before is None else (before.seeds, list(before.jobs))
    arms = options.arms if claims is None else list(dict.fromkeys(arm for claim in claims for arm in claim.arms))
    on_cluster = options.address is not None
    device = device_of(options.device, capacity({"num_gpus": 1}) > 0 if on_cluster else None)
    asked = trials(experiment, compared, seeds=seeds - first, first=first, arms=arms, device=device)
    todo, loaded = timed(experiment, asked, request.root), digests()
    new = [prepare(trial, request.root, stop, options, loaded=loaded) for trial in todo]
    order = {arm: index for index, arm in enumerate(compared)}
    jobs = sorted([*done, *new], key=lambda job: (order[job.trial.arm], job.trial.seed))
    remaining = sorted(unfinished(experiment, new), key=lambda job: job.trial.seed)
    workers = workers_for(experiment, options, remaining)
    return Plan(request, seeds, request.claims if claims is None else claims, jobs, new, remaining, workers)


def device_of(device: str, has_gpu: bool | None = None) -> str:
    """The kind of device to compute on, for ``trials``: ``"cpu"``, ``"cuda"``, or ``"auto"`` if there is a GPU.

    Args:
        device: ``"cpu"``, ``"cuda"``, one GPU such as ``"cuda:1"``, or ``"auto"``.
        has_gpu: Whether there is a GPU where trials run (default: look for one in this machine).

    Raises:
        ValueError: The device is unknown, or not there.
    """
    check_device(device)
    kind, _, number = device.partition(":")
    available = torch.cuda.is_available() if has_gpu is None else has_gpu
    if kind == "cuda" and not available:
        where = "" if has_gpu is None else " in the cluster"
        raise ValueError(f"device = {device!r}: no CUDA device is available{where}")
    if number and int(number) >= torch.cuda.device_count():
        raise ValueError(f"device = {device!r}: expected one of {torch.cuda.device_count()} GPUs, counted from 0")
    return kind if available else "cpu"


def unfinished(experiment: Experiment, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that are still to be done.

    Raises:
        ValueError: Some arms lack data, or a package of an extra.
    """
    remaining = [job for job in jobs if not job.finished]
    lacking: dict[str, Exception] = {}
    for trial in {job.trial.arm: job.trial for job in remaining}.values():
        try:
            experiment.check_requirements(trial.config)
        except Exception as error:
            lacking[trial.arm] = error
    if lacking:
        available_arms = ",".join(dict.fromkeys(job.trial.arm for job in jobs if job.trial.arm not in lacking))
        advice = f"\nWithout it you can run: --arms {available_arms}" if available_arms else ""
        arms = ", ".join(lacking)
        why = message_of(next(iter(lacking.values()))).partition(": ")[2]
        raise ValueError(f"{experiment.name} cannot run {arms} here: {why}{advice}")
    return remaining


def workers_for(experiment: Experiment, options: RunOptions, unfinished: Sequence[Job]) -> int:
    """The number of trials to run at once: as many as fit on the cores or GPUs and in memory, if workers are worth it.

    With the preset smoke, trials whose time is unknown are assumed to be short.

    Args:
        experiment: The experiment.
        options: The options of the run; with an address, its trials run on the Ray cluster that this process is
            connected to.
        unfinished: The unfinished jobs.

    Raises:
        ValueError: A trial needs more memory than the machine has, or the number asked for does, or more of anything
            than a node of the cluster has.
    """
    if options.address is not None:
        all_needs = {tuple(job.needs.items()) for job in unfinished}
        for needs in all_needs:
            if not capacity(dict(needs)):
                words = ", ".join(f"{name} = {amount:g}" for name, amount in needs)
                raise ValueError(f"{experiment.name}: each trial needs {words}: no node of the cluster has as much")
        return options.jobs or min((capacity(dict(needs)) for needs in all_needs), default=1)
    unknown = 0.0 if options.preset == "smoke" else WORKER_SECONDS
    times = [job.trial.time for job in unfinished]
    expected = sum(time.seconds if time.is_known else unknown for time in times)
    most = cores() // experiment.threads
    if any(job.trial.device == "cuda" for job in unfinished):
        most = len(gpu_places(options.gpu, options.gpus_per_trial))
        if not most:
            raise ValueError(f"gpus_per_trial = {options.gpus_per_trial:g}: this process may not use as many GPUs")
    fitting = check_memory(unfinished, options.jobs or 1)
    return options.jobs or max(1, min(most, int(expected / WORKER_SECONDS), fitting))


def check_memory(jobs: Sequence[Job], workers: int) -> int:
    """The number of trials that fit in memory at once, as far as their studies tell what they need.

    Args:
        jobs: The trials.
        workers: The number that is to run at once.

    Raises:
        ValueError: That number needs more than the machine has.
    """
    largest = max((job.trial for job in jobs), key=lambda trial: trial.memory, default=None)
    if largest is None or not largest.memory:
        return sys.maxsize
    available = memory()
    most = int(available // largest.memory)
    if most < min(workers, len(jobs)):
        need = f"arm {largest.arm} needs {gigabytes(largest.memory)} of memory in each trial"
        at_once = f", {workers} at once {gigabytes(workers * largest.memory)}" * (workers > 1)
        advice = "choose other arms, or smaller settings" if not most else f"expected jobs of at most {most}"
        raise ValueError(f"{largest.experiment}: {need}{at_once}; this machine has {gigabytes(available)}: {advice}")
    return most


def gigabytes(size: float) -> str:
    """A size of memory in GB."""
    return f"{size / 1e9:.1f} GB"


def say_expected(title: str, jobs: Sequence[Job], workers: int) -> str:
    """The number of trials done and the time left, as a line with rich's markup.

    Args:
        title: Title of the run.
        jobs: All trials.
        workers: Number of trials at once.
    """
    unfinished = [job for job in jobs if not job.finished]
    begin = f"[bold]{title}[/]: {len(jobs)} trials, {len(jobs) - len(unfinished)} done; "
    taken = [f"{count} taken although {escape(why)}" for why, count in reused(jobs).items()]
    if not unfinished:
        return begin + ", ".join(["nothing to do", *taken])
    workers = min(workers, len(unfinished))
    again = Counter(job.differs for job in unfinished if job.differs)
    time = expected_time([job.trial for job in unfinished], workers)
    time = ", ".join([time, *(f"{count} again since {escape(why)}" for why, count in again.items()), *taken])
    compiling = "" if jit.is_any_compiled() else ", and up to a minute more if kernels have to be compiled,"
    return f"{begin}{time}{compiling} with {workers} at once"


def expected_time(todo: Sequence[Trial], workers: int = 1) -> str:
    """The time of trials in words, and how it is known, with rich's markup.

    Args:
        todo: The trials.
        workers: Number of trials at once.
    """
    known_times = [trial.time for trial in todo if trial.time.is_known]
    unknown = list(dict.fromkeys(trial.arm for trial in todo if not trial.time.is_known))
    names = ", ".join(unknown) if len(unknown) < 5 else f"{', '.join(unknown[:3])} and {len(unknown) - 3} other arms"
    if not known_times:
        return "expected time unknown"
    time = f"expected time {duration(sum(time.seconds for time in known_times) / workers)}"
    sources = dict.fromkeys(time.how for time in known_times)
    without = [f"unknown for {names}"] * bool(unknown)
    return f"{time} ({'; '.join([escape(', '.join(sources)), *without])})"


def reused(jobs: Sequence[Job]) -> dict[str, int]:
    """How many finished trials are taken although something has changed since, by what has."""
    return dict(Counter(job.differs for job in jobs if job.finished and job.differs))


def saved_size(finished: Sequence[Job], unfinished: Sequence[Job]) -> str:
    """The size of the state that the remaining trials will save, as far as finished trials of their arms show it.

    The networks of a trial are known only after it has prepared its data, which may take half a minute.
    """
    sizes = {job.trial.arm: job.folder.kept_bytes() for job in finished}
    known_sizes = [sizes[job.trial.arm] for job in unfinished if job.trial.arm in sizes]
    if len(known_sizes) == len(unfinished) and not sum(known_sizes):
        return ""
    at_least = f"at least {decimal(sum(known_sizes))}, " if sum(known_sizes) else ""
    size = decimal(sum(known_sizes)) if len(known_sizes) == len(unfinished) else f"{at_least}each trial prints its size"
    return f"; saves the trained networks ({size}; --no-keep-state: none)"
