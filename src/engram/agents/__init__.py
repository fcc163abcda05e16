"""Reinforcement learning: recurrent networks, and agents that remember episodes."""

from engram.agents.a2c import A2C, Rollout, a2c_loss, a2c_step, rollout
from engram.agents.actor_critic import ActorCritic, PolicyAndValue, meta_actor_critic, plastic_actor_critic
from engram.agents.bco import BCO
from engram.agents.bonuses import CheckedBonus, ExplorationBonus, HashCounts
from engram.agents.curiosity import Curiosity
from engram.agents.curious_actor_critic import CuriousActorCritic
from engram.agents.d3g import D3G
from engram.agents.episode import REFUSALS, OnlineAgent, Played, evaluate, play_episode
from engram.agents.exploration import EpsilonGreedy, Exploration, MaxEntMellowmax
from engram.agents.fragmented_curiosity import FragmentedCuriosity, FragmentEvent
from engram.agents.intrinsic_reward import IntrinsicReward
from engram.agents.inverse import InverseModel
from engram.agents.mfec import MFEC
from engram.agents.nec import NEC
from engram.agents.ppo import PPO, PPORollout, VectorActor, generalised_advantages, ppo_loss, ppo_update
from engram.agents.random_actions import RandomActions
from engram.agents.recurrent_agent import RecurrentAgent
from engram.agents.replay import ReplayBuffer, TransitionBatch, transition_consistency
from engram.agents.returns import discounted_returns, monte_carlo_returns, n_step_returns
from engram.agents.rnd import RND
from engram.agents.tabular_q import TabularQ
from engram.agents.tabular_qss import TabularQSS
from engram.agents.td3 import TD3
from engram.agents.trained import TrainedAgent
from engram.agents.vector_episodes import vector_episodes

__all__ = [
    "A2C",
    "BCO",
    "D3G",
    "MFEC",
    "NEC",
    "PPO",
    "REFUSALS",
    "RND",
    "TD3",
    "ActorCritic",
    "CheckedBonus",
    "Curiosity",
    "CuriousActorCritic",
    "EpsilonGreedy",
    "Exploration",
    "ExplorationBonus",
    "FragmentEvent",
    "FragmentedCuriosity",
    "HashCounts",
    "IntrinsicReward",
    "InverseModel",
    "MaxEntMellowmax",
    "OnlineAgent",
    "PPORollout",
    "Played",
    "PolicyAndValue",
    "RandomActions",
    "RecurrentAgent",
    "ReplayBuffer",
    "Rollout",
    "TabularQ",
    "TabularQSS",
    "TrainedAgent",
    "TransitionBatch",
    "VectorActor",
    "a2c_loss",
    "a2c_step",
    "discounted_returns",
    "evaluate",
    "generalised_advantages",
    "meta_actor_critic",
    "monte_carlo_returns",
    "n_step_returns",
    "plastic_actor_critic",
    "play_episode",
    "ppo_loss",
    "ppo_update",
    "rollout",
    "transition_consistency",
    "vector_episodes",
]
