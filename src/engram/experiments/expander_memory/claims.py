"""What is claimed of the expander network, and what would show it."""

import itertools
import re
from functools import partial

from engram.experiments.expander_memory.recovery import FLIPS
from engram.lab import Measure, claimed, largest, most, smallest, value


def least_recovery(arm: str) -> Measure:
    """Return the smallest share of states recovered from 4 % errors, over all sizes."""
    return Measure(
        lambda results: min(rate for key, rate in results[arm].items() if re.fullmatch(r"recovery_[a-z]+_0\.04", key)),
        (arm,),
    )


def growth(arm: str, first: str, last: str) -> Measure:
    """Return by how much recovery from 4 % errors grows from one size to another."""
    return value(arm, f"recovery_{last}_0.04") - value(arm, f"recovery_{first}_0.04")


def lead(*pairs: tuple[str, str]) -> Measure:
    """Return the smallest lead of an arm over another, over some pairs and all shares of flipped nodes."""
    return Measure(
        lambda results: min(
            float(results[better][key] - results[worse][key])
            for better, worse in pairs
            for key in results[worse]
            if key.startswith("recovery_")
        ),
        tuple(dict.fromkeys(itertools.chain(*pairs))),
    )


ours = partial(claimed, source="ours; the papers' abstracts and public reviews give no protocol", published="no figure")
abstract = partial(ours, source="abstract")
scaffold = partial(
    claimed,
    source="Sharma, Chandra & Fiete 2022, abstract; sizes and criterion are ours",
    published="no collapse of recall beyond a number of items (curves)",
)
HOPFIELD = ("contents-hebb", "contents-pseudo-inverse")
claims = [
    abstract(
        "errors-in-a-fixed-share",
        "An expander network of any size, 240 to 1920 nodes, recovers states with 4 % of their nodes flipped "
        "(the smallest share of recoveries)",
        least_recovery("5-6") >= 0.95,
        published="corrects errors in a finite fraction of all nodes (no figure)",
    ),
    abstract(
        "no-loss-with-size",
        "The largest expander network recovers no less than the smallest from errors in a fixed share of its nodes "
        "(difference)",
        growth("5-6", "first", "fourth") >= -0.02,
        published="at any size (no figure)",
    ),
    ours(
        "local-wiring-fails",
        "With local wiring, 1920 nodes do not recover from 2 % errors",
        value("local", "recovery_fourth_0.02") <= 0.1,
        published="expansion is what it takes (no figure)",
    ),
    ours(
        "blocks-fail",
        "Independent Hamming codes of 1925 nodes do not recover from 4 % errors",
        value("hamming", "recovery_fourth_0.04") <= 0.02,
        published="the Hamming code motivates, and fails (no figure)",
        source="NeurIPS review 1",
    ),
    ours(
        "five-constraints-scale",
        "At rate 1/2, nodes in 5 constraints recover at 1920 nodes what they do at 480 (difference, 4 %)",
        growth("5-10", "second", "fourth") >= -0.02,
        source="Sipser & Spielman 1996: expansion above 3/4 needs z of at least 5",
    ),
    ours(
        "three-constraints-do-not",
        "At rate 1/2, nodes in 3 constraints recover less at 1920 nodes than at 480 (difference, 4 %)",
        growth("3-6", "second", "fourth") <= -0.15,
    ),
    ours(
        "four-constraints-do-not",
        "At rate 1/2, nodes in 4 constraints recover less at 1920 nodes than at 480 (difference, 4 %)",
        growth("4-8", "second", "fourth") <= -0.15,
    ),
    abstract(
        "exponentially-many-states",
        "The number of stored states grows as 2^((1 - z/r) N): the largest difference of its logarithm from "
        "that, over two kinds of graph and all sizes",
        largest("excess_states", "5-6", "5-10") <= 2.0,
        published="exponentially many stable states (no exponent)",
        sameness="identity",
    ),
    abstract(
        "states-by-all-neurons",
        "Bits that 4 % errors leave, the logarithm of the states times the share recovered, grow with all neurons, "
        "hidden ones included: 0.0057 for each at any size, of (1 - z/r) / (1 + z 2^(r-1) / r) = 0.0060",
        value("5-6", "bits_per_neuron") >= 0.0057,
        published="exponentially many robust stable states (no exponent)",
        sameness="numeric",
    ),
    abstract(
        "classic-network-holds-few",
        "A classic Hopfield network recovers half of its patterns up to 0.14 patterns a node at most",
        value("load", "capacity") <= 0.14,
        published="about N patterns",
        sameness="numeric",
    ),
    abstract(
        "winners-correct",
        "The pairwise network alone, with winners drawn at random, recovers 480 nodes from 4 % errors",
        value("wta", "recovery_first_0.04") >= 0.9,
        published="low-complexity neural dynamics (no figure)",
        source="abstract: by its own dynamics",
    ),
    ours(
        "same-stable-states",
        "The pairwise network alone rests in the same states as single flips",
        value("faults", "same_rest") >= 1.0,
        sameness="identity",
    ),
    abstract(
        "hidden-faults",
        "With 2 % of the clusters answering at random in every sweep, the network recovers from 2 % errors",
        value("faults", "recovery_0.02_0.02") >= 0.9,
        published="robust to errors of all nodes (no figure)",
    ),
    abstract(
        "learns-the-code",
        "Clusters that have learned from 600 states know those of the 2^80 others that they are asked about",
        value("learning", "known") >= 0.99,
        published="constructed by associative learning (no figure)",
        source="abstract: sparse random wiring, glomeruli and an associative rule",
    ),
    ours(
        "learned-is-as-good",
        "Clusters that have learned correct errors as well as clusters that were given their patterns (loss of "
        "recovery)",
        value("learning", "loss") <= 0.05,
    ),
    ours(
        "steep-memories-keep-what-they-store",
        "Attention and the exponential dense network recover their stored patterns, 10 to 10,000 (the smallest share)",
        smallest("least_recovery", "stored-attention", "stored-dense-exponential") >= 0.99,
    ),
    ours(
        "shallow-memories-lose-them",
        "A classic Hopfield network and a cubic one lose half of 10,000 stored patterns or more (the larger share "
        "recovered)",
        largest("recovery", "stored-hebb", "stored-dense-3") <= 0.5,
    ),
    ours(
        "but-nothing-else",
        "Of states of the same code that were not stored, attention and the exponential dense network recover none "
        "(the larger share)",
        largest("recovery_of_others", "stored-attention", "stored-dense-exponential") <= 0.0,
        sameness="identity",
    ),
    abstract(
        "expander-treats-all-alike",
        "The expander network recovers any states of its code, which nobody has to store",
        value("stored-expander", "recovery_of_others") >= 0.95,
        published="exponentially many robust stable states",
    ),
    ours(
        "with-fewer-weights",
        "The expander network has a fiftieth of the weights of attention over 10,000 patterns, or fewer (ratio)",
        value("stored-expander", "weights") / value("stored-attention", "weights") <= 0.02,
        published="sparse weights of low dynamic range",
        sameness="identity",
    ),
    scaffold(
        "scaffold-holds-its-nodes",
        "Contents tied to a scaffold of stable states come back from 4 % errors if they are as many as its nodes "
        "(mean cosine)",
        value("contents-scaffold", "overlap_1.0") >= 0.95,
    ),
    scaffold(
        "scaffold-declines-smoothly",
        "Contents tied to a scaffold get worse little by little beyond its number of nodes: twice the items cost less "
        "than in Hopfield networks of as many weights (largest loss of the cosine, its difference from the smaller of "
        "Hebb's and the pseudo-inverse rule's)",
        value("contents-scaffold", "steepest") - smallest("steepest", *HOPFIELD) <= -0.1,
    ),
    scaffold(
        "scaffold-keeps-something",
        "With four times as many contents as nodes, more is left of them on a scaffold than in Hopfield networks of "
        "as many weights (difference from the better one)",
        value("contents-scaffold", "overlap_4.0") - largest("overlap_4.0", *HOPFIELD) >= 0.05,
    ),
    ours(
        "random-patterns-pack-loosely",
        "Clusters of 4 to 10 nodes that learn random patterns, none one flip from another, end 1.43 to 2.08 bits short "
        "of all patterns, as sets drawn directly do, where a parity lacks 1 (the largest difference)",
        value("packing", "error") <= 0.05,
        source="ours: sets to which nothing can be added, drawn one pattern at a time",
    ),
    ours(
        "and-leave-no-joint-state",
        "Were clusters of random patterns independent, no state would suit them all: with clusters of 6 and of 10 "
        "nodes, the expected number of such states is below 1 (its logarithm for each node, 1 - z bits / r, the "
        "larger)",
        most(value("packing", "exponent_6"), value("packing", "exponent_10")) <= 0.0,
        source="ours: a first moment",
    ),
    ours(
        "ladder-of-decoders",
        "Belief propagation recovers at least as much as flips of the worst node, these as random flips, "
        "these as parallel ones (the smallest lead at any share of errors)",
        lead(*itertools.pairwise(f"decoder-{name}" for name in ("belief-propagation", *FLIPS))) >= -0.1,
    ),
    ours(
        "belief-propagation-goes-further",
        "At 10 % errors, belief propagation still recovers everything",
        value("decoder-belief-propagation", "recovery_first_0.1") >= 0.95,
        published="the network is at par with modern codes (no figure)",
    ),
    ours(
        "par-is-in-scaling-only",
        "At 10 % errors, the network does not recover: it is at par in how it scales, not in how much it corrects",
        value("decoder-max", "recovery_first_0.1") <= 0.3,
        published="at par with modern codes (no figure)",
    ),
    ours(
        "nothing-beats-the-nearest",
        "On 20 nodes, where the nearest stored state can be found, nobody beats it (the smallest lead)",
        lead(("small-nearest", "small-belief-propagation"), ("small-nearest", "small-max")) >= -0.1,
        sameness="identity",
    ),
]
