"""Training a rule on short windows: patterns shown in one are queried in the same window, or soon after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.rules.unroll import detached


class Trained(NamedTuple):
    """The results of training on a window: the next state, detached; the loss; the fraction of correct bits."""

    state: Any
    loss: Float[Tensor, ""]
    accuracy: Float[Tensor, ""]


def remember_loss(
    logits: Float[Tensor, "time batch outputs"], targets: Float[Tensor, "time batch outputs"]
) -> Float[Tensor, ""]:
    """The loss of the queried bits, the mean of -log sigmoid(target logit).

    Args:
        logits: Logits of +1 against -1.
        targets: -1 and +1, and 0 where nothing is queried.

    Raises:
        ValueError: Nothing is queried.

    Examples:
        >>> remember_loss(torch.zeros(2, 1, 2), torch.tensor([[[0.0, 0.0]], [[1.0, -1.0]]]))
        tensor(0.6931)
    """
    checks.arguments()
    is_queried = targets != 0
    if not is_queried.any():
        raise ValueError("targets = 0 everywhere: expected -1 or +1 where something is queried")
    return functional.softplus(-(targets * logits)[is_queried]).mean()


def train_window(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Float[Tensor, "time batch features"],
    targets: Float[Tensor, "time batch outputs"],
    state: Any,
    *,
    clip: float = 1.0,
) -> Trained:
    """One training step on a window: back-propagation stops at its beginning, and the state is passed on detached.

    Args:
        net: A ``RuleNetwork``, whose rule is trained, or a module with the same interface, such as ``LSTMMemory``.
        optimizer: Optimiser of its parameters.
        inputs: Frames.
        targets: -1 and +1, and 0 where nothing is queried.
        state: The state before the window, tensors nested in tuples, without a graph.
        clip: Bound on the norm of the gradient of all parameters.

    Raises:
        ValueError: ``state`` was not detached from an earlier graph.
        FloatingPointError: Loss or gradient is not finite; no parameter was changed.

    Source: Gregor (2020): short-term back-propagation on the objective to remember; the loss is ours.

    Examples:
        >>> from engram.learned.learning_to_remember import GatedRule, RuleNetwork, Topology
        >>> seeded = torch.Generator().manual_seed(0)
        >>> net = RuleNetwork(Topology.visible(3), GatedRule(generator=seeded))
        >>> adam, shown = torch.optim.Adam(net.parameters(), 4e-3), torch.ones(2, 4, 3)
        >>> losses = [train_window(net, adam, shown, shown, net.init(4)).loss for _ in range(9)]
        >>> bool(losses[-1] < losses[0])
        True
    """
    checks.arguments()
    checks.number("clip", clip, above=0)
    with checks.noted(state=state):
        has_graph = any(tensor.requires_grad for tensor in _tensors(state))
    if has_graph:
        raise ValueError("state has a graph: expected state.detach(), or the memory of all windows would grow")
    with checks.noted(inputs=inputs, state=state):
        logits, next_state = net(inputs, state)
    loss = remember_loss(logits, targets)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(net.parameters(), clip)
    if not torch.isfinite(loss + norm):
        raise FloatingPointError(
            f"loss = {loss.item()}, norm of the gradient = {norm.item()}: expected finite numbers; "
            "a lower learning rate, a smaller clip or fresh states may help"
        )
    optimizer.step()
    return Trained(detached(next_state), loss.detach(), bit_accuracy(logits, targets))


def bit_accuracy(
    logits: Float[Tensor, "time batch outputs"], targets: Float[Tensor, "time batch outputs"]
) -> Float[Tensor, ""]:
    """The fraction of the queried bits whose logit has the target's sign; a logit of 0 is half right.

    Examples:
        >>> bit_accuracy(torch.tensor([[[1.0, 2.0, 0.0]]]), torch.tensor([[[1.0, -1.0, 0.0]]]))
        tensor(0.5000)
    """
    checks.arguments()
    is_queried = targets != 0
    return ((targets * logits.detach())[is_queried].sign() + 1).mean() / 2


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    else:
        for part in state:
            yield from _tensors(part)
