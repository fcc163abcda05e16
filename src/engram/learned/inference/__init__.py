"""Which plasticity rule made these data? Its inference from recorded activity or choices."""

from engram.learned.inference.inference import PlasticityRuleInference
from engram.learned.inference.simulation import (
    SimulatedActivity,
    SimulatedChoices,
    simulate_activity,
    simulate_choices,
)

__all__ = [
    "PlasticityRuleInference",
    "SimulatedActivity",
    "SimulatedChoices",
    "simulate_activity",
    "simulate_choices",
]
