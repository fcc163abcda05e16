"""Claims about learning classes one after another, with their criteria."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engram.lab import Claim, Measure, Quantity, claims_from, maximum, metric
from engram.lab.claims.measure import Condition

held_out, seen, drop = map(metric, ("held_out", "seen", "drop"))
last_layer = metric("last_layer_held_out")
GATED = "anml-longer"
neighbours_ratio = metric("gate_neighbours")(GATED) / metric("gate_neighbours_untrained")(GATED)
RESETTING = 'Frati et al., "Reset it and forget it", ECAI 2024 (arXiv 2310.07996), abstract; criterion ours'
UNTAUGHT = "the better of the same head on untrained features and a network trained from scratch"


def silenced(gate: str) -> Measure:
    """The share of features that a gate silences; ``"_untrained"`` for the gate before meta-training."""
    return metric(f"active_before{gate}")(GATED) - metric(f"active_after{gate}")(GATED)


def untaught(measure: Callable[[str], Measure]) -> Measure:
    """The larger value of the two arms without training before the streams."""
    return maximum(measure("random"), measure("scratch"))


paper = claims_from("Beaulieu et al. 2020, by reading notes")
REPLICATIONS = "nupic.research and a later program of the authors' laboratory"


def both(
    name: str,
    statement: str,
    laptop: Condition,
    at_600: Condition,
    *,
    published: str,
    full: str = "",
    words: str = "",
    revised: str = "",
    **of: Any,
) -> list[Claim]:
    """A claim for the laptop preset, which compares with controls, and one at published size, about the figure.

    Args:
        name: Identifier of the first; the other's has an addition.
        statement: What the first says.
        laptop: Its criterion, with 50 classes.
        at_600: The criterion with 600 classes: within a tenth of the published figure, or .02 of an accuracy.
        published: The figure published for 600 classes, which only the second tests.
        full: What the second says; empty: the same.
        words: The published statement that the first tests.
        revised: The criterion of the first before its record was known, if it was another.
        **of: The source of both, if it is another.
    """
    of_600 = {"presets": ("published",), "published": published, "threshold": "paper" if published else "ours", **of}
    return [
        paper(name, statement, laptop, presets=("laptop",), published=words, revised=revised, **of),
        paper(f"{name}-at-600-classes", full or statement, at_600, **of_600),
    ]


claims = [
    *both(
        "learns-sequentially",
        "After a stream of 50 classes, each image seen once, ANML classifies held-out images of them more accurately "
        f"than {UNTAUGHT} (difference)",
        held_out("anml") - untaught(held_out) >= 0.2,
        held_out("anml") >= 0.62,
        full="After a stream of 600 classes, each image seen once, ANML classifies held-out images of them",
        published="63.8 % of 600 classes",
        words="learns class after class without catastrophic forgetting (abstract)",
        revised="an accuracy of at least .55",
    ),
    *both(
        "scratch-does-not",
        "After a stream ANML recognises five times as many of the learned images as the same network trained from "
        "scratch (difference)",
        seen("anml") - 5.0 * seen("scratch") >= 0.0,
        seen("scratch") <= 0.03,
        full="After a stream a network trained from scratch recognises hardly any of the learned images",
        published="Scratch, without normalisation, below 3 % of the learned images from 50 classes on",
        words="training from scratch forgets nearly all",
    ),
    paper("pretraining-does-not-do",
        "After a stream ANML is more accurate than a network pretrained on as many images in random order",
        held_out("anml") - held_out("pretrained") >= 0.05, source="ours"),
    *(
        claim
        for name, how, rival, margin, published in (
            ("oml", "whose last two layers learn", held_out("oml"), 0.41, "63.8 % against 18.2 % of 600 classes"),
            ("oml-last-layer", "with a head of two layers, the last of which learns the stream", last_layer("oml"),
                0.17, "63.8 % against 44.2 % of 600 classes"),
        )
        for claim in both(
            f"{name}-does-not-do",
            f"After a stream ANML is more accurate than OML {how}",
            held_out("anml") - rival >= 0.05,
            held_out("anml") - rival >= margin,
            published=published,
            words="more accurate than OML",
        )
    ),
    paper("oml-linear-does-not-do", "After a stream ANML is more accurate than OML with a linear head",
        held_out("anml") - held_out("oml-linear") >= 0.05,
        source="ours; in replications both do as well with 50 classes, and ANML 2 to 4 % better with 600"),
    *both(
        "remembers",
        f"After the stream ANML recognises more of the learned images than {UNTAUGHT} (difference)",
        seen("anml") - untaught(seen) >= 0.2,
        seen("anml") >= 0.91,
        full="After the stream ANML classifies the learned images",
        published="92 to 93 % of 600 classes (replications)",
        words="keeps the learned images of class after class (replications)",
        revised="an accuracy of at least .72",
        source=REPLICATIONS,
    ),
    *both(
        "order-costs-little",
        "Learning class by class costs ANML at most half as large a share of the accuracy in random order as it costs "
        "a network trained from scratch (ratio)",
        drop("anml") / drop("scratch") <= 0.5,
        drop("anml") <= 0.12,
        full="Learning class by class costs ANML little of the accuracy that it reaches in random order",
        published="10 % at 600 classes, from scratch 99 %",
        words="the order costs ANML far less than training from scratch",
        revised="a loss of at most .29",
    ),
    *both(
        "order-costs-scratch-nearly-all",
        "Learning class by class costs a network trained from scratch nearly all the accuracy that it reaches in "
        "random order",
        drop("scratch") >= 0.80,
        drop("scratch") >= 0.97,
        published="99 % at 600 classes",
        words="the order costs training from scratch nearly all",
    ),
    *both(
        "the-gate-silences",
        "For new classes the gate silences a larger share of the features than before meta-training (difference)",
        silenced("") - silenced("_untrained") >= 0.1,
        silenced("") >= 0.42,
        full="For new classes fewer features are active after the gate than before (difference of shares)",
        published="52.8 % before, 5.9 % after",
        words="the gate makes activation selective",
        revised="silences at least 5 % of the features",
    ),
    *both(
        "the-gate-tells-classes",
        "Nearest neighbours on gate activity classify images of new classes better than with an untrained gate",
        neighbours_ratio >= 1.5,
        neighbours_ratio >= 2.6,
        published="70.9 % against 24.3 %",
        words="the gate depends on the class that is shown",
    ),
    paper("the-gate-helps", "After a stream ANML is more accurate than the same network without its gate",
        held_out(GATED) - held_out("sanml-longer") >= 0.02,
        published="", source="ours; a later notebook of the same laboratory has 69.2 % with and 69.0 % without"),
    paper("first-order-does", "After a stream, first-order meta-learning classifies held-out images as accurately as "
        "second-order",
        held_out("anml-order-1") - held_out("anml") >= -0.05,
        published="gradients of order 1 do about as well as those of order 2 (replications)",
        source=REPLICATIONS),
    paper("resetting-does-as-well",
        "After a stream, a network pretrained with the last layer reinitialised after each pass is as accurate as ANML",
        held_out("pretrained-zapped") - held_out("anml") >= -0.02,
        source=RESETTING, published="matches meta-learning in many cases"),
]  # fmt: skip
quantities = [
    *(
        Quantity(
            f"first-over-last{order}",
            "Accuracy on the first tenth of classes after the longest stream over that on the last tenth, meta-trained "
            f"with gradients of order {2 - bool(order)} (published: 0.7 with 600 classes)",
            metric("first")(arm) / metric("last")(arm),
        )
        for arm, order in {"anml": "", "anml-order-1": "-at-order-1"}.items()
    ),
    Quantity(
        "resetting-gain",
        "Accuracy of pretraining with the last layer reinitialised after each pass minus that without",
        held_out("pretrained-zapped") - held_out("pretrained"),
    ),
]
