"""Claims about certified regions and radii, with their criteria."""

import math

from engram.lab import Quantity, claims_from, maximum, metric, minimum, share
from engram.studies.experiments.property_verification.regions import DATA_SETS

LARGER = 1.1  # a relevant ratio
SIZES = ("2-4-2", "5-8-8-2", "5-2-5-4-3")
PRESETS = ("laptop", "full")
larger = claims_from(
    "abstract; criterion ours",
    published="a larger input region than the existing approach (no figure)",
    presets=PRESETS,
)
ours = claims_from("ours", presets=PRESETS)
derived = claims_from("elementary; ours", sameness="identity", presets=PRESETS)
structural, direct, tight, half, best = map(metric, ("structural", "direct", "tight", "half", "best"))
radius, wrong, lost = metric("radius"), metric("wrong"), metric("lost")
IMAGES = (
    ("digits", "radius", "digits of 8 x 8 pixels"),
    ("mnist", "mnist", "7 x 7 means of MNIST's test images"),
)
HEBBIAN = "a winner-take-all Hebbian layer"
claims = [
    *(
        larger(f"larger-{size}",
            f"On random networks {size}, structural regions (best of three slacks) are larger than direct ones by a "
            "tenth",
            structural(size) - LARGER * direct(size) >= 0.0)
        for size in SIZES
    ),
    larger("larger-as-published",
        "On random networks of the published sizes 5-2-5-4-3, structural regions with the published slack of 0.1 are "
        "larger than direct ones by a tenth",
        structural("5-2-5-4-3-as-published") - LARGER * direct("5-2-5-4-3-as-published") >= 0.0),
    *(
        ours(f"larger-on-{name}",
            f"Around test inputs of {name}, most networks' structural regions, with half the margin as slack, contain "
            "more training inputs than direct ones by a tenth",
            (metric("support_structural")(name) - LARGER * metric("support_direct")(name)).median() >= 0.0, seeds=6)
        for name in DATA_SETS
    ),
    larger("larger-on-ten-layers",
        "For networks of ten layers on MNIST, the inner box of the structural region around an image (best of four "
        "slacks) has a volume larger than that of the direct one by a tenth (median over images of the logarithm of "
        "the ratio)",
        metric("log_volume_gain")("ten-layers") >= math.log(LARGER),
        presets=("large", "full")),
    *(
        larger(f"larger-on-ten-layers-{measure}",
            f"For networks of ten layers on MNIST, {what} by a tenth (mean over images)",
            metric(f"{measure}_structural")("ten-layers") - LARGER * metric(f"{measure}_direct")("ten-layers") >= 0.0,
            presets=("large", "full"))
        for measure, what in (
            ("support", "structural regions (best of four slacks) contain more images than direct ones"),
            ("width", "inner boxes of structural regions (best of four slacks) are wider than those of direct ones"),
        )
    ),
    derived("never-smaller-where-direct-fails",
        "Where the direct proof fails at the input, structural regions contain all of the fallback up to their slack",
        maximum(*map(lost, SIZES)) <= 0.0),
    ours("both-are-better-than-one",
        "The larger of direct and tightened regions has 1.05 times the mean volume of direct ones (2-4-2, 5-8-8-2)",
        minimum(*(best(size) - 1.05 * direct(size) for size in SIZES[:2])) >= 0.0),
    ours("both-are-better-than-one-5-2-5-4-3",
        "The larger of direct and tightened regions has 1.05 times the mean volume of direct ones (5-2-5-4-3)",
        best("5-2-5-4-3") - 1.05 * direct("5-2-5-4-3") >= 0.0),
    derived("regions-are-sound", "No sampled input in any region is classified differently (number in the worst arm)",
        maximum(*map(wrong, (*SIZES, *DATA_SETS))) <= 0.0),
    *(
        ours(f"hebbian-radius-{other}-{name}",
            f"On {images}, certified radii with a winner-take-all Hebbian layer are larger than with {what} at the "
            "same accuracy by a tenth (ratio)",
            radius(f"{arm}-hebbian") / radius(f"{arm}-{other}") >= LARGER)
        for name, arm, images in IMAGES
        for other, what in (
            ("matched", "back-propagation stopped"),
            ("decay", "back-propagation with the best weight decay"),
        )
    ),
    ours("acas-xu-competition",
        "The ten properties of ACAS Xu are decided for the networks of VNN-COMP as its tools decided, by proofs that "
        "are checked again and by counterexamples (share of the drawn instances)",
        share("as_published", "instances")("competition") >= 0.95,
        source="ours; answers of VNN-COMP 2025, where at least four of seven tools decided each instance"),
]  # fmt: skip
quantities = [
    *(
        Quantity(f"tight-over-half-{size}", f"Volume of regions on {size} with a loose slack tightened after "
            "relaxation, as in the published procedure, over that with a slack of half the margin",
            tight(size) / half(size))
        for size in SIZES
    ),
    *(
        Quantity(f"{layer}-over-{other}-{name}", f"On {images}, certified radii with {layer_in_words} over those with "
            f"{what}",
            radius(f"{arm}-{layer}") / radius(f"{arm}-{other}"))
        for name, arm, images in IMAGES
        for layer, layer_in_words, other, what in (
            ("hebbian", HEBBIAN, "backprop", "back-propagation to the end"),
            ("hebbian", HEBBIAN, "random", "a random layer"),
            ("hebbian", HEBBIAN, "feedback", "feedback alignment"),
            ("hebbian", HEBBIAN, "align", "align-ada"),
            ("soft", "a soft winner-take-all layer", "random", "a random layer"),
        )
    ),
    Quantity("gap-closed-by-alpha", "Share of the gap between CROWN and the exact maximum that 20 steps of alpha close "
        "on random networks 5-8-8-3",
        metric("closed")("bounds")),
    Quantity("collision-advice", "Share of the queries about properties 1 and 3 that are decided for networks fitted "
        "to the costs of manoeuvres",
        share("settled", "questions")("advice")),
    Quantity("acas-xu", "Share of the sampled queries about properties 1, 3 and 4 that are proved for their ACAS Xu "
        "networks",
        share("proved", "questions")("acasxu")),
]  # fmt: skip
