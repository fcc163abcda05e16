"""The published systems as experiments, a file or a folder each; the registry looks them up by name.

Only experiments import from another one, and from ``reinforcement``.
"""
