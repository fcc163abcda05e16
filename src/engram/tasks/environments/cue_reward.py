"""Cue-reward association: find out which of several new cues is the target, and report whenever it was shown."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float32, Int, Shaped

from engram import checks
from engram.tasks.environment import BatchedEnv, Observations, PerEnv, Rows, SingleEnv

ENV_ID = "engram/CueReward-v0"

_BLANKS = 3  # steps of a trial besides the cues and the gaps between them: the first one, Go, and the last one


class CueRewardVectorEnv(BatchedEnv):
    """Many episodes of the task at once.

    Each episode has its own random, distinct cues, one of which is the target; only the rewards reveal which. An
    episode is a sequence of trials. A trial shows half of the cues, in random order and at random times, then a Go
    signal: action 1 at that step claims that the target was among them, action 0 that it was not. A right answer
    is rewarded with +1, a wrong one with -1. At other steps actions have no effect. With n cues a trial has n/2 + 3
    to 3n/2 + 2 steps with equal probability: an empty one, the cues and the gaps between them, Go, an empty one.

    An observation has cue_bits + 7 numbers: the cue; whether this is the Go signal; 1; the time as a fraction of
    ``episode_len``; the last reward; 0; the last action as one-hot (zeros at the start). After a Go step,
    ``info["correct"]`` is whether the answer was right, which a flipped reward does not show.

    Args:
        num_envs: Number of environments.
        n_cues: Number of cues of an episode; even, at most ``2 ** cue_bits``.
        cue_bits: Number of bits of a cue, each -1 or +1 with equal probability.
        episode_len: Steps of an episode, after which it terminates; at least the longest trial.
        flip_prob: Probability that the reward of an answer has the wrong sign.
        fixed_cues: Cues of all episodes, (n_cues, cue_bits), from -1 to 1; None: new ones in every episode.
        reward_delay: Number of steps from Go to its reward, by which every trial is longer.
        max_episode_steps: Steps after which an episode is truncated; None: never.
        render_mode: None, since there is no picture.

    Attributes:
        target: Index of the target cue, (num_envs,).

    Raises:
        ValueError: An argument is out of range, an episode is shorter than a trial, or two fixed cues are equal.

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), the cue-reward association task of its code.

    Examples:
        >>> gymnasium.make_vec("engram/CueReward-v0", num_envs=3).reset(seed=0)[0][:, 20:].tolist()[0]
        [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        n_cues: int = 4,
        cue_bits: int = 20,
        episode_len: int = 120,
        flip_prob: float = 0.0,
        fixed_cues: Any = None,
        reward_delay: int = 0,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.n_cues = n_cues = checks.size("n_cues", n_cues, 2, 10**6)
        self.cue_bits = cue_bits = checks.size("cue_bits", cue_bits, maximum=10**6)
        episode_len = checks.size("episode_len", episode_len)
        if n_cues % 2:
            raise ValueError(f"n_cues = {n_cues}: expected an even number, because a trial shows half of them")
        if n_cues > 2**cue_bits:
            raise ValueError(f"n_cues = {n_cues}: expected at most {2**cue_bits}, the distinct cues of {cue_bits} bits")
        self.reward_delay = reward_delay = checks.size("reward_delay", reward_delay, minimum=0)
        self.shortest = n_cues // 2 + _BLANKS + reward_delay
        self.longest = self.shortest + n_cues - 1
        if episode_len < self.longest:
            raise ValueError(f"episode_len = {episode_len}: expected at least {self.longest}, the longest trial")
        self.flip_prob = checks.number("flip_prob", flip_prob, minimum=0, maximum=1)
        self.fixed_cues = None
        if fixed_cues is not None:
            self.fixed_cues = checks.array("fixed_cues", fixed_cues, (n_cues, cue_bits), np.float32)
            if not (np.abs(self.fixed_cues) <= 1).all():
                raise ValueError(f"fixed_cues = {fixed_cues!r}: expected numbers from -1 to 1")
            if _repeated(self.fixed_cues[None]).any():
                raise ValueError(f"fixed_cues = {fixed_cues!r}: expected cues that differ from each other")
        low, high = np.zeros(cue_bits + 7, np.float32), np.ones(cue_bits + 7, np.float32)
        low[:cue_bits] = low[cue_bits + 3] = -1.0
        space = spaces.Box(low, high)
        super().__init__(num_envs, space, spaces.Discrete(2), episode_len, max_episode_steps, render_mode=render_mode)
        self._cues = np.zeros((num_envs, n_cues + 1, cue_bits), np.float32)  # the last is zero: no cue
        self.target = np.zeros(num_envs, dtype=np.int64)
        # The episode, drawn at its start. Step episode_len has only an observation.
        self._shown = np.zeros((num_envs, episode_len + 1), dtype=np.int64)
        self._answer = np.zeros((num_envs, episode_len + 1), dtype=np.int64)
        self._pay = np.zeros((num_envs, episode_len + 1))  # reward of the right answer; 0 where there is no Go
        self._due = np.zeros((num_envs, episode_len + 1 + reward_delay))  # rewards of the answers so far

    @property
    def cues(self) -> Float32[np.ndarray, "num_envs n_cues cue_bits"]:
        """The cues of every episode."""
        return self._cues[:, : self.n_cues]

    def _init(self, rows: Rows) -> None:
        trials, half, times = -(-(self.episode_len + 1) // self.shortest), self.n_cues // 2, self.episode_len + 1
        # Each trial draws its length, the order and the times of the cues, and whether the reward is flipped.
        sizes = np.array([1, self.n_cues, self.longest - _BLANKS - self.reward_delay, 1])
        draws = 1 + trials * int(sizes.sum())
        chance = np.stack([self.rngs[row].random(draws) for row in rows])
        self._cues[rows, : self.n_cues] = self._draw_cues(rows) if self.fixed_cues is None else self.fixed_cues
        self.target[rows] = chance[:, 0] * self.n_cues
        length, cue_order, times_of_show, flip = np.split(
            chance[:, 1:].reshape(len(rows), trials, -1), sizes.cumsum()[:-1], axis=2
        )

        lengths = self.shortest + (length[..., 0] * self.n_cues).astype(np.int64)
        starts = lengths.cumsum(1) - lengths
        shown_cues = cue_order.argsort(2)[..., :half]
        times_of_show[np.arange(times_of_show.shape[2]) >= lengths[..., None] - _BLANKS - self.reward_delay] = math.inf
        shown_at = starts[..., None] + 1 + times_of_show.argsort(2)[..., :half]
        go_at = starts + lengths - 2 - self.reward_delay

        visible = np.full((len(rows), times), self.n_cues)
        row, trial, position = np.nonzero(shown_at < times)
        visible[row, shown_at[row, trial, position]] = shown_cues[row, trial, position]
        pay, answers = np.zeros((len(rows), times)), np.zeros((len(rows), times), dtype=np.int64)
        row, trial = np.nonzero(go_at < times)
        go_steps = go_at[row, trial]
        pay[row, go_steps] = np.where(flip[row, trial, 0] < self.flip_prob, -1.0, 1.0)
        answers[row, go_steps] = (shown_cues[row, trial] == self.target[rows[row], None]).any(1)
        self._shown[rows], self._pay[rows], self._answer[rows] = visible, pay, answers
        self._due[rows] = 0

    def _draw_cues(self, rows: Rows) -> Float32[np.ndarray, "rows n_cues cue_bits"]:
        shape = (self.n_cues, self.cue_bits)
        cues = np.stack([self.rngs[row].random(shape, np.float32) for row in rows]) < 0.5
        while (repeated := _repeated(cues)).any():
            for row in np.flatnonzero(repeated.any(1)):
                redrawn = self.rngs[rows[row]].random((repeated[row].sum(), self.cue_bits), np.float32) < 0.5
                cues[row, repeated[row]] = redrawn
        return np.where(cues, np.float32(1), np.float32(-1))

    def _advance(self, actions: Int[np.ndarray, "num_envs"]) -> tuple[PerEnv, dict[str, Any]]:
        pay = self._pay[self._each, self.steps]
        correct = actions == self._answer[self._each, self.steps]
        is_asked = (pay != 0) & ~self.ended
        infos = {"correct": correct & is_asked, "_correct": is_asked} if is_asked.any() else {}
        self._due[self._each, self.steps + self.reward_delay] = np.where(correct, pay, -pay)
        return self._due[self._each, self.steps], infos

    def _observe(self) -> Observations:
        observations = np.zeros((self.num_envs, self.cue_bits + 7), np.float32)
        observations[:, : self.cue_bits] = self._cues[self._each, self._shown[self._each, self.steps]]
        observations[:, self.cue_bits] = self._pay[self._each, self.steps] != 0
        observations[:, self.cue_bits + 1] = 1.0
        observations[:, self.cue_bits + 2] = self.steps / self.episode_len
        observations[:, self.cue_bits + 3] = self.last_reward
        observations[self._each, self.cue_bits + 5 + self.last_action] = self.steps > 0
        return observations


def _repeated(cues: Shaped[np.ndarray, "rows n_cues cue_bits"]) -> Bool[np.ndarray, "rows n_cues"]:
    """Whether each cue equals an earlier one of the same row."""
    equal = (cues[:, :, None] == cues[:, None]).all(3)
    return np.asarray(np.tril(equal, -1).any(2))


class CueReward(SingleEnv):
    """One episode of ``CueRewardVectorEnv``, with its arguments."""

    vector_type = CueRewardVectorEnv


gymnasium.register(ENV_ID, f"{__name__}:CueReward", vector_entry_point=f"{__name__}:CueRewardVectorEnv")
