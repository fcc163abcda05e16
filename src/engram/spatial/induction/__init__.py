"""Maps that are guessed from repeated parts, and planners that use them."""

from engram.spatial.induction.grammar import SubmapGrammar
from engram.spatial.induction.human import TrajectoryLikelihood, next_room_weights, trajectory_log_likelihood
from engram.spatial.induction.planner import MapInductionPlanner, greedy_action
from engram.spatial.induction.posterior import MapPosterior, Submap
from engram.spatial.induction.world import goal_nearness, unknown_nearness

__all__ = [
    "MapInductionPlanner",
    "MapPosterior",
    "Submap",
    "SubmapGrammar",
    "TrajectoryLikelihood",
    "goal_nearness",
    "greedy_action",
    "next_room_weights",
    "trajectory_log_likelihood",
    "unknown_nearness",
]
