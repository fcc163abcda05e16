"""What each paper says in its abstract, which claims test it, at which size it was tried, and what came out.

The headline statements are rows of ``headlines.toml``, in our words. To add a paper, add its rows there and run
``engram record``, which copies the verdicts of their claims from the records. Nothing here loads an experiment.
"""

from engram.papers import overview
from engram.papers.evidence import Evidence, Judgement, evidence
from engram.papers.headlines import Headline, Paper, find, papers
from engram.papers.outcome import Outcome, outcome

__all__ = ["Evidence", "Headline", "Judgement", "Outcome", "Paper", "evidence", "find", "outcome", "overview", "papers"]
