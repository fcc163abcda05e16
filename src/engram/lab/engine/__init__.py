"""Runs: what is planned and performed, by which processes, and how it is stopped, watched and resumed."""
