"""Two-stimulus tasks: two stimuli, a delay, one answer, by one of the fourteen Boolean functions of two bits."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram import checks
from engram.tasks.episode import Episode

Table = tuple[int, int, int, int]

TABLES: dict[str, Table] = {
    "and": (0, 0, 0, 1),
    "nand": (1, 1, 1, 0),
    "01": (0, 1, 0, 0),
    "anti-01": (1, 0, 1, 1),
    "10": (0, 0, 1, 0),
    "anti-10": (1, 1, 0, 1),
    "watch-1": (0, 0, 1, 1),
    "watch-2": (0, 1, 0, 1),
    "dms": (1, 0, 0, 1),
    "anti-watch-2": (1, 0, 1, 0),
    "anti-watch-1": (1, 1, 0, 0),
    "or": (0, 1, 1, 1),
    "nor": (1, 0, 0, 0),
    "dnms": (0, 1, 1, 0),
}
"""The answers to the stimulus pairs 00, 01, 10 and 11 by each Boolean function that is not constant."""

AUTHOR_TABLES: dict[str, Table] = {**TABLES, "anti-10": TABLES["10"], "nor": TABLES["anti-10"]}
"""The tables of the published code, where ``anti-10`` is ``10``, and ``nor`` is ``anti-10``."""

WRONG, RIGHT = 0.1, 0.9  # targets of the two answers
GAIN = 3.0  # of stimuli and feedback


class Rung(NamedTuple):
    """The best accuracy, and squared error over both outputs, of a policy with some knowledge of the task."""

    knows: str
    accuracy: float
    loss: float


def ladder(tables: Mapping[str, Sequence[int]] | Iterable[Sequence[int]]) -> list[Rung]:
    """The best mean performance over some tasks for increasing knowledge of each.

    The rungs: no knowledge (outputs 0.5), the best constant answer, the best use of one stimulus, and of both; by least
    squares with targets 0.1 and 0.9.

    Args:
        tables: Truth tables, at least one, by name or without.

    Source: our own enumeration.

    Examples:
        >>> [(rung.knows, round(rung.accuracy, 3)) for rung in ladder([TABLES["dms"], TABLES["watch-1"]])]
        [('nothing', 0.5), ('constant', 0.5), ('one stimulus', 0.75), ('both stimuli', 1.0)]
    """
    rows = list(tables.values() if isinstance(tables, Mapping) else tables)
    if not rows:
        raise ValueError("tables: expected at least one")
    for table in rows:
        if len(table) != 4 or any(answer not in (0, 1) for answer in table):
            raise ValueError(f"table = {table!r}: expected four answers of 0 or 1, to the pairs 00, 01, 10 and 11")
    first, second = [0, 0, 1, 1], [0, 1, 0, 1]
    choices_by_information = {"constant": [[0] * 4], "one stimulus": [first, second], "both stimuli": [[0, 1, 2, 3]]}
    rungs = [Rung("nothing", 0.5, 2 * ((RIGHT - WRONG) / 2) ** 2)]
    for knows, choices in choices_by_information.items():
        results = [[_best_answers(table, groups) for groups in choices] for table in rows]
        best = [min(pairs, key=operator.itemgetter(1)) for pairs in results]
        accuracy, loss = (math.fsum(values) / len(rows) for values in zip(*best, strict=True))
        rungs.append(Rung(knows, accuracy, loss))
    return rungs


def ladder_rung(accuracy: float, loss: float, rungs: Sequence[Rung]) -> str:
    """The knowledge of the highest rung that a network reaches.

    A rung is reached when both accuracy and loss are nearer to it, or better, than to the one below.

    Args:
        accuracy: Accuracy of the network.
        loss: Squared error of the network, over both outputs.
        rungs: The rungs of ``ladder``.

    Examples:
        >>> ladder_rung(0.65, 0.28, ladder(TABLES))
        'constant'
    """
    for below, rung in itertools.pairwise(rungs):
        if not (accuracy >= (below.accuracy + rung.accuracy) / 2 and loss <= (below.loss + rung.loss) / 2):
            return below.knows
    return rungs[-1].knows


def _best_answers(table: Sequence[int], groups: list[int]) -> tuple[float, float]:
    """Accuracy and loss of the best answer to each group of indistinguishable stimulus pairs."""
    accuracy, loss = 0.0, 0.0
    for group in set(groups):
        answers = [answer for answer, label in zip(table, groups, strict=True) if label == group]
        share = sum(answers) / len(answers)
        accuracy += max(share, 1 - share) * len(answers) / 4
        loss += 2 * share * (1 - share) * (RIGHT - WRONG) ** 2 * len(answers) / 4
    return accuracy, loss


@dataclass(frozen=True)
class Timing:
    """Timing of a trial; a window of steps is its first step and one past its last.

    Args:
        stimulus1: The first stimulus.
        stimulus2: The second stimulus.
        response: The window in which the answer is given.
        decision: The step at which it is read.
        feedback: The window in which the loss and the network's own answer are shown.
        steps: Number of steps of a trial.
        dt: Duration of a step, ms.

    Raises:
        ValueError: A window, which the message names, violates this order, or does not fit into the trial.

    Source: Miconi (2023), published code.

    Examples:
        >>> Timing.default().response, Timing.default(dt=40.0).response
        ((25, 35), (12, 17))
    """

    stimulus1: tuple[int, int] = (0, 8)
    stimulus2: tuple[int, int] = (10, 18)
    response: tuple[int, int] = (25, 35)
    decision: int = 36
    feedback: tuple[int, int] = (36, 46)
    steps: int = 50
    dt: float = 20.0

    def __post_init__(self) -> None:
        checks.arguments()
        earliest, event = 0, "the start of the trial"
        for name in ("stimulus1", "stimulus2", "response", "decision", "feedback"):
            value = getattr(self, name)
            start, stop = (value, value + 1) if name == "decision" else value
            if not earliest <= start < stop <= self.steps:
                raise ValueError(f"{name} = {value}: expected from {earliest} ({event}) to {self.steps}")
            earliest, event = (start, "the decision") if name == "decision" else (stop, f"the end of {name}")

    @classmethod
    def default(cls, dt: float = 20.0) -> Timing:
        """The published timing with steps of another duration, ``dt`` ms, at most 60."""
        checks.number("dt", dt, above=0, maximum=60)
        edges = (160, 200, 360, 500, 700, 720, 920, 1000)
        first, second, third, response, response_end, decision, feedback_end, steps = (
            int(ms / dt + 1e-9) for ms in edges
        )
        return cls((0, first), (second, third), (response, response_end), decision, (decision, feedback_end), steps, dt)


class Block(NamedTuple):
    """Trials of many individuals: the pair 2 s1 + s2, the right answer, and the index of each individual's task."""

    kind: Int[Tensor, "batch trials"]
    answer: Int[Tensor, "batch trials"]
    table: Int[Tensor, "batch"]


@dataclass(frozen=True)
class TwoStimulus:
    """Two stimuli, a delay, one answer: trial after trial of a task that only the feedback reveals.

    A trial shows bit s1, then bit s2, both fair and independent; after a delay the answer is a Boolean function of
    them, the same in all trials of an episode. Fourteen such functions are not constant, among them delayed
    match-to-sample (``dms``), whose answer is independent of each single stimulus.

    Args:
        tasks: Names of the tasks from which the task of each episode is drawn, with equal probability.
        trials: Number of trials of an episode.
        timing: Timing of a trial.
        author_tables: Use the truth tables of the published code, two of which are wrong.

    Source: Miconi (2023), "Learning to acquire novel cognitive tasks with evolution, plasticity, meta-meta-learning".

    Examples:
        >>> episode = TwoStimulus(("dms",), trials=1).sample(3, torch.Generator().manual_seed(0))
        >>> episode.inputs.shape, int(episode.mask[:, 0].sum())
        (torch.Size([50, 3, 2]), 10)
    """

    tasks: tuple[str, ...] = tuple(TABLES)
    trials: int = 20
    timing: Timing = field(default_factory=Timing)
    author_tables: bool = False

    def __post_init__(self) -> None:
        checks.arguments()
        checks.size("trials", self.trials)
        checked_tasks(self.tasks)

    @property
    def tables(self) -> dict[str, Table]:
        """The truth tables of the tasks."""
        all_tables = AUTHOR_TABLES if self.author_tables else TABLES
        return {name: all_tables[name] for name in self.tasks}

    def inputs(self) -> Float[Tensor, "kinds steps 2"]:
        """The stimuli of each of the four kinds of trials."""
        stimuli = torch.zeros(4, self.timing.steps, 2)
        for kind, (first, second) in enumerate(itertools.product((0, 1), repeat=2)):
            for bit, (start, stop) in ((first, self.timing.stimulus1), (second, self.timing.stimulus2)):
                stimuli[kind, start:stop] = torch.tensor([GAIN, -GAIN]) * (1 if bit else -1)
        return stimuli

    def block(self, batch_size: int, generator: torch.Generator, *, table: Int[Tensor, "batch"] | None = None) -> Block:
        """Random trials, not laid out in time.

        Args:
            batch_size: Number of individuals.
            generator: Source of all randomness.
            table: Index of the task of each individual; None: random.

        Raises:
            ValueError: ``batch_size`` is below 1, or ``table`` does not hold the index of a task for each individual.
        """
        checks.arguments()
        checks.size("batch_size", batch_size)
        device = checks.generator(generator).device
        if table is None:
            table = torch.randint(len(self.tasks), (batch_size,), generator=generator, device=device)
        if table.shape != (batch_size,) or not (int(table.min()) >= 0 and int(table.max()) < len(self.tasks)):
            raise ValueError(f"table = {table}: expected {batch_size} numbers from 0 to {len(self.tasks) - 1}")
        kind = torch.randint(4, (batch_size, self.trials), generator=generator, device=device)
        rows = torch.tensor(list(self.tables.values()), device=device)
        return Block(kind, rows[table[:, None], kind], table)

    def sample(self, batch_size: int, generator: torch.Generator) -> Episode:
        """Random trials one after another.

        Inputs are the stimulus units, (3, -3) for bit 1, (-3, 3) for bit 0, else zero; targets are 0.9 for the right
        answer and 0.1 for the other one, throughout the trial; the mask is true in the response windows.
        """
        block = self.block(batch_size, generator)
        inputs = self.inputs().to(block.kind.device)[block.kind].flatten(1, 2).transpose(0, 1)
        right = torch.nn.functional.one_hot(block.answer, 2).to(inputs.dtype)
        targets = (WRONG + (RIGHT - WRONG) * right).repeat_interleave(self.timing.steps, 1).transpose(0, 1)
        mask = torch.zeros(self.timing.steps, dtype=torch.bool, device=inputs.device)
        mask[slice(*self.timing.response)] = True
        return Episode(inputs, targets, mask.repeat(self.trials)[:, None].expand(-1, batch_size))


def checked_tasks(tasks: Iterable[str]) -> tuple[str, ...]:
    """Names of tasks; raise ValueError if there is none or one is unknown."""
    names = tuple(tasks)
    if not names:
        raise ValueError("tasks = (): expected at least one name")
    for name in names:
        checks.choice("tasks", name, TABLES)
    if len(set(names)) < len(names):
        raise ValueError(f"tasks = {names}: expected each name once")
    return names


def training_tasks(withheld: Iterable[str], parity: Literal[0, 1] | None = None) -> tuple[str, ...]:
    """The tasks that are not withheld.

    Args:
        withheld: Names of the withheld tasks.
        parity: Only tasks at even (0) or odd (1) indices in the list of all tasks; None: all.

    Raises:
        ValueError: A name is unknown, nothing is withheld, or nothing is left.

    Examples:
        >>> training_tasks(("dms", "dnms"), 0)
        ('and', '01', '10', 'watch-1', 'anti-watch-1', 'nor')
    """
    left_out = checked_tasks(withheld)
    candidates = list(TABLES)[parity or 0 :: 1 if parity is None else 2]
    if not (remaining := tuple(name for name in candidates if name not in left_out)):
        half = "" if parity is None else " in each half"
        raise ValueError(f"withheld = {left_out}: expected to leave a task{half}")
    return remaining
