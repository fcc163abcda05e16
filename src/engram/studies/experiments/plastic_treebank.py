"""Large plastic LSTMs compared with LSTMs on text, to be run on the user's Penn Treebank (Miconi et al., 2019).

Three neuromodulated plastic LSTM layers are compared with three LSTM layers with the same number of parameters, both
trained as in Merity, Keskar and Socher (2018) but without weight dropout: dropout with one mask for a whole window,
penalties on activities, windows of random length, gradient descent with a large learning rate and, in the end, weight
averaging. The sizes and settings of the published preset are those of the published code. The small presets read a
sequence of documents with document-specific bigrams and decide nothing; they have fewer layers, since with three layers
this training learns no more than word frequencies within minutes.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from engram.lab import Experiment, Points, Preset, Run, Study, claims_from, metric, setting, settings
from engram.plasticity import PlasticLSTM
from engram.studies.experiments.plastic_language.model import (
    Carried,
    Memory,
    in_rows,
    losses,
    most_units,
    perplexity,
    through,
    uniform,
)
from engram.tasks import DocumentBigrams, PennTreebank, read_penn_treebank

VALID_ROWS, TEST_ROWS = 10, 1  # parts of a text read in parallel in evaluation
USUAL, SPREAD, SHORTEST = 0.95, 5, 5  # parameters of the random window lengths
EMBEDDING_INIT = 0.1
# Size of one layer's traces in a window above which they are recomputed in the backward pass instead of stored.
MANY = 2**28


@settings
class Config:
    """The settings of a trial."""

    network: Literal["lstm", "modulated"] = setting(
        "lstm", "an LSTM, or a plastic LSTM that modulates its own plasticity"
    )
    corpus: Literal["document-bigrams", "penn-treebank"] = setting(
        "document-bigrams", "language of document-specific bigrams, or the Penn Treebank from the user's files"
    )
    tokens: int = setting(40_000, "training words; no effect with the Penn Treebank", ge=1000)
    layers: int = setting(2, "layers of LSTM units", ge=1)
    embedding_size: int = setting(30, "features of a word, and units of the last layer", ge=1)
    hidden_size: int = setting(
        60, "units of the other layers; plastic networks have fewer, for as many parameters", ge=1
    )
    batch_size: int = setting(6, "parts of the text read in parallel", ge=1)
    window: int = setting(35, "mean length of a window of backpropagation in words; halved for 1 window in 20", ge=10)
    epochs: int = setting(6, "passes over the text", ge=1)
    average_from: int = setting(4, "the epoch, counted from 1, from which averaged weights are evaluated", ge=1)
    learning_rate: float = setting(
        30.0, "learning rate for a window of mean length; proportional to the length for others", gt=0, le=100
    )
    gradient_norm: float = setting(0.25, "norm at which the gradient is clipped", gt=0)
    weight_decay: float = setting(1.2e-6, "weight decay, added to the gradient", ge=0, le=1)
    dropout_embedding: float = setting(
        0.0, "probability that all features of a word are dropped in a window", ge=0, lt=1
    )
    dropout_input: float = setting(0.0, "dropout probability of features at the input of the first layer", ge=0, lt=1)
    dropout_hidden: float = setting(0.0, "dropout probability of units between layers", ge=0, lt=1)
    dropout_output: float = setting(0.0, "dropout probability of units of the last layer", ge=0, lt=1)
    activity_penalty: float = setting(
        2.0, "weight of the penalty on the last layer's mean squared activity, after dropout", ge=0
    )
    change_penalty: float = setting(
        1.0, "weight of the penalty on that activity's mean squared change, before dropout", ge=0
    )

    def __post_init__(self) -> None:
        if self.corpus == "document-bigrams" and self.batch_size > self.tokens // 2:
            most = self.tokens // 2
            raise ValueError(f"batch_size = {self.batch_size}: expected at most {most}, with tokens = {self.tokens}")


def sizes(config: Config, hidden_size: int) -> list[tuple[int, int]]:
    """The numbers of inputs and of units of each layer; the last has as many units as words have features."""
    units = [hidden_size] * (config.layers - 1) + [config.embedding_size]
    return list(zip([config.embedding_size, *units], units, strict=False))


def count(config: Config, network: str, hidden_size: int) -> int:
    """The number of parameters of the layers of a network, with ``hidden_size`` units in all but the last.

    Args:
        config: The settings.
        network: The kind of network.
        hidden_size: Number of units of each layer but the last.
    """
    per_unit, modulator = (8, 0) if network == "lstm" else (7 + 1 + 3, 1)  # biases; alpha and neuromodulator
    layers = sizes(config, hidden_size)
    return sum(4 * units * (inputs + units) + per_unit * units + modulator for inputs, units in layers)


def fitting(arm: Config) -> int:
    """The most units with which the plastic network has no more parameters than the LSTM."""
    budget = count(arm, "lstm", arm.hidden_size)
    return most_units("hidden_size", arm.hidden_size, lambda size: count(arm, "modulated", size), budget)


arms: dict[str, dict[str, Any]] = {
    "lstm": {"network": "lstm"},
    "modulated": {"network": "modulated", "hidden_size": fitting},
}
presets = {
    "smoke": Preset(
        seeds=1,
        changes={"tokens": 1000, "embedding_size": 4, "hidden_size": 6, "batch_size": 25, "window": 10}
        | {"epochs": 2, "average_from": 2, "dropout_embedding": 0.1, "dropout_input": 0.1}
        | {"dropout_hidden": 0.1, "dropout_output": 0.1},
    ),
    "laptop": Preset(seeds=3),
    "published": Preset(
        seeds=5,
        published="README of the authors' code, large model",
        changes={"corpus": "penn-treebank", "layers": 3, "embedding_size": 400, "hidden_size": 1150, "window": 70}
        | {"epochs": 500, "average_from": 125, "dropout_embedding": 0.1, "dropout_input": 0.4}
        | {"dropout_hidden": 0.25, "dropout_output": 0.4},
    ),
}


class Reading(NamedTuple):
    """The output for a window: the last layer's activity after and before dropout, and the state carried over."""

    dropped: Float[Tensor, "time batch features"]
    activity: Float[Tensor, "time batch features"]
    carried: Carried


class LanguageModel(nn.Module):
    """A language model of plastic or plain LSTM layers with tied input and output embeddings.

    Args:
        config: The settings.
        types: Number of words in the vocabulary.
        generator: Source of the initial parameters; torch's global one if None.
    """

    def __init__(self, config: Config, types: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(types, config.embedding_size))
        self.bias = nn.Parameter(torch.zeros(types))
        self.layers = nn.ModuleList(
            nn.LSTM(inputs, units) if config.network == "lstm" else PlasticLSTM(inputs, units, generator=generator)
            for inputs, units in sizes(config, config.hidden_size)
        )
        with torch.no_grad():
            self.embedding.uniform_(-EMBEDDING_INIT, EMBEDDING_INIT, generator=generator)
        for layer in self.layers:
            if isinstance(layer, nn.LSTM):
                uniform(layer, layer.hidden_size**-0.5, generator)

    def forward(
        self, words: Int64[Tensor, "time batch"], carried: Carried | None = None
    ) -> tuple[Float[Tensor, "time batch types"], Carried]:
        """The logits of the next word at each step, without dropout, and the state carried over."""
        reading = self.read(words, carried, None)
        return self.predict(reading.dropped), reading.carried

    def read(
        self, words: Int64[Tensor, "time batch"], carried: Carried | None, generator: torch.Generator | None
    ) -> Reading:
        """Read a window, with dropout if a generator is given; one mask applies to all steps.

        Args:
            words: Indices of the words.
            carried: The states of the layers carried over from the window before; None: initial states.
            generator: Source of the dropout masks; None: no dropout.
        """
        config = self.config

        def drop(values: Tensor, probability: float, *mask_shape: int) -> Tensor:
            if generator is None or probability == 0:
                return values
            is_kept = torch.rand(mask_shape, generator=generator) >= probability
            return values * (is_kept / (1 - probability)).to(values)

        features = drop(self.embedding, config.dropout_embedding, len(self.embedding), 1)
        activity = functional.embedding(words, features)
        batch, next_states = words.shape[1], []
        activity = dropped = drop(activity, config.dropout_input, 1, batch, activity.shape[2])
        for number, layer in enumerate(self.layers):
            activity, state = _in_parts(layer, dropped, None if carried is None else carried[number])
            next_states.append(state)
            probability = config.dropout_output if number == len(self.layers) - 1 else config.dropout_hidden
            dropped = drop(activity, probability, 1, batch, activity.shape[2])
        return Reading(dropped, activity, next_states)

    def predict(self, activity: Float[Tensor, "time batch features"]) -> Float[Tensor, "time batch types"]:
        """The logits of the next word."""
        return functional.linear(activity, self.embedding, self.bias)


def _in_parts(layer: nn.Module, activity: Tensor, carried: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a layer; if its traces are large, in parts that are recomputed in the backward pass."""
    time, batch, _ = activity.shape
    is_large = isinstance(layer, PlasticLSTM) and time * batch * layer.hidden_size**2 > MANY
    if not (is_large and torch.is_grad_enabled()):
        return through(layer, activity, carried)
    outputs = []
    for part in torch.split(activity, math.isqrt(time - 1) + 1):
        output, carried = checkpoint(through, layer, part, carried, use_reentrant=False, preserve_rng_state=False)
        outputs.append(output)
    return torch.cat(outputs), carried


def window_sizes(length: int, window: int, rng: np.random.Generator) -> Int64[np.ndarray, " windows"]:
    """Random lengths, around ``window``, of the windows into which a text of ``length`` words to predict is cut.

    Args:
        length: Number of words to predict.
        window: The usual length of a window, in words.
        rng: Source of the lengths.
    """
    number = length // SHORTEST + 1
    mean = np.where(rng.random(number) < USUAL, window, window / 2)
    sizes = rng.normal(mean, SPREAD).astype(np.int64).clip(SHORTEST, window + 2 * SPREAD)
    ends = sizes.cumsum().clip(max=length)
    ends = ends[: np.searchsorted(ends, length) + 1]
    return np.diff(ends, prepend=0)


def check_requirements(config: Config) -> None:
    """Load the corpus, so that a run without it fails at once."""
    if config.corpus == "penn-treebank":
        read_penn_treebank()


def text(config: Config, generator: torch.Generator) -> PennTreebank:
    """The corpus: the user's Penn Treebank, or sequences of documents, which are new for each part."""
    if config.corpus == "penn-treebank":
        return read_penn_treebank()
    task = DocumentBigrams()

    def documents(tokens: int) -> Tensor:
        inputs = task.sample(-(-tokens // task.length), generator).inputs
        return inputs.argmax(2).t().flatten()[:tokens]

    train, valid, test = (documents(tokens) for tokens in (config.tokens, config.tokens // 10, config.tokens // 10))
    return PennTreebank(train, valid, test, words=tuple(map(str, range(task.words))))


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train one network by truncated back-propagation and evaluate its perplexity on unseen text."""
    corpus = text(config, run.generator)
    texts = zip(corpus[:3], (config.batch_size, VALID_ROWS, TEST_ROWS), strict=True)
    train, valid, test = (in_rows(part, rows).to(run.device) for part, rows in texts)
    net = LanguageModel(config, len(corpus.words), run.generator).to(run.device)
    mean = AveragedModel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    memory = Memory()
    epochs = [window_sizes(len(train) - 1, config.window, run.rng) for _ in range(config.epochs)]
    lengths = np.concatenate(epochs)
    starts = np.concatenate([windows.cumsum() - windows for windows in epochs])
    numbers = np.repeat(np.arange(config.epochs) + 1, [len(windows) for windows in epochs])
    for step in run.steps(len(lengths), net=net, mean=mean, optimizer=optimizer, memory=memory):
        epoch, start, length = int(numbers[step]), int(starts[step]), int(lengths[step])
        if start == 0:
            memory.carried = None
        words = train[start : start + length + 1]
        reading = net.read(words[:-1], memory.carried, run.generator)
        memory.keep(reading.carried)
        loss = losses(net.predict(reading.dropped), words[1:]).mean()
        penalty = config.activity_penalty * reading.dropped.square().mean()
        if length > 1:
            penalty = penalty + config.change_penalty * reading.activity.diff(dim=0).square().mean()
        optimizer.zero_grad()
        (loss + penalty).backward()  # type: ignore[no-untyped-call]
        for layer in net.layers:
            if isinstance(layer, PlasticLSTM):
                # All connections of a unit share one coefficient, so its gradient is the sum over them, which is too
                # large.
                layer.get_parameter("alpha").grad.div_(config.hidden_size)  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(net.parameters(), config.gradient_norm)
        optimizer.param_groups[0]["lr"] = config.learning_rate * length / config.window
        optimizer.step()
        if epoch >= config.average_from:
            mean.update_parameters(net)
        run.log(step + 1, every=len(epochs[epoch - 1]), loss=loss)
        if start + length == len(train) - 1:
            evaluated = mean.module if epoch >= config.average_from else net
            run.log(step + 1, valid_perplexity=perplexity(evaluated, valid, config.window))
    run.keep(net=net, mean=mean)
    test_perplexity = perplexity(mean.module if config.epochs >= config.average_from else net, test, config.window)
    return {"loss": math.log(test_perplexity), "perplexity": test_perplexity}


perplexity_of = metric("perplexity")
claim = claims_from(  # criterion: the smallest difference that the published ranges allow
    "table 1: test perplexity on the Penn Treebank, large model, 5 runs",
    published="median 61.44 (61.37 to 61.68) against 62.48 (62.40 to 62.60)",
    presets=("published",),
    threshold="paper",
    seeds=5,
)
claims = [
    claim("modulated-at-most-lstm",
        "On the Penn Treebank, a large neuromodulated LSTM has a lower perplexity than an LSTM with as many parameters",
        perplexity_of("modulated") - perplexity_of("lstm") <= -0.72)
]  # fmt: skip
experiment = Experiment(
    name="plastic-treebank",
    about=__doc__,
    paper="Miconi, Rawal, Clune & Stanley, Backpropamine, ICLR 2019 (arXiv 2002.10585)",
    studies=Study(trial, arms, gpu=True),
    presets=presets,
    claims=claims,
    figure=Points("perplexity", "Unseen text", "perplexity"),
    check_requirements=check_requirements,
    answer="""The published claim is that a large neuromodulated LSTM has a lower perplexity on the Penn Treebank than
    an LSTM with the same number of parameters. It has not been tested here: the corpus is not free, and the laptop run,
    on a synthetic language, decides nothing. Users who have the files can run the published preset; until then there is
    no reason to prefer either network.""",
)
