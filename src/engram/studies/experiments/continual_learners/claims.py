"""Claims about what continual learners forget; nobody has published this table, so each criterion is ours.

A method may keep old tasks by learning new ones less well, so each claim of keeping is paired with one about its cost.
"""

from engram.lab import claims_from, metric, minimum

NAMES = {
    "l2": "An L2 anchor on all weights",
    "ewc": "EWC",
    "online-ewc": "Online EWC",
    "si": "Synaptic intelligence",
    "mas": "MAS",
    "lwf": "Learning without forgetting",
    "replay": "Replay of 100 images",
    "learned": "A learned update",
}
RECURRENT = (
    ("plastic-rnn", "A plastic recurrent network", "rnn"),
    ("modulated-rnn", "A recurrent network with modulated plasticity", "rnn"),
    ("plastic-lstm", "A plastic LSTM", "lstm"),
)
CRITERION = "criterion ours"
ours = claims_from(CRITERION)
relative, output, probe, new = map(metric, ("relative_forgetting", "output_old", "probe_old", "probe_new"))
new_output = metric("output_new")
outputs_lost, features_lost = metric("output_forgetting"), metric("representational_forgetting")
on_permuted = "on permuted digits"
claims = [
    *(
        ours(f"{benchmark}-features-outlast-outputs",
            f"On {benchmark} digits with plain training, features forget far less than outputs",
            0.6 * outputs_lost(f"{benchmark}-finetune") - features_lost(f"{benchmark}-finetune") >= 0.0,
            source="Davari et al. 2022 (arXiv 2203.13381), abstract; criterion ours",
            published="naive training often has small representation forgetting (abstract)")
        for benchmark in ("split", "permuted")
    ),
    ours("what-was-learned-is-lost",
        "On permuted digits plain training loses much of what learning a task had added to the features",
        relative("permuted-finetune") >= 0.5, source="ours, after Hess et al. 2023 (arXiv 2304.00933), abstract"),
    *(
        ours(f"{arm}-keeps-outputs",
            f"{name} keeps more of the outputs of old tasks than plain training, {on_permuted}",
            output(f"permuted-{arm}") - output("permuted-finetune") >= 0.02)
        for arm, name in NAMES.items()
    ),
    *(
        ours(f"{arm}-keeps-features",
            f"{name} keeps more of the features of old tasks than plain training, {on_permuted}",
            probe(f"permuted-{arm}") - probe("permuted-finetune") >= 0.01)
        for arm, name in NAMES.items()
    ),
    *(
        ours(f"{arm}-learns-new", f"{name} is nearly as accurate on a new task as plain training, {on_permuted}",
            new_output(f"permuted-{arm}") - new_output("permuted-finetune") >= -0.05)
        for arm, name in NAMES.items()
    ),
    ours("learned-keeps-outputs-over-adam",
        f"A learned update keeps more of the outputs of old tasks than the Adam it modifies, {on_permuted}",
        output("permuted-learned") - output("permuted-adam-resets") >= 0.02),
    ours("learned-keeps-features-over-adam",
        f"A learned update keeps more of the features of old tasks than the Adam it modifies, {on_permuted}",
        probe("permuted-learned") - probe("permuted-adam-resets") >= 0.01),
    ours("resets-lose-features",
        "The Adam that a learned update modifies, with decays 0.9 and 0.99 and moments reset at each task, keeps fewer "
        f"of the features of old tasks than plain training, {on_permuted}",
        probe("permuted-finetune") - probe("permuted-adam-resets") >= 0.01),
    ours("importance-matters", "EWC, synaptic intelligence and MAS each keep more of the features of old tasks than a "
        "uniform L2 anchor on all weights, on permuted digits",
        minimum(*(probe(f"permuted-{arm}") - probe("permuted-l2") for arm in ("ewc", "si", "mas"))) >= 0.01),
    ours("frozen-body-pays",
        "The features of a body frozen after the first task encode less of the last task than with plain training, on "
        "permuted digits",
        new("permuted-finetune") - new("permuted-frozen") >= 0.02),
    ours("prototypes-keep-outputs", "A plastic softmax head keeps more of the outputs of old tasks than a linear one "
        "with the same initial weights, on permuted digits",
        output("permuted-dhp") - output("permuted-dhp-control") >= 0.02),
    ours("prototypes-keep-features", "A plastic softmax head keeps more of the features of old tasks than a linear one "
        "with the same initial weights, on permuted digits",
        probe("permuted-dhp") - probe("permuted-dhp-control") >= 0.01),
    ours("prototypes-learn-new", "A plastic softmax head is nearly as accurate on a new task as a linear one with the "
        "same initial weights, on permuted digits",
        new_output("permuted-dhp") - new_output("permuted-dhp-control") >= -0.05),
    *(
        ours(f"{arm}-keeps-features",
            f"{name} keeps more of the features of old tasks than one without plasticity, {on_permuted}",
            probe(f"permuted-{arm}") - probe(f"permuted-{plain}") >= 0.01)
        for arm, name, plain in RECURRENT
    ),
    *(
        ours(f"{arm}-learns-new",
            f"{name} is nearly as accurate on a new task as one without plasticity, {on_permuted}",
            new_output(f"permuted-{arm}") - new_output(f"permuted-{plain}") >= -0.05)
        for arm, name, plain in RECURRENT
    ),
]  # fmt: skip
