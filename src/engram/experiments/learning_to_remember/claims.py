"""What is claimed of rules learned by remembering. Published are words alone: each criterion is ours.

All were written down, with a prototype's single seed behind the first three, before any record was made.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from engram.lab import claimed, least, value
from engram.lab.measure import Measure
from engram.learned.learning_to_remember import body_only_accuracy

AGES = 5

published = partial(
    claimed,
    source="Gregor 2020, abstract, all that could be read with the introduction; task and criterion ours",
    published="local rules for bodies and synapses are found by learning to remember (no figure read)",
    presets=("laptop",),
)
ours = partial(published, published="not read")


def accuracy(arm: str) -> Measure:
    """Return the share of right bits of an arm's test."""
    return value(arm, "accuracy")


def above_bodies(arm: str, snippets: int) -> Measure:
    """Return by how much an arm is better than what bodies without synapses can be."""
    bound = body_only_accuracy(snippets)
    return Measure(lambda results: float(results[arm]["accuracy"]) - bound, (arm,))


def of_ages(arm: str, combine: Callable[[list[float]], float]) -> Measure:
    """Return what becomes of an arm's shares of right bits by age, the last shown first."""
    return Measure(lambda results: combine([float(results[arm][f"age_{age}"]) for age in range(AGES)]), (arm,))


def smallest_fall(shares: list[float]) -> float:
    """Return by how much a share falls from one age to the next, at least."""
    return min(one - other for one, other in pairwise(shares))


claims = [
    published(
        "rule-is-found",
        "A rule found in 2,000 short windows recalls 99 % of the bits of two snippets",
        accuracy("two") >= 0.99,
    ),
    published(
        "untrained-knows-nothing",
        "An untrained rule recalls half of the bits",
        value("two", "untrained").within(0.5, 0.03),
    ),
    published(
        "memory-goes-on",
        "A rule trained with states that go on recalls 99 % of the bits, over a life without an end",
        value("carried", "accuracy_later") >= 0.99,
    ),
    published(
        "synapses-stay-small",
        "Synapses that change for 10,000 windows without a fresh start stay below 10 in the mean",
        value("carried", "largest_synapses") <= 10.0,
    ),
    ours(
        "products-matter",
        "A rule without products of its neurons recalls at most 90 % of the bits after as many windows",
        accuracy("additive") <= 0.90,
    ),
    ours(
        "harder-with-more-snippets",
        "With more snippets less of each is recalled: two, six, twelve",
        least(accuracy("two-longer") - accuracy("six"), accuracy("six") - accuracy("twelve")) >= 0.0,
    ),
    ours(
        "better-than-bodies",
        "Of two, six and twelve snippets a learned rule recalls more than bodies alone can, by 0.1 of the bits or more",
        least(above_bodies("two-longer", 2), above_bodies("six", 6), above_bodies("twelve", 12)) >= 0.10,
    ),
    ours(
        "as-good-as-hebb",
        "Of six snippets a learned rule recalls as much as Hebb's rule, but for 0.02 of the bits",
        accuracy("six") - value("references", "hebb_6") >= -0.02,
    ),
    ours(
        "bodies-alone-are-bounded",
        "Of six snippets a network whose synapses do not change recalls what bodies can, within 0.03 of the bits",
        above_bodies("static", 6) <= 0.03,
    ),
    ours(
        "memory-is-in-synapses",
        "Of six snippets synapses that change recall more than such that do not, by 0.15 of the bits or more",
        accuracy("six") - accuracy("static") >= 0.15,
    ),
    ours(
        "recent-is-recalled",
        "A rule trained to recall earlier windows recalls 97 % of the bits of the present one",
        value("retention", "age_0") >= 0.97,
    ),
    ours(
        "the-last-window-is-recalled",
        "A rule trained to recall earlier windows recalls 75 % of the bits of the last one",
        value("retention", "age_1") >= 0.75,
    ),
    ours(
        "recall-falls-with-age",
        "A rule trained to recall earlier windows recalls no window better than one that came after it",
        of_ages("retention", smallest_fall) >= 0.0,
    ),
    ours(
        "retention-is-trained",
        "To be asked for earlier windows in training makes recall better over all ages",
        of_ages("retention", sum) - of_ages("retention-untrained", sum) >= 0.0,
    ),
    ours(
        "rule-runs-in-larger-networks",
        "A rule found for 12 neurons recalls 90 % of the bits of four snippets with 24",
        value("mean", "transfer_24") >= 0.90,
    ),
    ours(
        "every-network-learns",
        "Visible, recurrent, layered and feedforward networks recall 70 % of the bits of four snippets or more",
        least(*(accuracy(arm) for arm in ("four", "recurrent", "layered", "feedforward"))) >= 0.70,
    ),
    ours(
        "messages-back-help",
        "A layered network recalls at least as much with messages back as without",
        accuracy("layered") - accuracy("feedforward") >= 0.0,
    ),
    ours(
        "as-good-as-gradient-descent",
        "Of two snippets a learned rule recalls as much as gradient descent online at the best of seven rates, but for "
        "0.01 of the bits",
        accuracy("two") - value("references", "sgd_linear_2") >= -0.01,
        published="the objective is related to training by back-propagation (argument, no figure)",
    ),
    ours(
        "better-than-deep-gradient-descent",
        "Of four and of six snippets a learned rule recalls more than gradient descent online in a network with a "
        "hidden layer, by the best of seven rates",
        least(
            accuracy("four") - value("references", "sgd_deep_4"),
            accuracy("six") - value("references", "sgd_deep_6"),
        )
        >= 0.0,
    ),
]
