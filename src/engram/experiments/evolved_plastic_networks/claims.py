"""What is claimed of evolved networks, and what would show it."""

from engram.lab import Measure, claims_from, maximum, metric

accuracy, withheld_accuracy = metric("accuracy"), metric("withheld_accuracy")
CONTROLS = ("no_learning", "new_weight", "shuffled_trace")
BEFORE = ("newborn_before_life", "newborn_after_life", "evolved_before_life")


def evolved(key: str) -> Measure:
    """What the evolved genome has of something."""
    return metric(key)("evolved")


def above(key: str, *controls: str) -> Measure:
    """By how much the evolved genome is above the best of some controls."""
    return evolved(key) - maximum(*(evolved(f"{control}_{key}") for control in controls))


SOURCE, UNREAD = "abstract and published code", "no figure read"
laptop = claims_from(SOURCE, published="learning curves, no figure read", presets=("laptop",))
headline = claims_from(SOURCE, published="figure 2, no figure read", presets=("hour", "paper"))
decoding = claims_from(SOURCE, published="figure 4, no figure read", presets=("hour", "paper"))
everywhere = claims_from(SOURCE, published=UNREAD, presets=("laptop", "hour", "paper"))
baseline = claims_from(
    "ours: a baseline whose figure is to be reported", published=UNREAD, presets=("laptop", "hour", "paper")
)
claims = [
    laptop("first-rung",
        "After 250 generations of 100 individuals, networks learn the right constant answer of each task",
        accuracy("first-rung") >= 0.62),
    laptop("first-rung-loss",
        "After 250 generations of 100 individuals, the loss on the training tasks says that networks learn them",
        metric("loss")("first-rung") <= 0.31),
    laptop("nothing-innate",
        "Before the first change of a weight evolved networks answer by chance, so that nothing is known from birth",
        metric("early_accuracy")("first-rung").within(0.5, 0.03)),
    laptop("learning-needs-plasticity",
        "Evolved genomes without plasticity stay near chance: activity alone does not learn",
        metric("innate_accuracy")("first-rung") <= 0.55),
    laptop("plasticity-gain", "Evolved genomes do better with plasticity than without",
        accuracy("first-rung") - metric("innate_accuracy")("first-rung") >= 0.08),
    laptop("learning-in-life",
        "Evolved longer, networks learn the training tasks in their lifetime (accelerated: 48 units, 40 ms)",
        accuracy("evolved") >= 0.75),
    laptop("within-lifetime-gain",
        "Networks that evolved longer answer far better at the end of a life than in its first 31 trials",
        evolved("gain") >= 0.2),
    laptop("evolution-needs-plasticity", "Evolution without plasticity in life ends lower",
        accuracy("evolved") - accuracy("no-plasticity") >= 0.05),
    headline("training-tasks", "With the published settings, networks learn the training tasks in their lifetime",
        accuracy("evolved") >= 0.9),
    headline("unseen-task",
        "With the published settings, networks acquire delayed match-to-sample, a task that evolution has never seen",
        withheld_accuracy("evolved") >= 0.75,
        published="acquire a novel cognitive task from stimuli and rewards alone (abstract), figure 2"),
    headline("newborn-fails", "The genome that evolution began with does not acquire delayed match-to-sample",
        evolved("newborn_withheld_accuracy") <= 0.55),
    headline("controls-unseen-task", "No learning, new weights or a shuffled trace make the unseen task much worse",
        above("withheld_accuracy", *CONTROLS) >= 0.15, published=UNREAD),
    headline("other-unseen-task",
        "Networks that evolved without NAND and AND acquire NAND, in which one constant answer has 0.75",
        withheld_accuracy("withhold-nand") >= 0.9, presets=("paper",)),
    everywhere("controls-training-tasks",
        "No learning, new weights or a shuffled trace make the training tasks much worse",
        above("accuracy", *CONTROLS) >= 0.15),
    everywhere("trace-needed", "A trace that lasts two steps instead of a second makes the training tasks much worse",
        above("accuracy", "short_trace") >= 0.15),
    everywhere("evolved-plasticities",
        "Plasticities as they evolved do better than their mean in all connections, and than those at the beginning",
        above("accuracy", "mean_alpha", "initial_alpha") >= 0.02, source="ours", published=""),
    baseline("trained-by-gradient",
        "A GRU trained by back-propagation on a discrete twin of the twelve tasks learns them in its lifetime",
        accuracy("gru") >= 0.75),
    baseline("trained-by-gradient-fails",
        "A GRU trained by back-propagation does not acquire the unseen task's discrete twin, by the criterion of "
        "evolved networks",
        withheld_accuracy("gru") <= 0.75),
    baseline("better-than-by-gradient",
        "On the unseen task evolved networks do better than a GRU trained by back-propagation on its discrete twin",
        withheld_accuracy("evolved") - withheld_accuracy("gru") >= 0.02),
    decoding("target-decoded",
        "After evolution and life, the target is decoded from the activity in the response window",
        evolved("target_evolved_after_life_response") >= 0.8),
    decoding("target-not-decoded-before",
        "Without evolution or without life, the target is not decoded from the activity in the response window",
        maximum(*(evolved(f"target_{when}_response") for when in BEFORE)) <= 0.8),
    decoding("stimulus-held", "The first stimulus is decoded all through the delay",
        evolved("stimulus1_evolved_after_life_delay") >= 0.8),
]  # fmt: skip
