"""Evolution of a network that learns in its lifetime, and the tests of the final genome."""

from __future__ import annotations

import copy
import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engram.analysis import cross_temporal_decoding
from engram.lab import Run, setting, settings
from engram.optim import AntitheticES
from engram.plasticity import Lifetimes, NodePerturbationRNN, Trials, lifetimes
from engram.plasticity.node_perturbation import CONSTANT, FREE
from engram.tasks.two_stimulus import Block, Timing, TwoStimulus, ladder, ladder_rung
from engram.tasks.two_stimulus import training_tasks as tasks_but

EARLY = 31  # trials before the first weight change
TEST_EVERY = 10  # generations
NOISE_SETS, LIVES_PER_TASK = 4, 3  # for the final test on the training tasks
FEWEST_DECODED = 24  # with fewer lifetimes an answer may be missing from the third that makes the templates
SHORT_TRACE = 2  # steps: the trace's time constant in the control with a short trace; half of it survives a step
Withheld = Literal["dms", "nand"]


@settings
class Config:
    """The settings of the tasks, the evolution, its lifetimes and the final tests."""

    plastic: bool = setting(True, "whether connections change during lifetimes, in evolution and in the tests")
    withheld: Withheld = setting("dms", "the task withheld from evolution, together with its negation")
    author_tables: bool = setting(
        False, "whether to use the truth tables of the published code, two of which are wrong"
    )
    population: int = setting(200, "individuals in a generation; even", ge=4)
    generations: int = setting(400, "generations; in each, every individual lives once", ge=4)
    trials: int = setting(250, "trials of a lifetime", ge=33)
    scored: int = setting(80, "last trials of a lifetime, whose mean loss is minimised", ge=1)
    units: int = setting(48, "units of a network; published: 70", ge=12)
    dt: float = setting(40.0, "duration of a step in ms; published: 20", gt=0, le=60)
    sigma: float = setting(0.03, "standard deviation of the mutations", gt=0)
    learning_rate: float = setting(0.01, "learning rate of Adam", gt=0, le=1)
    weight_decay: float = setting(3e-4, "weight decay, added to the gradient", ge=0)
    test_lives: int = setting(64, "independent lifetimes in a test on the withheld task", ge=2)
    decoded_lives: int = setting(500, "lifetimes whose activity is decoded; 0: no decoding", ge=0)
    controls: bool = setting(True, "whether the evolved genome is also tested with parts of it replaced")

    def __post_init__(self) -> None:
        if self.population % 2:
            raise ValueError(
                f"population = {self.population}: expected an even number, since individuals come in pairs"
            )
        if self.scored > self.trials:
            raise ValueError(f"scored = {self.scored}: expected at most trials = {self.trials}")
        if 0 < self.decoded_lives < FEWEST_DECODED:
            raise ValueError(f"decoded_lives = {self.decoded_lives}: expected 0, or at least {FEWEST_DECODED}")
        if self.trials - self.scored < 60:
            warnings.warn(
                f"trials - scored = {self.trials - self.scored}: less than 60 trials to learn in before they count",
                RuntimeWarning,
                stacklevel=3,
            )


class Genome(NamedTuple):
    """The parameters that evolution shapes."""

    weight: Tensor
    alpha: Tensor


def build(config: Config, generator: torch.Generator) -> NodePerturbationRNN:
    """The network of a trial."""
    eta = 0.03 if config.plastic else 0.0
    return NodePerturbationRNN(config.units, dt=config.dt, eta=eta, generator=generator)


def training_tasks(withheld: Withheld, parity: Literal[0, 1] | None = None) -> tuple[str, ...]:
    """The tasks used in evolution: all but the withheld one and its negation."""
    return tasks_but({"dms": ("dms", "dnms"), "nand": ("nand", "and")}[withheld], parity)


def two_stimulus(config: Config, tasks: tuple[str, ...]) -> TwoStimulus:
    """The task trials in the lifetimes of a trial."""
    return TwoStimulus(tasks, config.trials, Timing.default(config.dt), config.author_tables)


def live(net: NodePerturbationRNN, task: TwoStimulus, block: Block, run: Run, genome: Any, **options: Any) -> Lifetimes:
    """Run individuals through a block of trials.

    Args:
        net: The network.
        task: The task.
        block: The stimuli and answers of the trials of each individual.
        run: The run.
        genome: Weights and plasticity coefficients alpha, one of each for every individual or one for all.
        **options: Further options of ``lifetimes``.
    """
    timing = task.timing
    trials = Trials(task.inputs(), block.kind, block.answer, timing.response, timing.decision, timing.feedback)
    return lifetimes(net, trials, run.generator, weight=genome[0], alpha=genome[1], **options)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Evolve one genome; the results are what it learns in new lifetimes, and what its activity encodes."""
    net = build(config, run.generator)
    newborn = genome_of(net)
    adam = torch.optim.Adam(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    size, generator = config.population, run.generator
    strategy = AntitheticES(
        net.parameters(), config.sigma, adam, population_size=size, include_mean=True, generator=generator
    )
    halves = [two_stimulus(config, training_tasks(config.withheld, parity)) for parity in (0, 1)]
    rungs = ladder(two_stimulus(config, training_tasks(config.withheld)).tables)
    length = 4 * max(1, config.generations // 400)  # four generations cover all tasks
    information = rungs[0].knows
    for generation in run.steps(config.generations, net=net, es=strategy):
        with torch.no_grad():
            net.alpha.clamp_(min=0)
        weight, alpha = strategy.ask()
        weight[:, : CONSTANT + 1] = 0
        task = halves[generation // 2 % 2]
        block = task.block(size // 2, generator)
        lives = live(net, task, Block(*(torch.cat((part, part)) for part in block)), run, (weight, alpha))
        loss, right = lives.loss[:, -config.scored :].mean(1), lives.correct.float()
        strategy.tell(loss=loss)
        if (generation + 1) % TEST_EVERY == 0 or generation + 1 == config.generations:
            run.log(generation + 1, withheld_accuracy=on_withheld(net, config, run, genome_of(net)))
        losses = {"loss": loss.mean(), "best_loss": loss.min(), "median_loss": loss.median()}
        shares = {"accuracy": right[:, -config.scored :].mean(), "early_accuracy": right[:, :EARLY].mean()}
        means = run.log(generation + 1, every=length, **losses, **shares)
        if means:
            information = ladder_rung(means["accuracy"], means["loss"], rungs)
            run.log(generation + 1, rung=[rung.knows for rung in rungs].index(information))
        run.note(f"loss {loss.min():.3f} (best) {loss.median():.3f} (median), knows: {information}")
    run.keep(net=net)
    return evaluate(net, config, run, newborn, genome_of(net))


def genome_of(net: NodePerturbationRNN) -> Genome:
    """A copy of the genome for all individuals, with plasticities clamped at zero."""
    return Genome(net.weight.detach()[None].clone(), net.alpha.detach()[None].clamp(min=0))


def on_withheld(net: NodePerturbationRNN, config: Config, run: Run, genome: Genome, **options: Any) -> float:
    """The accuracy on the withheld task in independent lifetimes.

    Args:
        net: The network.
        config: The settings.
        run: The run.
        genome: The genome.
        **options: Further options of ``lifetimes``.
    """
    task = two_stimulus(config, (config.withheld,))
    block = task.block(config.test_lives, run.generator)
    lives = live(net, task, block, run, genome, shared_noise=False, **options)
    return float(lives.correct[:, -config.scored :].float().mean())


def on_training(net: NodePerturbationRNN, config: Config, run: Run, genome: Genome, **options: Any) -> dict[str, float]:
    """The performance of a genome on the training tasks, in lifetimes with several sets of perturbations.

    Args:
        net: The network.
        config: The settings.
        run: The run.
        genome: The genome.
        **options: Further options of ``lifetimes``.
    """
    task = two_stimulus(config, training_tasks(config.withheld))
    table = torch.arange(len(task.tasks)).repeat(LIVES_PER_TASK)
    scores = []
    for _ in range(NOISE_SETS):
        lives = live(net, task, task.block(len(table), run.generator, table=table), run, genome, **options)
        right = lives.correct.float()
        late, early = right[:, -config.scored :].mean(), right[:, :EARLY].mean()
        scores.append([float(late), float(early), float(lives.loss[:, -config.scored :].mean())])
    late, early, loss = np.mean(scores, axis=0).tolist()
    return {"accuracy": late, "early_accuracy": early, "loss": loss, "gain": late - early}


def evaluate(net: NodePerturbationRNN, config: Config, run: Run, newborn: Genome, evolved: Genome) -> dict[str, Any]:
    """The results of all tests of an evolved genome.

    Args:
        net: The network.
        config: The settings.
        run: The run.
        newborn: The genome before evolution.
        evolved: The genome after evolution.
    """
    result: dict[str, Any] = on_training(net, config, run, evolved)
    result["withheld_accuracy"] = on_withheld(net, config, run, evolved)
    result["newborn_withheld_accuracy"] = on_withheld(net, config, run, newborn)
    result["innate_accuracy"] = on_training(without_plasticity(net), config, run, evolved)["accuracy"]
    if config.controls:
        for name, (altered, genome, options) in controls(net, evolved, run).items():
            result[f"{name}_accuracy"] = on_training(altered, config, run, genome, **options)["accuracy"]
            result[f"{name}_withheld_accuracy"] = on_withheld(altered, config, run, genome, **options)
    if config.decoded_lives:
        result |= decode(net, config, run, newborn, evolved)
    return result


def without_plasticity(net: NodePerturbationRNN) -> NodePerturbationRNN:
    """The same network with its lifetime learning rate set to zero."""
    frozen = copy.deepcopy(net)
    frozen.eta = 0.0
    return frozen


def controls(
    net: NodePerturbationRNN, evolved: Genome, run: Run
) -> dict[str, tuple[NodePerturbationRNN, Genome, dict[str, Any]]]:
    """Tests of the evolved genome with one part at a time ablated: network, genome and options of ``live``.

    Args:
        net: The network.
        evolved: The genome after evolution.
        run: The run.
    """
    short = copy.deepcopy(net)
    short.tau_e = SHORT_TRACE * net.dt
    redrawn = NodePerturbationRNN(net.units, dt=net.dt, generator=run.generator).weight.detach()[None]
    weight, alpha = evolved
    order = torch.randperm(net.units, generator=run.generator)
    return {
        "no_learning": (without_plasticity(net), evolved, {}),
        "mean_alpha": (net, Genome(weight, alpha.mean().expand_as(alpha)), {}),
        "new_weight": (net, Genome(redrawn, alpha), {}),
        "initial_alpha": (net, Genome(weight, torch.full_like(alpha, 0.5)), {}),
        "short_trace": (short, evolved, {}),
        "shuffled_trace": (net, evolved, {"source_of": order}),
    }


def decode(net: NodePerturbationRNN, config: Config, run: Run, newborn: Genome, evolved: Genome) -> dict[str, Any]:
    """The decoding accuracy of target and stimuli across time, before and after evolution and lifetime.

    Args:
        net: The network.
        config: The settings.
        run: The run.
        newborn: The genome before evolution.
        evolved: The genome after evolution.
    """
    task = two_stimulus(config, (config.withheld,))
    timing = task.timing
    block = task.block(config.decoded_lives, run.generator)
    moments = {"before_life": EARLY - 2, "after_life": config.trials - 1}
    response, delay = np.arange(*timing.response), np.arange(timing.stimulus2[1], timing.response[0])
    result: dict[str, Any] = {}
    for stage, genome in (("newborn", newborn), ("evolved", evolved)):
        lives = live(net, task, block, run, genome, shared_noise=False, record=tuple(moments.values()))
        for index, (moment, number) in enumerate(moments.items()):
            activity = lives.recorded[:, index, :, FREE].double().numpy()
            labels = {
                "target": block.answer[:, number].numpy(),
                "stimulus1": block.kind[:, number].numpy() // 2,
                "stimulus2": block.kind[:, number].numpy() % 2,
            }
            for name, label in labels.items():
                matrix = cross_temporal_decoding(activity, label)
                key = f"{name}_{stage}_{moment}"
                result[f"{key}_response"] = float(matrix[response, response].mean())
                result[f"{key}_delay"] = float(matrix[delay, delay].min())
                if name == "target" or (stage, moment) == ("evolved", "after_life"):
                    result[f"{key}_matrix"] = matrix[::2, ::2].round(2).tolist()
    return result
