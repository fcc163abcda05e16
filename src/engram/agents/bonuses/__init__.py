"""Exploration bonuses: what an agent pays itself for what is new."""

from engram.agents.bonuses.contract import CheckedBonus, ExplorationBonus
from engram.agents.bonuses.hash_counts import HashCounts

__all__ = ["CheckedBonus", "ExplorationBonus", "HashCounts"]
