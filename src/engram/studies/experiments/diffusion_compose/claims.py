"""Claims about composition in a diffusion model; only abstracts and captions could be read, so criteria are ours."""

from engram.lab import Quantity, claims_from, metric

accuracy, copied_, seen, first_x, index = map(metric, ("accuracy", "copied", "seen", "first_x", "coupling_of_single"))
acc_x, acc_y = metric("acc_x"), metric("acc_y")
ordered_at, single_at, right_at = metric("ordered_at"), metric("single_at"), metric("right_at")
A = "Liang, Liu & Fiete (2024), abstract; size and criterion ours"
B = "Liang et al. (2024, NeurIPS), abstract; size and criterion ours"
phases = claims_from(A, published="none or several bumps, one misplaced, then the right one (no figure)")
sheets = claims_from(A, published="an ordered sheet of two dimensions (no figure)")
coupled = claims_from(A, published="x and y are learned together (no figure)")
composes = claims_from(B, published="composition good, interpolation limited (no figure)")
stripes = claims_from(B, published="isolated factors and few compositions suffice (no figure)")
factors = claims_from(B, published="factorised representations (no figure)")
ours = claims_from("ours")
TOLD_APART = 50  # steps: both times are known to the 25 steps between checks
NO_MARGIN = "the same without a margin"
claims = [
    phases("draws-bumps", "Trained on all positions, the model draws one bump at the right position",
        accuracy("balanced") >= 0.8),
    phases("right-at-the-end", "When training ends, the model draws one bump at the right position",
        metric("accuracy_end")("balanced") >= 0.9),
    # At the larger size a seventh of training is four times as many steps as the whole training of the smaller one.
    phases("wrong-early", "After a seventh of training, hardly any bump is drawn correctly",
        metric("accuracy_early")("balanced") <= 0.1, presets=("laptop",)),
    phases("misplaced-bumps", "At some point in training many single bumps are misplaced (share of all images)",
        metric("misplaced")("balanced") >= 0.1),
    phases("single-but-misplaced", "At some point in training most of the single bumps are misplaced (share of these)",
        metric("misplaced_of_single")("balanced") >= 0.5),
    phases("single-before-order", "Most images have a single bump before the representation of noisy images is ordered "
        "(steps between)",
        ordered_at("balanced") - single_at("balanced") >= TOLD_APART, sameness="numeric", revised=NO_MARGIN,
        published="one bump is misplaced while the order is wrong, and right once it is not (no figure)"),
    phases("right-after-single", "Most images have a single bump before it is at the right position (steps between)",
        right_at("balanced") - single_at("balanced") >= TOLD_APART, sameness="numeric", revised=NO_MARGIN),
    sheets("ordered-at-the-end", "When training ends, the representation of noisy images is ordered",
        metric("order_end")("balanced") <= 0.6),
    sheets("few-dimensions", "The representation of the trained model has few dimensions (TwoNN, labels at random)",
        metric("dimension")("balanced") <= 4.0),
    ours("order-first", "When the representation of noisy images first becomes ordered, few bumps are drawn "
        "correctly",
        metric("ordered_before_right")("balanced") <= 0.3),
    ours("order-for-nothing", "With the same noise for all labels the representation is ordered while few bumps are "
        "drawn correctly",
        metric("order_common_early")("balanced") <= 0.5),
    *(
        coupled(f"coupled-fine-{axis}", f"With {axis} sampled ten times as finely, x and y reach an accuracy of 0.8 "
            "among single bumps at about the same time (ratio)",
            index(f"fine-{axis}") >= 0.7)
        for axis in ("x", "y")
    ),
    coupled("the-fine-factor-is-no-better", "With x sampled ten times as finely, x is drawn less accurately than y",
        acc_y("fine-x") - acc_x("fine-x") >= 0.01,
        published="x is mostly less accurate although it is sampled more finely (no figure)"),
    ours("fine-alone-is-faster", "In stripes, which have one factor, a finely sampled factor is learned sooner than a "
        "coarse one (ratio)",
        first_x("fine-stripe") / first_x("coarse-stripe") <= 0.8),
    composes("composes", "Held-out pairs are drawn nearly as accurately as training pairs",
        metric("accuracy_end")("square") / seen("square") >= 0.9),
    composes("composes-beyond-copies", "Held-out pairs are drawn more accurately than by copying the nearest training "
        "image",
        accuracy("square") - copied_("square") >= 0.2),
    *(
        composes(f"interpolation-is-limited-{axis}", f"Held-out values of {axis} are often drawn wrong",
            accuracy(f"band-{axis}") <= 0.8)
        for axis in ("x", "y")
    ),
    # A band leaves out more images than a square, so that it is compared with the other factor in the same images.
    composes("fails-in-the-unseen-x", "With values of x held out, y is correct more often than x",
        acc_y("band-x") - acc_x("band-x") >= 0.1),
    composes("fails-in-the-unseen-y", "With values of y held out, x is correct more often than y",
        acc_x("band-y") - acc_y("band-y") >= 0.1),
    stripes("stripes-help", "Adding stripes of each factor raises the accuracy at all positions when training on "
        "fourteen bumps",
        accuracy("few-stripes") - accuracy("few") >= 0.15),
    stripes("stripes-beyond-copies", "Trained on fourteen bumps and stripes, the model is more accurate than copying "
        "the nearest of the fourteen",
        accuracy("few-stripes") - copied_("few-stripes") >= 0.1),
    factors("factors-are-orthogonal", "The directions of x and y in the representation are far from parallel (mean "
        "|cos|; in the images it is 0.003)",
        metric("between_cos")("balanced") <= 0.3),
    factors("values-are-orthogonal", "The directions of different values of a factor are far from parallel (mean "
        "|cos|; in the images it is 0.28)",
        metric("within_cos")("balanced") <= 0.3,
        published="different values of one factor are nearly orthogonal (no figure)"),
    factors("more-additive-than-pixels", "The representation is closer to a sum of factors than the images are (R^2, "
        "0.37)",
        metric("additive")("balanced") >= 0.5),
]  # fmt: skip
quantities = [
    Quantity(
        "onset-of-wide-bumps",
        "Density at which bumps become connected over that of bumps half as wide (share kept; no network)",
        metric("onset_1")("overlaps") / metric("onset_0.5")("overlaps"),
    ),
]
