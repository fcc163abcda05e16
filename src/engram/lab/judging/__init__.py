"""The judge of any table of results: reading it, claims as text, verdicts, and the ledger of what was judged."""

from engram.lab.judging.best_of import best_of
from engram.lab.judging.grammar import ClaimError
from engram.lab.judging.judgement import judge
from engram.lab.judging.result import BestOf, Compared, Judgement
from engram.lab.judging.tables import read_table

__all__ = ["BestOf", "ClaimError", "Compared", "Judgement", "best_of", "judge", "read_table"]
