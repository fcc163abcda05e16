"""Reinforcement learning by networks whose state lasts through an episode."""

from engram.agents.a2c import Rollout, a2c_loss, a2c_step, discounted_returns, rollout
from engram.agents.actor_critic import ActorCritic, Judgement, plastic_actor_critic

__all__ = [
    "ActorCritic",
    "Judgement",
    "Rollout",
    "a2c_loss",
    "a2c_step",
    "discounted_returns",
    "plastic_actor_critic",
    "rollout",
]
