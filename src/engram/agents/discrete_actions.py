"""The number of actions of an environment, which its agent must have too."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces


def discrete_actions(action_space: spaces.Space[Any]) -> int:
    """The number of actions of a ``Discrete`` that starts at 0; raises TypeError for any other space.

    Examples:
        >>> discrete_actions(spaces.Discrete(3))
        3
    """
    if not isinstance(action_space, spaces.Discrete) or action_space.start != 0:
        raise TypeError(f"action_space = {action_space!r}: expected a Discrete that is counted from 0")
    return int(action_space.n)


def check_actions(env: Any, actions: int) -> None:
    """Raise TypeError or ValueError unless vector environments have a ``Discrete`` from 0 with an agent's actions."""
    action_space = getattr(env, "single_action_space", None)
    if action_space is None:  # an environment of one's own that does not say
        return
    if (count := discrete_actions(action_space)) != actions:
        raise ValueError(f"env has {count} actions: expected {actions}, as the agent has")
