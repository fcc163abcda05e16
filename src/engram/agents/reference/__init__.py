"""Reference agents: the returns that can be reached by chance, by knowing the instance, and by exact inference."""

from engram.agents.reference.bandit import BanditAgent, regret
from engram.agents.reference.bayes import BayesFilterAgent
from engram.agents.reference.play import Agent, Lifetimes, OracleAgent, RandomAgent, play

__all__ = ["Agent", "BanditAgent", "BayesFilterAgent", "Lifetimes", "OracleAgent", "RandomAgent", "play", "regret"]
