"""Binary pattern completion by a differentiably plastic network (Miconi, Clune and Stanley, 2018).

Each episode shows a few random binary patterns, then half of one of them; the network must restore the other half.
What it has to remember changes with every episode, so it can only be kept in activity or in plastic synapses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import plotly.graph_objects as go
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from engram.lab import Arm, Experiment, Preset, Results, Run, arms_of, claimed, narrow, value
from engram.lab.curves import points_by_arm
from engram.plasticity import ClampedLSTM, Hebb, Oja, PlasticRNN
from engram.tasks import PatternCompletion

INPUT_GAIN = 20.0  # so large that tanh saturates: the shown units are in effect clamped
LONG: dict[str, Any] = {"patterns": 5, "cycles": 2, "presentation_steps": 6, "blank_steps": 4}
CHANCE = 0.25  # half of the bits are shown, and half of the others are guessed


@dataclass(frozen=True)
class Training:
    """What one trial is made of."""

    network: Literal["plastic", "non-plastic", "lstm"] = "plastic"
    """Plastic recurrent network, the same without plasticity, or clamped LSTM; each arm sets its own."""
    rule: Literal["hebb", "oja"] = "hebb"
    """Plasticity rule of the plastic network."""
    alpha: Literal["connection", "post", "homogeneous"] = "connection"
    """What has a plasticity coefficient of its own: each connection, each receiving unit, or the whole network."""
    bits: Annotated[int, Ge(2)] = 50
    """Bits of a pattern; even."""
    patterns: Annotated[int, Ge(1)] = 2
    """Patterns to be memorised in an episode."""
    cycles: Annotated[int, Ge(1)] = 1
    """How many times all patterns are shown."""
    presentation_steps: Annotated[int, Ge(1)] = 3
    """Steps for which a pattern, and the probe, is shown."""
    blank_steps: Annotated[int, Ge(0)] = 1
    """Steps without input after each pattern."""
    hidden_size: Annotated[int, Ge(2)] = 51
    """Units of the network; a recurrent network needs one for each bit and one whose input is constant."""
    episodes: Annotated[int, Ge(10)] = 6000
    """Training episodes; each is one step of the optimiser on a batch of its own."""
    batch_size: Annotated[int, Ge(1)] = 1
    """Episodes in a batch."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 3e-4
    """Learning rate of Adam."""

    def __post_init__(self) -> None:
        if self.bits % 2:
            raise ValueError(f"bits = {self.bits}: expected an even number")
        if self.network != "lstm" and self.hidden_size <= self.bits:
            raise ValueError(f"hidden_size = {self.hidden_size}: expected more than bits = {self.bits}")
        if self.network == "lstm" and self.hidden_size < self.bits:
            raise ValueError(f"hidden_size = {self.hidden_size}: expected at least bits = {self.bits}")


@dataclass(frozen=True)
class Config(Training):
    """The training of the plastic network, and what the other arms change in it."""

    baseline_learning_rate: Annotated[float, Gt(0), Le(1)] = 1e-3
    """Learning rate of the non-plastic network; in the laptop preset this and the next two are the best for each arm of
    1e-4, 3e-4, 1e-3 and 3e-3, while the plastic networks keep the published one, though 1e-3 is better for them too."""
    enlarged_learning_rate: Annotated[float, Gt(0), Le(1)] = 3e-4
    """Learning rate of the enlarged non-plastic network."""
    lstm_learning_rate: Annotated[float, Gt(0), Le(1)] = 1e-3
    """Learning rate of the LSTM."""
    extra_neurons: Annotated[int, Ge(1)] = 200
    """Units that the enlarged non-plastic network has more, and that the LSTM has in all."""
    long_bits: Annotated[int, Ge(2)] = 200
    """Bits of the long task (5 patterns, 2 cycles, 106 steps); even."""
    long_episodes: Annotated[int, Ge(10)] = 1000
    """Training episodes of the long task."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.long_bits % 2:
            raise ValueError(f"long_bits = {self.long_bits}: expected an even number")


def arms(config: Config) -> dict[str, Arm]:
    """The plastic network, its controls, and the plastic network on the long task."""
    plastic = replace(narrow(config, Training), network="plastic")
    rate = config.baseline_learning_rate
    control = replace(plastic, network="non-plastic", rule=Training.rule, alpha=Training.alpha, learning_rate=rate)
    enlarged = replace(control, learning_rate=config.enlarged_learning_rate)
    lstm_size, bits = max(config.extra_neurons, config.bits), config.long_bits
    found = {
        "plastic": plastic,
        "homogeneous": replace(plastic, alpha="homogeneous"),
        "non-plastic": control,
        "non-plastic-large": replace(enlarged, hidden_size=config.hidden_size + config.extra_neurons),
        "lstm": replace(control, network="lstm", hidden_size=lstm_size, learning_rate=config.lstm_learning_rate),
        "plastic-long": replace(plastic, bits=bits, hidden_size=bits + 1, episodes=config.long_episodes, **LONG),
    }
    return arms_of(trial, found, seconds)


def build(config: Training, generator: torch.Generator) -> PlasticRNN | ClampedLSTM:
    """Build the network of a trial; called with patterns, it returns its activity, of which the first units answer."""
    if config.network == "lstm":
        return ClampedLSTM(config.bits, config.hidden_size, generator=generator)
    plastic = config.network == "plastic"
    rule = (Hebb() if config.rule == "hebb" else Oja()) if plastic else None
    alpha = config.alpha if plastic else None
    net = PlasticRNN(config.bits, config.hidden_size, rule=rule, alpha=alpha, generator=generator)
    # Each bit drives one unit, and the last unit has a constant input; neither is learned.
    net.weight_ih.requires_grad_(False).copy_(INPUT_GAIN * torch.eye(config.hidden_size, config.bits))
    net.bias.requires_grad_(False).zero_()[-1] = INPUT_GAIN
    return net


def errors(answer: Float[Tensor, "batch bits"], target: Float[Tensor, "batch bits"]) -> Float[Tensor, ""]:
    """Return the fraction of all bits, the shown ones included, whose sign is wrong."""
    return (answer.sign() != target).float().mean()


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Train one network on fresh episodes; its result is the error over the last tenth of them."""
    task = PatternCompletion(config.bits, config.patterns, config.cycles, config.presentation_steps, config.blank_steps)
    net = build(config, run.generator).to(run.device)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=config.learning_rate, fused=True)
    for episode in run.steps(config.episodes, net=net, optimizer=optimizer):
        inputs, targets, _ = task.sample(config.batch_size, run.generator)
        activity, _ = net(inputs.to(run.device))
        answer, target = activity[-1, :, : config.bits], targets[-1].to(run.device)
        loss = (answer - target).square().sum() / config.batch_size
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(episode + 1, every=max(1, config.episodes // 100), error=errors(answer, target), loss=loss)
    first, last = run.ends("error")
    result = {"error": last, "first_error": first}
    if config.network == "plastic":
        result["eta"] = float(net.state_dict()["rule.eta"])
    return result


published = partial(claimed, source="author code, simple/ and its README; criterion ours")
laptop = partial(published, presets=("laptop",))
claims = [
    published(
        "plastic-learns",
        "A plastic network memorises patterns shown once and completes them",
        value("plastic", "error") <= 0.04,
        published="learns the task (no figure)",
    ),
    published(
        "one-coefficient-suffices",
        "With a single plasticity coefficient the error is no larger than with one for each connection: "
        "nothing tells one random bit from another",
        value("homogeneous", "error") / value("plastic", "error") <= 1.0,
        source="ours; the author code has it for images alone",
        published="not compared",
    ),
    laptop(
        "non-plastic-fails",
        "A non-plastic network of the same size does not learn to complete patterns in as many episodes",
        value("non-plastic", "error") >= 0.22,
        published="needs orders of magnitude more episodes",
    ),
    laptop(
        "neurons-do-not-help",
        "A non-plastic network with 200 more neurons does not learn to complete patterns in as many episodes",
        value("non-plastic-large", "error") >= 0.15,
        published="trained with +2000 neurons for 1e6 episodes (no figure)",
    ),
    laptop(
        "lstm-fails",
        "An LSTM of 200 units with clamped inputs does not learn to complete patterns in as many episodes, at the "
        "best of four learning rates",
        value("lstm", "error") >= 0.15,
        source="author code, header of simple/lstm.py",
        published="learns slowly and imperfectly even with about 2000 units",
    ),
    laptop(
        "plastic-beats-non-plastic",
        "The plastic network's error is a quarter of the non-plastic network's, or less",
        value("plastic", "error") / value("non-plastic", "error") <= 0.25,
        published="plastic learns, non-plastic does not (no figure)",
    ),
    published(
        "long-patterns",
        "A plastic network memorises five long patterns (laptop: 200 bits, paper: 1000 bits) over 106 steps",
        value("plastic-long", "error") <= 0.03,
        source="abstract: more than 1000 pixels and 2 million parameters; author code, simple/full.py",
        published="memorises and reconstructs high-dimensional patterns (no figure)",
    ),
]


def figure(results: Results) -> go.Figure:
    """Each trial's error over its last tenth, arm by arm, with chance."""
    title = "Error over the last tenth of training, one point a seed"
    return points_by_arm(results, "error", title, "fraction of wrong bits", chance=CHANCE)


def seconds(config: Training) -> float:
    """Time of a trial on one core: a cost for each operation, and one for each synapse that it touches."""
    shown = config.presentation_steps
    steps = config.patterns * config.cycles * (shown + config.blank_steps) + shown
    synapses = config.batch_size * config.hidden_size**2
    episode, step, each = {
        "plastic": (1.05e-3, 25e-6, 0.36e-9),
        "non-plastic": (0.5e-3, 30e-6, 0.5e-9),
        "lstm": (0.5e-3, 30e-6, 2e-9),
    }[config.network]
    return config.episodes * (episode + steps * (step + each * synapses))


SMOKE = Config(bits=10, hidden_size=11, episodes=20, extra_neurons=12, long_bits=12, long_episodes=10)
PAPER = Config(
    episodes=1_000_000,
    baseline_learning_rate=3e-5,
    enlarged_learning_rate=3e-5,
    lstm_learning_rate=3e-5,
    extra_neurons=2000,
    long_bits=1000,
    long_episodes=2000,
)
experiment = Experiment(
    name="pattern-completion",
    summary="A plastic recurrent network memorises binary patterns shown once; non-plastic ones do not",
    paper="Miconi, Clune & Stanley, Differentiable plasticity, ICML 2018 (arXiv 1804.02464)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=10), "paper": Preset(PAPER, seeds=10)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="error",
)
