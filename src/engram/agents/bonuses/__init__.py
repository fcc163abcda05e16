"""Exploration bonuses: intrinsic rewards for novelty."""

from engram.agents.bonuses.contract import CheckedBonus, ExplorationBonus
from engram.agents.bonuses.hash_counts import HashCounts

__all__ = ["CheckedBonus", "ExplorationBonus", "HashCounts"]
