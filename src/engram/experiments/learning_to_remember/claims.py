"""What is claimed of rules learned by remembering. Published are words alone: each criterion is ours.

A rule may stay at what bodies alone can hold for thousands of windows before it finds its synapses, so that accuracies
lie apart: claims are of the median seed, whose interval has ends from six seeds on.
"""

from itertools import pairwise

from engram.lab import Measure, claims_from, metric, minimum
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
ours = claims_from(SOURCE, published="not read", presets=("laptop",), seeds=6)
accuracy = metric("accuracy")
by_age = [metric(f"age_{age}") for age in range(AGES)]


def above_bodies(arm: str, snippets: int) -> Measure:
    """By how much an arm is better than what bodies without synapses can be."""
    return accuracy(arm) - body_only_accuracy(snippets)


def above_reference(arm: str, reference: str) -> Measure:
    """By how much an arm is better than a known rule."""
    return accuracy(arm) - metric(reference)("references")


NETWORKS = {
    "recurrent": "A recurrent network recalls most bits of four snippets",
    "sparse": "A recurrent network with four visible and four hidden inputs to each neuron recalls most bits of four",
    "layered": "A layered network recalls most bits of two pairs",
    "feedforward": "A layered network without messages back recalls most bits of two pairs",
    "deep": "A network of two hidden layers recalls most bits of two pairs",
}
claims = [
    published("rule-is-found", "A rule found in 4,000 short windows recalls nearly all bits of four snippets",
        accuracy("four").median() >= 0.99),
    published("untrained-knows-nothing", "An untrained rule recalls hardly more than half of the bits",
        metric("untrained")("four") <= 0.6),
    published("memory-goes-on",
        "A rule trained with states that go on recalls nearly all bits, over a life without an end",
        metric("accuracy_later")("carried").median() >= 0.99),
    published("synapses-stay-small",
        "Synapses that change for 10,000 windows without a fresh start stay small in the mean",
        metric("largest_synapses")("carried") <= 10.0),
    ours("products-matter",
        "A rule without products of its neurons recalls clearly less than all bits after as many windows",
        accuracy("additive").median() <= 0.90),
    ours("harder-with-more-snippets", "Of twelve snippets less is recalled of each than of two",
        (accuracy("two") - accuracy("twelve")).median() >= 0.01),
    ours("better-than-bodies", "Of two, four, six and twelve snippets a learned rule recalls far more than bodies can",
        minimum(*(above_bodies(arm, n) for arm, n in SIZES.items())).median() >= 0.10),
    ours("as-good-as-hebb", "Of six snippets a learned rule recalls about as much as Hebb's rule, or more",
        above_reference("six", "hebb_6").median() >= -0.02),
    ours("bodies-alone-are-bounded",
        "Of four snippets a network whose synapses do not change recalls hardly more than bodies can",
        above_bodies("static", 4) <= 0.03),
    ours("memory-is-in-synapses", "Of four snippets synapses that change recall far more than such that do not",
        (accuracy("four") - accuracy("static")).median() >= 0.15),
    ours("recent-is-recalled", "A rule trained to recall earlier windows recalls nearly all bits of the present one",
        by_age[0]("retention").median() >= 0.97),
    ours("the-last-window-is-recalled", "A rule trained to recall earlier windows recalls most bits of the last one",
        by_age[1]("retention") >= 0.75),
    ours("recall-falls-with-age",
        "A rule trained to recall earlier windows recalls each window better than the one before it",
        minimum(*(later("retention") - earlier("retention") for later, earlier in pairwise(by_age))) >= 0.01),
    ours("retention-is-trained", "To be asked for earlier windows in training makes recall better in the mean of ages",
        (sum(age("retention") for age in by_age) - sum(age("retention-untrained") for age in by_age)) / AGES >= 0.05),
    ours("rule-runs-in-larger-networks",
        "A rule found for 12 neurons recalls nearly all bits of four snippets with 24 and with 48",
        minimum(metric("transfer_24")("mean"), metric("transfer_48")("mean")).median() >= 0.98),
    *(ours(f"{arm}-learns", statement, accuracy(arm).median() >= 0.90) for arm, statement in NETWORKS.items()),
    ours("messages-back-change-little", "A layered network recalls as much with messages back as without",
        abs(accuracy("layered") - accuracy("feedforward")).median() <= 0.02),
    ours("types-help", "A recurrent network recalls more if its neurons are told apart by type",
        (accuracy("recurrent") - accuracy("no-types")).median() >= 0.01),
    ours("one-number-is-enough", "A synapse of one number recalls as much as one of two",
        (accuracy("four") - accuracy("scalar-synapse")).median() <= 0.02),
    ours("outer-products-are-enough", "Learned outer products alone, Hebb's family, recall as much as a gated network",
        (accuracy("four") - accuracy("outer")).median() <= 0.02),
    ours("errors-are-not-needed", "Outer products of the error, the delta rule's family, recall no more than without",
        (accuracy("delta") - accuracy("outer")).median() <= 0.02),
    ours("better-than-lstm", "An LSTM with about as many numbers of state recalls far less after as many windows",
        (accuracy("four") - accuracy("lstm")).median() >= 0.10),
    ours("as-good-as-gradient-descent",
        "Of two snippets a learned rule recalls no less than gradient descent online at a rate chosen in validation",
        above_reference("two", "sgd_linear_2").median() >= -0.01,
        published="the objective is related to training by back-propagation (argument, no figure)"),
    ours("better-than-deep-gradient-descent", "Of four and of six snippets a learned rule recalls more than gradient "
        "descent online in a network with a hidden layer, at a rate chosen in validation",
        minimum(above_reference("four", "sgd_deep_4"), above_reference("six", "sgd_deep_6")).median() >= 0.02),
]  # fmt: skip
