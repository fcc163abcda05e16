"""A meta-task as a decision process whose instance is hidden, for exact inference."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from engram import checks
from engram.tasks.meta.instance import Instance
from engram.tasks.meta.parts import ProbVar, StateVar, StimVar
from engram.tasks.meta.planning import QValues, enumerate_instances, model, optimal
from engram.tasks.meta.program import arrays
from engram.tasks.meta.task import MetaTask

_MAXIMUM = 6561


class POMDP(NamedTuple):
    """A task whose instance, meanings of variable stimuli, and z (state and flag) are hidden."""

    task: MetaTask
    instances: tuple[Instance, ...]
    prior: Float[np.ndarray, "instances"]  # their probabilities, as shares of the largest
    unpaid: Float[np.ndarray, "instances z actions z"]  # probabilities of successors without a reward
    paid: Float[np.ndarray, "instances z actions z"]  # with a reward
    value: Float[np.ndarray, "instances z actions z"]  # the reward on the way to each successor
    start: Float[np.ndarray, "instances z"]  # probabilities
    Q: QValues
    changes: Float[np.ndarray, "instances instances"] | None  # probabilities at the start of a trial; None: no change
    views: Float[np.ndarray, "states features"] | None  # observation of each cell of a grid; None: a stimulus
    shown: Int[np.ndarray, "states parts"]  # a fixed stimulus from 0; -1: nothing; -2 - k: variable stimulus k
    fixed: Float32[np.ndarray, "fixed size"]  # the vectors of the fixed stimuli
    n_stim_vars: int
    is_grid: bool

    def __repr__(self) -> str:
        return checks.described(self)


def pomdp(task: MetaTask, *, gamma: float = 0.95, points: int = 9) -> POMDP:
    """A task as a decision process whose instance is hidden.

    Args:
        task: The task.
        gamma: Discount for each step, at least 0 and below 1.
        points: Number of values for a uniform probability: the midpoints of equal intervals.

    Raises:
        ValueError: Its instances cannot be enumerated, since it has random mazes or too many variables; or its stimuli
            change within a lifetime, or may be equal; or variables that change depend on each other, are on a grid, or
            drift from given values.

    Examples:
        >>> from engram.tasks.meta import named
        >>> pomdp(named.two_step()).Q.shape
        (2, 3, 2)
    """
    checks.arguments()
    checks.size("points", points)
    checks.number("gamma", gamma, minimum=0, below=1)
    if task.is_maze:
        raise ValueError("task.topology.walls = 'random_maze': expected instances that can be enumerated")
    if task.stim.hazard:
        raise ValueError(f"task.stim.hazard = {task.stim.hazard}: expected 0")
    if task.n_stim_vars and task.stim.kind == "binary" and not task.stim.distinct:
        raise ValueError("task.stim.distinct = False: expected stimuli that differ")
    if task.n_stim_vars > 6:
        raise ValueError(f"task.n_stim_vars = {task.n_stim_vars}: expected at most 6")
    shares = [(i + 0.5) / points for i in range(points)]
    instances, complete = enumerate_instances(task, shares, maximum=_MAXIMUM)
    if not complete:
        raise ValueError(f"task: expected at most {_MAXIMUM} instances, with points = {points}")
    mdps = model(task, instances)
    stimulus_parts = [[-2 - part.index if isinstance(part, StimVar) else part for part in task.parts_of(state)]
             for state in range(task.n_states)]  # fmt: skip
    matrices, Q = (mdps.unpaid, mdps.paid, mdps.value, mdps.start), optimal(mdps, gamma)
    observation_arrays = _views(task), np.array(stimulus_parts), arrays(task)["fixed"], task.n_stim_vars
    return POMDP(
        task,
        instances,
        _prior(task, instances),
        *matrices,
        Q,
        _changes(task, instances),
        *observation_arrays,
        task.topology is not None,
    )


def _prior(task: MetaTask, instances: tuple[Instance, ...]) -> Float[np.ndarray, "instances"]:
    """The probability of each instance, as a share of the largest.

    They differ only where a variable has more values to choose from if the one that it must differ from has a value
    that is not its own.
    """
    n_choices = np.ones(len(instances))
    for k, variable in enumerate(task.state_vars):
        earlier, values = variable.distinct_from, task.state_range(k)
        if earlier is not None:
            taken = np.array([instance.states[earlier] in values for instance in instances])
            n_choices *= len(values) - taken
    prior: Float[np.ndarray, "instances"] = n_choices.min() / n_choices
    return prior


def _changes(task: MetaTask, instances: tuple[Instance, ...]) -> Float[np.ndarray, "instances instances"] | None:
    """The probability that one instance becomes another at the start of a trial; None if none changes."""
    volatile = [group.variable for group in task.groups if group.variable.hazard or getattr(group.variable, "drift", 0)]
    if not volatile:
        return None
    if task.topology is not None:
        raise ValueError("task.topology: expected None, because variables have a hazard or a drift")
    if any(isinstance(group.variable, StateVar) and group.variable.distinct_from is not None for group in task.groups):
        raise ValueError("task.state_vars: expected none that is distinct from another, because variables change")
    for k, prob in enumerate(task.prob_vars):
        if prob.drift and prob.values:
            raise ValueError(f"task.prob_vars[{k}].values = {prob.values}: expected none, because it drifts")
    change = np.ones((len(instances), len(instances)))
    for group in task.groups:
        variable = group.variable
        values = [group.of(instance.values) for instance in instances]
        different = sorted(set(values))
        index, n = np.array([different.index(value) for value in values]), len(different)
        kernel = np.eye(n)
        if isinstance(variable, ProbVar) and variable.drift:
            kernel = _drift(np.array(different)[:, 0], variable.low, variable.high, variable.drift)
        elif isinstance(variable, ProbVar) and variable.hazard and not variable.values:
            # A new draw between bounds may be in any of the intervals, the old one included.
            kernel = (1 - variable.hazard) * np.eye(n) + variable.hazard / n
        elif n > 1 and variable.hazard:
            kernel = (1 - variable.hazard) * np.eye(n) + variable.hazard * (1 - np.eye(n)) / (n - 1)
        change *= kernel[np.ix_(index, index)]
    return change


def _drift(
    values: Float[np.ndarray, "points"], low: float, high: float, drift: float
) -> Float[np.ndarray, "points points"]:
    """The probability of each interval after a reflected step from the midpoint of each interval."""
    edges = np.concatenate([[low], (values[1:] + values[:-1]) / 2, [high]])
    span = 2 * (high - low)
    reach = 1 + math.ceil(6 * drift / span)

    def below(x: Any) -> Any:
        return 0.5 * (1 + np.vectorize(math.erf)((x - values[:, None]) / (drift * math.sqrt(2))))

    kernel = np.zeros((len(values), len(values)))
    for k in range(-reach, reach + 1):
        forth, back = edges + k * span, 2 * low - edges + k * span
        kernel += below(forth[1:]) - below(forth[:-1]) + below(back[:-1]) - below(back[1:])
    shares: Float[np.ndarray, "points points"] = kernel / kernel.sum(1, keepdims=True)
    return shares


def _views(task: MetaTask) -> Float[np.ndarray, "states features"] | None:
    """The observation of each cell; None if it is a stimulus."""
    grid = task.topology
    if grid is None or grid.obs in ("stimuli", "none"):
        return None
    row, column = np.divmod(np.arange(grid.n_cells), grid.width)
    if grid.obs == "position":
        return np.eye(grid.n_cells)
    if grid.obs == "coordinates":
        return np.stack([row / max(grid.height - 1, 1), column / max(grid.width - 1, 1)], 1)
    margin = grid.window // 2
    walls = np.pad(grid.wall_map().reshape(grid.height, grid.width), margin, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(walls, (grid.window, grid.window))
    return windows.reshape(grid.n_cells, -1).astype(float)
