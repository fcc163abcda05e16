"""Networks evolved to learn: plastic networks that acquire cognitive tasks from rewards alone (Miconi, 2023).

Three nested loops. Evolution shapes the innate weights and plasticities of a recurrent network. In its lifetime,
dropped into an unknown task, its connections change by a reward-modulated Hebbian rule. In a trial, its activity holds
a stimulus until the answer is due. No gradient is propagated back anywhere. The question is whether what evolved on
some tasks learns one that evolution has never seen.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import plotly.graph_objects as go
import polars as pl
import torch
from annotated_types import Ge, Gt, Le
from plotly.subplots import make_subplots
from torch import Tensor, nn

from engram.agents import A2C, TrainedAgent, a2c_step, meta_actor_critic, rollout
from engram.agents.reference import play
from engram.analysis import cross_temporal_decoding
from engram.lab import Arm, Claim, Experiment, Preset, Results, Run, arms_of, at_least, at_most, value, within
from engram.lab.curves import PALETTE
from engram.optim import AntitheticES
from engram.plasticity import Lifetimes, NodePerturbationRNN, Trials, lifetimes
from engram.plasticity.node_perturbation import CONSTANT, FREE
from engram.tasks.meta import MetaTaskVectorEnv, named
from engram.tasks.meta.wrappers import RL2Observation
from engram.tasks.two_stimulus import AUTHOR_TABLES, TABLES, Block, Timing, TwoStimulus, ladder, ladder_rung
from engram.tasks.two_stimulus import training_tasks as tasks_but

PAPER = "Miconi, Learning to acquire novel cognitive tasks, ICML 2023 (arXiv 2112.08588)"
EARLY = 31  # trials before the first change of a weight
TEST_EVERY = 10  # generations
NOISE_SETS, LIVES_PER_TASK = 4, 3  # of the final test on the training tasks
STEPS = 3  # of a trial of the discrete twin
GRU_UNITS, GRU_TRIALS, GRU_LIVES = 64, 20, 64
GRU = A2C(learning_rate=3e-3, clip_norm=50.0, value_coefficient=0.05, entropy_coefficient=0.1)
SHORT_TRACE = 2  # steps that the trace lasts in the control without one, half of it surviving a step


@dataclass(frozen=True)
class Config:
    """What one trial is made of; the last fields shape the other arms."""

    network: Literal["evolved", "gru"] = "evolved"
    """Evolved and learning by its plasticity, or trained by back-propagation and learning by its activity."""
    plastic: bool = True
    """Whether connections change in a lifetime, in evolution and in the tests."""
    withheld: Literal["dms", "nand"] = "dms"
    """The task that evolution never sees, nor its negation."""
    author_tables: bool = False
    """Use the truth tables of the published code, two of which are wrong."""
    population: Annotated[int, Ge(4)] = 200
    """Individuals of a generation; even."""
    generations: Annotated[int, Ge(4)] = 400
    """Generations; each is one lifetime of each individual."""
    trials: Annotated[int, Ge(33)] = 250
    """Trials of a lifetime."""
    scored: Annotated[int, Ge(1)] = 80
    """Last trials of a lifetime, whose mean loss is to be minimised."""
    units: Annotated[int, Ge(12)] = 48
    """Units of a network; published: 70."""
    dt: Annotated[float, Gt(0), Le(60)] = 40.0
    """Duration of a step, ms; published: 20."""
    shaping: Literal["none", "rank", "zscore"] = "none"
    """What is done to the losses of a generation before the gradient is estimated."""
    sigma: Annotated[float, Gt(0)] = 0.03
    """Standard deviation of the mutations."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 0.01
    """Learning rate of Adam."""
    weight_decay: Annotated[float, Ge(0)] = 3e-4
    """Weight decay, added to the gradient."""
    test_lives: Annotated[int, Ge(2)] = 64
    """Independent lifetimes of a test on the withheld task."""
    decoded_lives: Annotated[int, Ge(0)] = 500
    """Lifetimes whose activity is decoded; 0: no decoding."""
    controls: bool = True
    """Whether the evolved genome is also tested with parts of it replaced."""
    rung_generations: Annotated[int, Ge(0)] = 250
    """Generations of the arm that is to reach the first rung, with 100 networks of published size; 0: without it."""
    gru_iterations: Annotated[int, Ge(0)] = 1000
    """Steps of the optimiser of the arm without evolution, a GRU trained by back-propagation; 0: without it."""
    variants: bool = False
    """Whether there are arms with another withheld task and with the published code's tables."""

    def __post_init__(self) -> None:
        if self.population % 2:
            raise ValueError(
                f"population = {self.population}: expected an even number, since individuals come in pairs"
            )
        if self.scored > self.trials:
            raise ValueError(f"scored = {self.scored}: expected at most trials = {self.trials}")
        if self.trials - self.scored < 60:
            warnings.warn(
                f"trials - scored = {self.trials - self.scored}: less than 60 trials to learn in before they count",
                RuntimeWarning,
                stacklevel=3,
            )


def arms(config: Config) -> dict[str, Arm]:
    """Evolution with plasticity and without, a GRU, and, by preset, the first rung or the published variants."""
    base = replace(config, network="evolved", plastic=True, rung_generations=0, gru_iterations=0, variants=False)
    plain = replace(base, decoded_lives=0, controls=False)
    found = {}
    if config.rung_generations:
        found["first-rung"] = replace(
            plain,
            generations=max(4, config.rung_generations),
            population=100,
            trials=150,
            scored=50,
            units=70,
            dt=20.0,
        )
    found["evolved"] = base
    found["no-plasticity"] = replace(plain, plastic=False)
    if config.gru_iterations:
        found["gru"] = replace(plain, network="gru", gru_iterations=config.gru_iterations)
    if config.variants:
        found["withhold-nand"] = replace(plain, withheld="nand")
        found["author-tables"] = replace(plain, author_tables=True)
    return arms_of(trial, found, seconds)


class Genome(NamedTuple):
    """What evolution shapes."""

    weight: Tensor
    alpha: Tensor


def build(config: Config, generator: torch.Generator) -> NodePerturbationRNN:
    """Build the network of a trial."""
    eta = 0.03 if config.plastic else 0.0
    return NodePerturbationRNN(config.units, dt=config.dt, eta=eta, generator=generator)


def training_tasks(config: Config, parity: Literal[0, 1] | None = None) -> tuple[str, ...]:
    """Return the tasks of evolution: all but the withheld one and its negation."""
    return tasks_but({"dms": ("dms", "dnms"), "nand": ("nand", "and")}[config.withheld], parity)


def two_stimulus(config: Config, tasks: tuple[str, ...]) -> TwoStimulus:
    """Return the trials of a trial's lifetimes."""
    return TwoStimulus(tasks, config.trials, Timing.default(config.dt), config.author_tables)


def live(net: NodePerturbationRNN, task: TwoStimulus, block: Block, run: Run, genome: Any, **options: Any) -> Lifetimes:
    """Let individuals live through a block of trials."""
    timing = task.timing
    trials = Trials(task.inputs(), block.kind, block.answer, timing.response, timing.decision, timing.feedback)
    return lifetimes(net, trials, run.generator, weight=genome[0], alpha=genome[1], **options)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Evolve one genome; its result is what it learns in lifetimes of its own, and what is in its activity."""
    if config.network == "gru":
        return trained(config, run)
    net = build(config, run.generator)
    newborn = genome_of(net)
    adam = torch.optim.Adam(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    es = AntitheticES(
        net.parameters(),
        config.sigma,
        adam,
        population_size=config.population,
        shaping=None if config.shaping == "none" else config.shaping,
        include_mean=True,
        generator=run.generator,
    )
    halves = [two_stimulus(config, training_tasks(config, parity)) for parity in (0, 1)]
    rungs = ladder(two_stimulus(config, training_tasks(config)).tables)
    length = 4 * max(1, config.generations // 400)  # four generations see all tasks
    known = rungs[0].knows
    for generation in run.steps(config.generations, net=net, es=es):
        with torch.no_grad():
            net.alpha.clamp_(min=0)
        weight, alpha = es.ask()
        weight[:, : CONSTANT + 1] = 0
        task = halves[generation // 2 % 2]
        block = task.block(config.population // 2, run.generator)
        lives = live(net, task, Block(*(torch.cat((part, part)) for part in block)), run, (weight, alpha))
        loss, right = lives.loss[:, -config.scored :].mean(1), lives.correct.float()
        es.tell(loss=loss)
        if (generation + 1) % TEST_EVERY == 0 or generation + 1 == config.generations:
            run.log(generation + 1, withheld_accuracy=on_withheld(net, config, run, genome_of(net)))
        means = run.log(
            generation + 1,
            every=length,
            loss=loss.mean(),
            best_loss=loss.min(),
            median_loss=loss.median(),
            accuracy=right[:, -config.scored :].mean(),
            early_accuracy=right[:, :EARLY].mean(),
        )
        if means:
            known = ladder_rung(means["accuracy"], means["loss"], rungs)
            run.log(generation + 1, rung=[rung.knows for rung in rungs].index(known))
        run.note(f"loss {loss.min():.3f} (best) {loss.median():.3f} (median), knows: {known}")
    return tested(net, config, run, newborn, genome_of(net))


def trained(config: Config, run: Run) -> dict[str, Any]:
    """Train a GRU on the discrete twin of the tasks; its result is what it does in lifetimes of its own."""

    def twin(tasks: tuple[str, ...], trials: int, lifetimes: int) -> Any:
        with warnings.catch_warnings(action="ignore"):  # that a single task is always the same
            task = named.two_stimulus(tasks, horizon=STEPS * trials)
        return RL2Observation(MetaTaskVectorEnv(task, lifetimes), time=False)

    env = twin(training_tasks(config), GRU_TRIALS, GRU_LIVES)
    network = nn.GRU(env.single_observation_space.shape[0], GRU_UNITS)
    agent = meta_actor_critic(network, 2, generator=run.generator).to(run.device)
    optimizer, iterations = GRU.optimizer(agent), config.gru_iterations
    for iteration in run.steps(iterations, agent=agent, optimizer=optimizer):
        episodes = rollout(env, agent, run.generator, seed=int(run.rng.integers(2**31)))
        left = 1 - iteration / iterations
        a2c_step(agent, optimizer, episodes, replace(GRU, entropy_coefficient=GRU.entropy_coefficient * left))
        if (iteration + 1) % max(1, iterations // 100) == 0:
            run.log(iteration + 1, accuracy=episodes.rewards[STEPS - 1 :: STEPS].mean())

    def accuracy(tasks: tuple[str, ...]) -> float:
        env = twin(tasks, 100, 12 * config.test_lives)
        lived = play(env, TrainedAgent(agent, run.generator), seed=int(run.rng.integers(2**31)))
        return float(lived.rewards[:, STEPS - 1 :: STEPS].mean())

    return {"accuracy": accuracy(training_tasks(config)), "withheld_accuracy": accuracy((config.withheld,))}


def genome_of(net: NodePerturbationRNN) -> Genome:
    """Return a copy of what evolved, for all individuals alike; plasticities are not negative."""
    return Genome(net.weight.detach()[None].clone(), net.alpha.detach()[None].clamp(min=0))


def on_withheld(net: NodePerturbationRNN, config: Config, run: Run, genome: Genome, **options: Any) -> float:
    """Return the share of right answers on the withheld task, in independent lifetimes."""
    task = two_stimulus(config, (config.withheld,))
    block = task.block(config.test_lives, run.generator)
    lives = live(net, task, block, run, genome, shared_noise=False, **options)
    return float(lives.correct[:, -config.scored :].float().mean())


def on_training(net: NodePerturbationRNN, config: Config, run: Run, genome: Genome, **options: Any) -> dict[str, float]:
    """Return what the genome learns of the training tasks, in lifetimes of several sets of perturbations."""
    task = two_stimulus(config, training_tasks(config))
    table = torch.arange(len(task.tasks)).repeat(LIVES_PER_TASK)
    found = []
    for _ in range(NOISE_SETS):
        lives = live(net, task, task.block(len(table), run.generator, table=table), run, genome, **options)
        right = lives.correct.float()
        late, early = right[:, -config.scored :].mean(), right[:, :EARLY].mean()
        found.append([float(late), float(early), float(lives.loss[:, -config.scored :].mean())])
    late, early, loss = np.mean(found, axis=0).tolist()
    return {"accuracy": late, "early_accuracy": early, "loss": loss, "gain": late - early}


def tested(net: NodePerturbationRNN, config: Config, run: Run, newborn: Genome, evolved: Genome) -> dict[str, Any]:
    """Return all that is asked of an evolved genome."""
    result: dict[str, Any] = on_training(net, config, run, evolved)
    result["withheld_accuracy"] = on_withheld(net, config, run, evolved)
    result["newborn_withheld_accuracy"] = on_withheld(net, config, run, newborn)
    result["innate_accuracy"] = on_training(without_plasticity(net), config, run, evolved)["accuracy"]
    if config.controls:
        for name, (changed, genome, options) in controls(net, evolved, run).items():
            result[f"{name}_accuracy"] = on_training(changed, config, run, genome, **options)["accuracy"]
            result[f"{name}_withheld_accuracy"] = on_withheld(changed, config, run, genome, **options)
    if config.decoded_lives:
        result |= decoded(net, config, run, newborn, evolved)
    return result


def without_plasticity(net: NodePerturbationRNN) -> NodePerturbationRNN:
    """Return the same network with the learning rate of its lifetime at zero."""
    other = copy.deepcopy(net)
    other.eta = 0.0
    return other


def controls(
    net: NodePerturbationRNN, evolved: Genome, run: Run
) -> dict[str, tuple[NodePerturbationRNN, Genome, dict[str, Any]]]:
    """Return the evolved genome with one thing taken from it in turn, (a) to (e) and (g) of the protocol."""
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
        "shuffled_trace": (net, evolved, {"order": order}),
    }


def decoded(net: NodePerturbationRNN, config: Config, run: Run, newborn: Genome, evolved: Genome) -> dict[str, Any]:
    """Return how well target and stimuli are decoded across time, before and after evolution and life."""
    task = two_stimulus(config, (config.withheld,))
    timing = task.timing
    block = task.block(config.decoded_lives, run.generator)
    moments = {"before_life": EARLY - 2, "after_life": config.trials - 1}
    response, delay = np.arange(*timing.response), np.arange(timing.stimulus2[1], timing.response[0])
    result: dict[str, Any] = {}
    for born, genome in (("newborn", newborn), ("evolved", evolved)):
        lives = live(net, task, block, run, genome, shared_noise=False, record=tuple(moments.values()))
        for place, (moment, number) in enumerate(moments.items()):
            activity = lives.recorded[:, place, :, FREE].double().numpy()
            labels = {
                "target": block.answer[:, number].numpy(),
                "stimulus1": block.kind[:, number].numpy() // 2,
                "stimulus2": block.kind[:, number].numpy() % 2,
            }
            for name, label in labels.items():
                matrix = cross_temporal_decoding(activity, label)
                key = f"{name}_{born}_{moment}"
                result[f"{key}_response"] = float(matrix[response, response].mean())
                result[f"{key}_delay"] = float(matrix[delay, delay].min())
                if name == "target" or (born, moment) == ("evolved", "after_life"):
                    result[f"{key}_matrix"] = matrix[::2, ::2].round(2).tolist()
    return result


def _claim(part: str, *presets: str, arm: str = "evolved") -> Any:
    """Return what makes the claims of a part of our protocol."""
    return partial(
        Claim,
        source=f"abstract and published code; {part} of our protocol",
        published="no figure read",
        arms=(arm,),
        threshold="laptop",
        presets=presets,
    )


r1, r2, r3 = _claim("R1", "laptop", arm="first-rung"), _claim("R2", "laptop"), _claim("R3", "paper")
r4, r6 = _claim("R4", "laptop", "paper"), _claim("R6", "laptop", "paper")
r5 = _claim("R5, a baseline whose figure is to be reported, the criterion ours", "laptop", "paper", arm="gru")
claims = [
    r1(
        id="first-rung",
        statement="After 250 generations of 100 individuals, networks learn the right constant answer of each task",
        published="learning curves, no figure read",
        metric=value("first-rung", "accuracy"),
        holds=at_least(0.62),
    ),
    r1(
        id="first-rung-loss",
        statement="Their loss on the training tasks says the same",
        published="learning curves, no figure read",
        metric=value("first-rung", "loss"),
        holds=at_most(0.31),
    ),
    r1(
        id="nothing-innate",
        statement="Before the first change of a weight they answer by chance: all of it is learned in life",
        metric=value("first-rung", "early_accuracy"),
        holds=within(0.5, 0.03),
    ),
    r1(
        id="learning-needs-plasticity",
        statement="The same genomes without plasticity stay near chance",
        metric=value("first-rung", "innate_accuracy"),
        holds=at_most(0.55),
    ),
    r1(
        id="plasticity-gain",
        statement="and are worse than with it by 0.08 or more",
        metric=value("first-rung", "accuracy") - value("first-rung", "innate_accuracy"),
        holds=at_least(0.08),
    ),
    r2(
        id="learning-in-life",
        statement="Evolved longer, networks learn the training tasks in their lifetime (accelerated: 48 units, 40 ms)",
        published="learning curves, no figure read",
        metric=value("evolved", "accuracy"),
        holds=at_least(0.75),
    ),
    r2(
        id="within-lifetime-gain",
        statement="and answer better at the end of a life than in its first 31 trials by 0.2 or more",
        metric=value("evolved", "gain"),
        holds=at_least(0.2),
    ),
    r2(
        id="evolution-needs-plasticity",
        statement="Evolution without plasticity in life ends lower by 0.05 or more",
        metric=value("evolved", "accuracy") - value("no-plasticity", "accuracy"),
        holds=at_least(0.05),
        arms=("evolved", "no-plasticity"),
    ),
    r3(
        id="training-tasks",
        statement="With the published settings, networks learn the training tasks in their lifetime",
        published="figure 2, no figure read",
        metric=value("evolved", "accuracy"),
        holds=at_least(0.9),
    ),
    r3(
        id="unseen-task",
        statement="and acquire delayed match-to-sample, a task that evolution has never seen",
        published="acquire a novel cognitive task from stimuli and rewards alone (abstract), figure 2",
        metric=value("evolved", "withheld_accuracy"),
        holds=at_least(0.75),
    ),
    r3(
        id="newborn-fails",
        statement="The genome that evolution began with does not",
        published="figure 2, no figure read",
        metric=value("evolved", "newborn_withheld_accuracy"),
        holds=at_most(0.55),
    ),
    r4(
        id="controls-unseen-task",
        statement="No learning, new weights or a shuffled trace make the unseen task worse by 0.15 or more",
        metric=lambda results: above_controls(results, "withheld_accuracy"),
        holds=at_least(0.15),
        presets=("paper",),
    ),
    r4(
        id="controls-training-tasks",
        statement="No learning, new weights or a shuffled trace make the training tasks worse by 0.15 or more",
        metric=lambda results: above_controls(results, "accuracy"),
        holds=at_least(0.15),
    ),
    r5(
        id="trained-by-gradient",
        statement="A GRU trained by back-propagation on the same twelve tasks learns them in its lifetime",
        metric=value("gru", "accuracy"),
        holds=at_least(0.75),
    ),
    r5(
        id="trained-by-gradient-fails",
        statement="but does not acquire the unseen task, by the criterion of evolved networks",
        metric=value("gru", "withheld_accuracy"),
        holds=at_most(0.75),
    ),
    r6(
        id="target-decoded",
        statement="After evolution and life, the target is decoded from the activity in the response window",
        published="figure 4, no figure read",
        metric=value("evolved", "target_evolved_after_life_response"),
        holds=at_least(0.8),
    ),
    r6(
        id="target-not-decoded-before",
        statement="and not without either of them",
        published="figure 4, no figure read",
        metric=lambda results: max(
            results["evolved"][f"target_{when}_response"]
            for when in ("newborn_before_life", "newborn_after_life", "evolved_before_life")
        ),
        holds=at_most(0.8),
    ),
    r6(
        id="stimulus-held",
        statement="The first stimulus is decoded all through the delay",
        published="figure 4, no figure read",
        metric=value("evolved", "stimulus1_evolved_after_life_delay"),
        holds=at_least(0.8),
    ),
]


def above_controls(results: Any, measure: str) -> float:
    """Return by how much the evolved genome is above the best of the controls (a), (c) and (g)."""
    found = results["evolved"]
    return float(
        found[measure]
        - max(found[f"{control}_{measure}"] for control in ("no_learning", "new_weight", "shuffled_trace"))
    )


MATRICES = {
    "target_newborn_after_life": "target: life, no evolution",
    "target_evolved_before_life": "target: evolution, no life",
    "target_evolved_after_life": "target: evolution and life",
    "stimulus1_evolved_after_life": "stimulus 1: evolution and life",
}


def figure(results: Results) -> go.Figure:
    """Learning curves over generations with the rungs of the ladder, and decoding matrices."""
    plot = make_subplots(
        rows=2,
        cols=4,
        column_widths=[0.3, 0.2, 0.25, 0.25],
        specs=[[{"rowspan": 2, "colspan": 2}, None, {}, {}], [None, None, {}, {}]],
        subplot_titles=["share of right answers by generation", *MATRICES.values()],
        horizontal_spacing=0.06,
        vertical_spacing=0.16,
    )
    for number, arm in enumerate(results.arms):
        for metric, dash in (("accuracy", "solid"), ("withheld_accuracy", "dot")):
            rows = results.metrics.filter((pl.col("arm") == arm) & (pl.col("metric") == metric))
            curve = rows.group_by("step").agg(pl.col("value").mean()).sort("step")
            line = {"color": PALETTE[number % len(PALETTE)], "dash": dash}
            name = arm if metric == "accuracy" else f"{arm}, withheld task"
            plot.add_trace(
                go.Scatter(x=curve["step"].to_list(), y=curve["value"].to_list(), mode="lines", name=name, line=line),
                row=1,
                col=1,
            )
    known = AUTHOR_TABLES if results.config.author_tables else TABLES
    for rung in ladder([known[name] for name in training_tasks(results.config)]):
        plot.add_hline(y=rung.accuracy, line_dash="dot", line_width=1, annotation_text=rung.knows, row=1, col=1)
    step = 2 * results.config.dt
    for place, key in enumerate(MATRICES):
        found = [seed["evolved"].get(f"{key}_matrix") for seed in results.by_seed.values() if "evolved" in seed]
        matrices = [matrix for matrix in found if matrix]
        if matrices:
            mean = np.mean(matrices, axis=0)
            heat = go.Heatmap(z=mean, x0=0, dx=step, y0=0, dy=step, zmin=0.5, zmax=1, showscale=place == 0)
            plot.add_trace(heat, row=1 + place // 2, col=3 + place % 2)
    plot.update_layout(
        title="Learning to learn: evolution of plastic networks, and decoding (train by test time, ms)",
        yaxis={"range": [0.4, 1.02]},
        xaxis={"title": "generation"},
        legend={"orientation": "h", "y": -0.2},
    )
    return plot


def seconds(config: Config) -> float:
    """Time of a trial on one core: that of all steps of all lifetimes, those of the tests included."""
    if config.network == "gru":
        return 2 + config.gru_iterations * 0.055 + config.test_lives * 0.05
    steps = Timing.default(config.dt).steps
    lives = config.generations * config.population + config.generations / TEST_EVERY * config.test_lives
    tests = (1 + 6 * config.controls) * 12 * NOISE_SETS * LIVES_PER_TASK + (2 + 6 * config.controls) * config.test_lives
    lives += tests + 2 * config.decoded_lives + 12 * NOISE_SETS * LIVES_PER_TASK
    each = 60e-9 + 4e-9 * config.units
    return lives * config.trials * steps * each


experiment = Experiment(
    name="evolved-plastic-networks",
    summary="Plastic networks, evolved on some cognitive tasks, learn others in their lifetime from rewards alone",
    paper=PAPER,
    presets={
        "smoke": Preset(
            Config(
                population=4,
                generations=8,
                trials=64,
                scored=4,
                units=12,
                dt=60.0,
                test_lives=4,
                decoded_lives=24,
                rung_generations=4,
                gru_iterations=10,
            ),
            seeds=2,
        ),
        "laptop": Preset(Config(), seeds=3),
        "paper": Preset(
            Config(
                population=500,
                generations=1000,
                trials=400,
                scored=100,
                units=70,
                dt=20.0,
                rung_generations=0,
                gru_iterations=20_000,
                variants=True,
            ),
            seeds=3,
        ),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
)
