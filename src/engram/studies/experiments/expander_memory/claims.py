"""Claims about the expander network, with their criteria."""

import re
from collections.abc import Mapping
from typing import Any

from engram.lab import Measure, Quantity, claims_from, maximum, metric, minimum
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
others = metric("recovery_of_others")
overlap, overload, loss = metric("overlap_1.0"), metric("overlap_4.0"), metric("steepest")
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
    abstract("exponentially-many-states",
        "The number of stored states grows as 2^((1 - z/r) N) (largest deviation of its logarithm)",
        maximum(metric("excess_states")("5-6"), metric("excess_states")("5-10")) <= 2.0, sameness="identity"),
    abstract("winners-correct",
        "The pairwise network alone, with randomly drawn winners, recovers states of 480 nodes from 4 % errors",
        metric("recovery_first_0.04")("wta") >= 0.9),
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
    scaffold("scaffold-holds-its-nodes", "A scaffold recalls as many contents as it has nodes from 4 % errors (cosine)",
        overlap("contents-scaffold") >= 0.95),
    scaffold("scaffold-declines-smoothly", "Doubling the number of contents costs a scaffold less than Hopfield "
        "networks with as many weights (largest loss of cosine, minus that of the better of two rules)",
        loss("contents-scaffold") - minimum(*map(loss, HOPFIELD)) <= -0.1),
    scaffold("scaffold-keeps-something",
        "With four times as many contents as nodes, a scaffold keeps more than Hopfield networks (difference of "
        "cosines)",
        overload("contents-scaffold") - maximum(*map(overload, HOPFIELD)) >= 0.05),
    par("belief-propagation-goes-further", "At 10 % errors, belief propagation still recovers everything",
        metric("recovery_first_0.1")("decoder-belief-propagation") >= 0.95),
    par("par-is-in-scaling-only",
        "At 10 % errors the network does not recover: it is on par in scaling, not in the number of errors it corrects",
        metric("recovery_first_0.1")("decoder-max") <= 0.3),
]  # fmt: skip
quantities = [
    *(
        Quantity(
            f"{word}-constraints",
            f"Recovery at rate 1/2 with {word} constraints per node, 1920 nodes minus 480 (4 % errors)",
            growth(arm, "second", "fourth"),
        )
        for word, arm in (("three", "3-6"), ("four", "4-8"), ("five", "5-10"))
    ),
    Quantity(
        "classic-capacity",
        "Patterns per node of which a classic Hopfield network recovers half",
        metric("capacity")("load"),
    ),
    Quantity(
        "shallow-memories",
        "Share of 10,000 stored patterns that a classic Hopfield network or a cubic one recovers, the larger",
        maximum(metric("recovery")("stored-hebb"), metric("recovery")("stored-dense-3")),
    ),
    Quantity(
        "unstored-states",
        "Share of states of its code that the expander network recovers without storing them",
        others("stored-expander"),
    ),
    Quantity(
        "weights",
        "Weights of the expander network over those of attention over 10,000 patterns",
        metric("weights")("stored-expander") / metric("weights")("stored-attention"),
    ),
    Quantity(
        "random-packing",
        "Bits by which learned sets of random patterns differ from sets that were drawn directly, the largest",
        metric("error")("packing"),
    ),
    Quantity(
        "joint-states",
        "Logarithm of the number of states consistent with all clusters of random patterns, per node, if independent",
        maximum(metric("exponent_6")("packing"), metric("exponent_10")("packing")),
    ),
    *(
        Quantity(
            f"recovery-by-{decoder}",
            f"Share of states recovered at 10 % errors, decoder {decoder}",
            metric("recovery_first_0.1")(f"decoder-{decoder}"),
        )
        for decoder in FLIPS
    ),
]
