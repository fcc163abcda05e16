"""Full names of the registered candidates, for readers who do not know their short ones."""

from __future__ import annotations

from collections.abc import Mapping

KINDS_IN_WORDS: Mapping[str, str] = {
    "learning_rules": "Learning rules",
    "continual_methods": "Continual methods",
    "optimizers": "Optimisers",
    "replacement_policies": "Replacement policies",
    "agents": "Agents",
    "associative_memories": "Associative memories",
    "similarity_measures": "Measures of similarity",
    "curiosities": "Curiosities",
    "plasticity_rules": "Plasticity rules",
}

FULL_NAMES: Mapping[str, Mapping[str, str]] = {
    "learning_rules": {
        "align-ada": "Align-ada",
        "align-prop": "Align-prop",
        "align-zero": "Align-zero",
        "backprop": "backpropagation",
        "brsf": "sign symmetry, magnitudes redrawn for each batch",
        "dfa": "direct feedback alignment",
        "dtp": "difference target propagation",
        "ep": "equilibrium propagation",
        "ep-one-sided": "equilibrium propagation, nudged one way",
        "eprop": "e-prop",
        "eprop-adaptive": "e-prop, feedback that adapts",
        "eprop-random": "e-prop, random feedback",
        "fa": "feedback alignment",
        "frsf": "sign symmetry, fixed random magnitudes",
        "kolen-pollack": "Kolen-Pollack's rule",
        "last-layer": "training of the last layer alone",
        "local-error": "local errors",
        "node-perturbation": "node perturbation",
        "pc-fixed": "predictive coding, fixed predictions",
        "pc-strict": "predictive coding, strict",
        "readout-only": "training of the readout alone",
        "reinforce": "REINFORCE",
        "rtrl": "real-time recurrent learning",
        "usf": "sign symmetry, uniform magnitudes",
        "weight-mirror": "weight mirror",
        "weight-perturbation": "weight perturbation",
    },
    "continual_methods": {
        "ewc": "elastic weight consolidation",
        "finetune": "fine-tuning",
        "frozen": "a body frozen after the first task",
        "l2": "a penalty with equal weights",
        "learned": "a learned update rule",
        "lwf": "learning without forgetting",
        "mas": "memory aware synapses",
        "online-ewc": "online elastic weight consolidation",
        "replay": "replay",
        "si": "synaptic intelligence",
    },
    "optimizers": {
        "Adam": "Adam",
        "RMSprop": "RMSprop",
        "SGD": "stochastic gradient descent",
        "antithetic-es": "antithetic evolution strategy",
        "cma-es": "covariance matrix adaptation",
        "fop": "first-order preconditioning",
        "learned": "a learned optimiser",
        "momentum": "gradient descent with momentum",
        "rmsprop-eps-inside": "RMSprop, epsilon inside the root",
    },
    "replacement_policies": {
        "dkm": "dynamic k-means, corrected",
        "dkm-author": "dynamic k-means, as in the published code",
        "dkm-short": "dynamic k-means with a short memory",
        "fifo": "first in, first out",
        "k-means": "online k-means",
        "lru": "least recently used",
        "max-surprise": "keep what surprises",
        "max-value": "keep what is valuable",
        "random": "random replacement",
    },
    "agents": {
        "lstm": "recurrent actor-critic (LSTM)",
        "mfec": "model-free episodic control",
        "modulated": "neuromodulated plastic network",
        "nec": "neural episodic control",
        "plastic": "plastic network",
        "random": "random actions",
        "tabular-q": "Q-learning on a grid",
    },
    "associative_memories": {
        "attention": "softmax attention",
        "cue": "the cue itself",
        "dense-cubic": "dense Hopfield network, cubic energy",
        "dense-exponential": "dense Hopfield network, exponential energy",
        "hopfield": "Hopfield network, Hebb's rule",
        "plastic": "traces of a plastic network",
        "pseudo-inverse": "Hopfield network, pseudo-inverse rule",
        "scaffold": "scaffold of an expander memory",
    },
    "similarity_measures": {
        "cka": "centred kernel alignment",
        "dsa": "dynamical similarity analysis",
        "procrustes": "Procrustes distance",
        "rsa": "representational similarity analysis",
        "size": "difference of sizes",
        "spectral": "distance of eigenvalues",
    },
    "curiosities": {
        "fragmented-rnd": "random network distillation for each fragment",
        "hash-counts": "counts of hashed observations",
        "none": "no curiosity",
        "rnd": "random network distillation",
    },
    "plasticity_rules": {
        "clipped-hebb": "Hebb's rule, clipped",
        "hebb": "Hebb's rule, decaying",
        "instar": "instar rule",
        "modulated": "neuromodulated Hebb's rule",
        "nearest-pixels": "nearest drawing in pixels",
        "non-plastic": "no plasticity",
        "oja": "Oja's rule",
        "retroactive": "retroactive neuromodulation",
    },
}


def full_name(kind: str, candidate: str) -> str:
    """The full name of a registered candidate; of any other, its name.

    Examples:
        >>> full_name("learning_rules", "fa"), full_name("learning_rules", "Mine")
        ('feedback alignment', 'Mine')
    """
    return FULL_NAMES[kind].get(candidate, candidate)
