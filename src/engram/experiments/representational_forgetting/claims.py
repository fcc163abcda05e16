"""What is claimed of representational forgetting: published are words alone, so that each criterion is ours.

All were written down before any record was made. They follow from the abstract and from what the parts are known to do.
"""

from engram.lab import claims_from, metric

SOURCE = "Xiong, Ren & Urtasun 2019, abstract, all that could be read; tasks, networks and criterion ours"
survives = claims_from(
    SOURCE, published="useful representation of old tasks is left, and recoverable from few examples"
)
improves = claims_from(
    SOURCE, published="learned updates improve representation of new tasks and keep that of old ones"
)
ours = claims_from(SOURCE, published="not read")
HAND_MADE = {
    "l2": "an anchor",
    "ewc": "EWC",
    "lwf": "learning without forgetting by outputs",
    "feature-lwf": "learning without forgetting by features",
}
output, probe, new, balance = map(metric, ("output_old", "probe_old", "probe_new", "balance"))
five, five_before, sequence = map(metric, ("five_old", "five_old_before", "sequence_old"))
outputs_lost, features_lost = metric("output_forgetting"), metric("representational_forgetting")
mimicry, cka = metric("mimicry"), metric("teacher_cka")
SINGLE = "finetune-single-head"
claims = [
    survives("outputs-are-forgotten", "With one head for all classes, plain training on a second task leaves the "
        "outputs little of the first task's answers", output(SINGLE) <= 0.10),
    survives("features-are-left", "Where outputs are forgotten, probes with five examples of each class tell much of "
        "what they told just after the first task", five(SINGLE) - 0.6 * five_before(SINGLE) >= 0.0),
    survives("forgetting-is-mostly-the-read-out",
        "With a head for each task, what is lost in the features is well below what the outputs forget",
        features_lost("finetune") - 0.6 * outputs_lost("finetune") <= 0.0),
    survives("few-examples-recover",
        "Where outputs are forgotten, probes with five examples of each class tell many more answers than these",
        five(SINGLE) - output(SINGLE) >= 0.3),
    survives("few-examples-are-enough",
        "Where outputs are forgotten, probes with five examples of each class tell nearly what those with all tell",
        five(SINGLE) - 0.85 * probe(SINGLE) >= 0.0),
    improves("learned-updates-keep-more",
        "After a learned update probes tell more of the old task than after Adam at its best rate",
        probe("learned") - probe("finetune") >= 0.01),
    improves("learned-updates-do-not-pay",
        "After a learned update probes tell as much of the new task as after Adam at its best rate",
        new("learned") - new("finetune") >= -0.01),
    ours("a-frozen-body-pays",
        "Probes of a frozen body tell less of the new task than after Adam: to stand still is no answer",
        new("finetune") - new("frozen") >= 0.01),
    *(
        ours(f"as-good-as-{arm}",
            f"Over both tasks probes tell as much after a learned update as after {how}, at its best strength and rate",
            balance("learned") - balance(arm) >= -0.01)
        for arm, how in HAND_MADE.items()
    ),
    ours("not-only-rates", "Over both tasks probes tell more after an update learned for each weight than after one "
        "that is but a learned rate for each layer", balance("learned") - balance("learned-rates") >= 0.01),
    improves("it-mimics-the-teacher", "On pairs of tasks that it was not trained on, a learned update brings activity "
        "nearer to that of a teacher of both tasks than Adam does at its best rate (ratio of squared errors)",
        mimicry("learned") / mimicry("finetune") <= 0.95),
    improves("its-geometry-is-nearer-to-the-teachers", "On pairs of tasks that it was not trained on, a learned update "
        "brings geometry nearer to that of a teacher of both tasks than Adam does at its best rate (difference of CKA)",
        cka("learned") - cka("finetune") >= 0.01),
    ours("longer-sequences",
        "After five tasks probes tell more of the first four with an update that was trained on pairs than with Adam",
        sequence("learned") - sequence("finetune") >= 0.01),
    ours("untrained-is-adam",
        "An untrained rule makes the steps of Adam (gap as a part of the largest weight, over twenty steps)",
        metric("gap_to_adam")("learned") <= 1e-4, sameness="identity"),
]  # fmt: skip
