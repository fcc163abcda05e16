"""Meta-training of a genome: a short lifetime, the loss after it, and the gradient through it."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.learned.blur.genome import Genome
from engram.learned.blur.network import BlurNetwork, BlurState
from engram.rules.unroll import unroll

MAX_SKIPPED = 10


def lifetime(
    network: BlurNetwork,
    genome: Genome,
    state: BlurState,
    batches: tuple[Float[Tensor, "time ... batch features"], Float[Tensor, "steps ... batch outputs"]],
    *,
    checkpointed: bool = False,
) -> BlurState:
    """The synapses after a step on each batch; differentiable with respect to genome and synapses.

    Args:
        network: The network to train.
        genome: The rule; with leading axes a population of rules.
        state: The initial synapses.
        batches: Inputs, (steps, ..., batch, features), and targets, (steps, ..., batch, outputs), +1 or -1.
        checkpointed: Use less memory for the gradient, at the cost of one more pass (``engram.rules.unroll``).

    Raises:
        ValueError: Shapes do not match, or inputs and targets have different numbers of steps.
    """
    checks.arguments()
    if len(batches[0]) != len(batches[1]):
        raise ValueError(f"batches of {len(batches[0])} and {len(batches[1])} steps: expected equal numbers")
    final_state, _ = unroll(
        lambda state, batch: (network.step(genome, state, *batch), None),
        state,
        zip(*batches, strict=True),
        checkpointed=checkpointed,
    )
    return final_state


def cross_entropy(
    prediction: Float[Tensor, "... batch outputs"], y: Float[Tensor, "... batch outputs"]
) -> Float[Tensor, "..."]:
    """The cross-entropy of each member's softmax, averaged over its batch; targets are +1 for the class, else -1.

    Examples:
        >>> cross_entropy(torch.zeros(3, 2), torch.tensor([[1.0, -1.0]]).expand(3, 2))
        tensor(0.6931)
    """
    checks.arguments()
    return -(prediction.log_softmax(-1) * (y + 1) / 2).sum(-1).mean(-1)


def meta_step(optimizer: torch.optim.Optimizer, loss: Float[Tensor, ""], skipped: int, *, clip: float = 10.0) -> int:
    """A gradient step on the loss at the end of lifetimes, skipped if it is not finite because a lifetime diverged.

    Args:
        optimizer: Optimiser of the genome's vector.
        loss: The loss after some lifetimes of this genome.
        skipped: The return value of the last call, at first 0.
        clip: Norm to which the gradient is clipped.

    Returns:
        The number of steps skipped in a row so far, 0 if this one was not.

    Raises:
        RuntimeError: Ten steps in a row would be skipped.
    """
    checks.arguments()
    checks.number("clip", clip, above=0)
    optimizer.zero_grad()
    with checks.noted(loss=loss):
        loss.backward()  # type: ignore[no-untyped-call]
    parameters = itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups)
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
    if norm.isfinite():
        optimizer.step()
        return 0
    if skipped + 1 >= MAX_SKIPPED:
        raise RuntimeError(
            f"the gradient was not finite {MAX_SKIPPED} times in a row: synapses explode in a lifetime; "
            "try a smaller synapse_std, norm = 'batch', or saturation = 'oja'"
        )
    return skipped + 1
