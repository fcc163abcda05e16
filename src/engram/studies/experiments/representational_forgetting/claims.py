"""Claims about representational forgetting; the paper states its claims in words only, so the criteria are ours.

They follow from the abstract and from known properties of the methods, and were written before any record was made.
Later came the one that a learned update improves features for the new task, which is the abstract's, and the leads over
an untrained body, since such a body met the criteria of the record.
"""

from engram.lab import Quantity, claims_from, maximum, metric

SOURCE = "Xiong, Ren & Urtasun 2019, abstract, all that could be read; tasks, networks and criterion ours"
survives = claims_from(
    SOURCE, published="useful representation of old tasks is left, and recoverable from few examples"
)
improves = claims_from(
    SOURCE, published="learned updates improve representation of new tasks and keep that of old ones"
)
ours = claims_from("ours")
LEAD = 0.05  # three standard errors of a difference of accuracies on the 1,500 test images of a seed
HAND_MADE = {
    "l2": "an anchor",
    "ewc": "EWC",
    "lwf": "learning without forgetting by outputs",
    "feature-lwf": "learning without forgetting by features",
}
output, probe, new, balance = map(metric, ("output_old", "probe_old", "probe_new", "balance"))
five, sequence = map(metric, ("five_old", "sequence_old"))
outputs_lost, features_lost = metric("output_forgetting"), metric("representational_forgetting")
mimicry, cka = metric("mimicry"), metric("teacher_cka")
SINGLE = "finetune-single-head"
claims = [
    survives("outputs-are-forgotten", "With one head for all classes, plain training on a second task leaves the "
        "outputs a low accuracy on the first", output(SINGLE) <= 0.10,
        published="outputs change fast when the data change (no figure)"),
    survives("features-are-left", "If outputs are forgotten, probes with all examples are more accurate than on an "
        "untrained body", probe(SINGLE) - metric("probe_old_random")(SINGLE) >= LEAD,
        revised="probes with five examples per class keep three fifths of their accuracy just after the first task"),
    ours("half-of-what-was-learned-is-left", "If outputs are forgotten, probes with all examples keep at least two "
        "fifths of what learning the first task had added to the accuracy on an untrained body (share that is lost)",
        metric("relative_forgetting")(SINGLE) <= 0.6),
    survives("forgetting-is-mostly-the-read-out",
        "With a head for each task, the features forget much less than the outputs",
        features_lost("finetune") - 0.6 * outputs_lost("finetune") <= 0.0),
    survives("few-examples-recover",
        "If outputs are forgotten, probes with five examples per class are more accurate than the outputs, and than "
        "such probes on an untrained body (the smaller lead)",
        five(SINGLE) - maximum(output(SINGLE), metric("five_old_random")(SINGLE)) >= LEAD,
        revised="more accurate than the outputs alone, by at least .3"),
    improves("learned-updates-keep-more",
        "After a learned update probes are more accurate on the old task than after Adam at its best rate",
        probe("learned") - probe("finetune") >= 0.01),
    improves("learned-updates-improve-the-new",
        "After a learned update probes are more accurate on the new task than after Adam at its best rate",
        new("learned") - new("finetune") >= 0.01),
    ours("learned-updates-do-not-pay",
        "After a learned update probes are as accurate on the new task as after Adam at its best rate",
        new("learned") - new("finetune") >= -0.01),
    ours("a-frozen-body-pays",
        "Probes on a frozen body are less accurate on the new task than after Adam: not learning is no solution",
        new("finetune") - new("frozen") >= 0.01),
    ours("as-good-as-plain", "Over both tasks probes are as accurate after a learned update as after Adam at its best "
        "rate",
        balance("learned") - balance("finetune") >= -0.01),
    ours("not-only-rates", "Over both tasks probes are more accurate after an update learned for each weight than "
        "after one with only a learned rate for each layer", balance("learned") - balance("learned-rates") >= 0.01),
    improves("it-mimics-the-teacher", "On unseen pairs of tasks, a learned update brings activity closer to that of a "
        "teacher of both tasks than Adam at the rate that is best for probes (ratio of squared errors)",
        mimicry("learned") / mimicry("finetune") <= 0.95),
    improves("its-geometry-is-nearer-to-the-teachers", "On unseen pairs of tasks, a learned update brings geometry "
        "closer to that of a teacher of both tasks than Adam at its best rate (difference of CKA)",
        cka("learned") - cka("finetune") >= 0.01),
    ours("longer-sequences",
        "After five tasks probes are more accurate on the first four with an update trained on pairs than with Adam",
        sequence("learned") - sequence("finetune") >= 0.01),
]  # fmt: skip
quantities = [
    Quantity("five-over-all-examples", "Accuracy of probes with five examples per class on the first task over that of "
        "probes with all, if outputs are forgotten",
        five(SINGLE) / probe(SINGLE)),
    *(
        Quantity(f"learned-over-{arm}", "Accuracy of probes over both tasks after a learned update less that after "
            f"{how} at its best strength and rate",
            balance("learned") - balance(arm))
        for arm, how in HAND_MADE.items()
    ),
]  # fmt: skip
