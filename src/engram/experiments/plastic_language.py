"""Language models with plastic and neuromodulated LSTMs (Miconi, Rawal, Clune and Stanley, 2019).

Three models with equally many parameters are compared: an LSTM, one whose recurrent connections are plastic, and one
whose plasticity is modulated by the network itself. The language of the small presets has bigrams that hold in one
document only; the published one is the Penn Treebank, for users who have its files. The small language is dense in
names, and the gates are open at first, because otherwise no network finds out within minutes that names tell anything.
Its size is the one at which all three networks learn: between networks that only guess there is nothing to compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import plotly.graph_objects as go
import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from engram.lab import Arm, Claim, Experiment, Preset, Results, Run, arms_of, at_most
from engram.lab.claim import ResultsOfSeed
from engram.lab.curves import points_by_arm
from engram.plasticity import ClippedHebb, Modulated, PlasticLSTM, PlasticLSTMState, TraceState
from engram.tasks import DocumentBigrams, read_penn_treebank

PAPER = "Miconi, Rawal, Clune & Stanley, Backpropamine, ICLR 2019 (arXiv 2002.10585)"
BOUND = 2.0  # of the traces
INITIAL_ALPHA = 1e-4  # of PlasticLSTM


@dataclass(frozen=True)
class Config:
    """What one trial is made of."""

    network: Literal["lstm", "plastic", "modulated"] = "lstm"
    """LSTM, the same with plastic connections, or with plasticity that the network itself modulates."""
    corpus: Literal["document-bigrams", "penn-treebank"] = "document-bigrams"
    """Language of document-specific bigrams, or the Penn Treebank from the user's files."""
    words: Annotated[int, Ge(3)] = 15
    """Words of the language; of no effect on the Penn Treebank, as the next four."""
    name_words: Annotated[int, Ge(1)] = 3
    """Names in the language; the document says which attribute belongs to which name."""
    document_length: Annotated[int, Ge(2)] = 50
    """Words in a document."""
    name_rate: Annotated[float, Gt(0), Lt(1)] = 0.9
    """Probability of a name after a word that is neither a name nor between a name and its attribute."""
    gap: Annotated[int, Ge(0)] = 1
    """Words between a name and its attribute."""
    layers: Annotated[int, Ge(1)] = 1
    """Layers of LSTM units."""
    embedding_size: Annotated[int, Ge(1)] = 20
    """Features of a word."""
    embedding_init: Annotated[float, Gt(0), Le(10)] = 1.5
    """The features of words are initially normal with this standard deviation."""
    gate_bias: Annotated[float, Ge(0), Le(10)] = 1.0
    """Added to the initial biases of the three gates, which are then open at first."""
    hidden_size: Annotated[int, Ge(1)] = 40
    """Units of a layer of the LSTM; the other networks have as many as fit into the same number of parameters."""
    alpha: Literal["connection", "post"] = "connection"
    """What has a plasticity coefficient of its own: each connection, or each receiving unit."""
    alpha_init: Annotated[float, Gt(0), Le(10)] = 1.0
    """Plasticity coefficients are initially uniform between 0 and this."""
    eta_init: Annotated[float, Gt(0), Le(1)] = 0.3
    """Initial rate of plasticity that is not modulated."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Documents, or parts of the Penn Treebank, in a batch."""
    updates: Annotated[int, Ge(10)] = 3000
    """Steps of the optimiser on documents."""
    learning_rate: Annotated[float, Gt(0), Le(100)] = 1e-2
    """Learning rate: of Adam on documents, of gradient descent on the Penn Treebank."""
    gradient_norm: Annotated[float, Gt(0)] = 5.0
    """Norm above which the gradient is scaled down to it."""
    test_documents: Annotated[int, Ge(1)] = 1000
    """Documents on which the trained network is judged."""
    epochs: Annotated[int, Ge(1)] = 13
    """Passes over the Penn Treebank."""
    window: Annotated[int, Ge(1)] = 20
    """Words through which the gradient flows back on the Penn Treebank."""
    decay: Annotated[float, Gt(0), Le(1)] = 0.3
    """What the learning rate is multiplied by after each of the later epochs."""
    decay_from: Annotated[int, Ge(1), Lt(1000)] = 5
    """The first epoch with a smaller learning rate, counted from 1."""

    def __post_init__(self) -> None:
        if self.words <= 2 * self.name_words:
            raise ValueError(f"words = {self.words}: expected more than 2 * name_words = {2 * self.name_words}")


def arms(config: Config) -> dict[str, Arm]:
    """The three networks, the plastic ones with as many units as fit into the parameters of the LSTM."""
    return arms_of(
        trial,
        {
            "lstm": replace(config, network="lstm"),
            "plastic": replace(config, network="plastic", hidden_size=matched_size(config, "plastic")),
            "modulated": replace(config, network="modulated", hidden_size=matched_size(config, "modulated")),
        },
        seconds,
    )


def count(config: Config, network: str, size: int) -> int:
    """Return the number of parameters of the LSTM layers and of what reads them, for layers of ``size`` units."""
    types = config.words if config.corpus == "document-bigrams" else 10_000
    total = (size + 1) * types
    for layer in range(config.layers):
        inputs = size if layer else config.embedding_size
        total += 4 * size * (inputs + size)
        if network == "lstm":
            total += 8 * size  # each gate has a bias of its inputs and one of its recurrent connections
        else:
            total += 7 * size + (size**2 if config.alpha == "connection" else size)
            total += 1 if network == "plastic" else 3 * size + 1  # eta; or the modulating unit and its fan-out
    return total


def matched_size(config: Config, network: str) -> int:
    """Return the largest number of units with which a network has no more parameters than the LSTM."""
    budget = count(config, "lstm", config.hidden_size)
    return next(size for size in range(config.hidden_size, 0, -1) if count(config, network, size) <= budget)


Carried = list[tuple[Tensor, ...]]
"""What each layer carries on: hidden and cell state and, if plastic, trace."""


class LanguageModel(nn.Module):
    """Word features, layers of LSTM units, plastic or not, and a linear prediction of the next word."""

    def __init__(self, config: Config, types: int, generator: torch.Generator) -> None:
        super().__init__()
        self.embedding = nn.Embedding(types, config.embedding_size)
        self.layers = nn.ModuleList()
        for number in range(config.layers):
            inputs = config.hidden_size if number else config.embedding_size
            self.layers.append(_layer(config, inputs, generator))
        self.decoder = nn.Linear(config.hidden_size, types)
        with torch.no_grad():
            self.embedding.weight.normal_(std=config.embedding_init, generator=generator)
            bound = config.hidden_size**-0.5
            for parameter in self.decoder.parameters():
                parameter.uniform_(-bound, bound, generator=generator)

    def forward(
        self, words: Int64[Tensor, "time batch"], carried: Carried | None = None
    ) -> tuple[Float[Tensor, "time batch types"], Carried]:
        """Return the logits of the next word at each step, and what the layers carry on."""
        activity = self.embedding(words)
        after: Carried = []
        for number, layer in enumerate(self.layers):
            state: Any = None if carried is None else carried[number]
            if isinstance(layer, PlasticLSTM):
                if state is not None:
                    state = PlasticLSTMState(state[0], state[1], TraceState(state[2]))
                activity, (hidden, cell, rule) = layer(activity, state)
                after.append((hidden, cell, rule.trace))
            else:
                activity, state = layer(activity, state)
                after.append(state)
        return self.decoder(activity), after


def _layer(config: Config, inputs: int, generator: torch.Generator) -> nn.LSTM | PlasticLSTM:
    size = config.hidden_size
    if config.network == "lstm":
        lstm = nn.LSTM(inputs, size)
        with torch.no_grad():  # torch's own initial values, but of our generator
            for parameter in lstm.parameters():
                parameter.uniform_(-(size**-0.5), size**-0.5, generator=generator)
        _open_gates(lstm.get_parameter("bias_ih_l0"), config.gate_bias)
        return lstm
    rule = ClippedHebb(config.eta_init, BOUND) if config.network == "plastic" else Modulated(BOUND)
    plastic = PlasticLSTM(inputs, size, rule=rule, alpha=config.alpha, generator=generator)
    with torch.no_grad():
        plastic.get_parameter("alpha").mul_(config.alpha_init / INITIAL_ALPHA)
    _open_gates(plastic.bias_ih, config.gate_bias)
    return plastic


@torch.no_grad()
def _open_gates(bias: Tensor, by: float) -> None:
    admit, forget, _, emit = bias.chunk(4)
    for gate in (admit, forget, emit):
        gate.add_(by)


def losses(logits: Float[Tensor, "time batch types"], following: Int64[Tensor, "time batch"]) -> Tensor:
    """Return the cross-entropy of each word, in nats, (time, batch)."""
    return functional.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="none").view_as(following)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train one network; its result is how well it predicts words of text that it has not been trained on."""
    return on_documents(config, run) if config.corpus == "document-bigrams" else on_treebank(config, run)


def on_documents(config: Config, run: Run) -> dict[str, Any]:
    """Train on fresh documents, each a sequence of its own; judge on others by the attributes that were met before."""
    task = DocumentBigrams(config.words, config.name_words, config.document_length, config.name_rate, config.gap)
    net = LanguageModel(config, config.words, run.generator).to(run.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate, fused=True)

    def errors(documents: int) -> tuple[Tensor, Tensor]:
        inputs, targets, known = task.sample(documents, run.generator)
        logits, _ = net(inputs.argmax(2).to(run.device))
        return losses(logits, targets.argmax(2).to(run.device)), known.to(run.device)

    length = max(1, config.updates // 100)
    for step in run.steps(config.updates, net=net, optimizer=optimizer):
        loss, known = errors(config.batch_size)
        optimizer.zero_grad()
        loss.mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), config.gradient_norm)
        optimizer.step()
        met = {"known_attributes": loss[known].mean()} if known.any() else {}
        run.log(step + 1, every=length, loss=loss.mean(), **met)
    with torch.no_grad():
        sizes = [min(config.batch_size, left) for left in range(config.test_documents, 0, -config.batch_size)]
        tested = [errors(size) for size in sizes]
    every = torch.cat([loss.flatten() for loss, _ in tested])
    known = torch.cat([loss[known] for loss, known in tested])
    return {"loss": float(every.mean()), "known_attributes": float(known.mean()), "perplexity": None}


class Memory:
    """What a network carries from one window of a text to the next, as part of a checkpoint."""

    def __init__(self) -> None:
        self.carried: Carried | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors, layer by layer."""
        return {"layers": None if self.carried is None else [list(layer) for layer in self.carried]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with these."""
        self.carried = None if state["layers"] is None else [tuple(layer) for layer in state["layers"]]


def in_rows(tokens: Int64[Tensor, " tokens"], rows: int) -> Int64[Tensor, "time rows"]:
    """Cut a text into ``rows`` parts of equal length, side by side; what is left over at the end is dropped."""
    return tokens[: len(tokens) // rows * rows].view(rows, -1).t().contiguous()


def perplexity(net: nn.Module, text: Int64[Tensor, "time rows"], window: int) -> float:
    """Return the exponential of the mean cross-entropy of a text, read from its start with all that is carried on."""
    total, memory = 0.0, None
    with torch.no_grad():
        for start in range(0, len(text) - 1, window):
            words = text[start : start + window + 1]
            logits, memory = net(words[:-1], memory)
            total += float(losses(logits, words[1:]).sum())
    return math.exp(total / text[1:].numel())


def on_treebank(config: Config, run: Run) -> dict[str, Any]:
    """Train on the Penn Treebank by truncated back-propagation; judge by the perplexity of its test part."""
    corpus = read_penn_treebank()
    train, valid, test = (
        in_rows(part, config.batch_size).to(run.device) for part in (corpus.train, corpus.valid, corpus.test)
    )
    net = LanguageModel(config, len(corpus.words), run.generator).to(run.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate)
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
        memory.carried = [tuple(tensor.detach() for tensor in layer) for layer in carried]
        loss = losses(logits, words[1:]).mean()
        optimizer.zero_grad()
        (loss * len(words[1:])).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), config.gradient_norm)
        optimizer.step()
        run.log(step + 1, every=len(starts), loss=loss)
        if number == len(starts) - 1:
            run.log(step + 1, valid_perplexity=perplexity(net, valid, config.window))
    tested = perplexity(net, test, config.window)
    return {"loss": math.log(tested), "known_attributes": None, "perplexity": tested}


def _difference(arm: str, minus: str, key: str) -> Callable[[ResultsOfSeed], float]:
    def metric(results: ResultsOfSeed) -> float:
        one, other = results[arm][key], results[minus][key]
        return math.nan if one is None or other is None else float(one - other)

    return metric


DOCUMENTS = "R3 of our protocol, after section 4.3"
TREEBANK = "table 1: test perplexity on the Penn Treebank, basic model, 16 runs"
claims = [
    Claim(
        id="plastic-at-most-lstm",
        statement="On document-specific bigrams, a plastic LSTM predicts attributes that it has met at least as well "
        "as an LSTM with as many parameters (difference of the cross-entropies, nats)",
        source=DOCUMENTS,
        published="plastic is better than the LSTM on the Penn Treebank",
        metric=_difference("plastic", "lstm", "known_attributes"),
        holds=at_most(0.0),
        arms=("plastic", "lstm"),
        threshold="laptop",
        presets=("laptop",),
        seeds=5,
    ),
    Claim(
        id="modulated-at-most-plastic",
        statement="A neuromodulated one predicts them at least as well as a plastic one",
        source=DOCUMENTS,
        published="modulated is better than plastic on the Penn Treebank",
        metric=_difference("modulated", "plastic", "known_attributes"),
        holds=at_most(0.0),
        arms=("modulated", "plastic"),
        threshold="laptop",
        presets=("laptop",),
        seeds=5,
    ),
    Claim(
        id="modulated-at-most-lstm",
        statement="A neuromodulated one predicts them at least as well as an LSTM with as many parameters",
        source=DOCUMENTS,
        published="modulated is better than the LSTM on the Penn Treebank",
        metric=_difference("modulated", "lstm", "known_attributes"),
        holds=at_most(0.0),
        arms=("modulated", "lstm"),
        threshold="laptop",
        presets=("laptop",),
        seeds=5,
    ),
    Claim(
        id="treebank-plastic",
        statement="On the Penn Treebank, a plastic LSTM has a lower perplexity than an LSTM with as many parameters",
        source=TREEBANK,
        published="103.80 +- 0.25 against 104.26 +- 0.22 (p = 0.0044)",
        metric=_difference("plastic", "lstm", "perplexity"),
        holds=at_most(0.0),
        arms=("plastic", "lstm"),
        threshold="paper",
        presets=("paper",),
        seeds=16,
    ),
    Claim(
        id="treebank-modulated",
        statement="On the Penn Treebank, a neuromodulated LSTM has a lower perplexity than a plastic one",
        source=TREEBANK,
        published="102.65 +- 0.30 against 103.80 +- 0.25 (p = 1e-6)",
        metric=_difference("modulated", "plastic", "perplexity"),
        holds=at_most(0.0),
        arms=("modulated", "plastic"),
        threshold="paper",
        presets=("paper",),
        seeds=16,
    ),
]


def figure(results: Results) -> go.Figure:
    """Each trial's score, arm by arm: cross-entropy of known attributes, with guessing, or test perplexity."""
    documents = results.config.corpus == "document-bigrams"
    key = "known_attributes" if documents else "perplexity"
    plot = points_by_arm(results, key)
    if documents:
        plot.add_hline(
            y=math.log(results.config.name_words), line_dash="dot", annotation_text="guessing among attributes"
        )
    plot.update_layout(
        title="Attributes that have occurred in the document" if documents else "Penn Treebank, test part",
        yaxis={"title": "cross-entropy (nats)" if documents else "perplexity"},
        showlegend=False,
    )
    return plot


def seconds(config: Config) -> float:
    """Time of a trial on one core: a cost for each step, and one for each synapse that it touches."""
    size, batch = config.hidden_size, config.batch_size
    step, synapse = {"lstm": (30e-6, 0.5e-9), "plastic": (300e-6, 6e-9), "modulated": (390e-6, 6e-9)}[config.network]
    each = config.layers * (step + synapse * batch * size**2)
    if config.corpus == "document-bigrams":
        batches = config.updates + config.test_documents / (3 * batch)
        return 4 + batches * (2e-3 + config.document_length * each)
    return 60 + config.epochs * 950_000 / batch * (each + 1e-9 * batch * 10_000 * size)


experiment = Experiment(
    name="plastic-language",
    summary="LSTM, plastic and neuromodulated LSTM with equally many parameters, as models of a language whose "
    "bigrams change with the document",
    paper=PAPER,
    presets={
        "smoke": Preset(
            Config(
                words=12,
                name_words=3,
                document_length=30,
                embedding_size=8,
                hidden_size=10,
                batch_size=4,
                updates=20,
                test_documents=8,
            ),
            seeds=2,
        ),
        "laptop": Preset(Config(), seeds=5),
        "paper": Preset(
            Config(
                corpus="penn-treebank",
                layers=2,
                embedding_size=200,
                embedding_init=0.06,
                gate_bias=0.0,
                hidden_size=200,
                batch_size=20,
                alpha_init=1e-4,
                eta_init=0.01,
                learning_rate=1.0,
            ),
            seeds=16,
        ),
    },
    arms=arms,
    claims=claims,
    figure=figure,
)
