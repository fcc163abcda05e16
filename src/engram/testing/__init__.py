"""The contracts as public checkers, for your own parts; engram's tests apply them to every registered part.

A checker raises AssertionError if a promise is broken; the message says which.
"""

from engram.lab.check import check_experiment
from engram.testing.agent import check_agent
from engram.testing.associative_memory import check_associative_memory
from engram.testing.continual_method import check_continual_method
from engram.testing.curiosity import check_curiosity
from engram.testing.environment import check_environment
from engram.testing.estimator import check_estimator
from engram.testing.evolution import check_evolution
from engram.testing.learning_rule import check_learning_rule
from engram.testing.module import check_module
from engram.testing.optimizer import check_optimizer
from engram.testing.replacement_policy import check_replacement_policy
from engram.testing.report import check_report, check_widths, find_browser, open_browser
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
    "check_evolution",
    "check_experiment",
    "check_learning_rule",
    "check_module",
    "check_optimizer",
    "check_replacement_policy",
    "check_report",
    "check_rule",
    "check_similarity_measure",
    "check_synaptic_rule",
    "check_task",
    "check_widths",
    "find_browser",
    "open_browser",
]
