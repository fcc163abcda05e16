"""Pairs of tasks learned in sequence by one method, with measurements of forgetting."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from engram.analysis import LinearProbe, ProbedTask, extract, linear_cka, nmse, representational_forgetting
from engram.lab import Run, setting, settings
from engram.learned.updates import (
    AdamRule,
    GatedCoordinateRule,
    LearnedUpdate,
    MimicryEpisode,
    TaskMemory,
    TeacherMimicTrainer,
    UpdateRule,
    train_teacher,
)
from engram.studies.experiments.representational_forgetting.characters import (
    GLYPHS,
    Alphabet,
    Characters,
    Role,
    alphabets,
    draw_tasks,
)
from engram.studies.experiments.representational_forgetting.students import (
    FIRST_RATE,
    Method,
    Past,
    Schedule,
    Setting,
    Student,
    first_task,
    importance,
    learn,
    network,
    new_body,
    new_head,
    next_task,
)

STRENGTHS: dict[Method, tuple[float, ...]] = {
    "l2": (1e-3, 1e-2, 1e-1, 1.0, 10.0),
    "ewc": (1.0, 10.0, 1e2, 1e3, 1e4, 1e5),
    "lwf": (0.1, 1.0, 10.0),
    "feature-lwf": (0.1, 1.0, 10.0),
}
RATES = (3e-4, 1e-3, 3e-3)
LONG, LONGER_FROM = 5, 500  # tasks in a long sequence, and the first of their seeds


@settings
class Config:
    """The settings of a trial."""

    method: Method = setting("finetune", "the method for learning the second task")
    # The ablations have no residual, no memory of old tasks, or only a learning rate for each layer.
    learned_rule: Literal["gated", "gate-only", "no-memory", "rates"] = setting(
        "gated", "the learned update, or an ablation of it"
    )
    # Omniglot's small sets have 3 alphabets for training, 2 for validation and 3 for tests; glyphs need no download.
    characters: Characters = setting("omniglot-small", "Omniglot's small sets, all of it, or synthetic characters")
    rotations: bool = setting(True, "whether alphabets for meta-training come in four orientations")
    single_head: bool = setting(False, "whether one head has the classes of both tasks; otherwise the task is known")
    size: int = setting(28, "side of the images in pixels", ge=8, le=105)
    channels: int = setting(16, "channels of the convolutions", ge=1)
    units: int = setting(64, "features", ge=1)
    ways: int = setting(10, "characters per task", ge=2)
    pairs: int = setting(30, "test pairs of tasks", ge=1)
    chosen_by: int = setting(5, "validation pairs, from other alphabets, for choosing rates and strengths", ge=1)
    judged_by: int = setting(10, "validation pairs for evaluating a learned update during its training", ge=1)
    sequences: int = setting(0, "test sequences of five tasks", ge=0)
    teachers: bool = setting(False, "whether students are compared with a teacher of both tasks")
    draws: int = setting(3, "draws of the few examples for a probe", ge=1)
    first_steps: int = setting(150, "steps on the first task", ge=1)
    steps: int = setting(100, "steps on each further task", ge=1)
    teacher_steps: int = setting(200, "steps of a teacher on both tasks", ge=1)
    batch_size: int = setting(32, "images in a batch", ge=2)
    replayed: int = setting(1, "old images of each class that replay keeps", ge=1)
    bodies: int = setting(
        24, "bodies for meta-training, each trained on a first task and used with two second tasks", ge=1
    )
    meta_updates: int = setting(400, "meta-training steps of the learned update, each on an unroll of ten steps", ge=1)
    judgements: int = setting(8, "validations in meta-training; the best update is kept", ge=1)
    every: int = setting(8, "one in so many weights is used for the gradient of the learned update", ge=1)
    students: int = setting(4, "parallel students in meta-training", ge=1)

    def __post_init__(self) -> None:
        if self.characters == "glyphs" and self.ways > GLYPHS:
            raise ValueError(f"ways = {self.ways}: expected at most {GLYPHS}, the characters in an alphabet of glyphs")


class Start(NamedTuple):
    """A body trained on the first of some tasks, untrained heads for the others, and the seed for what follows."""

    tasks: list[ProbedTask]
    untrained: nn.Module
    first: Student
    heads: list[nn.Linear]
    importance: dict[str, Tensor]
    seed: int


class Scenery(NamedTuple):
    """The part of a config on which starts depend, apart from their seeds, so that arms can share them."""

    characters: Characters
    rotations: bool
    size: int
    channels: int
    units: int
    ways: int
    single_head: bool
    first_steps: int
    teacher_steps: int
    batch_size: int
    glyphs: int

    @classmethod
    def of(cls, config: Config, glyphs: int) -> Scenery:
        """The scenery of a trial, with the seed of its synthetic characters."""
        return cls(**{name: getattr(config, name) for name in cls._fields[:-1]}, glyphs=glyphs)

    @property
    def pools(self) -> dict[Role, list[Alphabet]]:
        """The alphabets of each role."""
        return _pools(self.characters, self.size, self.rotations, self.glyphs)


@lru_cache(maxsize=2)
def _pools(characters: Characters, size: int, rotations: bool, glyphs: int) -> dict[Role, list[Alphabet]]:
    return alphabets(characters, size, rotations, torch.Generator().manual_seed(glyphs))


def draw_start(scenery: Scenery, role: Role, tasks: int, seed: int) -> Start:
    """The start for a seed, the same for all methods, for a fair comparison.

    Args:
        scenery: The part of the settings on which starts depend, with the pools of characters.
        role: The pool from which the tasks are drawn.
        tasks: Number of tasks.
        seed: The seed.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn_tasks = draw_tasks(scenery.pools[role], scenery.ways, tasks, generator)
    return Start(drawn_tasks, *_train_on_first(scenery, role, tasks, seed), seed)


@lru_cache(maxsize=1024)  # half a megabyte each, shared by arms in one process
def _train_on_first(
    scenery: Scenery, role: Role, tasks: int, seed: int
) -> tuple[nn.Module, Student, list[nn.Linear], dict[str, Tensor]]:
    """The untrained body, the student after the first task, heads for the others, and the first task's importance."""
    generator = torch.Generator().manual_seed(seed)
    drawn_tasks = draw_tasks(scenery.pools[role], scenery.ways, tasks, generator)
    body = new_body(scenery.channels, scenery.size, scenery.units, generator)
    classes = tasks * scenery.ways if scenery.single_head else scenery.ways
    heads = [new_head(scenery.units, classes, generator) for _ in drawn_tasks]
    first = first_task(drawn_tasks[0], body, heads[0], Schedule(scenery.first_steps, scenery.batch_size, generator))
    return body, first, heads[1:], importance(first, drawn_tasks[0], generator)


@lru_cache(maxsize=1024)
def teacher_of(scenery: Scenery, role: Role, seed: int, tasks: int = 2, second: int = 1) -> nn.Module:
    """The teacher of the first task of a start and of the one with index ``second``.

    Args:
        scenery: The part of the settings on which starts depend, with the pools of characters.
        role: The pool from which the tasks are drawn.
        seed: Seed of the start.
        tasks: Number of tasks of the start.
        second: Index of the other task that the teacher learns.
    """
    start = draw_start(scenery, role, tasks, seed)
    heads, train_sets = (
        [start.first.heads[0], start.heads[second - 1]],
        [start.tasks[0].train, start.tasks[second].train],
    )
    generator = torch.Generator().manual_seed(seed + second)
    options: dict[str, Any] = {"steps": scenery.teacher_steps, "batch_size": scenery.batch_size}
    return train_teacher(start.first.body, heads, train_sets, generator=generator, **options)


def stages(config: Config, start: Start, setting: Setting, rule: UpdateRule | None) -> list[Student]:
    """The student of a start after each of its tasks, learned with hyperparameters ``setting`` or an update rule.

    Args:
        config: The settings.
        start: The tasks, and the student after the first.
        setting: The hyperparameters.
        rule: The trained rule of the learned update; None for other methods.
    """
    generator = torch.Generator().manual_seed(start.seed)
    students, importances = [start.first], start.importance
    for number, task in enumerate(start.tasks[1:], 1):
        past = Past(students[-1], start.tasks[number - 1], importances)
        student = next_task(
            config.method,
            setting,
            past,
            task,
            None if config.single_head else start.heads[number - 1],
            schedule=Schedule(config.steps, config.batch_size, generator),
            first_class=number * config.ways if config.single_head else 0,
            rule=rule,
            shots=config.replayed,
        )
        added = importance(student, task, generator) if number + 1 < len(start.tasks) else importances
        importances = {name: value + added[name] for name, value in importances.items()}
        students.append(student)
    return students


def measure(config: Config, start: Start, students: list[Student], teacher: nn.Module | None) -> dict[str, float]:
    """The measurements on a start with two tasks; NaN if a measure is not defined.

    Args:
        config: The settings.
        start: The start.
        students: The student after each task.
        teacher: A teacher of both tasks, for comparison.
    """
    old, new = start.tasks
    tasks, first, last = start.tasks, students[0], students[-1]
    if config.single_head:
        shifted = [(images, labels + config.ways) for images, labels in new]
        tasks = [old, ProbedTask(*shifted)]
    report = representational_forgetting(
        [start.untrained, *(student.body for student in students)],
        tasks,
        shots=(1, 5, None) if config.single_head else (None,),
        draws=config.draws,
        heads=[student.heads[-1] if config.single_head else student.heads for student in students],
        teacher=None if teacher is None else [first.body, teacher],
    )
    probed = report.probed()
    measures = {
        "output_old_before": report.output[1, 0],
        "output_old": report.output[2, 0],
        "output_new": report.output[2, 1],
        "probe_old_random": probed[0, 0],
        "probe_old_before": probed[1, 0],
        "probe_old": probed[2, 0],
        "probe_new": probed[2, 1],
        "balance": probed[2].mean(),
        "output_forgetting": report.forgetting("output")[0],
        "representational_forgetting": report.forgetting()[0],
        "stale_share": report.stale_share()[0],
        "relative_forgetting": report.relative()[0],
        "drift": report.drift[0],
    }
    if config.single_head:
        few_shot = {"one": report.probed(1), "five": report.probed(5)}
        measures |= {f"{name}_old_random": accuracy[0, 0] for name, accuracy in few_shot.items()}
        measures |= {f"{name}_old_before": accuracy[1, 0] for name, accuracy in few_shot.items()}
        measures |= {f"{name}_old": accuracy[2, 0] for name, accuracy in few_shot.items()}
    if teacher is not None:
        pairs = [(extract(last.body, task.test[0]), extract(teacher, task.test[0])) for task in start.tasks]
        measures["mimicry"] = mimicry(start, last, teacher)
        measures["teacher_cka"] = np.mean([linear_cka(student.numpy(), target.numpy()) for student, target in pairs])
        measures |= {"teacher_gap_old": report.teacher_gap()[2, 0], "teacher_gap_new": report.teacher_gap()[2, 1]}
    return {name: float(value) for name, value in measures.items()}


@torch.no_grad()
def mimicry(start: Start, student: Student, teacher: nn.Module) -> float:
    """The distance between a student's and a teacher's activity over both tasks, the loss of a learned update.

    Args:
        start: The start, whose test images are used.
        student: The student.
        teacher: The body of the teacher.
    """
    return sum(float(nmse(student.body(task.test[0]), teacher(task.test[0]))) for task in start.tasks)


def balance(config: Config, starts: Iterable[Start], setting: Setting) -> float:
    """The mean probe accuracy over both tasks and all starts, by which hyperparameters are chosen.

    Args:
        config: The settings.
        starts: The starts.
        setting: The hyperparameters.
    """
    shares = []
    for start in starts:
        body = stages(config, start, setting, None)[-1].body
        for (x, y), (test_x, test_y) in start.tasks:
            probe = LinearProbe().fit(extract(body, x).numpy(), y.numpy())
            shares.append(probe.score(extract(body, test_x).numpy(), test_y.numpy()))
    return float(np.mean(shares))


def choose(config: Config, run: Run, validation: list[Start]) -> Setting:
    """The best strength at the default rate, and the best rate at this strength.

    Args:
        config: The settings.
        run: The run.
        validation: The starts by which hyperparameters are chosen; if there are none, the defaults are used.
    """
    setting = Setting()
    fields: dict[str, tuple[float, ...]] = {"strength": STRENGTHS.get(config.method, ()), "rate": RATES}
    for field, values in fields.items() if validation else ():
        if values:
            score = partial(_score, config, validation, setting, field)
            setting = setting._replace(**{field: run.choose(field, values, score)})
    return setting


def _score(config: Config, validation: list[Start], setting: Setting, field: str, value: float) -> float:
    return balance(config, validation, setting._replace(**{field: value}))


def meta_trained(config: Config, run: Run, scenery: Scenery, seed: int) -> UpdateRule:
    """The update rule trained on pairs from other alphabets, at its best validation.

    Validation measures the training loss after students have learned unseen pairs.

    Args:
        config: The settings.
        run: The run.
        scenery: The part of the settings on which starts depend, with the pools of characters.
        seed: The first of the seeds of starts.
    """
    body = new_body(config.channels, config.size, config.units, run.generator)
    tensors = len(list(body.parameters()))
    rule: UpdateRule = AdamRule(tensors)
    if config.learned_rule != "rates":
        options = {"residual": config.learned_rule != "gate-only", "remembers": config.learned_rule != "no-memory"}
        rule = GatedCoordinateRule(tensors, generator=run.generator, **options)
    training_episodes = [episode for n in range(config.bodies) for episode in episodes(scenery, seed + 2000 + n)]
    trainer = TeacherMimicTrainer(
        body,
        rule,
        training_episodes,
        students=config.students,
        batch_size=config.batch_size,
        every=config.every,
        generator=run.generator,
    )
    best: UpdateRule = copy.deepcopy(rule)
    best_loss = np.full(1, math.inf)
    judging_interval = max(1, config.meta_updates // config.judgements)
    for step in run.steps(config.meta_updates, trainer=trainer, rule=best, nearest=best_loss):
        run.log(step + 1, every=max(1, config.meta_updates // 50), distance=trainer.step())
        if (step + 1) % judging_interval == 0:
            loss = validate(config, scenery, rule, seed + 1000)
            run.log(step + 1, validation=loss)
            if loss < best_loss[0]:
                best_loss[0] = loss
                best.load_state_dict(rule.state_dict())
    return best


def validate(config: Config, scenery: Scenery, rule: UpdateRule, seed: int) -> float:
    """The mean distance between students and their teachers at the end of validation pairs.

    Args:
        config: The settings.
        scenery: The part of the settings on which starts depend, with the pools of characters.
        rule: The update rule.
        seed: Seed of the first pair; each further pair has the next seed.
    """
    losses = []
    for number in range(config.judged_by):
        start = draw_start(scenery, "validation", 2, seed + number)
        student = stages(config, start, Setting(), rule)[-1]
        losses.append(mimicry(start, student, teacher_of(scenery, "validation", seed + number)))
    return float(np.mean(losses))


def episodes(scenery: Scenery, seed: int) -> Iterator[MimicryEpisode]:
    """Yield the episodes of a body trained on the first task, one for each of two second tasks."""
    start = draw_start(scenery, "train", 3, seed)
    weights = {name: p.detach() for name, p in start.first.body.named_parameters()}
    memory = {name: TaskMemory(weights[name], value) for name, value in start.importance.items()}
    for second in (1, 2):
        task, teacher = start.tasks[second], teacher_of(scenery, "train", seed, 3, second)
        probes = start.tasks[0].test[0], task.test[0]
        with torch.no_grad():
            targets = tuple(teacher(images) for images in probes)
        yield MimicryEpisode(weights, memory, *task.train, probes, targets)


def gap_to_adam(start: Start, batch_size: int) -> float:
    """The gap between weights after twenty steps of an untrained rule and of Adam, relative to the largest weight."""
    rule = GatedCoordinateRule(generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(list(rule.network.parameters())[-2])
    parameters = []
    for is_learned in (True, False):
        student = Student(copy.deepcopy(start.first.body), [copy.deepcopy(start.heads[0])])
        params = list(student.body.parameters())
        method = LearnedUpdate(network(student), FIRST_RATE, rule=rule, head="1") if is_learned else None
        schedule = Schedule(20, batch_size, torch.Generator().manual_seed(start.seed))
        learn(student, start.tasks[1], schedule, body={"lr": FIRST_RATE, "betas": (0.9, 0.99)}, method=method)
        parameters.append(params)
    pairs = [(ours.detach(), adam.detach()) for ours, adam in zip(*parameters, strict=True)]
    return max(float((ours - adam).abs().max() / adam.abs().max()) for ours, adam in pairs)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Learn pairs of tasks by one method; the results are means of the measurements over pairs."""
    seed = 10_000 * int(torch.randint(10**6, (), generator=run.generator))
    scenery = Scenery.of(config, seed)
    is_learned = config.method == "learned"
    chooses = not config.single_head and not is_learned and config.method != "frozen"
    needed: dict[Role, int] = {"test": LONG if config.sequences else 2}
    needed |= {"validation": 2} if chooses or is_learned else {}
    needed |= {"train": 3} if is_learned else {}
    for role, tasks in needed.items():  # too few characters are told before anything is trained
        draw_tasks(scenery.pools[role], config.ways, tasks, torch.Generator())
    validation = [draw_start(scenery, "validation", 2, seed + 1000 + n) for n in range(config.chosen_by * chooses)]
    rule = meta_trained(config, run, scenery, seed) if is_learned else None
    if rule is not None:
        run.keep(rule=rule)
    setting = choose(config, run, validation)
    for step in run.steps(config.pairs):
        start = draw_start(scenery, "test", 2, seed + step)
        teacher = teacher_of(scenery, "test", seed + step) if config.teachers else None
        row = measure(config, start, stages(config, start, setting, rule), teacher)
        run.log(step + 1, **{name: value for name, value in row.items() if math.isfinite(value)})
    for step in run.steps(config.sequences):
        start = draw_start(scenery, "test", LONG, seed + LONGER_FROM + step)
        bodies = [start.untrained, *(student.body for student in stages(config, start, setting, rule))]
        report = representational_forgetting(bodies, start.tasks, shots=(None,))
        run.log(step + 1, sequence_old=report.probed()[-1, :-1].mean())
    logged = set(run.metrics()["metric"]) - {"distance", "validation"}
    result: dict[str, Any] = {name: run.ends(name, parts=1)[0] for name in sorted(logged)}
    result |= {"rate": setting.rate, "strength": setting.strength}
    if is_learned:
        # The last one of the loops, drawn again, since a resumed trial may have had no step left.
        tasks, number = (LONG, LONGER_FROM + config.sequences) if config.sequences else (2, config.pairs)
        start = draw_start(scenery, "test", tasks, seed + number - 1)
        result |= {"mimicry_in_training": run.ends("distance")[1], "gap_to_adam": gap_to_adam(start, config.batch_size)}
    return result
