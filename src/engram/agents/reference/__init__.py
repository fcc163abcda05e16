"""Reference agents, for the returns that chance, knowledge of the instance and exact inference reach."""

from engram.agents.reference.bandit import BanditAgent, regret
from engram.agents.reference.bayes import BayesFilterAgent
from engram.agents.reference.oracle import OracleAgent
from engram.agents.reference.play import Agent, Lifetimes, play
from engram.agents.reference.random import RandomAgent

__all__ = ["Agent", "BanditAgent", "BayesFilterAgent", "Lifetimes", "OracleAgent", "RandomAgent", "play", "regret"]
