"""What vector environments of any package return: how they start again, and which episodes have ended."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool

from engram import checks

_MODES = {mode.name.replace("_", "").lower(): mode for mode in AutoresetMode}


def autoreset_mode(env: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    """How environments start again after an episode, from their metadata: an ``AutoresetMode`` or its name.

    Args:
        env: The environments.

    Raises:
        ValueError: The metadata do not tell, so that nobody knows which observation belongs to which episode.

    Examples:
        >>> import gymnasium
        >>> autoreset_mode(gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")).name
        'NEXT_STEP'
    """
    stated = (env.metadata or {}).get("autoreset_mode")
    if isinstance(stated, AutoresetMode):
        return stated
    name = stated.rpartition(".")[2] if isinstance(stated, str) else ""
    key = "".join(letter for letter in name.lower() if letter.isalpha())
    if key not in _MODES:
        expected = ", ".join(mode.name for mode in AutoresetMode)
        raise ValueError(
            f"env.metadata['autoreset_mode'] = {stated!r}: expected an AutoresetMode, one of {expected}, since the "
            "observation after an episode depends on it"
        )
    return _MODES[key]


def end_flags(name: str, flags: Any, num_envs: int) -> Bool[np.ndarray, "num_envs"]:
    """Whether episodes ended, from flags of any type: booleans, or numbers that are 0 or 1.

    Args:
        name: The name of the flags, for the error message.
        flags: One for each environment, as an array, a tensor or a list.
        num_envs: The number of environments.

    Raises:
        ValueError: There is another number of flags, or one is neither 0 nor 1.

    Examples:
        >>> end_flags("terminated", np.array([0, 1], dtype=np.uint8), 2)
        array([False,  True])
    """
    values = np.asarray(checks.as_array(flags))
    if values.shape != (num_envs,):
        raise ValueError(f"{name} has the shape {values.shape}: expected ({num_envs},), a flag for each environment")
    if values.dtype == bool:
        return values
    is_one = values == 1
    if (wrong := np.flatnonzero(~(is_one | (values == 0)))).size:
        raise ValueError(f"{name}[{wrong[0]}] = {values[wrong[0]]}: expected booleans, or 0 and 1")
    return np.asarray(is_one, dtype=bool)
