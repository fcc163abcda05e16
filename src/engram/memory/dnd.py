"""The differentiable neural dictionary: a memory whose answers have gradients."""

from __future__ import annotations

from typing import Annotated, Any

from torch import Tensor

from engram.memory.key_value_memory import KeyValueMemory, Recall


class DND(KeyValueMemory):
    """A ``KeyValueMemory`` through whose answers gradients reach the query and, if asked for, what is stored.

    Which rows are nearest is not differentiated. With ``train_memory``, keys and values are parameters, which any
    optimiser takes; the published code never changed them.

    Args:
        *args: As in ``KeyValueMemory``; values are replaced by ``value_update="ema"`` by default.
        train_memory: Whether keys and values are parameters.
        **kwargs: As in ``KeyValueMemory``.
    """

    def __init__(self, *args: Any, train_memory: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    def query(
        self,
        x: Annotated[Tensor, "batch key_dim"],
        k: int = 50,
        *,
        kernel: str = "idw",
        delta: float | str = 1e-3,
        exact_match: bool = False,
        tables: Annotated[Tensor, " batch"] | None = None,
        use: bool = True,
    ) -> Recall:
        """As in ``KeyValueMemory``, with gradients in ``values`` and ``squared_distances``."""
        raise NotImplementedError
