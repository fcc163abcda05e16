"""The differentiable neural dictionary: a memory whose answers have gradients."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from engram.memory.key_value_memory import KeyValueMemory, Recall


class DND(KeyValueMemory):
    """A ``KeyValueMemory`` through whose answers gradients reach the query and, if asked for, what is stored.

        Q = sum_i w_i v_i / sum_i w_i,   w_i = 1 / (|x - k_i|^2 + delta)

    Which rows are nearest is not differentiated. With ``train_memory``, keys and values are parameters, which any
    optimiser takes; in the published code they are not changed. What an optimiser keeps about rows that ``write``
    returns as ``fresh`` is no longer theirs.

    Args:
        *args: As in ``KeyValueMemory``.
        train_memory: Whether keys and values are parameters.
        **kwargs: As in ``KeyValueMemory``; ``value_update`` is ``"ema"`` unless given.

    Raises:
        TypeError: As in ``KeyValueMemory``.
        ValueError: As there.

    Source: Pritzel et al., "Neural episodic control" (2017), section 3.1.

    Examples:
        >>> memory = DND(100, key_dim=1)
        >>> _ = memory.write(torch.tensor([[1.0], [3.0]]), torch.tensor([10.0, 20.0]))
        >>> x = torch.zeros(1, 1, requires_grad=True)
        >>> memory.query(x, k=2, delta=0.0).values.sum().backward()
        >>> round(x.grad.item(), 3)
        -1.2
    """

    def __init__(self, *args: Any, train_memory: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **{"value_update": "ema", **kwargs})
        self.train_memory = train_memory
        if train_memory:
            for name in ("keys", "values"):
                stored = getattr(self, name)
                delattr(self, name)
                self.register_parameter(name, nn.Parameter(stored))

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
        """Return what values the keys near x have, with gradients in ``values`` and ``squared_distances``.

        Args:
            x: Keys, (batch, key_dim).
            k: As in ``KeyValueMemory.query``.
            kernel: As there.
            delta: As there.
            exact_match: As there.
            tables: As there.
            use: As there.

        Raises:
            ValueError: As there.
        """
        how: dict[str, Any] = {"kernel": kernel, "delta": delta, "exact_match": exact_match}
        with torch.no_grad():
            rows = super().query(x, k, tables=tables, use=use, **how).rows
        rows = rows.reshape(-1, rows.shape[-1])
        how["empty_value"] = self.merging.empty_value
        return self._gathered(x, rows, tables, **how)

    def _arguments(self) -> dict[str, Any]:
        return {**super()._arguments(), "train_memory": self.train_memory}
