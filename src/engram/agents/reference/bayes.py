"""Exact inference of the instance as an agent."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engram import checks
from engram.agents.reference.play import Actions, Rewards, Seen


class BayesFilterAgent:
    """Infers the instance, what the variable stimuli mean, the state and the flag, and acts on what it believes.

    The posterior over instances, meanings of the stimuli that were seen, and z is exact where the instances can be
    enumerated: predicted with the transitions, multiplied by the likelihood of stimulus and reward. "qmdp" takes the
    action with the largest mean of the optimal values under the posterior, as if all would be known after the next
    step; "thompson" draws an instance and a meaning at the start of every trial, and acts as if they were true.

    Args:
        model: The task as a decision process whose instance is hidden, as ``engram.tasks.meta.pomdp`` returns it.
        mode: "qmdp" or "thompson".
        generator: The source of randomness of "thompson", and of ties; None: generator 0.

    Source: QMDP is from Littman, Cassandra and Kaelbling, "Learning policies for partially observable environments"
    (1995); posterior sampling from Thompson (1933).

    Examples:
        >>> from engram.agents.reference import play
        >>> from engram.tasks.meta import MetaTaskVectorEnv, named, pomdp
        >>> task = named.harlow("simultaneous")
        >>> lives = play(MetaTaskVectorEnv(task, 500), BayesFilterAgent(pomdp(task)), seed=0)
        >>> lives.rewards[:, 3:].sum(1).mean().item()  # five trials after the first
        5.0
    """

    def __init__(self, model: Any, mode: str = "qmdp", *, generator: np.random.Generator | None = None) -> None:
        self.mode = checks.choice("mode", mode, ("qmdp", "thompson"))
        self.model = model
        self.generator = np.random.default_rng(0) if generator is None else generator
        self._meanings = np.array(list(itertools.permutations(range(model.n_stim_vars))), dtype=np.int64)
        self._joint: dict[tuple[int, float], Float[np.ndarray, "instances z z"]] = {}

    def begin(self, env: Any, seen: Seen) -> None:
        """Begin a lifetime in every environment; ValueError if not all are of the task."""
        found = self.model
        if env.tasks != (found.task,):
            raise ValueError("env.tasks: expected the agent's task only")
        count, (instances, Z) = env.num_envs, found.start.shape
        # The variable stimuli that were seen, in this order.
        self._met = np.zeros((count, found.n_stim_vars, found.fixed.shape[1]), dtype=np.float32)
        self._n_met = np.zeros(count, dtype=np.int64)
        start = np.broadcast_to(found.start[None, :, None], (count, instances, len(self._meanings), Z))
        self.belief: Float[np.ndarray, "num_envs instances meanings z"] = start / start[0].sum()
        self._drawn = np.zeros((count, 2), dtype=np.int64)
        self._begins = np.ones(count, dtype=bool)
        self._look(seen)

    def act(self) -> Actions:
        """Return the next action in every environment."""
        if self.mode == "thompson":
            self._draw(np.flatnonzero(self._begins))
            rows = np.arange(len(self.belief))
            at = self.belief[rows, self._drawn[:, 0], self._drawn[:, 1]]
            # What was drawn may have been refuted since the trial began.
            gone = at.sum(1) <= 0
            if gone.any():
                self._draw(np.flatnonzero(gone))
                at = self.belief[rows, self._drawn[:, 0], self._drawn[:, 1]]
            values = np.einsum("bz,bza->ba", at, self.model.Q[self._drawn[:, 0]])
        else:
            values = np.einsum("biz,iza->ba", self.belief.sum(2), self.model.Q)
        ties = values >= values.max(1, keepdims=True) - 1e-9 * np.abs(values).max(1, keepdims=True)
        chosen: Actions = (ties * self.generator.random(values.shape)).argmax(1)
        return chosen

    def learn(self, actions: Actions, rewards: Rewards, seen: Seen) -> None:
        """Update the posterior with what was done, what it gave, and what is seen now."""
        after = np.empty_like(self.belief)
        pairs = np.stack([actions, rewards], 1)
        for action, reward in np.unique(pairs, axis=0):
            rows = np.flatnonzero((actions == action) & (rewards == reward))
            step = self._outcome(int(action), float(reward))
            before = self.belief[rows].transpose(1, 0, 2, 3)
            count = before.shape[1:3]
            moved = before.reshape(len(step), -1, before.shape[3]) @ step
            after[rows] = moved.reshape(len(step), *count, -1).transpose(1, 0, 2, 3)
        if self.model.changes is not None:
            after[..., 0] = np.einsum("bim,ij->bjm", after[..., 0], self.model.changes)
        self.belief = after
        self._look(seen)
        starts = self.belief[..., :: len(self.model.shown)].sum((1, 2, 3)) > 0.5
        self._begins = np.asarray(rewards) != 0 if self.model.is_grid else starts

    def _draw(self, rows: Int[np.ndarray, "rows"]) -> None:
        """Draw an instance and a meaning from the posterior."""
        if not rows.size:
            return
        weights = self.belief[rows].sum(3).reshape(len(rows), -1).cumsum(1)
        place = (weights < self.generator.random((len(rows), 1)) * weights[:, -1:]).sum(1)
        self._drawn[rows] = np.stack(np.divmod(place, len(self._meanings)), 1)

    def _outcome(self, action: int, reward: float) -> Float[np.ndarray, "instances z z"]:
        """Return the probability of each successor together with the reward."""
        if (action, reward) not in self._joint:
            found = self.model
            step = found.paid[:, :, action] * (found.value[:, :, action] == reward)
            if reward == 0:
                step = step + found.unpaid[:, :, action]
            self._joint[action, reward] = step
        return self._joint[action, reward]

    def _look(self, seen: Seen) -> None:
        """Multiply the posterior by the likelihood of what is seen."""
        S = len(self.model.shown)
        flags = self.belief.shape[3] // S
        if self.model.views is not None:  # a grid whose cells show themselves
            agrees = np.isclose(seen[:, None, :], self.model.views[None], atol=1e-6).all(2)
            self.belief = self.belief * np.tile(agrees, flags)[:, None, None, :]
        else:
            parts = seen.reshape(len(seen), -1, self.model.fixed.shape[1]).swapaxes(0, 1)
            agree = np.ones((len(seen), len(self._meanings), S), dtype=bool)
            for part, vectors in enumerate(parts):
                agree &= self._labels(vectors)[..., None] == self.model.shown[:, part]
            self.belief = self.belief * np.tile(agree, flags)[:, None]
        total = self.belief.sum((1, 2, 3), keepdims=True)
        # Nothing that could be believed is left where a lifetime is over and another one has begun.
        self.belief = np.where(total > 0, self.belief / np.where(total > 0, total, 1), 1 / self.belief[0].size)

    def _labels(self, vectors: Float[np.ndarray, "num_envs size"]) -> Int[np.ndarray, "num_envs meanings"]:
        """Return what vectors are, as ``model.shown`` says it; the j-th new one is variable stimulus meaning[j]."""
        label = np.where(vectors.any(1), -2, -1)
        for v, vector in enumerate(self.model.fixed):
            label[(vectors == vector).all(1)] = v
        count = self.model.n_stim_vars
        if not count:
            return np.broadcast_to(label[:, None], (len(vectors), 1))
        known = (vectors[:, None] == self._met).all(2) & (np.arange(count) < self._n_met[:, None])
        order = np.where(known.any(1), known.argmax(1), self._n_met)
        # One more than there are is of the lifetime after this one.
        new = np.flatnonzero((label == -2) & ~known.any(1) & (order < count))
        self._met[new, order[new]] = vectors[new]
        self._n_met[new] += 1
        variable = -2 - self._meanings[:, np.minimum(order, count - 1)].T
        return np.where(label[:, None] == -2, variable, label[:, None])
