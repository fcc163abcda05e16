"""Tasks: episodes, environments and data sets.

Importing this package registers its environments with Gymnasium; so does
``gymnasium.make("engram.tasks:engram/GridMaze-v0")``. An argument with an unknown or out-of-range value raises
ValueError, one of the wrong type TypeError; the message names the argument.
"""

from engram.numeric.finite_mdp import FiniteMDP
from engram.tasks.associative_recall import AssociativeRecall
from engram.tasks.class_streams import ClassStream, ClassStreams
from engram.tasks.collision_advice import collision_advice
from engram.tasks.delayed_add import DelayedAdd
from engram.tasks.document_bigrams import DocumentBigrams
from engram.tasks.drifting_gaussians import DriftingGaussians
from engram.tasks.dynamics.learning_rule_traces import learning_rule_traces
from engram.tasks.dynamics.observed_dynamics import latent_dynamics, observed
from engram.tasks.dynamics.ring_attractor import ring_rates, ring_weights
from engram.tasks.dynamics.same_geometry import same_geometry
from engram.tasks.environments.colour_maze import ColourMaze, ColourMazeVectorEnv
from engram.tasks.environments.cue_reward import CueReward, CueRewardVectorEnv
from engram.tasks.environments.grid_maze import GridMaze, GridMazeVectorEnv
from engram.tasks.environments.grid_transfer import GridTransfer, GridTransferVectorEnv, grid_transfer
from engram.tasks.environments.point_world import PointWorld, PointWorldVectorEnv
from engram.tasks.environments.room_grid import RepeatedUnitWorld, RoomGrid, label_rooms, load_grid_text
from engram.tasks.environments.rooms import RoomEnv, RoomVectorEnv
from engram.tasks.environments.texture_rooms import TextureRooms, TextureRoomsVectorEnv, room_textures, tour
from engram.tasks.environments.two_stimulus import TwoStimulusEnv, TwoStimulusVectorEnv
from engram.tasks.episode import Episode, Task
from engram.tasks.flip_flop import FlipFlop
from engram.tasks.functions_2d import Function2D, function_2d
from engram.tasks.gaussian_bumps import GaussianBumps
from engram.tasks.image_completion import ClampedEpisode, ImageCompletion, natural_crops, standardise
from engram.tasks.meta import MetaTask, MetaTaskEnv, MetaTaskVectorEnv
from engram.tasks.one_shot_characters import OneShotCharacters, synthetic_glyphs
from engram.tasks.pattern_completion import PatternCompletion
from engram.tasks.penn_treebank import PennTreebank, read_penn_treebank
from engram.tasks.photograph_patches import photograph_patches
from engram.tasks.room_maps import (
    colour_walls,
    colours_of,
    generate_room_maps,
    maze_of,
    published_room_maps,
    random_room_maps,
)
from engram.tasks.snippet_stream import SnippetStream, SnippetWindow
from engram.tasks.sparse_dictionary_data import make_sparse_dictionary_data, perturb_dictionary, turn_dictionary
from engram.tasks.task_sequence import ClassificationTask, Labelled, mixture, permuted, split
from engram.tasks.two_stimulus import Timing, TwoStimulus

__all__ = [
    "AssociativeRecall",
    "ClampedEpisode",
    "ClassStream",
    "ClassStreams",
    "ClassificationTask",
    "ColourMaze",
    "ColourMazeVectorEnv",
    "CueReward",
    "CueRewardVectorEnv",
    "DelayedAdd",
    "DocumentBigrams",
    "DriftingGaussians",
    "Episode",
    "FiniteMDP",
    "FlipFlop",
    "Function2D",
    "GaussianBumps",
    "GridMaze",
    "GridMazeVectorEnv",
    "GridTransfer",
    "GridTransferVectorEnv",
    "ImageCompletion",
    "Labelled",
    "MetaTask",
    "MetaTaskEnv",
    "MetaTaskVectorEnv",
    "OneShotCharacters",
    "PatternCompletion",
    "PennTreebank",
    "PointWorld",
    "PointWorldVectorEnv",
    "RepeatedUnitWorld",
    "RoomEnv",
    "RoomGrid",
    "RoomVectorEnv",
    "SnippetStream",
    "SnippetWindow",
    "Task",
    "TextureRooms",
    "TextureRoomsVectorEnv",
    "Timing",
    "TwoStimulus",
    "TwoStimulusEnv",
    "TwoStimulusVectorEnv",
    "collision_advice",
    "colour_walls",
    "colours_of",
    "function_2d",
    "generate_room_maps",
    "grid_transfer",
    "label_rooms",
    "latent_dynamics",
    "learning_rule_traces",
    "load_grid_text",
    "make_sparse_dictionary_data",
    "maze_of",
    "mixture",
    "natural_crops",
    "observed",
    "permuted",
    "perturb_dictionary",
    "photograph_patches",
    "published_room_maps",
    "random_room_maps",
    "read_penn_treebank",
    "ring_rates",
    "ring_weights",
    "room_textures",
    "same_geometry",
    "split",
    "standardise",
    "synthetic_glyphs",
    "tour",
    "turn_dictionary",
]
