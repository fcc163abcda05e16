"""Training a rule by short windows, and what it then recalls: by age, for long, and in larger networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from engram.lab import Run
from engram.learned.learning_to_remember import (
    GatedRule,
    LSTMMemory,
    Recall,
    RuleNetwork,
    StaticRule,
    Topology,
    bit_accuracy,
    recall_by_age,
    train_window,
)
from engram.tasks import SnippetStream

STATE_UNITS = 256  # beyond which the LSTM with as many numbers of state is not taken


@dataclass(frozen=True)
class Remembering:
    """What one trial is made of. Nothing but the training by short windows is published; all numbers are ours."""

    network: Literal["visible", "recurrent", "layered", "feedforward", "lstm"] = "visible"
    """Type of network; a layered one learns pairs of patterns, the others sequences of two."""
    rule: Literal["gated", "additive", "static"] = "gated"
    """How synapses change: with products of their neurons, without, or not at all."""
    aggregate: Literal["sqrt", "mean"] = "sqrt"
    """How messages are put together."""
    bits: Annotated[int, Ge(2)] = 12
    """Bits of a pattern."""
    snippets: Annotated[int, Ge(1)] = 2
    """Snippets of a window."""
    hidden: Annotated[int, Ge(1)] = 12
    """Hidden neurons, where there are any."""
    curriculum: bool = False
    """Begin with two snippets, and take one more whenever the last 100 windows are recalled to 98 %."""
    carry: bool = False
    """Let states go on from window to window; a stream begins anew with a probability of 5 %."""
    old: Annotated[float, Ge(0), Le(1)] = 0.0
    """Probability that a query of training is for an earlier window's snippet; where states go on."""
    oldest: Annotated[int, Ge(1)] = 4
    """How many windows ago that may have been."""
    windows: Annotated[int, Ge(10)] = 2000
    """Windows of training, one step of the optimiser each."""
    further: Annotated[int, Ge(0)] = 0
    """Windows after training in which states that go on are watched."""
    transfer: tuple[int, ...] = ()
    """Bits of larger networks that the rule is then put into, to recall four snippets."""
    body_size: Annotated[int, Ge(1)] = 4
    """Numbers of a body's state."""
    channels: Annotated[int, Ge(1)] = 2
    """Numbers of a synapse's state."""
    synapse_hidden: Annotated[int, Ge(1)] = 8
    """Hidden units of the synapses' function."""
    body_hidden: Annotated[int, Ge(1)] = 16
    """Hidden units of the bodies' function."""
    batch_size: Annotated[int, Ge(1)] = 16
    """Streams."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 4e-3
    """Learning rate of Adam."""
    tested: Annotated[int, Ge(1)] = 200
    """Windows of the test, of as many streams each."""


def build(config: Remembering, generator: torch.Generator) -> RuleNetwork | LSTMMemory:
    """Build the network of a trial."""
    bits, hidden = config.bits, config.hidden
    if config.network == "lstm":
        floats = bits * config.body_size + bits**2 * config.channels
        return LSTMMemory(bits, min(floats // 2, STATE_UNITS), generator=generator)
    # Messages go forwards alone where all neurons are seen, as in the measurements that our criteria come from.
    topology = {
        "visible": lambda: Topology.visible(bits, bidirectional=False),
        "recurrent": lambda: Topology.recurrent(bits, hidden),
        "layered": lambda: Topology.layered(bits, hidden, bits),
        "feedforward": lambda: Topology.feedforward(bits, hidden, bits),
    }[config.network]()
    common: dict[str, Any] = {
        "body_size": config.body_size,
        "channels": config.channels,
        "types": len(topology.groups),
        "body_hidden": config.body_hidden,
        "generator": generator,
    }
    if config.rule == "static":
        return RuleNetwork(topology, StaticRule(**common), aggregate=config.aggregate, sigma=0.3, generator=generator)
    rule = GatedRule(synapse_hidden=config.synapse_hidden, product=config.rule == "gated", **common)
    return RuleNetwork(topology, rule, aggregate=config.aggregate, generator=generator)


def stream_of(config: Remembering) -> SnippetStream:
    """Return what a trial learns from."""
    paired = config.network in ("layered", "feedforward")
    mode: Literal["paired", "sequence"] = "paired" if paired else "sequence"
    return SnippetStream(config.bits, config.snippets, mode, old=config.old)


def fresh(net: RuleNetwork | LSTMMemory, batch: int, generator: torch.Generator) -> Any:
    """Return fresh states."""
    return net.init(batch, generator) if isinstance(net, RuleNetwork) else net.init(batch)


def trial(config: Remembering, run: Run) -> dict[str, Any]:
    """Train a rule, and test it on streams that are new; its result is above all the share of right bits."""
    generator, batch = run.generator, config.batch_size
    stream, net = stream_of(config), build(config, run.generator)
    untrained = recalled(config, net, stream, generator)[0].accuracy
    optimizer = torch.optim.Adam(net.parameters(), config.learning_rate, betas=(0.9, 0.99), fused=True)
    level = torch.tensor(min(2, config.snippets) if config.curriculum else config.snippets)
    recent = torch.zeros(100)
    state = fresh(net, batch, generator)
    past = stream.sample(batch, generator).snippets.repeat(config.oldest, 1, 1, 1, 1)
    carried = {"bodies": state.bodies, **_named(state.synapses)} if isinstance(net, RuleNetwork) else {}
    loop = {"net": net, "optimizer": optimizer, "level": level, "recent": recent, "past": past, **carried}
    for step in run.steps(config.windows, **loop):
        count = int(level)
        window = replace(stream, snippets=count).sample(batch, generator, past[: min(step, config.oldest)])
        before = state if config.carry else fresh(net, batch, generator)
        trained = train_window(net, optimizer, window.inputs, window.targets, before)
        if config.carry:
            again = torch.rand(batch, generator=generator) < 0.05
            after = trained.state.replaced(again, fresh(net, batch, generator))
            for kept, new in zip((state.bodies, *state.synapses), (after.bodies, *after.synapses), strict=True):
                kept.copy_(new)
            past.copy_(torch.cat((window.snippets[None], past[:-1])))
        recent.copy_(torch.cat((recent[1:], trained.accuracy[None])))
        if config.curriculum and count < config.snippets and recent.mean() >= 0.98:
            level += 1
            recent.zero_()
        every = max(1, config.windows // 100)
        run.log(step + 1, every=every, accuracy=trained.accuracy, loss=trained.loss, snippets=float(count))
    first, last = run.ends("accuracy")
    recalls = recalled(config, net, stream, generator)
    result = {
        "accuracy": recalls[0].accuracy,
        "exact": recalls[0].exact,
        "bits": recalls[0].bits * config.snippets,
        "first_accuracy": first,
        "training_accuracy": float(recent.mean()) if config.windows >= 100 else last,
        "untrained": untrained,
        "snippets": int(level),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        **{f"age_{recall.age}": recall.accuracy for recall in recalls if config.carry},
    }
    if not isinstance(net, RuleNetwork):
        return result
    if config.further:
        result |= watched(config, net, stream, generator)
    for bits in config.transfer:
        larger = RuleNetwork(Topology.visible(bits, bidirectional=False), net.rule, aggregate=config.aggregate)
        result[f"transfer_{bits}"] = recalled(config, larger, SnippetStream(bits, 4), generator)[0].accuracy
    return result


def _named(synapses: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return {f"synapses_{number}": block for number, block in enumerate(synapses)}


@torch.no_grad()
def recalled(
    config: Remembering, net: RuleNetwork | LSTMMemory, stream: SnippetStream, generator: torch.Generator
) -> list[Recall]:
    """Return what a network recalls of new streams, by age.

    Where states go on, so they do here, without a fresh one, for as many windows after 50; half of the queries are for
    earlier windows. Else each window has fresh states.
    """
    if not config.carry:
        window = stream.sample(config.tested * config.batch_size, generator)
        logits, _ = net(window.inputs, fresh(net, window.inputs.shape[1], generator))
        return recall_by_age(logits, window.targets, window.age)
    asking, state = replace(stream, old=0.5), fresh(net, config.batch_size, generator)
    past: list[Tensor] = []
    told: list[tuple[Tensor, Tensor, Tensor]] = []
    for number in range(50 + config.tested):
        window = asking.sample(config.batch_size, generator, past)
        logits, state = net(window.inputs, state)
        past = [window.snippets, *past[: config.oldest - 1]]
        if number >= 50:
            told.append((logits, window.targets, window.age))
    return recall_by_age(*(torch.cat(parts) for parts in zip(*told, strict=True)))


@torch.no_grad()
def watched(
    config: Remembering, net: RuleNetwork, stream: SnippetStream, generator: torch.Generator
) -> dict[str, float]:
    """Return how large synapses become over windows in which nothing begins anew, and how much is right at the end."""
    state, largest, right = net.init(config.batch_size, generator), 0.0, []
    for number in range(config.further):
        window = stream.sample(config.batch_size, generator)
        logits, state = net(window.inputs, state)
        largest = max(largest, float(torch.stack([block.abs().mean() for block in state.synapses]).mean()))
        if number >= config.further - 100:
            right.append(float(bit_accuracy(logits, window.targets)))
    return {"largest_synapses": largest, "accuracy_later": sum(right) / len(right)}


def seconds(config: Remembering) -> float:
    """Time of a trial on one core: a cost for each window, and one for each synapse and tick."""
    paired = config.network in ("layered", "feedforward")
    neurons = config.bits + (config.hidden if config.network == "recurrent" else 0)
    synapses = 2 * config.bits * config.hidden if paired else neurons**2
    ticks = config.snippets * (6 if paired else 4)
    if config.network == "lstm":
        return 2.3e-3 * config.windows
    tick = 0.25e-3 if config.rule == "static" else 0.5e-6 * synapses
    return config.windows * (1.4e-3 + ticks * tick) + 0.6e-3 * config.further
