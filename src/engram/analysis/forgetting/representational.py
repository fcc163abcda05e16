"""Representational forgetting: how much a network's features still tell about old tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from engram import checks
from engram.analysis.forgetting.extract import extract
from engram.analysis.forgetting.linear_probe import LinearProbe
from engram.analysis.forgetting.nearest_mean_probe import NearestMeanProbe
from engram.analysis.forgetting.report import Accuracies, RepresentationReport
from engram.analysis.similarity.linear_cka import linear_cka
from engram.numeric.rounding import varies

Examples = tuple[Tensor, Tensor]
PROBES: Mapping[str, BaseEstimator] = {
    "linear": LinearProbe(),
    "nearest-mean": NearestMeanProbe(standardize=False),
    "ridge": make_pipeline(StandardScaler(), RidgeClassifier(alpha=1e-2)),
    "k-nn": KNeighborsClassifier(n_neighbors=1, algorithm="kd_tree"),  # by differences, so exact at any offset
}


class ProbedTask(NamedTuple):
    """A task to be measured: examples that probes are fitted to, and other examples that they are tested on.

    Each is a pair of inputs, (samples, ...), and labels, (samples,).
    """

    train: Examples
    test: Examples


class _Features(NamedTuple):
    """Features of one task from one body."""

    train: Float[np.ndarray, "train features"]
    labels: Int[np.ndarray, " train"]
    test: Float[np.ndarray, "test features"]
    test_labels: Int[np.ndarray, " test"]


def representational_forgetting(
    bodies: Sequence[nn.Module],
    tasks: Sequence[Any],
    *,
    shots: Sequence[int | None] = (1, 5, None),
    probe: str | BaseEstimator = "linear",
    heads: Sequence[Any] | None = None,
    draws: int = 10,
    seed: int = 0,
    teacher: Sequence[nn.Module] | None = None,
    layer: str | None = None,
) -> RepresentationReport:
    """Measure how much a network that learned tasks in sequence still knows of old ones, in outputs and features.

    After every stage, a fresh read-out of each task is fitted to the features of the body at that stage. What the old
    read-out gets wrong but a fresh one gets right was not forgotten in the features; what no read-out gets right is
    lost.

    Args:
        bodies: n + 1 copies of the body, from inputs to features: untrained, and after each of the n tasks.
        tasks: n pairs of (train, test) examples, such as ``ProbedTask``; further elements are ignored.
        shots: Numbers of examples of each class that probes are fitted to; None: all of them, which is always included.
        probe: ``"linear"`` (``LinearProbe``) or ``"ridge"``, both of standardised features; ``"nearest-mean"`` or
            ``"k-nn"`` (one neighbour), whose distances do not change if features are rotated, but depend on their
            units; or any classifier of scikit-learn, which is cloned.
        heads: n read-outs, from features to logits, as they were after each task. A module is one head for all tasks,
            which has one output for each label; only the outputs of classes seen so far are used. A list has a head for
            each task so far, whose outputs are that task's classes in order. None: outputs are not measured.
        draws: Number of random draws of the examples, unless ``shots`` is None; accuracies are means over them.
        seed: Seed of these draws, which are the same for all stages, teachers, and calls.
        teacher: n bodies that learned tasks 1 to i together, i = 1 to n.
        layer: Name of the submodule whose output is the features (None: the body's output); with it, ``heads`` must be
            None.

    Raises:
        ValueError: An argument is out of range; train and test of a task are the same object; a class has fewer
            examples than ``shots`` asks for, or has test examples only.
        RuntimeError: A body changed while its features were computed.

    Source: protocol after Xiong, Ren and Urtasun, "Learning to remember from a multi-task teacher" (2019), re-designed
        from its abstract.

    Examples:
        >>> x, y = torch.eye(4).repeat(3, 1), torch.arange(4).repeat(3)
        >>> tasks, body = [ProbedTask((x, y), (x.clone(), y))] * 2, nn.Identity()
        >>> representational_forgetting([body] * 3, tasks, shots=[1, None]).forgetting()
        array([0.])
    """
    checks.arguments()
    n = len(tasks)
    if n < 2:
        raise ValueError(f"tasks: expected at least two, so that one is old, found {n}")
    pairs = [_checked(number, task) for number, task in enumerate(tasks)]
    for name, modules, expected in (("bodies", bodies, n + 1), ("heads", heads, n), ("teacher", teacher, n)):
        if modules is not None and len(modules) != expected:
            raise ValueError(f"{name}: expected {expected}, with {n} tasks, found {len(modules)}")
    if heads is not None and layer is not None:
        raise ValueError(f"layer = {layer!r}: expected None where heads are given, which read the body's own output")
    classifier = _probe(probe)
    wanted_shots = _shots(shots, pairs)
    checks.size("seed", seed, 0, None)
    supports = [dict(_supports(task.train[1], wanted_shots, draws, [seed, j])) for j, task in enumerate(pairs)]
    features = [[_features(body, task, layer) for task in pairs] for body in bodies]

    def probed(rows: Sequence[Sequence[_Features]]) -> dict[int | None, Accuracies]:
        return {
            n_shots: np.array(
                [
                    [_accuracy(classifier, task_features, supports[j][n_shots]) for j, task_features in enumerate(row)]
                    for row in rows
                ]
            )
            for n_shots in wanted_shots
        }

    output = np.full((n + 1, n), np.nan)
    for stage, j in product(range(1, n + 1), range(n)) if heads is not None else ():
        if j < stage:
            output[stage, j] = _output_accuracy(heads[stage - 1], bodies[stage], pairs, stage, j)  # type: ignore[index]
    drift = [1 - _cka(features[j + 1][j].test, features[n][j].test) for j in range(n - 1)]
    teacher_accuracies = None
    if teacher is not None:
        rows = probed([[_features(body, task, layer) for task in pairs] for body in teacher])
        teacher_accuracies = {
            n_shots: np.vstack([np.full(n, np.nan), accuracies]) for n_shots, accuracies in rows.items()
        }
    return RepresentationReport(output, probed(features), np.array(drift), teacher_accuracies)


def _checked(task_index: int, task: Any) -> ProbedTask:
    """The task, once its inputs and labels are known to fit each other."""
    name = f"tasks[{task_index}]"
    if not isinstance(task, tuple | list) or len(task) < 2:
        raise TypeError(f"{name} is a {type(task).__name__}: expected a pair of (train, test) examples")
    train, test = (_pair(f"{name}.{subset}", pair) for subset, pair in zip(("train", "test"), task, strict=False))
    if train[0] is test[0]:
        raise ValueError(f"{name}: train and test are the same tensor: expected probes to be tested on other examples")
    classes = np.unique(train[1].cpu().numpy())
    if len(classes) < 2:
        raise ValueError(f"{name}.train: expected at least two classes, found {len(classes)}")
    if unknown := set(test[1].tolist()) - set(classes.tolist()):
        raise ValueError(f"{name}.test has class {min(unknown)}: expected only classes that train has")
    return ProbedTask(train, test)


def _pair(name: str, pair: Any) -> Examples:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"{name} is a {type(pair).__name__}: expected a pair of inputs and labels")
    inputs, labels = (checks.instance(name, value, Tensor) for value in pair)
    if labels.ndim != 1 or len(labels) != len(inputs) or labels.is_floating_point():
        actual = f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise ValueError(f"{name}: expected one whole number as label for each of {len(inputs)} inputs, found {actual}")
    return inputs, labels


def _probe(probe: str | BaseEstimator) -> BaseEstimator:
    if isinstance(probe, str):
        return PROBES[checks.choice("probe", probe, PROBES)]
    if not (hasattr(probe, "fit") and hasattr(probe, "predict") and hasattr(probe, "get_params")):
        raise TypeError(f"probe = {probe!r}: expected a classifier of scikit-learn, or one of {', '.join(PROBES)}")
    return probe


def _shots(shots: Sequence[int | None], tasks: Sequence[ProbedTask]) -> list[int | None]:
    """The numbers of examples that probes are fitted to, with None for all of them."""
    fewest, fewest_task = min(
        (int(np.unique(task.train[1].cpu().numpy(), return_counts=True)[1].min()), j) for j, task in enumerate(tasks)
    )
    for n_shots in shots:
        if n_shots is not None and checks.size("shots", n_shots) > fewest:
            raise ValueError(f"shots = {n_shots}: a class of tasks[{fewest_task}].train has {fewest} examples")
    return list(dict.fromkeys([*shots, None]))


def _supports(
    labels: Tensor, shots: Sequence[int | None], draws: int, seed: list[int]
) -> Iterator[tuple[int | None, list[np.ndarray]]]:
    """Yield the drawn indices for each number of shots; a draw of fewer examples is a subset of that of more."""
    rng, classes = np.random.default_rng(seed), labels.cpu().numpy()
    orders = [
        [rng.permutation(np.flatnonzero(classes == label)) for label in np.unique(classes)]
        for _ in range(checks.size("draws", draws))
    ]
    for n_shots in shots:
        drawn = [np.concatenate([order[:n_shots] for order in draw]) for draw in orders]
        yield n_shots, [np.arange(len(classes))] if n_shots is None else drawn


def _features(body: nn.Module, task: ProbedTask, layer: str | None) -> _Features:
    (train, labels), (test, test_labels) = task
    arrays = (extract(body, inputs, layer=layer).numpy() for inputs in (train, test))
    return _Features(next(arrays), labels.cpu().numpy(), next(arrays), test_labels.cpu().numpy())


def _accuracy(probe: BaseEstimator, task: _Features, supports: Sequence[np.ndarray]) -> float:
    """The accuracy of probes on test inputs, averaged over draws of their training samples."""
    predictions = [clone(probe).fit(task.train[drawn], task.labels[drawn]).predict(task.test) for drawn in supports]
    return float(np.mean([predicted == task.test_labels for predicted in predictions]))


@torch.no_grad()
def _output_accuracy(head: Any, body: nn.Module, tasks: Sequence[ProbedTask], stage: int, j: int) -> float:
    """The share of a task's test inputs that the network's own head gets right."""
    shared = isinstance(head, nn.Module) and not isinstance(head, nn.ModuleList)
    if not shared and len(head) < stage:
        raise ValueError(f"heads[{stage - 1}]: expected a module, or {stage} of them, found {len(head)}")
    inputs, test_labels = tasks[j].test
    seen_labels = torch.cat([task.train[1] for task in (tasks[:stage] if shared else tasks[j : j + 1])])
    classes = torch.from_numpy(np.unique(seen_labels.cpu().numpy())).long()  # bytes would index as a mask
    task_head = head if shared else head[j]
    logits = extract(nn.Sequential(body, task_head), inputs)
    if shared:
        if int(classes.max()) >= logits.shape[1] or int(classes.min()) < 0:
            expected = f"one for each label, 0 to {int(classes.max())}"
            raise ValueError(f"heads[{stage - 1}] has {logits.shape[1]} outputs: expected {expected}")
        logits = logits[:, classes]
    elif logits.shape[1] != len(classes):
        raise ValueError(f"heads[{stage - 1}][{j}] has {logits.shape[1]} outputs: expected {len(classes)}, its classes")
    return float((classes[logits.argmax(1)] == test_labels.cpu().long()).double().mean())


def _cka(X: np.ndarray, Y: np.ndarray) -> float:
    """The linear CKA; NaN where features are constant up to rounding."""
    return linear_cka(X, Y) if varies(X).any() and varies(Y).any() else float("nan")
