"""Neural episodic control: the same with keys that are learned."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.agents.episodic_control import EpisodicControl, Trace
from engram.agents.exploration import EpsilonGreedy, Exploration
from engram.agents.returns import n_step_returns
from engram.memory import DND, Written
from engram.optim import RMSpropEpsInside

KEY_NORM_WARNING = 10.0  # times the norm at the start of training


class NEC(EpisodicControl):
    """Neural episodic control.

        Q(s, a) = mean over the k nearest keys of table a to encoder(s), as the memory weighs them
        at the end of an episode, for each of its steps: write the N-step return R(t) for encoder(s(t)), as it was
        every ``train_every`` steps: one step of RMSprop on mean (Q(s, a) - R)^2 over a batch of past (s, a, R)

    The gradient reaches the encoder through the distances; which keys are nearest is not differentiated.

    Args:
        memory: A ``DND`` with one table for each action; with ``DND(train_memory=True)`` its rows are trained, too, and
            a row that is new begins with no statistics.
        encoder: Makes keys, (batch, key_dim), of observations, such as ``vector_encoder`` and ``pixel_encoder``.
        rng: Source of all chance.
        exploration: What chooses an action; ``EpsilonGreedy(final=0.001)`` if None.
        k: Neighbours.
        gamma: Discount for each step, from 0 to 1.
        n_steps: N.
        kernel: As in ``MFEC``.
        delta: As in ``MFEC``.
        truncation: As in ``MFEC``.
        standardise: As in ``MFEC``.
        learning_rate: Of RMSprop; the published one is for pixels, and leaves a small encoder as it is.
        batch_size: Samples in a batch.
        replay_size: Past (s, a, R) that are kept, the last ones.
        learning_starts: Steps before the first training.
        train_every: Steps between trainings.

    Attributes:
        encoder: The encoder.
        optimizer: Its optimiser.

    Raises:
        ValueError: An argument is out of range.

    Source: Pritzel et al., "Neural episodic control" (2017); values of the arguments from Agostinelli et al. (2019).

    Examples:
        >>> import gymnasium
        >>> from engram.agents import play_episode, vector_encoder
        >>> agent = NEC(DND(100, key_dim=8, tables=2), vector_encoder(4, 8), rng=np.random.default_rng(0))
        >>> play_episode(gymnasium.make("CartPole-v1"), agent, seed=0).length == agent.steps
        True
    """

    _looks_again = True

    def __init__(
        self,
        memory: DND,
        encoder: nn.Module,
        *,
        rng: np.random.Generator,
        exploration: Exploration | None = None,
        k: int = 50,
        gamma: float = 0.99,
        n_steps: int = 100,
        kernel: str = "idw",
        delta: float | str = 1e-3,
        truncation: str = "terminal",
        standardise: int | None = None,
        learning_rate: float = 7.92468721e-6,
        batch_size: int = 32,
        replay_size: int = 100_000,
        learning_starts: int = 50_000,
        train_every: int = 4,
    ) -> None:
        super().__init__(
            memory,
            rng=rng,
            exploration=exploration or EpsilonGreedy(final=0.001),
            embedding=encoder,
            k=k,
            gamma=gamma,
            kernel=kernel,
            delta=delta,
            exact_match=False,
            truncation=truncation,
            standardise=standardise,
        )
        numbers = {"n_steps": n_steps, "batch_size": batch_size, "replay_size": replay_size, "train_every": train_every}
        for name, number in numbers.items():
            if number < 1:
                raise ValueError(f"{name} = {number}: expected at least 1")
        self.encoder, self.n_steps, self.batch_size = encoder, n_steps, batch_size
        self.replay_size, self.learning_starts, self.train_every = replay_size, learning_starts, train_every
        self.optimizer = RMSpropEpsInside([*encoder.parameters(), *memory.parameters()], lr=learning_rate)
        self._replay: dict[str, np.ndarray] = {}  # observations, actions and targets, made by the first episode
        self._replayed = 0  # samples that ever came into it
        self._first_norm = 0.0

    def _targets(self, trace: Trace) -> Float[np.ndarray, "time"]:
        return n_step_returns(trace.rewards, trace.best, self.gamma, self.n_steps, trace.last[0])

    def learn(self) -> dict[str, float]:
        """Write the episodes that are over, and train if it is time; return loss and mean norm of the keys if it was.

        Warns:
            RuntimeWarning: Keys have grown to ten times their norm at the start: nothing but the learning rate holds
                them.
        """
        super().learn()
        due = self.steps > self.learning_starts and self.steps % self.train_every == 0
        return self._train() if due and self._replayed else {}

    def _write(self, trace: Trace, targets: Float[np.ndarray, "time"]) -> Written:
        written = super()._write(trace, targets)
        for rows in self.memory.parameters():
            if rows in self.optimizer.state:
                self.optimizer.state[rows]["square_avg"][written.tables[written.fresh], written.rows[written.fresh]] = 0
        samples = {"observations": np.stack(trace.observations), "actions": np.array(trace.actions), "targets": targets}
        if not self._replay:
            self._replay = {
                name: np.zeros((self.replay_size, *of_all.shape[1:]), of_all.dtype) for name, of_all in samples.items()
            }
        places = (self._replayed + np.arange(len(targets))) % self.replay_size
        for name, of_all in samples.items():
            self._replay[name][places[-self.replay_size :]] = of_all[-self.replay_size :]
        self._replayed += len(targets)
        return written

    def _train(self) -> dict[str, float]:
        chosen = self.rng.integers(min(self._replayed, self.replay_size), size=self.batch_size)
        observations, actions, targets = (self._replay[name][chosen] for name in self._replay)
        keys = self._embedded(self._prepared(observations))
        answer = self.memory.query(keys, **self._look, tables=torch.from_numpy(actions)).values[:, 0]
        loss = (answer - torch.from_numpy(targets).to(answer)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return {"loss": loss.item(), "key_norm": self._watched(keys.detach())}

    def _watched(self, keys: Float[Tensor, "batch key_dim"]) -> float:
        norm = float(keys.norm(dim=1).mean())
        if not self._first_norm:
            self._first_norm = norm
        elif norm > KEY_NORM_WARNING * self._first_norm:
            warnings.warn(
                f"the keys have a mean norm of {norm:.3g}, at first {self._first_norm:.3g}: learning_rate = "
                f"{self.optimizer.param_groups[0]['lr']} may be too large",
                RuntimeWarning,
                stacklevel=3,
            )
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, the replay, the episode in progress and the source of chance included."""
        kept = min(self._replayed, self.replay_size)
        return {
            **super().state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "replay": {name: of_all[:kept].copy() for name, of_all in self._replay.items()},
            "replayed": self._replayed,
            "first_norm": self._first_norm,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier state, bit for bit."""
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        self._replayed, self._first_norm = state["replayed"], state["first_norm"]
        self._replay = {}
        for name, kept in state["replay"].items():
            self._replay[name] = np.zeros((self.replay_size, *kept.shape[1:]), kept.dtype)
            self._replay[name][: len(kept)] = kept
