"""What the laboratory gives a trial: random generators, loops with exact resume, choices, a log, a device.

``TrialRun`` keeps all of it in the trial's folder; ``UnrecordedRun``, or ``CandidateRun`` within another run, writes
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl
import torch

from engram.lab.trial.choice import Choice


@runtime_checkable
class Run(Protocol):
    """The laboratory as a trial sees it.

    Attributes:
        generator, rng: The trial's random generators of torch and NumPy, on the CPU, so that the numbers do not depend
            on the device.
        device: Where to compute.
        choices: The trial's choices so far, by name.
    """

    generator: torch.Generator
    rng: np.random.Generator
    device: torch.device
    choices: dict[str, Choice]

    def steps(self, total: int, /, **state: Any) -> Iterator[int]:
        """Iterate over the steps of a training loop, resumably.

        A trial may have several loops, one after another; on resuming, the code between them runs again, in the same
        state as the first time.

        Args:
            total: Number of steps. Windows of ``log`` that are open from before the loop are dropped.
            **state: Whatever changes during the loop: anything with ``state_dict`` and ``load_state_dict``, tensors and
                arrays (changed in place), generators. ``run.generator``, ``run.rng`` and torch's global generators
                are included automatically.

        Yields:
            The step, ``0 .. total - 1``; a resumed loop continues from the last checkpoint.

        Raises:
            TypeError, ValueError: A state cannot be saved, or ``total`` is not an integer or negative.
            RuntimeError: An earlier loop was left before its last step.
            Interrupted: The run is to stop; raised after the checkpoint is written, or by ``beat``. A ``Displaced`` if
                another process has taken over the trial.
        """
        ...

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
        """Choose the candidate that scores best, resumably, and record the candidates and their scores.

        If the best candidate is at an end of the grid, up to three more are tried beyond it, each further by a constant
        factor; if no candidate has a score, smaller ones are tried. Among equal scores, the middle one wins.

        Args:
            name: The name of the choice, as ``"learning_rate"``; unique in a trial.
            candidates: Values to choose from, at least one, in any order.
            score: Returns a candidate's score (larger is better), computed on data that no result uses. A candidate
                whose score is not finite or raises FloatingPointError is not chosen.
            accept: Says whether a candidate works, for instance as a rate in the final training. It is called from the
                best score down until it accepts a candidate; if it accepts none, the best score decides.
            extend: Whether to try candidates beyond an end. A choice at an end is reported in any case.
            bounds: The smallest and the largest meaningful value. A choice of one of them does not count as a choice at
                an end.
            **state: Whatever ``score`` and ``accept`` change, as for ``steps``.

        Returns:
            The chosen candidate.

        Raises:
            ValueError: There is no candidate, one is out of bounds or occurs twice, or the name was used already.
            FloatingPointError: No candidate has a score.
            TypeError, RuntimeError, Interrupted: As in ``steps``.
        """
        ...

    # ``every`` has the type of the values, since a type checker cannot tell that no key of ``**values`` has this name.
    def log(self, step: int, /, *, every: float | torch.Tensor = 1, **values: float | torch.Tensor) -> dict[str, float]:
        """Add metrics: one row for each, at a step; or means over windows of steps.

        Args:
            step: The step that they belong to.
            every: Number of calls in a window; the last call writes the means, each over the calls that had the metric.
                A window that is still open when the next loop begins is dropped. What is averaged over windows of one
                length is logged by one call a step.
            **values: Numbers, or tensors of one element.

        Returns:
            The values written; empty while the window is open.

        Raises:
            TypeError, ValueError: The step or ``every`` is not an integer or out of range, a name or value is invalid,
                or another call with this ``every`` has logged other metrics at this step.
        """
        ...

    def keep(self, **parts: Any) -> None:
        """Save the state that trained objects have when the trial ends, for ``TrialResult.load``.

        Args:
            **parts: The objects to keep, by name: anything that ``steps`` takes.

        Raises:
            TypeError: A state cannot be saved.
            RuntimeError: It is called within a loop, whose steps a resumed trial does not repeat.
        """
        ...

    def uses(self, path: str | Path, /) -> Path:
        """Declare a file that the trial reads, or a folder whose files it reads: once edited, the trial runs again.

        The files of its own modules, and those that its settings name, count without that.

        Args:
            path: The file or the folder.

        Returns:
            Its path.

        Raises:
            FileNotFoundError: There is none.

        Examples:
            ``table = np.loadtxt(run.uses("rates.csv"))``
        """
        ...

    def note(self, text: str, /) -> None:
        """Show a few words next to the trial's progress from now on; they are not saved."""
        ...

    def beat(self, text: str = "", /) -> None:
        """Within a step that takes long: show how far it is, and stop if the run is to.

        A resumed trial repeats the step, with the random numbers that it had. After such a step a checkpoint is written
        in any case.

        Args:
            text: A few words to show next to the trial's progress until the next beat or the end of the step.

        Raises:
            Interrupted: The run is to stop. A ``Displaced`` if another process has taken over the trial.
        """
        ...

    def metrics(self) -> pl.DataFrame:
        """Everything logged so far, including before an interruption: columns step, metric and value."""
        ...

    def ends(self, metric: str, parts: int = 10) -> tuple[float, float]:
        """The means of a metric over the first and the last of ``parts`` parts of its rows, each at least a row.

        They are NaN, with a warning of NumPy, if nothing was logged under this name.
        """
        ...
