"""Training a learned update so that a student's activity, on old and new tasks, matches a multi-task teacher's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils._pytree import tree_flatten, tree_unflatten

from engram import checks
from engram.copying import copied
from engram.learned.updates.update_rule import Memory, UpdateRule
from engram.meta.fast_weights import FastWeights
from engram.meta.inner_updates import AdamState, Update, Weights, adam
from engram.nn.initial import kaiming
from engram.nn.representation_distance import nmse
from engram.state import check_state, form_of

Distance = Callable[[Tensor, Tensor], Tensor]


class MimicryEpisode(NamedTuple):
    """A body that learned a task, the data of the next, and the activity of a teacher for both on held-out inputs.

    Attributes:
        start: The body's parameters, and buffers if it has any, at the end of the old task, by name.
        memory: The memory of that task, by name.
        inputs: Training inputs of the new task.
        labels: Their classes, from 0.
        probes: Held-out inputs of the old and of the new task; their labels are not needed.
        targets: The teacher's features of these inputs.
    """

    start: Weights
    memory: Memory
    inputs: Float[Tensor, "samples ..."]
    labels: Int[Tensor, " samples"]
    probes: tuple[Tensor, ...]
    targets: tuple[Float[Tensor, "probes features"], ...]


@dataclass
class _Student:
    episode: int
    length: int
    steps: int
    fast: FastWeights


class TeacherMimicTrainer:
    """Trains an update rule so that students that learn a second task keep their activity close to a teacher's.

        L(w) = sum over tasks t of distance(phi_w(X_t), H_teacher(X_t)),   halfway through each unroll and at its end

    Students learn the new task by the rule, from its labels alone; a read-out is trained beside them by Adam. Gradients
    of the student's own loss are constants (order 1), so that dw_U / dtheta is a sum over the steps. After an unroll
    the student goes on from where it is, without a gradient to earlier steps; after a random number of steps, another
    episode begins. Inputs of the old task are used only here, and never by a trained rule.

    Args:
        body: Network from inputs to features, with the architecture of all episodes.
        rule: The rule; trained in place.
        episodes: The episodes from which students are made.
        lr: Learning rate of students, as in ``LearnedOptimizer``.
        head_lr: Learning rate of their read-outs.
        rule_lr: Learning rate of the rule, whose gradient is clipped to norm 1.
        students: Number of students at once; they take turns.
        unroll: Steps of a student between two updates of the rule.
        lengths: Smallest and largest number of steps of a student; different lengths keep the rule from being
            short-sighted.
        batch_size: Samples in a batch.
        distance: Distance between the student's and the teacher's features.
        every: Estimate the rule's gradient from one in ``every`` weights, redrawn at each step; 1: from all.
        generator: Draws episodes, their lengths, read-outs and batches.

    Attributes:
        rule: The rule.
        optimizer: Adam for the rule's parameters.

    Raises:
        ValueError: An argument is out of range; an episode's parameters are not the body's, or its teacher has another
            number of features.

    Source: a method after Xiong, Ren and Urtasun, "Learning to remember from a multi-task teacher" (2019), re-designed
        from its abstract.

    Examples:
        >>> from engram.learned.updates.adam_rule import AdamRule
        >>> body, x, y = nn.Linear(2, 3), torch.eye(2), torch.tensor([0, 1])
        >>> start = {name: p.detach() for name, p in body.named_parameters()}
        >>> episode = MimicryEpisode(start, {}, x, y, (x, x), (torch.ones(2, 3), torch.ones(2, 3)))
        >>> trainer = TeacherMimicTrainer(body, AdamRule(2), [episode], generator=torch.Generator().manual_seed(0))
        >>> losses = [trainer.step() for _ in range(2)]
    """

    __repr__ = checks.described

    def __init__(
        self,
        body: nn.Module,
        rule: UpdateRule,
        episodes: Sequence[MimicryEpisode],
        *,
        lr: float = 1e-3,
        head_lr: float = 1e-2,
        rule_lr: float = 1e-3,
        students: int = 4,
        unroll: int = 10,
        lengths: tuple[int, int] = (50, 150),
        batch_size: int = 32,
        distance: Distance = nmse,
        every: int = 1,
        generator: torch.Generator,
    ) -> None:
        checks.arguments()
        self.rule = checks.instance("rule", rule, UpdateRule)  # type: ignore[type-abstract]
        self.lr, self.head_lr = checks.number("lr", lr, above=0), checks.number("head_lr", head_lr, above=0)
        checks.number("rule_lr", rule_lr, above=0)
        self.unroll, self.batch_size = checks.size("unroll", unroll), checks.size("batch_size", batch_size)
        self.lengths = checks.size("lengths", lengths[0]), checks.size("lengths", lengths[1], lengths[0])
        self.distance, self.every, self.generator = distance, checks.size("every", every), checks.generator(generator)
        self.body = copied(body)
        if not episodes:
            raise ValueError("episodes is empty: expected at least one")
        for index, episode in enumerate(episodes):
            _refuse_other_bodies(f"episodes[{index}]", episode, self.body)
        if not list(rule.parameters()):
            raise ValueError(f"rule = {rule!r}: expected a rule with parameters to train, such as AdamRule(6)")
        self.episodes, self.optimizer = list(episodes), torch.optim.Adam(rule.parameters(), rule_lr)
        self._turn = 0
        self._students = [self._fresh() for _ in range(checks.size("students", students))]

    def step(self) -> float:
        """Let one student learn for an unroll, and update the rule; return the student's distance from its teacher.

        Raises:
            FloatingPointError: The distance or its gradient is not finite; the rule was not changed.
        """
        index, self._turn = self._turn, (self._turn + 1) % len(self._students)
        student = self._students[index]
        episode, fast, losses = self.episodes[student.episode], student.fast, []
        for n_steps in range(1, self.unroll + 1):
            batch = torch.randint(len(episode.inputs), (self.batch_size,), generator=self.generator)
            with self.rule.estimated(self.every, self.generator):
                fast = fast.step(functional.cross_entropy(fast(episode.inputs[batch]), episode.labels[batch]))
            if n_steps in (self.unroll // 2, self.unroll):
                losses.append(self._distance(fast, episode))
        loss = torch.stack(losses).mean()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"distance from the teacher = {loss.item()}: expected a finite number")
        self.optimizer.zero_grad()
        parameters = list(self.rule.parameters())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        if not torch.isfinite(norm := nn.utils.clip_grad_norm_(parameters, 1.0)):
            raise FloatingPointError(f"norm of the rule's gradient = {norm.item()}: expected a finite number")
        self.optimizer.step()
        student.fast, student.steps = fast.detach(), student.steps + self.unroll
        if student.steps >= student.length:
            self._students[index] = self._fresh()
        return float(losses[-1].detach())

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to resume training, except the generator, which belongs to the caller."""
        students = [
            {"episode": s.episode, "length": s.length, "steps": s.steps, "leaves": tree_flatten(_detached(s.fast))[0]}
            for s in self._students
        ]
        state = copy.deepcopy({"rule": self.rule.state_dict(), "optimizer": self.optimizer.state_dict()})
        return {**state, "turn": self._turn, "students": students}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned."""
        student_form = {"episode": int, "length": int, "steps": int, "leaves": list}
        form = {"rule": form_of(self.rule), "optimizer": form_of(self.optimizer)}
        check_state(state, {**form, "turn": int, "students": [student_form] * len(self._students)})
        students = []
        for index, stored in enumerate(state["students"]):
            student = self._new_student(stored["episode"], stored["length"], torch.Generator())
            check_state(
                stored["leaves"], tree_flatten(_detached(student.fast))[0], f"state['students'][{index}]['leaves']"
            )
            leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in stored["leaves"]]
            params, student.fast.buffers, student.fast.state = tree_unflatten(
                leaves, tree_flatten(_detached(student.fast))[1]
            )
            student.fast.params = {name: weight.requires_grad_() for name, weight in params.items()}
            student.steps = stored["steps"]
            students.append(student)
        self.rule.load_state_dict(state["rule"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self._turn, self._students = state["turn"], students

    def _fresh(self) -> _Student:
        episode = int(torch.randint(len(self.episodes), (), generator=self.generator))
        length = int(torch.randint(self.lengths[0], self.lengths[1] + 1, (), generator=self.generator))
        return self._new_student(episode, length, self.generator)

    def _new_student(self, number: int, length: int, generator: torch.Generator) -> _Student:
        """Make a student that begins an episode, with a random read-out."""
        episode = self.episodes[number]
        sizes = episode.targets[0].shape[1], int(episode.labels.max()) + 1
        head = kaiming(nn.Linear, *sizes, generator=generator)
        update = _StudentUpdate(self.rule.as_update(self.lr, episode.memory), adam(self.head_lr))
        fast = FastWeights(nn.Sequential(self.body, head), update, order=1)
        start, buffers = _divided(episode.start, self.body)
        fast.params = {f"0.{name}": w.detach().clone().requires_grad_() for name, w in start.items()} | {
            f"1.{name}": w.detach().clone().requires_grad_() for name, w in head.named_parameters()
        }
        fast.buffers |= {f"0.{name}": buffer for name, buffer in buffers.items()}
        zeros = [{name: torch.zeros_like(w) for name, w in _part(fast.params, "1.").items()} for _ in range(2)]
        fast.state = self.rule.init(start), AdamState(0, *zeros)  # type: ignore[assignment]
        return _Student(number, length, 0, fast)

    def _distance(self, fast: FastWeights, episode: MimicryEpisode) -> Tensor:
        def features(x: Tensor) -> Tensor:  # probes leave the running statistics as they are
            buffers = {name: buffer.clone() for name, buffer in fast.buffers.items()}
            return functional_call(self.body, _part({**fast.params, **buffers}, "0."), (x,))  # type: ignore[no-any-return]

        pairs = zip(episode.probes, episode.targets, strict=True)
        return torch.stack([self.distance(features(x), h) for x, h in pairs]).sum()


@dataclass(frozen=True, eq=False)
class _StudentUpdate:
    """The update of a student: the rule moves the body, Adam the read-out."""

    of_body: Update
    of_head: Update

    def __call__(self, grads: Weights, weights: Weights, state: Any) -> tuple[Weights, Any]:
        body, moments = self.of_body(_part(grads, "0."), _part(weights, "0."), state[0])
        head, adam_state = self.of_head(_part(grads, "1."), _part(weights, "1."), state[1])
        named = {f"0.{name}": w for name, w in body.items()} | {f"1.{name}": w for name, w in head.items()}
        return named, (moments, adam_state)


def _detached(fast: FastWeights) -> tuple[Weights, Weights, Any]:
    return {name: weight.detach() for name, weight in fast.params.items()}, fast.buffers, fast.state


def _divided(start: Weights, body: nn.Module) -> tuple[Weights, Weights]:
    """The parameters of a body among the tensors of an episode's start, and copies of the buffers."""
    names = dict(body.named_buffers())
    parameters = {name: tensor for name, tensor in start.items() if name not in names}
    return parameters, {name: tensor.clone() for name, tensor in start.items() if name in names}


def _part(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


@torch.no_grad()
def _refuse_other_bodies(name: str, episode: MimicryEpisode, body: nn.Module) -> None:
    of_body: Weights = {**dict(body.named_parameters()), **dict(body.named_buffers())}
    shapes = [{n: tuple(w.shape) for n, w in weights.items()} for weights in (episode.start, of_body)]
    if shapes[0] != shapes[1]:
        differ = sorted(set(shapes[0].items()) ^ set(shapes[1].items()))
        raise ValueError(f"{name}.start: expected the parameters of body, and its buffers, which differ in {differ}")
    parameters, buffers = _divided(episode.start, body)
    if len(episode.probes) != len(episode.targets) or not episode.probes:
        raise ValueError(f"{name}.targets: expected one for each of {len(episode.probes)} probes, and at least one")
    for index, (x, target) in enumerate(zip(episode.probes, episode.targets, strict=True)):
        features = functional_call(body, parameters | buffers, (x[:2],))
        expected, actual = (len(x), *features.shape[1:]), tuple(target.shape)
        if actual != expected:
            raise ValueError(f"{name}.targets[{index}].shape = {actual}: expected {expected}, as body gives")
