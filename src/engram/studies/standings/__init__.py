"""Comparisons of candidates of one kind, registered ones and your own, on all tasks of that kind."""

from engram.studies.standings.comparison import compare, standing_of_records
from engram.studies.standings.record_comparisons import record_comparisons
from engram.studies.standings.scores import Entry, Scores
from engram.studies.standings.standing import Standing

__all__ = ["Entry", "Scores", "Standing", "compare", "record_comparisons", "standing_of_records"]
