"""What is claimed of rules learned by remembering. Published are words alone: each criterion is ours.

All were written down, with a prototype's single seed behind the first three, before any record was made.
"""

from itertools import pairwise

from engram.lab import Measure, claims_from, metric, minimum
from engram.learned.learning_to_remember import body_only_accuracy

AGES = 5
SOURCE = "Gregor 2020, abstract, all that could be read with the introduction; task and criterion ours"
published = claims_from(
    SOURCE,
    published="local rules for bodies and synapses are found by learning to remember (no figure read)",
    presets=("laptop",),
)
ours = claims_from(SOURCE, published="not read", presets=("laptop",))
accuracy = metric("accuracy")
by_age = [metric(f"age_{age}") for age in range(AGES)]


def above_bodies(arm: str, snippets: int) -> Measure:
    """By how much an arm is better than what bodies without synapses can be."""
    return accuracy(arm) - body_only_accuracy(snippets)


def above_reference(arm: str, reference: str) -> Measure:
    """By how much an arm is better than a known rule."""
    return accuracy(arm) - metric(reference)("references")


claims = [
    published("rule-is-found", "A rule found in 2,000 short windows recalls nearly all bits of two snippets",
        accuracy("two") >= 0.99),
    published("untrained-knows-nothing", "An untrained rule recalls half of the bits",
        metric("untrained")("two").within(0.5, 0.03)),
    published("memory-goes-on",
        "A rule trained with states that go on recalls nearly all bits, over a life without an end",
        metric("accuracy_later")("carried") >= 0.99),
    published("synapses-stay-small",
        "Synapses that change for 10,000 windows without a fresh start stay small in the mean",
        metric("largest_synapses")("carried") <= 10.0),
    ours("products-matter",
        "A rule without products of its neurons recalls clearly less than all bits after as many windows",
        accuracy("additive") <= 0.90),
    ours("harder-with-more-snippets", "With more snippets less of each is recalled: two, six, twelve",
        minimum(accuracy("two-longer") - accuracy("six"), accuracy("six") - accuracy("twelve")) >= 0.0),
    ours("better-than-bodies", "Of two, six and twelve snippets a learned rule recalls far more than bodies alone can",
        minimum(above_bodies("two-longer", 2), above_bodies("six", 6), above_bodies("twelve", 12)) >= 0.10),
    ours("as-good-as-hebb", "Of six snippets a learned rule recalls about as much as Hebb's rule, or more",
        above_reference("six", "hebb_6") >= -0.02),
    ours("bodies-alone-are-bounded",
        "Of six snippets a network whose synapses do not change recalls hardly more than bodies can",
        above_bodies("static", 6) <= 0.03),
    ours("memory-is-in-synapses", "Of six snippets synapses that change recall far more than such that do not",
        accuracy("six") - accuracy("static") >= 0.15),
    ours("recent-is-recalled", "A rule trained to recall earlier windows recalls nearly all bits of the present one",
        by_age[0]("retention") >= 0.97),
    ours("the-last-window-is-recalled", "A rule trained to recall earlier windows recalls most bits of the last one",
        by_age[1]("retention") >= 0.75),
    ours("recall-falls-with-age",
        "A rule trained to recall earlier windows recalls no window better than one that came after it",
        minimum(*(later("retention") - earlier("retention") for later, earlier in pairwise(by_age))) >= 0.0),
    ours("retention-is-trained", "To be asked for earlier windows in training makes recall better over all ages",
        sum(age("retention") for age in by_age) - sum(age("retention-untrained") for age in by_age) >= 0.0),
    ours("rule-runs-in-larger-networks", "A rule found for 12 neurons recalls nearly all bits of four snippets with 24",
        metric("transfer_24")("mean") >= 0.90),
    ours("every-network-learns",
        "Visible, recurrent, layered and feedforward networks all recall most bits of four snippets",
        minimum(*(accuracy(arm) for arm in ("four", "recurrent", "layered", "feedforward"))) >= 0.70),
    ours("messages-back-help", "A layered network recalls at least as much with messages back as without",
        accuracy("layered") - accuracy("feedforward") >= 0.0),
    ours("as-good-as-gradient-descent",
        "Of two snippets a learned rule recalls no less than gradient descent online at the best of seven rates",
        above_reference("two", "sgd_linear_2") >= -0.01,
        published="the objective is related to training by back-propagation (argument, no figure)"),
    ours("better-than-deep-gradient-descent", "Of four and of six snippets a learned rule recalls more than gradient "
        "descent online in a network with a hidden layer, by the best of seven rates",
        minimum(above_reference("four", "sgd_deep_4"), above_reference("six", "sgd_deep_6")) >= 0.0),
]  # fmt: skip
