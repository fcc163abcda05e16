"""A multi-task teacher: the same network, trained on all tasks together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.copying import copied


def train_teacher(
    body: nn.Module,
    heads: Sequence[nn.Module],
    tasks: Sequence[tuple[Tensor, Tensor]],
    *,
    steps: int = 200,
    lr: float = 1e-3,
    batch_size: int = 32,
    generator: torch.Generator,
) -> nn.Module:
    """A copy of a body, trained further on several tasks together, by Adam.

    Since it starts from the student's weights, unit i of one corresponds to unit i of the other, and their activity can
    be compared unit by unit.

    Args:
        body: Network from inputs to features; it is not changed.
        heads: The read-out of each task, from features to logits; copies are trained with the body, and dropped.
        tasks: Pairs of inputs, (samples, ...), and labels, (samples,), from 0.
        steps: Steps of Adam.
        lr: Learning rate of Adam.
        batch_size: Samples in a batch, divided equally among the tasks, at least one for each.
        generator: Draws the samples, with replacement.

    Raises:
        ValueError: There are no tasks, or another number of heads, or an argument is out of range.

    Examples:
        >>> x, y = torch.eye(4), torch.tensor([0, 1, 1, 0])
        >>> body, heads = nn.Linear(4, 3), [nn.Linear(3, 2), nn.Linear(3, 2)]
        >>> seeded = torch.Generator().manual_seed(0)
        >>> train_teacher(body, heads, [(x, y), (x, 1 - y)], steps=2, generator=seeded)
        Linear(in_features=4, out_features=3, bias=True)
    """
    checks.arguments()
    checks.size("steps", steps, minimum=0)
    checks.number("lr", lr, minimum=0)
    if not tasks or len(heads) != len(tasks):
        raise ValueError(f"heads: expected one for each task, {len(tasks)}, at least one, found {len(heads)}")
    n_samples = max(1, checks.size("batch_size", batch_size) // len(tasks))
    checks.generator(generator)
    teacher, readouts = copied(body), copied(nn.ModuleList(heads))
    adam = torch.optim.Adam([*teacher.parameters(), *readouts.parameters()], lr)
    for _ in range(steps):
        loss = torch.zeros(())
        for readout, (inputs, labels) in zip(readouts, tasks, strict=True):
            batch = torch.randint(len(inputs), (n_samples,), generator=generator)
            loss = loss + functional.cross_entropy(readout(teacher(inputs[batch])), labels[batch]) / len(tasks)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    return teacher
