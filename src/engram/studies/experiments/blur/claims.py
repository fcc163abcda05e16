"""Claims about learned bidirectional update rules, with their criteria."""

from functools import partial

from engram.lab import Measure, Quantity, claims_from, metric, minimum

PAPER = "Sandler et al. 2021"
DESCENT = ("sgd", "momentum", "normalised", "adam")
BEST = "at the learning rate and scales of initial weights best for that number of steps"
source = partial(claims_from, seeds=6)  # with fewer, a median's interval is unbounded
faster = source(
    f"{PAPER}, figures 5 and 6; criterion ours", published="converges much faster than SGD at first (curves)"
)
general = source(f"{PAPER}, section 4.1, figure 4; criterion ours", published="learns unseen tasks (curves)")
control = source("ours: the control", published="")
other = source(PAPER)
unseen_10 = metric("unseen_10")


def lead(arm: str, key: str, other_key: str) -> Measure:
    """The difference between two metrics of an arm."""
    return metric(key)(arm) - metric(other_key)(arm)


claims = [
    other("descent-is-a-genome", "Weights trained by the backpropagation genome equal those of SGD over 20 steps",
        metric("distance_from_sgd")("evolved") <= 1e-10, source=f"{PAPER}, section 3.1",
        published="SGD is a special case", sameness="identity"),
    general("evolved-genome-learns-unseen-functions",
        "An evolved genome learns unseen functions of the plane in ten steps",
        unseen_10("evolved") >= 0.78),
    control("it-was-not-there-at-the-start",
        "The initial genome of the search does not learn unseen functions in ten steps",
        metric("start")("evolved") <= 0.66),
    faster("ahead-of-sgd-at-ten-steps",
        "After ten steps an evolved genome is clearly ahead of plain SGD at its best rate and scales of initial "
        "weights, on unseen functions",
        lead("evolved", "unseen_10", "best_sgd_10") >= 0.05),
    faster("ahead-of-all-descent-at-two-steps", "After two steps an evolved genome is ahead of SGD, SGD with momentum, "
        "the same with normalised units, and Adam, each at its best rate and scales of initial weights",
        minimum(*(lead("evolved", "unseen_2", f"best_{name}_2") for name in DESCENT)) >= 0.01),
    other("genomes-are-found-by-gradients",
        "Descending the gradient through lifetimes of ten steps lowers the loss on unseen functions",
        metric("gain")("descended").median() >= 0.1, source=f"{PAPER}, section 3.2; criterion ours",
        published="unrolled Adam finds genomes (curves)"),
    *(
        control(f"norm-on-both-ways-beats-{other_arm}",
            "A genome evolved with normalisation in both passes learns unseen functions better in ten steps than "
            f"{how}",
            (unseen_10("evolved") - unseen_10(other_arm)).median() >= 0.01,
            source=f"ours; {PAPER}, figure 8, is about images of other sizes and deeper networks")
        for other_arm, how in (
            ("normed-forward", "with it in the forward pass alone"),
            ("normed-backward", "with it in the backward pass alone"),
            ("not-normed", "without"),
        )
    ),
    other("no-gradient-of-anything",
        "The update of a genome other than descent's, as an evolved one is, is not a gradient field (relative "
        "antisymmetric part of its Jacobian)",
        metric("antisymmetry")("evolved") >= 1e-3, source=f"{PAPER}, figure 2", sameness="identity",
        published="mixed derivatives differ (picture)"),
    *(
        claim
        for data, time, what in (
            ("digits", 2, "scikit-learn's digits"),
            ("digits", 5, "scikit-learn's digits"),
            ("large", 2, "MNIST of 28 x 28 pixels"),
        )
        for claim in (
            faster(f"{data}-after-{time}", f"After {time} steps a genome evolved on MNIST of 10 x 10 pixels is "
                f"typically clearly ahead of SGD with or without momentum on {what}, {BEST}",
                lead("images", f"{data}_{time}", f"{data}_sgd_{time}").median() >= 0.02),
            control(f"{data}-after-{time}-normalised", f"After {time} steps a genome evolved on MNIST of 10 x 10 "
                f"pixels is not behind momentum with normalised units on {what}, {BEST}",
                lead("images", f"{data}_{time}", f"{data}_normalised_{time}").median() >= -0.02),
        )
    ),
    *(
        control(f"small-after-{time}", f"After {time} steps a genome is clearly ahead of SGD with or without momentum "
            f"on the images of 10 x 10 pixels on which it was evolved, {BEST}",
            lead("images", f"small_{time}", f"small_sgd_{time}").median() >= 0.02)
        for time in (2, 5)
    ),
]  # fmt: skip
quantities = [
    Quantity(
        "synapses-with-oja",
        "Standard deviation of synapses after 200 steps with Oja's decay (median)",
        metric("std_oja")("evolved").median(),
    ),
    Quantity(
        "growth-without-oja",
        "Standard deviation of synapses without Oja's decay over that with it, for genomes evolved with it (median)",
        (metric("std_unlimited")("evolved") / metric("std_oja")("evolved")).median(),
    ),
    Quantity(
        "more-states",
        "Accuracy of genomes with four states on unseen functions after ten steps minus that with two (median)",
        (unseen_10("four-states") - unseen_10("evolved")).median(),
    ),
    Quantity(
        "other-labels",
        "Accuracy of an evolved genome ten steps after the labels of classes have changed (median)",
        metric("relabelled_10")("images").median(),
    ),
    Quantity(
        "shallow-genomes-deeper",
        "Accuracy of a genome evolved with one hidden layer minus that with two (after ten steps, median)",
        lead("images", "small_10", "deep_10").median(),
    ),
    Quantity(
        "deep-genomes-elsewhere",
        "Accuracy of a genome evolved with two hidden layers in one or three, the lower, minus that in two (median)",
        minimum(*(lead("deep-images", f"{n}_10", "small_10") for n in ("shallow", "deeper"))).median(),
    ),
]
