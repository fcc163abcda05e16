"""Textbook rules for Bernoulli bandits, and their regret."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.agents.reference.play import Actions, Lifetimes, Observations, Rewards


def regret(env: Any, lifetimes: Lifetimes) -> Float[np.ndarray, "num_envs"]:
    """The regret of each lifetime of a bandit with one probability for each arm, or with two dependent arms.

        sum over t of max over a of p(a) - p(a(t))

    It is computed from the arms pulled, not from the rewards. ``env`` must still have the instances of these lifetimes.

    Raises:
        ValueError: The lifetimes have several lengths, so that environments have other instances by the end.
    """
    if (lifetimes.lengths != lifetimes.actions.shape[1]).any():
        lengths = sorted({*lifetimes.lengths.tolist()})
        raise ValueError(f"lifetimes have lengths {lengths}: expected one length, that of the longest")
    instance_probs = [env.instance(row).probs for row in range(env.num_envs)]
    reward_probabilities = np.array(
        [(arm_probs[0], 1 - arm_probs[0]) if len(arm_probs) == 1 else arm_probs for arm_probs in instance_probs]
    )
    best_probability: Float[np.ndarray, "num_envs steps"] = reward_probabilities.max(1, keepdims=True)
    return np.asarray((best_probability - np.take_along_axis(reward_probabilities, lifetimes.actions, 1)).sum(1))


class BanditAgent:
    """An agent that pulls the arms of a Bernoulli bandit by a textbook rule.

    "thompson" draws each arm's probability from its posterior under a uniform prior, and pulls the arm with the
    largest; "ucb1" pulls every arm once, then the arm with the largest mean + sqrt(2 ln t / n), where n is its number
    of pulls and t - 1 that of all arms; "greedy" pulls the arm with the largest posterior mean.

    Args:
        rule: "thompson", "ucb1" or "greedy".
        rng: Source of the draws, and of the choice between tied arms.
        dependent: Whether the agent knows that the probabilities of two arms sum to one, so that a reward from one arm
            counts as a missing reward from the other; not for "ucb1".

    Source: Thompson (1933); Auer et al., "Finite-time analysis of the multiarmed bandit problem" (2002).

    Examples:
        >>> from engram.agents.reference import play
        >>> from engram.tasks.meta import MetaTaskVectorEnv, named
        >>> agent = BanditAgent("thompson", np.random.default_rng(0))
        >>> bool(play(MetaTaskVectorEnv(named.bandit(), 1000), agent, seed=0).rewards.mean() > 0.6)
        True
    """

    def __init__(self, rule: str, rng: np.random.Generator, *, dependent: bool = False) -> None:
        checks.choice("rule", rule, ("thompson", "ucb1", "greedy"))
        if dependent and rule == "ucb1":
            raise ValueError("dependent = True: expected False, because rule = 'ucb1'")
        self.rule, self.rng, self.dependent = rule, rng, dependent

    def reset(self, env: Any, observations: Observations) -> None:
        """Start a lifetime in every environment; raise ValueError unless it is a bandit that the rule supports."""
        if any(task.n_states != 1 for task in env.tasks):
            raise ValueError("env.tasks: expected bandits, which have one state")
        arms = env.tasks[0].n_actions
        if self.dependent and arms != 2:
            raise ValueError(f"dependent = True: expected 2 arms, found {arms}")
        self._won, self._lost = np.zeros((2, env.num_envs, arms))

    def act(self) -> Actions:
        """The next action in every environment."""
        won, lost = self._won, self._lost
        if self.dependent:
            won, lost = won + lost[:, ::-1], lost + won[:, ::-1]
        if self.rule == "ucb1":
            pulls = won + lost
            t, n = pulls.sum(1, keepdims=True) + 1, np.maximum(pulls, 1)
            index = np.where(pulls == 0, np.inf, won / n + np.sqrt(2 * np.log(t) / n))
        elif self.rule == "greedy":
            index = (won + 1) / (won + lost + 2)
        elif self.dependent:
            first_probability = self.rng.beta(won[:, 0] + 1, lost[:, 0] + 1)
            index = np.stack([first_probability, 1 - first_probability], 1)
        else:
            index = self.rng.beta(won + 1, lost + 1)
        ties = index >= index.max(1, keepdims=True) - 1e-12
        actions: Actions = (ties * self.rng.random(index.shape)).argmax(1)
        return actions

    def learn(self, actions: Actions, rewards: Rewards, observations: Observations) -> None:
        """Count the rewards of each arm.

        Args:
            actions: The arms pulled.
            rewards: Their rewards, (num_envs,).
            observations: Not used.
        """
        rows = np.arange(len(actions))
        self._won[rows, actions] += rewards > 0
        self._lost[rows, actions] += rewards <= 0
