"""An agent that infers the instance exactly."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engram import checks
from engram.agents.reference.play import Actions, Observations, Rewards


class BayesFilterAgent:
    """An agent that infers the instance, the meaning of variable stimuli, the state and the flag, and acts on these.

    The posterior over instances, meanings of the stimuli seen so far, and z (state and flag) is exact where the
    instances can be enumerated: it is predicted with the transitions, then multiplied by the likelihood of stimulus and
    reward. "qmdp" takes the action with the largest posterior mean of the optimal values, as if everything became known
    after the next step; "thompson" draws an instance and a meaning at the start of every trial, and acts as if they
    were true.

    Args:
        model: The task as a decision process whose instance is hidden, from ``engram.tasks.meta.pomdp``.
        mode: "qmdp" or "thompson".
        rng: Source of the draws of "thompson", and of the choice between tied actions; None: a generator of seed 0.

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

    def __init__(self, model: Any, mode: str = "qmdp", *, rng: np.random.Generator | None = None) -> None:
        self.mode = checks.choice("mode", mode, ("qmdp", "thompson"))
        self.model = model
        self.rng = np.random.default_rng(0) if rng is None else rng
        self._meanings = np.array(list(itertools.permutations(range(model.n_stim_vars))), dtype=np.int64)
        self._outcomes: dict[tuple[int, float], Float[np.ndarray, "instances z z"]] = {}

    def reset(self, env: Any, observations: Observations) -> None:
        """Start a lifetime in every environment, with the prior and the first observations.

        Args:
            env: Environments with the agent's task.
            observations: First observation in each environment, (num_envs, features).

        Raises:
            ValueError: The environments have another task.
        """
        model = self.model
        if env.tasks != (model.task,):
            raise ValueError("env.tasks: expected the agent's task only")
        num_envs, (instances, n_latent) = env.num_envs, model.start.shape
        # The variable stimuli seen so far, in order.
        self._met = np.zeros((num_envs, model.n_stim_vars, model.fixed.shape[1]), dtype=np.float32)
        self._n_met = np.zeros(num_envs, dtype=np.int64)
        prior = model.start * model.prior[:, None]
        start = np.broadcast_to(prior[None, :, None], (num_envs, instances, len(self._meanings), n_latent))
        self.belief: Float[np.ndarray, "num_envs instances meanings z"] = start / start[0].sum()
        self._drawn = np.zeros((num_envs, 2), dtype=np.int64)
        self._begins = np.ones(num_envs, dtype=bool)
        self._look(observations)

    def act(self) -> Actions:
        """The next action in every environment."""
        if self.mode == "thompson":
            self._draw(np.flatnonzero(self._begins))
            rows = np.arange(len(self.belief))
            belief = self.belief[rows, self._drawn[:, 0], self._drawn[:, 1]]
            refuted = belief.sum(1) <= 0  # since the trial began
            if refuted.any():
                self._draw(np.flatnonzero(refuted))
                belief = self.belief[rows, self._drawn[:, 0], self._drawn[:, 1]]
            values = np.einsum("bz,bza->ba", belief, self.model.Q[self._drawn[:, 0]])
        else:
            values = np.einsum("biz,iza->ba", self.belief.sum(2), self.model.Q)
        ties = values >= values.max(1, keepdims=True) - 1e-9 * np.abs(values).max(1, keepdims=True)
        actions: Actions = (ties * self.rng.random(values.shape)).argmax(1)
        return actions

    def learn(self, actions: Actions, rewards: Rewards, observations: Observations) -> None:
        """Update the posterior.

        Args:
            actions: The last actions.
            rewards: Their rewards, (num_envs,).
            observations: The observations after them, (num_envs, features).
        """
        posterior = np.empty_like(self.belief)
        for action, reward in np.unique(np.stack([actions, rewards], 1), axis=0):
            rows = np.flatnonzero((actions == action) & (rewards == reward))
            transition = self._outcome(int(action), float(reward))
            prior = self.belief[rows].transpose(1, 0, 2, 3)
            predicted = prior.reshape(len(transition), -1, prior.shape[3]) @ transition
            posterior[rows] = predicted.reshape(len(transition), *prior.shape[1:3], -1).transpose(1, 0, 2, 3)
        if self.model.changes is not None:
            posterior[..., 0] = np.einsum("bim,ij->bjm", posterior[..., 0], self.model.changes)
        self.belief = posterior
        self._look(observations)
        starts = self.belief[..., :: len(self.model.shown)].sum((1, 2, 3)) > 0.5
        self._begins = np.asarray(rewards) != 0 if self.model.is_grid else starts

    def _draw(self, rows: Int[np.ndarray, "rows"]) -> None:
        """Draw an instance and a meaning from the posterior."""
        if not rows.size:
            return
        weights = self.belief[rows].sum(3).reshape(len(rows), -1).cumsum(1)
        index = (weights < self.rng.random((len(rows), 1)) * weights[:, -1:]).sum(1)
        self._drawn[rows] = np.stack(np.divmod(index, len(self._meanings)), 1)

    def _outcome(self, action: int, reward: float) -> Float[np.ndarray, "instances z z"]:
        """The joint probability of each successor and the reward."""
        if (action, reward) not in self._outcomes:
            model = self.model
            probability = model.paid[:, :, action] * (model.value[:, :, action] == reward)
            if reward == 0:
                probability = probability + model.unpaid[:, :, action]
            self._outcomes[action, reward] = probability
        return self._outcomes[action, reward]

    def _look(self, observations: Observations) -> None:
        """Multiply the posterior by the likelihood of the observations."""
        n_states = len(self.model.shown)
        flags = self.belief.shape[3] // n_states
        if self.model.views is not None:  # a grid in which each cell is its own observation
            agrees = np.isclose(observations[:, None, :], self.model.views[None], atol=1e-6).all(2)
            self.belief = self.belief * np.tile(agrees, flags)[:, None, None, :]
        else:
            stimuli = observations.reshape(len(observations), -1, self.model.fixed.shape[1]).swapaxes(0, 1)
            agree = np.ones((len(observations), len(self._meanings), n_states), dtype=bool)
            for slot, vectors in enumerate(stimuli):
                agree &= self._labels(vectors)[..., None] == self.model.shown[:, slot]
            self.belief = self.belief * np.tile(agree, flags)[:, None]
        total = self.belief.sum((1, 2, 3), keepdims=True)
        # The posterior is zero where a lifetime is over and the next has begun.
        self.belief = np.where(total > 0, self.belief / np.where(total > 0, total, 1), 1 / self.belief[0].size)

    def _labels(self, vectors: Float[np.ndarray, "num_envs size"]) -> Int[np.ndarray, "num_envs meanings"]:
        """The stimuli of vectors, numbered as in ``model.shown``; the j-th new one is variable stimulus meaning[j]."""
        labels = np.where(vectors.any(1), -2, -1)
        for number, vector in enumerate(self.model.fixed):
            labels[(vectors == vector).all(1)] = number
        n_variables = self.model.n_stim_vars
        if not n_variables:
            return np.broadcast_to(labels[:, None], (len(vectors), 1))
        is_known = (vectors[:, None] == self._met).all(2) & (np.arange(n_variables) < self._n_met[:, None])
        order = np.where(is_known.any(1), is_known.argmax(1), self._n_met)
        # Beyond the number of variable stimuli, a new vector belongs to the next lifetime.
        new_rows = np.flatnonzero((labels == -2) & ~is_known.any(1) & (order < n_variables))
        self._met[new_rows, order[new_rows]] = vectors[new_rows]
        self._n_met[new_rows] += 1
        variable = -2 - self._meanings[:, np.minimum(order, n_variables - 1)].T
        return np.where(labels[:, None] == -2, variable, labels[:, None])
