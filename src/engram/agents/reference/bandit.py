"""Rules of the textbooks for Bernoulli bandits, and their regret."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.agents.reference.play import Actions, Lifetimes, Rewards, Seen


def regret(env: Any, lived: Lifetimes) -> Float[np.ndarray, "num_envs"]:
    """Return the regret of each lifetime of a bandit with one probability an arm, or with two dependent arms.

        sum over t of max over a of p(a) - p(a(t))

    It is that of the arms pulled, not of the rewards; ``env`` is still in the instances that were lived in.
    """
    probs = [env.instance(row).probs for row in range(env.num_envs)]
    chances = np.array([(p[0], 1 - p[0]) if len(p) == 1 else p for p in probs])
    missed: Float[np.ndarray, "num_envs steps"] = chances.max(1, keepdims=True)
    return np.asarray((missed - np.take_along_axis(chances, lived.actions, 1)).sum(1))


class BanditAgent:
    """Pulls the arms of a Bernoulli bandit by a rule of the textbooks.

    "thompson" draws each arm's probability from its posterior under a uniform prior, and pulls the arm with the
    largest; "ucb1" pulls the arm with the largest mean + sqrt(2 ln t / n) after n pulls of it in t - 1 pulls of all,
    every arm once first; "greedy" pulls the arm with the largest posterior mean. With ``dependent`` it knows that the
    probabilities of two arms sum to one, and that a reward of one counts as none of the other.

    Source: Thompson (1933); Auer et al., "Finite-time analysis of the multiarmed bandit problem" (2002).

    Examples:
        >>> from engram.agents.reference import play
        >>> from engram.tasks.meta import MetaTaskVectorEnv, named
        >>> agent = BanditAgent("thompson", np.random.default_rng(0))
        >>> bool(play(MetaTaskVectorEnv(named.bandit(), 1000), agent, seed=0).rewards.mean() > 0.6)
        True
    """

    def __init__(self, rule: str, generator: np.random.Generator, *, dependent: bool = False) -> None:
        checks.choice("rule", rule, ("thompson", "ucb1", "greedy"))
        if dependent and rule == "ucb1":
            raise ValueError("dependent = True: expected False, because rule = 'ucb1'")
        self.rule, self.generator, self.dependent = rule, generator, dependent

    def begin(self, env: Any, seen: Seen) -> None:
        """Begin a lifetime in every environment; ValueError if it is no bandit, or has not two dependent arms."""
        if any(task.n_states != 1 for task in env.tasks):
            raise ValueError("env.tasks: expected bandits, which have one state")
        arms = env.tasks[0].n_actions
        if self.dependent and arms != 2:
            raise ValueError(f"dependent = True: expected 2 arms, found {arms}")
        self._won, self._lost = np.zeros((2, env.num_envs, arms))

    def act(self) -> Actions:
        """Return the next action in every environment."""
        won, lost = self._won, self._lost
        if self.dependent:
            won, lost = won + lost[:, ::-1], lost + won[:, ::-1]
        if self.rule == "ucb1":
            pulls = won + lost
            t = pulls.sum(1, keepdims=True) + 1
            n = np.maximum(pulls, 1)
            index = np.where(pulls == 0, np.inf, won / n + np.sqrt(2 * np.log(t) / n))
        elif self.rule == "greedy":
            index = (won + 1) / (won + lost + 2)
        elif self.dependent:
            first = self.generator.beta(won[:, 0] + 1, lost[:, 0] + 1)
            index = np.stack([first, 1 - first], 1)
        else:
            index = self.generator.beta(won + 1, lost + 1)
        ties = index >= index.max(1, keepdims=True) - 1e-12
        chosen: Actions = (ties * self.generator.random(index.shape)).argmax(1)
        return chosen

    def learn(self, actions: Actions, rewards: Rewards, seen: Seen) -> None:
        """Count what was won and lost."""
        rows = np.arange(len(actions))
        self._won[rows, actions] += rewards > 0
        self._lost[rows, actions] += rewards <= 0
