"""Transfer grid: the same walk with renamed, redundant or unreliable actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Int

from engram import checks
from engram.numeric.finite_mdp import FiniteMDP
from engram.tasks.environment import BatchedEnv, Ends, Observations, PerEnv, Rows, SingleEnv
from engram.tasks.picture import RENDERED, Picture

ENV_ID = "engram/GridTransfer-v0"

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right, as (row, column)
_DOWN = 1


def grid_transfer(
    size: int = 11,
    *,
    n_actions: int = 4,
    perm: Sequence[int] | Int[np.ndarray, "labels"] | None = None,
    noise: float = 0.0,
    cliff: bool = False,
) -> FiniteMDP:
    """The transition tables of a grid, whose state is row * size + column.

    Args:
        size: Number of cells along a side; the pit is a row below them.
        n_actions: Number of action labels, at least 4; labels that are equal modulo 4 have the same effect.
        perm: Effects of the labels 0 to 3: 0 up, 1 down, 2 left, 3 right; None: in this order.
        noise: Probability that a label drawn uniformly from all labels is executed instead.
        cliff: Whether the bottom row is the edge of a windy cliff.

    Raises:
        ValueError: A number is out of range, or ``perm`` does not hold each of 0 to 3 once.

    Examples:
        >>> grid_transfer().successors[0, :, 0].tolist()
        [0, 11, 0, 1]
    """
    checks.arguments()
    size = checks.size("size", size, 2, 1000)
    checks.size("n_actions", n_actions, minimum=len(MOVES), maximum=10**6)
    checks.number("noise", noise, minimum=0, maximum=1)
    effects = np.arange(len(MOVES)) if perm is None else np.asarray(perm)
    if sorted(effects.tolist()) != list(range(len(MOVES))):
        raise ValueError(f"perm = {perm!r}: expected each of 0 (up), 1 (down), 2 (left) and 3 (right) once")
    rows = size + cliff
    goal, start = size * size - 1, (size - 1) * size if cliff else 0
    row, column = np.divmod(np.arange(rows * size), size)
    targets = np.stack(
        [np.clip(row + up, 0, rows - 1) * size + np.clip(column + left, 0, size - 1) for up, left in MOVES], 1
    )
    successors, probabilities = targets[..., None], np.ones((*targets.shape, 1))
    if cliff:
        # Half of the steps from the row at the edge, and all that lead down, end in the cell below their start.
        falls = np.where(row == size - 1, 0.5, 0.0)[:, None].repeat(len(MOVES), 1)
        falls[row == size - 1, _DOWN] = 1.0
        below = np.minimum(row + 1, rows - 1) * size + column
        successors = np.stack([targets, below[:, None].repeat(len(MOVES), 1)], 2)
        probabilities = np.stack([1 - falls, falls], 2)
    effect = effects[np.arange(n_actions) % len(MOVES)]
    if noise:
        # Any label may be executed instead of the chosen one: list the outcomes of all effects.
        shares = noise * np.bincount(effect, minlength=len(MOVES)) / n_actions
        chosen = (1 - noise) * np.eye(len(MOVES)) + shares
        mixed = chosen[None, :, :, None] * probabilities[:, None]
        probabilities = mixed.reshape(len(targets), len(MOVES), -1)
        successors = np.broadcast_to(successors[:, None], mixed.shape).reshape(probabilities.shape)
    rewards = np.where(successors == goal, 1.0, 0.0 if cliff else -1.0)
    terminal = (np.arange(rows * size) == goal) | (row == size)
    return FiniteMDP(successors[:, effect], probabilities[:, effect], rewards[:, effect], terminal, start)


class GridTransferVectorEnv(BatchedEnv):
    """Many walks at once from one corner of a grid to the opposite one, by actions that may be redundant or renamed.

    Action a moves in the direction ``perm[a mod 4]``, up, down, left or right; walls stop it. Entering the goal pays 1
    and terminates the episode, any other step pays -1. With a ``cliff`` the walk is along the bottom row, where wind
    blows: half of the steps that start in it, and all that lead down, end in a pit below instead, which pays 0 and
    terminates; the goal pays 1 and no other step pays. The observation is (row, column).

    Args:
        num_envs: Number of environments.
        size: Number of cells along a side; the pit is a row below them.
        n_actions: Number of action labels, at least 4; labels that are equal modulo 4 have the same effect.
        perm: Effects of the labels 0 to 3: 0 up, 1 down, 2 left, 3 right; None: in this order.
        noise: Probability that a label drawn uniformly from all labels is executed instead.
        cliff: Whether the bottom row is the edge of a windy cliff.
        episode_len: Steps after which an episode is truncated.
        max_episode_steps: Another limit on the steps of an episode; None: only ``episode_len``.
        render_mode: Result of ``render``, in which the pit is a wall: ``"rgb_array"``, ``"ansi"`` or None.

    Attributes:
        mdp: The tables of ``grid_transfer``, from which tabular learners can learn without the environment.
        state: The state of each environment, row * size + column, (num_envs,).

    Source: Edwards et al., "Estimating Q(s,s') with deep deterministic dynamics gradients" (2020), the grids of its
    published code.

    Examples:
        >>> gymnasium.make_vec("engram/GridTransfer-v0", num_envs=2, cliff=True).reset(seed=0)[0].tolist()
        [[10.0, 0.0], [10.0, 0.0]]
    """

    metadata = BatchedEnv.metadata | RENDERED

    def __init__(
        self,
        num_envs: int = 1,
        *,
        size: int = 11,
        n_actions: int = 4,
        perm: Sequence[int] | Int[np.ndarray, "labels"] | None = None,
        noise: float = 0.0,
        cliff: bool = False,
        episode_len: int = 500,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.mdp = grid_transfer(size, n_actions=n_actions, perm=perm, noise=noise, cliff=cliff)
        self.size = size = int(size)
        observation_space = spaces.Box(np.zeros(2, np.float32), np.array([size - 1 + cliff, size - 1], np.float32))
        actions = spaces.Discrete(n_actions)
        super().__init__(num_envs, observation_space, actions, episode_len, max_episode_steps, render_mode=render_mode)
        self.state = np.full(num_envs, self.mdp.start)
        self._random = self.mdp.successors.shape[2] > 1
        self._chance = np.zeros((num_envs, self.episode_len + 1))  # the last is for an ended environment

    def _init(self, rows: Rows) -> None:
        self.state[rows] = self.mdp.start
        if self._random:
            self._chance[rows] = np.stack([self.rngs[row].random(self.episode_len + 1) for row in rows])

    def _advance(self, actions: Int[np.ndarray, "num_envs"]) -> tuple[PerEnv, dict[str, Any]]:
        cumulative = self.mdp.probabilities[self.state, actions].cumsum(1)[:, :-1]
        outcome = (self._chance[self._each, self.steps, None] >= cumulative).sum(1)
        index = self.state, actions, outcome
        self.state = self.mdp.successors[index]
        return self.mdp.rewards[index], {}

    def _ends(self) -> tuple[Ends, Ends]:
        return self.mdp.terminal[self.state], self.steps >= self.episode_len

    def _observe(self) -> Observations:
        return np.stack(np.divmod(self.state, self.size), 1).astype(np.float32)

    def _picture(self, row: int) -> Picture:
        cells = np.full(len(self.mdp.terminal), ".")
        cells[self.mdp.terminal] = "#"
        cells[self.size**2 - 1] = "G"
        return Picture(cells.reshape(-1, self.size), divmod(int(self.state[row]), self.size))


class GridTransfer(SingleEnv):
    """One walk of ``GridTransferVectorEnv``, with its arguments."""

    metadata = RENDERED
    vector_type = GridTransferVectorEnv


gymnasium.register(ENV_ID, f"{__name__}:GridTransfer", vector_entry_point=f"{__name__}:GridTransferVectorEnv")
