"""A parametrised space of meta-reinforcement-learning tasks."""

from engram.tasks.meta import named
from engram.tasks.meta.diagnose import Diagnosis, diagnose
from engram.tasks.meta.environment import MetaTaskEnv, MetaTaskVectorEnv
from engram.tasks.meta.generate import Criteria, reference_criteria, sample, sample_many, split_of
from engram.tasks.meta.grid import Grid
from engram.tasks.meta.instance import Instance, Tables
from engram.tasks.meta.registered import EnvId
from engram.tasks.meta.task import (
    ActionRef,
    ActionVar,
    FlagRule,
    MetaTask,
    OneMinus,
    ProbRef,
    ProbVar,
    RewardRule,
    StateRef,
    StateVar,
    Stim,
    StimVar,
)

__all__ = [
    "ActionRef",
    "ActionVar",
    "Criteria",
    "Diagnosis",
    "EnvId",
    "FlagRule",
    "Grid",
    "Instance",
    "MetaTask",
    "MetaTaskEnv",
    "MetaTaskVectorEnv",
    "OneMinus",
    "ProbRef",
    "ProbVar",
    "RewardRule",
    "StateRef",
    "StateVar",
    "Stim",
    "StimVar",
    "Tables",
    "diagnose",
    "named",
    "reference_criteria",
    "sample",
    "sample_many",
    "split_of",
]
