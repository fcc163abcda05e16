"""How much each continual learner of the library forgets, in its features and in its readout.

Five tasks are learned one after another: pairs of digits with a head each, or all digits with one head and the pixels
permuted differently in each task. Methods are also compared on pairs of digits with one head for all, and on MNIST and
CIFAR-10. After each task, new linear probes measure what the features still encode; the difference from the accuracy of
the outputs is forgetting in the readout alone. The regularisation strength of a method, and how long a learned update
is trained, if at all, are chosen on other sequences. No paper has this table, so every criterion is ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from sklearn.datasets import load_digits
from torch import Tensor, nn

from engram import references, registry
from engram.analysis import RepresentationReport, representational_forgetting
from engram.continual import ContinualMethod, fisher_diagonal, random_batches, train_on_tasks
from engram.lab import Experiment, Preset, Results, Run, Study, Task, setting, settings
from engram.lab.output.figures import colors
from engram.learned.updates import (
    GatedCoordinateRule,
    MimicryEpisode,
    TaskMemory,
    TeacherMimicTrainer,
    UpdateRule,
    train_teacher,
)
from engram.studies.experiments.continual_learners.claims import claims, quantities
from engram.studies.experiments.continual_learners.learners import (
    CLASSES,
    RATE,
    Net,
    Stage,
    learn_in_order,
    learners,
    method_of,
    new_net,
    stored_bytes,
    strengths_of,
)
from engram.tasks import ClassificationTask, permuted, split
from engram.tasks.data import load

Benchmark = Literal["split", "permuted", "imbalanced", "classes", "permuted-mnist", "split-cifar10"]
BOTH: tuple[Benchmark, ...] = ("split", "permuted")  # the benchmarks that claims are about
SHAPES: dict[Benchmark, tuple[int, int]] = {"permuted-mnist": (28, 28), "split-cifar10": (32, 96)}  # others: (8, 8)
TOO_SLOW = ("learned",)  # by an order of magnitude on images of more than 8 x 8 pixels, so no baseline there
IMAGES, TRAINED, RARE = 1797, 1200, 10  # images; training images; of a rare class one image in ten is kept


@settings
class Config:
    """The settings of a trial."""

    benchmark: Benchmark = setting(
        "permuted",
        "pairs of digits with a head each; the same with few images of one digit; permuted pixels of all digits; pairs "
        "of digits with one head for all; or permuted MNIST or split CIFAR-10",
    )
    learner: str = setting("finetune", "a learner of the library, or any registered continual method")
    tasks: int = setting(5, "tasks in a sequence", ge=2, le=5)
    units: int = setting(64, "units of the first layer of the body", ge=2)
    # With many features, a probe reads almost as much from random ones as from learned ones.
    features: int = setting(16, "units of the second layer of the body, or of the recurrent layer", ge=2)
    train_images: int = setting(600, "training images", ge=100, le=TRAINED)
    steps: int = setting(200, "steps of Adam on a task", ge=1)
    batch_size: int = setting(32, "images in a batch", ge=2)
    sequences: int = setting(3, "sequences of tasks, over which results are averaged", ge=1)
    chosen_by: int = setting(5, "other sequences, on which strengths and learned updates are chosen", ge=1)
    bodies: int = setting(8, "bodies with which the learned update is trained", ge=1)
    meta_updates: int = setting(400, "meta-training steps of the learned update, at most", ge=4)

    def __post_init__(self) -> None:
        if self.learner not in learners() and not references.is_reference(self.learner):
            raise ValueError(f"learner = {self.learner!r}: expected one of {', '.join(learners())}")


def arms() -> dict[str, dict[str, Any]]:
    """The arms of all learners on both benchmarks."""
    return {f"{name}-{learner}": changes_of(learner, name) for name in BOTH for learner in learners()}


def changes_of(learner: str, benchmark: Benchmark) -> dict[str, Any]:
    """The settings of the arm of a learner on a benchmark."""
    return {"benchmark": benchmark, "learner": learner}


presets = {
    "smoke": Preset(
        seeds=1,
        changes={"tasks": 2, "units": 4, "features": 2, "train_images": 200, "steps": 2, "batch_size": 8}
        | {"sequences": 1, "chosen_by": 1, "bodies": 1, "meta_updates": 10},
        arms=[
            *("split-finetune", "split-frozen", "split-ewc", "split-learned", "split-dhp", "split-modulated-rnn"),
            *("permuted-finetune", "permuted-si", "permuted-lwf", "permuted-replay", "permuted-plastic-lstm"),
        ],
    ),
    "laptop": Preset(seeds=10, looks=(5, 10, 20, 40, 80)),
}


@cache
def images_of(benchmark: Benchmark) -> tuple[Tensor, Tensor]:
    """Flat images from 0 to 1 and their classes: 1,797 digits of 8 x 8 pixels, or as many of MNIST or CIFAR-10.

    MNIST images are from its test set; CIFAR-10 images were JPEG-encoded.
    """
    if benchmark not in SHAPES:
        digits = load_digits()
        return torch.from_numpy(digits.data).float() / 16, torch.from_numpy(digits.target)
    is_mnist = benchmark == "permuted-mnist"
    arrays = load("mnist", split="test") if is_mnist else load("cifar10-jpeg", split="train", first=IMAGES)
    images, labels = (torch.from_numpy(array[:IMAGES]) for array in arrays)
    return images.flatten(1).float() / 255, labels.long()


def draw_tasks(config: Config, generator: torch.Generator, *, held_out: bool) -> list[ClassificationTask]:
    """The tasks of a sequence, tested on unseen images if ``held_out``, else on the last quarter of training images.

    Args:
        config: The settings.
        generator: Source of the permutations or of the order of the classes.
        held_out: Whether to test on the unseen images.
    """
    pixels, labels = images_of(config.benchmark)
    last = config.train_images if not held_out else None
    first = config.train_images if held_out else config.train_images * 3 // 4
    begin = TRAINED if held_out else first
    train, test = (pixels[:first], labels[:first]), (pixels[begin:last], labels[begin:last])
    if config.benchmark in ("permuted", "permuted-mnist"):
        return permuted(train, test, config.tasks, generator)
    order = torch.randperm(10, generator=generator).view(5, 2)[: config.tasks].sort().values
    if config.benchmark == "imbalanced":
        train = few_of_some(train, order[:, 0], generator)
    mixed = torch.randperm(pixels.shape[1], generator=generator)  # so that the tasks used for choices differ
    tasks = split((train[0][:, mixed], train[1]), (test[0][:, mixed], test[1]), order.tolist())
    return [task._replace(classes=(*range(CLASSES),)) for task in tasks] if config.benchmark == "classes" else tasks


def few_of_some(data: tuple[Tensor, Tensor], rare: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images and labels, with only a tenth of the images of some classes, at least the first of each.

    Args:
        data: Images and their labels.
        rare: The classes that lose most of their images.
        generator: Draws the images that are kept.
    """
    images, labels = data
    is_kept = torch.rand(len(labels), generator=generator) < 1 / RARE
    is_kept[[int((labels == label).int().argmax()) for label in rare if not is_kept[labels == label].any()]] = True
    is_selected = is_kept | ~torch.isin(labels, rare)
    return images[is_selected], labels[is_selected]


def report_forgetting(config: Config, tasks: list[ClassificationTask], stages: list[Stage]) -> RepresentationReport:
    """The measured forgetting of a network that learned tasks one after another.

    Args:
        config: The settings.
        tasks: The tasks in their order.
        stages: The network before the first task and after each.
    """
    heads: list[Any] = [stage.head for stage in stages[1:]]
    if config.benchmark in ("split", "imbalanced", "split-cifar10"):  # each task has outputs of its own
        heads = [[Outputs(head, task.classes) for task in tasks[: number + 1]] for number, head in enumerate(heads)]
    return representational_forgetting([stage.body for stage in stages], tasks, shots=(None,), heads=heads)


@torch.no_grad()
def accuracy(tasks: list[ClassificationTask], stages: list[Stage]) -> float:
    """The final accuracy of the outputs, among the classes of each task."""
    body, head = (module.eval() for module in stages[-1])
    right = []
    for task in tasks:
        predictions = head(body(task.test.inputs))[:, list(task.classes)].argmax(1)
        right.append(float((torch.tensor(task.classes)[predictions] == task.test.labels).float().mean()))
    return float(np.mean(right))


class Outputs(nn.Module):
    """Some of the outputs of a head."""

    def __init__(self, head: nn.Module, classes: tuple[int, ...]) -> None:
        super().__init__()
        self.head, self.classes = head, list(classes)

    def forward(self, features: Tensor) -> Tensor:
        """The logits of the chosen classes."""
        return self.head(features)[:, self.classes]  # type: ignore[no-any-return]


def measure(report: RepresentationReport) -> dict[str, float]:
    """Means over old tasks, and the accuracy on the last task."""
    probed, old = report.probed(), slice(0, -1)
    columns = {
        "accuracy": report.output[-1],
        "output_old": report.output[-1, old],
        "output_new": report.output[-1, -1],
        "probe_old": probed[-1, old],
        "probe_new": probed[-1, -1],
        "probe_random": probed[0, old],
        "output_forgetting": report.forgetting("output"),
        "representational_forgetting": report.forgetting(),
        "relative_forgetting": report.relative(),
        "drift": report.drift,
    }
    return {name: float(np.nanmean(value)) for name, value in columns.items() if np.isfinite(value).any()}


def new_episode(config: Config, generator: torch.Generator) -> tuple[Net, MimicryEpisode]:
    """A pair of tasks with different pixel permutations, for training the learned update."""
    first, second = draw_tasks(config, generator, held_out=False)[:2]
    shape = SHAPES.get(config.benchmark, (8, 8))
    net = new_net("finetune", config.units, config.features, generator, shape)
    options: dict[str, Any] = {"steps": config.steps, "batch_size": config.batch_size, "generator": generator}
    learn_in_order(net, [first], ContinualMethod(net), **options)
    importance = fisher_diagonal(net, [tuple(first.train)], fisher="sample", classes=first.classes, generator=generator)
    start = {name: parameter.detach() for name, parameter in net.body.named_parameters()}
    memory = {name: TaskMemory(weight, importance[f"body.{name}"]) for name, weight in start.items()}
    pairs = [(task.train.inputs, _from_zero(task)) for task in (first, second)]
    heads = [
        new_net("finetune", config.units, config.features, generator, shape).head for _ in pairs
    ]  # only the first outputs are used
    teacher = train_teacher(net.body, heads, pairs, **options)
    probes = first.test.inputs, second.test.inputs
    with torch.no_grad():
        targets = tuple(teacher(images) for images in probes)
    return net, MimicryEpisode(start, memory, *pairs[1], probes, targets)


def _from_zero(task: ClassificationTask) -> Tensor:
    return torch.searchsorted(torch.tensor(task.classes), task.train.labels)


def train_rules(config: Config, run: Run) -> dict[float, UpdateRule]:
    """Update rules trained to mimic teachers of two tasks, by their number of meta-training steps (from 0 on)."""
    episodes = [new_episode(config, run.generator) for _ in range(config.bodies)]
    body = episodes[0][0].body
    rule = GatedCoordinateRule(len(list(body.parameters())), generator=run.generator)
    options: dict[str, Any] = {"lr": RATE, "head_lr": RATE, "batch_size": config.batch_size, "generator": run.generator}
    options["lengths"] = max(1, config.steps // 2), max(1, config.steps * 3 // 2)  # around the steps of students
    trainer = TeacherMimicTrainer(body, rule, [episode for _, episode in episodes], **options)
    marks = [config.meta_updates * quarter // 4 for quarter in range(5)]
    rules = nn.ModuleList(copy.deepcopy(rule) for _ in marks)
    for step in run.steps(config.meta_updates, trainer=trainer, rules=rules):
        run.log(step + 1, every=max(1, config.meta_updates // 50), distance=trainer.step())
        if step + 1 in marks:
            rules[marks.index(step + 1)].load_state_dict(rule.state_dict())
    return dict(zip(map(float, marks), rules, strict=True))  # type: ignore[arg-type]


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train a learner on task after task, at the strength that does best on other sequences, and measure forgetting."""
    seed = 1000 * int(torch.randint(10**6, (), generator=run.generator))

    def teach(
        number: int, strength: float, rule: UpdateRule | None, *, held_out: bool
    ) -> tuple[list[ClassificationTask], list[Stage], ContinualMethod]:
        generator = torch.Generator().manual_seed(seed + number)  # the same tasks and initial weights for all learners
        tasks, shape = draw_tasks(config, generator, held_out=held_out), SHAPES.get(config.benchmark, (8, 8))
        net = new_net(config.learner, config.units, config.features, generator, shape)
        options: dict[str, Any] = {"steps": config.steps, "batch_size": config.batch_size, "generator": generator}
        method = method_of(config.learner, net, strength, rule, generator)
        return tasks, learn_in_order(net, tasks, method, **options), method

    def score(strength: float = 0.0, rule: UpdateRule | None = None) -> float:
        others = (teach(999 - number, strength, rule, held_out=False) for number in range(config.chosen_by))
        return float(np.mean([accuracy(tasks, stages) for tasks, stages, _ in others]))

    strength, rule = 0.0, None
    if strengths := strengths_of(config.learner):
        strength = run.choose("strength", strengths, score)
    if config.learner == "learned":
        rules = train_rules(config, run)
        bounds = 0.0, float(config.meta_updates)
        rule = rules[run.choose("updates", list(rules), lambda number: score(rule=rules[number]), bounds=bounds)]
        run.keep(rule=rule)
    for step in run.steps(config.sequences):
        tasks, stages, method = teach(step, strength, rule, held_out=True)
        report = report_forgetting(config, tasks, stages)
        for stage in range(1, config.tasks + 1):
            accuracies = {"outputs": report.output[stage, :stage], "probes": report.probed()[stage, :stage]}
            run.log(config.tasks * step + stage, **{name: float(values.mean()) for name, values in accuracies.items()})
        of_sequence = {**measure(report), "kib": stored_bytes(method) / 1024}
        run.log(step + 1, **{f"of_{name}": value for name, value in of_sequence.items()})
    names = sorted(set(run.metrics()["metric"]) - {"distance", "outputs", "probes"})
    return {name.removeprefix("of_"): run.ends(name, parts=1)[0] for name in names} | {"strength": strength}


def step_of(config: Config) -> Callable[[], object]:
    """A function to be timed, which makes a training step on a second task."""
    generator = torch.Generator().manual_seed(0)
    tasks = draw_tasks(config, generator, held_out=False)[:2]
    net = new_net(config.learner, config.units, config.features, generator, SHAPES.get(config.benchmark, (8, 8)))
    rule = GatedCoordinateRule(len(list(net.body.parameters())), generator=generator)
    method = method_of(config.learner, net, 1.0, rule, generator)
    adam, draw = torch.optim.Adam(net.parameters(), RATE, fused=True), random_batches(config.batch_size, generator)
    training = train_on_tasks(net, tasks, method, adam, steps=(2, 10**6), draw=draw, labelled=True)
    for _ in range(2):
        next(training)
    return partial(next, training)


TASKS: dict[Benchmark, tuple[str, float]] = {  # what has to be learned, and what guessing reaches
    "split": ("split digits", 0.5),
    "permuted": ("permuted digits", 0.1),
    "imbalanced": ("imbalanced digits", 0.5),
    "classes": ("digits, class by class", 0.1),
    "permuted-mnist": ("permuted MNIST", 0.1),
    "split-cifar10": ("split CIFAR-10", 0.5),
}
tasks = [
    Task(
        "continual_methods",
        title,
        f"{benchmark}-{{}}".format,
        partial(changes_of, benchmark=benchmark),
        "accuracy",
        curve="outputs",
        goal=None,
        baselines=[
            name for name in registry.names("continual_methods") if benchmark not in SHAPES or name not in TOO_SLOW
        ],
        chance=chance,
        trivial="finetune",
        costs={
            "accuracy on the last task": "output_new",
            "lost by outputs": "output_forgetting",
            "lost by features": "representational_forgetting",
            "KiB stored": "kib",
        },
        step=step_of,
        check_requirements=partial(images_of, benchmark),
    )
    for benchmark, (title, chance) in TASKS.items()
]


def figure(results: Results) -> go.Figure:
    """The forgetting of each learner, split into the loss in the features and in the readout alone."""
    plot = make_subplots(1, 2, shared_yaxes=True, subplot_titles=[f"{name} digits" for name in BOTH])
    forgetting_kinds = {"features lost": "representational_forgetting", "read-out alone": "output_forgetting"}
    for column, name in enumerate(BOTH, 1):
        shown_learners = [learner for learner in learners() if f"{name}-{learner}" in results.arms]
        losses = {
            part: np.array([np.mean(results.values(f"{name}-{learner}", key)) for learner in shown_learners])
            for part, key in forgetting_kinds.items()
        }
        losses["read-out alone"] = losses["read-out alone"] - losses["features lost"]
        for part, color in colors(forgetting_kinds).items():
            style = {"name": part, "legendgroup": part, "showlegend": column == 1, "marker_color": color}
            plot.add_bar(y=shown_learners, x=losses[part], orientation="h", **style, row=1, col=column)
    plot.update_xaxes(title="accuracy lost on old tasks")
    return plot.update_layout(title="Forgetting in the features and in the readout", barmode="relative")


experiment = Experiment(
    name="continual-learners",
    about=__doc__,
    paper="No paper; the instrument after Xiong, Ren & Urtasun, 2019 (arXiv 1910.04650)",
    studies=Study(trial, arms),
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=figure,
    headline="probes",
    check_requirements=lambda config: images_of(config.benchmark),
    tasks=tasks,
    answer="""Features outlast outputs: on split digits {split-features-outlast-outputs} and on permuted ones
    {permuted-features-outlast-outputs} probes recover far more of the old tasks than the old heads do; plain training
    loses only a third of what learning a task had added to the features {what-was-learned-is-lost}. Of the outputs on
    permuted digits EWC keeps {ewc-outputs:0 %} more, its online form {online-ewc-outputs:0 %}, synaptic intelligence
    {si-outputs:0 %}, MAS {mas-outputs:0 %}, learning without forgetting {lwf-outputs:0 %} and replay of 100 images
    {replay-outputs:0 %}; features gain little, 3 % with replay {replay-keeps-features} and 1 to 2 % with synaptic
    intelligence {si-keeps-features}, MAS {mas-keeps-features}, online EWC {online-ewc-keeps-features} and learning
    without forgetting {lwf-keeps-features}, but less with EWC {ewc-keeps-features}. EWC {ewc-learns-new}, online EWC
    {online-ewc-learns-new}, synaptic intelligence {si-learns-new} and MAS {mas-learns-new} lose 12 to 25 % of accuracy
    on new tasks for it; replay {replay-learns-new} and learning without forgetting {lwf-learns-new} lose hardly any.
    The learned update, which validation prefers untrained in 15 of 20 seeds, keeps fewer features than plain training
    {learned-keeps-features}; about half of the 2 % that it lacks are due to the Adam that it modifies, whose moments
    begin anew with each task {resets-lose-features}, than which it keeps no more {learned-keeps-features-over-adam},
    while the plastic recurrent network {plastic-rnn-keeps-features} keeps fewer than its control. So replay some old
    examples if they may be stored; if not, learning without forgetting keeps a little at hardly any cost, and a penalty
    keeps more of the outputs but learns new tasks less well.""",
)
