"""An actor-critic with memory that learns online."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from engram import checks
from engram.agents.a2c import A2C, Rollout, a2c_step, values_after
from engram.agents.actor_critic import meta_actor_critic, plastic_actor_critic
from engram.agents.discrete_actions import discrete_actions
from engram.agents.from_spaces import seeded
from engram.agents.replay import features_of
from engram.agents.returns import TRUNCATIONS
from engram.nn.initial import uniform
from engram.plasticity import ClippedHebb, Modulated, PlasticityRule
from engram.state import check_state, form_of

RULES: dict[str, Callable[[], PlasticityRule]] = {"plastic": ClippedHebb, "modulated": Modulated}


@dataclass
class Steps:
    """The steps of an episode so far."""

    inputs: list[Tensor] = field(default_factory=list)  # each (inputs,)
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    last: list[Tensor] = field(default_factory=list)  # the input after a truncation; else empty


class RecurrentAgent:
    """An actor-critic that sees its last action and reward, and learns by A2C from one or a few episodes at a time.

        input(t) = [o(t), one-hot of a(t-1), r(t-1)],  both 0 at the start of an episode

    so that it can learn, over many episodes, to identify its world within an episode (RL^2).

    Args:
        observation_space: A ``Box`` of vectors.
        action_space: A ``Discrete`` that starts at 0.
        rng: Source of all randomness, including the initial values.
        network: ``"lstm"``, or a ``"plastic"`` or ``"modulated"`` recurrent network.
        hidden_size: Units of the recurrent network.
        episodes: Number of episodes in each learning step.
        learning_rate: Learning rate of Adam.
        gamma: Discount for each step, from 0 to 1.
        truncation: Value of the state after a truncated episode: ``"bootstrap"``, as the critic estimates it, or
            ``"terminal"``, 0, as published.

    Attributes:
        network: The ``ActorCritic``.

    Raises:
        TypeError, ValueError: A space does not fit, or an argument is out of range.

    Source: Wang et al., "Learning to reinforcement learn" (2016); plastic networks: Miconi et al., "Backpropamine"
        (2019).

    Examples:
        >>> box, two = spaces.Box(-1.0, 1.0, (4,)), spaces.Discrete(2)
        >>> RecurrentAgent(box, two, rng=np.random.default_rng(0)).act(np.zeros(4)) in two
        True
    """

    __repr__ = checks.described

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        rng: np.random.Generator,
        network: Literal["lstm", "plastic", "modulated"] = "lstm",
        hidden_size: int = 32,
        episodes: int = 1,
        learning_rate: float = 0.01,
        gamma: float = 0.95,
        truncation: str = "bootstrap",
    ) -> None:
        checks.arguments()
        self.truncation = checks.choice("truncation", truncation, TRUNCATIONS)
        self.actions, self.features = discrete_actions(action_space), features_of(observation_space)
        self.episodes, size = checks.size("episodes", episodes), checks.size("hidden_size", hidden_size)
        self.settings = A2C(learning_rate=learning_rate, gamma=gamma)
        self.rng, generator, inputs = rng, seeded(rng), self.features + self.actions + 1
        checks.choice("network", network, ("lstm", *RULES))
        if network == "lstm":
            lstm = uniform(nn.LSTM, inputs, size, bound=size**-0.5, generator=generator)
            self.network = meta_actor_critic(lstm, self.actions, generator=generator)
        else:
            self.network = plastic_actor_critic(inputs, size, self.actions, RULES[network](), generator=generator)
        self.optimizer = self.settings.optimizer(self.network)
        self._steps, self._finished = Steps(), list[Steps]()
        self._policy: Callable[[Float[Tensor, "1 inputs"]], Float[Tensor, "1 actions"]] | None = None

    @classmethod
    def plastic(
        cls,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        rng: np.random.Generator,
        learning_rate: float = 0.01,
        truncation: str = "bootstrap",
    ) -> RecurrentAgent:
        """An agent with a plastic network.

        Args:
            observation_space: Space of the observations, as for the class.
            action_space: Space of the actions, as for the class.
            rng: Source of all randomness.
            learning_rate: Learning rate of Adam.
            truncation: Value of the state after a truncated episode, as for the class.
        """
        options: dict[str, Any] = {"learning_rate": learning_rate, "truncation": truncation}
        return cls(observation_space, action_space, rng=rng, network="plastic", **options)

    @classmethod
    def modulated(
        cls,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        rng: np.random.Generator,
        learning_rate: float = 0.01,
        truncation: str = "bootstrap",
    ) -> RecurrentAgent:
        """An agent with a plastic network that controls when its own synapses change.

        Args:
            observation_space: Space of the observations, as for the class.
            action_space: Space of the actions, as for the class.
            rng: Source of all randomness.
            learning_rate: Learning rate of Adam.
            truncation: Value of the state after a truncated episode, as for the class.
        """
        options: dict[str, Any] = {"learning_rate": learning_rate, "truncation": truncation}
        return cls(observation_space, action_space, rng=rng, network="modulated", **options)

    def act(self, observation: Any) -> int:
        """An action.

        Raises:
            RuntimeError: ``observe`` was not called after the last action.
            ValueError: The observation has another shape, or is not finite.
        """
        steps = self._steps
        if len(steps.actions) > len(steps.rewards):
            raise RuntimeError("act was called twice: expected observe in between")
        steps.inputs.append(self._input(observation))
        logits = self._logits()
        steps.actions.append(int((logits.double().numpy() + self.rng.gumbel(size=self.actions)).argmax()))
        return steps.actions[-1]

    def observe(self, reward: float, terminated: bool, truncated: bool, observation: Any = None) -> None:
        """Record the outcome of the last action.

        Args:
            reward: Its reward.
            terminated: Whether it terminated the episode.
            truncated: Whether the episode was truncated.
            observation: The next observation; needed only at a truncation, to bootstrap from it.

        Raises:
            RuntimeError: There was no action.
            ValueError: The reward is not finite, or the observation is missing or invalid.
        """
        steps = self._steps
        if len(steps.actions) == len(steps.rewards):
            raise RuntimeError("observe was called without an action: expected act before it")
        with checks.noted(terminated=terminated, truncated=truncated):
            over = bool(terminated or truncated)
        bootstrap = truncated and not terminated and self.truncation == "bootstrap"
        if bootstrap and observation is None:
            why = f"as truncated = {checks.shown(truncated)}, and the agent bootstraps from it"
            raise ValueError(f"observation = None: expected the observation at the truncation, {why}")
        reward = checks.number("reward", reward)
        last_input = [self._input(observation, reward)] if bootstrap else []
        steps.rewards.append(reward)
        if over:
            steps.last = last_input
            self._finished.append(steps)
            self._steps, self._policy = Steps(), None

    def learn(self) -> dict[str, float]:
        """Learn once enough episodes are finished, then discard them; return the loss."""
        if len(self._finished) < self.episodes:
            return {}
        loss, _ = a2c_step(self.network, self.optimizer, self._rollout(), self.settings)
        self._finished.clear()
        self._policy = None  # its parameters have changed
        return {"loss": loss.item()}

    def state_dict(self) -> dict[str, Any]:
        """All state, including that of the episode in progress and of the random generator."""
        return {
            "network": copy.deepcopy(dict(self.network.state_dict())),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "rng": self.rng.bit_generator.state,
            "episodes": [copy.deepcopy(vars(steps)) for steps in (*self._finished, self._steps)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``, bit for bit."""
        optimizer, network = form_of(self.optimizer), form_of(self.network)
        rng = self.rng.bit_generator.state
        check_state(state, {"network": network, "optimizer": optimizer, "rng": rng, "episodes": list})
        if not state["episodes"]:
            raise ValueError("state['episodes'] = []: expected at least the episode in progress")
        for index, lists in enumerate(state["episodes"]):
            check_state(lists, dict.fromkeys(vars(self._steps), list), f"state['episodes'][{index}]")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.rng.bit_generator.state = state["rng"]
        *self._finished, self._steps = (Steps(**lists) for lists in copy.deepcopy(state["episodes"]))
        self._policy = None

    def __getstate__(self) -> dict[str, Any]:
        """All attributes but the policy, a function that a copy could only share."""
        return {**vars(self), "_policy": None}

    def _input(self, observation: Any, reward: float | None = None) -> Float[Tensor, "inputs"]:
        """The input with an observation; ``reward``: that of the last action, where it is not recorded yet."""
        features = checks.array("observation", observation, (self.features,), np.float32)
        last_outcome = np.zeros(self.actions + 1, np.float32)
        if self._steps.actions:
            last_outcome[self._steps.actions[-1]] = 1
            last_outcome[-1] = self._steps.rewards[-1] if reward is None else reward
        return torch.from_numpy(np.concatenate((features, last_outcome)))

    def _rollout(self) -> Rollout:
        """The finished episodes side by side, (time, episodes), padded at the end."""
        episodes = self._finished
        inputs = pad_sequence([torch.stack(steps.inputs) for steps in episodes])
        actions, rewards, mask = (
            pad_sequence([torch.tensor(column) for column in columns])
            for columns in zip(*((s.actions, s.rewards, [True] * len(s.actions)) for s in episodes), strict=True)
        )
        cut = {(len(steps.actions) - 1, row): steps.last[0] for row, steps in enumerate(episodes) if steps.last}
        return Rollout(inputs, actions, rewards.to(inputs), mask, [], values_after(self.network, inputs, cut))

    def _logits(self) -> Float[Tensor, "actions"]:
        """The policy at the last input of the episode in progress; a new policy first repeats those before it."""
        *inputs_before, last_input = self._steps.inputs
        if self._policy is None:
            self._policy = self.network.acting(1)
            for earlier_input in inputs_before:
                self._policy(earlier_input[None])
        return self._policy(last_input[None])[0]
