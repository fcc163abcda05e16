"""Proximal policy optimisation (PPO) for recurrent policies, with the values of two streams of reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from engram import checks
from engram.agents.a2c import sample_actions
from engram.agents.curious_actor_critic import CuriousActorCritic
from engram.agents.discrete_actions import check_actions
from engram.agents.ignored import without_ignored
from engram.nn.log_probabilities import entropy
from engram.state import check_state
from engram.vector_steps import autoreset_mode, end_flags


@dataclass(frozen=True)
class PPO:
    """Hyperparameters of PPO.

    Attributes:
        learning_rate: Learning rate of Adam.
        clip_norm: Norm to which the gradient is clipped.
        gamma: Discount of extrinsic rewards.
        gamma_intrinsic: Discount of intrinsic rewards.
        gae_lambda: Lambda of generalised advantages.
        clip: The largest deviation of the probability ratio from 1.
        entropy_coefficient: Weight of the entropy in the loss.
        value_coefficient: Weight of the values' errors in the loss.
        extrinsic: Weight of the extrinsic advantage.
        intrinsic: Weight of the intrinsic advantage.
        epochs: Passes over a rollout.
        minibatches: Number of groups into which the environments are divided, one for each learning step.
    """

    learning_rate: Annotated[float, Ge(0), Le(1)] = 1e-4
    clip_norm: Annotated[float, Gt(0)] = 1.0
    gamma: Annotated[float, Ge(0), Le(1)] = 0.99
    gamma_intrinsic: Annotated[float, Ge(0), Le(1)] = 0.99
    gae_lambda: Annotated[float, Ge(0), Le(1)] = 0.95
    clip: Annotated[float, Gt(0)] = 0.1
    entropy_coefficient: Annotated[float, Ge(0)] = 0.001
    value_coefficient: Annotated[float, Ge(0)] = 1.0
    extrinsic: Annotated[float, Ge(0)] = 1.0
    intrinsic: Annotated[float, Ge(0)] = 1.0
    epochs: Annotated[int, Ge(1)] = 4
    minibatches: Annotated[int, Ge(1)] = 4

    def __post_init__(self) -> None:
        checks.number("learning_rate", self.learning_rate, minimum=0, maximum=1)
        for name in ("clip_norm", "clip"):
            checks.number(name, getattr(self, name), above=0)
        for name in ("gamma", "gamma_intrinsic", "gae_lambda"):
            checks.number(name, getattr(self, name), minimum=0, maximum=1)
        for name in ("entropy_coefficient", "value_coefficient", "extrinsic", "intrinsic"):
            checks.number(name, getattr(self, name), minimum=0)
        for name in ("epochs", "minibatches"):
            checks.size(name, getattr(self, name))

    def optimizer(self, agent: torch.nn.Module) -> torch.optim.Adam:
        """Adam for the parameters of an agent."""
        checks.arguments()
        return torch.optim.Adam(agent.parameters(), lr=self.learning_rate, fused=True)


class PPORollout(NamedTuple):
    """Steps of all environments, across the ends of episodes; a step that restarts an episode does not count."""

    observations: Shaped[Tensor, "time batch *features"]  # before each action
    next_observations: Shaped[Tensor, "time batch *features"]  # after it, also at an episode's end
    previous_actions: Int[Tensor, "time batch"]
    starts: Bool[Tensor, "time batch"]  # whether an episode starts with the observation
    actions: Int[Tensor, "time batch"]
    log_prob: Float[Tensor, "time batch"]
    values: Float[Tensor, "time batch 2"]
    next_values: Float[Tensor, "time batch 2"]
    rewards: Float[Tensor, "time batch"]  # extrinsic
    terminated: Bool[Tensor, "time batch"]
    done: Bool[Tensor, "time batch"]  # terminated or truncated
    mask: Bool[Tensor, "time batch"]  # whether the step counts
    state: tuple[Tensor, ...]  # of the agent before the first step
    infos: list[dict[str, Any]]  # of all environments, at each step


class PPOStatistics(NamedTuple):
    """Parts of a PPO loss, detached and without their coefficients."""

    policy: Float[Tensor, ""]  # clipped surrogate
    value: Float[Tensor, ""]  # half the squared errors of both values
    entropy: Float[Tensor, ""]
    clipped: Float[Tensor, ""]  # fraction of ratios outside the clipping range


class VectorActor:
    """An agent that acts in many environments, rollout after rollout; episodes continue across rollouts.

    The tensors of a rollout are on the agent's device.

    Args:
        env: Environments with discrete actions whose episodes restart at the next step (Gymnasium's default).
        agent: The agent.
        generator: Source of the actions.
        seed: Seed of the environments; None lets them continue with their own randomness.

    Raises:
        TypeError: The actions are not a ``Discrete`` that is counted from 0.
        ValueError: The environments restart within a step or not at all, or the agent has another number of actions or
            observations of another shape.

    Examples:
        >>> import gymnasium
        >>> env = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
        >>> agent = CuriousActorCritic((4,), 2, hidden=8, memory=None)
        >>> VectorActor(env, agent, torch.Generator().manual_seed(0), seed=0).rollout(5).actions.shape
        torch.Size([5, 3])
    """

    __repr__ = checks.described

    def __init__(
        self, env: VectorEnv[Any, Any, Any], agent: CuriousActorCritic, generator: torch.Generator, seed: int | None = 0
    ) -> None:
        checks.instance("env", env, VectorEnv)
        if (mode := autoreset_mode(env)) is not AutoresetMode.NEXT_STEP:
            raise ValueError(f"env has {mode}: expected AutoresetMode.NEXT_STEP")
        self.env, self.agent, self.generator = env, agent, checks.generator(generator)
        with checks.noted(agent=agent):  # it may be compiled, and then is of another class
            check_actions(env, agent.policy.out_features)
            self._observation = self._tensor(env.reset(seed=seed)[0])
            checks.has_shape("observation", tuple(self._observation.shape), (env.num_envs, *agent.obs_shape))
        self._action = self._tensor(np.zeros(env.num_envs, np.int64))
        self._starts, self._over = (self._tensor(np.full(env.num_envs, value)) for value in (True, False))
        self._state = agent.initial(env.num_envs)

    @torch.no_grad()
    def rollout(self, steps: int) -> PPORollout:
        """Run ``steps`` steps in each environment, and return them; the next rollout continues from there."""
        checks.size("steps", steps)
        initial_state, columns, infos = self._state, [], []
        for _ in range(steps):
            inputs = self._observation, self._action, self._starts
            output, self._state = self.agent(*(value[None] for value in inputs), self._state)
            logits = output.logits[0]
            action = sample_actions(logits, self.generator).to(logits.device)
            log_prob = logits.log_softmax(-1).gather(-1, action[:, None])[:, 0]
            observation_array, reward, terminated, truncated, info = self.env.step(action.numpy(force=True))
            terminated = end_flags("terminated", terminated, self.env.num_envs)
            over = terminated | end_flags("truncated", truncated, self.env.num_envs)
            reward, *ends = map(self._tensor, (reward, terminated, over))
            columns.append((*inputs, action, log_prob, output.values[0], reward, *ends, ~self._over))
            infos.append(info)
            self._observation, self._action = self._tensor(observation_array), action
            self._starts, self._over = self._over, ends[1]
        last_output = self.agent(self._observation[None], self._action[None], self._starts[None], self._state)[0]
        observations, previous, starts, actions, log_probs, values, rewards, terminated_, done, mask = (
            torch.stack(column) for column in zip(*columns, strict=True)
        )
        next_values, next_observations = (
            torch.cat((values[1:], last_output.values)),
            torch.cat((observations[1:], self._observation[None])),
        )
        outcomes = actions, log_probs, values, next_values, rewards.to(values), terminated_, done, mask
        return PPORollout(observations, next_observations, previous, starts, *outcomes, initial_state, infos)

    def _tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(np.array(array)).to(self.agent.mean.device)

    def state_dict(self) -> dict[str, Any]:
        """The state of the environments, which need their own ``state_dict``, and of the agent's memory."""
        env: Any = self.env
        tensors = {"observation": self._observation, "action": self._action, "starts": self._starts, "over": self._over}
        if not hasattr(env, "state_dict") or not hasattr(env, "load_state_dict"):
            raise TypeError(f"env = {checks.shown(env)}: expected environments with state_dict and load_state_dict")
        with checks.noted(env=env):
            state = {"env": env.state_dict(), "state": [value.clone() for value in self._state]}
        return {name: value.clone() for name, value in tensors.items()} | state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of ``state_dict``."""
        check_state(state, self.state_dict() | {"env": dict})
        env: Any = self.env
        env.load_state_dict(state["env"])
        device, names = self.agent.mean.device, ("observation", "action", "starts", "over")
        self._observation, self._action, self._starts, self._over = (
            state[name].to(device, copy=True) for name in names
        )
        self._state = tuple(value.to(device, copy=True) for value in state["state"])


def generalised_advantages(
    rewards: Float[Tensor, "time batch"],
    values: Float[Tensor, "time batch"],
    next_values: Float[Tensor, "time batch"],
    terminated: Bool[Tensor, "time batch"],
    done: Bool[Tensor, "time batch"],
    *,
    gamma: float,
    gae_lambda: float,
) -> Float[Tensor, "time batch"]:
    """Generalised advantages.

        d(t) = r(t) + gamma V(t+1) [not terminated] - V(t),   A(t) = d(t) + gamma lambda A(t+1) [not done]

    Args:
        rewards: r.
        values: V(t), the values before each step.
        next_values: V(t+1), the values after each step, also at the end of an episode; ignored where it terminated.
        terminated: Whether the step terminated its episode.
        done: Whether the advantages after the step belong to another episode.
        gamma: Discount for each step, from 0 to 1.
        gae_lambda: lambda, from 0 to 1.

    Raises:
        ValueError: Shapes differ, or ``gamma`` or ``gae_lambda`` is not from 0 to 1.

    Source: Schulman et al., "High-dimensional continuous control using generalized advantage estimation" (2016).

    Examples:
        >>> ones, never = torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.bool)
        >>> generalised_advantages(ones, 0 * ones, 0 * ones, never, never, gamma=0.5, gae_lambda=1.0).flatten()
        tensor([1.5000, 1.0000])
    """
    checks.arguments()
    checks.number("gamma", gamma, minimum=0, maximum=1)
    checks.number("gae_lambda", gae_lambda, minimum=0, maximum=1)
    td_errors = rewards + (gamma * next_values).masked_fill(terminated, 0) - values
    advantages, next_advantage = torch.empty_like(td_errors), td_errors.new_zeros(td_errors.shape[1])
    for t in range(len(rewards) - 1, -1, -1):
        next_advantage = td_errors[t] + (gamma * gae_lambda * next_advantage).masked_fill(done[t], 0)
        advantages[t] = next_advantage
    return advantages


def ppo_loss(
    logits: Float[Tensor, "time batch actions"],
    values: Float[Tensor, "time batch streams"],
    *,
    actions: Int[Tensor, "time batch"],
    old_log_prob: Float[Tensor, "time batch"],
    advantages: Float[Tensor, "time batch"],
    returns: Float[Tensor, "time batch streams"],
    mask: Bool[Tensor, "time batch"],
    clip: float,
    value_coefficient: float,
    entropy_coefficient: float,
) -> tuple[Float[Tensor, ""], PPOStatistics]:
    """The loss of PPO, a mean over the steps that count.

        L = -min(u A, clip(u, 1 - c, 1 + c) A) + beta_v sum over k of (V_k - R_k)^2 / 2 - beta_e H,
        u = pi(a) / pi_old(a)

    Args:
        logits: Unnormalised log-probabilities of the actions; -inf for those that are not allowed.
        values: V_k of each stream of reward.
        actions: The actions taken.
        old_log_prob: log pi_old(a), when the actions were taken.
        advantages: A.
        returns: R_k.
        mask: Whether each step counts; all else of a step that does not is ignored, even NaN.
        clip: c, above 0.
        value_coefficient: beta_v, at least 0.
        entropy_coefficient: beta_e, at least 0; H is the entropy of pi.

    Raises:
        ValueError: Shapes differ, or a number is out of range.

    Source: Schulman et al., "Proximal policy optimization algorithms" (2017), equations 7 and 9.

    Examples:
        >>> ones, action = torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64)
        >>> step = {"actions": action, "old_log_prob": -2 * ones, "advantages": ones, "mask": ones.bool()}
        >>> weights = {"clip": 0.2, "value_coefficient": 1.0, "entropy_coefficient": 0.0}
        >>> zeros = torch.zeros(1, 1, 1)
        >>> ppo_loss(torch.zeros(1, 1, 2), zeros, returns=zeros, **step, **weights)[0].item()
        -1.2000...
    """
    checks.arguments()
    checks.number("clip", clip, above=0)
    checks.number("value_coefficient", value_coefficient, minimum=0)
    checks.number("entropy_coefficient", entropy_coefficient, minimum=0)
    logits, values, returns = (tensor.where(mask[..., None], 0) for tensor in (logits, values, returns))
    advantages, old_log_prob = (tensor.where(mask, 0) for tensor in (advantages, old_log_prob))
    counts = mask.to(advantages)
    total = counts.sum().clamp(min=1)

    def mean(numbers: Float[Tensor, "time batch"]) -> Float[Tensor, ""]:
        return (numbers * counts).sum() / total

    log_pi = logits.log_softmax(-1)
    ratio = (log_pi.gather(-1, actions.unsqueeze(-1)).squeeze(-1) - old_log_prob).exp()
    policy = -mean(torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages))
    value = mean((values - returns).square().sum(-1) / 2)
    uncertainty = mean(entropy(log_pi))
    clipped = mean(((ratio - 1).abs() > clip).to(counts))
    loss = policy + value_coefficient * value - entropy_coefficient * uncertainty
    return loss, PPOStatistics(policy.detach(), value.detach(), uncertainty.detach(), clipped.detach())


def ppo_update(
    agent: CuriousActorCritic,
    optimizer: torch.optim.Optimizer,
    rollout: PPORollout,
    intrinsic: Float[Tensor, "time batch"],
    settings: PPO,
    *,
    generator: torch.Generator,
    curiosity: Any = None,
) -> PPOStatistics:
    """Learn from a rollout in several epochs of minibatches, which consist of environments with all their steps.

    Args:
        agent: The agent that acted.
        optimizer: Optimiser of its parameters.
        rollout: From ``VectorActor``.
        intrinsic: The intrinsic rewards of its steps; ignored at steps that do not count.
        settings: The hyperparameters.
        generator: Draws the minibatches.
        curiosity: A curiosity to train on the observations after each step of the same minibatches, by its own
            optimiser; None: none.

    Returns:
        The parts of the loss, averaged over all learning steps.

    Raises:
        ValueError: There are fewer environments than minibatches, or the shapes differ.

    Examples:
        >>> import gymnasium
        >>> env = gymnasium.make_vec("CartPole-v1", num_envs=4, vectorization_mode="sync")
        >>> generator, settings = torch.Generator().manual_seed(0), PPO()
        >>> agent = CuriousActorCritic((4,), 2, hidden=8, memory=None, generator=generator)
        >>> rollout = VectorActor(env, agent, generator).rollout(16)
        >>> none = torch.zeros(16, 4)
        >>> parts = ppo_update(agent, settings.optimizer(agent), rollout, none, settings, generator=generator)
        >>> 0 < parts.entropy.item() < 0.7
        True
    """
    checks.arguments()
    num_envs = rollout.actions.shape[1]
    if settings.minibatches > num_envs:
        raise ValueError(f"settings.minibatches = {settings.minibatches}: expected at most {num_envs} environments")
    checks.has_shape("intrinsic", tuple(intrinsic.shape), tuple(rollout.actions.shape))
    if not rollout.mask.any():
        raise ValueError("rollout: expected a step that counts; all of its steps begin episodes, so take longer ones")
    streams = zip((rollout.rewards, intrinsic), (settings.gamma, settings.gamma_intrinsic), strict=True)
    stream_advantages = torch.stack(
        [
            generalised_advantages(
                rewards.to(rollout.values), rollout.values[..., k], rollout.next_values[..., k], rollout.terminated,
                rollout.done | ~rollout.mask, gamma=gamma, gae_lambda=settings.gae_lambda,
            )
            for k, (rewards, gamma) in enumerate(streams)
        ],
        -1,
    )  # fmt: skip
    advantages, returns = (
        stream_advantages @ stream_advantages.new_tensor([settings.extrinsic, settings.intrinsic]),
        stream_advantages + rollout.values,
    )
    counted = advantages[rollout.mask]
    advantages = (advantages - counted.mean()) / (counted.std(correction=0) + 1e-8)
    observations = without_ignored(rollout.observations, ~rollout.mask)
    inputs = observations, rollout.previous_actions, rollout.starts
    loss_inputs: dict[str, Any] = {"actions": rollout.actions, "old_log_prob": rollout.log_prob, "mask": rollout.mask}
    loss_inputs |= {"advantages": advantages, "returns": returns}
    coefficients = ("clip", "value_coefficient", "entropy_coefficient")
    options: dict[str, Any] = {name: getattr(settings, name) for name in coefficients}
    history = []
    for _ in range(settings.epochs):
        for envs in torch.randperm(num_envs, generator=generator).tensor_split(settings.minibatches):
            output, _ = agent(*(value[:, envs] for value in inputs), tuple(state[:, envs] for state in rollout.state))
            loss, statistics = ppo_loss(
                output.logits, output.values, **{name: value[:, envs] for name, value in loss_inputs.items()}, **options
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(agent.parameters(), settings.clip_norm)
            optimizer.step()
            history.append(statistics)
            if curiosity is not None:
                with checks.noted(curiosity=curiosity):
                    curiosity.update(rollout.next_observations[:, envs], rollout.mask[:, envs], envs.numpy())
    return PPOStatistics(*(torch.stack(column).mean() for column in zip(*history, strict=True)))
