"""What is claimed of evolved networks, and what would show it."""

from functools import partial

from engram.lab import Measure, claimed, most, value

CONTROLS = ("no_learning", "new_weight", "shuffled_trace")
BEFORE = ("newborn_before_life", "newborn_after_life", "evolved_before_life")


def above(key: str, *controls: str) -> Measure:
    """Return by how much the evolved genome is above the best of some controls."""
    return value("evolved", key) - most(*(value("evolved", f"{control}_{key}") for control in controls))


both = partial(claimed, source="abstract and published code", published="no figure read")
laptop = partial(both, presets=("laptop",))
curves = partial(laptop, published="learning curves, no figure read")
headline = partial(both, published="figure 2, no figure read", presets=("hour", "paper"))
paper = partial(headline, presets=("paper",))
decoding = partial(headline, published="figure 4, no figure read")
everywhere = partial(both, presets=("laptop", "hour", "paper"))
baseline = partial(everywhere, source="ours: a baseline whose figure is to be reported")
claims = [
    curves(
        "first-rung",
        "After 250 generations of 100 individuals, networks learn the right constant answer of each task",
        value("first-rung", "accuracy") >= 0.62,
    ),
    curves(
        "first-rung-loss",
        "After 250 generations of 100 individuals, the loss on the training tasks says that networks learn them",
        value("first-rung", "loss") <= 0.31,
    ),
    laptop(
        "nothing-innate",
        "Before the first change of a weight evolved networks answer by chance, so that nothing is known from birth",
        value("first-rung", "early_accuracy").within(0.5, 0.03),
    ),
    laptop(
        "learning-needs-plasticity",
        "Evolved genomes without plasticity stay near chance: activity alone does not learn",
        value("first-rung", "innate_accuracy") <= 0.55,
    ),
    laptop(
        "plasticity-gain",
        "Evolved genomes without plasticity are worse than with it by 0.08 or more",
        value("first-rung", "accuracy") - value("first-rung", "innate_accuracy") >= 0.08,
    ),
    curves(
        "learning-in-life",
        "Evolved longer, networks learn the training tasks in their lifetime (accelerated: 48 units, 40 ms)",
        value("evolved", "accuracy") >= 0.75,
    ),
    laptop(
        "within-lifetime-gain",
        "Networks that evolved longer answer better at the end of a life than in its first 31 trials by 0.2 or more",
        value("evolved", "gain") >= 0.2,
    ),
    laptop(
        "evolution-needs-plasticity",
        "Evolution without plasticity in life ends lower by 0.05 or more",
        value("evolved", "accuracy") - value("no-plasticity", "accuracy") >= 0.05,
    ),
    headline(
        "training-tasks",
        "With the published settings, networks learn the training tasks in their lifetime",
        value("evolved", "accuracy") >= 0.9,
    ),
    headline(
        "unseen-task",
        "With the published settings, networks acquire delayed match-to-sample, a task that evolution has never seen",
        value("evolved", "withheld_accuracy") >= 0.75,
        published="acquire a novel cognitive task from stimuli and rewards alone (abstract), figure 2",
    ),
    headline(
        "newborn-fails",
        "The genome that evolution began with does not acquire delayed match-to-sample",
        value("evolved", "newborn_withheld_accuracy") <= 0.55,
    ),
    headline(
        "controls-unseen-task",
        "No learning, new weights or a shuffled trace make the unseen task worse by 0.15 or more",
        above("withheld_accuracy", *CONTROLS) >= 0.15,
        published="no figure read",
    ),
    paper(
        "other-unseen-task",
        "Networks that evolved without NAND and AND acquire NAND, in which one constant answer has 0.75",
        value("withhold-nand", "withheld_accuracy") >= 0.9,
    ),
    everywhere(
        "controls-training-tasks",
        "No learning, new weights or a shuffled trace make the training tasks worse by 0.15 or more",
        above("accuracy", *CONTROLS) >= 0.15,
    ),
    everywhere(
        "trace-needed",
        "A trace that lasts two steps instead of a second makes the training tasks worse by 0.15 or more",
        above("accuracy", "short_trace") >= 0.15,
    ),
    everywhere(
        "evolved-plasticities",
        "Plasticities as they evolved do better than their mean in all connections, and than those at the beginning",
        above("accuracy", "mean_alpha", "initial_alpha") >= 0.0,
        source="ours",
        published="none",
    ),
    baseline(
        "trained-by-gradient",
        "A GRU trained by back-propagation on the same twelve tasks learns them in its lifetime",
        value("gru", "accuracy") >= 0.75,
    ),
    baseline(
        "trained-by-gradient-fails",
        "A GRU trained by back-propagation does not acquire the unseen task, by the criterion of evolved networks",
        value("gru", "withheld_accuracy") <= 0.75,
    ),
    baseline(
        "better-than-by-gradient",
        "On the unseen task evolved networks do better than a GRU trained by back-propagation (below 0 the order is "
        "reversed)",
        value("evolved", "withheld_accuracy") - value("gru", "withheld_accuracy") >= 0.0,
    ),
    decoding(
        "target-decoded",
        "After evolution and life, the target is decoded from the activity in the response window",
        value("evolved", "target_evolved_after_life_response") >= 0.8,
    ),
    decoding(
        "target-not-decoded-before",
        "Without evolution or without life, the target is not decoded from the activity in the response window",
        most(*(value("evolved", f"target_{when}_response") for when in BEFORE)) <= 0.8,
    ),
    decoding(
        "stimulus-held",
        "The first stimulus is decoded all through the delay",
        value("evolved", "stimulus1_evolved_after_life_delay") >= 0.8,
    ),
]
