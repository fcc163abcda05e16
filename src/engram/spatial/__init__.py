"""Maps: exploring an unknown world with a small map in fragments, and planning with guessed maps.

The packages ``induction`` and ``pomcp`` have map induction and the planner POMCP, which works for any generative model.
"""

from engram.spatial.dense_map import DenseMap
from engram.spatial.exploration import Exploration, active_memory_curve, coverage_curve, explore
from engram.spatial.farmap_explorer import FARMapExplorer
from engram.spatial.frontier_explorer import FrontierExplorer
from engram.spatial.local_map import Clusters, LocalMap, Path, Pose
from engram.spatial.view_model import ViewModel

__all__ = [
    "Clusters",
    "DenseMap",
    "Exploration",
    "FARMapExplorer",
    "FrontierExplorer",
    "LocalMap",
    "Path",
    "Pose",
    "ViewModel",
    "active_memory_curve",
    "coverage_curve",
    "explore",
]
