"""Learned updates: rules that learn how far each weight may move without harming old tasks.

After Xiong, Ren and Urtasun 2019, "Learning to remember from a multi-task teacher". For online rules found by learning
to remember (Gregor 2020), see ``engram.learned.learning_to_remember``.
"""

from engram.learned.updates.adam_rule import AdamRule
from engram.learned.updates.gated_coordinate_rule import GatedCoordinateRule
from engram.learned.updates.learned_optimizer import LearnedOptimizer
from engram.learned.updates.learned_update import LearnedUpdate
from engram.learned.updates.teacher import train_teacher
from engram.learned.updates.teacher_mimic import MimicryEpisode, TeacherMimicTrainer
from engram.learned.updates.update_rule import Moments, TaskMemory, UpdateRule

__all__ = [
    "AdamRule",
    "GatedCoordinateRule",
    "LearnedOptimizer",
    "LearnedUpdate",
    "MimicryEpisode",
    "Moments",
    "TaskMemory",
    "TeacherMimicTrainer",
    "UpdateRule",
    "train_teacher",
]
