"""Fragments of experience: when to begin a new one (surprisal), how to store fragments, and which to recall."""

from engram.memory.fragments.fragment_and_recall import Decision, FragmentAndRecall
from engram.memory.fragments.long_term_store import LongTermStore
from engram.memory.fragments.matchers import CosineMatcher, ExactMatcher, GeometricMatcher, Matcher, SimilarityMatcher
from engram.memory.fragments.surprisal_monitor import SurprisalMonitor

__all__ = [
    "CosineMatcher",
    "Decision",
    "ExactMatcher",
    "FragmentAndRecall",
    "GeometricMatcher",
    "LongTermStore",
    "Matcher",
    "SimilarityMatcher",
    "SurprisalMonitor",
]
