"""Learning rules side by side: accuracy, angle to the gradient, time and memory, of one network on one task.

Every registered learning rule that fits trains a narrow and a wide network on images of digits, since in a wide one
even random features will do; and a recurrent network on the same images row by row. Learning rates are chosen for each
rule and seed on images of the training set that it is not trained on. The experiment, its tasks and its criteria are
ours; the review that it follows has no experiments.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import plotly.graph_objects as go
import torch
from annotated_types import Ge
from plotly.subplots import make_subplots
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import one_hot

from engram import registry
from engram.analysis import extra_memory, forward_equivalents, gradient_cosine
from engram.lab import Arm, Experiment, Preset, Results, Run, claimed, value
from engram.lab.curves import add_line, colors
from engram.lab.trial import code_digest
from engram.rules import Backprop, KolenPollack, LearningRule, train_step
from engram.rules.temporal import EProp, LeakyRNN, ReadoutNetwork

TRAINED, VALIDATED = 1437, 287  # of 1797 images; the second are the last of the first
RATES = (0.1, 0.03, 0.01)
RATES_OF_BLACK_BOXES = (0.1, 0.03, 0.01, 0.003, 0.001)
RATES_OF_EQUILIBRIUM = (0.3, 0.1, 0.03)
HIDDEN = {"narrow": (32, 16), "wide": (128, 64), "clipped": (64,)}
UNITS, FEATURES = 32, 16
ORACLES = ("rtrl",)  # the same as backpropagation through time, and slow
READOUT_ONLY = "readout-only"
PROBES = 256
COSTS = ("seconds", "extra_bytes", "forward_equivalents", "rate", "gap")
Network = Literal["narrow", "wide", "clipped", "recurrent"]


@dataclass(frozen=True)
class Training:
    """What one trial is made of."""

    rule: str = "backprop"
    """Name of the rule."""
    network: Network = "narrow"
    """Which network: 64-32-16-10 or 64-128-64-10 of tanh, 64-64-10 of units clipped to 0..1, or 32 leaky units."""
    rates: tuple[float, ...] = RATES
    """Learning rates to choose from."""
    epochs: Annotated[int, Ge(1)] = 20
    """Passes over the training set."""
    code: str = ""
    """Hash of the code of a rule that another package has."""


@dataclass(frozen=True)
class Features:
    """What one trial of unsupervised features with a readout is made of."""

    rule: str = "sanger"
    """Name of the synaptic rule; none: random features."""
    rates: tuple[float, ...] = RATES
    """Learning rates to choose from, of both."""
    epochs: Annotated[int, Ge(1)] = 20
    """Passes over the training set, for the features and again for the readout."""
    code: str = ""
    """As of the other trials."""


@dataclass(frozen=True)
class Config:
    """Which rules are compared, and for how long."""

    rules: str = "all"
    """Names of registered rules with commas between, learning rules and synaptic ones; all: what fits, and Sanger's."""
    epochs: Annotated[int, Ge(1)] = 20
    """Passes over the training set."""
    epochs_in_time: Annotated[int, Ge(1)] = 15
    """The same for the recurrent network."""

    def __post_init__(self) -> None:
        known = {"all", *registry.names("learning_rules"), *registry.names("synaptic_rules")}
        for name in self.rules.split(","):
            if name not in known:
                raise ValueError(f"rules = {self.rules!r}: expected registered rules, and there is no {name!r}")


def arms(config: Config) -> dict[str, Arm]:
    """Each rule on the networks that it fits, by its name and the network's, and what they are held against."""
    every = config.rules == "all"
    names = [*registry.names("learning_rules"), "sanger"] if every else config.rules.split(",")
    found: dict[str, Any] = {}
    for name in names:
        if name in registry.names("synaptic_rules"):
            found[f"{name}-features"] = Features(name, epochs=config.epochs, code=code_of("synaptic_rules", name))
            found["random-features"] = Features("none", epochs=config.epochs)
            continue
        base = Training(name, rates=rates_of(name), epochs=config.epochs, code=code_of("learning_rules", name))
        if fits(name, "narrow"):
            found |= {name: base, f"{name}-wide": replace(base, network="wide")}
        if name.startswith("ep") and fits(name, "clipped"):
            found[f"{name}-clipped"] = replace(base, network="clipped")
        if fits(name, "recurrent") and not (every and name in ORACLES):
            in_time = replace(base, network="recurrent", epochs=config.epochs_in_time)
            found |= {f"{name}-in-time": in_time, "readout-in-time": replace(in_time, rule=READOUT_ONLY, rates=RATES, code="")}
    return {
        name: Arm(features_trial if isinstance(one, Features) else trial, one, seconds(one))
        for name, one in found.items()
    }


@cache
def fits(name: str, network: Network) -> bool:
    """Return whether a rule can train a network."""
    try:
        rule_of(name).init(build(network, torch.Generator()), torch.Generator())
    except TypeError:
        return False
    return True


def rule_of(name: str) -> LearningRule[Any]:
    """Make a rule by its name."""
    found: LearningRule[Any] = registry.get("learning_rules", "backprop" if name == READOUT_ONLY else name)()
    return found


def rates_of(name: str) -> tuple[float, ...]:
    """Return the learning rates that a rule chooses from."""
    if name.startswith("ep-") or name == "ep":
        return RATES_OF_EQUILIBRIUM
    return RATES_OF_BLACK_BOXES if rule_of(name).properties.black_box else RATES


def code_of(kind: str, name: str) -> str:
    """Return the hash of a rule's code if it is not engram's, which every trial's identity has in it anyway."""
    module = registry.get(kind, name).__module__
    return "" if module.startswith("engram.") else code_digest(module)


class Images(NamedTuple):
    """Images or sequences, time first in these, and their classes."""

    x: Tensor
    y: Tensor

    def of(self, chosen: Any) -> Images:
        """Return some of them."""
        return Images(self.x[:, chosen] if self.x.ndim == 3 else self.x[chosen], self.y[chosen])


@cache
def digits(in_time: bool) -> Images:
    """Return the digits, centred on the training set; in time as 8 rows of 8, doubled."""
    found, order = load_digits(), np.random.default_rng(0).permutation(1797)
    x, y = torch.from_numpy(found.data / 16).float()[order], torch.from_numpy(found.target)[order]
    x -= x[:TRAINED].mean(0)
    return Images(2 * x.reshape(-1, 8, 8).transpose(0, 1).contiguous() if in_time else x, y)


def build(network: Network, generator: torch.Generator) -> nn.Module:
    """Make a network with weights of variance 1 / fan-in and biases of 0."""
    if network == "recurrent":
        core = LeakyRNN(8, UNITS, alpha=0.5, gain=0.9, generator=generator)
        return ReadoutNetwork(core, 10, generator=generator)
    layers: list[nn.Module] = []
    sizes = (64, *HIDDEN[network], 10)
    for before, after in zip(sizes, sizes[1:], strict=False):
        layer = nn.utils.skip_init(nn.Linear, before, after)
        nn.init.normal_(layer.weight, std=before**-0.5, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.Hardtanh(0, 1) if network == "clipped" else nn.Tanh()]
    return nn.Sequential(*(layers if network == "clipped" else layers[:-1]))


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Choose a rate, train by it, and look at accuracy, cosines to the gradient and costs on the way."""
    data = digits(config.network == "recurrent")
    seeds = torch.randint(2**62, (3,), generator=run.generator)  # the same for all rules of one network
    validation, costs = np.zeros(len(config.rates)), np.zeros(len(COSTS))
    for number in run.steps(len(config.rates) + 1, validation=validation, costs=costs):
        last = number == len(config.rates)
        rate = config.rates[int(validation.argmax()) if last else number]
        of_network, of_batches, of_rule = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        rule, model = rule_of(config.rule), build(config.network, of_network)
        if config.rule == READOUT_ONLY:
            model.get_submodule("core").requires_grad_(False)
        fitted = data.of(slice(TRAINED if last else TRAINED - VALIDATED))
        held = data.of(slice(TRAINED, None) if last else slice(TRAINED - VALIDATED, TRAINED))
        look = partial(looked, run, rule, model, data.of(slice(PROBES)), held, config.network) if last else None
        state, taken = learn(config, rule, model, rate, fitted, (of_batches, of_rule), look)
        if last:
            probe = targets(data.of(slice(32)), config.network)
            costs[:] = taken, *costs_of(rule, model, probe, state), rate, gap(rule, model, probe, state)
        else:
            validation[number] = accuracy(rule, model, held)
    curves = run.metrics()
    result = {name: float(cost) for name, cost in zip(COSTS, costs, strict=True)}
    for metric in curves["metric"].unique():
        curve = curves.filter(curves["metric"] == metric)["value"].to_list()
        result[metric] = curve[-1]
        if metric.startswith("cosine"):
            result |= {f"early_{metric}": curve[1], f"rise_of_{metric}": curve[-1] - curve[1]}
    for key in ("cosine", "rise_of_cosine"):
        result[f"least_{key}"] = min(found for name, found in result.items() if name.startswith(f"{key}_"))
    return result


def learn(
    config: Training,
    rule: LearningRule[Any],
    model: nn.Module,
    rate: float,
    data: Images,
    generators: tuple[torch.Generator, torch.Generator],
    look: Callable[[int, Any], None] | None = None,
) -> tuple[Any, float]:
    """Train a network; return the rule's state and the seconds of the processor that the steps took."""
    of_batches, of_rule = generators
    momentum, state, taken = 0.9, rule.init(model, of_rule), 0.0
    learns_feedback = isinstance(rule, KolenPollack) or (isinstance(rule, EProp) and rule.feedback == "adaptive")
    decay = rule.decay * (1 - momentum) / rate if learns_feedback else 0.0  # type: ignore[attr-defined]
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum, weight_decay=decay)
    for epoch in range(config.epochs + 1):
        if look is not None:
            look(epoch, state)
        if epoch == config.epochs:
            break
        began = time.process_time()
        try:
            for chosen in torch.randperm(len(data.y), generator=of_batches).split(32):
                state = train_step(rule, model, optimizer, targets(data.of(chosen), config.network), state).state
        except FloatingPointError:  # this rate is too high
            return state, taken
        taken += time.process_time() - began
    return state, taken


def targets(data: Images, network: Network) -> tuple[Tensor, Tensor]:
    """Return inputs and targets: classes, or for clipped outputs what they should be."""
    return data.x, one_hot(data.y, 10).to(data.x) if network == "clipped" else data.y


def accuracy(rule: LearningRule[Any], model: nn.Module, data: Images) -> float:
    """Return the share of right answers."""
    with torch.no_grad():
        return float((rule.predict(model, data.x).argmax(1) == data.y).float().mean())


def looked(
    run: Run, rule: LearningRule[Any], model: nn.Module, probe: Images, held: Images, network: Network,
    epoch: int, state: Any,
) -> None:  # fmt: skip
    """Log accuracy, and the cosine to the gradient on the probe images of each layer but the last."""
    batch = targets(probe, network)
    grads, reference = rule.update(model, *batch, state).grads, Backprop().update(model, *batch, None).grads
    if network == "recurrent":
        weights = "core.weight_hh"
        if weights not in reference:  # the readout alone is trained
            grads = reference = {weights: torch.zeros(1), "readout.weight": torch.zeros(1)}
        grads, reference = ({name: found[name] for name in (weights, "readout.weight")} for found in (grads, reference))
    *hidden, _ = gradient_cosine(grads, reference).values()
    cosines = {f"cosine_{layer}": found.cosine for layer, found in enumerate(hidden, 1)}
    run.log(epoch, accuracy=accuracy(rule, model, held), **cosines)


def costs_of(rule: LearningRule[Any], model: nn.Module, batch: tuple[Tensor, Tensor], state: Any) -> tuple[float, float]:
    """Return bytes beyond those of a forward pass, and how many forward passes' multiplications an update does."""
    update, forward = partial(rule.update, model, *batch, state), torch.no_grad()(partial(model, batch[0]))
    held = [leaf for leaf in torch.utils._pytree.tree_leaves(state) if isinstance(leaf, Tensor)]
    return extra_memory(update, forward, held), forward_equivalents(update, forward)


def gap(rule: LearningRule[Any], model: nn.Module, batch: tuple[Tensor, Tensor], state: Any) -> float:
    """Return the largest difference of a pseudo-gradient from the gradient."""
    grads, reference = rule.update(model, *batch, state).grads, Backprop().update(model, *batch, None).grads
    return max(float((grads.get(name, 0 * grad) - grad).abs().max()) for name, grad in reference.items())


def features_trial(config: Features, run: Run) -> dict[str, Any]:
    """Learn features without classes, and then a readout of them; rates of both are chosen together."""
    data = digits(False)
    seeds = torch.randint(2**62, (2,), generator=run.generator)
    rates = [(one, other) for one in (config.rates if config.rule != "none" else (0.0,)) for other in config.rates]
    found = np.zeros(len(rates) + 1)
    for number in run.steps(len(found), found=found):
        last = number == len(rates)
        rate, of_readout = rates[int(found[:-1].argmax()) if last else number]
        generator, of_batches = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        weight = torch.randn(FEATURES, 64, generator=generator) / 8
        fitted = data.of(slice(TRAINED if last else TRAINED - VALIDATED))
        held = data.of(slice(TRAINED, None) if last else slice(TRAINED - VALIDATED, TRAINED))
        if config.rule != "none":
            rule = registry.get("synaptic_rules", config.rule)()
            state = rule.init(weight)
            for _ in range(config.epochs):
                for chosen in torch.randperm(len(fitted.y), generator=of_batches).split(32):
                    x = fitted.x[chosen]
                    grad, state = rule.update(x, x @ weight.T, weight, state)
                    weight = weight - rate * grad
        shown = (lambda x, weight=weight: x @ weight.T) if config.rule != "none" else lambda x: (x @ weight.T).tanh()
        readout = nn.utils.skip_init(nn.Linear, FEATURES, 10)
        readout.load_state_dict({"weight": torch.zeros(10, FEATURES), "bias": torch.zeros(10)})
        generators = of_batches, generator
        learn(Training(epochs=config.epochs), Backprop(), readout, of_readout, Images(shown(fitted.x), fitted.y), generators)
        found[number] = accuracy(Backprop(), readout, Images(shown(held.x), held.y))
        run.log(number + 1, accuracy=found[number])
    return {"accuracy": float(found[-1])}


published = partial(claimed, source="ours; a table of one run of our own is what was known before", published="no figure")
NAMES = {
    "kolen-pollack": "Kolen-Pollack's rule", "usf": "Sign symmetry", "pc-strict": "Strict predictive coding",
    "dtp": "Difference target propagation", "dfa": "Direct feedback alignment", "fa": "Feedback alignment",
    "local-error": "Local error",
}  # fmt: skip


def lead(one: str, other: str) -> Any:
    """Return how much more often one arm is right than another."""
    return value(one, "accuracy") - value(other, "accuracy")


claims = [
    published(
        "fixed-predictions-are-backprop",
        "Predictive coding with fixed predictions gives the gradient (largest difference of any weight's)",
        value("pc-fixed", "gap") <= 1e-6,
        sameness="identity",
    ),
    *(
        published(
            f"{rule}-learns-hidden-layers",
            f"{name} makes a narrow network right more often than training its last layer alone does, by 0.1 or more",
            lead(rule, "last-layer") >= 0.10,
        )
        for rule, name in NAMES.items()
    ),
    *(
        published(
            f"{rule}-near-backprop",
            f"{name} comes within 0.03 of backpropagation's accuracy in a narrow network",
            lead(rule, "backprop") >= -0.03,
        )
        for rule, name in NAMES.items()
    ),
    published(
        "random-features-suffice-when-wide",
        "Training the last layer alone does better in a wide network than in a narrow one, by 0.05 or more",
        lead("last-layer-wide", "last-layer") >= 0.05,
    ),
    *(
        published(
            f"{rule}-aligned",
            f"{NAMES[rule]} ends at a cosine to the gradient of {least} or more in both hidden layers",
            value(rule, "least_cosine") >= least,
        )
        for rule, least in {"kolen-pollack": 0.9, "usf": 0.8, "fa": 0.4, "dfa": 0.4}.items()
    ),
    *(
        published(
            f"{rule}-aligns",
            f"{NAMES[rule]} ends nearer to the gradient than after the first epoch, in both hidden layers",
            value(rule, "least_rise_of_cosine") >= 0.0,
        )
        for rule in ("fa", "dfa")
    ),
    published(
        "node-perturbation-learns",
        "Node perturbation is right 0.9 of the time in a narrow network",
        value("node-perturbation", "accuracy") >= 0.90,
    ),
    published(
        "nodes-before-weights",
        "Node perturbation does better than weight perturbation in a narrow network, by 0.05 or more",
        lead("node-perturbation", "weight-perturbation") >= 0.05,
    ),
    published(
        "weight-perturbation-worse-when-wide",
        "Weight perturbation does no better in a wide network than in a narrow one",
        lead("weight-perturbation-wide", "weight-perturbation") <= 0.0,
    ),
    published(
        "equilibrium-propagation-learns",
        "Equilibrium propagation nudged both ways is right 0.94 of the time",
        value("ep-clipped", "accuracy") >= 0.94,
    ),
    published(
        "two-nudges-before-one",
        "Equilibrium propagation nudged both ways does at least as well as nudged one way",
        lead("ep-clipped", "ep-one-sided-clipped") >= 0.0,
    ),
    published(
        "backprop-through-time-before-eprop",
        "Backpropagation through time does at least as well as e-prop",
        lead("backprop-in-time", "eprop-in-time") >= 0.0,
    ),
    published(
        "eprop-near-backprop-through-time",
        "Backpropagation through time does better than e-prop by 0.1 at most",
        lead("backprop-in-time", "eprop-in-time") <= 0.10,
    ),
    published(
        "symmetric-before-random-feedback",
        "Learning in time by e-prop is at least as good with symmetric feedback as with random",
        lead("eprop-in-time", "eprop-random-in-time") >= 0.0,
    ),
    published(
        "eprop-learns-recurrent-weights",
        "Training a recurrent network by e-prop with random feedback beats training its readout alone, by 0.04 or more",
        lead("eprop-random-in-time", "readout-in-time") >= 0.04,
    ),
    published(
        "components-before-random-features",
        "A readout of 16 principal components, found by Sanger's rule, beats one of 16 random features by 0.05 or more",
        lead("sanger-features", "random-features") >= 0.05,
    ),
]


def figure(results: Results) -> go.Figure:
    """Cosines to the gradient over epochs, of both hidden layers of the narrow network, and accuracy by network."""
    titles = "cosine to the gradient, hidden layer 1", "hidden layer 2", "accuracy, narrow and wide, and of all others"
    plot = make_subplots(2, 2, subplot_titles=titles, specs=[[{}, {}], [{"colspan": 2}, None]], vertical_spacing=0.12)
    narrow = [arm for arm in results.arms if not arm.endswith(("-wide", "-in-time", "-features", "-clipped"))]
    others = [arm for arm in results.arms if arm not in narrow and arm.removesuffix("-wide") not in narrow]
    shades = colors([*narrow, *others])
    for arm in narrow:
        for layer in (1, 2):
            style: dict[str, Any] = {"name": arm, "legendgroup": arm, "showlegend": layer == 1}
            add_line(plot, results, arm, f"cosine_{layer}", place=(1, layer), line_color=shades[arm], **style)
    shown = {"narrow": [(arm, arm) for arm in narrow], "wide": [(arm, f"{arm}-wide") for arm in narrow]}
    shown["others"] = [(arm, arm) for arm in others]
    for (kind, pairs), symbol in zip(shown.items(), ("circle", "square-open", "circle"), strict=True):
        points = [
            (name, of_seed[arm]["accuracy"], shades[name])
            for name, arm in pairs
            for of_seed in results.by_seed.values()
            if arm in of_seed
        ]
        if not points:
            continue
        names, heights, colours = zip(*points, strict=True)
        marker = {"color": colours, "symbol": symbol, "size": 8}
        plot.add_scatter(x=names, y=heights, mode="markers", marker=marker, name=kind, row=2, col=1)
    plot.update_xaxes(title="epoch", row=1)
    plot.update_yaxes(range=[-0.1, 1.02], row=1)
    return plot.update_layout(height=820, title="Learning rules beside one another")


SLOW = {"pc-strict": 20.0, "ep": 12.0, "ep-one-sided": 12.0, "dtp": 4.0, "weight-mirror": 3.0}


def seconds(config: Training | Features) -> float:
    """Time of a trial on one core."""
    if isinstance(config, Features):
        return 0.3 + 0.05 * config.epochs * (len(config.rates) ** (2 if config.rule != "none" else 1) + 1)
    step = 8.0 if config.network == "recurrent" else SLOW.get(config.rule, 1.5)
    return 0.5 + 0.018 * step * config.epochs * (len(config.rates) + 1)


experiment = Experiment(
    name="learning-rules",
    summary="Rules that train without backpropagation, or beside it: how right, how near to the gradient, at what cost",
    paper="After Schmidgall et al., Brain-inspired learning in artificial neural networks: a review, 2023 "
    "(arXiv 2305.11252), which has no experiments",
    presets={
        "smoke": Preset(Config("backprop,fa,node-perturbation,eprop,sanger", epochs=1, epochs_in_time=1), seeds=1),
        "laptop": Preset(Config(), seeds=5),
        "paper": Preset(Config(epochs=50, epochs_in_time=40), seeds=10),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
)
