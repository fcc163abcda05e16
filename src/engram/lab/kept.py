"""What a finished trial keeps of what it trained; and how it comes back: the trial's own code builds it again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from engram import checks
from engram.lab import config as configs
from engram.lab.code import code_digest
from engram.lab.experiment import Experiment
from engram.lab.folder import TrialFolder
from engram.lab.loop import Run, get_state, set_state
from engram.lab.trial import Trial, computing, names_in

PASSING = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, torch.Generator, np.random.Generator)


def state_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of what a trial's loops trained, by the names of ``Run.given``; empty where that is nothing.

    Optimisers, schedules and generators pass with the training. Arrays hold what is measured on the way: they are kept
    as far as something that was trained comes after them, since it may have been built from them.
    """
    names = list(given)
    trained = [number for number, name in enumerate(names, 1) if not isinstance(given[name], (*PASSING, np.ndarray))]
    kept = names[: max(trained, default=0)]
    return {name: get_state(name, given[name]) for name in kept if not isinstance(given[name], PASSING)}


def network(experiment: Experiment, config: Any, folder: TrialFolder, name: str | None = None) -> Any:
    """Return what a finished trial trained, as ``TrialResult.network`` describes; ``config`` is that of the run."""
    kept, identity = folder.kept(), folder.identity()
    title = f"{experiment.name}, {identity['arm']}, seed {identity['seed']}"
    if not kept:
        raise ValueError(f"{title}: its loops train nothing that could be kept")
    if identity["arm"] not in (arms := experiment.arms(config)):
        raise ValueError(f"{title}: the experiment has no such arm any more")
    arm = arms[identity["arm"]]
    settings = configs.from_dict(type(arm.config), identity["config"])
    device = identity["device"] if torch.cuda.is_available() else "cpu"
    options = (identity["seed"], device, identity["threads"], code_digest(arm.trial.__module__, names_in(settings)))
    trial = Trial(experiment.name, identity["arm"], arm.trial, settings, arm.seconds, *options)
    if trial.code != identity["code"]:
        changed = "its code has changed since; it is built by the code of today, with the state that was kept"
        warnings.warn(f"{title}: {changed}", stacklevel=3)
    with computing(trial), warnings.catch_warnings(action="ignore"):  # the trial has shown its own
        run = _Rebuild(trial, folder, kept)
        try:
            trial.function(settings, run)
        except _Built:
            pass
        except Exception as error:
            raise ValueError(f"{title}: its code of today cannot build what was kept: {error}") from error
    if missing := ", ".join(other for other in kept if other not in run.given):
        raise ValueError(f"{title}: its code of today gives its loops no {missing}")
    return run.given[_chosen(title, {other: run.given[other] for other in kept}, name)]


def _chosen(title: str, found: Mapping[str, Any], name: str | None) -> str:
    """Return the name of what is asked for; without one, that of the only module or, where there is none, learner."""
    if name is not None:
        return checks.choice("name", name, list(found))
    learners = [other for other, item in found.items() if not isinstance(item, torch.Tensor | np.ndarray)]
    names = [other for other in learners if isinstance(found[other], nn.Module)] or learners
    if len(names) != 1:
        names = names or list(found)
        raise ValueError(f"{title} kept {', '.join(names)}: name one of them, as in network({names[0]!r})")
    return names[0]


class _Built(Exception):  # noqa: N818
    """All that was kept is there again."""


class _Rebuild(Run):
    """A run that trains nothing: its loops have no steps, and put what was kept into what they are given."""

    def __init__(self, trial: Trial, folder: TrialFolder, kept: Mapping[str, Any]) -> None:
        super().__init__(folder, trial.seed, trial.device)
        self._kept = kept

    def steps(self, total: int, /, **state: Any) -> Iterator[int]:
        """Take what a loop is given, as one that was done before; end the trial once all that was kept is there."""
        before = set(self.given)
        self._give(state)
        for name in self._kept.keys() & (self.given.keys() - before):
            set_state(name, self.given[name], self._kept[name])
        if self._kept.keys() <= self.given.keys():
            raise _Built
        return iter(())

    def metrics(self) -> pl.DataFrame:
        """Return all that the trial has logged."""
        return self._folder.metrics()
