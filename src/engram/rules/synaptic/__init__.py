"""Rules for single layers, which change weights by the activities on both sides of them."""

from engram.rules.synaptic.bcm import BCM
from engram.rules.synaptic.covariance_hebb import ActivityMeans, CovarianceHebb
from engram.rules.synaptic.homeostatic_scaling import homeostatic_scaling
from engram.rules.synaptic.pair_stdp import PairSTDP, SpikeTraces
from engram.rules.synaptic.sanger import Sanger
from engram.rules.synaptic.slow_weights import SlowWeights, competitive, hebb, instar, oja
from engram.rules.synaptic.three_factor import EligibilityTraces, ThreeFactor, reward_modulated_stdp
from engram.rules.synaptic.triplet_stdp import TripletSTDP, TripletTraces

__all__ = [
    "BCM",
    "ActivityMeans",
    "CovarianceHebb",
    "EligibilityTraces",
    "PairSTDP",
    "Sanger",
    "SlowWeights",
    "SpikeTraces",
    "ThreeFactor",
    "TripletSTDP",
    "TripletTraces",
    "competitive",
    "hebb",
    "homeostatic_scaling",
    "instar",
    "oja",
    "reward_modulated_stdp",
]
