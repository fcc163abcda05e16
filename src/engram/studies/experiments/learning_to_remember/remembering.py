"""Training of a rule over short windows, and its recall by age, over long runs, and in larger networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from engram.lab import Run, setting, settings
from engram.learned.learning_to_remember import (
    GatedRule,
    LSTMMemory,
    NeuralUpdateRule,
    OuterRule,
    Recall,
    RuleNetwork,
    StaticRule,
    Topology,
    bit_accuracy,
    recall_by_age,
    train_window,
)
from engram.tasks import SnippetStream

STATE_UNITS = 256  # the upper limit of LSTM units when matching the number of state variables
STATES = 2**24  # the upper limit of state variables that are held at once in a test
PARTS = 6  # of several searches, each has the first part of the windows before the best goes on


@settings
class Remembering:
    """The settings of a trial; only the training over short windows is published, and all numbers are ours."""

    network: Literal["visible", "recurrent", "sparse", "layered", "feedforward", "deep", "lstm"] = setting(
        "visible", "layered, feedforward and deep networks learn pairs of patterns, the others sequences of two"
    )
    rule: Literal["gated", "additive", "outer", "delta", "static"] = setting(
        "gated",
        "how synapses change: with products of neural activities, without them, by an outer product, by an outer "
        "product with the error, or not at all",
    )
    typed: bool = setting(True, "whether groups of neurons are distinguished by type embeddings")
    aggregate: Literal["sqrt", "mean"] = setting("sqrt", "how messages are aggregated")
    bits: int = setting(12, "bits of a pattern", ge=2)
    snippets: int = setting(4, "snippets of a window", ge=1)
    hidden: int = setting(12, "hidden neurons, if any", ge=1)
    carry: bool = setting(
        False, "whether states persist from window to window; a stream is reset with a probability of 5 %"
    )
    old: float = setting(0.0, "probability that a training query is for an earlier window, with carry", ge=0, le=1)
    oldest: int = setting(4, "largest age of such a query in windows", ge=1)
    windows: int = setting(2000, "training windows, each with one step of the optimiser", ge=10)
    searches: int = setting(
        1, "searches with new initial values; of several, the best after a sixth of the windows goes on", ge=1
    )
    further: int = setting(0, "windows after training in which persistent states are followed", ge=0)
    transfer: tuple[int, ...] = setting(
        (), "bits of larger networks to which the rule is transferred, to recall four snippets"
    )
    body_size: int = setting(4, "size of a body's state", ge=1)
    channels: int = setting(2, "size of a synapse's state", ge=1)
    synapse_hidden: int = setting(8, "hidden units of the synapses' function", ge=1)
    body_hidden: int = setting(16, "hidden units of the bodies' function", ge=1)
    batch_size: int = setting(16, "parallel streams", ge=1)
    learning_rate: float = setting(1e-2, "learning rate of Adam", gt=0, le=1)
    tested: int = setting(200, "test windows, each with as many streams", ge=1)

    def __post_init__(self) -> None:
        if self.network == "lstm" and (self.carry or self.further):
            raise ValueError("network = 'lstm': expected carry = False and further = 0, since its state is reset")
        if self.old and not self.carry:
            raise ValueError(
                f"old = {self.old}: expected 0 unless carry = True, since states are reset before the query"
            )
        if self.transfer and (self.network != "visible" or min(self.transfer) < 2):
            needed = "network = 'visible', and bits of 2 or more, for four different patterns"
            raise ValueError(f"transfer = {self.transfer} with network = {self.network!r}: expected {needed}")


# Bodies alone recall .875 of the bits with two snippets and .773 with four. Layered networks learn pairs; with two
# pairs bodies recall .75, and four pairs need more windows than fit here. The rate of networks with only visible
# neurons is the best of .004, .01 and .02. Those with hidden neurons leave the accuracy of bodies at any time up to
# 5,000 windows, or later. At .004 this was the case in 4 of 4 recurrent networks (4 of 4 at .002 too, but later; 2 of 3
# at .01; 4 of 4 at .02, which recalled less) and in 4 of 5 deep ones (3 of 5 at .002, 2 of 4 at .008); other such
# networks take the same rate. Rules that are to recall earlier windows too are as slow, and best at .01 of .004, .01
# and .02. No seed of these pilots is one of the record. An earlier record, with one search in each trial, decided the
# number of searches: a third to two thirds of these rules had left that accuracy after 1,000 windows, and 10 of 24
# recurrent ones had not after 6,000. So each trial begins four. The one that recalls most of new streams goes on; where
# states persist, these streams are not reset. Choosing by the accuracy in training, where they are, ended below .9 of
# the current window in 4 of 4 trials.
# The LSTM recalls .686 or .687 at .002, .004 and .01, and less at .001, .02 and .04 (three seeds, not the record's).
slow = {"windows": 6000, "searches": 4}
with_hidden = slow | {"learning_rate": 4e-3}
pairs = with_hidden | {"snippets": 2}
arms: dict[str, dict[str, Any]] = {
    "four": {},
    "two": {"snippets": 2},
    "six": {"snippets": 6},
    "twelve": {"snippets": 12},
    "carried": {"snippets": 2, "carry": True, "windows": 1200, "further": 10_000},
    "retention": {"snippets": 2, "carry": True, "old": 0.5} | slow,
    "retention-untrained": {"snippets": 2, "carry": True} | slow,
    "additive": {"rule": "additive"},
    "outer": {"rule": "outer"},
    "delta": {"rule": "delta"},
    "scalar-synapse": {"channels": 1},
    "static": {"rule": "static"},
    "mean": {"aggregate": "mean", "transfer": lambda arm: (2 * arm.bits, 4 * arm.bits)},
    "recurrent": with_hidden | {"network": "recurrent"},
    "no-types": with_hidden | {"network": "recurrent", "typed": False},
    "sparse": with_hidden | {"network": "sparse"},
    "layered": pairs | {"network": "layered"},
    "feedforward": pairs | {"network": "feedforward"},
    "deep": pairs | {"network": "deep"},
    "lstm": {"network": "lstm"},
}


def build(config: Remembering, generator: torch.Generator) -> RuleNetwork | LSTMMemory:
    """The network of a trial."""
    bits, hidden = config.bits, config.hidden
    if config.network == "lstm":
        floats = bits * config.body_size + bits**2 * config.channels
        return LSTMMemory(bits, min(floats // 2, STATE_UNITS), generator=generator)
    # With only visible neurons, messages only go forward, as in the measurements behind our criteria.
    topology = {
        "visible": lambda: Topology.visible(bits, bidirectional=False),
        "recurrent": lambda: Topology.recurrent(bits, hidden),
        "sparse": lambda: Topology.sparse(bits, hidden),
        "layered": lambda: Topology.layered(bits, hidden, bits),
        "feedforward": lambda: Topology.feedforward(bits, hidden, bits),
        "deep": lambda: Topology.deep(bits, hidden, hidden, bits),
    }[config.network]()
    common: dict[str, Any] = {
        "body_size": config.body_size,
        "channels": config.channels,
        "types": len(topology.groups) if config.typed else 1,
        "body_hidden": config.body_hidden,
        "generator": generator,
    }
    rules: dict[str, Callable[[], NeuralUpdateRule]] = {
        "gated": lambda: GatedRule(synapse_hidden=config.synapse_hidden, **common),
        "additive": lambda: GatedRule(synapse_hidden=config.synapse_hidden, product=False, **common),
        "outer": lambda: OuterRule(**common),
        "delta": lambda: OuterRule(delta=True, **common),
        "static": lambda: StaticRule(**common),
    }
    sigma = 0.3 if config.rule == "static" else None
    return RuleNetwork(topology, rules[config.rule](), aggregate=config.aggregate, sigma=sigma, generator=generator)


def stream_of(config: Remembering) -> SnippetStream:
    """The data stream of a trial."""
    paired = config.network in ("layered", "feedforward", "deep")
    mode: Literal["paired", "sequence"] = "paired" if paired else "sequence"
    return SnippetStream(config.bits, config.snippets, mode, old=config.old)


def fresh_state(net: RuleNetwork | LSTMMemory, batch: int, generator: torch.Generator) -> Any:
    """The initial states.

    Args:
        net: The network.
        batch: Number of sequences.
        generator: Source of the initial synapses.
    """
    return net.init(batch, generator) if isinstance(net, RuleNetwork) else net.init(batch)


class Search(NamedTuple):
    """A rule that is trained: its network, the states that may persist, and the snippets of the last windows."""

    net: RuleNetwork | LSTMMemory
    optimizer: torch.optim.Optimizer
    state: Any
    past: Tensor


def begin(config: Remembering, net: RuleNetwork | LSTMMemory, generator: torch.Generator) -> Search:
    """A search that has not begun to train its network.

    Args:
        config: The settings.
        net: The network.
        generator: Source of the initial state and of the first snippets.
    """
    optimizer = torch.optim.Adam(net.parameters(), config.learning_rate, betas=(0.9, 0.99), fused=True)
    state = fresh_state(net, config.batch_size, generator)
    past = stream_of(config).sample(config.batch_size, generator).snippets.repeat(config.oldest, 1, 1, 1, 1)
    return Search(net, optimizer, state, past)


def train(config: Remembering, run: Run, search: Search, windows: range, prefix: str = "") -> None:
    """Train on some of the windows; the prefix stands before the names of what is logged.

    Args:
        config: The settings.
        run: The run.
        search: The network, its optimiser and its state, which are changed.
        windows: Indices of the windows among those of the whole search.
        prefix: Prefix of the names of the logged metrics.
    """
    net, optimizer, state, past = search
    stream, generator, batch = stream_of(config), run.generator, config.batch_size
    carried = {}
    if isinstance(net, RuleNetwork):
        carried = {"bodies": state.bodies, **{f"synapses_{n}": block for n, block in enumerate(state.synapses)}}
    for number in run.steps(len(windows), net=net, optimizer=optimizer, past=past, **carried):
        step = windows[number]
        window = stream.sample(batch, generator, past[: min(step, config.oldest)])
        initial_state = state if config.carry else fresh_state(net, batch, generator)
        trained = train_window(net, optimizer, window.inputs, window.targets, initial_state)
        if config.carry:
            restarted = torch.rand(batch, generator=generator) < 0.05
            next_state = trained.state.replaced(restarted, fresh_state(net, batch, generator))
            for tensor, next_tensor in zip(
                (state.bodies, *state.synapses), (next_state.bodies, *next_state.synapses), strict=True
            ):
                tensor.copy_(next_tensor)
            past.copy_(torch.cat((window.snippets[None], past[:-1])))
        log_interval = max(1, len(windows) // 100)
        run.log(step + 1, every=log_interval, **{f"{prefix}accuracy": trained.accuracy, f"{prefix}loss": trained.loss})


def trial(config: Remembering, run: Run) -> dict[str, Any]:
    """Train a rule and test it on new streams; the main result is the share of correct bits."""
    generator, stream = run.generator, stream_of(config)
    nets = [build(config, generator) for _ in range(config.searches)]
    untrained = recall_of(config, nets[0], stream, generator)[0].accuracy
    searches = [begin(config, net, generator) for net in nets]
    n_first, best = 0, 0
    if config.searches > 1:
        n_first = config.windows // PARTS
        for number, search in enumerate(searches):
            train(config, run, search, range(n_first), f"search_{number}_")
        recall_reached = [mean_recall(recall_of(config, net, stream, generator)) for net in nets]
        run.log(n_first, **{f"search_{number}_recall": recall for number, recall in enumerate(recall_reached)})
        best = recall_reached.index(max(recall_reached))
    train(config, run, searches[best], range(n_first, config.windows))
    net = nets[best]
    run.keep(net=net)
    recalls = recall_of(config, net, stream, generator)
    result = {
        "accuracy": recalls[0].accuracy,
        "exact": recalls[0].exact,
        "bits": recalls[0].bits * config.snippets,
        "untrained": untrained,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        **{f"age_{recall.age}": recall.accuracy for recall in recalls if config.carry},
    }
    if not isinstance(net, RuleNetwork):
        return result
    if config.further:
        result |= long_run(config, net, stream, generator)
    for bits in config.transfer:
        larger = RuleNetwork(Topology.visible(bits, bidirectional=False), net.rule, aggregate=config.aggregate)
        result[f"transfer_{bits}"] = recall_of(config, larger, SnippetStream(bits, 4), generator)[0].accuracy
    return result


@torch.no_grad()
def recall_of(
    config: Remembering, net: RuleNetwork | LSTMMemory, stream: SnippetStream, generator: torch.Generator
) -> list[Recall]:
    """The recall of a network on new streams, by age.

    If states persist, they are never reset here: the test windows follow 50 others, and half of the queries are for
    earlier windows. Otherwise each window starts with new states.

    Args:
        config: The settings.
        net: The network.
        stream: The source of the windows.
        generator: Source of the snippets and of the initial states.
    """
    if not config.carry:
        window = stream.sample(config.tested * config.batch_size, generator)
        parts = torch.split(window.inputs, streams_at_once(net), dim=1)
        logits = torch.cat([net(part, fresh_state(net, part.shape[1], generator))[0] for part in parts], dim=1)
        return recall_by_age(logits, window.targets, window.age)
    query_stream, state = replace(stream, old=0.5), fresh_state(net, config.batch_size, generator)
    past: list[Tensor] = []
    answers: list[tuple[Tensor, Tensor, Tensor]] = []
    for number in range(50 + config.tested):
        window = query_stream.sample(config.batch_size, generator, past)
        logits, state = net(window.inputs, state)
        past = [window.snippets, *past[: config.oldest - 1]]
        if number >= 50:
            answers.append((logits, window.targets, window.age))
    return recall_by_age(*(torch.cat(tensors) for tensors in zip(*answers, strict=True)))


def streams_at_once(net: RuleNetwork | LSTMMemory) -> int:
    """The number of streams whose states are held at once: of a network with few synapses, all."""
    state = net.init(1, torch.Generator()) if isinstance(net, RuleNetwork) else net.init(1)
    size: int = sum(tensor.numel() for tensor in tree_leaves(tuple(state)))
    return max(1, STATES // size)


def mean_recall(recalls: list[Recall]) -> float:
    """The share of correct bits on average over ages."""
    return sum(recall.accuracy for recall in recalls) / len(recalls)


@torch.no_grad()
def long_run(
    config: Remembering, net: RuleNetwork, stream: SnippetStream, generator: torch.Generator
) -> dict[str, float]:
    """The largest mean size of synapses over windows without resets, and the accuracy in the last 100 of them.

    Args:
        config: The settings.
        net: The network.
        stream: The source of the windows.
        generator: Source of the snippets and of the initial state.
    """
    state, largest_size, accuracies = net.init(config.batch_size, generator), 0.0, []
    for number in range(config.further):
        window = stream.sample(config.batch_size, generator)
        logits, state = net(window.inputs, state)
        largest_size = max(largest_size, float(torch.stack([block.abs().mean() for block in state.synapses]).mean()))
        if number >= config.further - 100:
            accuracies.append(float(bit_accuracy(logits, window.targets)))
    return {"largest_synapses": largest_size, "accuracy_later": sum(accuracies) / len(accuracies)}
