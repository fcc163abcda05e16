"""Claims about curiosity in fragments, published and ours."""

from __future__ import annotations

from engram.lab import Measure, Quantity, claims_from, metric

SOURCE = "Hwang et al. (2023), abstract; criterion ours"
forgets = claims_from(
    SOURCE,
    published="curiosity can increase at visited states, by forgetting (no figure was read)",
    presets=("laptop",),
)
keeps = claims_from(SOURCE, published="less forgetting (no figure was read)", presets=("laptop",))
rewarded = claims_from("ours", presets=("large",))
ours = claims_from("ours", presets=("laptop",))

# orders of magnitude by which the first room's error rises; errors relative to those before training
orders, learned, novelty = map(metric, ("orders", "learned", "novelty"))
fragments, at_switch, recalled = map(metric, ("fragments", "at_switch", "recalled"))
first, again, whole, stay, cells, modules = map(metric, ("first", "again", "whole", "stay", "cells", "modules"))
untrained_error, last_error = metric("stages", 0, 0), metric("stages", -1, 0)  # in the first room
success = metric("success")  # share of episodes that end at the goal


def unlearned(arm: str) -> Measure:
    """The error in the first room after the last one, relative to that before training."""
    return last_error(arm) / untrained_error(arm)


claims = [
    forgets("forgets-slow", "At a low learning rate, a single predictor's error in the first room doubles while it "
        "learns others",
        orders("slow-rnd") >= 0.3),
    forgets("forgets-fast", "At a high learning rate, a single predictor's error in the first room rises twentyfold",
        orders("fast-rnd") >= 1.3),
    ours("width-forgets-too", "After the last room, a single predictor of four times the width, like its target, has "
        "nearly as large an error in the first, relative to that before training",
        unlearned("fast-wide") / unlearned("fast-rnd") >= 0.8),
    ours("replay-keeps", "Replay of old observations, a tenth of each batch, prevents most of the forgetting",
        orders("fast-replay") - orders("fast-rnd") <= -0.7),
    keeps("cuts-at-doors", "Fragments begin where rooms are entered for the first time", at_switch("walk-far") >= 0.9,
        published="fragments at high surprisal (no figure was read)"),
    keeps("few-fragments", "The number of fragments made on two laps is about the number of rooms",
        fragments("walk-far").within(5.5, 2.5), published="fragments at high surprisal (no figure was read)"),
    ours("recalls", "In the second lap, in most rooms the fragment of the first lap is active throughout steps 129 to "
        "192 after entry",
        recalled("walk-far") >= 0.8),
    keeps("known-at-entry", "In the first 256 steps after entry in the second lap, a room is far less interesting to "
        "fragments than to a single module",
        whole("walk-far") / whole("walk-rnd") <= 0.3),
    ours("known-again", "In steps 65 to 320 after entry in the second lap, a room is far less interesting to "
        "fragments than to a single module",
        again("walk-far") / again("walk-rnd") <= 0.3),
    ours("surprise-matters", "In steps 65 to 320 after return a room is less interesting than with as many fragments "
        "cut at random",
        again("walk-far") / again("walk-random") <= 0.5),
    ours("same-rooms", "If all rooms are identical, no fragments are made", fragments("walk-same-rooms") <= 0.5),
    ours("explores-more", "Rewarded by fragments, an agent sees more cells in 10,000 steps than rewarded by a "
        "single module",
        cells("policy-far") / cells("policy-rnd") >= 1.05),
    ours("more-than-by-chance", "Rewarded by fragments, an agent sees more cells than rewarded by fragments cut at "
        "random",
        cells("policy-far") / cells("policy-random") >= 1.05),
    ours("curiosity-explores", "Rewarded by a single module, an agent sees more cells than without a reward",
        cells("policy-rnd") / cells("policy-none") >= 1.05),
    rewarded("more-goals", "Rewarded by fragments and by goals, an agent reaches the goal behind three doors in more "
        "episodes than with a single module",
        success("doors-far") - success("doors-rnd") >= 0.05),
    rewarded("more-goals-by-curiosity", "Rewarded by fragments and by goals, an agent reaches the goal in more "
        "episodes than rewarded by goals alone",
        success("doors-far") - success("doors-none") >= 0.05),
    claims_from("Hwang et al. (2023), abstract; game and criterion ours", presets=("large",))(
        "atari",
        "In Jamesbond, an Atari game, an agent rewarded by fragments scores higher than one with a single module",
        metric("score")("atari-far") / metric("score")("atari-rnd") >= 1.05,
        published="better overall performance in games with varied scenes (no figure was read)"),
]  # fmt: skip
quantities = [
    Quantity(
        "learned",
        "Error in the first room after training on it over that before, at the high learning rate",
        learned("fast-rnd"),
    ),
    Quantity(
        "ewc-over-rooms",
        "Error in the first room after the last one with EWC minus that with a predictor for each room",
        unlearned("fast-ewc") - unlearned("fast-rooms"),
    ),
    Quantity(
        "novelty",
        "Novelty of a new room to a predictor that has learned others, over that to an untrained one",
        novelty("fast-rnd"),
    ),
    Quantity(
        "known-to-the-end",
        "Interest in known rooms from the 65th step after entry on, with fragments over a single module",
        stay("walk-far") / stay("walk-rnd"),
    ),
    Quantity(
        "fragments-by-window",
        "Fragments made if errors are compared only with recent ones minus those of FARCuriosity",
        fragments("walk-window") - fragments("walk-far"),
    ),
    Quantity(
        "recall-gain",
        "Interest in known rooms in steps 65 to 320 after return, with recall over without",
        again("walk-far") / again("walk-no-recall"),
    ),
    Quantity(
        "novelty-of-new-rooms",
        "Interest in rooms entered for the first time, with fragments over a single module",
        first("walk-far") / first("walk-rnd"),
    ),
    Quantity(
        "cuts-by-chance",
        "Fragments cut at random over those cut at surprise",
        (fragments("walk-random") / fragments("walk-far")).averaged(),
    ),
    Quantity(
        "two-modules",
        "Interest in known rooms with a capacity of two modules over that with enough for all",
        again("walk-two-modules") / again("walk-far"),
    ),
    Quantity(
        "released-keys",
        "Share of rooms recalled with keys from one fixed encoder minus that with keys as in the released code",
        recalled("walk-far") - recalled("walk-author-keys"),
    ),
    Quantity(
        "tenfold",
        "Fragments made at the published threshold for surprise, ten times the mean",
        fragments("walk-tenfold"),
    ),
    Quantity(
        "modules-by-chance",
        "Fragments of agents that are cut at random over those cut at surprise",
        (modules("policy-random") / modules("policy-far")).averaged(),
    ),
    Quantity("policy-fragments", "Fragments of the agent's curiosity", modules("policy-far")),
]
