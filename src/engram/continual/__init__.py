"""Continual learning: methods against forgetting, and networks that were trained not to forget.

A continual method works with any module, any torch optimiser and any training loop; ``train_on_tasks`` is one such
loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engram.continual.dhp_softmax import DHPSoftmax
from engram.continual.ewc import EWC, OnlineEWC
from engram.continual.fisher import fisher_diagonal, gradient_magnitude
from engram.continual.frozen_body import FrozenBody, freeze_body
from engram.continual.l2_anchor import L2Anchor
from engram.continual.lwf import LwF
from engram.continual.mas import MAS
from engram.continual.method import ContinualMethod
from engram.continual.parameters import slow_parameters
from engram.continual.penalty import QuadraticPenalty
from engram.continual.replay import Replay
from engram.continual.reservoir import Reservoir
from engram.continual.si import SynapticIntelligence
from engram.continual.task import Task, TaskData, task_batches, task_cross_entropy
from engram.continual.train_on_tasks import TrainingStep, random_batches, train_on_tasks
from engram.numeric.imports import deferred

if TYPE_CHECKING:  # scikit-learn takes nearly as long to import as torch, and few parts need it
    from engram.continual.classifier import ContinualClassifier

__all__ = [
    "EWC",
    "MAS",
    "ContinualClassifier",
    "ContinualMethod",
    "DHPSoftmax",
    "FrozenBody",
    "L2Anchor",
    "LwF",
    "OnlineEWC",
    "QuadraticPenalty",
    "Replay",
    "Reservoir",
    "SynapticIntelligence",
    "Task",
    "TaskData",
    "TrainingStep",
    "fisher_diagonal",
    "freeze_body",
    "gradient_magnitude",
    "random_batches",
    "slow_parameters",
    "task_batches",
    "task_cross_entropy",
    "train_on_tasks",
]

__getattr__, __dir__ = deferred(__name__, {"engram.continual.classifier": ["ContinualClassifier"]})
