"""Learning rules that are themselves learned: by evolution, for remembering, for forgetting less, or from data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engram.learned import blur, learning_to_remember, updates
from engram.numeric.imports import deferred

if TYPE_CHECKING:  # scikit-learn takes nearly as long to import as torch
    from engram.learned.inference import (
        PlasticityRuleInference,
        SimulatedActivity,
        SimulatedChoices,
        simulate_activity,
        simulate_choices,
    )

__all__ = [
    "PlasticityRuleInference",
    "SimulatedActivity",
    "SimulatedChoices",
    "blur",
    "learning_to_remember",
    "simulate_activity",
    "simulate_choices",
    "updates",
]

__getattr__, __dir__ = deferred(
    __name__,
    {
        "engram.learned.inference": [
            "PlasticityRuleInference",
            "SimulatedActivity",
            "SimulatedChoices",
            "simulate_activity",
            "simulate_choices",
        ]
    },
)
