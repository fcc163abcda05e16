"""The named meta-tasks as registered environments."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import gymnasium

from engram.tasks.meta import named
from engram.tasks.meta.environment import MetaTaskEnv, MetaTaskVectorEnv


class EnvId(StrEnum):
    """The ids of the named meta-tasks; ``EnvId.TWO_STEP`` is that of ``named.two_step``.

    ``TWO_STIMULUS`` is the discrete form of the two-stimulus tasks, which are also an environment with steps of 20 ms.
    """

    BANDIT = "engram/Bandit-v0"
    DEPENDENT_BANDIT = "engram/DependentBandit-v0"
    RESTLESS_BANDIT = "engram/RestlessBandit-v0"
    REVERSAL = "engram/Reversal-v0"
    SPECIAL_ARM = "engram/SpecialArm-v0"
    CONTEXTUAL_BANDIT = "engram/ContextualBandit-v0"
    HARLOW = "engram/Harlow-v0"
    T_MAZE = "engram/TMaze-v0"
    CUE_T_MAZE = "engram/CueTMaze-v0"
    TWO_STEP = "engram/TwoStep-v0"
    FIND_THE_SPOT = "engram/FindTheSpot-v0"
    DARK_ROOM = "engram/DarkRoom-v0"
    DARK_ROOM_HARD = "engram/DarkRoomHard-v0"
    DARK_KEY_TO_DOOR = "engram/DarkKeyToDoor-v0"
    PILLAR_MAZE = "engram/PillarMaze-v0"
    FULL_MAZE = "engram/FullMaze-v0"
    EXAMPLE = "engram/MetaTaskExample-v0"
    TWO_STIMULUS = "engram/DiscreteTwoStimulus-v0"


def make(name: str, *, render_mode: str | None = None, **arguments: Any) -> MetaTaskEnv:
    """The environment of the meta-task that a function of ``named`` returns.

    Args:
        name: Name of the function.
        render_mode: Result of ``render``: ``"rgb_array"``, ``"ansi"`` or None.
        **arguments: Arguments of the function.
    """
    return MetaTaskEnv(getattr(named, name)(**arguments), render_mode=render_mode)


def make_vec(
    num_envs: int = 1,
    *,
    name: str,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
    **arguments: Any,
) -> MetaTaskVectorEnv:
    """Many environments of the meta-task that a function of ``named`` returns.

    Args:
        num_envs: Number of environments.
        name: Name of the function.
        max_episode_steps: Steps after which an episode is truncated; None: at the horizon only.
        render_mode: Result of ``render``: ``"rgb_array"``, ``"ansi"`` or None.
        **arguments: Arguments of the function.

    Examples:
        >>> gymnasium.make_vec("engram/TwoStep-v0", num_envs=8, kind="wang2018").num_envs
        8
    """
    task = getattr(named, name)(**arguments)
    return MetaTaskVectorEnv(task, num_envs, max_episode_steps=max_episode_steps, render_mode=render_mode)


for _id in EnvId:
    _entries = f"{__name__}:make", f"{__name__}:make_vec"
    gymnasium.register(str(_id), _entries[0], vector_entry_point=_entries[1], kwargs={"name": _id.name.lower()})
