"""Training on text: documents with document-specific bigrams, or the user's Penn Treebank."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from engram.lab import Run, setting, settings
from engram.studies.experiments.choosing import best_of_rates
from engram.studies.experiments.plastic_language.model import LanguageModel, Memory, Model, in_rows, losses, perplexity
from engram.tasks import DocumentBigrams, read_penn_treebank

MARGIN = 0.1  # nats


@settings
class Config:
    """The settings of a trial; the sizes for the Penn Treebank are those of the large preset."""

    corpus: Literal["document-bigrams", "penn-treebank"] = setting(
        "document-bigrams", "language of document-specific bigrams, or the Penn Treebank from the user's files"
    )
    model: Model = setting(Model(), "the network")
    batch_size: int = setting(32, "documents in a batch, or parts of the text read in parallel", ge=1)
    # The best of 0.003, 0.01, 0.03 and 0.1 for each network in pilots with other seeds.
    learning_rate: float = setting(
        3e-2, "learning rate of Adam on documents, of gradient descent on the treebank", gt=0, le=100
    )
    rates: tuple[float, ...] = setting(
        (), "documents: learning rates, each of which trains a network; validation chooses one; none: learning_rate"
    )
    gradient_norm: float = setting(5.0, "norm at which the gradient is clipped", gt=0)
    words: int = setting(15, "documents: words of the language", ge=3)
    name_words: int = setting(3, "documents: names; each document assigns attributes to names", ge=1)
    document_length: int = setting(50, "documents: words per document", ge=2)
    name_rate: float = setting(0.9, "documents: probability of a name where one is possible", gt=0, lt=1)
    gap: int = setting(1, "documents: words between a name and its attribute", ge=0)
    updates: int = setting(1800, "documents: steps of the optimiser", ge=10)
    test_documents: int = setting(1000, "documents: number of test documents", ge=1)
    epochs: int = setting(13, "treebank: passes over the text", ge=1)
    window: int = setting(20, "treebank: words through which the gradient is backpropagated", ge=1)
    decay: float = setting(0.3, "treebank: factor of the learning rate in each of the later epochs", gt=0, le=1)
    decay_from: int = setting(5, "treebank: the first epoch with a smaller rate, counted from 1", ge=1, lt=1000)
    weight_decay: float = setting(1e-6, "treebank: weight decay, added to the gradient", ge=0, le=1)

    def __post_init__(self) -> None:
        if self.words <= 2 * self.name_words:
            raise ValueError(f"words = {self.words}: expected more than 2 * name_words = {2 * self.name_words}")
        shortest = 5 + 2 * self.gap  # a word, a name and its attribute, and both again
        if self.corpus == "document-bigrams" and self.document_length < shortest:
            expected = f"at least {shortest} with gap = {self.gap}, so that an attribute can occur again"
            raise ValueError(f"document_length = {self.document_length}: expected {expected}")


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train a network on a text and evaluate it on unseen text."""
    return (on_treebank if config.corpus == "penn-treebank" else on_documents)(config, run)


def documents_of(config: Config) -> DocumentBigrams:
    """The language of a trial."""
    return DocumentBigrams(config.words, config.name_words, config.document_length, config.name_rate, config.gap)


def errors_on(
    task: DocumentBigrams, net: LanguageModel, documents: int, generator: torch.Generator
) -> tuple[Float[Tensor, "time batch"], Bool[Tensor, "time batch"]]:
    """The cross-entropy of each word of ``documents`` new ones, and whether it is an attribute that occurred before.

    Args:
        task: The task.
        net: The network.
        documents: Number of documents.
        generator: Source of the documents.
    """
    device = net.embedding.weight.device
    inputs, targets, is_known = task.sample(documents, generator)
    logits, _ = net(inputs.argmax(2).to(device))
    return losses(logits, targets.argmax(2).to(device)), is_known.to(device)


def step_of(config: Config) -> Callable[[], object]:
    """A function to be timed, which computes the loss of a batch of documents and its gradient."""
    generator = torch.Generator().manual_seed(0)
    task, net = documents_of(config), LanguageModel(config.model, config.words, generator)
    return lambda: errors_on(task, net, config.batch_size, generator)[0].mean().backward()  # type: ignore[no-untyped-call]


def on_documents(config: Config, run: Run) -> dict[str, Any]:
    """Train on new documents, each a separate sequence, and evaluate on attributes that have occurred before.

    The mean cross-entropy of these attributes over training measures how soon they are learned, and that on test
    documents how well. That over the last tenth of training is the score by which one of ``rates`` is chosen.
    """
    if config.rates:
        return best_of_rates(
            config, run, on_documents, lambda result: -float(result["last_known_attributes"]), margin=MARGIN
        )
    task = documents_of(config)
    net = LanguageModel(config.model, config.words, run.generator).to(run.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate, fused=True)

    def errors(documents: int) -> tuple[Tensor, Tensor]:
        return errors_on(task, net, documents, run.generator)

    for step in run.steps(config.updates, net=net, optimizer=optimizer):
        loss, is_known = errors(config.batch_size)
        optimizer.zero_grad()
        loss.mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), config.gradient_norm)
        optimizer.step()
        known_loss = {"known_attributes": loss[is_known].mean()} if is_known.any() else {}
        run.log(step + 1, every=max(1, config.updates // 100), loss=loss.mean(), **known_loss)
    run.keep(net=net)
    with torch.no_grad():
        sizes = [min(config.batch_size, remaining) for remaining in range(config.test_documents, 0, -config.batch_size)]
        tested = [errors(size) for size in sizes]
    all_losses = torch.cat([loss.flatten() for loss, _ in tested])
    is_known = torch.cat([loss[is_known] for loss, is_known in tested])
    return {
        "loss": float(all_losses.mean()),
        "known_attributes": float(is_known.mean()),
        "known_attributes_in_training": run.ends("known_attributes", parts=1)[0],
        "last_known_attributes": run.ends("known_attributes")[1],
    }


def on_treebank(config: Config, run: Run) -> dict[str, Any]:
    """Train on the text by windows and evaluate the perplexity on its test part."""
    corpus = read_penn_treebank()
    train, valid, test = (
        in_rows(part, config.batch_size).to(run.device) for part in (corpus.train, corpus.valid, corpus.test)
    )
    net = LanguageModel(config.model, len(corpus.words), run.generator).to(run.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    starts = range(0, len(train) - 1, config.window)
    memory = Memory()
    for step in run.steps(config.epochs * len(starts), net=net, optimizer=optimizer, memory=memory):
        epoch, number = divmod(step, len(starts))
        if number == 0:
            memory.carried = None
            rate = config.learning_rate * config.decay ** max(0, epoch + 2 - config.decay_from)
            for group in optimizer.param_groups:
                group["lr"] = rate
        words = train[starts[number] : starts[number] + config.window + 1]
        logits, carried = net(words[:-1], memory.carried)
        memory.keep(carried)
        loss = losses(logits, words[1:]).mean()
        optimizer.zero_grad()
        (loss * len(words[1:])).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), config.gradient_norm)
        optimizer.step()
        run.log(step + 1, every=len(starts), loss=loss)
        if number == len(starts) - 1:
            run.log(step + 1, valid_perplexity=perplexity(net, valid, config.window))
    run.keep(net=net)
    test_perplexity = perplexity(net, test, config.window)
    return {"loss": math.log(test_perplexity), "perplexity": test_perplexity}
