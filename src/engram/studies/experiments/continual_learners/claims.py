"""Claims about what continual learners forget; nobody has published this table, so each criterion is ours.

A method may keep old tasks by learning new ones less well, so each claim of keeping is paired with one about its cost.
What it keeps of the outputs is measured beside them.
"""

from engram.lab import Quantity, claims_from, metric, minimum

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
    ours("learned-keeps-features-over-adam",
        f"A learned update keeps more of the features of old tasks than the Adam it modifies, {on_permuted}",
        probe("permuted-learned") - probe("permuted-adam-resets") >= 0.01),
    ours("resets-lose-features",
        "The Adam that a learned update modifies, with decays 0.9 and 0.99 and moments reset at each task, keeps fewer "
        f"of the features of old tasks than plain training, {on_permuted}",
        probe("permuted-finetune") - probe("permuted-adam-resets") >= 0.01),
    *(
        ours(f"{arm}-keeps-features",
            f"{name} keeps more of the features of old tasks than one without plasticity, {on_permuted}",
            probe(f"permuted-{arm}") - probe(f"permuted-{plain}") >= 0.01)
        for arm, name, plain in RECURRENT
    ),
]  # fmt: skip
quantities = [
    *(
        Quantity(
            f"{arm}-outputs",
            f"Accuracy of the outputs on old tasks minus that of plain training, {on_permuted}: {name}",
            output(f"permuted-{arm}") - output("permuted-finetune"),
        )
        for arm, name in NAMES.items()
    ),
    Quantity(
        "importance-gain",
        "Features of old tasks that EWC, synaptic intelligence and MAS keep minus those of an L2 anchor, the smallest",
        minimum(*(probe(f"permuted-{arm}") - probe("permuted-l2") for arm in ("ewc", "si", "mas"))),
    ),
    Quantity(
        "frozen-body-loss",
        "Features of the last task with plain training minus those of a body frozen after the first task",
        new("permuted-finetune") - new("permuted-frozen"),
    ),
    Quantity(
        "prototypes-outputs",
        "Outputs of old tasks that a plastic softmax head keeps minus those of a linear one with the same weights",
        output("permuted-dhp") - output("permuted-dhp-control"),
    ),
    Quantity(
        "prototypes-features",
        "Features of old tasks that a plastic softmax head keeps minus those of a linear one with the same weights",
        probe("permuted-dhp") - probe("permuted-dhp-control"),
    ),
]
