"""Two stimuli, a delay, one answer: the fourteen tasks that two bits can pose, to be found out from feedback alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engram.tasks.environment import BatchedEnv, Observations, PerEnv, Rows, SingleEnv, check_int
from engram.tasks.episode import check_draw

__all__ = [
    "TABLES",
    "Block",
    "Rung",
    "Timing",
    "TwoStimulus",
    "TwoStimulusEnv",
    "TwoStimulusEpisode",
    "TwoStimulusVectorEnv",
    "ladder",
    "ladder_rung",
    "training_tasks",
]

ENV_ID = "engram/TwoStimulus-v0"

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
"""The answers to the stimulus pairs 00, 01, 10 and 11, for each of the fourteen Boolean functions but the constants."""

AUTHOR_TABLES: dict[str, Table] = {**TABLES, "anti-10": TABLES["10"], "nor": TABLES["anti-10"]}
"""The tables as the published code has them: ``anti-10`` is ``10``, and ``nor`` is ``anti-10``."""

WRONG, RIGHT = 0.1, 0.9  # targets of the two answers
GAIN = 3.0  # of stimuli and feedback


class Rung(NamedTuple):
    """What a network reaches that knows so much, and no more.

    Attributes:
        knows: What it knows.
        accuracy: Share of right answers.
        loss: Squared error, over both answers.
    """

    knows: str
    accuracy: float
    loss: float


def ladder(tables: Mapping[str, Sequence[int]] | Iterable[Sequence[int]]) -> list[Rung]:
    """Return what a network can reach on average over some tasks, by what it knows of each when its life ends.

    Nothing: its outputs are 0.5. The right constant: it answers best without any stimulus. The best single stimulus.
    Both stimuli. The outputs are then those of least squared error with targets 0.1 and 0.9.

    Args:
        tables: Truth tables, by name or without.

    Returns:
        Four rungs, from nothing to everything.

    Raises:
        ValueError: There is no table, or one is no table.

    Source: our own enumeration.

    Examples:
        >>> [(rung.knows, round(rung.accuracy, 3)) for rung in ladder([TABLES["dms"], TABLES["watch-1"]])]
        [('nothing', 0.5), ('constant', 0.5), ('one stimulus', 0.75), ('both stimuli', 1.0)]
    """
    rows = [_checked_table(t) for t in (tables.values() if isinstance(tables, Mapping) else tables)]
    if not rows:
        raise ValueError("tables: expected at least one")
    first, second = [0, 0, 1, 1], [0, 1, 0, 1]
    seen = {"constant": [[0] * 4], "one stimulus": [first, second], "both stimuli": [[0, 1, 2, 3]]}
    rungs = [Rung("nothing", 0.5, 2 * ((RIGHT - WRONG) / 2) ** 2)]
    for knows, choices in seen.items():
        best = [min((_of_what_is_seen(table, groups) for groups in choices), key=lambda one: one[1]) for table in rows]
        accuracy, loss = (math.fsum(values) / len(rows) for values in zip(*best, strict=True))
        rungs.append(Rung(knows, accuracy, loss))
    return rungs


def ladder_rung(accuracy: float, loss: float, rungs: Sequence[Rung]) -> str:
    """Return what a network must know at least to be so good: the highest rung that it reached, or stands above.

    A rung counts as reached when both the accuracy and the loss are nearer to it than to the one below.

    Args:
        accuracy: Its share of right answers.
        loss: Its squared error.
        rungs: What ``ladder`` returns.

    Examples:
        >>> ladder_rung(0.65, 0.28, ladder(TABLES))
        'constant'
    """
    reached = rungs[0].knows
    for below, rung in itertools.pairwise(rungs):
        near = accuracy >= (below.accuracy + rung.accuracy) / 2 and loss <= (below.loss + rung.loss) / 2
        if not near:
            break
        reached = rung.knows
    return reached


def _of_what_is_seen(table: Table, groups: list[int]) -> tuple[float, float]:
    """Accuracy and loss of the best answer to each group of stimulus pairs that look alike."""
    right, loss = 0.0, 0.0
    for group in set(groups):
        answers = [answer for answer, of in zip(table, groups, strict=True) if of == group]
        share = sum(answers) / len(answers)
        right += max(share, 1 - share) * len(answers) / 4
        loss += 2 * share * (1 - share) * (RIGHT - WRONG) ** 2 * len(answers) / 4
    return right, loss


@dataclass(frozen=True)
class Timing:
    """When what happens in a trial: windows of steps, the first and one past the last.

    Args:
        stimulus1: The first stimulus.
        stimulus2: The second one.
        response: The answer is heard.
        decision: The step at which it is read.
        feedback: Loss and own answer are shown.
        steps: Steps of a trial.
        dt: Duration of a step, ms.

    Raises:
        ValueError: The windows are not in this order, or do not fit into the trial; the message names the window.

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
        last, before = 0, "the start of the trial"
        for name in ("stimulus1", "stimulus2", "response"):
            start, stop = getattr(self, name)
            if not last <= start < stop:
                raise ValueError(
                    f"{name} = {(start, stop)}: expected a window that begins at or after {last}, {before}"
                )
            last, before = stop, f"the end of {name}"
        if self.decision < last:
            raise ValueError(f"decision = {self.decision}: expected at least {last}, {before}")
        start, stop = self.feedback
        if not self.decision <= start < stop <= self.steps:
            raise ValueError(
                f"feedback = {self.feedback}: expected a window from the decision, {self.decision}, to {self.steps}"
            )

    @classmethod
    def default(cls, dt: float = 20.0) -> Timing:
        """Return the published timing, with steps of another duration.

        Args:
            dt: Duration of a step, ms.
        """
        if not 0 < dt <= 60:
            raise ValueError(f"dt = {dt}: expected a positive number, at most 60 ms")

        def step(ms: int) -> int:
            return int(ms / dt + 1e-9)

        return cls(
            (0, step(160)),
            (step(200), step(360)),
            (step(500), step(700)),
            step(720),
            (step(720), step(920)),
            step(1000),
            dt,
        )


class Block(NamedTuple):
    """Trials of many individuals at once, each individual with one task.

    Attributes:
        kind: Which pair of stimuli is shown, 2 s1 + s2.
        answer: The right answer.
        table: The task of each individual, as its place in the list of tasks.
    """

    kind: Int[Tensor, "batch trials"]
    answer: Int[Tensor, "batch trials"]
    table: Int[Tensor, "batch"]


class TwoStimulusEpisode(NamedTuple):
    """An episode of trials, time first.

    Attributes:
        inputs: Activity of the stimulus units: (3, -3) for bit 1, (-3, 3) for bit 0, else zero.
        targets: 0.9 for the right answer and 0.1 for the other one, in the whole of the trial.
        mask: The response windows.
        kind: Which pair of stimuli each trial shows, 2 s1 + s2.
        answer: The right answer of each trial.
        table: The task of each episode, as its place in the list of tasks.
    """

    inputs: Float[Tensor, "time batch 2"]
    targets: Float[Tensor, "time batch 2"]
    mask: Bool[Tensor, "time batch"]
    kind: Int[Tensor, "batch trials"]
    answer: Int[Tensor, "batch trials"]
    table: Int[Tensor, "batch"]


@dataclass(frozen=True)
class TwoStimulus:
    """Two stimuli, a delay, one answer: trial after trial of a task that only the feedback tells.

    A trial shows bit s1, then bit s2, both fair and independent, and after a delay asks for a Boolean function of
    them. There are fourteen such functions that are no constant, among them delayed match-to-sample (``dms``), in which
    no single stimulus says anything about the answer. Which one it is stays the same through an episode.

    Args:
        tasks: Names of the tasks from which that of each episode is drawn, with equal probability.
        trials: Trials of an episode.
        timing: When what happens in a trial.
        author_tables: Take the truth tables of the published code, two of which are wrong.

    Raises:
        TypeError: ``trials`` is no int.
        ValueError: There is no task, one is unknown, or ``trials`` is less than one.

    Source: Miconi, "Learning to acquire novel cognitive tasks with evolution, plasticity and meta-meta-learning" (ICML
    2023).

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
        check_int("trials", self.trials, 1)
        checked_tasks(self.tasks)

    @property
    def tables(self) -> dict[str, Table]:
        """The truth tables of the tasks."""
        known = AUTHOR_TABLES if self.author_tables else TABLES
        return {name: known[name] for name in self.tasks}

    def inputs(self) -> Float[Tensor, "kinds steps 2"]:
        """Return what each of the four kinds of trials shows at each step."""
        shown = torch.zeros(4, self.timing.steps, 2)
        for kind, (first, second) in enumerate(itertools.product((0, 1), repeat=2)):
            for bit, (start, stop) in ((first, self.timing.stimulus1), (second, self.timing.stimulus2)):
                shown[kind, start:stop] = torch.tensor([GAIN, -GAIN]) * (1 if bit else -1)
        return shown

    def block(self, batch_size: int, generator: torch.Generator, *, table: Int[Tensor, "batch"] | None = None) -> Block:
        """Draw trials without laying them out in time.

        Args:
            batch_size: Number of individuals.
            generator: Source of all randomness.
            table: The task of each, as its place in ``tasks``; None: drawn.

        Raises:
            TypeError: ``batch_size`` is no int, or ``generator`` no ``torch.Generator``.
            ValueError: ``batch_size`` is less than one, or ``table`` has another shape or other numbers.
        """
        check_draw(batch_size, generator)
        if table is None:
            table = torch.randint(len(self.tasks), (batch_size,), generator=generator)
        if table.shape != (batch_size,) or not (int(table.min()) >= 0 and int(table.max()) < len(self.tasks)):
            raise ValueError(f"table = {table}: expected {batch_size} numbers from 0 to {len(self.tasks) - 1}")
        kind = torch.randint(4, (batch_size, self.trials), generator=generator)
        rows = torch.tensor(list(self.tables.values()))
        return Block(kind, rows[table[:, None], kind], table)

    def sample(self, batch_size: int, generator: torch.Generator) -> TwoStimulusEpisode:
        """Draw a batch of episodes.

        Args:
            batch_size: Number of independent episodes.
            generator: Source of all randomness.

        Returns:
            ``inputs``, ``targets`` and ``mask``, time first, ``time`` being ``trials`` times ``timing.steps``; and the
            trials that they are made of.

        Raises:
            TypeError: ``batch_size`` is no int, or ``generator`` no ``torch.Generator``.
            ValueError: ``batch_size`` is less than one.
        """
        block = self.block(batch_size, generator)
        inputs = self.inputs()[block.kind].flatten(1, 2).transpose(0, 1)
        right = torch.nn.functional.one_hot(block.answer, 2).float()
        targets = (WRONG + (RIGHT - WRONG) * right).repeat_interleave(self.timing.steps, 1).transpose(0, 1)
        mask = torch.zeros(self.timing.steps, dtype=torch.bool)
        mask[slice(*self.timing.response)] = True
        return TwoStimulusEpisode(inputs, targets, mask.repeat(self.trials)[:, None].expand(-1, batch_size), *block)


class TwoStimulusVectorEnv(BatchedEnv):
    """Many lives at once: two stimuli, a delay, one answer, trial after trial of a task that only rewards tell.

    A step is one of 20 ms. Action 0 and 1 answer, action 2 does not; the answer of a trial is the one given more often
    in its response window, 0 if both were equally often. At the decision it is rewarded with +1 if right and -1 if
    wrong. With ``options={"instance": "new"}`` of ``reset``, which is the default, each life has a task drawn anew;
    with ``"keep"`` the same as before; with the name of a task, or one for each environment, that one. A life that
    begins by itself at the end of another has a new task. ``info["instance"]`` of ``reset`` tells it.

    An observation has 7 numbers: the stimulus units, two outcome units (3 right, -3 wrong, in the feedback window),
    1, and the own answer as 3 times one-hot in the feedback window. At a decision, ``info["correct"]`` says whether the
    answer was right.

    Args:
        num_envs: Number of environments.
        tasks: Names of the tasks from which that of a life is drawn.
        trials: Trials of a life.
        timing: When what happens in a trial; the published one if None.
        max_episode_steps: Steps after which a life is truncated; None: all its trials' steps, after which it ends as
            Gymnasium's ``truncated``, since the end is no part of the task.

    Attributes:
        table: The task of each environment, as its place in ``tasks``, (num_envs,).

    Raises:
        TypeError: A number is no int.
        ValueError: There is no task, one is unknown, or a number is less than one.

    Source: Miconi (2023); rewards instead of losses are ours, since an environment has no graded answer.

    Examples:
        >>> envs = gymnasium.make_vec("engram/TwoStimulus-v0", num_envs=3, tasks=("dms",))
        >>> observations, infos = envs.reset(seed=0)
        >>> observations.shape, infos["instance"].tolist()
        ((3, 7), ['dms', 'dms', 'dms'])
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        tasks: Sequence[str] = tuple(TABLES),
        trials: int = 20,
        timing: Timing | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        check_int("trials", trials, 1)
        self.tasks = checked_tasks(tasks)
        self.timing = Timing() if timing is None else timing
        self.trials = trials
        whole = trials * self.timing.steps
        super().__init__(
            num_envs,
            spaces.Box(-np.float32(GAIN), np.float32(GAIN), (7,)),
            spaces.Discrete(3),
            whole + 1,  # never reached: a life is truncated before
            whole if max_episode_steps is None else max_episode_steps,
        )
        self._rows = np.array([TABLES[name] for name in self.tasks])
        self._shown = TwoStimulus(tuple(self.tasks), timing=self.timing).inputs().numpy()
        self.table = np.zeros(num_envs, dtype=np.int64)
        self._kind = np.zeros((num_envs, trials + 1), dtype=np.int64)
        self._votes = np.zeros((num_envs, 2), dtype=np.int64)
        self._said = np.zeros(num_envs, dtype=np.int64)
        self._outcome = np.zeros(num_envs, dtype=np.float32)
        self._instances: list[str] | None = None  # as a call of reset has them
        self._lived = np.zeros(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin a life in every environment.

        Args:
            seed: As of every batch.
            options: ``"instance"``: ``"new"``, ``"keep"``, a task's name, or one for each environment; and
                ``"reset_mask"``, as of every batch.

        Raises:
            ValueError: An option is none of these, or there is no instance yet that could be kept.
        """
        instance = (options or {}).get("instance", "new")
        names = [instance] * self.num_envs if isinstance(instance, str) else list(instance)
        unknown = [name for name in names if name not in (*self.tasks, "new", "keep")]
        if unknown or len(names) != self.num_envs:
            raise ValueError(
                f"options['instance'] = {instance!r}: expected 'new', 'keep', one of {', '.join(self.tasks)}, or such "
                f"names for {self.num_envs} environments"
            )
        if any(name == "keep" and not lived for name, lived in zip(names, self._lived, strict=True)):
            raise ValueError("options['instance'] = 'keep': expected after a first life only")
        self._instances = names
        try:
            observations, _ = super().reset(seed=seed, options=options)
        finally:
            self._instances = None
        named = np.array(self.tasks)[self.table]
        return observations, {"instance": named, "_instance": np.ones(self.num_envs, dtype=bool)}

    def _begin(self, rows: Rows) -> None:
        for row in rows:
            drawn = self.generators[row].integers(
                len(self.tasks)
            )  # also where it is not used: the stimuli are the same
            name = "new" if self._instances is None else self._instances[row]
            if name != "keep":
                self.table[row] = drawn if name == "new" else self.tasks.index(name)
            self._kind[row, : self.trials] = self.generators[row].integers(4, size=self.trials)
        self._votes[rows], self._said[rows], self._outcome[rows], self._lived[rows] = 0, 0, 0.0, True

    def _advance(self, actions: Int[np.ndarray, "num_envs"]) -> tuple[PerEnv, dict[str, Any]]:
        trial, step = np.divmod(self.steps, self.timing.steps)
        heard = (step >= self.timing.response[0]) & (step < self.timing.response[1]) & (actions < 2)
        self._votes[self._each[heard], actions[heard]] += 1
        decided = (step == self.timing.decision) & ~self.ended
        if not decided.any():
            return np.zeros(self.num_envs), {}
        answer = self._rows[self.table, self._kind[self._each, np.minimum(trial, self.trials)]]
        said = (self._votes[:, 1] > self._votes[:, 0]).astype(np.int64)
        correct = said == answer
        self._said = np.where(decided, said, self._said)
        self._outcome = np.where(decided, np.where(correct, GAIN, -GAIN), self._outcome).astype(np.float32)
        self._votes[decided] = 0
        rewards = np.where(decided, np.where(correct, 1.0, -1.0), 0.0)
        return rewards, {"correct": correct & decided, "_correct": decided}

    def _observe(self) -> Observations:
        trial, step = np.divmod(self.steps, self.timing.steps)
        kind = self._kind[self._each, np.minimum(trial, self.trials)]
        seen = np.zeros((self.num_envs, 7), np.float32)
        going = trial < self.trials
        seen[:, :2] = np.where(going[:, None], self._shown[kind, step], 0)
        # The action at the decision step is followed by its outcome: what a network sees one step later.
        feeding = (step > self.timing.feedback[0]) & (step <= self.timing.feedback[1]) & going
        seen[:, 2:4] = np.where(feeding, self._outcome, 0)[:, None]
        seen[:, 4] = 1.0
        seen[self._each, 5 + self._said] = np.where(feeding, GAIN, 0)
        return seen


class TwoStimulusEnv(SingleEnv):
    """Two stimuli, a delay, one answer, trial after trial of a task that only rewards tell.

    The arguments, and the options of ``reset``, are those of ``TwoStimulusVectorEnv``, which says how the task works.

    Examples:
        >>> env = gymnasium.make("engram/TwoStimulus-v0")
        >>> env.reset(seed=0, options={"instance": "dms"})[1]
        {'instance': 'dms'}
    """

    def __init__(self, *, tasks: Sequence[str] = tuple(TABLES), trials: int = 20, timing: Timing | None = None) -> None:
        super().__init__(TwoStimulusVectorEnv(1, tasks=tasks, trials=trials, timing=timing))


def checked_tasks(tasks: Iterable[str]) -> tuple[str, ...]:
    """Return names of tasks, if all are known and there is one at least.

    Raises:
        ValueError: There is none, or one is unknown; the message lists what is known.
    """
    names = tuple(tasks)
    if not names:
        raise ValueError("tasks = (): expected at least one name")
    for name in names:
        if name not in TABLES:
            raise ValueError(f"unknown task {name!r}; known: {', '.join(TABLES)}")
    return names


def training_tasks(withheld: Iterable[str], parity: Literal[0, 1] | None = None) -> tuple[str, ...]:
    """Return the tasks that are not withheld.

    Args:
        withheld: Names of the tasks that are.
        parity: Only those at even (0) or odd (1) places in the list of all; None: all.

    Raises:
        ValueError: A name is unknown, nothing is withheld, or nothing is left.

    Examples:
        >>> training_tasks(("dms", "dnms"), 0)
        ('and', '01', '10', 'watch-1', 'anti-watch-1', 'nor')
    """
    left_out = checked_tasks(withheld)
    found = tuple(
        name for place, name in enumerate(TABLES) if name not in left_out and (parity is None or place % 2 == parity)
    )
    if not found:
        raise ValueError(
            f"withheld = {left_out}: expected to leave a task" + ("" if parity is None else " in each half")
        )
    return found


def _checked_table(table: Sequence[int]) -> Table:
    if len(table) != 4 or any(answer not in (0, 1) for answer in table):
        raise ValueError(f"table = {table!r}: expected four answers of 0 or 1, to the pairs 00, 01, 10 and 11")
    return (int(table[0]), int(table[1]), int(table[2]), int(table[3]))


gymnasium.register(ENV_ID, f"{__name__}:TwoStimulusEnv", vector_entry_point=f"{__name__}:TwoStimulusVectorEnv")
