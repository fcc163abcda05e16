"""Neural episodic control: episodic control with trained keys."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from engram import checks
from engram.agents.episodic_control import EpisodicControl, Trajectory
from engram.agents.exploration import EpsilonGreedy, Exploration
from engram.agents.returns import n_step_returns
from engram.memory import DND, Written
from engram.optim import RMSpropEpsInside
from engram.state import check_state, form_of

KEY_NORM_WARNING = 10.0  # multiple of the norm at the start of training


class NEC(EpisodicControl):
    """Neural episodic control.

        Q(s, a) = mean over the k keys of table a nearest to encoder(s), weighted by the kernel
        at the end of an episode, for each of its steps: write the N-step return R(t) for the key computed at step t
        every ``train_every`` steps: one step of RMSprop on mean (Q(s, a) - R)^2 over a batch of past (s, a, R)

    The gradient reaches the encoder through the distances; which keys are nearest is not differentiated.

    Args:
        memory: A ``DND`` with one table for each action; with ``DND(train_memory=True)`` its rows are trained too, and
            the optimiser's statistics of a new row start at zero.
        encoder: Maps observations to keys, (batch, key_dim), for example a ``vector_encoder`` or ``pixel_encoder``.
        rng: Source of all randomness.
        exploration: Policy over the action values; ``EpsilonGreedy(final=0.001)`` if None.
        k: Number of neighbours in a query.
        n_steps: N.
        learning_rate: Learning rate of RMSprop; the published one is for pixels, and hardly moves a small encoder.
        batch_size: Samples in a batch.
        replay_size: Capacity of the replay buffer of (s, a, R).
        learning_starts: Steps before the first training step.
        train_every: Steps of the agent between training steps.
        **options: Other arguments of ``EpisodicControl``.

    Source: Pritzel et al., "Neural episodic control" (2017); values of the arguments from Agostinelli et al. (2019).

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> import gymnasium
        >>> from engram.agents import play_episode
        >>> from engram.nn import vector_encoder
        >>> agent = NEC(DND(100, key_dim=8, tables=2), vector_encoder(4, 8), rng=np.random.default_rng(0))
        >>> play_episode(gymnasium.make("CartPole-v1"), agent, seed=0).length == agent.steps
        True
    """

    _exact_match = False
    _replays = True

    def __init__(
        self,
        memory: DND,
        encoder: nn.Module,
        *,
        rng: np.random.Generator,
        exploration: Exploration | None = None,
        k: int = 50,
        n_steps: int = 100,
        learning_rate: float = 7.92468721e-6,
        batch_size: int = 32,
        replay_size: int = 100_000,
        learning_starts: int = 50_000,
        train_every: int = 4,
        **options: Any,
    ) -> None:
        checks.arguments()
        exploration = exploration or EpsilonGreedy(final=0.001)
        super().__init__(memory, rng=rng, exploration=exploration, embedding=encoder, k=k, **options)
        self.encoder, self.learning_starts = encoder, learning_starts
        checks.number("learning_rate", learning_rate, minimum=0)
        self.n_steps, self.batch_size = checks.size("n_steps", n_steps), checks.size("batch_size", batch_size)
        self.replay_size = checks.size("replay_size", replay_size)
        self.train_every = checks.size("train_every", train_every)
        self.optimizer = RMSpropEpsInside([*encoder.parameters(), *memory.parameters()], lr=learning_rate)
        self._replay: dict[str, np.ndarray] = {}  # observations, actions and targets, made by the first episode
        self._replayed = 0  # samples ever written to it
        self._first_norm = 0.0

    def _returns(self, trajectory: Trajectory) -> Float[np.ndarray, "time"]:
        return n_step_returns(trajectory.rewards, trajectory.best, self.gamma, self.n_steps, trajectory.last[0])

    def learn(self) -> dict[str, float]:
        """Write the finished episodes, and train every few steps; then return the loss and the mean norm of the keys.

        Warns if the norm of the keys has grown tenfold, since only the learning rate limits its growth.
        """
        super().learn()
        trains_now = self.steps > self.learning_starts and self.steps % self.train_every == 0
        return self._train() if trains_now and self._replayed else {}

    def _write(self, trajectory: Trajectory, returns: Float[np.ndarray, "time"]) -> Written:
        written = super()._write(trajectory, returns)
        for rows in self.memory.parameters():
            if rows in self.optimizer.state:
                self.optimizer.state[rows]["square_avg"][written.tables[written.fresh], written.rows[written.fresh]] = 0
        observations, actions = np.stack(trajectory.observations), np.array(trajectory.actions)
        samples = {"observations": observations, "actions": actions, "targets": returns}
        if not self._replay:
            self._replay = {name: self._empty(array) for name, array in samples.items()}
        indices = (self._replayed + np.arange(len(returns))) % self.replay_size
        for name, array in samples.items():
            self._replay[name][indices[-self.replay_size :]] = array[-self.replay_size :]
        self._replayed += len(returns)
        return written

    def _empty(self, like: np.ndarray) -> np.ndarray:
        return np.zeros((self.replay_size, *like.shape[1:]), like.dtype)

    def _train(self) -> dict[str, float]:
        sampled = self.rng.integers(min(self._replayed, self.replay_size), size=self.batch_size)
        observations, actions, targets = (self._replay[name][sampled] for name in self._replay)
        keys = self._embedded(self._prepared(observations))
        values = self.memory.query(keys, **self._query, tables=torch.from_numpy(actions)).values[:, 0]
        loss = (values - torch.from_numpy(targets).to(values)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        norm = float(keys.detach().norm(dim=1).mean())
        self._first_norm = self._first_norm or norm
        if norm > KEY_NORM_WARNING * self._first_norm:
            growth = f"the keys have a mean norm of {norm:.3g}, at first {self._first_norm:.3g}"
            cause = f"learning_rate = {self.optimizer.param_groups[0]['lr']} may be too large"
            warnings.warn(f"{growth}: {cause}", RuntimeWarning, stacklevel=2)
        return {"loss": loss.item(), "key_norm": norm}

    def state_dict(self) -> dict[str, Any]:
        """All state, including that of the replay, of the episode in progress and of the random generator."""
        size = min(self._replayed, self.replay_size)
        return {
            **super().state_dict(),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "replay": {name: rows[:size].copy() for name, rows in self._replay.items()},
            "replayed": self._replayed,
            "first_norm": self._first_norm,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``, bit for bit."""
        check_state(state, self._form())
        if state["replay"]:
            check_state(
                state["replay"], dict.fromkeys(("observations", "actions", "targets"), np.ndarray), "state['replay']"
            )
        size = min(state["replayed"], self.replay_size)
        for name, rows in state["replay"].items():
            if rows.shape[:1] != (size,):
                expected = f"{size} samples, with replay_size = {self.replay_size}"
                raise ValueError(f"state['replay'][{name!r}].shape = {rows.shape}: expected {expected}")
        super().load_state_dict(state)
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self._replayed, self._first_norm = state["replayed"], state["first_norm"]
        self._replay = {name: self._empty(rows) for name, rows in state["replay"].items()}
        for name, rows in state["replay"].items():
            self._replay[name][: len(rows)] = rows

    def _form(self) -> dict[str, Any]:
        return super()._form() | {"optimizer": form_of(self.optimizer), "replay": dict}
