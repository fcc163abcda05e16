"""Learning a language whose bigrams hold in one document only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from engram.experiments.plastic_language.model import LanguageModel, Model, losses
from engram.lab import Run
from engram.tasks import DocumentBigrams


@dataclass(frozen=True)
class Documents:
    """The language, the network, and how it is trained."""

    model: Model = Model()
    words: Annotated[int, Ge(3)] = 15
    """Words of the language."""
    name_words: Annotated[int, Ge(1)] = 3
    """Names in the language; the document says which attribute belongs to which name."""
    document_length: Annotated[int, Ge(2)] = 50
    """Words in a document."""
    name_rate: Annotated[float, Gt(0), Lt(1)] = 0.9
    """Probability of a name after a word that is neither a name nor between a name and its attribute."""
    gap: Annotated[int, Ge(0)] = 1
    """Words between a name and its attribute."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Documents in a batch."""
    updates: Annotated[int, Ge(10)] = 1800
    """Steps of the optimiser."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 3e-2
    """Learning rate of Adam; of 0.003, 0.01, 0.03 and 0.1 the best for each network in pilots with other seeds."""
    gradient_norm: Annotated[float, Gt(0)] = 5.0
    """Norm above which the gradient is scaled down to it."""
    test_documents: Annotated[int, Ge(1)] = 1000
    """Documents on which the trained network is judged."""

    def __post_init__(self) -> None:
        if self.words <= 2 * self.name_words:
            raise ValueError(f"words = {self.words}: expected more than 2 * name_words = {2 * self.name_words}")


def trial(config: Documents, run: Run) -> dict[str, Any]:
    """Train on fresh documents, each a sequence of its own; judge by the attributes that were met before.

    Their mean cross-entropy over all of training tells how soon they are learned; that on other documents, how well.
    """
    task = DocumentBigrams(config.words, config.name_words, config.document_length, config.name_rate, config.gap)
    net = LanguageModel(config.model, config.words, run.generator).to(run.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate, fused=True)

    def errors(documents: int) -> tuple[Tensor, Tensor]:
        inputs, targets, known = task.sample(documents, run.generator)
        logits, _ = net(inputs.argmax(2).to(run.device))
        return losses(logits, targets.argmax(2).to(run.device)), known.to(run.device)

    for step in run.steps(config.updates, net=net, optimizer=optimizer):
        loss, known = errors(config.batch_size)
        optimizer.zero_grad()
        loss.mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), config.gradient_norm)
        optimizer.step()
        met = {"known_attributes": loss[known].mean()} if known.any() else {}
        run.log(step + 1, every=max(1, config.updates // 100), loss=loss.mean(), **met)
    with torch.no_grad():
        sizes = [min(config.batch_size, left) for left in range(config.test_documents, 0, -config.batch_size)]
        tested = [errors(size) for size in sizes]
    every = torch.cat([loss.flatten() for loss, _ in tested])
    known = torch.cat([loss[known] for loss, known in tested])
    return {
        "loss": float(every.mean()),
        "known_attributes": float(known.mean()),
        "known_attributes_in_training": run.ends("known_attributes", parts=1)[0],
    }


def seconds(config: Documents) -> float:
    """Time of a trial on one core: a cost for each step, and one for each synapse that it touches."""
    batches = config.updates + config.test_documents / (3 * config.batch_size)
    return 4 + batches * (2e-3 + config.document_length * config.model.seconds(config.batch_size))
