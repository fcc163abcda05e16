"""What is claimed of representational forgetting: published are words alone, so that each criterion is ours.

All were written down before any record was made. They follow from the abstract and from what the parts are known to do.
"""

from functools import partial

from engram.lab import claimed, largest, least, value
from engram.lab.measure import Measure

HAND_MADE = ("l2", "ewc", "lwf", "feature-lwf")

published = partial(
    claimed,
    source="Xiong, Ren & Urtasun 2019, abstract, all that could be read; tasks, networks and criterion ours",
    presets=("laptop", "paper"),
)
survives = partial(published, published="useful representation of old tasks is left, and recoverable from few examples")
improves = partial(published, published="learned updates improve representation of new tasks and keep that of old ones")
ours = partial(published, published="not read")


def beyond(arm: str, part: str, share: float, whole: str) -> Measure:
    """Return by how much a result of an arm is more than a share of another."""
    return Measure(lambda results: float(results[arm][part]) - share * float(results[arm][whole]), (arm,))


claims = [
    survives(
        "outputs-are-forgotten",
        "With one head for all classes, plain training on a second task leaves the outputs at most a tenth of the "
        "first task's answers",
        value("finetune-single-head", "output_old") <= 0.10,
    ),
    survives(
        "features-are-left",
        "Where outputs are forgotten, probes with five examples of each class tell at least 0.6 of what they told just "
        "after the first task",
        beyond("finetune-single-head", "five_old", 0.6, "five_old_before") >= 0.0,
    ),
    survives(
        "forgetting-is-mostly-the-read-out",
        "With a head for each task, what is lost in the features is at most 0.6 of what the outputs forget",
        beyond("finetune", "representational_forgetting", 0.6, "output_forgetting") <= 0.0,
    ),
    survives(
        "few-examples-recover",
        "Where outputs are forgotten, probes with five examples of each class tell more answers than these, by 0.3",
        value("finetune-single-head", "five_old") - value("finetune-single-head", "output_old") >= 0.3,
    ),
    survives(
        "few-examples-are-enough",
        "Where outputs are forgotten, probes with five examples of each class tell 0.85 of what those with all tell",
        beyond("finetune-single-head", "five_old", 0.85, "probe_old") >= 0.0,
    ),
    improves(
        "learned-updates-keep-more",
        "After a learned update probes tell more of the old task than after Adam at its best rate (difference of "
        "accuracies)",
        value("learned", "probe_old") - value("finetune", "probe_old") >= 0.0,
    ),
    improves(
        "learned-updates-do-not-pay",
        "After a learned update probes tell as much of the new task as after Adam at its best rate, but for 0.01",
        value("learned", "probe_new") - value("finetune", "probe_new") >= -0.01,
    ),
    ours(
        "a-frozen-body-pays",
        "Probes of a frozen body tell less of the new task than after Adam, by more than 0.01: to stand still is no "
        "answer",
        value("finetune", "probe_new") - value("frozen", "probe_new") >= 0.01,
    ),
    ours(
        "as-good-as-hand-made-rules",
        "Over both tasks probes tell as much after a learned update as after the best of an anchor, EWC, and learning "
        "without forgetting by outputs and by features, at their best strengths and rates, but for 0.005",
        value("learned", "balance") - largest("balance", *HAND_MADE) >= -0.005,
    ),
    ours(
        "not-only-rates",
        "Over both tasks probes tell more after an update learned for each weight than after one that is but a learned "
        "rate for each layer",
        value("learned", "balance") - value("learned-rates", "balance") >= 0.0,
    ),
    improves(
        "it-mimics-the-teacher",
        "On pairs of tasks that it was not trained on, a learned update brings activity nearer to that of a teacher of "
        "both tasks than Adam does, in squared error and in CKA",
        least(
            value("finetune", "mimicry") - value("learned", "mimicry"),
            value("learned", "teacher_cka") - value("finetune", "teacher_cka"),
        )
        >= 0.0,
    ),
    ours(
        "longer-sequences",
        "After five tasks probes tell more of the first four with an update that was trained on pairs than with Adam",
        value("learned", "sequence_old") - value("finetune", "sequence_old") >= 0.0,
    ),
    ours(
        "untrained-is-adam",
        "An untrained rule makes the steps of Adam, within a ten-thousandth of the largest weight over twenty steps",
        value("learned", "gap_to_adam") <= 1e-4,
        sameness="identity",
    ),
]
