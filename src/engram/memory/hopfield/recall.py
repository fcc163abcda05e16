"""Common parts of Hopfield networks: sign patterns, their store, and the result of a recall."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from engram import checks
from engram.memory.splitmix import seeds
from engram.numeric.threads import in_ranges
from engram.storage.saveable import Saveable


class HopfieldRecall(NamedTuple):
    """States after a recall."""

    x: Tensor  # (batch, nodes)
    converged: Bool[Tensor, " batch"]  # no node would flip; the state may be a mixture of patterns
    flips: Int[Tensor, " batch"]


class PatternStore(Saveable, nn.Module):
    """Patterns kept in a matrix, ``stored``, (patterns, nodes): one weight for each pattern and node."""

    stored: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stored", torch.zeros(0, 0, dtype=torch.int8))
        self.register_load_state_dict_pre_hook(make_room)  # type: ignore[no-untyped-call]

    @property
    def n_weights(self) -> int:
        """The number of weights, one for each pattern and node."""
        return self.stored.numel()

    def store(self, X: Annotated[Tensor, "patterns nodes"]) -> None:
        """Store patterns of +1 and -1, (patterns, nodes), in addition to earlier ones of the same length."""
        checks.arguments()
        new_patterns = signs("X", X, self.stored.shape[1] or X.shape[-1]).to(torch.int8)
        self.stored = torch.cat((self.stored, new_patterns)) if len(self.stored) else new_patterns

    def _cue(self, x: Tensor) -> Tensor:
        """Check a batch of signs, which must be as long as the stored patterns."""
        if not len(self.stored):
            raise RuntimeError("nothing is stored: call store first")
        return signs("x", x, self.stored.shape[1])


def make_room(module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Resize a module's buffer ``stored`` to that of a state to be loaded, which may hold more patterns or fewer.

    Args:
        module: The module.
        state: The state, by name.
        prefix: Prefix of the names, such as ``"memory."``.

    Raises:
        ValueError: The module has weights, and those of the state are missing or of another size; nothing was loaded.
    """
    patterns = state.get(f"{prefix}stored")
    if "weight" in module._learned and (f"{prefix}weight" in state) != (patterns is not None):
        raise ValueError(f"state has only one of '{prefix}weight' and '{prefix}stored': expected both")
    if "weight" in module._learned and patterns is not None and state[f"{prefix}weight"].shape != module.weight.shape:
        raise ValueError(
            f"state['{prefix}weight'] = {checks.shown(state[f'{prefix}weight'])}: expected {module.n_nodes} nodes"
        )
    nodes = module.stored.shape[1]
    if isinstance(patterns, Tensor) and patterns.ndim == 2 and nodes in (0, patterns.shape[1]):
        module.stored = module.stored.new_zeros(patterns.shape)


def signs(name: str, value: Tensor, nodes: int) -> Tensor:
    """A checked batch of signs, as 32-bit numbers.

    Args:
        name: Name of the argument, for errors.
        value: The batch, (batch, nodes).
        nodes: Expected number of nodes.

    Raises:
        ValueError: It is not a batch of +1 and -1.
    """
    checks.instance(name, value, Tensor)
    if value.dim() != 2 or value.shape[1] != nodes or not len(value):
        raise ValueError(f"{name}.shape = {tuple(value.shape)}: expected (batch, {nodes}), a batch of at least 1")
    with checks.noted(**{name: value}):  # a tensor that is sparse or on the meta device cannot be compared
        is_invalid = (value != 1) & (value != -1)
        positions = is_invalid.nonzero()[:1].tolist()
    if positions:
        sample, node = positions[0]
        raise ValueError(f"{name}[{sample}, {node}] = {value[sample, node].item()}: expected -1 or +1")
    return value.detach().float()


def settle(
    sweeps: Callable[..., Any],
    start: Tensor,
    like: Tensor,
    max_iter: int,
    generator: torch.Generator | None,
    *network: Any,
) -> HopfieldRecall:
    """The recall of a batch of states by a kernel's sweeps.

    Args:
        sweeps: The kernel.
        start: Initial states.
        like: Tensor whose dtype and device the result gets.
        max_iter: Maximum number of sweeps.
        generator: Source of the order of nodes; torch's global one if None.
        *network: Arguments of the kernel that describe the network.
    """
    max_iter = min(checks.size("max_iter", max_iter, maximum=None), 2**62)  # kernels count in 64 bits
    state = start.numpy(force=True).copy()
    seed = seeds(len(state), generator, torch.device("cpu")).numpy()
    flips, has_settled = torch.zeros(len(state), dtype=torch.long), torch.zeros(len(state), dtype=torch.bool)
    call = partial(sweeps, state, *network, seed, max_iter, flips.numpy(), has_settled.numpy())
    in_ranges(call, len(state), torch.get_num_threads())
    return HopfieldRecall(torch.from_numpy(state).to(like), has_settled.to(like.device), flips.to(like.device))
