"""Claims about rules learned by remembering; the paper states its claims in words only, so the criteria are ours.

A rule may stay for thousands of windows at the accuracy of bodies alone before it uses its synapses, so accuracies are
bimodal. Claims are therefore about the median over seeds, whose interval is bounded from six seeds on. Rules for
networks with hidden neurons, and for earlier windows, are the best of four searches in each trial.
"""

from engram.lab import Measure, Quantity, claims_from, maximum, metric, minimum
from engram.learned.learning_to_remember import body_only_accuracy

AGES = 5
SIZES = {"two": 2, "four": 4, "six": 6, "twelve": 12}
SOURCE = "Gregor 2020, abstract, all that could be read with the introduction; task and criterion ours"
published = claims_from(
    SOURCE,
    published="local rules for bodies and synapses are found by learning to remember (no figure read)",
    presets=("laptop",),
    seeds=6,
)
ours = claims_from(SOURCE, seeds=6)
accuracy = metric("accuracy")


def forgotten(arm: str) -> Measure:
    """The share of bits recalled wrongly, which tells apart accuracies near 1; at least one in a million."""
    return maximum(1.0 - accuracy(arm), 1e-6)


def above_bodies(arm: str, snippets: int) -> Measure:
    """The lead of an arm over the best accuracy of bodies without synapses."""
    return accuracy(arm) - body_only_accuracy(snippets)


def above_reference(arm: str, reference: str) -> Measure:
    """The lead of an arm over a known rule."""
    return accuracy(arm) - metric(reference)("references")


NETWORKS = {
    "recurrent": "The best of four rules for a recurrent network recalls most bits of four snippets",
    "sparse": "The best of four rules for a recurrent network with four visible and four hidden inputs per neuron "
    "recalls most bits of four snippets",
    "layered": "The best of four rules for a layered network recalls most bits of two pairs",
    "feedforward": "The best of four rules for a layered network without backward messages recalls most bits of two "
    "pairs",
    "deep": "The best of four rules for a network with two hidden layers recalls most bits of two pairs",
}
claims = [
    published("rule-is-found", "A rule found in 2,000 short windows recalls nearly all bits of four snippets",
        accuracy("four").median() >= 0.99),
    ours("memory-goes-on",
        "A rule trained with persistent states recalls nearly all bits over a lifetime without resets",
        metric("accuracy_later")("carried").median() >= 0.99),
    ours("products-matter",
        "A rule without products of neural activities falls clearly short of recalling all bits after as many windows",
        accuracy("additive").median() <= 0.90),
    ours("harder-with-more-snippets", "Recall is less accurate with twelve snippets than with two",
        (accuracy("two") - accuracy("twelve")).median() >= 0.01),
    ours("as-good-as-hebb", "With six snippets a learned rule recalls about as much as Hebb's rule or more",
        above_reference("six", "hebb_6").median() >= -0.02),
    ours("memory-is-in-synapses", "With four snippets a network with changing synapses recalls far more than one with "
        "fixed synapses",
        (accuracy("four") - accuracy("static")).median() >= 0.15),
    ours("the-last-window-is-recalled", "The best of four rules trained to recall earlier windows recalls most "
        "bits of the previous one",
        metric("age_1")("retention") >= 0.75),
    ours("rule-runs-in-larger-networks",
        "A rule found for 12 neurons recalls nearly all bits of four snippets with 24 and with 48",
        minimum(metric("transfer_24")("mean"), metric("transfer_48")("mean")).median() >= 0.98, presets=("laptop",)),
    *(ours(f"{arm}-learns", statement, accuracy(arm).median() >= 0.90) for arm, statement in NETWORKS.items()),
    ours("types-help", "A recurrent network forgets a fifth less if its rule, the best of four, distinguishes types of "
        "neurons (ratio of the bits recalled wrongly)",
        (forgotten("recurrent") / forgotten("no-types")).median() <= 0.8,
        revised="recalls more by at least .01"),
    ours("one-number-is-enough", "Synapses with one state variable recall as much as those with two",
        (accuracy("four") - accuracy("scalar-synapse")).median() <= 0.02),
    ours("outer-products-are-enough", "Learned outer products alone, Hebb's family, recall as much as a gated network",
        (accuracy("four") - accuracy("outer")).median() <= 0.02),
    ours("errors-are-not-needed", "Outer products with the error, the delta rule's family, forget no less than those "
        "without it (ratio of the bits recalled wrongly)",
        (forgotten("outer") / forgotten("delta")).median() <= 1.25,
        revised="recall more by at most .02"),
    ours("better-than-lstm", "An LSTM with about as many state variables recalls far less after as many windows",
        (accuracy("four") - accuracy("lstm")).median() >= 0.10),
    ours("better-than-deep-gradient-descent", "With four and six snippets a learned rule recalls more than online "
        "gradient descent in a network with a hidden layer, at a rate chosen by validation",
        minimum(above_reference("four", "sgd_deep_4"), above_reference("six", "sgd_deep_6")).median() >= 0.02),
]  # fmt: skip
quantities = [
    Quantity("untrained-recall", "Share of bits of four snippets that an untrained rule recalls",
        metric("untrained")("four")),
    Quantity("largest-synapses", "Mean size of synapses that change for 10,000 windows without a reset, in the window "
        "in which it is largest",
        metric("largest_synapses")("carried")),
    *(
        Quantity(f"above-bodies-{arm}", f"With {arm} snippets, share of bits that a learned rule recalls beyond those "
            "that bodies can",
            above_bodies(arm, n).median())
        for arm, n in SIZES.items()
    ),
    Quantity("fixed-synapses-above-bodies", "With four snippets, share of bits that a network with fixed synapses "
        "recalls beyond those that bodies can",
        above_bodies("static", 4)),
    Quantity("recall-of-the-current-window", "Share of bits of the current window that the best of four rules trained "
        "to recall earlier windows recalls",
        metric("age_0")("retention").median()),
    Quantity("gradient-descent-above", "With two snippets, share of bits that online gradient descent at a rate chosen "
        "by validation recalls beyond those of a learned rule",
        (metric("sgd_linear_2")("references") - accuracy("two")).median()),
]  # fmt: skip
