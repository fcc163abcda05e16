"""Reinforcement learning by networks whose state lasts through an episode."""

from engram.agents.a2c import A2C, Rollout, a2c_loss, a2c_step, discounted_returns, rollout
from engram.agents.actor_critic import ActorCritic, Judgement, meta_actor_critic, plastic_actor_critic
from engram.agents.memoryless import Memoryless
from engram.agents.trained import TrainedAgent

__all__ = [
    "A2C",
    "ActorCritic",
    "Judgement",
    "Memoryless",
    "Rollout",
    "TrainedAgent",
    "a2c_loss",
    "a2c_step",
    "discounted_returns",
    "meta_actor_critic",
    "plastic_actor_critic",
    "rollout",
]
