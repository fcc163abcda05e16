"""Advantage actor-critic (A2C) for recurrent policies: one update from whole episodes of many environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engram import checks
from engram.agents.actor_critic import ActorCritic
from engram.agents.discrete_actions import check_actions
from engram.agents.ignored import without_ignored
from engram.agents.returns import TRUNCATIONS, discounted_returns
from engram.vector_steps import autoreset_mode, end_flags


@dataclass(frozen=True)
class A2C:
    """Hyperparameters of A2C.

    Attributes:
        learning_rate: Learning rate of Adam.
        adam_eps: Epsilon of Adam.
        clip_norm: Norm to which the gradient is clipped.
        gamma: Discount for each step.
        value_coefficient: Weight of the critic's squared error in the loss.
        entropy_coefficient: Weight of the sum of squared probabilities in the loss.
        author_value_bug: Use the value of the first environment for all environments, as the published code does.
    """

    learning_rate: Annotated[float, Ge(0), Le(1)] = 1e-3
    adam_eps: Annotated[float, Gt(0), Le(1)] = 1e-8
    clip_norm: Annotated[float, Gt(0)] = 4.0
    gamma: Annotated[float, Ge(0), Le(1)] = 0.9
    value_coefficient: Annotated[float, Ge(0)] = 0.1
    entropy_coefficient: Annotated[float, Ge(0)] = 0.03
    author_value_bug: bool = False

    def __post_init__(self) -> None:
        checks.number("learning_rate", self.learning_rate, minimum=0, maximum=1)
        checks.number("adam_eps", self.adam_eps, above=0, maximum=1)
        checks.number("clip_norm", self.clip_norm, above=0)
        checks.number("gamma", self.gamma, minimum=0, maximum=1)
        for name in ("value_coefficient", "entropy_coefficient"):
            checks.number(name, getattr(self, name), minimum=0)

    def optimizer(self, agent: ActorCritic) -> torch.optim.Adam:
        """Adam for the parameters of an agent."""
        checks.arguments()
        return torch.optim.Adam(agent.parameters(), lr=self.learning_rate, eps=self.adam_eps, fused=True)


class Rollout(NamedTuple):
    """One episode of each environment; steps after its end do not count."""

    observations: Float[Tensor, "time batch features"]  # before each action
    actions: Int[Tensor, "time batch"]
    rewards: Float[Tensor, "time batch"]  # 0 after the end
    mask: Bool[Tensor, "time batch"]  # whether the episode was still running
    infos: list[dict[str, Any]]  # of all environments, at each step
    next_values: Float[Tensor, "time batch"] | None = None  # of the state after a truncation, else 0; None: all 0


class Statistics(NamedTuple):
    """The parts of an A2C loss, detached and without their coefficients."""

    policy: Float[Tensor, ""]  # policy-gradient part
    value: Float[Tensor, ""]  # mean squared error of the values
    concentration: Float[Tensor, ""]  # mean sum of squared probabilities; 1 for a policy that never varies
    advantage: Float[Tensor, "time batch"]  # return minus value


@torch.no_grad()
def rollout(
    env: VectorEnv[Any, Any, Any],
    agent: ActorCritic,
    generator: torch.Generator,
    *,
    seed: int | None = None,
    max_steps: int = 100_000,
    truncation: str = "bootstrap",
) -> Rollout:
    """One episode in every environment, from a reset until all are over.

    No graph is built, so that fused kernels can be used. The gradient comes from calling the agent again with all
    ``observations`` at once. It is the same gradient, since actions and rewards are constants.

    Args:
        env: Environments with discrete actions.
        agent: The agent; observations are converted to its device and dtype.
        generator: Source of the actions; they are drawn on its device.
        seed: Seed of the environments; None lets them continue with their own randomness.
        max_steps: Maximum length of an episode.
        truncation: Value of the state after a truncated episode: ``"bootstrap"``, as the agent estimates it, or
            ``"terminal"``, 0.

    Raises:
        TypeError: The actions are not a ``Discrete`` that is counted from 0.
        ValueError: The agent has another number of actions, the observations are not vectors, or ``truncation`` is
            unknown.
        RuntimeError: Not all episodes were over after ``max_steps`` steps.

    Examples:
        >>> import gymnasium
        >>> env = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
        >>> agent = ActorCritic(torch.nn.RNN(4, 8), actions=2)
        >>> rollout(env, agent, torch.Generator().manual_seed(0), seed=0).actions.shape[1]
        3
    """
    checks.arguments()
    checks.size("max_steps", max_steps)
    checks.choice("truncation", truncation, TRUNCATIONS)
    check_actions(env, agent.policy.out_features)
    like, mode = agent.value.weight, autoreset_mode(env)
    observation_array, _ = env.reset(seed=seed)
    if np.ndim(observation_array) != 2:
        raise ValueError(f"the observations have shape {np.shape(observation_array)}: expected (num_envs, features)")
    running, policy = np.ones(env.num_envs, dtype=bool), agent.acting(env.num_envs)
    steps: list[tuple[Tensor, ...]] = []
    infos, cut = [], dict[tuple[int, int], Any]()  # the observation after each truncated step, by step and environment
    while running.any():
        if len(steps) == max_steps:
            raise RuntimeError(f"{running.sum()} episodes were not over after max_steps = {max_steps} steps")
        observation = torch.as_tensor(observation_array).to(like, copy=True)
        action = sample_actions(policy(observation), generator)
        observation_array, reward, terminations, truncations, info = env.step(action.numpy(force=True))
        steps.append((observation, action, torch.from_numpy(np.where(running, reward, 0.0)), torch.from_numpy(running)))
        infos.append(info)
        terminations = end_flags("terminated", terminations, env.num_envs)
        truncations = end_flags("truncated", truncations, env.num_envs)
        finished = terminations | truncations
        if truncation == "bootstrap":
            for row in np.flatnonzero(running & truncations & ~terminations).tolist():
                cut[len(infos) - 1, row] = final_observation(mode, row, observation_array, info)
        running = running & ~finished
        if finished.any() and running.any() and mode is AutoresetMode.DISABLED:
            observation_array, _ = env.reset(
                options={"reset_mask": finished}
            )  # finished environments are stepped along with the others
    observations, actions, rewards, mask = (torch.stack(column) for column in zip(*steps, strict=True))
    next_values = values_after(agent, observations, cut)
    return Rollout(observations, actions.to(like.device), rewards.to(like), mask.to(like.device), infos, next_values)


def final_observation(mode: AutoresetMode, row: int, observations: Any, info: dict[str, Any]) -> Any:
    """The observation after the last step of an episode in one environment, in any autoreset mode.

    Args:
        mode: When the environments start again.
        row: The index of the environment.
        observations: What ``env.step`` returned, before any reset.
        info: The infos that it returned.

    Raises:
        ValueError: The environments start again within a step, and the infos have no last observation.
    """
    if mode is not AutoresetMode.SAME_STEP:
        return np.array(observations[row])
    last = info.get("final_obs", info.get("final_observation"))  # the second name is that of older environments
    if last is None or last[row] is None:
        raise ValueError(
            f"infos['final_obs'] has no observation of environment {row}: expected its last one, since the "
            "environments start again within a step"
        )
    return np.array(last[row])


@torch.no_grad()
def values_after(
    agent: ActorCritic, observations: Float[Tensor, "time batch features"], cut: dict[tuple[int, int], Any]
) -> Float[Tensor, "time batch"] | None:
    """The values of the states after truncated steps, at these steps, and 0 elsewhere; None if there is none.

    Args:
        agent: The agent that acted.
        observations: Its observations, before each action.
        cut: The observation after each truncated step, by step and environment.
    """
    if not cut:
        return None
    followed = torch.cat((observations, observations[-1:]))
    for (step, row), observation in cut.items():
        followed[step + 1, row] = torch.as_tensor(observation).to(followed)
    values = agent(followed)[0].values
    next_values = torch.zeros_like(values[1:])
    for step, row in cut:
        next_values[step, row] = values[step + 1, row]
    return next_values


def sample_actions(logits: Float[Tensor, "batch actions"], generator: torch.Generator) -> Int[Tensor, "batch"]:
    """Draw an action from each softmax policy, by the Gumbel-max trick, on the device of the generator."""
    if logits.dtype in (torch.float16, torch.bfloat16):  # in which many draws are equal, and the first action wins
        logits = logits.float()
    exponential = torch.empty(logits.shape, dtype=logits.dtype, device=generator.device)
    exponential.exponential_(generator=generator)
    return (logits.to(generator.device) - exponential.log_()).argmax(-1)


def a2c_loss(
    log_prob: Float[Tensor, "time batch"],
    values: Float[Tensor, "time batch"],
    rewards: Float[Tensor, "time batch"],
    probabilities: Float[Tensor, "time batch actions"],
    *,
    gamma: float,
    value_coefficient: float,
    entropy_coefficient: float,
    author_value_bug: bool = False,
    mask: Bool[Tensor, "time batch"] | None = None,
    next_values: Float[Tensor, "time batch"] | None = None,
) -> tuple[Float[Tensor, ""], Statistics]:
    """The loss of advantage actor-critic for whole episodes.

        L = mean over t and b of  -log pi(a) A + beta_v (R - V)^2 + beta_e sum over a of pi(a)^2,   A = R - V

    where A is a constant, and R(t) = r(t) + gamma V'(t) + gamma R(t+1) the discounted return of the episode, with the
    value V' of the state after the step at which it was truncated. The last term replaces an entropy bonus. Non-finite
    inputs give a non-finite loss, as in torch's own losses.

    Args:
        log_prob: log pi(a) of the actions taken.
        values: V.
        rewards: Rewards, 0 after the end of an episode.
        probabilities: pi.
        gamma: Discount for each step.
        value_coefficient: beta_v, at least 0.
        entropy_coefficient: beta_e, at least 0.
        author_value_bug: Use the value of the first environment as V of all environments, as the code behind the
            published curves does.
        mask: Whether each step counts; None: all do. What is not finite in a step that does not count is ignored.
        next_values: V', a constant: 0 but at the last step of a truncated episode; None: 0 everywhere.

    Raises:
        ValueError: The shapes differ, a number is out of range, or no step counts.

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), its published code for the reinforcement tasks;
    after Mnih et al., "Asynchronous methods for deep reinforcement learning" (2016).

    Examples:
        >>> ones = torch.ones(2, 1)
        >>> a2c_loss(-ones, 0 * ones, ones, torch.full((2, 1, 2), 0.5), gamma=0.5, value_coefficient=0.1,
        ...          entropy_coefficient=0.1)[1].advantage.flatten()
        tensor([1.5000, 1.0000])
    """
    checks.arguments()
    shape = tuple(rewards.shape)
    for name, tensor in {"log_prob": log_prob, "values": values, "mask": mask, "next_values": next_values}.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name}.shape = {tuple(tensor.shape)}: expected that of rewards, {shape}")
    if tuple(probabilities.shape[:-1]) != shape:
        raise ValueError(f"probabilities.shape = {tuple(probabilities.shape)}: expected {shape} and the actions")
    checks.number("value_coefficient", value_coefficient, minimum=0)
    checks.number("entropy_coefficient", entropy_coefficient, minimum=0)
    counts = torch.ones_like(rewards) if mask is None else mask.to(rewards.dtype)
    if not counts.any():
        raise ValueError(f"mask.shape = {shape} and no step counts: expected at least one")
    if mask is not None:
        log_prob, values, rewards, probabilities = (
            without_ignored(tensor, ~mask) for tensor in (log_prob, values, rewards, probabilities)
        )
        next_values = None if next_values is None else without_ignored(next_values, ~mask)

    def mean(numbers: Float[Tensor, "time batch"]) -> Float[Tensor, ""]:
        return (numbers * counts).sum() / counts.sum()

    baseline = values[:, :1] if author_value_bug else values
    outcomes = rewards if next_values is None else rewards + gamma * next_values
    error = discounted_returns(outcomes, gamma) - baseline
    advantage = error.detach()
    policy = mean(-log_prob * advantage)
    value = mean(error.square())
    concentration = mean(probabilities.square().sum(-1))
    loss = policy + value_coefficient * value + entropy_coefficient * concentration
    return loss, Statistics(policy.detach(), value.detach(), concentration.detach(), advantage)


def a2c_step(
    agent: ActorCritic, optimizer: torch.optim.Optimizer, episodes: Rollout, settings: A2C
) -> tuple[Float[Tensor, ""], Statistics]:
    """Take one optimiser step; return the loss before it, and the parts of that loss.

    Args:
        agent: The agent that acted.
        optimizer: Optimiser of its parameters.
        episodes: Episodes of the agent, from ``rollout``.
        settings: Discount, coefficients and clipping.
    """
    checks.arguments()
    output, _ = agent(without_ignored(episodes.observations, ~episodes.mask))
    loss, statistics = a2c_loss(
        output.log_prob(episodes.actions),
        output.values,
        episodes.rewards,
        output.probabilities,
        gamma=settings.gamma,
        value_coefficient=settings.value_coefficient,
        entropy_coefficient=settings.entropy_coefficient,
        author_value_bug=settings.author_value_bug,
        mask=episodes.mask,
        next_values=episodes.next_values,
    )
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(agent.parameters(), settings.clip_norm)
    optimizer.step()
    return loss.detach(), statistics
