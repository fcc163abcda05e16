"""Plastic networks complete patterns seen once, after far less training than others (Miconi, Clune, Stanley, 2018).

Each episode shows a few random binary patterns, then half of one of them; the network must restore the other half. What
has to be remembered changes with every episode, so it can only be stored in activity or in plastic synapses. Networks
without plasticity learn the task only in part, and slowly, and more units do not help.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from engram import registry
from engram.lab import Experiment, Points, Preset, Run, Study, Task, claims_from, metric, minimum, setting, settings
from engram.plasticity import ClampedLSTM, PlasticRNN
from engram.studies.experiments.choosing import at_best_rate
from engram.tasks import PatternCompletion

INPUT_GAIN = 20.0  # large enough to saturate tanh, which in effect clamps the shown units
CHANCE = 0.25  # half of the bits are shown, and half of the others are guessed correctly
NON_PLASTIC = "non-plastic"


@settings
class Config:
    """The settings of a trial."""

    network: Literal["plastic", "non-plastic", "lstm"] = setting("plastic", "the network; set by each arm")
    rule: str = setting("hebb", "plasticity rule of the plastic network")
    alpha: Literal["connection", "post", "homogeneous"] = setting(
        "connection",
        "whether each connection or each receiving unit has its own plasticity coefficient, or all share one",
    )
    bits: int = setting(50, "bits of a pattern; even", ge=2)
    patterns: int = setting(2, "patterns to memorise in an episode", ge=1)
    cycles: int = setting(1, "presentations of all patterns", ge=1)
    presentation_steps: int = setting(3, "steps for which each pattern and the probe are shown", ge=1)
    blank_steps: int = setting(1, "steps without input after each pattern", ge=0)
    hidden_size: int = setting(51, "units; a recurrent network needs one for each bit and a constant one", ge=2)
    episodes: int = setting(6000, "training steps, each on a batch of episodes", ge=10)
    batch_size: int = setting(1, "episodes in a batch", ge=1)
    learning_rate: float = setting(3e-4, "learning rate of Adam", gt=0, le=1)
    rates: tuple[float, ...] = setting((), "learning rates to choose from in shorter trials; none: learning_rate")
    backend: Literal["auto", "eager"] = setting(
        "auto", "whether recurrent networks may use compiled kernels (auto), or plain PyTorch, with nothing to compile"
    )

    def __post_init__(self) -> None:
        registry.check("plasticity_rules", self.rule, "rule")
        if self.bits % 2:
            raise ValueError(f"bits = {self.bits}: expected an even number")
        units = self.bits + (self.network != "lstm")
        if self.hidden_size < units:
            raise ValueError(f"hidden_size = {self.hidden_size}: expected at least {units}, with bits = {self.bits}")


# The best learning rates in pilots with other seeds: for the controls among 1e-4, 3e-4, 1e-3 and 3e-3, for the plastic
# networks among 3e-4, 1e-3 and 3e-3, with errors of .023, .015 and .028. Published: 3e-4, for longer training.
arms: dict[str, dict[str, Any]] = {
    "plastic": {"network": "plastic", "learning_rate": 1e-3},
    "homogeneous": {"network": "plastic", "alpha": "homogeneous", "learning_rate": 1e-3},
    "non-plastic": {"network": NON_PLASTIC, "learning_rate": 1e-3},
    "non-plastic-large": {"network": NON_PLASTIC, "hidden_size": 251},
    "lstm": {"network": "lstm", "hidden_size": 200, "learning_rate": 1e-3},
    "plastic-long": {"network": "plastic", "bits": 200, "hidden_size": lambda arm: arm.bits + 1, "episodes": 1000}
    | {"patterns": 5, "cycles": 2, "presentation_steps": 6, "blank_steps": 4},
}
presets = {
    "smoke": Preset(
        seeds=1,
        changes={
            "bits": 10,
            "hidden_size": 11,
            "episodes": 20,
            "non-plastic-large": {"hidden_size": 23},
            # Too short for a kernel, which takes seconds to compile.
            "homogeneous": {"patterns": 1, "presentation_steps": 1, "blank_steps": 0},
            "lstm": {"hidden_size": 12},
            "plastic-long": {"bits": 12, "episodes": 10},
        },
    ),
    # A demonstration: it takes less time than a kernel takes to compile. The best learning rates among 1e-3, 3e-3 and
    # 1e-2 in pilots with other seeds, for both networks.
    "demo": Preset(
        seeds=5,
        changes={
            "bits": 20,
            "hidden_size": 60,
            "episodes": 250,
            "batch_size": 16,
            "backend": "eager",
            "plastic": {"learning_rate": 1e-2},
            "non-plastic": {"learning_rate": 1e-2},
        },
        arms=("plastic", "non-plastic"),
    ),
    "laptop": Preset(seeds=10),
    # The published settings, of those arms that a laptop trains in hours.
    "large": Preset(
        seeds=3,
        changes={
            "plastic": {"episodes": 1_000_000, "learning_rate": 3e-4},
            "non-plastic": {"episodes": 1_000_000, "learning_rate": 3e-5},
            "plastic-long": {"bits": 1000, "episodes": 2000},
        },
        arms=("plastic", "non-plastic", "plastic-long"),
        looks=(3, 5),
    ),
    "published": Preset(
        seeds=10,
        published="the authors' code, simple/README.md, full.py and lstm.py: sizes, episodes and learning rates; "
        "neurons have plastic connections to themselves from the start, which full.py sets to zero",
        changes={
            "episodes": 1_000_000,
            "plastic": {"learning_rate": 3e-4},
            "homogeneous": {"learning_rate": 3e-4},
            "non-plastic": {"learning_rate": 3e-5},
            "non-plastic-large": {"hidden_size": 2051, "learning_rate": 3e-5},
            "lstm": {"hidden_size": 2000, "learning_rate": 3e-5},
            "plastic-long": {"bits": 1000, "episodes": 2000},
        },
    ),
}


def build(config: Config, generator: torch.Generator) -> PlasticRNN | ClampedLSTM:
    """The network of a trial, which maps inputs to its activity; the first units are the output."""
    if config.network == "lstm":
        return ClampedLSTM(config.bits, config.hidden_size, generator=generator)
    plastic = config.network == "plastic"
    rule = registry.get("plasticity_rules", config.rule)() if plastic else None
    alpha = config.alpha if plastic else None
    options: dict[str, Any] = {"rule": rule, "alpha": alpha, "backend": config.backend, "generator": generator}
    net = PlasticRNN(config.bits, config.hidden_size, **options)
    # Each bit drives one unit, and the last unit has a constant input; neither is learned.
    net.weight_ih.requires_grad_(False).copy_(INPUT_GAIN * torch.eye(config.hidden_size, config.bits))
    net.bias.requires_grad_(False).zero_()[-1] = INPUT_GAIN
    return net


def errors(answer: Float[Tensor, "batch bits"], target: Float[Tensor, "batch bits"]) -> Float[Tensor, ""]:
    """The fraction of all bits, including the shown ones, with the wrong sign."""
    return (answer.sign() != target).float().mean()


def task_of(config: Config) -> PatternCompletion:
    """The task of a trial."""
    return PatternCompletion(config.bits, config.patterns, config.cycles, config.presentation_steps, config.blank_steps)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train one network on new episodes; the main result is the error over the last tenth of them."""
    config = at_best_rate(config, run, trial, "episodes", lambda result: -result["error"], part=0.5)
    task, net = task_of(config), build(config, run.generator).to(run.device)
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
    run.keep(net=net)
    first, last = run.ends("error")
    result = {"error": last, "first_error": first}
    if config.network == "plastic":
        result |= {name[5:]: float(eta) for name, eta in net.state_dict().items() if name == "rule.eta"}
    return result


def changes_of(rule: str) -> dict[str, Any]:
    """The settings of the arm of a rule, or of a network without plasticity, for a third of the time."""
    network = {"network": NON_PLASTIC} if rule == NON_PLASTIC else {"network": "plastic", "rule": rule}
    return {**network, "rates": (3e-4, 1e-3, 3e-3), "episodes": lambda arm: max(10, arm.episodes // 3)}


def step_of(config: Config) -> Callable[[], object]:
    """A function to be timed, which computes the activity on a batch of episodes and the gradient of its sum."""
    generator = torch.Generator().manual_seed(0)
    net = build(config, generator)
    inputs, *_ = task_of(config).sample(config.batch_size, generator)
    return lambda: net(inputs)[0][-1].sum().backward()


tasks = [
    Task(
        "plasticity_rules",
        "patterns seen once",
        "rule-{}".format,
        changes_of,
        "error",
        maximize=False,
        baselines=(*registry.names("plasticity_rules"), NON_PLASTIC),
        chance=CHANCE,
        trivial=NON_PLASTIC,
        step=step_of,
    )
]


error, first_error = metric("error"), metric("first_error")
CODE = "author code, simple/ and its README; criterion ours"
claim = claims_from(CODE, published="learns the task (no figure read)")
fails = claims_from(
    CODE,
    published="non-plastic networks need orders of magnitude more episodes (no figure read)",
)
claims = [
    claim("plastic-learns", "A plastic network completes patterns seen once", error("plastic") <= 0.04),
    claim("long-patterns", "A plastic network memorises five long patterns", error("plastic-long") <= 0.03,
        published="memorises five patterns of 1000 bits (no figure read)", presets=("laptop", "large", "published")),
    claim("one-coefficient-suffices",
        "A single plasticity coefficient does as well as one for each connection, since random bits have no structure",
        error("homogeneous") / error("plastic") <= 1.1, source="ours; the author code has it for other tasks",
        published="", presets=("laptop", "published")),
    fails("plastic-beats-non-plastic", "Plasticity reduces the error several times",
        error("plastic") / error("non-plastic") <= 0.25, presets=("laptop", "demo", "large", "published")),
    fails("plastic-beats-lstm", "A plastic network has a several times smaller error than an LSTM of 200 units",
        error("plastic") / error("lstm") <= 0.25, presets=("laptop",),
        published="an LSTM learns slowly and imperfectly (no figure read)"),
    fails("a-tenth-of-the-training",
        "A plastic network has a smaller error in the first tenth of training than the best non-plastic one in the "
        "last",
        first_error("plastic") / minimum(*map(error, ("non-plastic", "non-plastic-large", "lstm"))) <= 0.9,
        presets=("laptop", "published")),
    fails("a-tenth-of-a-million", "A plastic network has a smaller error in the first tenth of a million episodes than "
        "the same network without plasticity in the last",
        first_error("plastic") / error("non-plastic") <= 0.9, presets=("large",)),
    fails("non-plastic-fails", "A network without plasticity does not learn the task", error("non-plastic") >= 0.22,
        source="ours", published="", presets=("laptop", "large", "published")),
    fails("neurons-do-not-help", "Five times as many units do not help a network without plasticity (difference)",
        error("non-plastic-large") - error("non-plastic") >= -0.02, source="ours", published="", presets=("laptop",)),
]  # fmt: skip
experiment = Experiment(
    name="pattern-completion",
    about=__doc__,
    paper="Miconi, Clune & Stanley, Differentiable plasticity, ICML 2018 (arXiv 1804.02464)",
    studies=Study(trial, arms, gpu=True),
    presets=presets,
    claims=claims,
    figure=Points(
        "error", "Error over the last tenth of training, one point per seed", "fraction of wrong bits", CHANCE
    ),
    headline="error",
    tasks=tasks,
    answer="""A network with plastic connections restores half of a pattern that it saw once with {plastic-learns:0.0 %}
    wrong bits {plastic-learns}, a tenth of the error of the same network without plasticity {plastic-beats-non-plastic}
    and a fourteenth of that of an LSTM of 200 units {plastic-beats-lstm}; its error in the first tenth of training is
    smaller than that of the others in the last {a-tenth-of-the-training}. Without plasticity the task is learned too,
    but only in part {non-plastic-fails}, and more units do not help {neurons-do-not-help}. In the published million
    episodes (preset large) plastic networks end at .2 % wrong bits, also with patterns of 1,000 bits; those without
    plasticity end at 12 %, more than plastic ones get wrong in the first hundredth of training. One plasticity
    coefficient for all connections does as well as one for each {one-coefficient-suffices}: if inputs have no
    structure, the cheaper version is enough.""",
)
