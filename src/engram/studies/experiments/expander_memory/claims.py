"""Claims about the expander network, with their criteria."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

from engram.lab import Measure, claims_from, maximum, metric, minimum
from engram.studies.experiments.expander_memory.recovery import FLIPS, SIZES


def least_recovery(arm: str) -> Measure:
    """The smallest share of states recovered from 4 % errors, over all sizes."""
    return Measure(
        lambda results: min(rate for key, rate in results[arm].items() if re.fullmatch(r"recovery_[a-z]+_0\.04", key)),
        (arm,),
    )


def growth(arm: str, first: str, last: str) -> Measure:
    """The difference in recovery from 4 % errors between two sizes."""
    return metric(f"recovery_{last}_0.04")(arm) - metric(f"recovery_{first}_0.04")(arm)


def growth_to_the_largest(arm: str) -> Measure:
    """The difference in recovery from 4 % errors between the smallest and the largest size."""

    def difference(results: Mapping[str, Any]) -> float:
        rates = [results[arm][key] for size in SIZES if (key := f"recovery_{size}_0.04") in results[arm]]
        return float(rates[-1] - rates[0])

    return Measure(difference, (arm,))


def lead(*pairs: tuple[str, str]) -> Measure:
    """The smallest lead of one arm over another, over some pairs and all shares of flipped nodes."""
    return Measure(
        lambda results: min(
            float(results[better][key] - results[worse][key])
            for better, worse in pairs
            for key in results[worse]
            if key.startswith("recovery_")
        ),
        tuple(dict.fromkeys(itertools.chain(*pairs))),
    )


abstract = claims_from(
    "abstract",
    published="exponentially many robust stable states, errors in a finite fraction of all nodes corrected at any size "
    "by low-complexity dynamics, built by sparse random wiring and associative learning (no figure)",
)
ours = claims_from("ours; the papers' abstracts and public reviews give no protocol")
par = claims_from("ours; the abstract says that the network is at par with modern codes")
scaffold = claims_from(
    "Sharma, Chandra & Fiete 2022, abstract; sizes and criterion are ours",
    published="no collapse of recall beyond a number of items (curves)",
)
kept, others = metric("least_recovery"), metric("recovery_of_others")
overlap, overload, loss = metric("overlap_1.0"), metric("overlap_4.0"), metric("steepest")
STEEP = ("stored-attention", "stored-dense-exponential")
HOPFIELD = ("contents-hebb", "contents-pseudo-inverse")
claims = [
    abstract("errors-in-a-fixed-share",
        "An expander network of any size recovers states with 4 % of their nodes flipped (smallest share recovered)",
        least_recovery("5-6") >= 0.95),
    abstract("no-loss-with-size", "The largest expander network recovers as much as the smallest (difference)",
        growth_to_the_largest("5-6") >= -0.02, revised="the difference of the fourth size from the smallest"),
    ours("local-wiring-fails", "With local wiring, 1920 nodes do not recover from 2 % errors",
        metric("recovery_fourth_0.02")("local") <= 0.1),
    ours("blocks-fail", "Independent Hamming codes of 1925 nodes do not recover from 4 % errors",
        metric("recovery_fourth_0.04")("hamming") <= 0.02),
    ours("five-constraints-scale",
        "At rate 1/2 with 5 constraints per node, recovery is as good with 1920 nodes as with 480 (difference, 4 %)",
        growth("5-10", "second", "fourth") >= -0.02,
        source="Sipser & Spielman 1996: expansion above 3/4 needs z of at least 5"),
    ours("three-constraints-do-not", "At rate 1/2 with 3 constraints per node, recovery is worse with 1920 nodes than "
        "with 480",
        growth("3-6", "second", "fourth") <= -0.15),
    ours("four-constraints-do-not", "At rate 1/2 with 4 constraints per node, recovery is worse with 1920 nodes than "
        "with 480",
        growth("4-8", "second", "fourth") <= -0.15),
    abstract("exponentially-many-states",
        "The number of stored states grows as 2^((1 - z/r) N) (largest deviation of its logarithm)",
        maximum(metric("excess_states")("5-6"), metric("excess_states")("5-10")) <= 2.0, sameness="identity"),
    abstract("states-by-all-neurons",
        "Per neuron, including hidden ones, the states hold (1 - z/r) / (1 + z 2^(r-1) / r) = 0.0060 bits, times the "
        "share recovered from 4 % errors (bits over that share)",
        (metric("bits_per_neuron")("5-6") / least_recovery("5-6")).within(0.00602, 0.0001), sameness="identity"),
    ours("classic-network-holds-few",
        "A classic Hopfield network recovers half of its patterns only if they are few (patterns per node)",
        metric("capacity")("load") <= 0.14, sameness="numeric"),
    abstract("winners-correct",
        "The pairwise network alone, with randomly drawn winners, recovers states of 480 nodes from 4 % errors",
        metric("recovery_first_0.04")("wta") >= 0.9),
    ours("same-stable-states", "The pairwise network alone has the same stable states as single flips",
        metric("same_rest")("faults") >= 1.0, sameness="identity"),
    abstract("hidden-faults",
        "With 2 % of the clusters answering at random in every sweep, the network recovers from 2 % errors",
        metric("recovery_0.02_0.02")("faults") >= 0.9, published="robust to errors of all nodes (no figure)"),
    ours("more-hidden-faults",
        "With 5 % of the clusters answering at random in every sweep, the network still recovers from 2 % errors",
        metric("recovery_0.05_0.02")("faults") >= 0.9),
    abstract("learns-the-code",
        "Clusters that have learned from 600 states recognise tested ones among the 2^80 others",
        metric("known")("learning") >= 0.99),
    ours("learned-is-as-good",
        "Learned clusters correct errors as well as clusters with built-in patterns (loss)",
        metric("loss")("learning") <= 0.05, sameness="identity"),  # known patterns are the built-in ones
    ours("steep-memories-keep-what-they-store",
        "Attention and the exponential dense network recover their stored patterns, 10 to 10,000 (smallest share)",
        minimum(*map(kept, STEEP)) >= 0.99, sameness="identity"),
    ours("shallow-memories-lose-them",
        "A classic Hopfield network and a cubic one lose many of 10,000 stored patterns (larger share recovered)",
        maximum(metric("recovery")("stored-hebb"), metric("recovery")("stored-dense-3")) <= 0.5),
    ours("but-nothing-else",
        "Attention and the exponential dense network recover no states of the code that were not stored",
        maximum(*map(others, STEEP)) <= 0.0, sameness="identity"),
    abstract("expander-treats-all-alike",
        "The expander network recovers any states of its code without storing them",
        others("stored-expander") >= 0.95),
    ours("with-fewer-weights", "The expander network has far fewer weights than attention over 10,000 patterns (ratio)",
        metric("weights")("stored-expander") / metric("weights")("stored-attention") <= 0.02,
        sameness="identity"),
    scaffold("scaffold-holds-its-nodes", "A scaffold recalls as many contents as it has nodes from 4 % errors (cosine)",
        overlap("contents-scaffold") >= 0.95),
    scaffold("scaffold-declines-smoothly", "Doubling the number of contents costs a scaffold less than Hopfield "
        "networks with as many weights (largest loss of cosine, minus that of the better of two rules)",
        loss("contents-scaffold") - minimum(*map(loss, HOPFIELD)) <= -0.1),
    scaffold("scaffold-keeps-something",
        "With four times as many contents as nodes, a scaffold keeps more than Hopfield networks (difference of "
        "cosines)",
        overload("contents-scaffold") - maximum(*map(overload, HOPFIELD)) >= 0.05),
    ours("random-patterns-pack-loosely", "Clusters of 4 to 10 nodes that learn random patterns, no two of them one "
        "flip apart, end 1.43 to 2.08 bits short of all patterns, like directly drawn sets; a parity code is 1 bit "
        "short (largest difference)", metric("error")("packing") <= 0.05,
        source="ours: sets to which nothing can be added, drawn one pattern at a time"),
    ours("and-leave-no-joint-state", "If clusters of random patterns were independent, no state would be consistent "
        "with all of them (logarithm of the number of such states per node, 1 - z bits / r, with 6 or 10 nodes in a "
        "cluster)",
        maximum(metric("exponent_6")("packing"), metric("exponent_10")("packing")) <= -0.01,
        source="ours: a first moment"),
    ours("ladder-of-decoders", "Belief propagation recovers no less than flips of the worst node, which recover no "
        "less than random flips, and these no less than parallel flips (smallest lead at any error rate)",
        lead(*itertools.pairwise(f"decoder-{name}" for name in ("belief-propagation", *FLIPS))) >= -0.1),
    par("belief-propagation-goes-further", "At 10 % errors, belief propagation still recovers everything",
        metric("recovery_first_0.1")("decoder-belief-propagation") >= 0.95),
    par("par-is-in-scaling-only",
        "At 10 % errors the network does not recover: it is on par in scaling, not in the number of errors it corrects",
        metric("recovery_first_0.1")("decoder-max") <= 0.3),
    ours("nothing-beats-the-nearest",
        "With 20 nodes, where the nearest stored state can be found exactly, no decoder beats it (smallest lead)",
        lead(("small-nearest", "small-belief-propagation"), ("small-nearest", "small-max")) >= -0.1,
        sameness="identity"),
]  # fmt: skip
