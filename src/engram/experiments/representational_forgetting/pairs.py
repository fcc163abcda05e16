"""What becomes of pairs of tasks, learned one after the other by one method, under the instrument."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
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

STRENGTHS: dict[Method, tuple[float, ...]] = {
    "l2": (1e-3, 1e-2, 1e-1, 1.0, 10.0),
    "ewc": (1.0, 10.0, 1e2, 1e3, 1e4, 1e5),
    "lwf": (0.1, 1.0, 10.0),
    "feature-lwf": (0.1, 1.0, 10.0),
}
RATES = (3e-4, 1e-3, 3e-3)


@settings
class Config:
    """What one trial is made of."""

    method: Method = setting("finetune", "how the second task is learned")
    # Without its residual; without what old tasks left; a rate a layer.
    learned_rule: Literal["gated", "gate-only", "no-memory", "rates"] = setting(
        "gated", "the learned update, or a part"
    )
    # Of Omniglot's small sets 3 alphabets are for training, 2 for choices and 3 for tests; glyphs need no download.
    characters: Characters = setting("omniglot-small", "Omniglot's small sets, all of it, or synthetic characters")
    rotations: bool = setting(True, "whether alphabets to meta-train with come in four orientations")
    single_head: bool = setting(False, "whether one head has the classes of both tasks; else the task is known")
    size: int = setting(28, "side of the images, in pixels", ge=8, le=105)
    channels: int = setting(16, "channels of the convolutions", ge=1)
    units: int = setting(64, "features", ge=1)
    ways: int = setting(10, "characters of a task", ge=2)
    pairs: int = setting(6, "pairs of tasks of the test", ge=1)
    chosen_by: int = setting(2, "pairs of tasks, of other alphabets, by which rates and strengths are chosen", ge=1)
    sequences: int = setting(0, "sequences of five tasks of the test", ge=0)
    teachers: bool = setting(False, "whether students are compared with a teacher of both tasks")
    draws: int = setting(3, "how often the few examples of a probe are drawn", ge=1)
    first_steps: int = setting(150, "steps on the first task", ge=1)
    steps: int = setting(100, "steps on each further one", ge=1, scales=True)
    teacher_steps: int = setting(200, "steps of a teacher on both", ge=1)
    batch_size: int = setting(32, "images in a batch", ge=2)
    replayed: int = setting(1, "old images of each class that replay keeps", ge=1)
    bodies: int = setting(8, "bodies to meta-train with that learned a first task; each has two second ones", ge=1)
    meta_updates: int = setting(400, "changes of the learned update, each after an unroll of ten steps", ge=1)
    students: int = setting(4, "students that are alive at once in meta-training", ge=1)


class Start(NamedTuple):
    """A body that learned the first of some tasks, untrained heads of the others, and seeds of what follows."""

    tasks: list[ProbedTask]
    untrained: nn.Module
    first: Student
    heads: list[nn.Linear]
    importance: dict[str, Tensor]
    seed: int


def draw_start(config: Config, pool: list[Alphabet], tasks: int, seed: int) -> Start:
    """The scene of a seed, the same whatever the method, so that methods are compared on equal terms."""
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_tasks(pool, config.ways, tasks, generator)
    body = new_body(config.channels, config.size, config.units, generator)
    classes = tasks * config.ways if config.single_head else config.ways
    heads = [new_head(config.units, classes, generator) for _ in drawn]
    first = first_task(drawn[0], body, heads[0], Schedule(config.first_steps, config.batch_size, generator))
    return Start(drawn, body, first, heads[1:], importance(first, drawn[0], generator), seed)


def stages(config: Config, start: Start, setting: Setting, rule: UpdateRule | None) -> list[Student]:
    """The student of a scene after each of its tasks."""
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
        new = importance(student, task, generator) if number + 1 < len(start.tasks) else importances
        importances = {name: value + new[name] for name, value in importances.items()}
        students.append(student)
    return students


def measured(config: Config, start: Start, students: list[Student], *, teachers: bool = False) -> dict[str, float]:
    """What the instrument says of a scene of two tasks; NaN where a measure is not defined."""
    old, new = start.tasks
    tasks, first, last = start.tasks, students[0], students[-1]
    if config.single_head:
        shifted = [(images, labels + config.ways) for images, labels in new]
        tasks = [old, ProbedTask(*shifted)]
    teacher = None
    if teachers:
        heads = [first.heads[0], start.heads[0]]
        generator = torch.Generator().manual_seed(start.seed)
        options: dict[str, Any] = {"steps": config.teacher_steps, "batch_size": config.batch_size}
        teacher = train_teacher(first.body, heads, [old.train, new.train], generator=generator, **options)
    report = representational_forgetting(
        [start.untrained, *(student.body for student in students)],
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
        pairs = [(extract(last.body, task.test[0]), extract(teacher, task.test[0])) for task in start.tasks]
        found["mimicry"] = sum(float(nmse(student, target)) for student, target in pairs)
        found["teacher_cka"] = np.mean([linear_cka(student.numpy(), target.numpy()) for student, target in pairs])
        found |= {"teacher_gap_old": report.teacher_gap()[2, 0], "teacher_gap_new": report.teacher_gap()[2, 1]}
    return {name: float(value) for name, value in found.items()}


def balance(config: Config, found: Iterable[Start], setting: Setting, rule: UpdateRule | None) -> float:
    """What probes tell of both tasks, the mean over them and over scenes: what choices are made by."""
    return float(np.mean([measured(config, start, stages(config, start, setting, rule))["balance"] for start in found]))


def chosen(config: Config, run: Run, validation: list[Start]) -> Setting:
    """The strength that is best at the usual rate, then the rate that is best at this strength."""
    setting = Setting()
    fields: dict[str, tuple[float, ...]] = {"strength": STRENGTHS.get(config.method, ()), "rate": RATES}
    for field, values in fields.items() if validation else ():
        if values:
            scores = np.zeros(len(values))
            for step in run.steps(len(values), scores=scores):
                scores[step] = balance(config, validation, setting._replace(**{field: values[step]}), None)
            setting = setting._replace(**{field: values[int(scores.argmax())]})
    return setting


def meta_trained(config: Config, run: Run, pool: list[Alphabet], validation: list[Start], seed: int) -> UpdateRule:
    """The update rule that is trained on pairs of other alphabets, as it was when it did best in validation."""
    body = new_body(config.channels, config.size, config.units, run.generator)
    tensors = len(list(body.parameters()))
    rule: UpdateRule = AdamRule(tensors)
    if config.learned_rule != "rates":
        options = {"residual": config.learned_rule != "gate-only", "remembers": config.learned_rule != "no-memory"}
        rule = GatedCoordinateRule(tensors, generator=run.generator, **options)
    found = [
        episode for n in range(config.bodies) for episode in episodes(config, draw_start(config, pool, 3, seed + n))
    ]
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


def episodes(config: Config, start: Start) -> Iterator[MimicryEpisode]:
    """Yield the episodes of a body that learned the first task: each of the others is the second of one."""
    generator = torch.Generator().manual_seed(start.seed)
    weights = {name: p.detach() for name, p in start.first.body.named_parameters()}
    memory = {name: TaskMemory(weights[name], value) for name, value in start.importance.items()}
    for task, head in zip(start.tasks[1:], start.heads, strict=True):
        heads, both = [start.first.heads[0], head], [start.tasks[0].train, task.train]
        options: dict[str, Any] = {"steps": config.teacher_steps, "batch_size": config.batch_size}
        teacher = train_teacher(start.first.body, heads, both, generator=generator, **options)
        probes = start.tasks[0].test[0], task.test[0]
        with torch.no_grad():
            targets = tuple(teacher(images) for images in probes)
        yield MimicryEpisode(weights, memory, *task.train, probes, targets)


def gap_to_adam(start: Start, batch_size: int) -> float:
    """By how much twenty steps of an untrained rule differ from Adam's, relative to the largest weight."""
    rule = GatedCoordinateRule(generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(list(rule.network.parameters())[-2])
    moved = []
    for learned in (True, False):
        student = Student(copy.deepcopy(start.first.body), [copy.deepcopy(start.heads[0])])
        params = list(student.body.parameters())
        method = LearnedUpdate(network(student), FIRST_RATE, rule=rule, head="1") if learned else None
        schedule = Schedule(20, batch_size, torch.Generator().manual_seed(start.seed))
        learn(student, start.tasks[1], schedule, body={"lr": FIRST_RATE, "betas": (0.9, 0.99)}, method=method)
        moved.append(params)
    pairs = [(a.detach(), b.detach()) for a, b in zip(*moved, strict=True)]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Learn pairs of tasks by one method; the result are the means over pairs of what the instrument says."""
    seed = 10_000 * int(torch.randint(10**6, (), generator=run.generator))
    glyphs = torch.Generator().manual_seed(seed)
    pools = alphabets(config.characters, config.size, config.rotations, glyphs)
    chooses = not config.single_head and config.method != "frozen"
    validation = [
        draw_start(config, pools["validation"], 2, seed + 1000 + n) for n in range(config.chosen_by * chooses)
    ]
    learned = config.method == "learned"
    rule = meta_trained(config, run, pools["train"], validation, seed + 2000) if learned else None
    if rule is not None:
        run.keep(rule=rule)
    setting = chosen(config, run, [] if learned else validation)
    for step in run.steps(config.pairs):
        start = draw_start(config, pools["test"], 2, seed + step)
        row = measured(config, start, stages(config, start, setting, rule), teachers=config.teachers)
        run.log(step + 1, **{name: value for name, value in row.items() if math.isfinite(value)})
    for step in run.steps(config.sequences):
        start = draw_start(config, pools["test"], 5, seed + 500 + step)
        bodies = [start.untrained, *(student.body for student in stages(config, start, setting, rule))]
        report = representational_forgetting(bodies, start.tasks, shots=(None,))
        run.log(step + 1, sequence_old=report.probed()[-1, :-1].mean())
    logged = set(run.metrics()["metric"]) - {"distance", "validation"}
    result: dict[str, Any] = {name: run.ends(name, parts=1)[0] for name in sorted(logged)}
    result |= {"rate": setting.rate, "strength": setting.strength}
    if learned:
        result |= {"mimicry_in_training": run.ends("distance")[1], "gap_to_adam": gap_to_adam(start, config.batch_size)}
    return result
