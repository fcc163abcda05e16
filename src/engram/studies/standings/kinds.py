"""The kinds of candidates, with their contracts and the experiments whose tasks compare them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from typing_extensions import is_protocol

from engram import checks, references, registry
from engram.lab.trial.experiment import Experiment, Task, find_experiment


class Kind(NamedTuple):
    """A kind of candidate.

    Attributes:
        base: Place of the base class or protocol of the candidates, as ``"module:Name"``.
        check: Place of the checker of their contract.
        experiments: The experiments of engram that have tasks for them.
    """

    base: str
    check: str
    experiments: tuple[str, ...]


KINDS = {
    "learning_rules": Kind(
        "engram.rules:LearningRule",
        "engram.testing.learning_rule:check_learning_rule",
        ("learning-rules-on-images", "learning-rules"),
    ),
    "continual_methods": Kind(
        "engram.continual:ContinualMethod",
        "engram.testing.continual_method:check_continual_method",
        ("continual-learners",),
    ),
    "optimizers": Kind("torch.optim:Optimizer", "engram.testing.optimizer:check_optimizer", ("optimizers",)),
    "replacement_policies": Kind(
        "engram.memory.episodic.policies:Policy",
        "engram.testing.replacement_policy:check_replacement_policy",
        ("episodic-control",),
    ),
    "agents": Kind("engram.agents:OnlineAgent", "engram.testing.agent:check_agent", ("agents",)),
    "associative_memories": Kind(
        "engram.memory:AssociativeMemory",
        "engram.testing.associative_memory:check_associative_memory",
        ("associative-memories",),
    ),
    "similarity_measures": Kind(
        "engram.analysis.similarity:SimilarityMeasure",
        "engram.testing.similarity_measure:check_similarity_measure",
        ("dsa",),
    ),
    "curiosities": Kind(
        "engram.agents:ExplorationBonus", "engram.testing.curiosity:check_curiosity", ("farcuriosity",)
    ),
    "plasticity_rules": Kind(
        "engram.plasticity:PlasticityRule",
        "engram.testing.rule:check_rule",
        (
            "pattern-completion",
            "image-completion",
            "one-shot-characters",
            "cue-reward",
            "maze",
            "plastic-language",
        ),
    ),
}


def in_words(kind: str) -> str:
    """A kind as the title of a table or page.

    Examples:
        >>> in_words("learning_rules")
        'Learning rules'
    """
    return kind.replace("_", " ").capitalize()


def kind_of(part: Any) -> str:
    """The kind of a part, from its class.

    Raises:
        TypeError: It is of no known kind.
    """
    for name, kind in KINDS.items():
        base = references.load(kind.base)
        # A class with the methods of a protocol counts, since protocols are not subclassed.
        if isinstance(part, base) or (isinstance(part, type) and not is_protocol(base) and issubclass(part, base)):
            return name
    bases = ", ".join(kind.base.rpartition(":")[2] for kind in KINDS.values())
    raise TypeError(f"candidate = {part!r}: expected a class or an object of {bases}; for a function, give its kind")


def tasks_of(kind: str) -> list[tuple[Experiment, Task]]:
    """The tasks on which candidates of a kind are compared, each with its experiment, of engram and other packages.

    Args:
        kind: One of ``KINDS``.
    """
    own_experiments = KINDS[checks.choice("kind", kind, KINDS)].experiments
    others = [entry.name for entry in registry.entries("experiments") if not entry.module.startswith("engram.")]
    experiments = [find_experiment(name) for name in own_experiments]
    for name in sorted(others):
        try:
            experiments.append(find_experiment(name))
        except Exception as error:  # a broken experiment of another package must not hide the others
            warnings.warn(f"experiment {name!r} is left out: {error}", RuntimeWarning, stacklevel=2)
    return [(experiment, task) for experiment in experiments for task in experiment.tasks if task.kind == kind]


def check_contract(kind: str, make: Callable[..., Any]) -> str:
    """The first promise of its kind's contract that a candidate breaks, in one line; empty if it keeps them all.

    Args:
        kind: Its kind, one of ``KINDS``.
        make: The callable that makes it.
    """
    try:
        with torch.random.fork_rng(devices=()):  # checks draw from the global generator to see that it does not
            references.load(KINDS[kind].check)(make)
    except Exception as error:  # the candidate's own
        kind_of_error = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        return " ".join(f"{kind_of_error}{error}".split())
    return ""
