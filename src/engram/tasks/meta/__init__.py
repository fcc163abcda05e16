"""A parametrised space of meta-reinforcement-learning tasks."""

from engram.tasks.meta import named
from engram.tasks.meta.canonical import canonical, digest
from engram.tasks.meta.diagnose import Diagnosis, diagnose
from engram.tasks.meta.draw import draw
from engram.tasks.meta.environment import MetaTaskEnv, MetaTaskVectorEnv
from engram.tasks.meta.explain import explain
from engram.tasks.meta.generate import Criteria, reference_criteria, sample, sample_many, split_of
from engram.tasks.meta.grid import Grid
from engram.tasks.meta.instance import Instance, sample_instance
from engram.tasks.meta.parts import (
    ActionRef,
    ActionVar,
    FlagRule,
    OneMinus,
    ProbRef,
    ProbVar,
    RewardRule,
    StateRef,
    StateVar,
    Stim,
    StimVar,
)
from engram.tasks.meta.pomdp import POMDP, pomdp
from engram.tasks.meta.registered import EnvId
from engram.tasks.meta.serialization import from_json, to_json
from engram.tasks.meta.task import MetaTask

__all__ = [
    "POMDP",
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
    "canonical",
    "diagnose",
    "digest",
    "draw",
    "explain",
    "from_json",
    "named",
    "pomdp",
    "reference_criteria",
    "sample",
    "sample_instance",
    "sample_many",
    "split_of",
    "to_json",
]
