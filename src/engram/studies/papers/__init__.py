"""What each paper says in its abstract, which claims test it, at which size it was tried, and what came out.

The headline statements are rows of ``headlines.toml``, in our words. To add a paper, add its rows there and run
``engram record``; the verdicts on their claims are those of the index of the records. Nothing here loads an
experiment.
"""

from engram.studies.papers import overview
from engram.studies.papers.headlines import Headline, Paper, find, papers
from engram.studies.papers.outcome import Outcome, caveat, judgement, limits, outcome, rows_of, statement_and_criterion

__all__ = [
    "Headline",
    "Outcome",
    "Paper",
    "caveat",
    "find",
    "judgement",
    "limits",
    "outcome",
    "overview",
    "papers",
    "rows_of",
    "statement_and_criterion",
]
