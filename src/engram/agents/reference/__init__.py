"""Reference agents: the returns that can be reached by chance, by knowing the instance, and by exact inference."""

from engram.agents.reference.bandit import BanditAgent, regret
from engram.agents.reference.bayes import BayesFilterAgent
from engram.agents.reference.oracle import OracleAgent
from engram.agents.reference.play import Agent, Lifetimes, play
from engram.agents.reference.random import RandomAgent

__all__ = ["Agent", "BanditAgent", "BayesFilterAgent", "Lifetimes", "OracleAgent", "RandomAgent", "play", "regret"]
