"""The two-stimulus tasks as an environment, in which rewards take the place of graded feedback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Int

from engram import checks
from engram.tasks.environment import BatchedEnv, Observations, PerEnv, Rows, SingleEnv
from engram.tasks.two_stimulus import GAIN, TABLES, Timing, TwoStimulus, checked_tasks

ENV_ID = "engram/TwoStimulus-v0"


class TwoStimulusVectorEnv(BatchedEnv):
    """Many lives at once: two stimuli, a delay, one answer, trial after trial of a task known from rewards only.

    A step is 20 ms. Actions 0 and 1 answer, action 2 does not; the answer of a trial is the one given more often in its
    response window, 0 in a tie. At the decision it is rewarded with +1 if right and -1 if wrong, and
    ``info["correct"]`` says whether it was right. A life that starts automatically after another has a new task.

    An observation has 7 numbers: the two stimulus units, two outcome units (3 right, -3 wrong, in the feedback window),
    1, and the agent's own answer as 3 times one-hot in the feedback window.

    Args:
        num_envs: Number of environments.
        tasks: Names of the tasks from which the task of each life is drawn.
        trials: Number of trials of a life.
        timing: Timing of a trial; None: the published timing.
        max_episode_steps: Steps after which a life is truncated, never terminated; at most, and by default, the steps
            of all its trials.
        render_mode: None, since there is no picture.

    Attributes:
        table: The task of each environment, as an index into ``tasks``, (num_envs,).

    Source: Miconi (2023); rewards instead of losses are ours, since an environment has no graded answer.

    Examples:
        >>> gymnasium.make_vec("engram/TwoStimulus-v0", num_envs=3).reset(seed=0)[0].shape
        (3, 7)
    """

    _reset_options = ("instance", "reset_mask")

    def __init__(
        self,
        num_envs: int = 1,
        *,
        tasks: Sequence[str] = tuple(TABLES),
        trials: int = 20,
        timing: Timing | None = None,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        checks.arguments()
        self.trials, self.tasks = checks.size("trials", trials), checked_tasks(tasks)
        self.timing = Timing() if timing is None else timing
        life_steps = self.trials * self.timing.steps
        max_steps = life_steps if max_episode_steps is None else min(life_steps, max_episode_steps)
        observation_space = spaces.Box(-np.float32(GAIN), np.float32(GAIN), (7,))
        # The end of an episode is never reached: a life is truncated before.
        super().__init__(
            num_envs, observation_space, spaces.Discrete(3), life_steps + 1, max_steps, render_mode=render_mode
        )
        self._rows = np.array([TABLES[name] for name in self.tasks])
        self._shown = TwoStimulus(tuple(self.tasks), timing=self.timing).inputs().numpy()
        self.table = np.zeros(num_envs, dtype=np.int64)
        self._kind = np.zeros((num_envs, self.trials + 1), dtype=np.int64)
        self._votes = np.zeros((num_envs, 2), dtype=np.int64)
        self._answer = np.zeros(num_envs, dtype=np.int64)
        self._outcome = np.zeros(num_envs, dtype=np.float32)
        self._instances: list[str] | None = None  # those of a running call of reset
        self._lived = np.zeros(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start a life in every environment; ``info["instance"]`` is the name of its task.

        Args:
            seed: Seed of the first environment, from which the others count up; or a seed for each.
            options: ``"instance"``, for all or for each: ``"new"`` (the default), ``"keep"``, or the name of a task;
                and ``"reset_mask"``, which environments to reset.

        Raises:
            TypeError, ValueError: An option is unknown, or there is no instance yet to keep.
        """
        checks.arguments()
        instance = (options or {}).get("instance", "new")
        if not isinstance(instance, str | Sequence | np.ndarray):
            raise TypeError(f"options['instance'] = {instance!r}: expected 'new', 'keep' or names of tasks")
        names = [instance] * self.num_envs if isinstance(instance, str) else list(instance)
        unknown = [name for name in names if name not in (*self.tasks, "new", "keep")]
        if unknown or len(names) != self.num_envs:
            choices = f"'new', 'keep', one of {', '.join(self.tasks)}, or such names for {self.num_envs} environments"
            raise ValueError(f"options['instance'] = {instance!r}: expected {choices}")
        if any(name == "keep" and not lived for name, lived in zip(names, self._lived, strict=True)):
            raise ValueError("options['instance'] = 'keep': expected after a first life only")
        self._instances = names
        try:
            observations, _ = super().reset(seed=seed, options=options)
        finally:
            self._instances = None
        task_names = np.array(self.tasks)[self.table]
        return observations, {"instance": task_names, "_instance": np.ones(self.num_envs, dtype=bool)}

    def _init(self, rows: Rows) -> None:
        for row in rows:
            table = self.rngs[row].integers(len(self.tasks))  # also if unused, so that the stimuli are the same
            name = "new" if self._instances is None else self._instances[row]
            if name != "keep":
                self.table[row] = table if name == "new" else self.tasks.index(name)
            self._kind[row, : self.trials] = self.rngs[row].integers(4, size=self.trials)
        self._votes[rows], self._answer[rows], self._outcome[rows], self._lived[rows] = 0, 0, 0.0, True

    def _advance(self, actions: Int[np.ndarray, "num_envs"]) -> tuple[PerEnv, dict[str, Any]]:
        trial, step = np.divmod(self.steps, self.timing.steps)
        voting = (step >= self.timing.response[0]) & (step < self.timing.response[1]) & (actions < 2)
        self._votes[self._each[voting], actions[voting]] += 1
        decided = (step == self.timing.decision) & ~self.ended
        if not decided.any():
            return np.zeros(self.num_envs), {}
        target = self._rows[self.table, self._kind[self._each, np.minimum(trial, self.trials)]]
        choice = (self._votes[:, 1] > self._votes[:, 0]).astype(np.int64)
        correct = choice == target
        self._answer = np.where(decided, choice, self._answer)
        self._outcome = np.where(decided, np.where(correct, GAIN, -GAIN), self._outcome).astype(np.float32)
        self._votes[decided] = 0
        rewards = np.where(decided, np.where(correct, 1.0, -1.0), 0.0)
        return rewards, {"correct": correct & decided, "_correct": decided}

    def _observe(self) -> Observations:
        trial, step = np.divmod(self.steps, self.timing.steps)
        kind = self._kind[self._each, np.minimum(trial, self.trials)]
        observations = np.zeros((self.num_envs, 7), np.float32)
        is_running = trial < self.trials
        observations[:, :2] = np.where(is_running[:, None], self._shown[kind, step], 0)
        # The action at the decision step is followed by its outcome, which a network sees one step later.
        feeding = (step > self.timing.feedback[0]) & (step <= self.timing.feedback[1]) & is_running
        observations[:, 2:4] = np.where(feeding, self._outcome, 0)[:, None]
        observations[:, 4] = 1.0
        observations[self._each, 5 + self._answer] = np.where(feeding, GAIN, 0)
        return observations


class TwoStimulusEnv(SingleEnv):
    """One life of ``TwoStimulusVectorEnv``, with its arguments."""

    vector_type = TwoStimulusVectorEnv


gymnasium.register(ENV_ID, f"{__name__}:TwoStimulusEnv", vector_entry_point=f"{__name__}:TwoStimulusVectorEnv")
