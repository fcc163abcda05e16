"""The differentiable neural dictionary: a memory whose answers have gradients."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from engram import checks
from engram.memory.episodic.key_value_memory import KeyValueMemory, Recall


class DND(KeyValueMemory):
    """A ``KeyValueMemory`` whose answers pass gradients to the query and, if asked for, to the stored keys and values.

        Q = sum_i w_i v_i / sum_i w_i,   w_i = 1 / (|x - k_i|^2 + delta)

    The choice of the nearest rows is not differentiated. With ``train_memory``, keys and values are parameters that any
    optimiser can train; the published code does not train them. An optimiser's state, such as momentum, is out of date
    for rows that ``write`` or ``delete`` returns as ``fresh``.

    Args:
        *args: Positional arguments of ``KeyValueMemory``: ``capacity``, ``key_dim``, ``value_dim`` and ``policy``.
        train_memory: Whether keys and values are parameters; False by default.
        **kwargs: Keyword arguments of ``KeyValueMemory``; ``value_update`` is ``"ema"`` by default.

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
        checks.arguments()
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
        """The estimate from the values of the keys near x, with gradients in ``values`` and ``squared_distances``.

        Args:
            x: Keys, (batch, key_dim).
            k: Number of neighbours; all filled rows if there are fewer.
            kernel: ``"idw"``, inverse squared distance, or ``"mean"``.
            delta: Added to squared distances; ``"auto"``: their mean over the k neighbours.
            exact_match: Whether the answer for a stored key is the value of its row alone, or the mean of its rows.
            tables: Table that answers each key, (batch,); None: all tables answer.
            use: Whether the neighbours count as used, for policies such as ``LRU``.
        """
        averaging = self._averaging(kernel, delta, exact_match)
        rows, _, _ = self._neighbours(x, k, tables, use)
        return self._gathered(x, torch.from_numpy(rows), tables, averaging)

    def _content(self) -> dict[str, Any]:
        content = super()._content()
        content["arguments"]["train_memory"] = self.train_memory
        return content
