"""What becomes of pairs of tasks, learned one after the other by one method, under the instrument."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from engram.analysis import ProbedTask, extract, linear_cka, nmse, representational_forgetting
from engram.experiments.representational_forgetting.characters import Alphabet, Characters, alphabets, draw_tasks
from engram.experiments.representational_forgetting.students import (
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
from engram.lab import Run
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

STRENGTHS: dict[Method, tuple[float, ...]] = {
    "l2": (1e-3, 1e-2, 1e-1, 1.0, 10.0),
    "ewc": (1.0, 10.0, 1e2, 1e3, 1e4, 1e5),
    "lwf": (0.1, 1.0, 10.0),
    "feature-lwf": (0.1, 1.0, 10.0),
}
RATES = (3e-4, 1e-3, 3e-3)


@dataclass(frozen=True)
class Training:
    """What one trial is made of."""

    method: Method = "finetune"
    """How the second task is learned."""
    learned_rule: Literal["gated", "gate-only", "no-memory", "rates"] = "gated"
    """Of the learned update: the whole rule; without its residual; without what old tasks left; or a rate a layer."""
    characters: Characters = "omniglot-small"
    """Omniglot's small sets, where 3 alphabets are for training, 2 for choices and 3 for tests; all of it; or
    synthetic characters, which need no download."""
    rotations: bool = True
    """Whether alphabets to meta-train with are there in four orientations, as the small sets have few."""
    single_head: bool = False
    """Whether one head has the classes of both tasks; else each has a head, and the task is known."""
    size: Annotated[int, Ge(8), Le(105)] = 28
    """Side of the images, in pixels."""
    channels: Annotated[int, Ge(1)] = 16
    """Channels of the convolutions."""
    units: Annotated[int, Ge(1)] = 64
    """Features."""
    ways: Annotated[int, Ge(2)] = 10
    """Characters of a task."""
    pairs: Annotated[int, Ge(1)] = 6
    """Pairs of tasks of the test."""
    chosen_by: Annotated[int, Ge(1)] = 2
    """Pairs of tasks, of other alphabets, by which rates and strengths are chosen."""
    sequences: Annotated[int, Ge(0)] = 0
    """Sequences of five tasks of the test."""
    teachers: bool = False
    """Whether students are compared with a teacher of both tasks."""
    draws: Annotated[int, Ge(1)] = 3
    """How often the few examples of a probe are drawn."""
    first_steps: Annotated[int, Ge(1)] = 150
    """Steps on the first task."""
    steps: Annotated[int, Ge(1)] = 100
    """Steps on each further one."""
    teacher_steps: Annotated[int, Ge(1)] = 200
    """Steps of a teacher on both."""
    batch_size: Annotated[int, Ge(2)] = 32
    """Images in a batch."""
    replayed: Annotated[int, Ge(1)] = 1
    """Old images of each class that replay keeps."""
    bodies: Annotated[int, Ge(1)] = 8
    """Bodies to meta-train with that learned a first task; each has two second ones."""
    meta_updates: Annotated[int, Ge(1)] = 400
    """Changes of the learned update, each after an unroll of ten steps."""
    students: Annotated[int, Ge(1)] = 4
    """Students that are alive at once in meta-training."""


class Scene(NamedTuple):
    """A body that learned the first of some tasks, untrained heads of the others, and seeds of what follows."""

    tasks: list[ProbedTask]
    untrained: nn.Module
    first: Student
    heads: list[nn.Linear]
    importance: dict[str, Tensor]
    seed: int


def scene(config: Training, pool: list[Alphabet], tasks: int, seed: int) -> Scene:
    """Return the scene of a seed, the same whatever the method, so that methods are compared on equal terms."""
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_tasks(pool, config.ways, tasks, generator)
    body = new_body(config.channels, config.size, config.units, generator)
    classes = tasks * config.ways if config.single_head else config.ways
    heads = [new_head(config.units, classes, generator) for _ in drawn]
    first = first_task(drawn[0], body, heads[0], Schedule(config.first_steps, config.batch_size, generator))
    return Scene(drawn, body, first, heads[1:], importance(first, drawn[0], generator), seed)


def stages(config: Training, one: Scene, setting: Setting, rule: UpdateRule | None) -> list[Student]:
    """Return the student of a scene after each of its tasks."""
    generator = torch.Generator().manual_seed(one.seed)
    found, held = [one.first], one.importance
    for number, task in enumerate(one.tasks[1:], 1):
        past = Past(found[-1], one.tasks[number - 1], held)
        student = next_task(
            config.method,
            setting,
            past,
            task,
            None if config.single_head else one.heads[number - 1],
            schedule=Schedule(config.steps, config.batch_size, generator),
            first_class=number * config.ways if config.single_head else 0,
            rule=rule,
            shots=config.replayed,
        )
        new = importance(student, task, generator) if number + 1 < len(one.tasks) else held
        held = {name: value + new[name] for name, value in held.items()}
        found.append(student)
    return found


def measured(config: Training, one: Scene, students: list[Student], *, teachers: bool = False) -> dict[str, float]:
    """Return what the instrument says of a scene of two tasks; NaN where a measure is not defined."""
    old, new = one.tasks
    tasks, first, last = one.tasks, students[0], students[-1]
    if config.single_head:
        shifted = [(images, labels + config.ways) for images, labels in new]
        tasks = [old, ProbedTask(*shifted)]
    teacher = None
    if teachers:
        heads = [first.heads[0], one.heads[0]]
        generator = torch.Generator().manual_seed(one.seed)
        options: dict[str, Any] = {"steps": config.teacher_steps, "batch_size": config.batch_size}
        teacher = train_teacher(first.body, heads, [old.train, new.train], generator=generator, **options)
    report = representational_forgetting(
        [one.untrained, *(student.body for student in students)],
        tasks,
        shots=(1, 5, None) if config.single_head else (None,),
        draws=config.draws,
        heads=[student.heads[-1] if config.single_head else student.heads for student in students],
        teacher=None if teacher is None else [first.body, teacher],
    )
    probed = report.probed()
    found = {
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
        few = {"one": report.probed(1), "five": report.probed(5)}
        found |= {f"{name}_old_before": of[1, 0] for name, of in few.items()}
        found |= {f"{name}_old": of[2, 0] for name, of in few.items()}
    if teacher is not None:
        pairs = [(extract(last.body, task.test[0]), extract(teacher, task.test[0])) for task in one.tasks]
        found["mimicry"] = sum(float(nmse(student, target)) for student, target in pairs)
        found["teacher_cka"] = np.mean([linear_cka(student.numpy(), target.numpy()) for student, target in pairs])
        found |= {"teacher_gap_old": report.teacher_gap()[2, 0], "teacher_gap_new": report.teacher_gap()[2, 1]}
    return {name: float(value) for name, value in found.items()}


def balance(config: Training, found: Iterable[Scene], setting: Setting, rule: UpdateRule | None) -> float:
    """Return what probes tell of both tasks, the mean over them and over scenes: what choices are made by."""
    return float(np.mean([measured(config, one, stages(config, one, setting, rule))["balance"] for one in found]))


def chosen(config: Training, run: Run, validation: list[Scene]) -> Setting:
    """Return the strength that is best at the usual rate, then the rate that is best at this strength."""
    setting = Setting()
    fields: dict[str, tuple[float, ...]] = {"strength": STRENGTHS.get(config.method, ()), "rate": RATES}
    for field, values in fields.items() if validation else ():
        if values:
            scores = np.zeros(len(values))
            for step in run.steps(len(values), scores=scores):
                scores[step] = balance(config, validation, setting._replace(**{field: values[step]}), None)
            setting = setting._replace(**{field: values[int(scores.argmax())]})
    return setting


def meta_trained(config: Training, run: Run, pool: list[Alphabet], validation: list[Scene], seed: int) -> UpdateRule:
    """Return the update rule that is trained on pairs of other alphabets, as it was when it did best in validation."""
    body = new_body(config.channels, config.size, config.units, run.generator)
    tensors = len(list(body.parameters()))
    rule: UpdateRule = AdamRule(tensors)
    if config.learned_rule != "rates":
        options = {"residual": config.learned_rule != "gate-only", "remembers": config.learned_rule != "no-memory"}
        rule = GatedCoordinateRule(tensors, generator=run.generator, **options)
    found = [episode for n in range(config.bodies) for episode in episodes(config, scene(config, pool, 3, seed + n))]
    trainer = TeacherMimicTrainer(
        body, rule, found, students=config.students, batch_size=config.batch_size, generator=run.generator
    )
    best: UpdateRule = copy.deepcopy(rule)
    score = np.full(1, -math.inf)
    every = max(1, config.meta_updates // 8)
    for step in run.steps(config.meta_updates, trainer=trainer, rule=best, score=score):
        run.log(step + 1, every=max(1, config.meta_updates // 50), distance=trainer.step())
        if (step + 1) % every == 0:
            now = balance(config, validation, Setting(), rule)
            run.log(step + 1, validation=now)
            if now > score[0]:
                score[0] = now
                best.load_state_dict(rule.state_dict())
    return best


def episodes(config: Training, one: Scene) -> Iterator[MimicryEpisode]:
    """Yield the episodes of a body that learned the first task: each of the others is the second of one."""
    generator = torch.Generator().manual_seed(one.seed)
    start = {name: p.detach() for name, p in one.first.body.named_parameters()}
    memory = {name: TaskMemory(start[name], value) for name, value in one.importance.items()}
    for task, head in zip(one.tasks[1:], one.heads, strict=True):
        heads, both = [one.first.heads[0], head], [one.tasks[0].train, task.train]
        options: dict[str, Any] = {"steps": config.teacher_steps, "batch_size": config.batch_size}
        teacher = train_teacher(one.first.body, heads, both, generator=generator, **options)
        probes = one.tasks[0].test[0], task.test[0]
        with torch.no_grad():
            targets = tuple(teacher(images) for images in probes)
        yield MimicryEpisode(start, memory, *task.train, probes, targets)


def gap_to_adam(one: Scene, batch_size: int) -> float:
    """Return by how much twenty steps of an untrained rule differ from Adam's, relative to the largest weight."""
    rule = GatedCoordinateRule(generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(list(rule.network.parameters())[-2])
    moved = []
    for learned in (True, False):
        student = Student(copy.deepcopy(one.first.body), [copy.deepcopy(one.heads[0])])
        params = list(student.body.parameters())
        method = LearnedUpdate(network(student), FIRST_RATE, rule=rule, head="1") if learned else None
        schedule = Schedule(20, batch_size, torch.Generator().manual_seed(one.seed))
        learn(student, one.tasks[1], schedule, body={"lr": FIRST_RATE, "betas": (0.9, 0.99)}, method=method)
        moved.append(params)
    pairs = [(a.detach(), b.detach()) for a, b in zip(*moved, strict=True)]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Learn pairs of tasks by one method; the result are the means over pairs of what the instrument says."""
    seed = 10_000 * int(torch.randint(10**6, (), generator=run.generator))
    glyphs = torch.Generator().manual_seed(seed)
    pools = alphabets(config.characters, config.size, config.rotations, glyphs)
    chooses = not config.single_head and config.method != "frozen"
    validation = [scene(config, pools["validation"], 2, seed + 1000 + n) for n in range(config.chosen_by * chooses)]
    learned = config.method == "learned"
    rule = meta_trained(config, run, pools["train"], validation, seed + 2000) if learned else None
    setting = chosen(config, run, [] if learned else validation)
    for step in run.steps(config.pairs):
        one = scene(config, pools["test"], 2, seed + step)
        row = measured(config, one, stages(config, one, setting, rule), teachers=config.teachers)
        run.log(step + 1, **{name: value for name, value in row.items() if math.isfinite(value)})
    for step in run.steps(config.sequences):
        one = scene(config, pools["test"], 5, seed + 500 + step)
        bodies = [one.untrained, *(student.body for student in stages(config, one, setting, rule))]
        report = representational_forgetting(bodies, one.tasks, shots=(None,))
        run.log(step + 1, sequence_old=report.probed()[-1, :-1].mean())
    logged = set(run.metrics()["metric"]) - {"distance", "validation"}
    result: dict[str, Any] = {name: run.ends(name, parts=1)[0] for name in sorted(logged)}
    result |= {"rate": setting.rate, "strength": setting.strength}
    if learned:
        result |= {"mimicry_in_training": run.ends("distance")[1], "gap_to_adam": gap_to_adam(one, config.batch_size)}
    return result


def seconds(config: Training) -> float:
    """Time of a trial on one core: of steps, by the size of images and network, and of probes."""
    step = 1e-3 + 4.5e-9 * config.batch_size * config.channels * (1 + config.channels / 16) * config.size**2
    learned = config.method == "learned"
    weights = config.channels * (9 + 9 * config.channels + config.units * config.size**2 / 16)
    update = (1.6e-7 if config.learned_rule != "rates" else 2e-8) * weights * learned
    settings = len(STRENGTHS.get(config.method, ())) + len(RATES) if not learned else 8
    chooses = not config.single_head and config.method != "frozen"
    pairs = config.pairs + config.chosen_by * chooses * settings
    total = (config.pairs + config.chosen_by) * config.first_steps * step + pairs * (
        config.steps * (step + update) + 0.1
    )
    total += config.teachers * config.pairs * config.teacher_steps * step
    total += config.sequences * (config.first_steps + 4 * config.steps) * (step + update)
    if learned:
        total += config.bodies * (config.first_steps + 2 * config.teacher_steps) * step
        total += 10 * config.meta_updates * (step + 3 * update)
    return 2 + total
