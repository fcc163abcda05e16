"""What is claimed of what continual learners forget. Nobody published this table: each criterion is ours.

All were written down before any record was made.
"""

from functools import partial

from engram.lab import claimed, least, value
from engram.lab.measure import Measure

NAMES = {
    "l2": "An anchor of all weights",
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
ours = partial(claimed, source="criterion ours", published="not compared", presets=("laptop",))


def read_out_alone(arm: str, share: float) -> Measure:
    """Return a share of what an arm's outputs forget, less what its features do."""
    return Measure(
        lambda results: (
            share * float(results[arm]["output_forgetting"]) - float(results[arm]["representational_forgetting"])
        ),
        (arm,),
    )


def gain(arm: str, key: str, baseline: str = "finetune", benchmark: str = "permuted") -> Measure:
    """Return by how much a result of an arm is above that of its baseline."""
    return value(f"{benchmark}-{arm}", key) - value(f"{benchmark}-{baseline}", key)


claims = [
    *(
        ours(
            f"{benchmark}-features-outlast-outputs",
            f"On {benchmark} digits features lose at most 0.6 of what the outputs of plain training forget",
            read_out_alone(f"{benchmark}-finetune", 0.6) >= 0.0,
            source="Davari et al. 2022 (arXiv 2203.13381), abstract; criterion ours",
            published="naive training often has small representation forgetting (abstract)",
        )
        for benchmark in ("split", "permuted")
    ),
    ours(
        "what-was-learned-is-lost",
        "On permuted digits plain training loses at least half of what learning a task had added to the features",
        value("permuted-finetune", "relative_forgetting") >= 0.5,
        source="Hess et al. 2023 (arXiv 2304.00933), abstract; criterion ours",
        published="features are forgotten about as badly as outputs, relative to what was learned (abstract)",
    ),
    *(
        ours(
            f"{arm}-keeps-outputs",
            f"{name} keeps more of the outputs of old tasks than plain training, by 0.02 or more, on permuted digits",
            gain(arm, "output_old") >= 0.02,
        )
        for arm, name in NAMES.items()
    ),
    *(
        ours(
            f"{arm}-keeps-features",
            f"{name} keeps more of the features of old tasks than plain training, by 0.01 or more, on permuted digits",
            gain(arm, "probe_old") >= 0.01,
        )
        for arm, name in NAMES.items()
    ),
    ours(
        "importance-matters",
        "EWC, synaptic intelligence and MAS each keep more of the features of old tasks than an anchor of all weights "
        "alike, on permuted digits",
        least(*(gain(arm, "probe_old", "l2") for arm in ("ewc", "si", "mas"))) >= 0.0,
    ),
    ours(
        "frozen-body-pays",
        "A body frozen after the first task tells less of the last than plain training, by 0.02 or more, on permuted "
        "digits",
        value("permuted-finetune", "probe_new") - value("permuted-frozen", "probe_new") >= 0.02,
    ),
    ours(
        "prototypes-keep-outputs",
        "A plastic softmax head keeps more of the outputs of old tasks than a linear one that starts alike, by 0.02 or "
        "more, on permuted digits",
        gain("dhp", "output_old", "dhp-control") >= 0.02,
    ),
    ours(
        "prototypes-keep-features",
        "A plastic softmax head keeps more of the features of old tasks than a linear one that starts alike, by 0.01 "
        "or more, on permuted digits",
        gain("dhp", "probe_old", "dhp-control") >= 0.01,
    ),
    *(
        ours(
            f"{arm}-keeps-features",
            f"{name} keeps more of the features of old tasks than one without plasticity, by 0.01 or more, on permuted "
            "digits",
            gain(arm, "probe_old", plain) >= 0.01,
        )
        for arm, name, plain in RECURRENT
    ),
]
