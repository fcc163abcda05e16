"""Sequence design: fitness landscapes, label smoothing over graphs, and optimisation of a learned fitness."""

from engram.generative.design.baselines import (
    AdaLead,
    CbAS,
    Consensus,
    HillClimb,
    RandomMutants,
    SequenceSearch,
    consensus,
)
from engram.generative.design.constraints import Constraints
from engram.generative.design.expand import expand_hamming1, random_mutants
from engram.generative.design.files import Fasta, Variants, mutated, read_fasta, read_variants
from engram.generative.design.ggs import GGS
from engram.generative.design.gibbs_with_gradients import GibbsWithGradients, Population, Round, cluster_reduce, top
from engram.generative.design.landscapes import (
    NK,
    Ehrlich,
    Landscape,
    LookupTable,
    RoughMountFuji,
    SigmoidEpistasis,
    mutants_of,
)
from engram.generative.design.measures import Fitness, diversity, edits_to, fitness, novelty, split
from engram.generative.design.seq_cnn import FirstOrder, SeqCNN, differentiated, optimizer_of, train_epoch
from engram.generative.design.sequences import AMINO_ACIDS, Measurements, decode, encode, measurements
from engram.generative.design.smoother import GraphLabelSmoother, Neighbours, hamming_neighbours

__all__ = [
    "AMINO_ACIDS",
    "GGS",
    "NK",
    "AdaLead",
    "CbAS",
    "Consensus",
    "Constraints",
    "Ehrlich",
    "Fasta",
    "FirstOrder",
    "Fitness",
    "GibbsWithGradients",
    "GraphLabelSmoother",
    "HillClimb",
    "Landscape",
    "LookupTable",
    "Measurements",
    "Neighbours",
    "Population",
    "RandomMutants",
    "RoughMountFuji",
    "Round",
    "SeqCNN",
    "SequenceSearch",
    "SigmoidEpistasis",
    "Variants",
    "cluster_reduce",
    "consensus",
    "decode",
    "differentiated",
    "diversity",
    "edits_to",
    "encode",
    "expand_hamming1",
    "fitness",
    "hamming_neighbours",
    "measurements",
    "mutants_of",
    "mutated",
    "novelty",
    "optimizer_of",
    "random_mutants",
    "read_fasta",
    "read_variants",
    "split",
    "top",
    "train_epoch",
]
