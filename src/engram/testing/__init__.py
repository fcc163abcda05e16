"""The contracts as public checkers, for your own parts; engram's tests apply them to every registered part.

A checker raises AssertionError if a promise is broken; the message says which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engram.numeric.imports import deferred

if TYPE_CHECKING:  # together they load scikit-learn and half of engram, and few programs need more than one
    from engram.lab.engine.check import check_experiment
    from engram.testing.agent import check_agent
    from engram.testing.associative_memory import check_associative_memory
    from engram.testing.continual_method import check_continual_method
    from engram.testing.curiosity import check_curiosity
    from engram.testing.environment import check_environment
    from engram.testing.estimator import check_estimator
    from engram.testing.learning_rule import check_learning_rule
    from engram.testing.module import check_module
    from engram.testing.optimizer import check_optimizer
    from engram.testing.replacement_policy import check_replacement_policy
    from engram.testing.rule import check_rule
    from engram.testing.similarity_measure import check_similarity_measure
    from engram.testing.synaptic_rule import check_synaptic_rule
    from engram.testing.task import check_task

__all__ = [
    "check_agent",
    "check_associative_memory",
    "check_continual_method",
    "check_curiosity",
    "check_environment",
    "check_estimator",
    "check_experiment",
    "check_learning_rule",
    "check_module",
    "check_optimizer",
    "check_replacement_policy",
    "check_rule",
    "check_similarity_measure",
    "check_synaptic_rule",
    "check_task",
]

__getattr__, __dir__ = deferred(
    __name__,
    {
        "engram.lab.engine.check": ["check_experiment"],
        "engram.testing.agent": ["check_agent"],
        "engram.testing.associative_memory": ["check_associative_memory"],
        "engram.testing.continual_method": ["check_continual_method"],
        "engram.testing.curiosity": ["check_curiosity"],
        "engram.testing.environment": ["check_environment"],
        "engram.testing.estimator": ["check_estimator"],
        "engram.testing.learning_rule": ["check_learning_rule"],
        "engram.testing.module": ["check_module"],
        "engram.testing.optimizer": ["check_optimizer"],
        "engram.testing.replacement_policy": ["check_replacement_policy"],
        "engram.testing.rule": ["check_rule"],
        "engram.testing.similarity_measure": ["check_similarity_measure"],
        "engram.testing.synaptic_rule": ["check_synaptic_rule"],
        "engram.testing.task": ["check_task"],
    },
)
