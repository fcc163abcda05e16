"""Everything one learns from: episodes, environments and data sets.

Importing the package registers the environments with Gymnasium; ``gymnasium.make("engram.tasks:engram/GridMaze-v0")``
imports it by itself.
"""

from engram.tasks.cue_reward import CueReward, CueRewardVectorEnv
from engram.tasks.episode import Episode
from engram.tasks.grid_maze import GridMaze, GridMazeVectorEnv
from engram.tasks.pattern_completion import PatternCompletion

__all__ = ["CueReward", "CueRewardVectorEnv", "Episode", "GridMaze", "GridMazeVectorEnv", "PatternCompletion"]
