"""Everything one learns from: episodes, environments and data sets."""

from engram.tasks.document_bigrams import DocumentBigrams
from engram.tasks.episode import Episode
from engram.tasks.image_completion import ClampedEpisode, ImageCompletion, natural_crops, standardise
from engram.tasks.one_shot_characters import OneShotCharacters, synthetic_glyphs
from engram.tasks.pattern_completion import PatternCompletion
from engram.tasks.penn_treebank import PennTreebank, read_penn_treebank

__all__ = [
    "ClampedEpisode",
    "DocumentBigrams",
    "Episode",
    "ImageCompletion",
    "OneShotCharacters",
    "PatternCompletion",
    "PennTreebank",
    "natural_crops",
    "read_penn_treebank",
    "standardise",
    "synthetic_glyphs",
]
